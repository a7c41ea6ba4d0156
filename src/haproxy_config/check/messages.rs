//! Messages, groups and events: that each is listed, sent, and known to the agent.

use std::collections::BTreeMap;

use super::super::finding::{Findings, Place, Severity};
use super::super::model::{Config, Engine, Section, listed};
use super::super::read::Word;
use super::super::samples::{Argument, Event, arguments_of};
use super::super::similar::{closest, hint};
use super::engine::kind;
use super::types::example;
use super::{CheckOptions, declaration, engines_in_use};
use crate::agent::{AgentDeclaration, OtherMessages};
use crate::message::MessageDeclaration;

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    sent_groups(config, found);
    for (index, engine) in engines_in_use(config) {
        lists(config, index, engine, found);
        sections(config, engine, found);
        events(config, index, engine, found);
        let Some(agent) = declaration(engine, options) else {
            if !options.agents.is_empty() {
                found.note(
                    "agent-unknown",
                    engine.place,
                    format!(
                        "engine '{}' is not taken for an agent known here: its messages, arguments and \
                         variables were not checked",
                        engine.name()
                    ),
                    "give its agent's AgentDeclaration to CheckOptions::with_agent",
                );
            }
            for message in &engine.messages {
                arguments(message, None, found);
            }
            continue;
        };
        for message in &engine.messages {
            let known = known_message(agent, message, found);
            arguments(message, known, found);
            if let Some(known) = known.filter(|_| agent.name == CROWDSEC) {
                without(message, &known, found);
            }
        }
    }
}

/// Messages and groups that the agent lists.
fn lists(config: &Config, index: usize, engine: &Engine, found: &mut Findings) {
    let Some(agent) = engine.agent() else {
        return;
    };
    let names = || engine.messages.iter().map(Section::name);
    if engine.listed("messages").next().is_none() && engine.listed("groups").next().is_none() {
        found.warning(
            "messages-missing",
            agent.place(),
            format!(
                "agent '{}' lists no messages and no groups: nothing is ever sent",
                agent.name()
            ),
            "add a line: messages NAME...",
        );
    }
    for section in std::iter::once(agent).chain(&engine.groups) {
        let mut seen = Vec::new();
        for (word, place) in listed(section, "messages").filter(|(word, _)| !word.is_open) {
            if seen.contains(&&word.text) {
                found.error(
                    "message-duplicate",
                    place,
                    format!(
                        "message '{}' is listed twice: HAProxy does not start",
                        word.text
                    ),
                    "list it once",
                );
                continue;
            }
            seen.push(&word.text);
            // HAProxy looks only into groups that the agent lists.
            let is_listed =
                section.keyword() != "spoe-group" || lists_group(engine, section.name());
            if engine.message(&word.text).is_none() && is_listed {
                found.error(
                    "message-undefined",
                    place,
                    format!(
                        "message '{}' has no section{}: HAProxy does not start",
                        word.text,
                        hint(&word.text, names())
                    ),
                    format!(
                        "add spoe-message {} to this engine, or take it out here",
                        word.text
                    ),
                );
            }
        }
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for group in engine
        .groups
        .iter()
        .filter(|group| lists_group(engine, group.name()))
    {
        for (word, place) in listed(group, "messages") {
            match owners.insert(&word.text, group.name()) {
                Some(owner) if owner != group.name() => found.error(
                    "message-duplicate",
                    place,
                    format!(
                        "message '{}' is in group '{owner}' too, and may be in one only: HAProxy does not start",
                        word.text
                    ),
                    "give each group a message of its own, or send both groups where both are wanted",
                ),
                _ => {}
            }
        }
    }
    let mut seen = Vec::new();
    for (word, place) in engine.listed("groups").filter(|(word, _)| !word.is_open) {
        if seen.contains(&&word.text) {
            found.error(
                "message-duplicate",
                place,
                format!(
                    "group '{}' is listed twice: HAProxy does not start",
                    word.text
                ),
                "list it once",
            );
            continue;
        }
        seen.push(&word.text);
        let groups = engine.groups.iter().map(Section::name);
        if engine.group(&word.text).is_none() {
            found.error(
                "group-undefined",
                place,
                format!(
                    "group '{}' has no section{}: HAProxy does not start",
                    word.text,
                    hint(&word.text, groups)
                ),
                format!(
                    "add spoe-group {} to this engine, or take it out here",
                    word.text
                ),
            );
        } else if config.has_main && !is_sent(config, index, &word.text) {
            found.warning(
                "group-not-sent",
                place,
                format!(
                    "no rule sends group '{}': its messages are never sent",
                    word.text
                ),
                format!(
                    "add a rule where it is to be asked: http-request send-spoe-group {} {}",
                    engine.name(),
                    word.text
                ),
            );
        }
    }
}

/// Whether a rule of a proxy sends a message with its requests, by a group.
pub(super) fn is_sent_with_requests(
    config: &Config,
    engine: &Engine,
    proxy: usize,
    message: &str,
) -> bool {
    let mut groups = engine
        .groups
        .iter()
        .filter(|group| listed(group, "messages").any(|(word, _)| word.text == message));
    let scope = engine.scope.as_deref();
    groups.any(|group| {
        sends(config).any(|(index, name, sent, place)| {
            let mut lines = config.proxies[index].lines().iter();
            index == proxy
                && scope.is_none_or(|scope| scope == name.text)
                && sent.text == group.name()
                && lines.any(|line| line.place == place && line.word(0) == "http-request")
        })
    })
}

fn lists_group(engine: &Engine, name: &str) -> bool {
    engine
        .listed("groups")
        .any(|(word, _)| word.is_open || word.text == name)
}

/// The groups that rules send: the engine's name, the group's, and where.
fn sends(config: &Config) -> impl Iterator<Item = (usize, &Word, &Word, Place)> {
    let proxies = config.proxies.iter().enumerate();
    proxies.flat_map(|(index, proxy)| {
        proxy.lines().iter().filter_map(move |line| {
            let at = line
                .words
                .iter()
                .position(|word| word.text == "send-spoe-group")?;
            let rule = [
                "http-request",
                "http-response",
                "tcp-request",
                "tcp-response",
            ];
            rule.contains(&line.word(0)).then_some(())?;
            Some((
                index,
                line.words.get(at + 1)?,
                line.words.get(at + 2)?,
                line.place,
            ))
        })
    })
}

fn is_sent(config: &Config, engine: usize, group: &str) -> bool {
    let scope = config.engines[engine].scope.as_deref();
    sends(config).any(|(_, name, sent, _)| {
        let is_engine = name.is_open || scope.is_none_or(|scope| scope == name.text);
        is_engine && (sent.is_open || sent.text == group)
    })
}

/// Rules with `send-spoe-group`.
fn sent_groups(config: &Config, found: &mut Findings) {
    for (index, name, group, place) in sends(config) {
        let proxy = &config.proxies[index];
        let line = proxy.lines().iter().find(|line| line.place == place);
        let waits = proxy.all_lines().any(|line| {
            line.begins(&["tcp-request", "inspect-delay"])
                || line.begins(&["tcp-response", "inspect-delay"])
        });
        if !waits
            && line.is_some_and(|line| line.begins(&["tcp-request", "content"]))
            && proxy.mode() == "tcp"
        {
            found.warning(
                "inspect-delay-missing",
                place,
                "without tcp-request inspect-delay the rule is over before the group is sent",
                "add to the section: tcp-request inspect-delay 5s",
            );
        }
        if name.is_open || group.is_open {
            continue;
        }
        let mut filters = config.filters.iter().filter(|filter| filter.proxy == index);
        let names = config
            .filters
            .iter()
            .filter_map(|filter| filter.engine.as_ref());
        let Some(filter) = filters.find(|filter| {
            filter
                .engine
                .as_ref()
                .is_none_or(|engine| engine.is_open || engine.text == name.text)
        }) else {
            found.error(
                "group-undefined",
                place,
                format!(
                    "the {} has no filter of engine '{}'{}: HAProxy does not start",
                    kind(proxy.kind),
                    name.text,
                    hint(&name.text, names.map(|word| word.text.as_str()))
                ),
                format!(
                    "add to the section: filter spoe engine {} config FILE",
                    name.text
                ),
            );
            continue;
        };
        let Some(engine) = filter.target.and_then(|index| config.engines.get(index)) else {
            continue;
        };
        if engine.group(&group.text).is_none() {
            let groups = engine.groups.iter().map(Section::name);
            found.error(
                "group-undefined",
                place,
                format!(
                    "engine '{}' has no group '{}'{}: HAProxy does not start",
                    engine.name(),
                    group.text,
                    hint(&group.text, groups)
                ),
                format!(
                    "add spoe-group {} to the engine, and to the agent's groups",
                    group.text
                ),
            );
        } else if !lists_group(engine, &group.text) {
            found.error(
                "group-unlisted",
                place,
                format!(
                    "the agent does not list group '{}': HAProxy does not start",
                    group.text
                ),
                format!("add to spoe-agent: groups {}", group.text),
            );
        }
    }
}

/// Sections of messages and groups that are there twice, or that nothing lists.
fn sections(config: &Config, engine: &Engine, found: &mut Findings) {
    for sections in [&engine.messages, &engine.groups] {
        let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
        for section in sections {
            if let Some(first) = seen.insert(section.name(), section.place()) {
                found.error(
                    "message-duplicate",
                    section.place(),
                    format!(
                        "{} '{}' is there twice, first in line {}: HAProxy does not start",
                        section.keyword(),
                        section.name(),
                        first.line
                    ),
                    "give it another name, or take one out",
                );
            }
        }
    }
    let is_listed = |name: &str| {
        let of_groups = engine
            .groups
            .iter()
            .flat_map(|group| listed(group, "messages"));
        let mut all = engine.listed("messages").chain(of_groups);
        all.any(|(word, _)| word.is_open || word.text == name)
    };
    for message in engine
        .messages
        .iter()
        .filter(|message| !is_listed(message.name()))
    {
        found.warning(
            "message-unused",
            message.place(),
            format!(
                "nothing lists message '{}': it is never sent",
                message.name()
            ),
            format!(
                "add it to the agent: messages {}; or take the section out",
                message.name()
            ),
        );
    }
    let sent: Vec<_> = sends(config).map(|(_, _, group, _)| group).collect();
    for group in engine
        .groups
        .iter()
        .filter(|group| !lists_group(engine, group.name()))
    {
        // A rule that sends it is told of it.
        if !sent.iter().any(|word| word.text == group.name()) {
            found.warning(
                "group-unlisted",
                group.place(),
                format!(
                    "the agent does not list group '{}': it is never sent",
                    group.name()
                ),
                format!("add to spoe-agent: groups {}", group.name()),
            );
        }
    }
}

/// The event of a message, as far as it is one; and whether it has a line of it.
pub(super) fn event(message: &Section) -> (Option<Event>, bool) {
    let line = message
        .body
        .iter()
        .rev()
        .find(|line| line.word(0) == "event");
    (
        line.and_then(|line| Event::named(line.word(1))),
        line.is_some(),
    )
}

fn events(config: &Config, index: usize, engine: &Engine, found: &mut Findings) {
    for message in &engine.messages {
        for line in message.body.iter().filter(|line| line.word(0) == "event") {
            let is_open = line.words.get(1).is_some_and(|word| word.is_open);
            let name = line.word(1);
            if is_open {
                continue;
            }
            let known = Event::ALL.iter().map(|(known, _)| *known);
            let Some(event) = Event::named(name) else {
                found.error(
                    "event-unknown",
                    line.place,
                    format!(
                        "'{name}' is no event{}: HAProxy does not start",
                        hint(name, known.clone())
                    ),
                    format!("these are: {}", known.collect::<Vec<_>>().join(", ")),
                );
                continue;
            };
            if let Some(word) = line.words.get(2)
                && !matches!(word.text.as_str(), "if" | "unless")
            {
                found.error(
                    "syntax",
                    line.place,
                    format!(
                        "'{}' stands where a condition would begin: HAProxy does not start",
                        word.text
                    ),
                    "write if or unless before the condition",
                );
            }
            for filter in config.filters_of(index) {
                let proxy = &config.proxies[filter.proxy];
                let whose = kind(proxy.kind);
                if event.is_of_frontends() && !proxy.is_frontend() {
                    found.warning(
                        "event-unfit",
                        line.place,
                        format!(
                            "{name} happens in no backend, and the filter is in backend '{}'",
                            proxy.name()
                        ),
                        "move the filter into the frontend, or take an event of backends",
                    );
                } else if event.is_http() && proxy.mode() != "http" {
                    found.warning(
                        "event-unfit",
                        line.place,
                        format!(
                            "{name} happens in HTTP mode only, and {whose} '{}' is in mode {}",
                            proxy.name(),
                            proxy.mode()
                        ),
                        format!("set mode http there, or take {}", instead(event)),
                    );
                }
            }
        }
        let (_, has_event) = event(message);
        let mut listed_by_agent = engine.listed("messages");
        if !has_event && listed_by_agent.any(|(word, _)| word.text == message.name()) {
            found.warning(
                "message-without-event",
                message.place(),
                format!("message '{}' has no event: HAProxy passes over it", message.name()),
                "add a line as event on-frontend-http-request; or list it in a group, and not in the agent",
            );
        }
    }
}

const fn instead(event: Event) -> &'static str {
    match event {
        Event::BackendHttpRequest => "on-backend-tcp-request",
        Event::HttpResponse => "on-tcp-response",
        _ => "on-frontend-tcp-request",
    }
}

/// What the agent takes a message for.
fn known_message(
    agent: &AgentDeclaration,
    message: &Section,
    found: &mut Findings,
) -> Option<MessageDeclaration> {
    let name = message.name();
    let mut messages = agent.messages.iter();
    let declared = messages.find(|declared| declared.is_named(name.as_bytes()));
    if let Some(declared) = declared {
        return Some(*declared);
    }
    let names = || agent.messages.iter().map(|declared| declared.name);
    let (severity, outcome) = match agent.other_messages {
        OtherMessages::ReadAs(declared) => return Some(*declared),
        OtherMessages::Refused => (Severity::Error, "it fails, and sets its fallback"),
        OtherMessages::Ignored => (Severity::Warning, "it passes over it, and sets nothing"),
    };
    let known: Vec<_> = names().collect();
    found.add(
        severity,
        "message-unknown",
        message.place(),
        format!(
            "agent '{}' does not know message '{name}'{}: {outcome}",
            agent.name,
            hint(name, names())
        ),
        format!("it knows: {}", known.join(", ")),
    );
    None
}

/// The arguments of a message, with the place of each.
pub(super) fn arguments_with_places(message: &Section) -> Vec<(Argument, Place)> {
    let lines = message.body.iter().filter(|line| line.word(0) == "args");
    lines
        .flat_map(|line| arguments_of(line).map(|argument| (argument, line.place)))
        .collect()
}

/// The agent that has the messages of CrowdSec's bouncer.
const CROWDSEC: &str = "crowdsec";

/// What the bouncer's own file sends to it, and nobody reads.
const CROWDSEC_UNREAD: [&str; 2] = ["id", "src-port"];

/// The arguments that may be absent in its messages, and what that costs.
const CROWDSEC_WITHOUT: [(&str, &str); 6] = [
    (
        "headers",
        "no host is known by name, no captcha is ever solved, and AppSec is asked nothing",
    ),
    (
        "src-ip",
        "the address is not looked up, and AppSec is asked nothing",
    ),
    (
        "method",
        "no captcha is ever solved, and AppSec is asked nothing",
    ),
    ("url", "AppSec is asked nothing"),
    ("body", "no captcha is ever solved, and AppSec sees no body"),
    (
        "ssl",
        "the captcha's cookie is never Secure where cookie.secure is auto",
    ),
];

/// Arguments of CrowdSec's messages that may be absent, and are.
fn without(message: &Section, declared: &MessageDeclaration, found: &mut Findings) {
    let arguments = arguments_with_places(message);
    // An argument that is open may be any of them; that one is misspelt, or that none is read, was said.
    let is_told = |(argument, _): &(Argument, Place)| {
        argument.is_open
            || (declared.argument(&argument.name).is_none()
                && !CROWDSEC_UNREAD.contains(&&*argument.name))
    };
    let Some((_, place)) = arguments.first() else {
        return;
    };
    let mut read = arguments.iter();
    let is_nothing_read = !read.any(|(argument, _)| declared.argument(&argument.name).is_some());
    if is_nothing_read || arguments.iter().any(is_told) {
        return;
    }
    let is_sent = |name: &str| {
        let mut all = arguments.iter();
        all.any(|(argument, _)| argument.name == name)
    };
    for (name, cost) in CROWDSEC_WITHOUT {
        let is_whole = name == "url" && is_sent("path");
        let known = declared.argument(name).filter(|_| !is_whole);
        let Some(known) = known.filter(|_| !is_sent(name)) else {
            continue;
        };
        found.warning(
            "argument-absent",
            *place,
            format!("{} has no argument '{name}': {cost}", message.name()),
            format!(
                "add to args: {name}={}",
                example(known).unwrap_or("EXPRESSION")
            ),
        );
    }
}

/// The most arguments that fit into the one byte that counts them.
const MAX_ARGUMENTS: usize = 255;

fn arguments(message: &Section, declared: Option<MessageDeclaration>, found: &mut Findings) {
    let arguments = arguments_with_places(message);
    if let Some((_, place)) = arguments.get(MAX_ARGUMENTS) {
        found.error(
            "argument-count",
            *place,
            format!(
                "{} arguments are more than the {MAX_ARGUMENTS} that a message can count: it begins anew at 0, \
                 and the agent reads what is not meant",
                arguments.len()
            ),
            "spread them over several messages",
        );
    }
    for (argument, place) in &arguments {
        if let Some(converter) = argument.stray_converter().filter(|_| !argument.is_open) {
            found.error(
                "syntax",
                *place,
                format!(
                    "'{converter}' is a converter and stands where HAProxy looks for a fetch: it does not start"
                ),
                "write it behind the fetch with a comma, as in ip=src,ipmask(24): each word is an argument",
            );
        }
    }
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    for (argument, place) in arguments
        .iter()
        .filter(|(argument, _)| !argument.name.is_empty())
    {
        if let Some(first) = seen.insert(&argument.name, *place) {
            found.warning(
                "argument-duplicate",
                *place,
                format!(
                    "argument '{}' is there twice, first in line {}: an agent takes one of them, or fails",
                    argument.name, first.line
                ),
                "give it another name, or take one out",
            );
        }
    }
    let Some(declared) = declared else {
        return;
    };
    if declared.arguments.is_empty() && !declared.denies_unknown_arguments {
        return;
    }
    let is_there = |wanted: &str| {
        let mut all = arguments.iter();
        all.any(|(argument, _)| {
            declared
                .argument(&argument.name)
                .is_some_and(|known| known.name == wanted)
        })
    };
    let absent: Vec<_> = declared
        .arguments
        .iter()
        .filter(|known| !is_there(known.name))
        .collect();
    let mut explained = Vec::new();
    for (argument, place) in &arguments {
        let known = declared
            .arguments
            .iter()
            .flat_map(|known| std::iter::once(known.name).chain(known.aliases.iter().copied()));
        let is_bouncers = message.name().starts_with(CROWDSEC)
            && CROWDSEC_UNREAD.contains(&&*argument.name)
            && !declared.denies_unknown_arguments;
        if argument.is_open || is_bouncers || declared.argument(&argument.name).is_some() {
            continue;
        }
        if argument.name.is_empty() {
            found.warning(
                "argument-unnamed",
                *place,
                format!(
                    "'{}' has no name, and the agent goes by names: it is not read",
                    argument.expression
                ),
                format!(
                    "write NAME={}, with a name of: {}",
                    argument.expression,
                    known.collect::<Vec<_>>().join(", ")
                ),
            );
            explained.extend(absent.iter().map(|known| known.name));
            continue;
        }
        let name = &argument.name;
        let candidates = absent
            .iter()
            .flat_map(|known| std::iter::once(known.name).chain(known.aliases.iter().copied()));
        let meant = closest(name, candidates.clone());
        let (severity, outcome) = match meant {
            _ if declared.denies_unknown_arguments => {
                (Severity::Error, "it fails, and sets its fallback")
            }
            Some(_) => (Severity::Warning, "it is not read"),
            None => (Severity::Note, "it is sent for nothing"),
        };
        let text = format!(
            "the agent does not know argument '{name}' of {}{}: {outcome}",
            message.name(),
            hint(name, candidates)
        );
        explained.extend(
            meant
                .and_then(|meant| declared.argument(meant))
                .map(|known| known.name),
        );
        let fix = format!(
            "take it out, or name it as one of: {}",
            known.collect::<Vec<_>>().join(", ")
        );
        found.add(severity, "argument-unknown", *place, text, fix);
    }
    missing(message, &declared, &arguments, &explained, found);
}

/// Arguments that the agent wants and that are not sent, unless a finding above says why.
fn missing(
    message: &Section,
    declared: &MessageDeclaration,
    arguments: &[(Argument, Place)],
    explained: &[&str],
    found: &mut Findings,
) {
    let is_sent = |wanted: &str| {
        let mut all = arguments.iter();
        all.any(|(argument, _)| {
            argument.is_open
                || declared
                    .argument(&argument.name)
                    .is_some_and(|known| known.name == wanted)
        })
    };
    let place = arguments
        .first()
        .map_or(message.place(), |(_, place)| *place);
    let nothing = !declared.arguments.iter().any(|known| is_sent(known.name));
    for known in declared.arguments {
        if is_sent(known.name) || explained.contains(&known.name) {
            continue;
        }
        let sample = example(known).unwrap_or("EXPRESSION");
        let fix = format!("add to args: {}={sample}", known.name);
        if known.is_required {
            found.error(
                "argument-missing",
                place,
                format!(
                    "{} lacks argument '{}', {}: the agent fails, and sets its fallback",
                    message.name(),
                    known.name,
                    known.expected
                ),
                fix,
            );
        } else if nothing && explained.is_empty() {
            // Each may be missing, but with none of them there is nothing to go by.
            found.warning(
                "argument-missing",
                place,
                format!(
                    "{} has no argument that the agent reads, as '{}', {}",
                    message.name(),
                    known.name,
                    known.expected
                ),
                fix,
            );
            break;
        }
    }
}
