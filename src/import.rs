//! `ringspoa import`: writes our configuration from that of another agent.
//!
//! It knows the keys of CrowdSec's bouncer for HAProxy and of berghain, and what becomes of each; what our
//! own mean, the rest of the binary knows, which is asked about the outcome.

mod berghain;
mod yaml;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ringspoa::agents::remediation::parse_duration;

use crate::config::Settings;
use yaml::{Node, Place, Value};

/// Write a configuration of this server from that of another agent.
///
/// Of crowdsec it reads crowdsec-spoa-bouncer.yaml: FILE.local goes over it if it is there, ${NAME} is
/// replaced by the environment, and the files of hosts_dir are read too. Of berghain it reads config.yaml,
/// with the same replacement. What has no counterpart here is told on stderr and in a comment. The outcome
/// has the keys and secrets of FILE: with --output its mode is 0600; where it goes to stdout, see to that. It
/// changes nothing and asks nobody.
///
/// Exit codes: 0 when written, with or without warnings; 1 if it cannot be written; 2 for bad flags or
/// files that cannot be read.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Whose configuration it is: crowdsec, or berghain
    #[arg(value_name = "FROM", hide_possible_values = true)]
    from: From,
    /// The configuration, as in /etc/crowdsec/bouncers/crowdsec-spoa-bouncer.yaml or config.yaml
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File to write, which may not be there yet [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    Crowdsec,
    Berghain,
}

/// Runs the command; `usage` is the exit code for what cannot be read.
pub(crate) fn run(arguments: &Import, usage: u8) -> ExitCode {
    let imported = match arguments.from {
        From::Crowdsec => crowdsec(&arguments.file),
        From::Berghain => berghain::berghain(&arguments.file),
    };
    let (text, warnings) = match imported {
        Ok(imported) => imported,
        Err(error) => {
            crate::complain(&error);
            return ExitCode::from(usage);
        }
    };
    for warning in warnings {
        crate::complain(&format!("warning: {warning}"));
    }
    let written = match &arguments.output {
        Some(path) => create(path, &text)
            .map(|()| tell_owner(path))
            .map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => {
                    format!(
                        "{} is there already: move it away, or name another",
                        path.display()
                    )
                }
                _ => format!("cannot write {}: {error}", path.display()),
            }),
        None => match io::stdout().write_all(text.as_bytes()) {
            // Whoever reads has seen enough, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| format!("cannot write the configuration: {error}")),
        },
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says who may read it now, as the service does not run as who has written it.
fn tell_owner(path: &Path) {
    let Ok(own) = fs::metadata(path).map(|metadata| metadata.uid()) else {
        return;
    };
    if ringspoa::user_id(SERVICE_USER).is_ok_and(|user| user.as_raw() == own) {
        return;
    }
    let path = path.display();
    crate::complain(&format!(
        "warning: {path} has secrets, and its owner alone may read it, user {own} now: for the packaged \
         service, chown {SERVICE_USER} {path}"
    ));
}

/// Who the packaged service runs as, and where it may make sockets.
const SERVICE_USER: &str = "ringspoa";
const SERVICE_SOCKETS: &str = "/run/ringspoa/";

/// Not in place of a file that is there, nor through a link: it has secrets.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half of it would be taken for the whole, and be in the way of the next try.
        let _ = fs::remove_file(path);
    }
    written
}

/// The TOML, and what to say about it.
fn crowdsec(path: &Path) -> Result<(String, Vec<String>), String> {
    let mut root = read(path)?;
    let mut local = path.as_os_str().to_owned();
    local.push(".local");
    let local = PathBuf::from(local);
    let has_local = local.exists();
    if has_local {
        root.overlay(read(&local)?);
    }
    let notes = Notes::default();
    let mut head = Section::default();
    head.comment(&format!(
        "Made by `ringspoa import crowdsec` from {}",
        path.display()
    ));
    if has_local {
        head.comment(&format!("and {}.", local.display()));
    }
    expand(&mut root, path, &notes, &mut head);
    let text = Importer { notes: &notes }.import(&root, head)?;
    checked(&text, &notes)?;
    Ok((text, notes.0.into_inner()))
}

/// Puts the environment into it, and says so.
fn expand(root: &mut Node, path: &Path, notes: &Notes, head: &mut Section) {
    let (mut set, mut unset) = (BTreeSet::new(), BTreeSet::new());
    root.expand(&|name| std::env::var(name).ok(), (&mut set, &mut unset));
    for name in &unset {
        notes.warn(format!(
            "{}: ${{{name}}} is not set here, so the outcome has this text where the value belongs and DOES NOT \
             WORK as it is: put the value there, or set the variable and import again",
            path.display()
        ));
        head.comment(&format!(
            "${{{name}}} WAS NOT SET, and stands below as it is written: put its value there."
        ));
    }
    for name in &set {
        head.comment(&format!("${{{name}}} was replaced by its value then."));
    }
}

/// Whatever is written is read here, before somebody else does.
fn checked(text: &str, notes: &Notes) -> Result<(), String> {
    let settings = Settings::parse(text, Path::new("the outcome")).map_err(|e| e.to_string())?;
    let checked = settings
        .prepare()
        .and_then(|prepared| prepared.check().map(|()| prepared));
    if let Err(error) = checked {
        notes.warn(format!(
            "`ringspoa serve --check` would refuse the outcome on this machine: {error}"
        ));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Node, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Node::parse(&text, path)
}

/// What is said on stderr.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Notes {
    fn warn(&self, text: String) {
        self.0.borrow_mut().push(text);
    }
}

/// Lines of TOML that belong together.
#[derive(Default)]
struct Section(String);

impl Section {
    fn table(name: &str) -> Self {
        Self(format!("\n{name}\n"))
    }

    fn comment(&mut self, text: &str) {
        self.0 += "# ";
        // A key of a stranger's file may have any letters: none of them ends the comment.
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        self.0.extend(text.chars().map(plain));
        self.0.push('\n');
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.plain(key, quoted(value));
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
        self.plain(key, format_args!("[{}]", values.join(", ")));
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A table of the YAML while it is read: what of it was asked for is known, and so is the rest.
struct Fields<'n> {
    place: Place,
    entries: Vec<(&'n str, &'n Node)>,
    /// In front of its keys in messages, as in `captcha.`.
    prefix: String,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'n> Fields<'n> {
    fn new(node: &'n Node, prefix: &str) -> Result<Self, String> {
        let place = node.place.clone();
        let entries = match &node.value {
            Value::Null => Vec::new(),
            Value::Table(entries) => entries.iter().map(|(key, node)| (&**key, node)).collect(),
            other => {
                let name = match prefix.trim_end_matches('.') {
                    "" => "the file",
                    name => name,
                };
                return Err(format!("{place}: {name} is {}: want a table", other.what()));
            }
        };
        let (prefix, asked) = (prefix.to_owned(), RefCell::default());
        Ok(Self {
            place,
            entries,
            prefix,
            asked,
        })
    }

    /// One that says something.
    fn get(&self, key: &'static str) -> Option<&'n Node> {
        self.asked.borrow_mut().insert(key);
        let mut entries = self.entries.iter();
        let (_, node) = entries.find(|(known, _)| *known == key)?;
        (node.value != Value::Null).then_some(node)
    }

    fn text(&self, key: &'static str) -> Result<Option<&'n str>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(node) => match &node.value {
                Value::Text(text) => Ok(Some(text)),
                other => Err(self.wrong(node, key, &format!("is {}: want a text", other.what()))),
            },
        }
    }

    /// The same, where an empty text says nothing.
    fn filled(&self, key: &'static str) -> Result<Option<&'n str>, String> {
        Ok(self.text(key)?.filter(|text| !text.is_empty()))
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, String> {
        let Some(text) = self.filled(key)? else {
            return Ok(None);
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(Some(true)),
            "false" | "no" | "off" | "n" => Ok(Some(false)),
            _ => Err(self.bad(key, "want true or false")),
        }
    }

    fn texts(&self, key: &'static str) -> Result<Vec<String>, String> {
        let Some(node) = self.get(key) else {
            return Ok(Vec::new());
        };
        let nodes = match &node.value {
            Value::List(nodes) => &nodes[..],
            _ => std::slice::from_ref(node),
        };
        let texts = nodes.iter().map(|node| match &node.value {
            Value::Text(text) => Ok(text.clone()),
            other => Err(self.wrong(
                node,
                key,
                &format!("has {} in it: want texts", other.what()),
            )),
        });
        texts.collect()
    }

    fn table(&self, key: &'static str) -> Result<Option<Self>, String> {
        let node = self.get(key);
        let prefix = format!("{}{key}.", self.prefix);
        node.map(|node| Self::new(node, &prefix)).transpose()
    }

    /// A duration as Go has it, longer than nothing.
    fn duration(&self, key: &'static str) -> Result<Option<(&'n str, i64)>, String> {
        let Some(text) = self.filled(key)? else {
            return Ok(None);
        };
        match parse_duration(text) {
            Ok(ns) if ns > 0 => Ok(Some((text, ns))),
            Ok(_) => Err(self.bad(key, "want more than 0")),
            Err(error) => Err(self.bad(key, &error.to_string())),
        }
    }

    fn place_of(&self, key: &str) -> &Place {
        let mut entries = self.entries.iter();
        let entry = entries.find(|(known, _)| *known == key);
        entry.map_or(&self.place, |(_, node)| &node.place)
    }

    fn bad(&self, key: &str, what: &str) -> String {
        format!("{}: {}{key}: {what}", self.place_of(key), self.prefix)
    }

    fn wrong(&self, node: &Node, key: &str, what: &str) -> String {
        format!("{}: {}{key} {what}", node.place, self.prefix)
    }
}

/// Keys that have no counterpart, and why.
const WITHOUT: &[(&str, &str)] = &[
    ("log_dir", LOGS),
    ("log_max_size", LOGS),
    ("log_max_files", LOGS),
    ("log_max_backups", LOGS),
    ("log_max_age", LOGS),
    ("compress_logs", LOGS),
    ("log_compression", LOGS),
    (
        "pprof",
        "there is no profile of Go here; perf and the metrics of admin-listen say more",
    ),
    (
        "retry_initial_connect",
        "a LAPI that does not answer is asked again in any case",
    ),
    (
        "challenge_http_listen",
        "AppSec's challenges are not served: requests that it wants one for are turned away, unless words gives \
         challenge another meaning",
    ),
    (
        "challenge_cache_max_entries",
        "AppSec's challenges are not served",
    ),
    (
        "workers",
        "there is one a CPU: see cores. The bouncer ignores it since 0.2.0",
    ),
    (
        "worker_user",
        "see user. The bouncer ignores it since 0.2.0",
    ),
    (
        "worker_group",
        "see group. The bouncer ignores it since 0.2.0",
    ),
    (
        "admin_socket",
        "see admin-listen, `ringspoa lookup` and `table`. The bouncer ignores it since 0.2.0",
    ),
];
const LOGS: &str =
    "the log goes to stderr, and files of it are up to who takes that, as the journal";

struct Importer<'a> {
    notes: &'a Notes,
}

impl Importer<'_> {
    /// Says why something is not taken over, or not as it is.
    fn tell(&self, section: &mut Section, fields: &Fields<'_>, key: &str, reason: &str) {
        self.tell_all(section, fields, &[key], reason);
    }

    /// The same of several at once.
    fn tell_all(&self, section: &mut Section, fields: &Fields<'_>, keys: &[&str], reason: &str) {
        let names: Vec<_> = keys
            .iter()
            .map(|key| format!("{}{key}", fields.prefix))
            .collect();
        // As they may be a stranger's, for the terminal.
        let name = names.join(", ");
        let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
        let place = keys
            .first()
            .map_or(&fields.place, |key| fields.place_of(key));
        self.notes.warn(format!("{place}: {name}: {reason}"));
        section.comment(&format!("{name}: {reason}"));
    }

    /// Keys that nothing asked for.
    fn rest(&self, section: &mut Section, fields: &Fields<'_>) {
        self.rest_of(section, fields, "the bouncer");
    }

    fn rest_of(&self, section: &mut Section, fields: &Fields<'_>, whose: &str) {
        let asked = fields.asked.borrow().clone();
        for (key, _) in &fields.entries {
            if asked.contains(key) {
                continue;
            }
            let known = asked
                .iter()
                .map(|name| (strsim::jaro_winkler(key, name), name));
            let likely = known.filter(|(likeness, _)| *likeness > 0.8);
            let hint = likely
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map_or_else(String::new, |(_, name)| format!("; did you mean {name}?"));
            self.tell(section, fields, key, &format!("is no key of {whose}{hint}"));
        }
    }

    fn without(&self, section: &mut Section, fields: &Fields<'_>, keys: &[(&'static str, &str)]) {
        let mut told: Vec<(&str, Vec<&str>)> = Vec::new();
        for (key, reason) in keys {
            if fields.get(key).is_none() {
                continue;
            }
            match told.iter_mut().find(|(known, _)| known == reason) {
                Some((_, keys)) => keys.push(key),
                None => told.push((reason, vec![key])),
            }
        }
        for (reason, keys) in told {
            self.tell_all(section, fields, &keys, reason);
        }
    }

    fn import(&self, root: &Node, head: Section) -> Result<String, String> {
        let root = Fields::new(root, "")?;
        let top = self.top(&root, head)?;
        let mut remediation = Section::table("[remediation]");
        remediation
            .comment("Where decisions are kept for the next start, and for `ringspoa lookup`:");
        remediation.text("state-file", "/var/lib/ringspoa/decisions");
        let geo = root.table("geo")?;
        for (key, older, to) in [
            ("city", "city_database_path", "city-database"),
            ("asn", "asn_database_path", "asn-database"),
        ] {
            let newer = geo.as_ref().map(|geo| geo.filled(key)).transpose()?;
            if let Some(path) = newer.flatten().or(root.filled(older)?) {
                remediation.text(to, path);
            }
        }
        if let Some(geo) = geo {
            // How the files are watched; here they are looked at each minute, which does on any file system.
            geo.get("stat");
            self.rest(&mut remediation, &geo);
        }
        let crowdsec = self.lapi(&root)?;
        let appsec = self.common_appsec(&root)?;
        let hosts = self.hosts(&root)?;
        let mut unused = Section::default();
        let logs = (root.filled("log_mode")? == Some("file")).then_some(("log_mode", LOGS));
        let without: Vec<_> = logs.into_iter().chain(WITHOUT.iter().copied()).collect();
        self.without(&mut unused, &root, &without);
        self.rest(&mut unused, &root);
        if !unused.0.is_empty() {
            unused.0 = format!("\n# Not taken over:\n{}", unused.0);
        }
        Ok([top, unused, remediation, crowdsec, appsec, hosts]
            .map(|section| section.0)
            .concat())
    }

    fn top(&self, root: &Fields<'_>, mut top: Section) -> Result<Section, String> {
        let mut listen = Vec::new();
        if let Some(address) = root.filled("listen_tcp")? {
            listen.extend(tcp(address).map_err(|error| root.bad("listen_tcp", &error))?);
        }
        if let Some(path) = root.filled("listen_unix")? {
            if path.contains(',') {
                return Err(root.bad("listen_unix", "a comma cannot be in the path of a socket"));
            }
            top.comment(
                "The folder of the socket has to be there, and HAProxy in the socket's group.",
            );
            if !path.starts_with(SERVICE_SOCKETS) {
                let reason = format!(
                    "the packaged service may make sockets below {SERVICE_SOCKETS} alone: with it, say \
                     \"unix:{SERVICE_SOCKETS}ringspoa.sock,mode=660\" in listen and \
                     unix@{SERVICE_SOCKETS}ringspoa.sock in the server line of haproxy.cfg"
                );
                self.tell(&mut top, root, "listen_unix", &reason);
            }
            listen.push(format!("unix:{path},mode=660"));
        }
        if listen.is_empty() {
            return Err(format!(
                "{}: there is neither listen_tcp nor listen_unix, and so the bouncer would not start",
                root.place
            ));
        }
        top.texts("listen", &listen);
        if let Some(prometheus) = root.table("prometheus")? {
            let address = prometheus.text("listen_addr")?.unwrap_or_default();
            let port = prometheus.filled("listen_port")?;
            if prometheus.flag("enabled")? == Some(true) {
                let port = port.ok_or_else(|| {
                    let place = &prometheus.place;
                    format!("{place}: prometheus.listen_port: is missing, as in \"60601\"")
                })?;
                let joined = match address.contains(':') && !address.starts_with('[') {
                    true => format!("[{address}]:{port}"),
                    false => format!("{address}:{port}"),
                };
                let at = tcp(&joined).map_err(|error| prometheus.bad("listen_addr", &error))?;
                if at.len() > 1 {
                    let reason = "is empty: metrics are shown on addresses of IPv4 alone";
                    self.tell(&mut top, &prometheus, "listen_addr", reason);
                }
                top.text("admin-listen", &at[0]);
            }
            self.rest(&mut top, &prometheus);
        }
        if let Some(level) = root.filled("log_level")? {
            top.text(
                "log-level",
                level_of(level).ok_or_else(|| {
                    root.bad(
                        "log_level",
                        "want trace, debug, info, warn, error, fatal or panic",
                    )
                })?,
            );
        }
        match root.filled("log_mode")? {
            None | Some("stdout" | "file") => {}
            Some(_) => return Err(root.bad("log_mode", "want file or stdout")),
        }
        top.comment(
            "When an answer that waits for AppSec or a captcha's provider is given up for the",
        );
        top.comment("fallback. Keep it below `timeout processing` of HAProxy's SPOE file, which is 500ms in");
        top.comment("the bouncer's, and above what AppSec has:");
        top.plain("agent-deadline-ms", 400);
        Ok(top)
    }

    fn lapi(&self, root: &Fields<'_>) -> Result<Section, String> {
        let mut section = Section::table("[remediation.crowdsec]");
        let url = root.filled("api_url")?;
        let url = url.ok_or_else(|| {
            format!(
                "{}: api_url: is missing, as in http://127.0.0.1:8080/",
                root.place
            )
        })?;
        section.text("url", url);
        let key = root.filled("api_key")?;
        match (key, root.filled("cert_path")?, root.filled("key_path")?) {
            (Some(key), None, None) => section.text("key", key),
            (None, Some(certificate), Some(key)) => {
                section.text("certificate", certificate);
                section.text("private-key", key);
            }
            _ => {
                return Err(format!(
                    "{}: want either api_key, or both cert_path and key_path",
                    root.place
                ));
            }
        }
        if let Some(path) = root.filled("ca_cert_path")? {
            section.text("ca-file", path);
        }
        if root.flag("insecure_skip_verify")? == Some(true) {
            section.plain("insecure", true);
        }
        match root.duration("update_frequency")? {
            // What is less than a millisecond is as often as can be said.
            Some((_, ns)) => section.plain("update-frequency-ms", (ns / 1_000_000).max(1)),
            None => section.comment("update-frequency-ms = 10000"),
        }
        for (from, to) in [
            ("scopes", "scopes"),
            ("origins", "origins"),
            ("scenarios_containing", "scenarios-containing"),
            ("scenarios_not_containing", "scenarios-not-containing"),
        ] {
            let texts = root.texts(from)?;
            if !texts.is_empty() {
                section.texts(to, &texts);
            }
        }
        Ok(section)
    }

    fn common_appsec(&self, root: &Fields<'_>) -> Result<Section, String> {
        let timeout = root.duration("appsec_timeout")?;
        let Some(url) = root.filled("appsec_url")? else {
            let mut section = Section::default();
            if timeout.is_some() {
                let reason = "there is no appsec_url that it would be for";
                self.tell(&mut section, root, "appsec_timeout", reason);
            }
            return Ok(section);
        };
        let mut section = Section::table("[remediation.appsec]");
        section.text("url", url);
        match root.filled("api_key")? {
            Some(key) => section.text("api-key", key),
            None => {
                let reason = "has no key, as a certificate is none for AppSec: set api-key";
                self.tell(&mut section, root, "appsec_url", reason);
            }
        }
        if let Some((text, _)) = timeout {
            section.text("timeout", text);
        }
        Ok(section)
    }

    fn hosts(&self, root: &Fields<'_>) -> Result<Section, String> {
        let mut section = Section::default();
        if let Some(node) = root.get("hosts") {
            let Value::List(hosts) = &node.value else {
                let what = format!("is {}: want a list of hosts", node.value.what());
                return Err(root.wrong(node, "hosts", &what));
            };
            for (index, host) in hosts.iter().enumerate() {
                let host = Fields::new(host, &format!("hosts[{index}]."))?;
                section.0 += &self.host(&host)?.0;
            }
        }
        if let Some(folder) = root.filled("hosts_dir")? {
            for path in host_files(Path::new(folder))
                .map_err(|error| root.bad("hosts_dir", &format!("cannot read {folder}: {error}")))?
            {
                let node = read(&path)?;
                let host = Fields::new(&node, "")?;
                section.0.push('\n');
                section.comment(&format!("From {}:", path.display()));
                section.0 += self.host(&host)?.0.trim_start_matches('\n');
            }
        }
        Ok(section)
    }

    fn host(&self, host: &Fields<'_>) -> Result<Section, String> {
        let mut section = Section::table("[[remediation.host]]");
        match host.filled("host")? {
            Some(pattern) => section.text("host", pattern),
            None => return Err(host.bad("host", "is missing: name the host, or * for all")),
        }
        self.without(
            &mut section,
            host,
            &[("log_level", "there is one level for all: see log-level")],
        );
        let (captcha, ban) = (host.table("captcha")?, host.table("ban")?);
        let appsec = host.table("appsec")?;
        self.rest(&mut section, host);
        if let Some(captcha) = captcha {
            section.0 += &self.captcha(&captcha)?.0;
        }
        if let Some(ban) = ban {
            let mut table = Section::table("[remediation.host.ban]");
            if let Some(url) = ban.filled("contact_us_url")? {
                table.text("contact-us-url", url);
            }
            self.rest(&mut table, &ban);
            section.0 += &table.0;
        }
        if let Some(appsec) = appsec {
            section.0 += &self.host_appsec(&appsec)?.0;
        }
        Ok(section)
    }

    fn captcha(&self, captcha: &Fields<'_>) -> Result<Section, String> {
        let mut section = Section::table("[remediation.host.captcha]");
        for (from, to) in [
            ("provider", "provider"),
            ("site_key", "site-key"),
            ("secret_key", "secret-key"),
            ("fallback_remediation", "fallback-remediation"),
        ] {
            if let Some(text) = captcha.filled(from)? {
                section.text(to, text);
            }
        }
        // The name it had before.
        let older = captcha.filled("cookie_secret")?;
        if let Some(text) = captcha.filled("signing_key")?.or(older) {
            section.text("signing-key", text);
        }
        if let Some(text) = captcha.filled("timeout")? {
            let seconds = text
                .parse::<i64>()
                .map_err(|_| captcha.bad("timeout", "want whole seconds, as in 5"))?;
            section.plain("timeout", seconds);
        }
        for (from, to, default) in [
            ("pending_ttl", "pending-ttl", "30m"),
            ("passed_ttl", "passed-ttl", "24h"),
        ] {
            let Some(text) = captcha.filled(from)? else {
                continue;
            };
            match parse_duration(text) {
                Ok(_) => {
                    section.text(to, text);
                    if text.contains(['d', 'w']) {
                        let reason = format!(
                            "the bouncer takes {text} for its default, {default}, as Go has no days; \
                             here it is what it says"
                        );
                        self.tell(&mut section, captcha, from, &reason);
                    }
                }
                Err(error) => {
                    let reason = format!("{error}: {default} holds, as with the bouncer");
                    self.tell(&mut section, captcha, from, &reason);
                }
            }
        }
        self.without(
            &mut section,
            captcha,
            &[(
                "grace_period",
                "see passed-ttl. The bouncer ignores it since 0.3.0",
            )],
        );
        let cookie = captcha.table("cookie")?;
        self.rest(&mut section, captcha);
        if let Some(cookie) = cookie {
            let mut table = Section::table("[remediation.host.captcha.cookie]");
            match cookie.filled("secure")? {
                None => {}
                Some(text @ ("auto" | "always" | "never")) => table.text("secure", text),
                Some(_) => {
                    table.text("secure", "never");
                    let reason = "is none of auto, always and never, and means never";
                    self.tell(&mut table, &cookie, "secure", reason);
                }
            }
            if let Some(is_http_only) = cookie.flag("http_only")? {
                table.plain("http-only", is_http_only);
            }
            self.rest(&mut table, &cookie);
            section.0 += &table.0;
        }
        Ok(section)
    }

    fn host_appsec(&self, appsec: &Fields<'_>) -> Result<Section, String> {
        let mut section = Section::table("[remediation.host.appsec]");
        let url = appsec.filled("url")?;
        let key = appsec.filled("api_key")?;
        for (text, to) in [(url, "url"), (key, "api-key")] {
            if let Some(text) = text {
                section.text(to, text);
            }
        }
        if url.is_some() && key.is_none() {
            let reason = "has no api_key, with which the bouncer asks nothing; here the key of all hosts \
                          is used";
            self.tell(&mut section, appsec, "url", reason);
        }
        if let Some((text, _)) = appsec.duration("timeout")? {
            section.text("timeout", text);
        }
        if let Some(always) = appsec.flag("always_send")? {
            section.plain("always-send", always);
            if always && url.is_none() {
                let reason = "has no effect in the bouncer without a url beside it; here it has";
                self.tell(&mut section, appsec, "always_send", reason);
            }
        }
        self.rest(&mut section, appsec);
        Ok(section)
    }
}

/// The files that hold a host each, by their names.
fn host_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Where to listen, of `HOST:PORT` as Go has it.
fn tcp(address: &str) -> Result<Vec<String>, String> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    if port.parse::<u16>().is_err() {
        return Err("want an address and a port, as in 127.0.0.1:9000".to_owned());
    }
    match host {
        // All addresses, of both families.
        "" => Ok(vec![format!("0.0.0.0:{port}"), format!("[::]:{port}")]),
        "localhost" => Ok(vec![format!("127.0.0.1:{port}")]),
        _ if address.parse::<std::net::SocketAddr>().is_ok() => Ok(vec![address.to_owned()]),
        _ => Err("names are not looked up here: want an address, as in 127.0.0.1".to_owned()),
    }
}

fn level_of(level: &str) -> Option<&'static str> {
    Some(match level.to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "fatal" | "panic" => "error",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_go_takes() {
        for (address, expected) in [
            ("127.0.0.1:9000", &["127.0.0.1:9000"][..]),
            ("[::1]:9000", &["[::1]:9000"]),
            (":9000", &["0.0.0.0:9000", "[::]:9000"]),
            ("localhost:9000", &["127.0.0.1:9000"]),
        ] {
            assert_eq!(tcp(address).unwrap(), expected);
        }
        for address in [
            "",
            "9000",
            "host:9000",
            "::1:9000",
            "127.0.0.1:",
            "127.0.0.1:70000",
        ] {
            tcp(address).unwrap_err();
        }
    }

    #[test]
    fn strings_and_comments_keep_what_is_in_them() {
        let mut section = Section::default();
        section.comment("a\nb = 1\r\x07");
        section.text("key", "a\"\\\n\u{7f}ü");
        let table: toml::Table = section.0.parse().unwrap();
        assert_eq!(table["key"].as_str(), Some("a\"\\\n\u{7f}ü"));
        assert_eq!(table.len(), 1);
    }
}
