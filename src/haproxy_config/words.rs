//! Words of a line of HAProxy's configuration (doc/configuration.txt, 2.2, "Quoting and escaping").

use std::borrow::Cow;

/// The word that HAProxy reads as exactly this text, quoted where it has to be. The text has no control
/// characters.
pub(crate) fn quoted(text: &str) -> Cow<'_, str> {
    let is_special = |c: char| matches!(c, ' ' | '"' | '\'' | '\\' | '#' | '$');
    if !text.is_empty() && !text.contains(is_special) {
        return Cow::Borrowed(text);
    }
    if !text.contains('\'') {
        return Cow::Owned(format!("'{text}'"));
    }
    let mut word = String::from('"');
    for c in text.chars() {
        // What these mean inside of double quotes.
        if matches!(c, '"' | '\\' | '$') {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    Cow::Owned(word)
}

/// What is wrong with text that goes into a line as it is, or `None`.
pub(super) fn fault_of_line(text: &str) -> Option<&'static str> {
    if text.contains(char::is_control) {
        return Some("is not one line");
    }
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') if chars.next().is_none() => {
                return Some("ends in a backslash");
            }
            (None, '#') => return Some("has a '#' that HAProxy takes for a comment; quote it"),
            _ => {}
        }
    }
    quote.map(|_| "has a quote that nothing closes")
}

/// The first character that a name of a section may not have, if there is one.
pub(super) fn bad_in_section_name(name: &str) -> Option<char> {
    name.chars()
        .find(|&c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.' | ':'))
}

/// The first character that a name of a variable may not have, if there is one.
pub(super) fn bad_in_variable_name(name: &str) -> Option<char> {
    name.chars()
        .find(|&c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_have_to_be() {
        for (text, word) in [
            ("ip=src", "ip=src"),
            ("p=req.hdr(x-a),lower", "p=req.hdr(x-a),lower"),
            ("a=str(b c)", "'a=str(b c)'"),
            (r#"a=str("b")"#, r#"'a=str("b")'"#),
            (r"a=str(\$#)", r"'a=str(\$#)'"),
            ("a=str('b')", r#""a=str('b')""#),
            (r#"a='"$\"#, r#""a='\"\$\\""#),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), word, "{text}");
        }
    }

    #[test]
    fn lines_that_haproxy_would_read_otherwise_are_found() {
        for text in [
            "if { path_beg /api }",
            r#"if { path -m str "a # b" '"' }"#,
            r#"if { path -m str \" \# "\"" '\' }"#,
        ] {
            assert_eq!(fault_of_line(text), None, "{text}");
        }
        for (text, part) in [
            ("if { path -m str \"a }", "closes"),
            ("if { path -m str 'a }", "closes"),
            (r#"if { path -m str "a\" }"#, "closes"),
            ("if { path_beg /a#b }", "comment"),
            ("if TRUE \\", "backslash"),
            ("if TRUE\nevent x", "one line"),
        ] {
            let fault = fault_of_line(text).unwrap_or_default();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
