//! Which settings must agree, and how those of two runs differ.

use std::fmt;

use crate::report::Settings;

/// Settings that must agree for a comparison to mean something, under the names by which a user
/// allows them to differ.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    name: &'static str,
    /// The value as text; None if the run does not know it.
    value: fn(&Settings) -> Option<String>,
}

impl Setting {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::new("loop", |one| Some(one.loop_kind.clone())),
        Self::new("connections", |one| Some(one.connections.to_string())),
        Self::new("in-flight", |one| Some(one.in_flight_asked.to_string())),
        Self::new("rate", |one| {
            Some(one.rate.map_or("none".to_owned(), |rate| rate.to_string()))
        }),
        Self::new("duration", |one| {
            one.duration_asked_s.map(|seconds| format!("{seconds} s"))
        }),
        Self::new("warmup", |one| Some(format!("{} s", one.warmup_s))),
        Self::new("profile", |one| Some(one.profile.clone())),
        Self::new("messages", |one| Some(one.messages.join(", "))),
        Self::new("profile-digest", |one| one.profile_digest.clone()),
        Self::new("expect", |one| Some(list(&one.expectations))),
        Self::new("max-frame-size", |one| Some(one.max_frame_size.to_string())),
        Self::new("threads", |one| Some(one.threads.to_string())),
        Self::new("cores", |one| Some(list(&one.cores))),
        Self::new("polling", |one| Some(one.polling.to_string())),
        Self::new("kernel", |one| Some(one.kernel.clone())),
        Self::new("cpu-model", |one| one.cpu_model.clone()),
        Self::new("cpu-count", |one| {
            one.cpu_count.map(|count| count.to_string())
        }),
    ];

    const fn new(name: &'static str, value: fn(&Settings) -> Option<String>) -> Self {
        Self { name, value }
    }

    /// The name by which a user allows it to differ.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A setting that two runs have different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub setting: &'static str,
    /// The label of the first run, and its value.
    pub a: (String, String),
    /// The label of the other, and its value.
    pub b: (String, String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, a, b } = self;
        write!(f, "{setting}: {} in {}, {} in {}", a.1, a.0, b.1, b.0)?;
        if *setting == "profile-digest" {
            f.write_str(" (what the profile sends differs: other addresses, or an edited file)")?;
        }
        Ok(())
    }
}

/// The settings that two runs, each with its label, have different. What else there is to know of them
/// is noted.
pub(super) fn differences(
    a: (&str, &Settings),
    b: (&str, &Settings),
    notes: &mut Vec<String>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    // Of which run settings are known only, and which.
    let mut unknown: [(&str, Vec<&str>); 2] = [(a.0, Vec::new()), (b.0, Vec::new())];
    for setting in Setting::ALL {
        match ((setting.value)(a.1), (setting.value)(b.1)) {
            (Some(value_a), Some(value_b)) if value_a != value_b => found.push(Difference {
                setting: setting.name,
                a: (a.0.to_owned(), value_a),
                b: (b.0.to_owned(), value_b),
            }),
            (Some(_), None) => unknown[0].1.push(setting.name),
            (None, Some(_)) => unknown[1].1.push(setting.name),
            _ => {}
        }
    }
    for (label, names) in unknown {
        if !names.is_empty() {
            notes.push(format!(
                "not compared, since the file of an older generator does not say it, but that of \
                 {label} does: {}",
                names.join(", ")
            ));
        }
    }
    let mut note = |what: &str, value: fn(&Settings) -> String| {
        let (value_a, value_b) = (value(a.1), value(b.1));
        if value_a != value_b {
            notes.push(format!(
                "{what}: {value_a} in {}, {value_b} in {}",
                a.0, b.0
            ));
        }
    };
    note("generators of different versions", |one| {
        one.version.clone()
    });
    // Only what was asked for must agree: an agent without pipelining is what it is.
    if a.1.in_flight_asked == b.1.in_flight_asked {
        note("NOTIFYs in flight that the agents allow", |one| {
            one.in_flight.to_string()
        });
    }
    found
}
