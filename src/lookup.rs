//! `ringspoa lookup` and `ringspoa table`: what the decisions of a configuration say about an address, and
//! which there are.
//!
//! They read the files that the configuration names, and what a server keeps of LAPIs on disk. They ask no
//! LAPI: it answers a key with what changed since its last question, and so the server would miss that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use ringspoa::agents::remediation::{CountryCode, Found, Network, Remediation, Snapshot, Subject};
use ringspoa::sources::{FileFormat, FilesConfig, Readiness, SourceConfig, Sources, SourcesConfig};
use serde_json::{Value, json};

use crate::config::Settings;

/// Say what is answered about an address, and why.
///
/// It shows every decision on the address or a network around it, which of them holds, and why the others
/// do not. It reads the files that the configuration names, and the state-file for what CrowdSec's LAPI
/// said, which a server writes within seconds of a change, or half a minute where there are a million
/// decisions. The LAPI itself is not asked, as the server would miss what it says. Where that is not known
/// and nothing else turns the address away, the answer is "unknown". What AppSec or a captcha make of a
/// request is not known here.
///
/// Exit codes: 0 when shown, 1 if it cannot be written, 2 for bad flags or files that cannot be read, 3 if
/// the answer depends on decisions that are not known here.
#[derive(Debug, Args)]
pub(crate) struct Lookup {
    /// Address to look up
    #[arg(value_name = "ADDR", value_parser = address)]
    address: IpAddr,
    /// Configuration file of `ringspoa serve` [default: none, for the embedded list]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Country of the address, by its two letters: decisions on it count too
    #[arg(long, value_name = "CODE", value_parser = |text: &str| {
        CountryCode::new(text).ok_or("want two letters, as in FR")
    })]
    country: Option<CountryCode>,
    /// Number of its autonomous system: decisions on it count too
    #[arg(long = "as", value_name = "NUMBER")]
    as_number: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// List decisions, or count them.
///
/// They are read as `ringspoa lookup` does, and listed by their value, a line each; with --count a line
/// has the number of those with an origin, scope and remediation.
///
/// Exit codes: 0 when shown, 1 if it cannot be written, 2 for bad flags or files that cannot be read, 3 if
/// those of a source are not known here.
#[derive(Debug, Args)]
pub(crate) struct Table {
    /// Configuration file of `ringspoa serve`
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only decisions of this origin; lists stands for lists:NAME too. Those of a file have the file's name,
    /// unless its `origin` says another
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Only decisions on this address or range, on what is in it, and on ranges around it
    #[arg(long, value_name = "RANGE", conflicts_with = "count")]
    on: Option<Network>,
    /// List no more than so many [default: all]
    #[arg(long, value_name = "COUNT", conflicts_with = "count")]
    limit: Option<usize>,
    /// Count them
    #[arg(long)]
    count: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `lookup`; `usage` is the exit code for what cannot be read.
pub(crate) fn run(arguments: &Lookup, usage: u8) -> ExitCode {
    print(arguments.text(), usage)
}

/// Runs `table`.
pub(crate) fn run_table(arguments: &Table, usage: u8) -> ExitCode {
    print(arguments.text(), usage)
}

/// Of more origins than this only the number is shown.
const SHOWN_ORIGINS: usize = 20;

/// The exit code where the decisions of a source matter and are not known.
const NOT_KNOWN: u8 = 3;

/// What is shown, and whether decisions that are not known would be part of it.
struct Shown {
    text: String,
    is_partial: bool,
}

impl Shown {
    const fn whole(text: String) -> Self {
        Self {
            text,
            is_partial: false,
        }
    }
}

/// One address, or a hint what to do about a range.
fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<Network>() {
        Ok(network) if network.is_address() => Ok(network.first()),
        Ok(range) => Err(format!(
            "want one address; the decisions on a range are listed by \
             'ringspoa table --config FILE --on {range}'"
        )),
        Err(_) => Err("want an address, as in 192.0.2.7 or 2001:db8::7".to_owned()),
    }
}

fn print(shown: Result<Shown, String>, usage: u8) -> ExitCode {
    let Shown { text, is_partial } = match shown {
        Ok(shown) => shown,
        Err(error) => {
            crate::complain(&error);
            return ExitCode::from(usage);
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads may have seen enough, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            crate::complain(&format!("cannot write what was found: {error}"));
            ExitCode::FAILURE
        }
        _ if is_partial => ExitCode::from(NOT_KNOWN),
        _ => ExitCode::SUCCESS,
    }
}

/// The decisions of a configuration.
struct Decisions {
    sources: Sources,
    priorities: BTreeMap<String, u8>,
    settings: Settings,
    ages: Vec<Age>,
}

/// How old it is what a source says.
struct Age {
    name: String,
    is_lapi: bool,
    /// Of a LAPI, when it said that, in seconds since 1970.
    kept_at: Option<u64>,
    /// The same in words.
    text: String,
    /// Why it is not known what it says.
    unknown: Option<String>,
}

/// A server writes the state every 5 minutes at least.
const LATE: u64 = 600;

impl Decisions {
    /// `None` if the configuration names no list at all.
    fn read(config: Option<&Path>) -> Result<Option<Self>, String> {
        let settings = match config {
            Some(path) => Settings::load(path).map_err(|error| error.to_string())?,
            None => Settings::default(),
        };
        let (sources, priorities) = match (&settings.remediation, &settings.ban_list) {
            (Some(remediation), _) => remediation.prepare()?.at_rest()?,
            (None, Some(path)) => {
                let mut files = FilesConfig::new([path]);
                files.format = Some(FileFormat::Lines);
                let config = SourcesConfig {
                    sources: vec![SourceConfig::new("ban-list", files)],
                    ..SourcesConfig::default()
                };
                let sources = Sources::at_rest(config);
                let sources = sources.map_err(|error| error.to_string())?;
                (sources, BTreeMap::new())
            }
            (None, None) => return Ok(None),
        };
        let ages = ages(&sources, &settings);
        Ok(Some(Self {
            sources,
            priorities,
            settings,
            ages,
        }))
    }

    /// The sources whose decisions are not known here.
    fn unknown_sources(&self) -> Vec<&str> {
        let unknown = self.ages.iter().filter(|age| age.unknown.is_some());
        unknown.map(|age| &*age.name).collect()
    }

    /// That there are such, and why.
    fn unknown(&self) -> Option<String> {
        let reasons = self.ages.iter().filter_map(|age| {
            let reason = age.unknown.as_ref()?;
            let name = &age.name;
            Some(format!("decisions of {name} are not known here ({reason})"))
        });
        let reasons: Vec<_> = reasons.collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Since when there may be decisions of LAPIs that are not known here.
    fn as_of(&self) -> Option<u64> {
        self.ages.iter().filter_map(|age| age.kept_at).min()
    }

    fn snapshot(&self) -> std::sync::Arc<Snapshot> {
        self.sources.snapshots().current()
    }

    /// The source of a decision, as the configuration has it.
    fn source(&self, found: &Found<'_>) -> (String, Option<String>) {
        let origin = self.sources.origin_of(found.source());
        let (name, path) = origin.unwrap_or(("unknown", None));
        (name.to_owned(), path.map(|path| path.display().to_string()))
    }

    fn is_of_lapi(&self, found: &Found<'_>) -> bool {
        let (name, _) = self.source(found);
        self.ages.iter().any(|age| age.is_lapi && age.name == name)
    }

    fn priority(&self, found: &Found<'_>) -> u8 {
        let (name, _) = self.source(found);
        self.priorities.get(&name).copied().unwrap_or_default()
    }

    fn json_sources(&self) -> Vec<Value> {
        let ages = self.ages.iter();
        ages.map(
            |age| json!({ "name": age.name, "kept_at": age.kept_at.map(date), "what": age.text }),
        )
        .collect()
    }

    fn text_sources(&self, out: &mut String) {
        out.push_str("sources:\n");
        for Age { name, text, .. } in &self.ages {
            let _ = writeln!(out, "  {name}: {text}");
        }
    }

    fn json_decision(&self, found: &Found<'_>) -> Value {
        let (source, file) = self.source(found);
        json!({
            "value": found.subject().to_string(),
            "scope": found.subject().scope(),
            "remediation": found.remediation().as_str(),
            "word": found.word(),
            "origin": found.origin(),
            "source": source,
            "file": file,
            "until": found.expiry().unix_s().map(date),
            "id": found.id(),
        })
    }

    fn text_decision(&self, found: &Found<'_>) -> String {
        let (source, file) = self.source(found);
        let subject = found.subject();
        let mut text = format!("{} {subject}: {}", subject.scope(), found.remediation());
        if found.word() != found.remediation().as_str() {
            let _ = write!(text, " ({:?})", found.word());
        }
        let _ = write!(text, ", origin {}, source {source}", plain(found.origin()));
        if let Some(file) = file {
            let _ = write!(text, " {file}");
        }
        match found.expiry().unix_s() {
            Some(second) => {
                let left = age_of(second.saturating_sub(now()));
                let _ = write!(text, ", until {} ({left} left)", date(second));
            }
            None => text.push_str(", without end"),
        }
        if let Some(id) = found.id() {
            let _ = write!(text, ", id {id}");
        }
        text
    }

    /// Why this decision does not hold where that one does.
    fn why_not(&self, found: &Found<'_>, winner: &Found<'_>) -> String {
        let (own, others) = (self.priority(found), self.priority(winner));
        if own != others {
            return format!("its source has priority {own}, and that of the other {others}");
        }
        match (rank(found.subject()), rank(winner.subject())) {
            (2 | 3, of_winner) if of_winner < 2 => {
                "what is closer to the address than that says something already".to_owned()
            }
            (3, 2) => "the country of the address says something already".to_owned(),
            (1, 0) => "a decision on the address itself goes before".to_owned(),
            // Only if the other one, which is closer, lets pass.
            (own, of_winner) if own < of_winner => {
                format!("it lets pass, and then {} counts", winner.subject().scope())
            }
            (1, 1) if prefix_len(found) < prefix_len(winner) => {
                "a more specific range goes before".to_owned()
            }
            _ if found.remediation() < winner.remediation() => {
                format!("{} is harder", winner.remediation())
            }
            _ if found.remediation() == Remediation::Unknown => {
                "its word means nothing here".to_owned()
            }
            _ => "it says the same".to_owned(),
        }
    }
}

/// How old it is what each source says.
fn ages(sources: &Sources, settings: &Settings) -> Vec<Age> {
    let status = sources.status();
    let remediation = settings.remediation.as_ref();
    let state_file = remediation.and_then(|remediation| remediation.state_file());
    let state_file = state_file.map(|path| path.display().to_string());
    let failure = status.warm_failure.map(|failure| failure.text);
    let age = |source: ringspoa::sources::SourceStatus| {
        let mut age = Age {
            name: source.name,
            is_lapi: source.is_lapi,
            kept_at: None,
            text: "its files as they are now".to_owned(),
            unknown: None,
        };
        if !source.is_lapi {
            return age;
        }
        let kept_at = source.last_success_unix_s;
        age.kept_at = kept_at.filter(|_| source.readiness == Readiness::Warm);
        if let (Some(at), Some(file)) = (age.kept_at, &state_file) {
            let seconds = now().saturating_sub(at);
            let late = match seconds > LATE {
                true => "; no server has had and written an answer since",
                false => "",
            };
            age.text = format!(
                "what {file} has of its answer {} ago; it was not asked now{late}",
                age_of(seconds)
            );
            return age;
        }
        let reason = match (&state_file, &failure) {
            (_, Some(failure)) => failure.clone(),
            (Some(file), None) => {
                format!("a server that has its answer writes {file}, which has none of it")
            }
            (None, None) => {
                "with state-file in [remediation] a server keeps what it has".to_owned()
            }
        };
        age.text = format!("not known here: {reason}");
        age.unknown = Some(reason);
        age
    };
    status.sources.into_iter().map(age).collect()
}

/// How close to the address a decision is.
fn rank(subject: Subject) -> u8 {
    match subject {
        Subject::Network(network) if network.is_address() => 0,
        Subject::Network(_) => 1,
        Subject::Country(_) => 2,
        _ => 3,
    }
}

fn prefix_len(found: &Found<'_>) -> u8 {
    match found.subject() {
        Subject::Network(network) => network.prefix_len(),
        _ => 0,
    }
}

/// Whether both are the same row.
fn is_same(one: &Found<'_>, other: &Found<'_>) -> bool {
    let key = |found: &Found<'_>| (found.subject(), found.kind(), found.id(), found.expiry());
    key(one) == key(other)
}

impl Lookup {
    fn text(&self) -> Result<Shown, String> {
        let Some(decisions) = Decisions::read(self.config.as_deref())? else {
            return self.of_embedded();
        };
        let remediation = decisions.settings.remediation.as_ref();
        let allowed = remediation.map(|remediation| remediation.allow_list_with(self.address));
        let allowed = allowed.transpose()?.flatten();
        let snapshot = decisions.snapshot();
        let all = snapshot.decisions_on(self.address, self.country, self.as_number);
        let winner = snapshot.lookup_with(self.address, self.country, self.as_number);
        let (answer, because) = match (&allowed, &winner) {
            (Some(path), _) => (
                Remediation::Allow,
                format!(
                    "{} has it, and an allow list goes before all",
                    path.display()
                ),
            ),
            (None, None) => (Remediation::Allow, "no decision is about it".to_owned()),
            (None, Some(winner)) => {
                let note = match winner.remediation() {
                    Remediation::Captcha => {
                        "; a host without a captcha does as its fallback-remediation says"
                    }
                    Remediation::Unknown => {
                        "; its word means nothing here, see words in [remediation]"
                    }
                    _ => "",
                };
                let subject = winner.subject();
                let because = format!("of the decision on {} {subject}{note}", subject.scope());
                (winner.remediation(), because)
            }
        };
        let (mut answer, mut because) = (answer.as_str(), because);
        let unknown = decisions.unknown().filter(|_| allowed.is_none());
        // What turns away is hardly ever taken back by another decision; what passes often is.
        let turns_away = winner.is_some_and(|winner| winner.remediation() >= Remediation::Captcha);
        let is_partial = unknown.is_some() && !turns_away;
        let as_of = decisions.as_of().filter(|_| allowed.is_none());
        let mut first = match unknown {
            Some(unknown) if is_partial => {
                (answer, because) = ("unknown", unknown);
                format!("unknown: {because}")
            }
            Some(unknown) => {
                let _ = write!(because, "; {unknown}, and may say otherwise");
                format!("{answer}, because {because}")
            }
            None => format!("{answer}, because {because}"),
        };
        if let Some(at) = as_of {
            let _ = write!(first, ", as of {} ago", age_of(now().saturating_sub(at)));
        }
        // The first of those that are the same in all.
        let holds = winner.and_then(|winner| all.iter().position(|one| is_same(one, &winner)));
        let holds = holds.filter(|_| allowed.is_none());
        let why = |index: usize, found: &Found<'_>| match (&allowed, &winner) {
            (Some(_), _) => "the allow list goes before".to_owned(),
            _ if holds == Some(index) => "this holds".to_owned(),
            (None, Some(winner)) => decisions.why_not(found, winner),
            (None, None) => "its word means nothing here".to_owned(),
        };
        if self.json {
            let rows = all.iter().enumerate().map(|(index, found)| {
                let mut row = decisions.json_decision(found);
                row["holds"] = json!(holds == Some(index));
                row["why"] = json!(why(index, found));
                row
            });
            let object = json!({
                "address": self.address,
                "answer": answer,
                "because": because,
                "as_of": as_of.map(date),
                "unknown_sources": decisions.unknown_sources(),
                "decisions": rows.collect::<Vec<_>>(),
                "sources": decisions.json_sources(),
            });
            let text = format!("{object}\n");
            return Ok(Shown { text, is_partial });
        }
        let mut out = format!("{}: {first}\n", self.address);
        for (index, found) in all.iter().enumerate() {
            let mark = if holds == Some(index) { '*' } else { '-' };
            let _ = writeln!(out, "{mark} {}", decisions.text_decision(found));
            let _ = writeln!(out, "    {}", why(index, found));
        }
        // Scenarios are as many as alerts, and no answer depends on them.
        let values = all.iter().filter(|found| decisions.is_of_lapi(found));
        let values: BTreeSet<_> = values.map(|found| found.subject()).collect();
        for value in values {
            let _ = writeln!(
                out,
                "the LAPI knows the scenario: cscli decisions list --all --value {value}"
            );
        }
        decisions.text_sources(&mut out);
        let text = out;
        Ok(Shown { text, is_partial })
    }

    /// As a server without any configuration answers.
    fn of_embedded(&self) -> Result<Shown, String> {
        let table = Settings::default().ban_table();
        let (table, origin) = table.map_err(|error| error.to_string())?;
        let (answer, because) = match table.contains(self.address) {
            true => (Remediation::Ban, format!("{origin} has it")),
            false => (Remediation::Allow, format!("{origin} has it not")),
        };
        if self.json {
            let object = json!({
                "address": self.address,
                "answer": answer.as_str(),
                "because": because,
                "as_of": null,
                "unknown_sources": [],
                "decisions": [],
                "sources": [],
            });
            return Ok(Shown::whole(format!("{object}\n")));
        }
        let text = format!("{}: {answer}, because {because}\n", self.address);
        Ok(Shown::whole(text))
    }
}

impl Table {
    fn text(&self) -> Result<Shown, String> {
        let decisions = Decisions::read(Some(&self.config))?.ok_or_else(|| {
            format!(
                "{}: it has neither ban-list nor [remediation], and so there is no list to show",
                self.config.display()
            )
        })?;
        let snapshot = decisions.snapshot();
        let text = match self.count {
            true => self.counts(&decisions, &snapshot),
            false => self.rows(&decisions, &snapshot),
        };
        let is_partial = decisions.unknown().is_some();
        Ok(Shown { text, is_partial })
    }

    fn rows(&self, decisions: &Decisions, snapshot: &Snapshot) -> String {
        let mut all: Vec<_> = snapshot
            .iter()
            .filter(|one| self.is_of(one.origin()) && self.is_on(one.subject()))
            .collect();
        all.sort_by_cached_key(|one| (one.subject(), one.kind().index(), one.id(), one.expiry()));
        let total = all.len();
        all.truncate(self.limit.unwrap_or(usize::MAX));
        if self.json {
            let rows = all.iter().map(|found| decisions.json_decision(found));
            let object = json!({
                "total": total,
                "unknown_sources": decisions.unknown_sources(),
                "decisions": rows.collect::<Vec<_>>(),
                "sources": decisions.json_sources(),
            });
            return format!("{object}\n");
        }
        let mut out = String::new();
        for found in &all {
            let _ = writeln!(out, "{}", decisions.text_decision(found));
        }
        let note = self.note(decisions, snapshot, total);
        let _ = writeln!(out, "{} of {total} decisions{note}", all.len());
        decisions.text_sources(&mut out);
        out
    }

    /// What there is to say about a sum: whose decisions are not in it, and why it may be none.
    fn note(&self, decisions: &Decisions, snapshot: &Snapshot, total: usize) -> String {
        let mut note = String::new();
        let unknown = decisions.unknown_sources();
        if !unknown.is_empty() {
            let _ = write!(note, ", without those of {}", unknown.join(" and "));
        }
        if total == 0 && self.origin.is_some() {
            let origins: BTreeSet<_> = snapshot.iter().map(|found| found.origin()).collect();
            let shown: Vec<_> = origins
                .iter()
                .take(SHOWN_ORIGINS)
                .copied()
                .map(plain)
                .collect();
            if !shown.is_empty() {
                let _ = write!(note, "; there are decisions of {}", shown.join(", "));
            }
            if let Some(rest @ 1..) = origins.len().checked_sub(shown.len()) {
                let _ = write!(note, " and of {rest} other origins");
            }
        }
        note
    }

    fn is_on(&self, subject: Subject) -> bool {
        let Some(wanted) = self.on else {
            return true;
        };
        let Subject::Network(network) = subject else {
            return false;
        };
        wanted.contains(network.first()) || network.contains(wanted.first())
    }

    fn is_of(&self, origin: &str) -> bool {
        self.origin.as_deref().is_none_or(|wanted| {
            let rest = origin.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        })
    }

    fn counts(&self, decisions: &Decisions, snapshot: &Snapshot) -> String {
        let kinds: Vec<_> = snapshot.kinds().collect();
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for count in snapshot.counts() {
            let kind = kinds[count.kind.index()];
            if self.is_of(kind.origin) {
                let key = (kind.origin, count.scope, kind.remediation);
                *counts.entry(key).or_default() += count.count;
            }
        }
        let total: usize = counts.values().sum();
        if self.json {
            let rows = counts.iter().map(|((origin, scope, remediation), count)| {
                json!({
                    "origin": origin,
                    "scope": scope,
                    "remediation": remediation.as_str(),
                    "count": count,
                })
            });
            let object = json!({
                "total": total,
                "unknown_sources": decisions.unknown_sources(),
                "counts": rows.collect::<Vec<_>>(),
                "sources": decisions.json_sources(),
            });
            return format!("{object}\n");
        }
        let mut out = String::new();
        for ((origin, scope, remediation), count) in counts {
            let _ = writeln!(
                out,
                "{count:>9}  {remediation:<8} {scope:<8} {}",
                plain(origin)
            );
        }
        let note = self.note(decisions, snapshot, total);
        let _ = writeln!(out, "{total:>9}  in all{note}");
        decisions.text_sources(&mut out);
        out
    }
}

/// A source's text for the terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The two largest units of it.
fn age_of(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A second since 1970 as RFC 3339 has it.
fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Years begin with March, so that the leap day is the last; and are counted from the year 0.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(second), expected);
        }
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, expected) in [
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(age_of(seconds), expected);
        }
    }
}
