//! `ringspoa check`: reads HAProxy's configuration and prints what does not fit the agent.
//!
//! It finds the files, the version and what the agent's own settings say; what is wrong the library
//! knows (`haproxy_config`).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use ringspoa::ListenAddress;
use ringspoa::agents::challenge::ChallengeSettings;
use ringspoa::haproxy_config::{
    ChallengeFacts, CheckOptions, ConfigFile, HaproxyVersion, RealmFacts, Report, Severity, check,
    engine_files, guess_version, page_files,
};

use crate::challenge_sample::{self, captcha_timeout};
use crate::config::Settings;
use crate::spoe_config::{agents, declaration, version};

/// The largest file, in bytes: a configuration of that size is none.
const MAX_FILE_LEN: u64 = 16 << 20;

/// Check HAProxy's configuration for what does not fit the agent.
///
/// It reads haproxy.cfg and the files of SPOE engines, in any order, and says what will not work, with
/// file, line and fix: messages, arguments and types the agent does not take, timeouts, frame sizes,
/// backends and checks, variables that nothing sets. It starts nothing and changes nothing.
/// `haproxy -c` is not made superfluous by it: what is not about SPOE it does not look at. The agents it
/// knows are those of this binary; agents of one's own are checked by the library (haproxy_config::check).
///
/// Exit codes: 0 if there is nothing but notes, 1 for warnings or errors, 2 for bad flags or files that
/// cannot be read.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// haproxy.cfg, and files that its filters name; a folder stands for its *.cfg in order, as with
    /// haproxy -f. A file that a filter names, and that is there, is read too
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Version of HAProxy, from 2.6 on [default: what the files can only be for, else what `haproxy -v`
    /// says, else 3.2]
    #[arg(long, value_name = "VERSION")]
    haproxy: Option<String>,
    /// Agent that the engines are for: remediation, crowdsec or challenge [default: the one that an engine has the name, the
    /// prefix or a message of]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The agent's own configuration file, for its deadline, its frame size, where it listens, and what
    /// [challenge] has that rules have to agree with
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command; `usage` is the exit code for what cannot be read.
pub(crate) fn run(arguments: &Check, usage: u8) -> ExitCode {
    let (report, assumed, files) = match prepare(arguments) {
        Ok(prepared) => prepared,
        Err(error) => {
            crate::complain(&error);
            return ExitCode::from(usage);
        }
    };
    let text = match arguments.json {
        true => json(&report, assumed, &files),
        false => text(&report, assumed, &files),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads may have seen enough, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            crate::complain(&format!("cannot write the findings: {error}"));
            ExitCode::from(usage)
        }
        _ if report.is_good() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The report, where the version is from, and the files.
type Prepared = (Report, &'static str, Vec<ConfigFile>);

fn prepare(arguments: &Check) -> Result<Prepared, String> {
    let mut options =
        CheckOptions::default().with_agents(agents().into_iter().map(|(_, agent)| agent));
    if let Some(name) = &arguments.agent {
        options = options.with_agent(declaration(name)?);
    }
    let version = arguments.haproxy.as_deref().map(version).transpose()?;
    let settings = match &arguments.config {
        Some(path) => Settings::load(path).map_err(|error| error.to_string())?,
        None => Settings::default(),
    };
    let server = settings
        .server_config()
        .map_err(|error| match &arguments.config {
            Some(path) => format!("{}: {error}", path.display()),
            None => error.to_string(),
        })?;
    options.max_frame_size = Some(server.limits.max_frame_size);
    if arguments.config.is_some() {
        // Agents that answer at once have no deadline to keep: of those, only who sets one has one.
        let asks_others = matches!(arguments.agent.as_deref(), Some("crowdsec" | "challenge"))
            || settings.remediation.is_some()
            || settings.challenge.is_some();
        let has_deadline = asks_others || settings.agent_deadline_ms.is_some();
        options.deadline = has_deadline.then_some(server.agent_deadline);
        options.never_empty_acks = Some(server.never_empty_acks);
        options.challenge = settings.challenge.as_ref().map(facts);
        if settings.listen.is_some() {
            options.listen = server.listen.iter().map(as_haproxy_writes).collect();
        }
    }

    let mut files = Vec::new();
    for path in &arguments.files {
        read_all(path, &mut files)?;
    }
    for path in engine_files(&files) {
        if Path::new(&path).is_file() {
            files.push(read(Path::new(&path))?);
        }
    }
    let (version, assumed) = match version {
        Some(version) => (version, "--haproxy"),
        None => assume(&files),
    };
    options.version = Some(version);
    options.missing_files = page_files(&files);
    options
        .missing_files
        .retain(|path| is_missing(path, &files));
    let mut report = check(&files, &options);
    for finding in &mut report.findings {
        // The library says what its own user is to do.
        if finding.id == "agent-unknown" {
            let known: Vec<_> = agents().into_iter().map(|(name, _)| name).collect();
            finding.fix = format!(
                "this command knows the agents of ringspoa itself: if it is for one of them, name it with \
                 --agent ({}); agents of your own are checked by the library, haproxy_config::check",
                known.join(", ")
            );
        }
    }
    Ok((report, assumed, files))
}

/// What rules have to agree with.
fn facts(settings: &ChallengeSettings) -> ChallengeFacts {
    let mut facts = ChallengeFacts::default();
    let path = settings.path.as_deref();
    path.unwrap_or(challenge_sample::PATH)
        .clone_into(&mut facts.path);
    for settings in &settings.realms {
        let mut realm = RealmFacts::default();
        let name = settings.name.as_deref();
        name.unwrap_or("default").clone_into(&mut realm.name);
        realm.levels = settings.levels.len();
        realm.captcha_timeout = settings.levels.iter().filter_map(captcha_timeout).max();
        let mut kinds = settings.levels.iter().map(|level| level.kind.as_deref());
        realm.needs_tls = kinds.any(|kind| kind == Some("pbkdf2"));
        facts.realms.push(realm);
    }
    facts
}

fn as_haproxy_writes(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Unix { path, .. } => format!("unix@{}", path.display()),
        ListenAddress::Tcp(address) => address.to_string(),
    }
}

/// Whether it should be here and is not: in the folder of a file that was read, so that this is where HAProxy
/// runs. Relative ones may be anywhere.
fn is_missing(path: &str, files: &[ConfigFile]) -> bool {
    let path = Path::new(path);
    let folder = |path: &Path| path.parent()?.canonicalize().ok();
    let Some(expected) = folder(path).filter(|_| path.is_absolute()) else {
        return false;
    };
    let is_beside = |file: &ConfigFile| {
        let name = Path::new(file.name()).canonicalize().ok();
        name.is_some_and(|name| name.parent() == Some(&*expected))
    };
    files.iter().any(is_beside) && matches!(path.try_exists(), Ok(false))
}

/// A file, or what HAProxy reads of a folder.
fn read_all(path: &Path, files: &mut Vec<ConfigFile>) -> Result<(), String> {
    if !path.is_dir() {
        files.push(read(path)?);
        return Ok(());
    }
    let unreadable =
        |error: io::Error| format!("{}: cannot read the folder: {error}", path.display());
    let entries = fs::read_dir(path).map_err(unreadable)?;
    let entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
    names.retain(|name| {
        let text = name.to_string_lossy();
        text.ends_with(".cfg") && !text.starts_with('.') && path.join(name).is_file()
    });
    names.sort_unstable();
    if names.is_empty() {
        return Err(format!("{}: has no file that ends in .cfg", path.display()));
    }
    for name in names {
        files.push(read(&path.join(name))?);
    }
    Ok(())
}

fn read(path: &Path) -> Result<ConfigFile, String> {
    let unreadable = |error: io::Error| format!("{}: cannot read it: {error}", path.display());
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_LEN + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_LEN {
        return Err(format!(
            "{}: has more than {MAX_FILE_LEN} bytes",
            path.display()
        ));
    }
    Ok(ConfigFile::new(path.display().to_string(), text))
}

/// The version where none is given, and how it is known.
fn assume(files: &[ConfigFile]) -> (HaproxyVersion, &'static str) {
    let guessed = guess_version(files);
    let installed = installed();
    match (guessed, installed) {
        // Which of those that know mode spop.
        (Some(_), Some(version)) if version.has_multiplexer() => (version, "haproxy -v"),
        (Some(version), _) => (version, "mode spop"),
        (None, Some(version)) => (version, "haproxy -v"),
        (None, None) => (HaproxyVersion::V3_2, "default"),
    }
}

/// What `haproxy -v` says, if it is there.
fn installed() -> Option<HaproxyVersion> {
    let output = Command::new("haproxy").arg("-v").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once("version ")?;
    rest.split(' ').next()?.parse().ok()
}

fn counts(report: &Report) -> [(usize, &'static str); 3] {
    [
        (report.count(Severity::Error), "error"),
        (report.count(Severity::Warning), "warning"),
        (report.count(Severity::Note), "note"),
    ]
}

fn text(report: &Report, assumed: &str, files: &[ConfigFile]) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(text, "{finding}");
    }
    let counts: Vec<_> = counts(report)
        .into_iter()
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        .collect();
    let plural = if files.len() == 1 { "" } else { "s" };
    let assumed = match assumed {
        "--haproxy" => String::new(),
        "default" => " (assumed, --haproxy says otherwise)".to_owned(),
        "mode spop" => " (assumed for mode spop, --haproxy says otherwise)".to_owned(),
        from => format!(" (from {from}, --haproxy says otherwise)"),
    };
    let _ = writeln!(
        text,
        "{} file{plural} read for HAProxy {}{assumed}: {}",
        files.len(),
        report.version,
        counts.join(", ")
    );
    text
}

fn json(report: &Report, assumed: &str, files: &[ConfigFile]) -> String {
    let names: Vec<_> = files.iter().map(|file| quoted(file.name())).collect();
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| {
            format!(
                "{{\"file\":{},\"line\":{},\"severity\":\"{}\",\"id\":\"{}\",\"text\":{},\"fix\":{}}}",
                quoted(&finding.file),
                finding.line,
                finding.severity.as_str(),
                finding.id,
                quoted(&finding.text),
                quoted(&finding.fix)
            )
        })
        .collect();
    let [(errors, _), (warnings, _), (notes, _)] = counts(report);
    format!(
        "{{\"haproxy\":\"{}\",\"haproxy_from\":\"{assumed}\",\"files\":[{}],\"errors\":{errors},\
         \"warnings\":{warnings},\"notes\":{notes},\"findings\":[{}]}}\n",
        report.version,
        names.join(","),
        findings.join(",")
    )
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
