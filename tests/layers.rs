//! Who may import whom. The arrows are the ones of the module map in the README's chapter on the
//! code; what is not listed is forbidden, so the codec builds alone and an agent runs in a test
//! without a socket.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the library, and which other rooms each may name with `crate::`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("spop", &[]),
    ("connection", &["spop"]),
    ("dump", &["spop"]),
    ("message", &["spop"]),
    ("agent", &["connection", "message", "spop"]),
    ("agents", &["agent", "message", "outbound", "spop"]),
    ("haproxy_config", &["agent", "message", "spop"]),
    (
        "harness",
        &["agent", "connection", "haproxy_config", "message", "spop"],
    ),
    ("metrics", &[]),
    ("outbound", &[]),
    ("sources", &["agents", "outbound"]),
    (
        "server",
        &["agent", "connection", "dump", "metrics", "spop"],
    ),
    ("admin", &["metrics", "server"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The room a file is in: `src/server/pump.rs` is in `server`.
fn room(relative: &Path) -> String {
    let first = relative.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of each file below src, without comments, with its path.
fn code() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 20, "the sources were not found");
    let code = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    };
    found
        .iter()
        .map(|path| (path.strip_prefix(&root).unwrap().to_owned(), code(path)))
        .collect()
}

#[test]
fn rooms_import_only_what_the_map_allows() {
    for (path, text) in code() {
        let room = room(&path);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == room) else {
            assert!(
                [
                    "lib",
                    "main",
                    "challenge",
                    "challenge_sample",
                    "check",
                    "config",
                    "decode",
                    "import",
                    "lines",
                    "logging",
                    "lookup",
                    "manual",
                    "page",
                    "remediation",
                    "process",
                    "serve",
                    "service_manager",
                    "shown",
                    "spoe_config",
                    "token"
                ]
                .contains(&room.as_str()),
                "{room} is not on the map"
            );
            continue;
        };
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let imported = &rest[..end];
            assert!(
                imported == room || allowed.contains(&imported),
                "{} imports crate::{imported}, which {room} may not",
                path.display()
            );
        }
    }
}

/// Whether the code names it, and not only something that ends like it: `unix::` is not `nix::`.
fn names(text: &str, what: &str) -> bool {
    let mut places = text.match_indices(what);
    places.any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn only_the_server_knows_its_runtime_and_the_codec_knows_core_only() {
    for (path, text) in code() {
        let room = room(&path);
        for outside in ["monoio", "io_uring::", "core_affinity", "socket2", "nix::"] {
            // The binary raises its own limits, gives up its own privileges and says what it takes;
            // the admin listener waits for requests, and the log asks whether stderr has room.
            if ["serve", "lines", "config", "process", "admin", "logging"].contains(&room.as_str())
                && outside == "nix::"
            {
                continue;
            }
            assert!(
                room == "server" || !names(&text, outside),
                "{} names {outside}",
                path.display()
            );
        }
        for outside in ["tokio", "hyper", "rustls"] {
            assert!(
                room == "outbound" || !text.contains(outside),
                "{} names {outside}",
                path.display()
            );
        }
        let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
        assert!(
            room != "spop" || !text[..tests].contains("std::"),
            "{} names std; the codec is core only",
            path.display()
        );
    }
}

#[test]
fn unsafe_code_is_where_it_says_why() {
    for (path, text) in code() {
        let blocks = text.matches("unsafe {").count();
        let expected = match path.to_str().unwrap() {
            // A NOP of a ring that is tried, and the cancelling of reads.
            "server/driver.rs" => 2,
            // Descriptors: of an accepted connection, of a listener and of a socket to share.
            "server/io.rs" => 3,
            // Descriptors that other processes sent.
            "server/hand_over.rs" | "service_manager.rs" => 1,
            _ => 0,
        };
        assert_eq!(blocks, expected, "{}", path.display());
    }
}
