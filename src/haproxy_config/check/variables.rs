//! Variables: what the agent sets, and what rules read.

use super::super::finding::{Findings, Place};
use super::super::model::{Config, Engine};
use super::super::read::{Line, Word};
use super::super::samples::Event;
use super::super::similar::{closest, hint};
use super::messages::event;
use super::{CheckOptions, declaration, engines_in_use};
use crate::message::{ValueTypes, VariableDeclaration};
use crate::spop::Scope;

/// The longest `scope.prefix.name`: HAProxy has 64 bytes for it, NUL included.
const MAX_LEN: usize = 63;

/// Options that name a variable of scope txn.
const NAMING: &[&str] = &["set-on-error", "set-process-time", "set-total-time"];

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    let reads = reads(config);
    let sets = sets(config);
    let mut judged = Vec::new();
    for (_, engine) in engines_in_use(config) {
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
        let Some(declared) = declared else {
            continue;
        };
        refused(engine, prefix, declared, &reads, &sets, found);
        // Engines of one prefix are looked at together: one agent with two timeouts has two.
        if judged.contains(&prefix) {
            continue;
        }
        judged.push(prefix);
        if let Some(known) = Known::new(config, options, prefix) {
            for read in &reads {
                known.judge(read, &sets, found);
            }
        }
        let is_read = |line: &Line| {
            let mut words = line.words.iter();
            words.any(|word| word.is_open || word.text.contains(&format!(".{prefix}.")))
        };
        if let [variable, ..] = declared
            && config.has_main
            && !config.main_lines.iter().any(is_read)
        {
            found.warning(
                "variable-unread",
                agent.place(),
                format!("no rule reads a variable of prefix '{prefix}': what the agent answers has no effect"),
                use_of(prefix, variable),
            );
        }
    }
    set_by_rules(config, &reads, &sets, found);
    other_prefixes(config, options, &reads, &sets, found);
    shared(config, found);
}

/// How a rule may begin to use a variable. It refuses nobody: what a value means the agent knows, and `found`
/// is what every answer is.
fn use_of(prefix: &str, variable: &VariableDeclaration) -> String {
    let VariableDeclaration { scope, name, types } = variable;
    let full = format!("{scope}.{prefix}.{name}");
    let (acl, test) = if types.contains(ValueTypes::BOOL) {
        (format!("is_{name}"), "-m bool")
    } else if types.contains(ValueTypes::INT64) {
        (format!("is_high_{name}"), "-m int gt 100")
    } else if types.contains(ValueTypes::STRING) {
        (format!("has_{name}"), "-m str TEXT")
    } else {
        (format!("has_{name}"), "-m found")
    };
    format!("add an acl that reads one, and rules that use it, as in acl {acl} var({full}) {test}")
}

/// Variables that nothing sets, of the names that rules give to their own.
fn set_by_rules(config: &Config, reads: &[Read], sets: &[String], found: &mut Findings) {
    // Lua, agents that are not known here and lines that were not read may set anything.
    let is_lua = |line: &Line| line.words.iter().any(|word| word.text.starts_with("lua"));
    let sets_any = |line: &Line| {
        let mut words = line.words.iter();
        words.any(|word| word.is_open && SETTING.iter().any(|call| word.text.contains(call)))
    };
    if !config.has_main
        || config.filters.iter().any(|filter| filter.target.is_none())
        || config
            .main_lines
            .iter()
            .any(|line| is_lua(line) || sets_any(line))
        || found.has("not-checked")
    {
        return;
    }
    let engines = config.engines.iter().filter(|one| one.agent().is_some());
    let Some(prefixes) = engines.map(Engine::prefix).collect::<Option<Vec<_>>>() else {
        return;
    };
    let mut set: Vec<_> = sets.iter().filter_map(|full| parts(full)).collect();
    set.sort_unstable_by_key(|one| (one.name, one.prefix, one.scope as u8));
    set.dedup();
    // Nobody has so many: a file cannot make this slow.
    const MOST: usize = 1_000_000;
    if set.len().saturating_mul(reads.len()) > MOST {
        return;
    }
    for read in reads.iter().filter(|read| !sets.contains(&read.name)) {
        let Some(Parts {
            scope,
            prefix,
            name,
        }) = parts(&read.name)
        else {
            continue;
        };
        // An engine's own are judged as such. Those of the process are set on the stats socket, too.
        if scope == Scope::Process
            || prefixes.iter().any(|known| {
                prefix == *known
                    || prefix
                        .strip_prefix(known)
                        .is_some_and(|rest| rest.starts_with('.'))
            })
        {
            continue;
        }
        let same = |one: &&Parts<'_>| (one.prefix, one.name) == (prefix, name);
        let near_names = set
            .iter()
            .filter(|one| one.scope == scope && one.prefix == prefix);
        let near_prefixes = set
            .iter()
            .filter(|one| one.scope == scope && one.name == name);
        if let Some(other) = set.iter().find(same) {
            found.warning(
                "variable-scope",
                read.place,
                format!(
                    "{} is set in scope {}, and is never found in {scope}",
                    read.name, other.scope
                ),
                format!("write var({})", other.full()),
            );
            continue;
        }
        let meant = closest(name, near_names.map(|one| one.name))
            .map(|name| Parts {
                scope,
                prefix,
                name,
            })
            .or_else(|| {
                let prefix = closest(prefix, near_prefixes.map(|one| one.prefix))?;
                Some(Parts {
                    scope,
                    prefix,
                    name,
                })
            });
        if let Some(meant) = meant {
            let meant = meant.full();
            found.warning(
                "variable-unknown",
                read.place,
                format!(
                    "nothing sets {} (did you mean '{meant}'?): it is never found",
                    read.name
                ),
                format!("write var({meant}), or set it with set-var({})", read.name),
            );
        }
    }
}

/// A variable's name in its parts.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Parts<'n> {
    scope: Scope,
    /// Empty for a name without a full stop.
    prefix: &'n str,
    name: &'n str,
}

impl Parts<'_> {
    fn full(&self) -> String {
        let Self {
            scope,
            prefix,
            name,
        } = self;
        match *prefix {
            "" => format!("{scope}.{name}"),
            prefix => format!("{scope}.{prefix}.{name}"),
        }
    }
}

fn parts(full: &str) -> Option<Parts<'_>> {
    let (scope, rest) = full.split_once('.')?;
    let (prefix, name) = rest.rsplit_once('.').unwrap_or(("", rest));
    let scope = Scope::from_name(scope)?;
    Some(Parts {
        scope,
        prefix,
        name,
    })
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
    let parts = |full| parts(full).filter(|parts| !parts.prefix.is_empty());
    let set: Vec<_> = sets.iter().filter_map(|full| parts(full)).collect();
    for read in reads {
        let Some(Parts {
            scope,
            prefix,
            name,
        }) = parts(&read.name)
        else {
            continue;
        };
        let is_some_ones = prefixes.contains(&prefix) || set.iter().any(|one| one.prefix == prefix);
        if is_some_ones {
            continue;
        }
        if let Some(meant) = closest(prefix, unknown.iter().copied()) {
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

/// What `var()` reads anywhere in haproxy.cfg, and in the messages of engines that are used.
fn reads(config: &Config) -> Vec<Read> {
    let messages = engines_in_use(config)
        .filter(|_| config.has_main)
        .flat_map(|(_, engine)| &engine.messages);
    let lines = config
        .main_lines
        .iter()
        .chain(messages.flat_map(|message| &message.body));
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

/// Calls that set the variable that is their first argument.
const SETTING: &[&str] = &["set-var(", "set-var-fmt(", "capture-var(", "do-resolve("];

/// What rules and converters set themselves.
fn sets(config: &Config) -> Vec<String> {
    let messages = config.engines.iter().flat_map(|engine| &engine.messages);
    let lines = config
        .main_lines
        .iter()
        .chain(messages.flat_map(|message| &message.body));
    let sets = lines.flat_map(|line| {
        let words = line.words.iter();
        let called = words.flat_map(|word| {
            SETTING
                .iter()
                .flat_map(|call| calls(&word.text, call))
                .map(str::to_owned)
        });
        // In the section `global`.
        let is_global = matches!(line.word(0), "set-var" | "set-var-fmt");
        called.chain(is_global.then(|| line.word(1).to_owned()))
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

/// What the variables of a prefix are.
struct Known<'c> {
    prefix: &'c str,
    declared: Vec<&'c VariableDeclaration>,
    named: Vec<(&'static str, &'c str, Place)>,
    /// What the configuration says that the agent sets, whatever the agent here declares.
    registered: Vec<&'c Word>,
    /// Whether that an engine is for its agent is known by a message alone.
    is_by_message: bool,
    /// Prefixes of other engines.
    others: Vec<&'c str>,
}

impl<'c> Known<'c> {
    /// `None` where an engine of the prefix is for an agent that is not known: it may set anything.
    fn new(config: &'c Config, options: &'c CheckOptions, prefix: &'c str) -> Option<Self> {
        let mut known = Self {
            prefix,
            declared: Vec::new(),
            named: Vec::new(),
            registered: Vec::new(),
            is_by_message: false,
            others: Vec::new(),
        };
        for engine in config.engines.iter().filter(|one| one.agent().is_some()) {
            match engine.prefix() {
                Some(other) if other != prefix => known.others.push(other),
                None => {}
                Some(_) => {
                    known
                        .declared
                        .extend(&declaration(engine, options)?.variables);
                    known.named.extend(named(engine));
                    let registered = engine.listed("register-var-names");
                    known.registered.extend(registered.map(|(word, _)| word));
                    known.is_by_message |= engine.is_by_message;
                }
            }
        }
        Some(known)
    }

    /// Each once, in the order of the declarations.
    fn names(&self) -> Vec<&'c str> {
        let declared = self.declared.iter().map(|variable| variable.name);
        let mut names = Vec::new();
        for name in declared.chain(self.named.iter().map(|(_, name, _)| *name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Of what is read, those that only another agent would set, one that takes a message of that name, too.
    fn may_be_anothers(&self, name: &str, scope: &str) -> bool {
        let declared = self.declared.iter();
        let own = declared.filter(|variable| variable.scope.as_str() == scope);
        self.is_by_message && closest(name, own.map(|variable| variable.name)).is_none()
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
        let right = match declared {
            Some(variable) => Some(variable.scope.as_str()),
            None => is_named.then_some("txn"),
        };
        match right {
            None if self.may_be_anothers(name, scope) => {}
            None => {
                let names = self.names();
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
        let is_ours = self.names().contains(&name);
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
