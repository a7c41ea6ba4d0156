//! Forms: the one that a visitor sends with the solution of a captcha, and the one that its provider is
//! sent.

/// The start of the content type that a form has.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Whether this value of a `Content-Type` is that of a form as browsers send it.
#[must_use]
pub fn is_form(content_type: &[u8]) -> bool {
    content_type
        .get(..FORM.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

/// The first value of a field of a form, decoded: `+` is a space and `%41` a byte.
///
/// Pairs with a `%` that two digits do not follow are passed over, and so are those with a `;`, which
/// some take for what separates pairs: such a body is not read in two ways.
#[must_use]
pub fn form_field(body: &[u8], name: &str) -> Option<Vec<u8>> {
    body.split(|&byte| byte == b'&').find_map(|pair| {
        if pair.contains(&b';') {
            return None;
        }
        let mut halves = pair.splitn(2, |&byte| byte == b'=');
        let (key, value) = (halves.next()?, halves.next().unwrap_or_default());
        if !Decoded(key).eq(name.bytes().map(Ok)) {
            return None;
        }
        Decoded(value).collect::<Result<Vec<u8>, NotEncoded>>().ok()
    })
}

/// The bytes of a percent-encoded text.
struct Decoded<'a>(&'a [u8]);

/// A `%` without two digits behind it.
#[derive(Debug, PartialEq)]
struct NotEncoded;

impl Iterator for Decoded<'_> {
    type Item = Result<u8, NotEncoded>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match first {
            b'+' => Ok(b' '),
            b'%' => {
                let digit = |index: usize| char::from(*rest.get(index)?).to_digit(16);
                let byte = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low);
                self.0 = rest.get(2..).unwrap_or_default();
                byte.and_then(|byte| u8::try_from(byte).ok())
                    .ok_or(NotEncoded)
            }
            other => Ok(other),
        })
    }
}

/// Adds a field to a form that is to be sent.
pub(in crate::agents) fn push_field(form: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !form.is_empty() {
        form.push(b'&');
    }
    form.extend_from_slice(name.as_bytes());
    form.push(b'=');
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(byte);
        } else {
            form.push(b'%');
            for digit in [byte >> 4, byte & 15] {
                form.push(b"0123456789ABCDEF"[usize::from(digit)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_forms() {
        for (value, expected) in [
            ("application/x-www-form-urlencoded", true),
            ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", true),
            ("multipart/form-data; boundary=x", false),
            ("application/x-www-form", false),
            ("", false),
        ] {
            assert_eq!(is_form(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn fields_of_forms() {
        for (body, expected) in [
            ("r=1", Some("1")),
            ("a=0&r=1&r=2", Some("1")),
            ("r", Some("")),
            ("r=", Some("")),
            ("r=a=b", Some("a=b")),
            ("%72=x", Some("x")),
            ("r=%41%62+c%2B", Some("Ab c+")),
            ("r=%4&r=2", Some("2")),
            ("r=%zz&x=1", None),
            ("r=%", None),
            ("r=a;b", None),
            ("a=1;r=2", None),
            ("R=1", None),
            ("rr=1", None),
            ("", None),
            ("&&r=1&", Some("1")),
        ] {
            let value = form_field(body.as_bytes(), "r");
            assert_eq!(value.as_deref(), expected.map(str::as_bytes), "{body}");
        }
    }

    #[test]
    fn what_is_sent_reads_back() {
        let mut form = Vec::new();
        let value: Vec<u8> = (0..=255).collect();
        push_field(&mut form, "secret", b"a&b=c d");
        push_field(&mut form, "response", &value);
        assert!(form.starts_with(b"secret=a%26b%3Dc%20d&response=%00%01"));
        assert_eq!(
            form_field(&form, "secret").as_deref(),
            Some(&b"a&b=c d"[..])
        );
        assert_eq!(form_field(&form, "response"), Some(value));
    }
}
