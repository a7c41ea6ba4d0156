//! One pattern of host names: the language of Go's `filepath.Match`, which configurations are written in.

use std::fmt;

/// A pattern of host names.
///
/// | | |
/// |---|---|
/// | `*` | any run of characters except `/`, dots included; also none |
/// | `?` | one character except `/` |
/// | `[a-z]`, `[^a-z]` | one character of these, or none of these |
/// | `\x` | the character `x` itself |
///
/// All of a name has to match, without regard to ASCII case. As in Go, a `*` takes as little as it can
/// and does not come back to that later, which tells only where a `/` is in the name.
///
/// ```
/// use ringspoa::agents::remediation::HostPattern;
///
/// let pattern = HostPattern::new("*.example.com")?;
/// assert!(pattern.matches(b"a.b.Example.com"));
/// assert!(!pattern.matches(b"example.com"));
/// # Ok::<(), ringspoa::agents::remediation::PatternError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HostPattern {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// These bytes, in lower case where they are ASCII. Never empty, never two in a row.
    Literal(Box<[u8]>),
    /// Never two in a row.
    Star,
    AnyOne,
    Class {
        is_negated: bool,
        ranges: Box<[(char, char)]>,
    },
}

/// What the index needs to know of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// This name and no other.
    Name(&'a [u8]),
    /// Whatever ends so, with no `/` before.
    Tail(&'a [u8]),
    /// Has to be tried: what it begins and ends with.
    Other { head: &'a [u8], tail: &'a [u8] },
}

impl HostPattern {
    /// The longest pattern. Names of hosts have 253 bytes at most (RFC 1035).
    pub const MAX_LEN: usize = 512;

    /// The longest value of a header that a table tries on patterns one by one, which bounds the work.
    pub const MAX_TRIED_LEN: usize = 512;

    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// Where it is none, and why.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let error = |offset, fault| PatternError {
            pattern: text.to_owned(),
            offset,
            fault,
        };
        if text.len() > Self::MAX_LEN {
            return Err(error(Self::MAX_LEN, PatternFault::TooLong));
        }
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.char_indices();
        while let Some((offset, character)) = rest.next() {
            let character = match character {
                '\\' => {
                    let (_, escaped) = rest
                        .next()
                        .ok_or_else(|| error(offset, PatternFault::NothingEscaped))?;
                    escaped
                }
                '*' | '?' | '[' => {
                    flush(&mut literal, &mut parts);
                    parts.push(match character {
                        '*' if parts.last() == Some(&Part::Star) => continue,
                        '*' => Part::Star,
                        '?' => Part::AnyOne,
                        _ => class(&mut rest).map_err(|fault| error(offset, fault))?,
                    });
                    continue;
                }
                character => character,
            };
            let mut utf8 = [0; 4];
            let utf8 = character.to_ascii_lowercase().encode_utf8(&mut utf8);
            literal.extend_from_slice(utf8.as_bytes());
        }
        // Names are looked up without their final dot.
        if !text.contains(':') && literal.ends_with(b".") {
            literal.pop();
        }
        flush(&mut literal, &mut parts);
        Ok(Self {
            text: text.into(),
            parts: parts.into(),
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of `name` matches. It is taken as it is: port and final dot are the caller's.
    ///
    /// The work is at most the product of the lengths.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Behind the last `*`: the next part, and where in the name it was tried last.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let taken = match self.parts.get(part) {
                Some(Part::Star) => {
                    retry = Some((part + 1, at));
                    part += 1;
                    continue;
                }
                Some(other) => other.taken(&name[at..]),
                None if at == name.len() => return true,
                None => None,
            };
            if let Some(len) = taken {
                at += len;
                part += 1;
                continue;
            }
            // The last `*` takes one byte more.
            match retry {
                Some((next, from)) if name.get(from).is_some_and(|&byte| byte != b'/') => {
                    // A `*` at the end takes all that is left, if it can.
                    if next == self.parts.len() {
                        return !name[from..].contains(&b'/');
                    }
                    retry = Some((next, from + 1));
                    (part, at) = (next, from + 1);
                }
                _ => return false,
            }
        }
    }

    pub(super) fn shape(&self) -> Shape<'_> {
        match &*self.parts {
            [] => Shape::Name(b""),
            [Part::Literal(name)] => Shape::Name(name),
            [Part::Star] => Shape::Tail(b""),
            [Part::Star, Part::Literal(tail)] => Shape::Tail(tail),
            [first, .., last] => Shape::Other {
                head: first.literal(),
                tail: last.literal(),
            },
            [_] => Shape::Other {
                head: b"",
                tail: b"",
            },
        }
    }
}

impl Part {
    fn literal(&self) -> &[u8] {
        match self {
            Self::Literal(bytes) => bytes,
            _ => b"",
        }
    }

    /// How many bytes at the front of `name` it is, if it is there. Not for `*`.
    fn taken(&self, name: &[u8]) -> Option<usize> {
        match self {
            Self::Literal(bytes) => {
                let front = name.get(..bytes.len())?;
                front.eq_ignore_ascii_case(bytes).then_some(bytes.len())
            }
            Self::AnyOne => match name.first()? {
                b'/' => None,
                _ => Some(character(name).1),
            },
            Self::Class { is_negated, ranges } => {
                name.first()?;
                let (character, len) = character(name);
                // Names are lower case for a pattern, and a class may be written in capitals.
                let both = [
                    character.to_ascii_lowercase(),
                    character.to_ascii_uppercase(),
                ];
                let is_in = |&(first, last): &(char, char)| {
                    both.iter().any(|case| (first..=last).contains(case))
                };
                (ranges.iter().any(is_in) != *is_negated).then_some(len)
            }
            Self::Star => Some(0),
        }
    }
}

/// The character at the front of bytes that are not empty, and its length; a byte that is not UTF-8 is
/// U+FFFD, as in Go.
fn character(bytes: &[u8]) -> (char, usize) {
    let front = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(front) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&front[..error.valid_up_to()]).unwrap_or_default(),
    };
    let first = valid.chars().next();
    first.map_or((char::REPLACEMENT_CHARACTER, 1), |first| {
        (first, first.len_utf8())
    })
}

fn flush(literal: &mut Vec<u8>, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal).into()));
    }
}

/// A class, behind its `[`.
fn class(rest: &mut std::str::CharIndices<'_>) -> Result<Part, PatternFault> {
    let is_negated = rest.as_str().starts_with('^');
    if is_negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && rest.as_str().starts_with(']') {
            rest.next();
            break;
        }
        let first = end_of_range(rest)?;
        let mut last = first;
        if rest.as_str().starts_with('-') {
            rest.next();
            last = end_of_range(rest)?;
        }
        ranges.push((first, last));
    }
    Ok(Part::Class {
        is_negated,
        ranges: ranges.into(),
    })
}

fn end_of_range(rest: &mut std::str::CharIndices<'_>) -> Result<char, PatternFault> {
    let (_, mut character) = rest.next().ok_or(PatternFault::OpenClass)?;
    match character {
        '-' | ']' => return Err(PatternFault::BareInClass),
        '\\' => {
            character = rest.next().ok_or(PatternFault::NothingEscaped)?.1;
        }
        _ => {}
    }
    Ok(character)
}

/// As it was written.
impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostPattern({:?})", self.text)
    }
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// The text.
    pub pattern: String,
    /// Where in it the fault is, in bytes from 0: at the `[` of a class.
    pub offset: usize,
    /// The fault.
    pub fault: PatternFault,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternFault {
    /// A `\` with nothing behind it.
    NothingEscaped,
    /// A `[` without its `]`.
    OpenClass,
    /// A `-` or `]` where a class needs a character, which is then written with a `\`.
    BareInClass,
    /// More than [`HostPattern::MAX_LEN`] bytes.
    TooLong,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.offset + 1;
        let text: String = self.pattern.chars().take(80).collect();
        write!(f, "pattern {text:?} ")?;
        match self.fault {
            PatternFault::NothingEscaped => {
                f.write_str("ends in a \\: name the character behind it, or leave it out")
            }
            PatternFault::OpenClass => write!(f, "has no ] to the [ at {place}"),
            PatternFault::BareInClass => {
                write!(
                    f,
                    "has an empty class or range at {place}: write \\- and \\] for these themselves"
                )
            }
            PatternFault::TooLong => write!(f, "has more than {} bytes", HostPattern::MAX_LEN),
        }
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the table in Go's path/filepath/match_test.go what names of hosts can be, and its errors.
    #[test]
    fn matches_as_go_does() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{263a}b", true),
            ("a[^a]b", "a\u{263a}b", true),
            ("a???b", "a\u{263a}b", false),
            ("a[^a][^a][^a]b", "a\u{263a}b", false),
            ("[a-\u{3b6}]*", "\u{3b1}", true),
            ("*[a-\u{3b6}]", "a", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("**x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
            // Go's `*` takes as little as it can: with the `/` in the class it could match.
            ("*[/a]*b", "a/ab", false),
            // Ours: case does not count.
            ("Shop.Example", "sHOP.eXAMPLE", true),
            ("[A-C]x", "bx", true),
            ("[^A-C]x", "bx", false),
            ("a.test.", "a.test", true),
        ] {
            let compiled = HostPattern::new(pattern).unwrap();
            assert_eq!(
                compiled.matches(name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        assert!(HostPattern::new("a?b").unwrap().matches(b"a\xffb"));
    }

    #[test]
    fn what_is_no_pattern_is_named_with_its_place() {
        use PatternFault::{BareInClass, NothingEscaped, OpenClass, TooLong};
        for (pattern, offset, fault) in [
            ("a\\", 1, NothingEscaped),
            ("[]a]", 0, BareInClass),
            ("x[-]", 1, BareInClass),
            ("[x-]", 0, BareInClass),
            ("[-x]", 0, BareInClass),
            ("[a-b-c]", 0, BareInClass),
            ("[", 0, OpenClass),
            ("[^", 0, OpenClass),
            ("[^bc", 0, OpenClass),
            ("a[", 1, OpenClass),
            ("[a\\", 0, NothingEscaped),
            (&"a".repeat(513), 512, TooLong),
        ] {
            let error = HostPattern::new(pattern).unwrap_err();
            assert_eq!((error.offset, error.fault), (offset, fault), "{pattern}");
        }
        assert_eq!(
            HostPattern::new("x[a").unwrap_err().to_string(),
            "pattern \"x[a\" has no ] to the [ at 2"
        );
    }
}
