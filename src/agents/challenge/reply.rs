//! Texts of replies, in room of a fixed size: nothing is allocated to answer.

use std::fmt;

/// A text of at most `N` bytes. What does not fit marks it as too long, and it then counts for nothing.
#[derive(Clone, Copy)]
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
    is_too_long: bool,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
            is_too_long: false,
        }
    }
}

impl<const N: usize> Text<N> {
    pub(super) const fn clear(&mut self) {
        self.len = 0;
        self.is_too_long = false;
    }

    /// The text; `None` if it is empty or did not fit.
    pub(super) fn get(&self) -> Option<&str> {
        if self.is_too_long || self.len == 0 {
            return None;
        }
        // Only texts and ASCII bytes are put in.
        std::str::from_utf8(&self.bytes[..self.len]).ok()
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        match self.bytes[self.len..].get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(text.as_bytes());
                self.len += text.len();
            }
            None => self.is_too_long = true,
        }
        self
    }

    /// How many bytes there is room for yet.
    pub(super) const fn room(&self) -> usize {
        match self.is_too_long {
            true => 0,
            false => N - self.len,
        }
    }

    /// Takes this off its end, if it ends so.
    pub(super) fn cut(&mut self, end: &str) -> bool {
        let is_end = self.bytes[..self.len].ends_with(end.as_bytes());
        if is_end {
            self.len -= end.len();
        }
        is_end
    }

    /// A byte of ASCII; others are not taken.
    pub(super) fn push_ascii(&mut self, byte: u8) -> &mut Self {
        match self.bytes.get_mut(self.len) {
            Some(room) if byte.is_ascii() => {
                *room = byte;
                self.len += 1;
            }
            _ => self.is_too_long = true,
        }
        self
    }

    pub(super) fn push_number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = number;
        loop {
            start -= 1;
            digits[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        for &digit in &digits[start..] {
            self.push_ascii(digit);
        }
        self
    }

    /// As a part of a query: every byte but those that mean nothing anywhere is percent-encoded. `/` stays.
    pub(super) fn push_encoded(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                self.push_ascii(byte);
            } else {
                self.push_ascii(b'%');
                for digit in [byte >> 4, byte & 15] {
                    self.push_ascii(b"0123456789ABCDEF"[usize::from(digit)]);
                }
            }
        }
        self
    }

    /// How long it is.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Takes back what was put in since it was so long, also that something did not fit.
    pub(super) const fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
        }
        self.is_too_long = false;
    }
}

/// Adds a text as a string of JSON that may also stand in a page: what would end it in either is escaped.
pub(super) fn push_json(out: &mut String, text: &str) {
    use fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' | '<' | '>' | '&' | '\'' | '\u{2028}' | '\u{2029}' | '\0'..'\u{20}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Its length alone: what is in it may be a token.
impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text")
            .field("len", &self.len)
            .field("is_too_long", &self.is_too_long)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_kinds() {
        let mut text = Text::<64>::default();
        text.push("a").push_number(0).push_number(u64::MAX);
        assert_eq!(text.get(), Some("a018446744073709551615"));
        text.clear();
        assert_eq!(text.get(), None);
        text.push_encoded(b"/a b\r\n?x=1&y=\xff%");
        assert_eq!(text.get(), Some("/a%20b%0D%0A%3Fx%3D1%26y%3D%FF%25"));
    }

    #[test]
    fn json_does_not_end_a_script_element() {
        let mut json = String::new();
        let given = "</script>\"\\\n\u{1}'&\u{2028}\u{e9}";
        push_json(&mut json, given);
        assert!(!json.contains('<') && !json.contains('\u{2028}'), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), given);
    }

    #[test]
    fn an_end_is_taken_off() {
        let mut text = Text::<8>::default();
        assert!(!text.cut("}"));
        text.push("{a}");
        assert_eq!(text.room(), 5);
        assert!(text.cut("}"));
        assert!(!text.cut("}"));
        assert_eq!(text.get(), Some("{a"));
        text.push("too long for it");
        assert_eq!(text.room(), 0);
    }

    #[test]
    fn what_does_not_fit_is_no_half_text() {
        let mut text = Text::<4>::default();
        text.push("abcd");
        assert_eq!(text.get(), Some("abcd"));
        text.push("e");
        assert_eq!(text.get(), None);
        let mut text = Text::<4>::default();
        text.push("abcde").push("");
        assert_eq!(text.get(), None);
        text.truncate(0);
        text.push("ab");
        let len = text.len();
        text.push("cde").truncate(len);
        assert_eq!(text.get(), Some("ab"));
        let mut text = Text::<4>::default();
        text.push_ascii(0xff);
        assert_eq!(text.get(), None);
    }
}
