//! Metrics as Prometheus reads them: families, and a text that samples are written to. It refuses
//! to know what is measured.

use std::fmt::Write;

/// What a family's numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

impl Kind {
    /// As the text format has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric: its name, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name, with its unit, and `_total` if it is a counter.
    pub name: &'static str,
    /// What its numbers do.
    pub kind: Kind,
    /// The labels of its samples, separated by a comma.
    pub labels: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// A text of samples, in the text format of Prometheus (version 0.0.4).
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text so far.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    /// Begins a family, whose samples follow.
    pub fn family(&mut self, family: &Family) {
        self.family = family.name;
        let _ = writeln!(
            self.text,
            "# HELP {} {}",
            family.name,
            escape(family.help, false)
        );
        let _ = writeln!(self.text, "# TYPE {} {}", family.name, family.kind.name());
    }

    /// A sample of the family begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) {
        self.write("", labels, value.into());
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, family: &Family, value: impl Into<Value>) {
        self.family(family);
        self.sample(&[], value);
    }

    /// A histogram of the family begun last: the upper bound of each bucket in seconds, `None` for
    /// the last, and how many are in it.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        buckets: impl Iterator<Item = (Option<f64>, u64)>,
        sum: f64,
    ) {
        let mut total = 0;
        for (bound, count) in buckets {
            total += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let mut with_bound = labels.to_vec();
            with_bound.push(("le", &bound));
            self.write("_bucket", &with_bound, Value::from(total));
        }
        self.write("_sum", labels, Value::from(sum));
        self.write("_count", labels, Value::from(total));
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], Value(value): Value) {
        let _ = write!(self.text, "{}{suffix}", self.family);
        for (index, (name, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"{}\"", escape(value, true));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

/// The number of a sample.
#[derive(Clone, Copy, Debug)]
pub struct Value(f64);

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl From<u64> for Value {
    // Prometheus has nothing else: exact up to 2^53, which takes centuries to count to.
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

fn escape(text: &str, is_label: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_label {
        text.replace('"', "\\\"")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut out = Exposition::new();
        out.family(&Family {
            name: "took_seconds",
            kind: Kind::Histogram,
            labels: "message",
            help: "How long\nit took.",
        });
        let buckets = [(Some(0.5), 2), (Some(1.0), 0), (None, 3)];
        out.histogram(&[("message", "a\"b\\c\nd")], buckets.into_iter(), 7.25);
        let labels = r#"message="a\"b\\c\nd""#;
        let expected = format!(
            "# HELP took_seconds How long\\nit took.\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{{{labels},le=\"0.5\"}} 2\n\
             took_seconds_bucket{{{labels},le=\"1\"}} 2\n\
             took_seconds_bucket{{{labels},le=\"+Inf\"}} 5\n\
             took_seconds_sum{{{labels}}} 7.25\ntook_seconds_count{{{labels}}} 5\n"
        );
        assert_eq!(out.into_text(), expected);
    }
}
