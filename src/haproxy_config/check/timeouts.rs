//! Times that have to fit each other.

use std::time::Duration;

use super::super::finding::Findings;
use super::super::model::{Config, Engine};
use super::{CheckOptions, engines_in_use};

/// How long a fallback may take to be sent, read and used, on a machine that does other things too.
const MARGIN: Duration = Duration::from_millis(15);

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    for (_, engine) in engines_in_use(config) {
        processing(config, engine, options, found);
        if !config.version.has_multiplexer() {
            connection(config, engine, found);
        }
        backend(config, engine, found);
    }
}

/// Whether the same agent is asked by another engine that waits for longer: this one is for what it answers
/// at once.
fn has_slower_twin(config: &Config, engine: &Engine, deadline: Duration) -> bool {
    let mut others = engines_in_use(config).map(|(_, other)| other);
    engine.declaration.is_some()
        && others.any(|other| {
            other.declaration == engine.declaration
                && other.prefix() == engine.prefix()
                && other
                    .timeout("processing")
                    .and_then(|timeout| timeout.duration())
                    .is_some_and(|time| time >= deadline.saturating_add(MARGIN))
        })
}

fn processing(config: &Config, engine: &Engine, options: &CheckOptions, found: &mut Findings) {
    let Some(agent) = engine.agent() else {
        return;
    };
    let timeout = engine.timeout("processing");
    let Some(timeout) = timeout.filter(super::super::model::Setting::is_set) else {
        found.warning(
            "timeout-processing-missing",
            timeout.map_or(agent.place(), |timeout| timeout.place),
            "there is no timeout processing: a request waits for ever for an agent that does not answer",
            "add to spoe-agent, as what a request may wait at most: timeout processing 100ms",
        );
        return;
    };
    if let (Some(processing), Some(deadline)) = (timeout.duration(), options.deadline)
        && processing < deadline.saturating_add(MARGIN)
        && !has_slower_twin(config, engine, deadline)
    {
        let outcome = if processing <= deadline {
            "it is never used"
        } else {
            "it needs some milliseconds to arrive, and may come too late"
        };
        found.warning(
            "timeout-processing-short",
            timeout.place,
            format!(
                "HAProxy gives up after {processing:?}, and the agent sends its fallback after {deadline:?} \
                 (agent-deadline-ms): {outcome}"
            ),
            format!(
                "raise timeout processing to {:?}, or lower agent-deadline-ms",
                deadline.saturating_add(Duration::from_millis(20))
            ),
        );
    }
}

/// What HAProxy up to 3.0 wants of a connection to the agent.
fn connection(config: &Config, engine: &Engine, found: &mut Findings) {
    let Some(agent) = engine.agent() else {
        return;
    };
    let version = config.version;
    for (name, id, what, example) in [
        (
            "hello",
            "timeout-hello-missing",
            "waits for ever for the agent's HELLO",
            "1s",
        ),
        (
            "idle",
            "timeout-idle-missing",
            "keeps idle connections for ever",
            "60s",
        ),
    ] {
        let timeout = engine.timeout(name);
        if timeout.is_some_and(|timeout| timeout.is_set()) {
            continue;
        }
        found.warning(
            id,
            timeout.map_or(agent.place(), |timeout| timeout.place),
            format!("there is no timeout {name}: HAProxy {version} {what}, and warns of it"),
            format!("add to spoe-agent: timeout {name} {example}"),
        );
    }
}

fn backend(config: &Config, engine: &Engine, found: &mut Findings) {
    let Some(backend) = config.backend_of(engine) else {
        return;
    };
    let is_applet = !config.version.has_multiplexer();
    let connect = backend.timeout("connect");
    if !connect.is_some_and(|timeout| timeout.is_set()) {
        let covers = if is_applet {
            ""
        } else {
            ", the HELLO included"
        };
        found.warning(
            "timeout-connect-missing",
            connect.map_or(backend.place(), |timeout| timeout.place),
            format!(
                "backend '{}' has no timeout connect: there is no limit to connecting{covers}",
                backend.name()
            ),
            "add to the backend: timeout connect 1s",
        );
    }
    let server = backend.timeout("server");
    let Some(server) = server.filter(super::super::model::Setting::is_set) else {
        // From 3.1 on it is for streams, which timeout processing ends.
        if is_applet {
            found.warning(
                "timeout-server-missing",
                server.map_or(backend.place(), |timeout| timeout.place),
                format!(
                    "backend '{}' has no timeout server, and HAProxy warns of it",
                    backend.name()
                ),
                "add to the backend, longer than timeout idle of spoe-agent: timeout server 120s",
            );
        }
        return;
    };
    let Some(server_time) = server.duration() else {
        return;
    };
    let time_of = |name: &str| {
        let timeout = engine.timeout(name)?;
        timeout.duration().filter(|time| *time > Duration::ZERO)
    };
    if let Some(processing) = time_of("processing").filter(|time| server_time < *time) {
        found.warning(
            "timeout-server-short",
            server.place,
            format!(
                "timeout server of {server_time:?} is over before timeout processing of {processing:?}, \
                 and ends what the agent may still answer"
            ),
            "make timeout server longer than timeout processing",
        );
    } else if let Some(idle) = time_of("idle").filter(|time| is_applet && server_time <= *time) {
        found.warning(
            "timeout-server-short",
            server.place,
            format!(
                "timeout server of {server_time:?} breaks connections before timeout idle of {idle:?} ends \
                 them in order"
            ),
            "make timeout server longer than timeout idle of spoe-agent",
        );
    }
}
