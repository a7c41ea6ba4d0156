//! The cookie that carries tokens: its names, what may be it in a request, and the header that sets it.

use std::fmt;
use std::fmt::Write;

use super::binding::Visit;
use super::token::{TOKEN_TEXT_LEN, Token, TokenText};

/// The most cookies of one name that are looked at in a request.
pub const MAX_CANDIDATES: usize = 20;

/// How much of a `Cookie` header is looked at, in bytes: all that HAProxy takes, unless it was given much room.
/// Who has many cookies of a site's, or of its neighbours', is not kept out for that.
pub const MAX_COOKIES_LEN: usize = 32_768;

/// The longest name, in bytes.
const MAX_NAME_LEN: usize = 64;

/// What a request brings.
#[derive(Clone, Copy, Debug)]
pub enum Cookies<'a> {
    /// The value of its `Cookie` header.
    Header(&'a [u8]),
    /// The value of the one cookie that HAProxy picked.
    Value(&'a [u8]),
}

/// The names of a realm's cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNames {
    plain: Box<str>,
    host: Box<str>,
    shared: Box<str>,
}

impl Default for CookieNames {
    /// Those of `clearance`.
    fn default() -> Self {
        Self::of("clearance")
    }
}

impl CookieNames {
    /// The names that are made of this one.
    ///
    /// # Errors
    ///
    /// If no cookie can be called so.
    pub fn new(name: &str) -> Result<Self, CookieNameError> {
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let has_prefix = ["__host-", "__secure-"]
            .iter()
            .any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
        if name.is_empty()
            || name.len() > MAX_NAME_LEN
            || has_prefix
            || !name.as_bytes().iter().all(is_token)
        {
            return Err(CookieNameError {
                name: name.to_owned(),
            });
        }
        Ok(Self::of(name))
    }

    fn of(name: &str) -> Self {
        Self {
            plain: name.into(),
            host: format!("__Host-{name}").into(),
            shared: format!("{name}-s").into(),
        }
    }

    /// Those of cookies that nobody set but the host itself, of requests over TLS, and the domain's hosts.
    pub(super) fn over_tls(&self) -> Self {
        Self {
            plain: self.host.clone(),
            ..self.clone()
        }
    }

    /// The name as it was given, which the cookie has without TLS.
    #[must_use]
    pub fn plain(&self) -> &str {
        &self.plain
    }

    /// The name that the cookie has with these attributes.
    #[must_use]
    pub fn name(&self, is_secure: bool, is_shared: bool) -> &str {
        match (is_shared, is_secure) {
            (true, _) => &self.shared,
            (false, true) => &self.host,
            (false, false) => &self.plain,
        }
    }

    /// The texts that may be tokens, at most two of a cookie and [`MAX_CANDIDATES`] cookies of each name.
    ///
    /// Another host of the domain can have browsers send cookies of any name but the one with `__Host-`: however
    /// many these are, that one is found.
    pub fn candidates<'a>(&self, cookies: Cookies<'a>) -> impl Iterator<Item = &'a [u8]> {
        let (header, value) = match cookies {
            Cookies::Header(header) => (&header[..header.len().min(MAX_COOKIES_LEN)], None),
            Cookies::Value(value) => (&[][..], Some(value).filter(|value| !value.is_empty())),
        };
        let mut left = [MAX_CANDIDATES; 3];
        let named = header.split(|&byte| byte == b';').filter_map(move |pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (&pair[..equals], &pair[equals + 1..]);
            let names = [&self.plain, &self.host, &self.shared];
            let left = names
                .iter()
                .zip(&mut left)
                .find_map(|(known, left)| (known.as_bytes() == name).then_some(left))?;
            *left = left.checked_sub(1)?;
            Some(value)
        });
        named
            .chain(value)
            .flat_map(|value| value.splitn(3, |&byte| byte == b'.').take(2))
    }

    /// Adds the value of the `Set-Cookie` header that gives a browser this token, and what it keeps.
    pub fn set_cookie(
        &self,
        attributes: CookieAttributes,
        token: &Token,
        value: &CookieValue,
        visit: &Visit<'_>,
        out: &mut String,
    ) {
        let CookieAttributes {
            is_secure,
            same_site,
        } = attributes;
        let is_shared = token.flags.is_shared();
        let _ = write!(
            out,
            "{}={}; Path=/; Max-Age={}",
            self.name(is_secure, is_shared),
            value.as_str(),
            token.left_s(visit.now_unix_s)
        );
        if let Some(domain) = visit.scope.shared_domain().filter(|_| is_shared) {
            let _ = write!(out, "; Domain={domain}");
        }
        if is_secure {
            out.push_str("; Secure");
        }
        out.push_str("; HttpOnly");
        out.push_str(match same_site {
            SameSite::None if is_secure => "; SameSite=None; Partitioned",
            _ => "; SameSite=Lax",
        });
    }
}

/// What depends on the realm and the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieAttributes {
    /// Whether the request came over TLS.
    pub is_secure: bool,
    /// With which requests of other sites the cookie is sent.
    pub same_site: SameSite,
}

/// A name that no cookie can have, or that browsers attach rules to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNameError {
    /// As it was given.
    pub name: String,
}

impl fmt::Display for CookieNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.name.chars().take(80).collect();
        write!(
            f,
            "{text:?} is no name for the cookie: want 1 to {MAX_NAME_LEN} letters, digits and hyphens, \
             without the prefix __Host- or __Secure-, which is added where it holds"
        )
    }
}

impl std::error::Error for CookieNameError {}

/// With which requests of other sites a browser sends the cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// With those that go to a page.
    #[default]
    Lax,
    /// With all, for pages within those of other sites; over TLS only, else as `Lax`.
    None,
}

/// One token or two, one for each family of addresses.
#[derive(Clone, Copy)]
pub struct CookieValue {
    bytes: [u8; 2 * TOKEN_TEXT_LEN + 1],
    len: usize,
}

impl CookieValue {
    /// The new token in front, and the one that the visitor keeps.
    #[must_use]
    pub fn new(new: &TokenText, kept: Option<&TokenText>) -> Self {
        let mut bytes = [b'.'; 2 * TOKEN_TEXT_LEN + 1];
        bytes[..TOKEN_TEXT_LEN].copy_from_slice(&new.0);
        let mut len = TOKEN_TEXT_LEN;
        if let Some(kept) = kept {
            bytes[TOKEN_TEXT_LEN + 1..].copy_from_slice(&kept.0);
            len = bytes.len();
        }
        Self { bytes, len }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of tokens and a dot.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// Not the tokens: who has them may pass.
impl fmt::Debug for CookieValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieValue")
    }
}
