//! Patterns of host names, and tables of them.

use ringspoa::agents::remediation::{HostPattern, HostTable, host_name};

/// The first line is a `Host` header, each other one a pattern. A pattern is taken or refused, and
/// matches, as Go's `filepath.Match` has it, but for case and a final dot; and a table finds the first
/// that matches in its order.
pub fn host_pattern(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let host = lines.next().unwrap_or_default();
    let name = host_name(host);
    assert!(host.starts_with(name));
    let mut entries = Vec::new();
    for (line, index) in lines.take(32).zip(0..) {
        let Ok(text) = std::str::from_utf8(line) else {
            continue;
        };
        let expected = go_match(&without_final_dot(text), name);
        match HostPattern::new(text) {
            Ok(pattern) => {
                assert_eq!(expected, Some(pattern.matches(name)), "{text:?} {name:?}");
                entries.push((pattern, index));
            }
            Err(error) if text.len() > HostPattern::MAX_LEN => assert_eq!(error.offset, 512),
            Err(error) => {
                assert!(go_match(text, name).is_none(), "{error}");
                assert!(text.is_char_boundary(error.offset) && error.offset < text.len());
                assert!(!error.to_string().is_empty());
            }
        }
    }
    let count = entries.len();
    let table = HostTable::new(entries);
    assert_eq!(table.len(), count);
    let first = table.iter().position(|(pattern, _)| {
        let is_raw = pattern.as_str().contains(':');
        pattern.matches(if is_raw { host } else { name })
    });
    if host.len() <= HostPattern::MAX_TRIED_LEN {
        assert_eq!(table.rank(host), first);
    }
    assert_eq!(
        table.get(host),
        table.rank(host).and_then(|rank| table.at(rank))
    );
}

/// The pattern that names are held against: they have no final dot.
fn without_final_dot(text: &str) -> String {
    match text.strip_suffix('.') {
        Some(rest) if !text.contains(':') && go_match(text, b"").is_some() => {
            let escapes = rest.len() - rest.trim_end_matches('\\').len();
            rest[..rest.len() - escapes % 2].to_owned()
        }
        _ => text.to_owned(),
    }
}

/// Go's `Match` of path/filepath/match.go, line by line; `None` is its `ErrBadPattern`.
fn go_match(mut pattern: &str, mut name: &[u8]) -> Option<bool> {
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = scan_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Some(!name.contains(&b'/'));
        }
        if let Some(left) = match_chunk(chunk, name)?
            && (left.is_empty() || !pattern.is_empty())
        {
            name = left;
            continue;
        }
        if star {
            let mut skipped = 0;
            while skipped < name.len() && name[skipped] != b'/' {
                skipped += 1;
                if let Some(left) = match_chunk(chunk, &name[skipped..])?
                    && (!pattern.is_empty() || left.is_empty())
                {
                    name = left;
                    continue 'pattern;
                }
            }
        }
        while !pattern.is_empty() {
            let (_, chunk, rest) = scan_chunk(pattern);
            pattern = rest;
            match_chunk(chunk, b"")?;
        }
        return Some(false);
    }
    Some(name.is_empty())
}

fn scan_chunk(pattern: &str) -> (bool, &str, &str) {
    let chunk = pattern.trim_start_matches('*');
    let mut in_range = false;
    let mut bytes = chunk.bytes().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'[' => in_range = true,
            b']' => in_range = false,
            b'*' if !in_range => return (chunk != pattern, &chunk[..index], &chunk[index..]),
            _ => {}
        }
    }
    (chunk != pattern, chunk, "")
}

/// What is left of the name behind the chunk; the inner `None` is that it does not match.
#[allow(
    clippy::option_option,
    reason = "an error and a failure are two things"
)]
fn match_chunk<'a>(mut chunk: &str, mut name: &'a [u8]) -> Option<Option<&'a [u8]>> {
    let mut failed = false;
    while let Some(first) = chunk.chars().next() {
        failed |= name.is_empty();
        let take = |len: usize, name: &mut &'a [u8]| *name = &name[len..];
        match first {
            '[' => {
                let (character, len) = if failed { ('\0', 0) } else { decode(name) };
                take(len, &mut name);
                chunk = &chunk[1..];
                let negated = chunk.starts_with('^');
                chunk = chunk.strip_prefix('^').unwrap_or(chunk);
                let (mut found, mut count) = (false, 0);
                loop {
                    if count > 0 && chunk.starts_with(']') {
                        chunk = &chunk[1..];
                        break;
                    }
                    let low = get_escaped(&mut chunk)?;
                    let mut high = low;
                    if chunk.starts_with('-') {
                        chunk = &chunk[1..];
                        high = get_escaped(&mut chunk)?;
                    }
                    let cases = [
                        character.to_ascii_lowercase(),
                        character.to_ascii_uppercase(),
                    ];
                    found |= cases.iter().any(|&case| low <= case && case <= high);
                    count += 1;
                }
                failed |= found == negated;
            }
            '?' => {
                if !failed {
                    failed |= name[0] == b'/';
                    take(decode(name).1, &mut name);
                }
                chunk = &chunk[1..];
            }
            _ => {
                if first == '\\' {
                    chunk = &chunk[1..];
                }
                let literal = chunk.chars().next()?;
                let len = literal.len_utf8();
                if !failed {
                    let is_there = name
                        .get(..len)
                        .is_some_and(|front| front.eq_ignore_ascii_case(&chunk.as_bytes()[..len]));
                    failed |= !is_there;
                    if is_there {
                        take(len, &mut name);
                    }
                }
                chunk = &chunk[len..];
            }
        }
    }
    Some((!failed).then_some(name))
}

fn get_escaped(chunk: &mut &str) -> Option<char> {
    if chunk.starts_with(['-', ']']) {
        return None;
    }
    let rest = chunk.strip_prefix('\\').unwrap_or(chunk);
    let character = rest.chars().next()?;
    *chunk = &rest[character.len_utf8()..];
    (!chunk.is_empty()).then_some(character)
}

fn decode(name: &[u8]) -> (char, usize) {
    for len in 1..=name.len().min(4) {
        if let Ok(text) = std::str::from_utf8(&name[..len])
            && let Some(character) = text.chars().next()
        {
            return (character, len);
        }
    }
    (char::REPLACEMENT_CHARACTER, 1)
}
