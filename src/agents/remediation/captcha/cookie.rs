//! The cookie that carries a captcha's token.

use crate::agents::remediation::problem::{Problems, shown};
use crate::agents::remediation::settings::CookieSettings;

/// Its name.
pub const CAPTCHA_COOKIE: &str = "crowdsec_captcha_cookie";

/// The longest value of a `Set-Cookie` header, in bytes: what browsers keep.
const MAX_COOKIE_LEN: usize = 4096;

/// When the cookie is for TLS alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureCookie {
    /// If the request came over TLS.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The attributes of the cookie that a configuration may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieAttributes {
    /// Whether it is for TLS alone.
    pub secure: SecureCookie,
    /// Whether scripts do not see it.
    pub http_only: bool,
}

impl Default for CookieAttributes {
    fn default() -> Self {
        Self {
            secure: SecureCookie::Auto,
            http_only: true,
        }
    }
}

impl CookieAttributes {
    pub(super) fn of_settings(
        settings: Option<&CookieSettings>,
        problems: &mut Problems<'_>,
    ) -> Self {
        let Some(settings) = settings else {
            return Self::default();
        };
        let secure = match settings.secure.as_deref() {
            None | Some("" | "auto") => SecureCookie::Auto,
            Some("always") => SecureCookie::Always,
            Some("never") => SecureCookie::Never,
            Some(other) => {
                problems.warning(
                    "captcha.cookie.secure",
                    format_args!(
                        "is {}, which counts as never: want auto, always or never",
                        shown(other)
                    ),
                );
                SecureCookie::Never
            }
        };
        Self {
            secure,
            http_only: settings.http_only.unwrap_or(true),
        }
    }

    /// The value of the `Set-Cookie` header that gives a browser this token; `None` if it is longer than
    /// browsers keep.
    #[must_use]
    pub fn set(&self, token: &str, is_tls: bool) -> Option<String> {
        let text = self.text(token, "", is_tls);
        (text.len() <= MAX_COOKIE_LEN).then_some(text)
    }

    /// The value of the `Set-Cookie` header that takes the token away.
    #[must_use]
    pub fn deletion(&self, is_tls: bool) -> String {
        self.text("", "; Max-Age=0", is_tls)
    }

    fn text(&self, token: &str, age: &str, is_tls: bool) -> String {
        let is_secure = match self.secure {
            SecureCookie::Auto => is_tls,
            SecureCookie::Always => true,
            SecureCookie::Never => false,
        };
        let http_only = if self.http_only { "; HttpOnly" } else { "" };
        let secure = if is_secure { "; Secure" } else { "" };
        [
            CAPTCHA_COOKIE,
            "=",
            token,
            "; Path=/",
            age,
            http_only,
            secure,
            "; SameSite=Strict",
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_the_reference() {
        let attributes = CookieAttributes::default();
        assert_eq!(
            attributes.set("a.b.c", true).unwrap(),
            "crowdsec_captcha_cookie=a.b.c; Path=/; HttpOnly; Secure; SameSite=Strict"
        );
        assert_eq!(
            attributes.set("a.b.c", false).unwrap(),
            "crowdsec_captcha_cookie=a.b.c; Path=/; HttpOnly; SameSite=Strict"
        );
        assert_eq!(
            attributes.deletion(true),
            "crowdsec_captcha_cookie=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"
        );
    }

    #[test]
    fn attributes_are_chosen() {
        let read = |secure: &str| {
            let settings = CookieSettings {
                secure: Some(secure.to_owned()),
                http_only: Some(false),
            };
            let mut found = Vec::new();
            let mut problems = Problems::new("host 1", &mut found);
            let attributes = CookieAttributes::of_settings(Some(&settings), &mut problems);
            (attributes, found.len())
        };
        for (word, over_tls, plain, problems) in [
            ("auto", true, false, 0),
            ("always", true, true, 0),
            ("never", false, false, 0),
            ("yes", false, false, 1),
        ] {
            let (attributes, found) = read(word);
            assert_eq!(found, problems, "{word}");
            let is_secure = |is_tls| attributes.deletion(is_tls).contains("; Secure;");
            assert_eq!(
                (is_secure(true), is_secure(false)),
                (over_tls, plain),
                "{word}"
            );
            assert!(!attributes.deletion(true).contains("HttpOnly"));
        }
    }

    #[test]
    fn what_browsers_would_not_keep_is_not_sent() {
        let attributes = CookieAttributes::default();
        let around = attributes.set("", false).unwrap().len();
        let longest = "a".repeat(4096 - around);
        assert_eq!(attributes.set(&longest, false).unwrap().len(), 4096);
        assert_eq!(attributes.set(&longest, true), None);
    }
}
