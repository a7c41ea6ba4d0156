//! What the rules of browser validation and its settings say of each other.

use std::time::Duration;

use super::super::finding::{Findings, Place};
use super::super::model::{Config, Engine, Proxy, Section, listed};
use super::super::read::Line;
use super::messages::arguments_with_places;
use super::{CheckOptions, declaration, engines_in_use};

/// The agent's name.
const AGENT: &str = "challenge";

/// What of the settings of browser validation rules have to agree with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChallengeFacts {
    /// Where the page's requests go, as in `/.challenge`.
    pub path: String,
    /// The realms.
    pub realms: Vec<RealmFacts>,
}

/// What of a realm rules have to agree with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RealmFacts {
    /// Its name; `default` serves all names that no other has.
    pub name: String,
    /// How many levels it has.
    pub levels: usize,
    /// How long the slowest provider of its captchas may take, if it has one.
    pub captcha_timeout: Option<Duration>,
    /// Whether it has a level that needs the browser's own cryptography, which is there over TLS alone.
    pub needs_tls: bool,
}

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    let Some(facts) = &options.challenge else {
        return;
    };
    let is_ours =
        |engine: &Engine| declaration(engine, options).is_some_and(|one| one.name == AGENT);
    let engines: Vec<_> = engines_in_use(config)
        .filter(|(_, engine)| is_ours(engine))
        .collect();
    for (index, engine) in &engines {
        let realms = realms(config, *index, engine, facts);
        captchas(engine, &realms, found);
        levels(config, engine, &realms, found);
        if config.has_main {
            tls(config, *index, engine, facts, found);
        }
    }
    if config.has_main {
        let engines: Vec<_> = engines.iter().map(|(_, engine)| *engine).collect();
        path(config, &engines, &facts.path, found);
    }
}

/// Whether a message has the frontend's name for its realm.
fn is_of_frontend(message: &Section) -> bool {
    let arguments = arguments_with_places(message);
    let value = |name: &str| {
        let mut all = arguments.iter().map(|(argument, _)| argument);
        all.find(|argument| argument.name == name)
            .map(|argument| argument.expression.as_str())
    };
    value("realm").or_else(|| value("frontend")) == Some("fe_name")
}

fn realm<'f>(facts: &'f ChallengeFacts, name: &str) -> Option<&'f RealmFacts> {
    let find = |name| facts.realms.iter().find(|realm| realm.name == name);
    find(name).or_else(|| find("default"))
}

/// The realms that an engine may ask for: those of its frontends, where it names them so, else any.
fn realms<'f>(
    config: &Config,
    index: usize,
    engine: &Engine,
    facts: &'f ChallengeFacts,
) -> Vec<&'f RealmFacts> {
    if !config.has_main || !engine.messages.iter().all(is_of_frontend) {
        return facts.realms.iter().collect();
    }
    // A backend's requests come from any frontend.
    let mut filters = config.filters_of(index);
    let is_of_backend = filters.any(|filter| !config.proxies[filter.proxy].is_frontend());
    let is_asking = |proxy: &usize| {
        let mut filters = config.filters_of(index);
        is_of_backend || filters.any(|filter| filter.proxy == *proxy)
    };
    let frontends = (0..config.proxies.len()).filter(|proxy| config.proxies[*proxy].is_frontend());
    let names = frontends
        .filter(is_asking)
        .map(|proxy| config.proxies[proxy].name());
    names.filter_map(|name| realm(facts, name)).collect()
}

/// Solutions wait for the provider of a captcha.
fn captchas(engine: &Engine, realms: &[&RealmFacts], found: &mut Findings) {
    let has_solutions = ["verify", "challenge"]
        .iter()
        .any(|name| engine.message(name).is_some());
    let longest = realms
        .iter()
        .filter_map(|realm| realm.captcha_timeout)
        .max();
    let (true, Some(provider), Some(timeout)) =
        (has_solutions, longest, engine.timeout("processing"))
    else {
        return;
    };
    if let Some(processing) = timeout.duration().filter(|time| !time.is_zero())
        && processing <= provider
    {
        found.warning(
            "timeout-processing-short",
            timeout.place,
            format!(
                "HAProxy gives up after {processing:?}, and a captcha's provider may take {provider:?} \
                 (timeout-s of the level): who solved it is told to try again"
            ),
            format!(
                "raise timeout processing to {:?}, in the engine that solutions are sent by, or lower timeout-s",
                provider.saturating_add(Duration::from_secs(1))
            ),
        );
    }
}

/// The number of `int(3)`.
fn constant(expression: &str) -> Option<u64> {
    let number = expression.strip_prefix("int(")?.strip_suffix(')')?;
    number.parse().ok()
}

/// The variable of `var(txn.ask.level)`.
fn variable(expression: &str) -> Option<&str> {
    let name = expression.strip_prefix("var(")?.strip_suffix(')')?;
    (!name.contains([',', ')'])).then_some(name)
}

/// Levels above the last, which the agent takes for it.
fn levels(config: &Config, engine: &Engine, realms: &[&RealmFacts], found: &mut Findings) {
    let Some(most) = realms.iter().map(|realm| realm.levels).max() else {
        return;
    };
    let mut judge = |level: Option<u64>, place: Place| {
        let Some(level) = level.filter(|level| *level > most as u64) else {
            return;
        };
        let plural = if most == 1 { "" } else { "s" };
        found.note(
            "challenge-level",
            place,
            format!("level {level} is asked for, and the realm has {most} level{plural}: the last one is taken"),
            "ask for a level that there is, or add a [[challenge.realm.level]]",
        );
    };
    for message in &engine.messages {
        for (argument, place) in arguments_with_places(message) {
            if argument.name != "level" || argument.is_open {
                continue;
            }
            judge(constant(&argument.expression), place);
            let Some(name) = variable(&argument.expression) else {
                continue;
            };
            let call = format!("set-var({name})");
            for line in &config.main_lines {
                let mut words = line.words.iter();
                if words.any(|word| word.text == call)
                    && let Some(value) = words.next().filter(|word| !word.is_open)
                {
                    judge(constant(&value.text), line.place);
                }
            }
        }
    }
}

/// Where the browser's own cryptography is not to be had.
fn tls(
    config: &Config,
    index: usize,
    engine: &Engine,
    facts: &ChallengeFacts,
    found: &mut Findings,
) {
    // Who has another expression there knows of a balancer that ends TLS.
    let is_direct = |message: &Section| {
        let mut arguments = arguments_with_places(message).into_iter();
        arguments.any(|(argument, _)| argument.name == "secure" && argument.expression == "ssl_fc")
    };
    if engine.message("issue").is_none() || !engine.messages.iter().all(is_direct) {
        return;
    }
    for filter in config.filters_of(index) {
        let proxy = &config.proxies[filter.proxy];
        let needs_tls = realm(facts, proxy.name()).is_some_and(|realm| realm.needs_tls);
        if needs_tls && engine.messages.iter().all(is_of_frontend) && is_plain(proxy) {
            found.warning(
                "challenge-tls",
                proxy.place(),
                format!(
                    "the realm of '{}' has a level of type pbkdf2, which browsers solve over TLS alone, and no \
                     bind line has ssl",
                    proxy.name()
                ),
                "add a bind line with ssl, or take a level of type pow; if a balancer ends TLS, have secure= say so",
            );
        }
    }
}

/// Whether nothing comes over TLS, or from this machine, which browsers take for as good.
fn is_plain(proxy: &Proxy) -> bool {
    let mut binds = proxy
        .all_lines()
        .filter(|line| line.word(0) == "bind")
        .peekable();
    let is_public = |line: &Line| {
        let words = line.rest(1);
        let address = line.word(1);
        let is_local = [
            "127.",
            "localhost:",
            "[::1]",
            "::1:",
            "unix@",
            "/",
            "abns@",
            "fd@",
        ]
        .iter()
        .any(|local| address.starts_with(local));
        let is_other = words.iter().any(|word| {
            word.is_open
                || matches!(word.text.as_str(), "ssl" | "accept-proxy")
                || word.text.starts_with("quic")
        });
        !is_local && !is_other
    };
    binds.peek().is_some() && binds.all(is_public)
}

/// Whether the rules know where the page's requests go. berghain's, by its one message, have a path of their
/// own, which its page is told.
fn path(config: &Config, engines: &[&Engine], path: &str, found: &mut Findings) {
    let is_issued = |line: &&Line| {
        let mut words = line.words.iter();
        words.any(|word| word.text == "send-spoe-group") && {
            let (name, group) = (words.next(), words.next());
            let is_it =
                |engine: &&&Engine| Some(engine.name()) == name.map(|word| word.text.as_str());
            let engine = engines.iter().find(is_it);
            let group = engine.and_then(|engine| engine.group(&group?.text));
            group.is_some_and(|group| {
                listed(group, "messages").any(|(word, _)| word.text == "issue")
            })
        }
    };
    let Some(line) = config.main_lines.iter().find(is_issued) else {
        return;
    };
    // Files, maps and the environment may have any.
    let may_be_any = |line: &Line| {
        let mut words = line.words.iter();
        let is_of_file = words
            .any(|word| word.text.starts_with("path") && !word.text.starts_with("path_reg"))
            && words.any(|word| word.text == "-f");
        let is_map = |text: &str| text.contains("path") && text.contains(",map");
        is_of_file
            || line
                .words
                .iter()
                .any(|word| word.is_open || is_map(&word.text))
    };
    let has = |line: &Line, path: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let mut words = line.words.iter();
        words.any(|word| {
            let text = word.text.replace('\\', "");
            let mut matches = text.match_indices(path);
            matches.any(|(at, _)| {
                let (before, after) = (&text[..at], &text[at + path.len()..]);
                !before.ends_with(is_part) && !after.starts_with(is_part)
            })
        })
    };
    let main = &config.main_lines;
    if main.iter().any(|line| has(line, path) || may_be_any(line)) {
        return;
    }
    // What the rules have instead, as the samples write it.
    let theirs = main.iter().find_map(|line| {
        let words = line.words.iter();
        let bases = words.filter_map(|word| word.text.strip_suffix("/ok"));
        let mut bases = bases.filter(|base| base.starts_with('/'));
        let base = bases.find(|base| {
            main.iter()
                .any(|line| line.words.iter().any(|word| word.text == *base))
        })?;
        Some((base.to_owned(), line.place))
    });
    let (place, text, fix) = match theirs {
        Some((theirs, place)) => (
            place,
            format!(
                "the rules take the page's requests at {theirs}, and path of [challenge] is {path}"
            ),
            format!(
                "write path = \"{theirs}\", or {path} here; and make the page anew with ringspoa page"
            ),
        ),
        None => (
            line.place,
            format!("no rule has {path}, path of [challenge], where the page's requests go"),
            format!(
                "take them there, as the samples do with path {path}, or change path; and make the page anew"
            ),
        ),
    };
    found.warning("challenge-path", place, text, fix);
}
