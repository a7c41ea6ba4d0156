//! Files as HAProxy reads them: lines of words, with quotes, escapes and comments, and without the
//! branches of `.if` that are not for the version.

use super::finding::{Findings, Place};
use super::version::HaproxyVersion;

/// A configuration file: its name, for what is found in it, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    pub(super) name: String,
    pub(super) text: Vec<u8>,
}

impl ConfigFile {
    /// A file that was read.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The most words HAProxy takes in a line.
const MAX_WORDS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Without quotes and escapes. What is not UTF-8 is replaced.
    pub(super) text: String,
    /// Whether the environment decides on it.
    pub(super) is_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    /// At least one.
    pub(super) words: Vec<Word>,
}

impl Line {
    /// The word at `index`; empty if there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    /// Whether it begins with these words.
    pub(super) fn begins(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len()
            && words
                .iter()
                .zip(&self.words)
                .all(|(wanted, word)| word.text == *wanted)
    }

    /// The words after the first `count`.
    pub(super) fn rest(&self, count: usize) -> &[Word] {
        self.words.get(count..).unwrap_or_default()
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Quote,
    Words,
}

/// Takes a line apart as HAProxy's `parse_line` does.
fn words(line: &[u8]) -> (Vec<Word>, Option<Fault>) {
    let mut words = Vec::new();
    let mut text = Vec::new();
    // A word may be empty, where there are quotes.
    let (mut has_word, mut is_open) = (false, false);
    let mut quote = None;
    let mut index = 0;
    while let Some(&byte) = line.get(index) {
        index += 1;
        match byte {
            b'"' | b'\'' if quote.is_none() => {
                quote = Some(byte);
                has_word = true;
            }
            byte if quote == Some(byte) => quote = None,
            b'\\' if quote != Some(b'\'') => {
                has_word = true;
                let (escaped, len) = escape(&line[index..], quote.is_some());
                text.push(escaped);
                index += len;
            }
            b'#' if quote.is_none() => break,
            byte if quote.is_none() && is_space(byte) => {
                if has_word {
                    words.push(word(&mut text, is_open));
                }
                (has_word, is_open) = (false, false);
            }
            byte => {
                has_word = true;
                // Only there are variables expanded.
                is_open |= byte == b'$' && quote == Some(b'"') && begins_name(&line[index..]);
                text.push(byte);
            }
        }
    }
    if has_word {
        words.push(word(&mut text, is_open));
    }
    let fault = match quote {
        Some(_) => Some(Fault::Quote),
        None => (words.len() > MAX_WORDS).then_some(Fault::Words),
    };
    (words, fault)
}

fn word(text: &mut Vec<u8>, is_open: bool) -> Word {
    let bytes = std::mem::take(text);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Word { text, is_open }
}

/// As C's `isspace`.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// What a backslash makes of the bytes after it, and how many of these it takes. It stays before any
/// other byte.
fn escape(rest: &[u8], in_quotes: bool) -> (u8, usize) {
    let digit = |index: usize| {
        rest.get(index)
            .and_then(|&byte| char::from(byte).to_digit(16))
    };
    match rest.first() {
        Some(&byte @ (b' ' | b'\\' | b'#' | b'"' | b'\'')) => (byte, 1),
        Some(b'$') if in_quotes => (b'$', 1),
        Some(b't') => (b'\t', 1),
        Some(b'r') => (b'\r', 1),
        Some(b'n') => (b'\n', 1),
        Some(b'x') => match (digit(1), digit(2)) {
            (Some(high), Some(low)) => {
                let byte = u8::try_from(high * 16 + low).unwrap_or_default();
                (byte, 3)
            }
            _ => (b'\\', 0),
        },
        _ => (b'\\', 0),
    }
}

fn begins_name(rest: &[u8]) -> bool {
    rest.first()
        .is_some_and(|&byte| byte == b'{' || byte == b'_' || byte.is_ascii_alphabetic())
}

/// Every line of a file that has words.
pub(super) fn lines(file: usize, text: &[u8], found: &mut Findings) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let place = Place {
            file,
            line: index + 1,
        };
        let (words, fault) = words(line);
        match fault {
            Some(Fault::Quote) => found.error(
                "syntax",
                place,
                "a quote is opened and not closed in this line: HAProxy does not start",
                "close it, or write \\\" or \\' for the character itself",
            ),
            Some(Fault::Words) => found.error(
                "syntax",
                place,
                format!(
                    "{} words are more than the {MAX_WORDS} that may be in a line: HAProxy does not start",
                    words.len()
                ),
                "spread them over several lines of the same keyword",
            ),
            None => {}
        }
        if line.contains(&0) {
            found.error(
                "syntax",
                place,
                "there is a NUL byte in this line: HAProxy does not start",
                "write the file as plain text",
            );
        }
        if !words.is_empty() {
            lines.push(Line { place, words });
        }
    }
    if text.last().is_some_and(|&last| last != b'\n') {
        let line = 1 + text.iter().filter(|&&byte| byte == b'\n').count();
        found.error(
            "syntax",
            Place { file, line },
            "the last line does not end with a line feed: HAProxy takes the file for cut short, and does \
             not start",
            "end the file with an empty line",
        );
    }
    lines
}

/// Follows `.if` to `.endif`; what cannot be decided here is left out, and said.
pub(super) fn follow_conditions(
    lines: Vec<Line>,
    version: HaproxyVersion,
    found: &mut Findings,
) -> Vec<Line> {
    /// A `.if` that is open.
    struct Level {
        /// Whether one of its branches was taken, or none can be.
        is_settled: bool,
        is_active: bool,
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut kept = Vec::new();
    for line in lines {
        let directive = line.word(0);
        let condition = || {
            let words: Vec<_> = line.rest(1).iter().map(|word| word.text.as_str()).collect();
            evaluate(&words.join(" "), version)
        };
        let is_outer_active = |levels: &[Level]| {
            let outer = &levels[..levels.len().saturating_sub(1)];
            outer.iter().all(|level| level.is_active)
        };
        match directive {
            ".if" => {
                let is_active = levels.iter().all(|level| level.is_active);
                let condition = if is_active { condition() } else { Some(false) };
                if condition.is_none() {
                    undecided(&line, found);
                }
                levels.push(Level {
                    is_settled: condition != Some(false) || !is_active,
                    is_active: condition == Some(true),
                });
            }
            ".elif" | ".else" => {
                let is_outer_active = is_outer_active(&levels);
                let Some(level) = levels.last_mut() else {
                    continue;
                };
                level.is_active = false;
                if !level.is_settled && is_outer_active {
                    let condition = match directive {
                        ".else" => Some(true),
                        _ => condition(),
                    };
                    if condition.is_none() {
                        undecided(&line, found);
                    }
                    level.is_active = condition == Some(true);
                    level.is_settled = condition != Some(false);
                }
            }
            ".endif" => {
                levels.pop();
            }
            ".diag" | ".notice" | ".warning" | ".alert" => {}
            _ if levels.iter().all(|level| level.is_active) => kept.push(line),
            _ => {}
        }
    }
    kept
}

fn undecided(line: &Line, found: &mut Findings) {
    found.note(
        "not-checked",
        line.place,
        "whether this condition holds is not known here: what stands below it, up to .endif, was not read",
        "check the files as they are where it holds, or read these lines yourself",
    );
}

/// A condition of `.if`, as far as it is about the version.
fn evaluate(condition: &str, version: HaproxyVersion) -> Option<bool> {
    let condition = condition.trim();
    if let Some((left, right)) = condition.split_once("||") {
        return match (evaluate(left, version), evaluate(right, version)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
    }
    if let Some((left, right)) = condition.split_once("&&") {
        return match (evaluate(left, version), evaluate(right, version)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
    }
    if let Some(negated) = condition.strip_prefix('!') {
        return evaluate(negated, version).map(|holds| !holds);
    }
    let argument = |name: &str| {
        let rest = condition.strip_prefix(name)?.trim_start();
        rest.strip_prefix('(')?.strip_suffix(')').map(str::trim)
    };
    match condition {
        "true" | "1" => return Some(true),
        "false" | "0" | "" => return Some(false),
        _ => {}
    }
    if let Some(wanted) = argument("version_atleast") {
        return Some(version >= branch(wanted)?);
    }
    if let Some(wanted) = argument("version_before") {
        return Some(version < branch(wanted)?);
    }
    None
}

/// The branch in `3.2`, `3.2-dev5` or `3.2.0`.
fn branch(text: &str) -> Option<HaproxyVersion> {
    let mut numbers = text.split(['.', '-']);
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    // Whether 3.2 is at least 3.2.5 depends on what follows.
    match numbers.next() {
        None | Some("0") => Some(HaproxyVersion::new(major, minor)),
        Some(after) if after.starts_with("dev") => Some(HaproxyVersion::new(major, minor)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let (words, fault) = words(line.as_bytes());
        assert_eq!(fault, None, "{line}");
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_as_haproxy_takes_them() {
        for (line, expected) in [
            ("", &[][..]),
            ("  # only a comment", &[]),
            ("\targs  ip=src\r", &["args", "ip=src"]),
            ("a b#c d", &["a", "b"]),
            ("a 'b # c' \"d e\"f", &["a", "b # c", "d ef"]),
            ("a \"\" ''", &["a", "", ""]),
            (
                r"a\ b \#c \\ \x41\n \x4 \z",
                &["a b", "#c", "\\", "A\n", "\\x4", "\\z"],
            ),
            (
                r#""a\"b" 'a\b' "it's" \"x"#,
                &["a\"b", "a\\b", "it's", "\"x"],
            ),
            (r#""\$x" \$x"#, &["$x", "\\$x"]),
        ] {
            assert_eq!(texts(line), expected, "{line}");
        }
        assert_eq!(words(b"a 'b").1, Some(Fault::Quote));
        assert_eq!(words(b"\xff \x00").0.len(), 2);
        let many = |count: usize| words("a ".repeat(count).as_bytes()).1;
        assert_eq!((many(64), many(65)), (None, Some(Fault::Words)));
    }

    #[test]
    fn the_environment_is_asked_in_double_quotes_only() {
        for (line, expected) in [
            ("\"${HOME}\"", true),
            ("\"a$HOME\"", true),
            ("$HOME", false),
            ("'${HOME}'", false),
            (r#""\${HOME}""#, false),
            ("\"5$\"", false),
        ] {
            assert_eq!(words(line.as_bytes()).0[0].is_open, expected, "{line}");
        }
    }

    fn kept(text: &str, version: HaproxyVersion) -> (Vec<String>, usize) {
        let mut found = Findings::default();
        let lines = lines(0, text.as_bytes(), &mut found);
        let kept = follow_conditions(lines, version, &mut found);
        let words = kept.iter().map(|line| line.word(0).to_owned());
        (words.collect(), found.finish(&["f"]).len())
    }

    #[test]
    fn branches_of_other_versions_are_left_out() {
        let text = "a\n.if version_atleast(3.1)\nnew\n.if false\nno\n.else\nyes\n.endif\n.elif true\nold\n\
            .else\nnever\n.endif\nz\n";
        assert_eq!(
            kept(text, HaproxyVersion::V3_2),
            (["a", "new", "yes", "z"].map(String::from).to_vec(), 0)
        );
        assert_eq!(
            kept(text, HaproxyVersion::V2_8),
            (["a", "old", "z"].map(String::from).to_vec(), 0)
        );
    }

    #[test]
    fn what_cannot_be_decided_is_left_out_and_said_once() {
        let text = ".if defined(X)\na\n.elif version_atleast(2.0)\nb\n.else\nc\n.endif\nd\n";
        assert_eq!(kept(text, HaproxyVersion::V3_2), (vec!["d".to_owned()], 1));
        for (condition, holds) in [
            ("version_before(3.1) || defined(X)", Some(true)),
            ("version_before(3.0) || defined(X)", None),
            ("version_before(3.0) && defined(X)", Some(false)),
            ("! version_before(3.0)", Some(true)),
            ("version_atleast(3.0.5)", None),
            ("version_atleast(3.0-dev1)", Some(true)),
            ("version_atleast(x)", None),
            ("", Some(false)),
        ] {
            assert_eq!(
                evaluate(condition, HaproxyVersion::V3_0),
                holds,
                "{condition}"
            );
        }
        // Unbalanced ones are HAProxy's to refuse.
        assert_eq!(
            kept(".endif\n.else\na\n.if\nb\n", HaproxyVersion::V3_2).0,
            ["a"]
        );
    }
}
