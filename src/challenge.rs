//! The `[challenge]` table of the configuration: keys, realms and levels, and what of it runs beside the
//! server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringspoa::agents::challenge::{ChallengeAgent, ChallengeSettings, Challenges, SOLVE_BOUNDS_S};
use ringspoa::outbound::{Outbound, OutboundConfig};
use ringspoa::{Agent, Exposition, Family, Kind};

const ISSUED: Family = Family {
    name: "ringspoa_challenge_issued_total",
    kind: Kind::Counter,
    labels: "realm, level, algorithm, via",
    help: "Challenges that were made.",
};
const SUBMITTED: Family = Family {
    name: "ringspoa_challenge_submitted_total",
    kind: Kind::Counter,
    labels: "realm, result",
    help: "Solutions that came, by what became of them.",
};
const VALIDATED: Family = Family {
    name: "ringspoa_challenge_validated_total",
    kind: Kind::Counter,
    labels: "realm, result, reason",
    help: "Requests that were asked about: valid, or refused and why.",
};
const SOLVED: Family = Family {
    name: "ringspoa_challenge_solve_seconds",
    kind: Kind::Histogram,
    labels: "realm, level",
    help: "From challenge to accepted solution, measured here.",
};
const WORK: Family = Family {
    name: "ringspoa_challenge_work",
    kind: Kind::Gauge,
    labels: "realm, level",
    help: "Hashes that a solution takes on average now, on the core that asks for most; 0 of no puzzle.",
};
const PROVIDER: Family = Family {
    name: "ringspoa_challenge_provider_total",
    kind: Kind::Counter,
    labels: "provider, outcome",
    help: "Answers of captcha providers.",
};
const REBOUND: Family = Family {
    name: "ringspoa_challenge_rebinds_total",
    kind: Kind::Counter,
    labels: "realm",
    help: "Challenges with less work for visitors whose address changed.",
};
const CRAWLERS: Family = Family {
    name: "ringspoa_challenge_crawlers_total",
    kind: Kind::Counter,
    labels: "crawler",
    help: "Requests of crawlers, and as claimed of those that only say to be one.",
};
const KEY_END: Family = Family {
    name: "ringspoa_challenge_key_not_after_timestamp_seconds",
    kind: Kind::Gauge,
    labels: "key",
    help: "When a key no longer counts, since 1970; of keys with not-after.",
};

/// All of them, for the documentation.
#[cfg(test)]
pub(crate) const FAMILIES: [&Family; 9] = [
    &ISSUED, &SUBMITTED, &VALIDATED, &SOLVED, &WORK, &PROVIDER, &REBOUND, &CRAWLERS, &KEY_END,
];

/// The table, found valid.
pub(crate) struct PreparedChallenge {
    challenges: Arc<Challenges>,
}

impl PreparedChallenge {
    /// Reads what it names, and checks it.
    pub(crate) fn new(settings: &ChallengeSettings) -> Result<Self, String> {
        let challenges =
            Challenges::new(settings).map_err(|error| format!("challenge: {error}"))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        if challenges
            .keys()
            .iter()
            .all(|(_, end)| end.is_some_and(|end| end < now))
        {
            return Err("challenge: key: not-after of every key is over, so that nobody could be challenged \
                        or let in: put a new [[challenge.key]] in front"
                .to_owned());
        }
        Ok(Self {
            challenges: Arc::new(challenges),
        })
    }

    /// What is not likely to be meant.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let warnings = self.challenges.warnings().iter();
        warnings.map(|warning| format!("challenge: {warning}"))
    }

    fn warn(&self) {
        for warning in self.warnings() {
            tracing::warn!("{warning}");
        }
    }
}

/// What runs beside the server.
pub(crate) struct Challenge {
    outbound: Outbound,
    /// The one in force.
    agent: Arc<Mutex<ChallengeAgent>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Challenge {
    /// Starts it.
    pub(crate) fn start(
        prepared: PreparedChallenge,
        deadline: Duration,
    ) -> Result<Arc<Self>, Box<dyn std::error::Error>> {
        prepared.warn();
        let outbound = Outbound::start(OutboundConfig::default())?;
        let agent = ChallengeAgent::new(prepared.challenges, &outbound, deadline)?;
        Ok(Arc::new(Self {
            outbound,
            agent: Arc::new(Mutex::new(agent)),
        }))
    }

    /// An agent, for one core.
    pub(crate) fn agent(&self) -> Box<dyn Agent> {
        Box::new(lock(&self.agent).agent())
    }

    /// Puts other settings in force for agents that are made from now on. Returns what was before, to be
    /// put back if they are not.
    pub(crate) fn replace(
        &self,
        prepared: PreparedChallenge,
        deadline: Duration,
    ) -> Result<ChallengeAgent, Box<dyn std::error::Error>> {
        prepared.warn();
        let mut agent = lock(&self.agent);
        let next = agent.with_settings(prepared.challenges, &self.outbound, deadline)?;
        Ok(std::mem::replace(&mut *agent, next))
    }

    /// Takes a replacement back.
    pub(crate) fn put_back(&self, before: ChallengeAgent) {
        *lock(&self.agent) = before;
    }

    /// Ends it.
    pub(crate) fn stop(&self) {
        self.outbound.stop();
    }

    /// For the lines that a start and a reload log.
    pub(crate) fn summary(&self) -> String {
        let agent = lock(&self.agent);
        let realms = agent.challenges().realms();
        let level_count: usize = realms.iter().map(|realm| realm.levels().len()).sum();
        let keys = agent.challenges().keys().iter();
        let keys: Vec<_> = keys.map(|(id, _)| id.to_string()).collect();
        let plural = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        format!(
            "challenges of {} in {}, by key {}",
            plural(level_count, "level"),
            plural(realms.len(), "realm"),
            keys.join(", ")
        )
    }

    pub(crate) fn write_metrics(&self, out: &mut Exposition) {
        let (counts, challenges) = {
            let agent = lock(&self.agent);
            (agent.counts(), Arc::clone(agent.challenges()))
        };
        out.family(&ISSUED);
        for (labels, count) in &counts.issued {
            let labels = [
                ("realm", &*labels.realm),
                ("level", &labels.level.to_string()),
                ("algorithm", &labels.algorithm),
                ("via", labels.via),
            ];
            out.sample(&labels, *count);
        }
        out.family(&SUBMITTED);
        for (labels, count) in &counts.submitted {
            out.sample(
                &[("realm", &labels.realm), ("result", labels.result)],
                *count,
            );
        }
        out.family(&VALIDATED);
        for (labels, count) in &counts.validated {
            let (result, reason) = match labels.reason {
                None => ("valid", ""),
                Some(reason) => ("refused", reason),
            };
            let labels = [
                ("realm", &*labels.realm),
                ("result", result),
                ("reason", reason),
            ];
            out.sample(&labels, *count);
        }
        out.family(&SOLVED);
        for (labels, times) in &counts.solved {
            let bounds = SOLVE_BOUNDS_S.iter().map(|&bound| Some(bound as f64));
            let buckets = bounds.chain([None]).zip(times.buckets);
            let level = labels.level.to_string();
            let labels = [("realm", &*labels.realm), ("level", &level)];
            out.histogram(&labels, buckets, times.sum_s as f64);
        }
        out.family(&WORK);
        for (labels, work) in &counts.work {
            let level = labels.level.to_string();
            let labels = [("realm", &*labels.realm), ("level", &level)];
            out.sample(&labels, u64::from(*work));
        }
        if !counts.provider.is_empty() {
            out.family(&PROVIDER);
            for (labels, count) in &counts.provider {
                let labels = [("provider", &*labels.provider), ("outcome", labels.outcome)];
                out.sample(&labels, *count);
            }
        }
        out.family(&REBOUND);
        for (realm, count) in &counts.rebound {
            out.sample(&[("realm", realm)], *count);
        }
        if counts.crawlers.len() > 1 {
            out.family(&CRAWLERS);
            for (labels, count) in &counts.crawlers {
                let name = labels.name.as_deref().unwrap_or("claimed");
                out.sample(&[("crawler", name)], *count);
            }
        }
        let mut ends = challenges
            .keys()
            .iter()
            .filter_map(|(id, end)| Some((id, (*end)?)))
            .peekable();
        if ends.peek().is_some() {
            out.family(&KEY_END);
            for (id, end) in ends {
                out.sample(&[("key", &id.to_string())], end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/metrics.md");
        let text = std::fs::read_to_string(path).unwrap();
        for family in FAMILIES {
            let labels = family.labels.split(", ").map(|label| format!("`{label}`"));
            let row = format!(
                "| `{}` | {} | {} | {} |",
                family.name,
                family.kind.name(),
                labels.collect::<Vec<_>>().join(", "),
                family.help
            );
            assert!(text.contains(&row), "dist/metrics.md lacks\n{row}");
        }
    }

    #[derive(serde::Deserialize)]
    struct File {
        challenge: ChallengeSettings,
    }

    /// The sample, with what is commented out and a key that is none of a sample.
    fn sample() -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/challenge.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let key = "secret = \"YSBrZXkgb2YgdGVzdHMsIHRoZSBmaXJzdCBvZiB0aGU=\"";
        let lines = text.lines().filter_map(|line| {
            let shown = line.strip_prefix("# ").filter(|rest| {
                let key = rest.split_once(" = ").map(|(key, _)| key);
                key.is_some_and(|key| !key.contains(' ')) || rest.starts_with("[[")
            });
            let line = shown.unwrap_or(line);
            match line.split(" = ").next() {
                Some("secret") => Some(key),
                // Not there, or one of two.
                Some("secret-file" | "files") => None,
                _ => Some(line),
            }
        });
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    #[test]
    fn the_sample_has_keys_that_there_are() {
        let text = sample();
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut settings = file.challenge;
        assert_eq!(
            settings.realms[0].levels.len(),
            4,
            "what is commented out was read, too"
        );
        assert_eq!(settings.crawlers.len(), 1);
        settings.crawlers.clear();
        let challenges = Challenges::new(&settings).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(challenges.path(), "/.challenge");

        // What it shows as defaults are some.
        let shortest = |text: &str| {
            let file: File = toml::from_str(text).unwrap();
            format!("{:?}", Challenges::new(&file.challenge).unwrap())
        };
        let key =
            "[[challenge.key]]\nid = 1\nsecret = 'YSBrZXkgb2YgdGVzdHMsIHRoZSBmaXJzdCBvZiB0aGU='\n";
        let without =
            format!("{key}[[challenge.realm]]\n[[challenge.realm.level]]\ntype = 'pow'\n");
        let with = format!(
            "[challenge]\npath = '/.challenge'\npbkdf2-threads = 1\npbkdf2-queue = 256\n{key}\
             [[challenge.realm]]\nname = 'default'\ncookie = 'clearance'\nsame-site = 'lax'\n\
             challenge-ttl-s = 300\nstatus = 403\nrebind-max-age-s = 43200\nnojs = 'off'\n\
             nojs-max-level = 1\nnojs-wait-s = 10\nnojs-duration-s = 3600\ndry-run = false\n\
             bind = {{ ipv4 = 32, ipv6 = 64, user-agent = true, tls = false }}\n\
             [[challenge.realm.level]]\ntype = 'pow'\nwork = 1048576\nparts = 16\n\
             duration-s = 43200\nwait-s = 0\n"
        );
        assert_eq!(shortest(&with), shortest(&without));
        for line in with
            .lines()
            .filter(|line| line.contains(" = ") && !line.contains('\''))
        {
            assert!(sample().contains(line), "dist/challenge.toml lacks {line}");
        }
    }

    #[test]
    fn one_key_at_least_has_to_count() {
        let prepare = |ends: &[&str]| {
            let keys = ends.iter().enumerate().map(|(index, end)| {
                let secret = "secret = 'YSBrZXkgb2YgdGVzdHMsIHRoZSBmaXJzdCBvZiB0aGU='";
                format!("[[challenge.key]]\nid = {}\n{secret}\n{end}\n", index + 1)
            });
            let keys: String = keys.collect();
            let text =
                format!("{keys}[[challenge.realm]]\n[[challenge.realm.level]]\ntype = 'pow'\n");
            let file: File = toml::from_str(&text).unwrap();
            PreparedChallenge::new(&file.challenge).map(|_| ())
        };
        let (over, to_come) = (
            "not-after = 2020-01-01T00:00:00Z",
            "not-after = 2100-01-01T00:00:00Z",
        );
        for ends in [&[""][..], &[to_come], &[over, ""], &[to_come, over]] {
            assert_eq!(prepare(ends), Ok(()), "{ends:?}");
        }
        for ends in [&[over][..], &[over, over]] {
            let error = prepare(ends).unwrap_err();
            assert!(error.contains("not-after of every key is over"), "{error}");
        }
    }

    #[test]
    fn the_key_of_the_sample_is_refused() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/challenge.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let file: File = toml::from_str(&text).unwrap();
        let prepared = PreparedChallenge::new(&file.challenge);
        let error = prepared.err().expect("everybody knows it");
        assert!(
            error.contains("sample") && error.contains("openssl rand"),
            "{error}"
        );
    }
}
