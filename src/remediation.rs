//! The `[remediation]` table of the configuration: sources of decisions, hosts, captchas and AppSec, and
//! what of it runs beside the server.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringspoa::agents::remediation::{
    AppSecSettings, Bouncer, BouncerCounts, EndpointKind, HostSettings, Policy, PolicySettings,
    Problem, RemediationWords, Secret, parse_list,
};
use ringspoa::outbound::{
    BreakerState, ClientCertificate, EndpointConfig, EndpointError, Outbound, OutboundConfig,
};
use ringspoa::sources::{
    Dropped, FilesConfig, GeoConfig, GeoFiles, LapiConfig, Processed, SourceConfig, SourceFault,
    SourceKind, Sources, SourcesConfig, SourcesError, Traffic, WarmConfig,
};
use ringspoa::{Agent, Exposition, Family, Kind};
use serde::Deserialize;

/// How long a start waits for the first decisions.
const WAIT_READY: Duration = Duration::from_secs(5);

/// What CrowdSec's bouncer counts, by the names that it has for it.
const PROCESSED: Family = Family {
    name: "crowdsec_haproxy_spoa_bouncer_processed_requests",
    kind: Kind::Counter,
    labels: "ip_type",
    help: "Requests that were judged.",
};
const BLOCKED: Family = Family {
    name: "crowdsec_haproxy_spoa_bouncer_blocked_requests",
    kind: Kind::Counter,
    labels: "origin, ip_type, remediation",
    help: "Requests that did not pass.",
};
const ACTIVE: Family = Family {
    name: "crowdsec_haproxy_spoa_bouncer_active_decisions",
    kind: Kind::Gauge,
    labels: "origin, ip_type, scope",
    help: "Decisions in force.",
};
const LAPI_REQUESTS: Family = Family {
    name: "lapi_requests_total",
    kind: Kind::Counter,
    labels: "",
    help: "Requests to LAPIs of CrowdSec.",
};
const LAPI_FAILURES: Family = Family {
    name: "lapi_requests_failures_total",
    kind: Kind::Counter,
    labels: "",
    help: "Those of them that failed.",
};
const STALENESS: Family = Family {
    name: "ringspoa_source_staleness_seconds",
    kind: Kind::Gauge,
    labels: "source",
    help: "Since a source of decisions last said what there is.",
};
const FAILING: Family = Family {
    name: "ringspoa_source_failing",
    kind: Kind::Gauge,
    labels: "source",
    help: "Whether the last try of a source of decisions failed.",
};

const DECISIONS: Family = Family {
    name: "ringspoa_decisions",
    kind: Kind::Gauge,
    labels: "",
    help: "Decisions in force, all together.",
};
const APPSEC: Family = Family {
    name: "ringspoa_appsec_total",
    kind: Kind::Counter,
    labels: "outcome",
    help: "Requests that AppSec was to judge, by what came of it.",
};
const CAPTCHA: Family = Family {
    name: "ringspoa_captcha_total",
    kind: Kind::Counter,
    labels: "outcome",
    help: "Requests that a captcha was due for, by what came of it.",
};
const BREAKERS: Family = Family {
    name: "ringspoa_breakers_open",
    kind: Kind::Gauge,
    labels: "endpoint",
    help: "AppSecs and providers of captchas that are not asked for a while, as they failed.",
};

const GEO_BUILT: Family = Family {
    name: "ringspoa_geo_database_build_timestamp_seconds",
    kind: Kind::Gauge,
    labels: "database",
    help: "When the database in force was made, since 1970.",
};
const GEO_FAILING: Family = Family {
    name: "ringspoa_geo_database_failing",
    kind: Kind::Gauge,
    labels: "database",
    help: "Whether the file of a database cannot be used as it is; the one before holds.",
};

/// All of them, for the documentation.
#[cfg(test)]
pub(crate) const FAMILIES: [&Family; 13] = [
    &PROCESSED,
    &BLOCKED,
    &ACTIVE,
    &LAPI_REQUESTS,
    &LAPI_FAILURES,
    &STALENESS,
    &FAILING,
    &DECISIONS,
    &APPSEC,
    &CAPTCHA,
    &BREAKERS,
    &GEO_BUILT,
    &GEO_FAILING,
];

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct RemediationSettings {
    /// What words of decisions mean, as in `mfa = "captcha"`.
    words: BTreeMap<String, String>,
    /// Addresses that pass whatever is decided.
    allow_lists: Vec<PathBuf>,
    wait_ready_ms: Option<u64>,
    state_file: Option<PathBuf>,
    /// A database in MaxMind's format that has countries.
    city_database: Option<PathBuf>,
    /// One that has autonomous systems.
    asn_database: Option<PathBuf>,
    #[serde(rename = "list")]
    lists: Vec<ListSettings>,
    crowdsec: Option<CrowdsecSettings>,
    appsec: Option<AppSecSettings>,
    #[serde(rename = "host")]
    hosts: Vec<HostSettings>,
}

/// A file of decisions, or a folder of such.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ListSettings {
    path: PathBuf,
    remediation: Option<String>,
    origin: Option<String>,
    #[serde(default)]
    priority: u8,
}

/// A LAPI of CrowdSec.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct CrowdsecSettings {
    /// As in `http://127.0.0.1:8080/`, or a Unix socket as in `/run/crowdsec.sock`.
    url: String,
    key: Option<Secret>,
    certificate: Option<PathBuf>,
    private_key: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
    update_frequency_ms: Option<u64>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    origins: Vec<String>,
    #[serde(default)]
    scenarios_containing: Vec<String>,
    #[serde(default)]
    scenarios_not_containing: Vec<String>,
}

/// The table, found valid.
pub(crate) struct PreparedRemediation {
    settings: RemediationSettings,
    policy: Arc<Policy>,
    sources: SourcesConfig,
    geo: GeoConfig,
    problems: Vec<Problem>,
}

impl RemediationSettings {
    /// Reads what it names, and checks it.
    pub(crate) fn prepare(&self) -> Result<PreparedRemediation, String> {
        let words = self
            .words
            .iter()
            .map(|(word, meaning)| (&**word, &**meaning));
        let words = RemediationWords::new(words).map_err(wrong)?;
        // Not served, and a ban unless it is said otherwise.
        let own = self.words.keys().map(String::as_str);
        let own = own.chain((!self.words.contains_key("challenge")).then_some("challenge"));
        let meanings = own.map(|word| (word.to_owned(), words.remediation(word)));
        let meanings = meanings.collect();
        let mut allowed = String::new();
        for (_, text) in self.allow_list_texts()? {
            allowed += &text;
            allowed.push('\n');
        }
        let allowed = parse_list(&allowed).map_err(wrong)?;
        let hosts = self.hosts.iter().enumerate();
        let hosts = hosts.map(|(index, host)| {
            let name = host.host.as_ref();
            let name = name.map_or_else(String::new, |name| format!(" ({name:?})"));
            (format!("host {}{name}", index + 1), host.clone())
        });
        let (policy, mut problems) = Policy::new(PolicySettings {
            hosts: hosts.collect(),
            appsec: self.appsec.clone(),
            words,
            allowed,
        })
        .map_err(wrong)?;
        let mut sources = Vec::new();
        for (index, list) in self.lists.iter().enumerate() {
            let mut files = FilesConfig::new([&list.path]);
            files.is_required = true;
            if let Some(remediation) = &list.remediation {
                files.remediation.clone_from(remediation);
            }
            files.origin.clone_from(&list.origin);
            let mut source = SourceConfig::new(format!("list {}", index + 1), files);
            source.priority = list.priority;
            sources.push(source);
        }
        if let Some(crowdsec) = &self.crowdsec {
            let key = crowdsec.key.as_ref().map_or("", Secret::reveal);
            if key.starts_with("${") {
                problems.push(Problem {
                    place: "crowdsec: key".to_owned(),
                    text:
                        "is a variable's name, and nothing is put in its place here: write the key"
                            .to_owned(),
                    is_error: false,
                });
            }
            let mut lapi = crowdsec.lapi().map_err(wrong)?;
            // It does not send these unasked.
            lapi.wants_countries = self.city_database.is_some();
            lapi.wants_as_numbers = self.asn_database.is_some();
            let kind = SourceKind::Lapi(Box::new(lapi));
            sources.push(SourceConfig::new("crowdsec", kind));
        }
        if sources.is_empty() {
            return Err(wrong(
                "there is no source of decisions: want [[remediation.list]] or [remediation.crowdsec]",
            ));
        }
        let sources = SourcesConfig {
            sources,
            words: meanings,
            warm: self.state_file.as_ref().map(WarmConfig::new),
        };
        let mut geo = GeoConfig::default();
        geo.city_database.clone_from(&self.city_database);
        geo.asn_database.clone_from(&self.asn_database);
        Ok(PreparedRemediation {
            settings: self.clone(),
            policy: Arc::new(policy),
            sources,
            geo,
            problems,
        })
    }

    /// The files of addresses that pass, each found to be a list.
    fn allow_list_texts(&self) -> Result<Vec<(&Path, String)>, String> {
        let read = |path: &PathBuf| {
            // Opening a pipe would wait for somebody who writes to it, and some devices have no end.
            let text = std::fs::metadata(path).and_then(|metadata| match metadata.is_file() {
                true => std::fs::read_to_string(path),
                false => Err(std::io::Error::other("not a file")),
            });
            let text = text.map_err(|error| wrong(format_args!("{}: {error}", path.display())))?;
            parse_list(&text).map_err(|error| wrong(format_args!("{} {error}", path.display())))?;
            Ok::<_, String>(text)
        };
        let paths = self.allow_lists.iter();
        paths.map(|path| Ok((&**path, read(path)?))).collect()
    }

    /// Where decisions of LAPIs are kept.
    pub(crate) fn state_file(&self) -> Option<&Path> {
        self.state_file.as_deref()
    }

    /// The file of addresses that pass with this one in it, for those who look.
    pub(crate) fn allow_list_with(&self, address: IpAddr) -> Result<Option<PathBuf>, String> {
        let mut texts = self.allow_list_texts()?.into_iter();
        let found = texts
            .find(|(_, text)| parse_list(text).is_ok_and(|addresses| addresses.contains(address)));
        Ok(found.map(|(path, _)| path.to_owned()))
    }

    /// What is another in the other table that only a new start can change: sources and databases, and the
    /// words of decisions.
    fn restart_needed(&self, other: &Self) -> Vec<&'static str> {
        let fixed = [
            ("remediation.list", self.lists != other.lists),
            ("remediation.crowdsec", self.crowdsec != other.crowdsec),
            (
                "remediation.state-file",
                self.state_file != other.state_file,
            ),
            ("remediation.words", self.words != other.words),
            (
                "remediation.city-database",
                self.city_database != other.city_database,
            ),
            (
                "remediation.asn-database",
                self.asn_database != other.asn_database,
            ),
        ];
        let changed = fixed.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(name, _)| name).collect()
    }
}

impl CrowdsecSettings {
    fn lapi(&self) -> Result<LapiConfig, String> {
        let mut lapi = match (&self.key, &self.certificate, &self.private_key) {
            (Some(key), None, None) => LapiConfig::new(&*self.url, key.reveal()),
            (None, Some(certificate), Some(key)) => LapiConfig::with_certificate(
                &*self.url,
                ClientCertificate {
                    certificate_file: certificate.clone(),
                    key_file: key.clone(),
                },
            ),
            _ => {
                return Err(
                    "crowdsec: want key, which cscli bouncers add prints, or certificate and private-key"
                        .to_owned(),
                );
            }
        };
        lapi.ca_file.clone_from(&self.ca_file);
        lapi.insecure = self.insecure;
        if let Some(ms) = self.update_frequency_ms {
            lapi.update_frequency = Duration::from_millis(ms);
        }
        lapi.scopes.clone_from(&self.scopes);
        lapi.origins.clone_from(&self.origins);
        lapi.scenarios_containing
            .clone_from(&self.scenarios_containing);
        lapi.scenarios_not_containing
            .clone_from(&self.scenarios_not_containing);
        Ok(lapi)
    }
}

/// The same with the keys of the file, where the library has names of its own.
fn source_error(error: SourcesError) -> String {
    let SourcesError::Source { name, fault } = error else {
        return wrong(error);
    };
    let text = match fault {
        SourceFault::Endpoint(error @ EndpointError::Url(_)) => format!("url: {error}"),
        SourceFault::Endpoint(error) => format!("ca-file, certificate or private-key: {error}"),
        SourceFault::Setting(text) => text
            .replace("api_url", "url")
            .replace("api_key", "key")
            .replace("update_frequency", "update-frequency-ms"),
        fault => fault.to_string(),
    };
    wrong(format_args!("{name}: {text}"))
}

/// Why a start refuses the table: a matter of settings, as what `--check` finds.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn wrong(what: impl Display) -> String {
    format!("remediation: {what}")
}

impl PreparedRemediation {
    /// Its decisions while nothing runs, and the priorities of its sources by their names.
    pub(crate) fn at_rest(self) -> Result<(Sources, BTreeMap<String, u8>), String> {
        let sources = self.sources.sources.iter();
        let priorities = sources.map(|source| (source.name.clone(), source.priority));
        let priorities = priorities.collect();
        let sources = Sources::at_rest(self.sources).map_err(source_error)?;
        Ok((sources, priorities))
    }

    /// Adds a warning for each timeout that is cut short, as HAProxy is to be answered by this deadline. A
    /// captcha's counts if it was set: its default is longer than most deadlines.
    pub(crate) fn note_deadline(&mut self, deadline: Duration) {
        let appsecs = self.policy.endpoints().iter().filter_map(|need| {
            let is_appsec = need.kind == EndpointKind::AppSec;
            is_appsec.then(|| (format!("appsec.timeout of {}", need.url), need.timeout))
        });
        let hosts = self.settings.hosts.iter().zip(1..);
        let captchas = hosts.filter_map(|(host, number): (_, usize)| {
            let seconds = host.captcha.as_ref()?.timeout?;
            let timeout = Duration::from_secs(u64::try_from(seconds).ok()?);
            Some((format!("host {number}: captcha.timeout"), timeout))
        });
        let cut = appsecs
            .chain(captchas)
            .filter(|(_, timeout)| *timeout > deadline);
        let cut = cut.map(|(place, timeout)| Problem {
            place,
            text: format!(
                "is {timeout:?}, of which agent-deadline-ms leaves {deadline:?}: raise that, and HAProxy's \
                 timeout processing above it, or lower this"
            ),
            is_error: false,
        });
        self.problems.extend(cut);
    }

    /// Whether what it names can be used: what `--check` says, and a reload goes by.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_settings()?;
        Sources::check(self.sources.clone()).map_err(source_error)?;
        GeoFiles::check(&self.geo).map_err(wrong)
    }

    /// The same but for what a start reads anyway.
    fn check_settings(&self) -> Result<(), String> {
        let errors = self.problems.iter().filter(|problem| problem.is_error);
        let errors: Vec<_> = errors.map(Problem::to_string).collect();
        if !errors.is_empty() {
            return Err(wrong(errors.join("; ")));
        }
        let outbound = Outbound::start(OutboundConfig::default()).map_err(wrong)?;
        for need in self.policy.endpoints() {
            let endpoint = outbound.endpoint(EndpointConfig::new("endpoint", need.url.as_str()));
            endpoint.map_err(|error| wrong(format_args!("{}: {error}", need.url)))?;
        }
        outbound.stop();
        Ok(())
    }

    /// What is not as it says, and yet of use.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        let warnings = self.problems.iter().filter(|problem| !problem.is_error);
        warnings.map(wrong)
    }
}

/// What runs beside the server.
pub(crate) struct Remediation {
    sources: Sources,
    /// Where addresses are, if that is known.
    geo: Option<GeoFiles>,
    outbound: Outbound,
    /// Those in force.
    bouncer: Arc<Mutex<Bouncer>>,
    settings: Mutex<RemediationSettings>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remediation {
    /// Starts it, and waits a while for the first decisions.
    pub(crate) fn start(
        prepared: PreparedRemediation,
        deadline: Duration,
    ) -> Result<Arc<Self>, Box<dyn std::error::Error>> {
        let unusable = Refused;
        prepared.check_settings().map_err(unusable)?;
        for warning in prepared.warnings() {
            tracing::warn!("{warning}");
        }
        let PreparedRemediation {
            settings,
            policy,
            sources,
            geo,
            ..
        } = prepared;
        let geo = match geo.is_empty() {
            true => None,
            false => Some(GeoFiles::start(&geo).map_err(|fault| unusable(wrong(fault)))?),
        };
        let outbound = Outbound::start(OutboundConfig::default())?;
        // Made once the sources have a place for snapshots.
        let counted: Arc<Mutex<Option<Arc<Mutex<Bouncer>>>>> = Arc::default();
        let traffic = Arc::clone(&counted);
        let sources = Sources::start_with_usage(
            sources,
            Arc::new(move |_source: &str| {
                let bouncer = lock(&traffic);
                let counts = bouncer.as_ref().map(|bouncer| lock(bouncer).counts());
                counts.map_or_else(Traffic::default, |counts| traffic_of(&counts))
            }),
        )
        .map_err(|error| match error {
            SourcesError::Start(_) => Box::<dyn std::error::Error>::from(error),
            error => unusable(source_error(error)).into(),
        })?;
        let mut bouncer =
            Bouncer::new(policy, Arc::clone(sources.snapshots()), &outbound, deadline)?;
        if let Some(geo) = &geo {
            bouncer = bouncer.with_geo(Arc::clone(geo.databases()));
        }
        let bouncer = Arc::new(Mutex::new(bouncer));
        *lock(&counted) = Some(Arc::clone(&bouncer));
        let wait = settings
            .wait_ready_ms
            .map_or(WAIT_READY, Duration::from_millis);
        if !sources.wait_ready(wait) {
            tracing::warn!("serving without all decisions: a source has not answered in {wait:?}");
        }
        Ok(Arc::new(Self {
            sources,
            geo,
            outbound,
            bouncer,
            settings: Mutex::new(settings),
        }))
    }

    /// An agent, for one core.
    pub(crate) fn agent(&self) -> Box<dyn Agent> {
        Box::new(lock(&self.bouncer).agent())
    }

    /// Puts other settings in force for agents that are made from now on. Returns the bouncer before, to
    /// be put back if they are not, and the settings that wait for a new start.
    pub(crate) fn replace(
        &self,
        prepared: PreparedRemediation,
        deadline: Duration,
    ) -> Result<(Bouncer, Vec<&'static str>), Box<dyn std::error::Error>> {
        for warning in prepared.warnings() {
            tracing::warn!("{warning}");
        }
        let mut bouncer = lock(&self.bouncer);
        let next = bouncer.with_policy(prepared.policy, &self.outbound, deadline)?;
        let before = std::mem::replace(&mut *bouncer, next);
        let mut settings = lock(&self.settings);
        let waiting = settings.restart_needed(&prepared.settings);
        if waiting.is_empty() {
            *settings = prepared.settings;
        }
        self.sources.reload();
        self.look_at_databases();
        Ok((before, waiting))
    }

    /// Has the databases looked at before their minute is over: one that cannot be used shows in the
    /// metrics, also where that is why a reload failed.
    pub(crate) fn look_at_databases(&self) {
        if let Some(geo) = &self.geo {
            geo.reload();
        }
    }

    /// Takes a replacement back.
    pub(crate) fn put_back(&self, before: Bouncer) {
        *lock(&self.bouncer) = before;
    }

    /// Leaves LAPIs and what is kept to a process that is about to start.
    pub(crate) fn pause(&self) {
        self.sources.pause();
    }

    /// Takes them back: it did not come to serve.
    pub(crate) fn resume(&self) {
        self.sources.resume();
    }

    /// Ends it: what is known is kept for the next start.
    pub(crate) fn stop(&self) {
        self.sources.stop();
        if let Some(geo) = &self.geo {
            geo.stop();
        }
        self.outbound.stop();
    }

    /// For the line that a start logs.
    pub(crate) fn summary(&self) -> String {
        let snapshot = self.sources.snapshots().current();
        format!("{} decisions, remediation as CrowdSec's", snapshot.count())
    }

    pub(crate) fn write_metrics(&self, out: &mut Exposition) {
        let counts = lock(&self.bouncer).counts();
        out.family(&PROCESSED);
        out.sample(&[("ip_type", "ipv4")], counts.processed_v4);
        out.sample(&[("ip_type", "ipv6")], counts.processed_v6);
        out.family(&BLOCKED);
        for (labels, count) in &counts.blocked {
            out.sample(
                &[
                    ("origin", &labels.origin),
                    ("ip_type", labels.ip_type),
                    ("remediation", labels.remediation.as_str()),
                ],
                *count,
            );
        }
        let status = self.sources.status();
        // Sources of one origin are one sample.
        let mut active: BTreeMap<_, u64> = BTreeMap::new();
        for decisions in &status.active {
            let labels = (&*decisions.origin, decisions.ip_type, decisions.scope);
            *active.entry(labels).or_default() += decisions.count as u64;
        }
        out.family(&ACTIVE);
        for ((origin, ip_type, scope), count) in active {
            let labels = [("origin", origin), ("ip_type", ip_type), ("scope", scope)];
            out.sample(&labels, count);
        }
        let lapis = || status.sources.iter().filter(|source| source.is_lapi);
        out.single(
            &LAPI_REQUESTS,
            lapis().map(|lapi| lapi.request_count).sum::<u64>(),
        );
        out.single(
            &LAPI_FAILURES,
            lapis().map(|lapi| lapi.failure_count).sum::<u64>(),
        );
        out.family(&STALENESS);
        for source in &status.sources {
            out.sample(&[("source", &source.name)], source.staleness.as_secs_f64());
        }
        out.family(&FAILING);
        for source in &status.sources {
            out.sample(&[("source", &source.name)], u64::from(source.is_failing));
        }
        let decisions = self.sources.snapshots().current().count();
        out.single(&DECISIONS, decisions as u64);
        for (family, outcomes) in [(&APPSEC, &counts.appsec), (&CAPTCHA, &counts.captcha)] {
            out.family(family);
            for (outcome, count) in outcomes {
                out.sample(&[("outcome", outcome)], *count);
            }
        }
        let endpoints = self.outbound.stats();
        out.family(&BREAKERS);
        for name in ["appsec", "captcha"] {
            let open = endpoints
                .iter()
                .filter(|one| one.endpoint == name && one.breaker != BreakerState::Closed);
            out.sample(&[("endpoint", name)], open.count() as u64);
        }
        if let Some(geo) = &self.geo {
            let databases = geo.status();
            out.family(&GEO_BUILT);
            for database in &databases {
                out.sample(&[("database", database.key)], database.built_unix_s);
            }
            out.family(&GEO_FAILING);
            for database in &databases {
                let is_failing = database.fault.is_some();
                out.sample(&[("database", database.key)], u64::from(is_failing));
            }
        }
    }
}

fn traffic_of(counts: &BouncerCounts) -> Traffic {
    let processed = [("ipv4", counts.processed_v4), ("ipv6", counts.processed_v6)];
    Traffic {
        processed: processed
            .map(|(ip_type, count)| Processed { ip_type, count })
            .into(),
        dropped: counts
            .blocked
            .iter()
            .map(|(labels, count)| Dropped {
                origin: labels.origin.clone(),
                ip_type: labels.ip_type,
                remediation: labels.remediation.to_string(),
                count: *count,
            })
            .collect(),
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
            let labels = family.labels.split(", ").filter(|label| !label.is_empty());
            let labels = labels.map(|label| format!("`{label}`"));
            let row = format!(
                "| `{}` | {} | {} | {}",
                family.name,
                family.kind.name(),
                labels.collect::<Vec<_>>().join(", "),
                family.help
            );
            assert!(text.contains(&row), "dist/metrics.md lacks\n{row}");
        }
    }

    #[test]
    fn the_sample_has_keys_that_there_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/remediation.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let shown = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(key, _)| !key.contains(' ')) =>
            {
                rest
            }
            Some(rest) if rest.starts_with('[') && rest.ends_with(']') => rest,
            _ => line,
        });
        let shown: String = shown.flat_map(|line| [line, "\n"]).collect();
        #[derive(Deserialize)]
        struct File {
            remediation: RemediationSettings,
        }
        let file: File = toml::from_str(&shown).unwrap_or_else(|error| panic!("{error}"));
        let settings = file.remediation;
        assert_eq!(
            settings.words.len(),
            1,
            "what is commented out was read, too"
        );
        assert_eq!((settings.lists.len(), settings.hosts.len()), (1, 1));
        let appsec = settings.appsec;
        let mut known = settings.hosts[0].clone();
        let mut custom = known.clone();
        // The sample has what either needs.
        known.captcha.as_mut().unwrap().custom = None;
        custom.captcha.as_mut().unwrap().provider = Some("custom".to_owned());
        for host in [known, custom] {
            let (policy, problems) = Policy::new(PolicySettings {
                hosts: vec![("host 1".to_owned(), host)],
                appsec: appsec.clone(),
                ..PolicySettings::default()
            })
            .unwrap();
            assert_eq!(problems, []);
            assert_eq!(policy.endpoints().len(), 2);
        }
    }

    #[test]
    fn keys_may_be_spelt_either_way_and_wrong_ones_are_named() {
        let settings = |text: &str| toml::from_str::<RemediationSettings>(text);
        let list = "[[list]]\npath = '/dev/null'\n";
        for key in ["contact-us-url", "contact_us_url"] {
            let text =
                format!("{list}[[host]]\nhost = '*'\nban = {{ {key} = 'mailto:x@example' }}");
            let prepared = settings(&text)
                .unwrap()
                .prepare()
                .unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(prepared.problems, []);
        }
        let error = settings("lists = []").unwrap_err();
        assert!(error.message().contains("unknown field `lists`"), "{error}");
        let wrong = [
            ("", "there is no source of decisions"),
            (
                "[crowdsec]\nurl = 'http://127.0.0.1:8080/'",
                "crowdsec: want key",
            ),
            ("[words]\nmfa = 'nothing'", "mfa"),
            ("allow-lists = ['/nowhere/allow']", "/nowhere/allow: "),
            ("allow-lists = ['/dev/zero']", "/dev/zero: not a file"),
            (
                "[[list]]\npath = '/dev/null'\n[[host]]\nhost = '['",
                "host 1",
            ),
        ];
        for (text, expected) in wrong {
            let error = settings(text)
                .unwrap()
                .prepare()
                .err()
                .expect("it is wrong");
            assert!(error.starts_with("remediation: "), "{error}");
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn other_sources_wait_for_a_start_and_a_key_is_not_shown() {
        let settings = |key: &str| {
            let text = format!("[crowdsec]\nurl = 'http://127.0.0.1:1/'\nkey = '{key}'");
            toml::from_str::<RemediationSettings>(&text).unwrap()
        };
        let none: [&str; 0] = [];
        assert_eq!(settings("a").restart_needed(&settings("a")), none);
        assert_eq!(
            settings("a").restart_needed(&settings("b")),
            ["remediation.crowdsec"]
        );
        assert!(!format!("{:?}", settings("hidden-key")).contains("hidden-key"));
    }
}

#[cfg(test)]
mod geo_tests {
    use super::*;

    fn lapi(settings: &str) -> Box<LapiConfig> {
        let crowdsec = "[crowdsec]\nurl = \"http://127.0.0.1:8080/\"\nkey = \"k\"\n";
        let settings: RemediationSettings =
            toml::from_str(&format!("{settings}\n{crowdsec}")).unwrap();
        let mut prepared = settings.prepare().unwrap();
        match prepared.sources.sources.remove(0).kind {
            SourceKind::Lapi(lapi) => lapi,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lapi_is_asked_for_the_scopes_that_a_database_is_there_for() {
        for (settings, wants) in [
            ("", (false, false)),
            ("city-database = \"c.mmdb\"", (true, false)),
            ("asn-database = \"a.mmdb\"", (false, true)),
        ] {
            let lapi = lapi(settings);
            assert_eq!(
                (lapi.wants_countries, lapi.wants_as_numbers),
                wants,
                "{settings}"
            );
        }
    }

    #[test]
    fn another_database_waits_for_a_new_start() {
        let of = |text: &str| toml::from_str::<RemediationSettings>(text).unwrap();
        let before = of("city-database = \"c.mmdb\"");
        assert!(before.restart_needed(&before.clone()).is_empty());
        for text in [
            "",
            "city-database = \"d.mmdb\"",
            "city-database = \"c.mmdb\"\nasn-database = \"a\"",
        ] {
            assert!(!before.restart_needed(&of(text)).is_empty(), "{text}");
        }
    }
}
