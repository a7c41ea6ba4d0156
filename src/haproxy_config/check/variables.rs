//! Variables: what the agent sets, and what rules read.

use super::super::finding::{Findings, Place};
use super::super::model::{Config, Engine};
use super::super::read::{Line, Word};
use super::super::samples::Event;
use super::super::similar::{closest, hint};
use super::messages::event;
use super::{CheckOptions, declaration, engines_in_use};
use crate::message::VariableDeclaration;
use crate::spop::Scope;

/// The longest `scope.prefix.name`: HAProxy has 64 bytes for it, NUL included.
const MAX_LEN: usize = 63;

/// Options that name a variable of scope txn.
const NAMING: &[&str] = &["set-on-error", "set-process-time", "set-total-time"];

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    let reads = reads(config);
    let sets = sets(config);
    for (index, engine) in engines_in_use(config) {
        let Some(agent) = engine.agent() else {
            continue;
        };
        if engine.setting(&["option", "set-on-error"]).is_none() {
            found.warning(
                "set-on-error-missing",
                agent.place(),
                format!(
                    "agent '{}' has no option set-on-error: rules cannot tell a request that got no answer",
                    agent.name()
                ),
                "add to spoe-agent: option set-on-error error; it is in txn.PREFIX.error then",
            );
        }
        names(engine, found);
        let Some(prefix) = engine.prefix().filter(|prefix| is_name(prefix)) else {
            continue;
        };
        let declared = declaration(engine, options).map(|agent| &agent.variables[..]);
        lengths(engine, prefix, declared.unwrap_or_default(), found);
        if let Some(declared) = declared {
            refused(engine, prefix, declared, &reads, &sets, found);
            let others: Vec<_> = config
                .engines
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .filter_map(|(_, other)| other.prefix())
                .collect();
            let known = Known {
                prefix,
                declared,
                named: named(engine),
                registered: engine
                    .listed("register-var-names")
                    .map(|(word, _)| word)
                    .collect(),
                is_by_message: engine.is_by_message,
                others,
            };
            // Where another engine has the prefix too, it may be the one that sets it.
            let is_alone = !known.others.contains(&prefix);
            for read in reads.iter().filter(|_| is_alone) {
                known.judge(read, &sets, found);
            }
            let is_read = |line: &Line| {
                let mut words = line.words.iter();
                words.any(|word| word.is_open || word.text.contains(&format!(".{prefix}.")))
            };
            if config.has_main && !declared.is_empty() && !config.main_lines.iter().any(is_read) {
                found.warning(
                    "variable-unread",
                    agent.place(),
                    format!("no rule reads a variable of prefix '{prefix}': what the agent answers has no effect"),
                    format!(
                        "add a rule, as in http-request deny if {{ var({}.{prefix}.{}) -m found }}",
                        declared[0].scope, declared[0].name
                    ),
                );
            }
        }
    }
    other_prefixes(config, options, &reads, &sets, found);
    shared(config, found);
}

/// Variables whose prefix is nearly that of an engine of which nothing else is known: which names it sets
/// is not, but that nothing sets those of a prefix that is none.
fn other_prefixes(
    config: &Config,
    options: &CheckOptions,
    reads: &[Read],
    sets: &[String],
    found: &mut Findings,
) {
    // An engine that is not among the files may have any prefix.
    if config.filters.iter().any(|filter| filter.target.is_none()) {
        return;
    }
    let engines = || config.engines.iter().filter(|one| one.agent().is_some());
    let Some(prefixes) = engines().map(Engine::prefix).collect::<Option<Vec<_>>>() else {
        return;
    };
    let unknown: Vec<_> = engines_in_use(config)
        .filter(|(_, engine)| declaration(engine, options).is_none())
        .filter_map(|(_, engine)| engine.prefix())
        .collect();
    let parts = |full: &str| {
        let (scope, rest) = full.split_once('.')?;
        let (prefix, name) = rest.rsplit_once('.')?;
        Scope::from_name(scope)?;
        Some([scope, prefix, name].map(str::to_owned))
    };
    let set: Vec<_> = sets.iter().filter_map(|full| parts(full)).collect();
    for read in reads {
        let Some([scope, prefix, name]) = parts(&read.name) else {
            continue;
        };
        let is_some_ones = prefixes.contains(&prefix.as_str())
            || set.iter().any(|[_, set_prefix, _]| *set_prefix == prefix);
        if is_some_ones {
            continue;
        }
        if let Some(meant) = closest(&prefix, unknown.iter().copied()) {
            found.warning(
                "variable-prefix",
                read.place,
                format!(
                    "nothing sets {}: no engine has the prefix '{prefix}' (did you mean '{meant}'?)",
                    read.name
                ),
                format!("write var({scope}.{meant}.{name})"),
            );
        }
    }
}

/// Characters that HAProxy takes in prefixes and names.
fn is_name(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// The variables that options name: which option, the name, and where.
fn named(engine: &Engine) -> Vec<(&'static str, &str, Place)> {
    let lines = NAMING.iter().filter_map(|option| {
        let line = engine.setting(&["option", option])?;
        let word = line.words.get(2).filter(|word| !word.is_open)?;
        Some((*option, word.text.as_str(), line.place))
    });
    lines.collect()
}

fn names(engine: &Engine, found: &mut Findings) {
    let prefix = engine.setting(&["option", "var-prefix"]);
    let texts = named(engine)
        .into_iter()
        .chain(prefix.and_then(|line| Some(("var-prefix", engine.prefix()?, line.place))));
    for (option, text, place) in texts {
        if !is_name(text) || text.is_empty() {
            found.error(
                "prefix-invalid",
                place,
                format!("option {option} takes letters, digits, '_' and '.', and not '{text}': HAProxy does not start"),
                format!("write, as an example: option {option} {}", replaced(text)),
            );
        }
    }
    if let (None, Some(agent)) = (prefix, engine.agent())
        && !is_name(agent.name())
    {
        found.error(
            "prefix-invalid",
            agent.place(),
            format!(
                "the name of agent '{}' is the prefix of its variables too, and no such prefix is possible: \
                 HAProxy does not start",
                agent.name()
            ),
            format!("add to spoe-agent: option var-prefix {}", replaced(agent.name())),
        );
    }
}

fn replaced(text: &str) -> String {
    let valid = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '_'
        }
    };
    match text {
        "" => "agent".to_owned(),
        text => text.chars().map(valid).collect(),
    }
}

fn lengths(engine: &Engine, prefix: &str, declared: &[VariableDeclaration], found: &mut Findings) {
    let place = engine
        .setting(&["option", "var-prefix"])
        .map(|line| line.place)
        .or_else(|| engine.agent().map(|agent| agent.place()));
    let declared = declared
        .iter()
        .filter_map(|variable| Some((variable.scope.as_str(), variable.name, place?)));
    let named = named(engine);
    let named = named.iter().map(|(_, name, place)| ("txn", *name, *place));
    for (scope, name, place) in declared.chain(named) {
        let len = scope.len() + 1 + prefix.len() + 1 + name.len();
        if len > MAX_LEN {
            found.error(
                "variable-too-long",
                place,
                format!(
                    "{scope}.{prefix}.{name} has {len} bytes, and HAProxy drops variables of more than \
                     {MAX_LEN}"
                ),
                "take a shorter option var-prefix",
            );
        }
    }
}

/// Variables that HAProxy does not let the agent set.
fn refused(
    engine: &Engine,
    prefix: &str,
    declared: &[VariableDeclaration],
    reads: &[Read],
    sets: &[String],
    found: &mut Findings,
) {
    let Some(agent) = engine.agent() else {
        return;
    };
    let events: Vec<_> = engine
        .messages
        .iter()
        .filter_map(|message| event(message).0)
        .collect();
    for variable in declared {
        let full = format!("{}.{prefix}.{}", variable.scope, variable.name);
        // HAProxy makes those of the process that its configuration names, if only to read them.
        let is_known = sets.contains(&full)
            || reads.iter().any(|read| read.name == full)
            || engine.listed("register-var-names").any(|(word, _)| {
                // Without scope and prefix: they are registered for the process.
                word.is_open || word.text == variable.name
            });
        match variable.scope {
            Scope::Process
                if engine.setting(&["option", "force-set-var"]).is_none() && !is_known =>
            {
                found.error(
                    "variable-refused",
                    agent.place(),
                    format!("HAProxy does not let an agent make {full}, of the process"),
                    "add to spoe-agent: option force-set-var",
                );
            }
            Scope::Response
                if !events.is_empty() && !events.iter().any(|event| Event::is_response(*event)) =>
            {
                found.error(
                    "variable-refused",
                    agent.place(),
                    format!("{full} is of the response, and no message is sent while there is one"),
                    "send the message on-http-response",
                );
            }
            Scope::Request
                if !events.is_empty() && events.iter().all(|event| Event::is_response(*event)) =>
            {
                found.error(
                    "variable-refused",
                    agent.place(),
                    format!("{full} is of the request, and all messages are sent while there is the response"),
                    "send the message on-frontend-http-request",
                );
            }
            _ => {}
        }
    }
}

/// A variable that is read: its whole name, and where.
struct Read {
    name: String,
    place: Place,
}

/// What `var()` reads anywhere in haproxy.cfg.
fn reads(config: &Config) -> Vec<Read> {
    let lines = config.main_lines.iter();
    let reads = lines.flat_map(|line| {
        let words = line.words.iter();
        words.flat_map(move |word| {
            calls(&word.text, "var(").map(|name| Read {
                name: name.to_owned(),
                place: line.place,
            })
        })
    });
    reads.collect()
}

/// What rules and converters set themselves.
fn sets(config: &Config) -> Vec<String> {
    let lines = config.main_lines.iter();
    let sets = lines.flat_map(|line| {
        let words = line.words.iter();
        words.flat_map(|word| {
            ["set-var(", "set-var-fmt(", "capture-var("]
                .iter()
                .flat_map(|call| calls(&word.text, call))
                .map(str::to_owned)
        })
    });
    sets.collect()
}

/// The first argument of each call in a text, where no other name ends in the call's.
fn calls<'t>(text: &'t str, call: &'t str) -> impl Iterator<Item = &'t str> {
    text.match_indices(call).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return None;
        }
        // No name is so long: a line of nothing but openings is not gone through for each of them.
        const LONGEST: usize = 256;
        let rest = &text[at + call.len()..];
        let mut near = rest.bytes().take(LONGEST);
        let end = near.position(|byte| matches!(byte, b')' | b',' | b' '))?;
        Some(&rest[..end])
    })
}

/// What an engine's variables are.
struct Known<'c> {
    prefix: &'c str,
    declared: &'c [VariableDeclaration],
    named: Vec<(&'static str, &'c str, Place)>,
    /// What the configuration says that the agent sets, whatever the agent here declares.
    registered: Vec<&'c Word>,
    /// Whether that the engine is for this agent is known by a message alone.
    is_by_message: bool,
    /// Prefixes of other engines.
    others: Vec<&'c str>,
}

impl Known<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        let declared = self.declared.iter().map(|variable| variable.name);
        declared.chain(self.named.iter().map(|(_, name, _)| *name))
    }

    fn judge(&self, read: &Read, sets: &[String], found: &mut Findings) {
        let Read { name: full, place } = read;
        let (place, prefix) = (*place, self.prefix);
        if sets.contains(full) {
            return;
        }
        let Some((scope, rest)) = full.split_once('.') else {
            return;
        };
        if Scope::from_name(scope).is_none() {
            return;
        }
        let own = rest
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('.'));
        let Some(name) = own else {
            return self.other_prefix(read, scope, rest, found);
        };
        let declared = self.declared.iter().find(|variable| variable.name == name);
        let is_named = self.named.iter().any(|(_, named, _)| *named == name);
        let mut registered = self.registered.iter();
        if declared.is_none() && registered.any(|word| word.is_open || word.text == name) {
            return;
        }
        // Another agent may take a message of that name, and set what it likes.
        if declared.is_none() && self.is_by_message {
            return;
        }
        let right = match declared {
            Some(variable) => Some(variable.scope.as_str()),
            None => is_named.then_some("txn"),
        };
        match right {
            None => {
                let names: Vec<_> = self.names().collect();
                found.warning(
                    "variable-unknown",
                    place,
                    format!(
                        "nothing sets {full}{}: it is never found",
                        hint(name, names.iter().copied())
                    ),
                    format!("of prefix {prefix} there are: {}", names.join(", ")),
                );
            }
            Some(right) if right != scope => found.warning(
                "variable-scope",
                place,
                format!("{full} is set in scope {right}, and is never found in {scope}"),
                format!("write var({right}.{prefix}.{name})"),
            ),
            Some(_) => {}
        }
    }

    /// A variable whose prefix is not the engine's, and may have been meant to be.
    fn other_prefix(&self, read: &Read, scope: &str, rest: &str, found: &mut Findings) {
        let (full, prefix) = (&read.name, self.prefix);
        let (other, name) = match rest.rsplit_once('.') {
            Some((other, name)) => (Some(other), name),
            None => (None, rest),
        };
        let is_ours = self.names().any(|known| known == name);
        // A name that is as common as "error" is one's own without a prefix.
        let is_declared = self.declared.iter().any(|variable| variable.name == name);
        let is_meant = match other {
            Some(other) if self.others.contains(&other) => false,
            Some(other) => is_ours && closest(other, [prefix]).is_some(),
            None => is_declared,
        };
        if is_meant {
            found.warning(
                "variable-prefix",
                read.place,
                format!("nothing sets {full}: the engine's variables have the prefix '{prefix}'"),
                format!("write var({scope}.{prefix}.{name})"),
            );
        }
    }
}

/// Engines of one proxy whose variables are not told apart. Where rules send all that both ask, who wrote
/// them chose when: one agent with two timeouts is done so.
fn shared(config: &Config, found: &mut Findings) {
    for (at, filter) in config.filters.iter().enumerate() {
        let Some(engine) = filter.target.and_then(|index| config.engines.get(index)) else {
            continue;
        };
        let mut earlier = config.filters[..at].iter();
        let twin = earlier.find_map(|other| {
            let other_engine = config.engines.get(other.target?)?;
            let is_twin = other.proxy == filter.proxy
                && other.target != filter.target
                && engine.prefix().is_some()
                && other_engine.prefix() == engine.prefix()
                && [engine, other_engine]
                    .iter()
                    .any(|one| one.setting(&["messages"]).is_some());
            is_twin.then_some(other_engine)
        });
        if let (Some(twin), Some(agent)) = (twin, engine.agent()) {
            let line = engine.setting(&["option", "var-prefix"]);
            found.warning(
                "prefix-shared",
                line.map_or(agent.place(), |line| line.place),
                format!(
                    "engines '{}' and '{}' of one proxy have the same prefix: each overwrites the other's \
                     variables",
                    twin.name(),
                    engine.name()
                ),
                format!("give each its own: option var-prefix {}", replaced(engine.name())),
            );
        }
    }
}
