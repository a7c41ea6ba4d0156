//! Sample expressions: the type that each makes, against the one the agent takes, and whether HAProxy
//! has it at the message's event.

use super::super::finding::Findings;
use super::super::model::{Config, Engine, Section};
use super::super::samples::{Event, Sample};
use super::messages::{arguments_with_places, event, is_sent_with_requests};
use super::{CheckOptions, declaration, engines_in_use};
use crate::agent::{AgentDeclaration, OtherMessages};
use crate::message::{ArgumentDeclaration, ValueTypes};

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    for (index, engine) in engines_in_use(config) {
        let agent = declaration(engine, options);
        for message in &engine.messages {
            body(config, index, engine, message, found);
            let (event, _) = event(message);
            for (argument, place) in arguments_with_places(message) {
                if argument.is_open {
                    continue;
                }
                let sample = Sample::parse(&argument.expression);
                if let Some((event, when)) =
                    event.and_then(|event| Some((event, sample.missing_at(event)?)))
                {
                    found.error(
                        "sample-unavailable",
                        place,
                        format!(
                            "{} can be fetched {when} only, and not {}: HAProxy does not start",
                            sample.fetch,
                            name(event)
                        ),
                        format!("fetch something else, or {}", instead(event, &sample)),
                    );
                }
                let declared =
                    agent.and_then(|agent| argument_of(agent, message.name(), &argument.name));
                if let Some(declared) = declared {
                    types(declared, &argument.expression, &sample, place, found);
                }
            }
        }
    }
}

fn name(event: Event) -> &'static str {
    let named = Event::ALL.iter().find(|(_, known)| *known == event);
    named.map_or("", |(name, _)| name)
}

fn instead(event: Event, sample: &Sample) -> &'static str {
    if event.is_response() {
        "keep it in a variable while there is the request: http-request set-var(txn.x) ..."
    } else if sample.missing_at(Event::HttpResponse).is_none() {
        "send the message on-http-response"
    } else {
        "send the message at a later event"
    }
}

/// How the agent reads an argument, if it does.
fn argument_of(
    agent: &AgentDeclaration,
    message: &str,
    name: &str,
) -> Option<&'static ArgumentDeclaration> {
    let declared = agent
        .messages
        .iter()
        .find(|declared| declared.is_named(message.as_bytes()));
    let message = match (declared, agent.other_messages) {
        (Some(declared), _) => declared,
        (None, OtherMessages::ReadAs(declared)) => declared,
        (None, _) => return None,
    };
    message.argument(name)
}

fn types(
    declared: &ArgumentDeclaration,
    expression: &str,
    sample: &Sample,
    place: super::super::finding::Place,
    found: &mut Findings,
) {
    let (name, taken) = (declared.name, declared.types);
    let of_value = without_null(taken);
    let fix = match example(declared) {
        Some(wanted) => format!("send {}, as in {name}={wanted}", declared.expected),
        None => format!("send {}", declared.expected),
    };
    if let Some(sent) = sample.types {
        if !sent.intersects(of_value) {
            found.error(
                "argument-type",
                place,
                format!(
                    "argument {name} is {sent} ({expression}), and the agent takes {of_value} there: it \
                     has to be {}",
                    declared.expected
                ),
                fix,
            );
            return;
        }
        if !of_value.contains(sent) {
            found.warning(
                "argument-type-partial",
                place,
                format!(
                    "argument {name} is {sent} ({expression}), and of these the agent takes {of_value} \
                     only: it has to be {}",
                    declared.expected
                ),
                fix,
            );
        }
    }
    if sample.is_optional && !taken.intersects(ValueTypes::NULL) {
        found.warning(
            "argument-optional",
            place,
            format!(
                "{expression} is not always there, and the agent fails without argument {name}"
            ),
            "send the message only where it is, as with event ... if { ... -m found }; or let the agent \
             do without",
        );
    }
}

/// All that is in the set but NULL.
fn without_null(types: ValueTypes) -> ValueTypes {
    let all = [
        ValueTypes::BOOL,
        ValueTypes::INT32,
        ValueTypes::UINT32,
        ValueTypes::INT64,
        ValueTypes::UINT64,
        ValueTypes::IPV4,
        ValueTypes::IPV6,
        ValueTypes::STRING,
        ValueTypes::BINARY,
    ];
    let mut kept = all.into_iter().filter(|one| types.contains(*one));
    let first = kept.next().unwrap_or(ValueTypes::NULL);
    kept.fold(first, ValueTypes::or)
}

/// What may be sent for an argument: what its declaration says, or a fetch of the type.
pub(super) fn example(declared: &ArgumentDeclaration) -> Option<&'static str> {
    const EXAMPLES: [(ValueTypes, &str); 5] = [
        (ValueTypes::ADDRESS, "src"),
        (ValueTypes::INT64, "src_port"),
        (ValueTypes::BOOL, "ssl_fc"),
        (ValueTypes::STRING, "path"),
        (ValueTypes::BINARY, "req.hdrs_bin"),
    ];
    let mut fitting = EXAMPLES.iter();
    let fitting = fitting.find(|(types, _)| declared.types.contains(*types));
    declared.sample.or(fitting.map(|(_, fetch)| *fetch))
}

/// A body is there only where HAProxy waits for it.
fn body(config: &Config, index: usize, engine: &Engine, message: &Section, found: &mut Findings) {
    let is_of_event = match event(message) {
        (Some(Event::FrontendHttpRequest | Event::BackendHttpRequest), _) => true,
        (_, true) => return,
        (_, false) => false,
    };
    let is_body = |expression: &str| {
        let fetch = Sample::parse(expression).fetch;
        matches!(
            fetch.as_str(),
            "req.body" | "req.body_len" | "req.body_param"
        )
    };
    let Some((argument, place)) = arguments_with_places(message)
        .into_iter()
        .find(|(argument, _)| is_body(&argument.expression))
    else {
        return;
    };
    for filter in config.filters_of(index) {
        if !is_of_event && !is_sent_with_requests(config, engine, filter.proxy, message.name()) {
            continue;
        }
        let proxy = &config.proxies[filter.proxy];
        let waits = proxy.has_option("http-buffer-request")
            || proxy
                .all_lines()
                .any(|line| line.begins(&["http-request", "wait-for-body"]));
        if !waits {
            found.warning(
                "body-not-buffered",
                place,
                format!(
                    "'{}' does not wait for the body, so that {} of engine '{}' is empty or cut at times",
                    proxy.name(),
                    argument.expression,
                    engine.name()
                ),
                "add to the section: option http-buffer-request",
            );
        }
    }
}
