//! Engines and filters: that they find each other, and that HAProxy knows the keywords.

use super::super::finding::Findings;
use super::super::model::{
    Config, Engine, Kind, LONGEST, Section, base_name, is_name_character, parse_time,
};
use super::super::read::Line;
use super::super::similar::hint;
use super::CheckOptions;
use crate::agent::AgentDeclaration;

/// Decides which agent each engine is for.
pub(super) fn match_agents(config: &mut Config, options: &CheckOptions) {
    for engine in &mut config.engines {
        let find = |is_it: fn(&Engine, &AgentDeclaration) -> bool| {
            let mut agents = options.agents.iter();
            agents.position(|agent| is_it(engine, agent))
        };
        let named = find(has_name);
        let declaration = named.or_else(|| find(has_message));
        engine.is_by_message = named.is_none() && !options.is_for_any_engine;
        engine.declaration = declaration;
    }
    let is_matched = config
        .engines
        .iter()
        .any(|engine| engine.declaration.is_some());
    if options.is_for_any_engine && options.agents.len() == 1 && !is_matched {
        for engine in &mut config.engines {
            engine.declaration = Some(0);
        }
    }
}

fn has_name(engine: &Engine, agent: &AgentDeclaration) -> bool {
    engine.scope.as_ref() == Some(&agent.name)
        || engine
            .agent()
            .is_some_and(|section| section.name() == agent.name)
        || engine.prefix() == Some(&agent.name)
}

fn has_message(engine: &Engine, agent: &AgentDeclaration) -> bool {
    let mut messages = agent.messages.iter();
    messages.any(|message| {
        let mut names = std::iter::once(&message.name).chain(message.aliases);
        names.any(|name| engine.message(name).is_some())
    })
}

pub(super) fn check(config: &Config, found: &mut Findings) {
    filters(config, found);
    for (index, engine) in config.engines.iter().enumerate() {
        // Of a scope that is none it was said already.
        let is_named = engine.scope.as_deref() != Some("");
        let is_used = !config.has_main || config.filters_of(index).next().is_some();
        if engine.agent().is_some() && is_named && !is_used {
            found.warning(
                "engine-unused",
                engine.place,
                format!(
                    "no filter uses engine '{}': nothing of it is read",
                    engine.name()
                ),
                format!(
                    "add to a frontend: filter spoe engine {} config FILE; or take the engine out",
                    engine.name()
                ),
            );
        }
        if let Some(second) = engine.agents.get(1) {
            found.error(
                "engine-duplicate",
                second.place(),
                format!(
                    "engine '{}' has two spoe-agent sections: HAProxy does not start",
                    engine.name()
                ),
                "give the second one a scope of its own, a line with [NAME] before it",
            );
        }
        keywords(config, engine, found);
    }
}

fn filters(config: &Config, found: &mut Findings) {
    for line in &config.main_lines {
        if !line.begins(&["filter", "spoe"]) {
            continue;
        }
        if !config
            .filters
            .iter()
            .any(|filter| filter.place == line.place)
        {
            found.error(
                "filter-invalid",
                line.place,
                "HAProxy takes no filter in this section: it does not start",
                "move the line into the frontends that are to have it",
            );
        }
    }
    for (index, filter) in config.filters.iter().enumerate() {
        let Some(path) = &filter.config else {
            found.error(
                "filter-invalid",
                filter.place,
                "the filter names no file: HAProxy does not start",
                "add: config FILE",
            );
            continue;
        };
        let name = filter.engine.as_ref().map(|word| word.text.as_str());
        let earlier = config.filters[..index].iter();
        if earlier
            .filter(|other| other.proxy == filter.proxy)
            .any(|other| other.engine == filter.engine)
        {
            found.error(
                "engine-duplicate",
                filter.place,
                format!(
                    "a filter above has engine '{}' already: HAProxy does not start",
                    name.unwrap_or_default()
                ),
                "take this line out, or name another engine",
            );
        }
        let is_open = path.is_open || filter.engine.as_ref().is_some_and(|word| word.is_open);
        if filter.target.is_some() || is_open {
            continue;
        }
        // Files that only other filters name are not where this engine should be.
        let is_claimed = |file: usize| {
            let mut targets = config.filters.iter().filter_map(|other| other.target);
            base_name(&config.names[file]) != base_name(&path.text)
                && targets.any(|target| config.engines[target].place.file == file)
        };
        let candidates: Vec<_> = config
            .engines
            .iter()
            .filter(|engine| !is_claimed(engine.place.file))
            .collect();
        let is_given = |file: &String| base_name(file) == base_name(&path.text);
        if candidates.is_empty() && !config.names.iter().any(is_given) {
            found.note(
                "engine-not-given",
                filter.place,
                format!("{} was not given, so the engine was not checked", path.text),
                format!("name it too: ringspoa check ... {}", path.text),
            );
            continue;
        }
        let scopes = candidates
            .iter()
            .filter_map(|engine| engine.scope.as_deref());
        let (text, fix) = match name {
            Some(name) => (
                format!(
                    "no file given has the agent of engine '{name}'{}: HAProxy does not start",
                    hint(name, scopes)
                ),
                format!("begin the engine's file with [{name}], or name the engine as it is there"),
            ),
            None => (
                "the filter names no engine, and the files given have only engines with a name: HAProxy \
                 does not start"
                    .to_owned(),
                "add the name in brackets: filter spoe engine NAME config FILE".to_owned(),
            ),
        };
        found.error("engine-not-found", filter.place, text, fix);
    }
    for filter in &config.filters {
        let target = filter.target.and_then(|index| config.engines.get(index));
        if target.is_some_and(|engine| engine.agents.is_empty()) {
            found.error(
                "engine-not-found",
                filter.place,
                "the engine has no spoe-agent section: HAProxy does not start",
                "add spoe-agent NAME to the engine, below its [scope]",
            );
        }
    }
}

/// Keywords of a `spoe-agent` section.
const AGENT: &[&str] = &[
    "groups",
    "log",
    "max-frame-size",
    "max-waiting-frames",
    "maxconnrate",
    "maxerrrate",
    "messages",
    "option",
    "register-var-names",
    "timeout",
    "use-backend",
];

/// Options of a `spoe-agent` section, and whether they may stand behind `no`.
const OPTIONS: &[(&str, bool)] = &[
    ("async", true),
    ("continue-on-error", false),
    ("dontlog-normal", true),
    ("force-set-var", false),
    ("pipelining", true),
    ("send-frag-payload", true),
    ("set-on-error", false),
    ("set-process-time", false),
    ("set-total-time", false),
    ("var-prefix", false),
];

const TIMEOUTS: &[&str] = &["hello", "idle", "processing"];
const MESSAGE: &[&str] = &["acl", "args", "event"];
const GROUP: &[&str] = &["messages"];

fn keywords(config: &Config, engine: &Engine, found: &mut Findings) {
    for section in &engine.agents {
        name(section, found);
        for line in &section.body {
            agent_keyword(config, line, found);
        }
    }
    for section in &engine.messages {
        name(section, found);
        for line in &section.body {
            // HAProxy passes over them without a word, so that a slip is easily missed.
            if !MESSAGE.contains(&line.word(0)) {
                let word = line.word(0);
                found.warning(
                    "keyword-unknown",
                    line.place,
                    format!(
                        "'{word}' is no keyword of spoe-message{}: HAProxy passes over the line",
                        hint(word, MESSAGE.iter().copied())
                    ),
                    "a message has acl, args and event",
                );
            }
        }
    }
    for section in &engine.groups {
        name(section, found);
        for line in &section.body {
            if !GROUP.contains(&line.word(0)) {
                unknown(line, line.word(0), "keyword of spoe-group", GROUP, found);
            }
        }
    }
}

fn unknown(line: &Line, word: &str, what: &str, known: &[&str], found: &mut Findings) {
    found.error(
        "keyword-unknown",
        line.place,
        format!(
            "'{word}' is no {what}{}: HAProxy does not start",
            hint(word, known.iter().copied())
        ),
        format!("these are: {}", known.join(", ")),
    );
}

fn name(section: &Section, found: &mut Findings) {
    let (keyword, name) = (section.keyword(), section.name());
    if section.head.words.len() != 2 || !name.chars().all(is_name_character) || name.is_empty() {
        found.error(
            "syntax",
            section.place(),
            format!("{keyword} wants one name: HAProxy does not start"),
            "write one word of letters, digits, '-', '_', '.' and ':'",
        );
    }
}

fn agent_keyword(config: &Config, line: &Line, found: &mut Findings) {
    let version = config.version;
    let ignored = |what: &str, instead: &str, found: &mut Findings| {
        found.note(
            "keyword-ignored",
            line.place,
            format!("HAProxy {version} takes '{what}' and does nothing with it"),
            instead,
        );
    };
    let negated = usize::from(line.word(0) == "no");
    match line.word(negated) {
        "option" => {
            let option = line.word(negated + 1);
            match OPTIONS.iter().find(|(known, _)| *known == option) {
                None => {
                    let known: Vec<_> = OPTIONS.iter().map(|(known, _)| *known).collect();
                    unknown(line, option, "option of spoe-agent", &known, found);
                }
                Some((_, false)) if negated == 1 => found.error(
                    "keyword-unknown",
                    line.place,
                    format!("'no option {option}' is none: HAProxy does not start"),
                    "take the line out: without it the option is off",
                ),
                Some((
                    "set-on-error" | "set-process-time" | "set-total-time" | "var-prefix",
                    _,
                )) if line.words.len() < 3 => found.error(
                    "value-invalid",
                    line.place,
                    format!("option {option} names no variable: HAProxy does not start"),
                    format!("add a name, of letters, digits, '_' and '.': option {option} NAME"),
                ),
                Some(("async" | "send-frag-payload", _)) if version.has_multiplexer() => ignored(
                    &format!("option {option}"),
                    "take the line out, unless the file is for 3.0 and earlier too",
                    found,
                ),
                Some(_) => {}
            }
        }
        "timeout" => timeout(config, line, found),
        word @ ("maxconnrate" | "maxerrrate" | "max-waiting-frames")
            if version.has_multiplexer() =>
        {
            let instead = match word {
                "max-waiting-frames" => {
                    "take the line out: there are up to 20 messages a connection"
                }
                _ => {
                    "take the line out; maxconn on the server line limits connections to the agent"
                }
            };
            ignored(word, instead, found);
        }
        word if negated == 1 || !AGENT.contains(&word) => {
            unknown(line, line.word(0), "keyword of spoe-agent", AGENT, found);
        }
        _ => {}
    }
}

fn timeout(config: &Config, line: &Line, found: &mut Findings) {
    let name = line.word(1);
    if !TIMEOUTS.contains(&name) {
        return unknown(line, name, "timeout of spoe-agent", TIMEOUTS, found);
    }
    let word = line.words.get(2);
    let time = word.and_then(|word| parse_time(&word.text));
    match (word, time) {
        (Some(word), _) if word.is_open => {}
        (_, Some(time)) if time <= LONGEST => {}
        (Some(word), Some(_)) => found.error(
            "value-invalid",
            line.place,
            format!(
                "timeout {name} is {}, and HAProxy takes {} ms at most: it does not start",
                word.text,
                LONGEST.as_millis()
            ),
            "write a time that people wait, as in 100ms",
        ),
        (word, _) => found.error(
            "value-invalid",
            line.place,
            format!(
                "timeout {name} wants a time, and '{}' is none: HAProxy does not start",
                word.map_or("", |word| &word.text)
            ),
            "write a number and ms, s, m, h or d, as in 100ms",
        ),
    }
    if name != "processing" && config.version.has_multiplexer() {
        let instead = match name {
            "hello" => "the backend's timeout connect covers the handshake; take the line out",
            _ => "pool-purge-delay on the server line ends idle connections; take the line out",
        };
        found.note(
            "keyword-ignored",
            line.place,
            format!(
                "HAProxy {} takes 'timeout {name}' and does nothing with it",
                config.version
            ),
            format!("{instead}, unless the file is for 3.0 and earlier too"),
        );
    }
}

/// How a proxy is called in a sentence.
pub(super) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Frontend => "frontend",
        Kind::Backend => "backend",
        Kind::Listen => "listen section",
    }
}
