//! The tables of fetches and converters against what each HAProxy registers.

use std::process::Command;

use ringspoa::ValueTypes;
use ringspoa::haproxy_config::sample_types;

use crate::fixture::{INSTALLED, root};

/// `name(arguments): type`, or `name(arguments): out => in`; the name, and what comes out.
fn registered(line: &str) -> Option<(&str, &str)> {
    let line = line.rsplit_once("] ").map_or(line, |(_, rest)| rest);
    let (head, types) = line.rsplit_once(": ")?;
    let name = head.split('(').next()?;
    let out = types.split(" => ").next()?;
    (!name.contains(' ')).then_some((name, out))
}

fn on_the_wire(registered: &str) -> Option<ValueTypes> {
    Some(match registered {
        "bool" => ValueTypes::BOOL,
        "sint" => ValueTypes::INT64,
        // Up to 2.8 what may be either is declared as the one.
        "addr" | "ipv4" => ValueTypes::ADDRESS,
        "ipv6" => ValueTypes::IPV6,
        "str" | "meth" => ValueTypes::STRING,
        "bin" => ValueTypes::BINARY,
        _ => return None,
    })
}

#[test]
fn types_are_those_that_haproxy_registers() {
    // Seen on the wire as text, or as an address.
    let exceptions = ["bc_dst", "bc_src", "req.body_param", "req.hdrs", "res.hdrs"];
    let null = |types: ValueTypes| types.or(ValueTypes::NULL);
    for version in INSTALLED {
        let program = root().join(format!(".haproxy/{version}/haproxy"));
        let output = Command::new(program)
            .args(["-dKsmp,cnv", "-c", "-f", "/dev/null"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (converters, fetches): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| line.contains(" => "));
        let (mut known, mut unknown) = (0, Vec::new());
        let expressions = converters
            .iter()
            .map(|line| (line, "src,"))
            .chain(fetches.iter().map(|line| (line, "")));
        for (line, before) in expressions {
            let Some((name, out)) = registered(line).filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let Some(declared) = on_the_wire(out) else {
                continue;
            };
            match sample_types(&format!("{before}{name}")) {
                None => unknown.push(name),
                Some(_) if exceptions.contains(&name) => known += 1,
                Some(types) => {
                    known += 1;
                    assert!(
                        null(types).contains(declared) || null(declared).contains(types),
                        "{version} {before}{name}: {types}, and HAProxy has {out}"
                    );
                }
            }
        }
        assert!(known > 400, "{version}: {known} known, not so {unknown:?}");
        assert!(unknown.len() < 90, "{version}: {unknown:?}");
    }
}
