//! The backend an engine sends to: its mode, servers, checks, and what the connections to it do.

use std::collections::BTreeMap;

use super::super::finding::{Findings, Place};
use super::super::model::{Config, Engine, Proxy};
use super::super::read::{Line, Word};
use super::super::similar::hint;
use super::super::version::HaproxyVersion;
use super::engine::kind;
use super::{CheckOptions, engines_in_use};

pub(super) fn check(config: &Config, options: &CheckOptions, found: &mut Findings) {
    let mut users: BTreeMap<&str, Vec<&Engine>> = BTreeMap::new();
    for (_, engine) in engines_in_use(config) {
        connections(config, engine, options, found);
        let Some(agent) = engine.agent() else {
            continue;
        };
        let line = engine.setting(&["use-backend"]);
        let Some((line, word)) = line.and_then(|line| Some((line, line.words.get(1)?))) else {
            found.error(
                "backend-missing",
                agent.place(),
                format!(
                    "agent '{}' names no backend: HAProxy does not start",
                    agent.name()
                ),
                "add to spoe-agent: use-backend NAME",
            );
            continue;
        };
        if word.is_open || !config.has_main {
            continue;
        }
        users.entry(&word.text).or_default().push(engine);
        match config.backend(&word.text) {
            Some(backend) => one(config, engine, backend, options, found),
            None => {
                let backends = config.proxies.iter().filter(|proxy| proxy.is_backend());
                found.error(
                    "backend-missing",
                    line.place,
                    format!(
                        "there is no backend '{}'{}: HAProxy does not start",
                        word.text,
                        hint(&word.text, backends.map(Proxy::name))
                    ),
                    format!(
                        "add backend {} to haproxy.cfg, with a server where the agent is",
                        word.text
                    ),
                );
            }
        }
    }
    for (name, engines) in users {
        let [first, second, ..] = engines[..] else {
            continue;
        };
        if config.version.has_multiplexer()
            && let Some(line) = second.setting(&["use-backend"])
        {
            found.note(
                "backend-shared",
                line.place,
                format!(
                    "engine '{}' has backend '{name}' too: that works, and costs connections, as HAProxy 3.2 was seen \
                     to open one for more than half of the requests then",
                    first.name()
                ),
                "give each engine a backend of its own, with the same server in both",
            );
        }
    }
}

fn one(
    config: &Config,
    engine: &Engine,
    backend: &Proxy,
    options: &CheckOptions,
    found: &mut Findings,
) {
    mode(config, engine, backend, found);
    same_name(config, backend, found);
    let lines: Vec<_> = servers(backend).collect();
    if lines.is_empty() {
        found.warning(
            "backend-empty",
            backend.place(),
            format!(
                "backend '{}' has no server: no agent is ever asked",
                backend.name()
            ),
            "add a line as: server agent 127.0.0.1:9000 check",
        );
    }
    for line in lines {
        server(config, backend, line, options, found);
    }
}

/// The lines that make servers.
fn servers(backend: &Proxy) -> impl Iterator<Item = &Line> {
    let lines = backend.lines().iter();
    lines.filter(|line| matches!(line.word(0), "server" | "server-template"))
}

/// Where a server's address is, and its keywords begin.
fn address_index(line: &Line) -> usize {
    match line.word(0) {
        "server-template" => 3,
        _ => 2,
    }
}

fn mode(config: &Config, engine: &Engine, backend: &Proxy, found: &mut Findings) {
    let place = backend
        .setting(&["mode"])
        .map_or(backend.place(), |line| line.place);
    let version = config.version;
    // A mode of the defaults is not for the backend alone: it is to have its own.
    let place = if backend.lines().iter().any(|line| line.place == place) {
        place
    } else {
        backend.place()
    };
    match (backend.mode(), version.has_multiplexer()) {
        ("tcp", _) | ("spop", true) => {}
        ("spop", false) => found.error(
            "backend-mode",
            place,
            format!(
                "HAProxy {version} does not know mode spop, which came with 3.1: it does not start"
            ),
            "write mode tcp",
        ),
        (mode, has_multiplexer) => {
            let wanted = if has_multiplexer { "spop" } else { "tcp" };
            found.error(
                "backend-mode",
                place,
                format!(
                    "backend '{}' of engine '{}' is in mode {mode}: HAProxy does not start",
                    backend.name(),
                    engine.name()
                ),
                format!("add to the backend: mode {wanted}"),
            );
        }
    }
}

fn same_name(config: &Config, backend: &Proxy, found: &mut Findings) {
    let mut proxies = config.proxies.iter();
    let Some(frontend) = proxies.find(|proxy| {
        !proxy.is_backend() && proxy.name() == backend.name() && proxy.place() != backend.place()
    }) else {
        return;
    };
    let text = format!(
        "backend '{}' has the name of the frontend in line {}",
        backend.name(),
        frontend.place().line
    );
    let fix = "give the backend another name, here and in use-backend";
    if config.version >= HaproxyVersion::V3_3 {
        found.error(
            "backend-name",
            backend.place(),
            format!("{text}: HAProxy does not start"),
            fix,
        );
    } else if config.version >= HaproxyVersion::V3_2 {
        found.warning(
            "backend-name",
            backend.place(),
            format!("{text}: HAProxy warns of it, and refuses it from 3.3 on"),
            fix,
        );
    }
}

/// A server's options, with those of `default-server`.
fn keywords<'c>(backend: &'c Proxy, line: &'c Line) -> impl Iterator<Item = &'c str> {
    let defaults = backend
        .all_lines()
        .filter(|line| line.word(0) == "default-server");
    let words = defaults.flat_map(|line| line.rest(1));
    words
        .chain(line.rest(address_index(line) + 1))
        .map(|word| word.text.as_str())
}

/// Whether a keyword that may be taken back with `no-` is on.
fn is_on(backend: &Proxy, line: &Line, keyword: &str) -> bool {
    let mut is_on = false;
    for word in keywords(backend, line) {
        if word == keyword {
            is_on = true;
        } else if word.strip_prefix("no-") == Some(keyword) {
            is_on = false;
        }
    }
    is_on
}

fn server(
    config: &Config,
    backend: &Proxy,
    line: &Line,
    options: &CheckOptions,
    found: &mut Findings,
) {
    let name = line.word(1);
    let is_checked = is_on(backend, line, "check");
    // Another server's checks may count for this one.
    let is_tracked = keywords(backend, line).any(|word| word == "track");
    if is_checked && !backend.has_option("spop-check") {
        found.warning(
            "check-plain",
            line.place,
            format!(
                "server {name} is checked, and {} '{}' has no option spop-check: an agent that takes \
                 connections and does not answer counts as up, and one that drains too",
                kind(backend.kind),
                backend.name()
            ),
            "add to the backend: option spop-check",
        );
    } else if !is_checked && !is_tracked {
        found.warning(
            "check-missing",
            line.place,
            format!("server {name} is not checked: it counts as up, and is asked, where no agent is there"),
            "add check to the line, and option spop-check to the backend",
        );
    }
    for (keyword, what) in [
        ("ssl", "TLS"),
        ("send-proxy", "the PROXY protocol"),
        ("send-proxy-v2", "the PROXY protocol"),
    ] {
        if is_on(backend, line, keyword) {
            found.error(
                "server-encryption",
                line.place,
                format!("server {name} has {keyword}, and the agent does not speak {what}: no connection comes about"),
                match keyword {
                    "ssl" => "take it out; between hosts, put the connection into a tunnel that ends TLS",
                    _ => "take it out",
                },
            );
        }
    }
    if let Some(word) = line
        .words
        .get(address_index(line))
        .filter(|word| !word.is_open)
    {
        address(config, word, line.place, options, found);
    }
}

fn address(
    config: &Config,
    word: &Word,
    place: Place,
    options: &CheckOptions,
    found: &mut Findings,
) {
    let chroot = config
        .global_setting(&["chroot"])
        .and_then(|line| line.words.get(1));
    let chroot = chroot
        .filter(|word| !word.is_open)
        .map(|word| word.text.trim_end_matches('/'));
    let path = socket_path(&word.text);
    let is_there = |address: &str| options.listen.iter().any(|listen| is_same(listen, address));
    if let (Some(root), Some(path)) = (chroot, path) {
        let inside = format!("{root}{path}");
        let is_listening = is_there(&format!("unix@{inside}"));
        let is_outside = is_there(&word.text)
            || path
                .strip_prefix(root)
                .is_some_and(|rest| rest.starts_with('/'));
        if is_listening {
        } else if is_outside {
            let fix = match path.strip_prefix(root).filter(|rest| rest.starts_with('/')) {
                Some(rest) => format!("leave the folder out: unix@{rest}"),
                None => format!(
                    "have the agent listen at unix:{root}/..., and leave {root} out here; or use TCP"
                ),
            };
            found.error(
                "server-chroot",
                place,
                format!(
                    "HAProxy looks for this socket at {inside}, inside its chroot, where it is not"
                ),
                fix,
            );
        } else if options.listen.is_empty() {
            found.note(
                "server-chroot",
                place,
                format!("HAProxy looks for this socket at {inside}, inside its chroot"),
                format!("see to it that the agent listens there: listen = [\"unix:{inside}\"]"),
            );
        } else {
            elsewhere(&word.text, place, options, found);
        }
        return;
    }
    if !options.listen.is_empty() && !is_there(&word.text) {
        elsewhere(&word.text, place, options, found);
    }
}

fn elsewhere(address: &str, place: Place, options: &CheckOptions, found: &mut Findings) {
    let listen = options.listen.join(", ");
    found.warning(
        "server-address",
        place,
        format!("the agent does not listen at {address}"),
        format!("it listens at {listen}; change the one or the other"),
    );
}

/// The path of a Unix socket.
fn socket_path(address: &str) -> Option<&str> {
    let path = address.strip_prefix("unix@").unwrap_or(address);
    path.starts_with('/').then_some(path)
}

/// Whether a server at `address` reaches who listens at `listen`. Names of hosts may be any address.
fn is_same(listen: &str, address: &str) -> bool {
    match (socket_path(listen), socket_path(address)) {
        (Some(listen), Some(path)) => return listen == path,
        (None, None) => {}
        _ => return false,
    }
    let plain = |address: &str| -> Option<(String, String)> {
        let address = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"]
            .iter()
            .find_map(|family| address.strip_prefix(family))
            .unwrap_or(address);
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host.to_owned(), port.to_owned()))
    };
    let (Some((listen_host, listen_port)), Some((host, port))) = (plain(listen), plain(address))
    else {
        // Another family, as a descriptor or an abstract socket: not to be judged.
        return address.contains('@');
    };
    let number = |host: &str| host.parse::<std::net::IpAddr>().ok();
    listen_port == port
        && match (number(&listen_host), number(&host)) {
            (Some(listen), Some(host)) => listen == host || listen.is_unspecified(),
            _ => true,
        }
}

/// Options of the agent that are about its connections.
fn connections(config: &Config, engine: &Engine, options: &CheckOptions, found: &mut Findings) {
    let Some(agent) = engine.agent() else {
        return;
    };
    let last = |name: &str| {
        let mut lines = agent.body.iter().rev();
        lines.find(|line| line.begins(&["option", name]) || line.begins(&["no", "option", name]))
    };
    if let Some(line) = last("pipelining").filter(|line| line.word(0) == "no") {
        found.note(
            "option-pipelining",
            line.place,
            "without pipelining each connection has one message under way: HAProxy opens as many as there \
             are requests at a time",
            "take the line out, the agent takes any number",
        );
    }
    if let Some(line) = last("async").filter(|line| line.word(0) == "option")
        && !config.version.has_multiplexer()
    {
        found.note(
            "option-async",
            line.place,
            "the agent does not take async, which is on anyway: answers come on the connection of their \
             message, so that one that breaks is noticed at once",
            "take the line out",
        );
    }
    if config.version == HaproxyVersion::V3_1 && options.never_empty_acks == Some(false) {
        found.note(
            "empty-acks",
            agent.place(),
            "HAProxy 3.1.0 and the first 3.1.x wait for timeout processing where the agent sets nothing",
            "set never-empty-acks for the agent, or take a later 3.1",
        );
    }
}
