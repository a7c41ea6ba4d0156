//! Clearance tokens: what a visitor keeps who has solved a challenge.
//!
//! ```text
//!  0 version  1 key id  2 flags  3 level  4 issued  8 expires  12 id
//! 20 tag of the address  26 of the user agent  29 of the TLS  32 signature of all before and the scope
//! ```
//!
//! A token follows from its challenge alone, so that sending a solution again gives the same bytes, with
//! the same end.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::CLOCK_TOLERANCE_S;
use super::binding::{Mismatch, Tags, Visit};
use super::challenge::Failure;
use super::cookie::{CookieNames, Cookies};
use super::keyring::{MAC_LEN, RealmKey, RealmKeys};
use super::puzzle::Solved;

const VERSION: u8 = 1;

/// The length of a token in bytes.
pub const TOKEN_LEN: usize = 48;

/// The length of its text: base64url without padding.
pub const TOKEN_TEXT_LEN: usize = 64;

/// What is signed of it.
const SIGNED_LEN: usize = TOKEN_LEN - MAC_LEN;

/// What a visitor did for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Waited.
    Wait,
    /// Found nonces by SHA-256.
    Pow,
    /// Solved a captcha.
    Captcha,
    /// Waited without a script.
    NoJs,
    /// Nothing: the operator made it.
    Operator,
    /// Found nonces by PBKDF2.
    Pbkdf2,
}

impl Class {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Pow => "pow",
            Self::Captcha => "captcha",
            Self::NoJs => "nojs",
            Self::Operator => "operator",
            Self::Pbkdf2 => "pbkdf2",
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Wait => 0,
            Self::Pow => 1,
            Self::Captcha => 2,
            Self::NoJs => 3,
            Self::Operator => 4,
            Self::Pbkdf2 => 5,
        }
    }
}

/// What a token is of, in one byte.
///
/// ```text
/// 0 IPv6  1-3 bound to address, user agent, TLS  4-6 class  7 of a trusted domain
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub(super) u8);

impl Flags {
    const IPV6: u8 = 1;
    const ADDRESS: u8 = 1 << 1;
    const USER_AGENT: u8 = 1 << 2;
    const TLS: u8 = 1 << 3;
    const SHARED: u8 = 1 << 7;

    /// Whether the visitor came over IPv6.
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.0 & Self::IPV6 != 0
    }

    /// Whether it is bound to the address.
    #[must_use]
    pub const fn binds_address(self) -> bool {
        self.0 & Self::ADDRESS != 0
    }

    /// Whether it is bound to the user agent.
    #[must_use]
    pub const fn binds_user_agent(self) -> bool {
        self.0 & Self::USER_AGENT != 0
    }

    /// Whether it is bound to the TLS.
    #[must_use]
    pub const fn binds_tls(self) -> bool {
        self.0 & Self::TLS != 0
    }

    /// Whether it is for all hosts of a trusted domain.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        self.0 & Self::SHARED != 0
    }

    /// What the visitor does for it; `None` of what this version does not know.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        match self.0 >> 4 & 7 {
            0 => Some(Class::Wait),
            1 => Some(Class::Pow),
            2 => Some(Class::Captcha),
            3 => Some(Class::NoJs),
            4 => Some(Class::Operator),
            5 => Some(Class::Pbkdf2),
            _ => None,
        }
    }

    pub(super) const fn set_ipv6(&mut self, is_ipv6: bool) {
        self.0 |= is_ipv6 as u8;
    }

    pub(super) const fn bind_address(&mut self) {
        self.0 |= Self::ADDRESS;
    }

    pub(super) const fn bind_user_agent(&mut self) {
        self.0 |= Self::USER_AGENT;
    }

    pub(super) const fn bind_tls(&mut self) {
        self.0 |= Self::TLS;
    }

    pub(super) const fn set_class(&mut self, class: Class) {
        self.0 |= class.bits() << 4;
    }

    pub(super) const fn set_shared(&mut self, is_shared: bool) {
        self.0 |= (is_shared as u8) << 7;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flags")
            .field("is_ipv6", &self.is_ipv6())
            .field("binds_address", &self.binds_address())
            .field("binds_user_agent", &self.binds_user_agent())
            .field("binds_tls", &self.binds_tls())
            .field("class", &self.class())
            .field("is_shared", &self.is_shared())
            .finish()
    }
}

/// What a token is told apart from others by: the first bytes of its challenge's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(pub [u8; 8]);

/// In hexadecimal digits.
impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The key that signed it.
    pub key_id: u8,
    /// What it is of.
    pub flags: Flags,
    /// The level that it is good for, and all below.
    pub level: u8,
    /// The second since 1970 at which the challenge was made.
    pub issued: u32,
    /// The second at which it is over.
    pub expires: u32,
    /// What it is told apart by.
    pub id: TokenId,
    /// What it is bound to.
    pub tags: Tags,
}

impl Token {
    /// What the visitor did for it.
    #[must_use]
    pub fn class(&self) -> Class {
        // Tokens of a class that is not known are not read.
        self.flags.class().unwrap_or(Class::Wait)
    }

    /// How many seconds ago its challenge was made.
    #[must_use]
    pub fn age_s(&self, now_unix_s: u64) -> u64 {
        now_unix_s.saturating_sub(u64::from(self.issued))
    }

    /// How many seconds it is good for yet.
    #[must_use]
    pub fn left_s(&self, now_unix_s: u64) -> u64 {
        u64::from(self.expires).saturating_sub(now_unix_s)
    }

    /// What a text of a token says, whether or not it is signed: for people who look. `None` if it is no
    /// token at all.
    #[must_use]
    pub fn unverified(text: &str) -> Option<Self> {
        let mut bytes = [0; TOKEN_LEN];
        if URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(TOKEN_LEN) {
            return None;
        }
        Self::of_bytes(bytes.first_chunk()?)
    }

    fn to_bytes(self) -> [u8; SIGNED_LEN] {
        let mut bytes = [0; SIGNED_LEN];
        bytes[..4].copy_from_slice(&[VERSION, self.key_id, self.flags.0, self.level]);
        bytes[4..8].copy_from_slice(&self.issued.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.expires.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.id.0);
        bytes[20..].copy_from_slice(&self.tags.to_bytes());
        bytes
    }

    fn of_bytes(bytes: &[u8; SIGNED_LEN]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_be_bytes(bytes)
        };
        let flags = Flags(bytes[2]);
        if bytes[0] != VERSION || flags.class().is_none() {
            return None;
        }
        Some(Self {
            key_id: bytes[1],
            flags,
            level: bytes[3],
            issued: number(4),
            expires: number(8),
            id: TokenId(*bytes[12..].first_chunk()?),
            tags: Tags::of_bytes(*bytes[20..].first_chunk()?),
        })
    }
}

/// The text of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenText(pub(super) [u8; TOKEN_TEXT_LEN]);

impl TokenText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made of base64url alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Not the token: who has it may pass.
impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText")
    }
}

/// Why a visitor is not cleared, from the furthest off to the nearest: of several tokens the last of
/// these is told. A token of which only the address is wrong has no other fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There is no token.
    None,
    /// The request's host is none of the realm, or the token of a domain that is not trusted.
    Host,
    /// It is no token.
    Malformed,
    /// Its key is not there or does not count any more.
    RevokedKey,
    /// It was not signed so, for this realm, level and scope.
    Mac,
    /// It is from the future.
    Future,
    /// It is over.
    Expired,
    /// It is of a lower level, or of one that is not there any more.
    Level,
    /// It is of other TLS.
    Tls,
    /// It is of another user agent.
    UserAgent,
    /// It is of another address.
    Address,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::Host,
        Self::Malformed,
        Self::RevokedKey,
        Self::Mac,
        Self::Future,
        Self::Expired,
        Self::Level,
        Self::Tls,
        Self::UserAgent,
        Self::Address,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
            Self::Malformed => "malformed",
            Self::RevokedKey => "revoked-key",
            Self::Mac => "mac",
            Self::Future => "future",
            Self::Expired => "expired",
            Self::Level => "level",
            Self::Tls => "tls",
            Self::UserAgent => "ua",
            Self::Address => "address",
        }
    }
}

/// A visitor who is not cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// The token that comes nearest, if its signature is good.
    pub token: Option<Token>,
}

impl Refusal {
    const fn unsigned(reason: Reason) -> Self {
        Self {
            reason,
            token: None,
        }
    }
}

impl RealmKeys {
    /// The token for a solved challenge, which lasts so long from when that was made.
    ///
    /// # Errors
    ///
    /// [`Failure::Key`] if the challenge's key does not count any more.
    pub fn clearance(
        &self,
        solved: &Solved,
        duration_s: u32,
        visit: &Visit<'_>,
    ) -> Result<(Token, TokenText), Failure> {
        let challenge = solved.challenge();
        let token = Token {
            key_id: challenge.key_id,
            flags: challenge.flags,
            level: challenge.level,
            issued: challenge.issued,
            expires: challenge.issued.saturating_add(duration_s),
            id: challenge.id.token_id(),
            tags: challenge.tags,
        };
        let key = self
            .key(token.key_id, visit.now_unix_s)
            .ok_or(Failure::Key)?;
        let text = sign(key, &token, visit).ok_or(Failure::Host)?;
        Ok((token, text))
    }

    /// A token that nobody solved anything for, bound to who the visit says; `None` if there is no such
    /// level or no key counts.
    #[must_use]
    pub fn operator_token(
        &self,
        level: u8,
        duration_s: u32,
        id: TokenId,
        visit: &Visit<'_>,
    ) -> Option<(Token, TokenText)> {
        let key = self.signing(visit.now_unix_s)?;
        let (tags, mut flags) = key.tags.tags(&self.binding, visit);
        flags.set_class(Class::Operator);
        flags.set_shared(visit.scope.shared_domain().is_some());
        let issued = u32::try_from(visit.now_unix_s).ok()?;
        let token = Token {
            key_id: key.id,
            flags,
            level,
            issued,
            expires: issued.saturating_add(duration_s),
            id,
            tags,
        };
        Some((token, sign(key, &token, visit)?))
    }

    /// Whether a token, as text, clears a visitor for a level.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn validate(&self, text: &[u8], level: u8, visit: &Visit<'_>) -> Result<Token, Refusal> {
        let token = self.read(text, visit)?;
        let refused = |reason| {
            Err(Refusal {
                reason,
                token: Some(token),
            })
        };
        if let Err(reason) = is_current(&token, visit) {
            return refused(reason);
        }
        if token.level < level {
            return refused(Reason::Level);
        }
        // It was there a moment ago.
        let Some(key) = self.key(token.key_id, visit.now_unix_s) else {
            return refused(Reason::RevokedKey);
        };
        let rules = match token.class() {
            // The operator chose what it is bound to.
            Class::Operator => self.binding.only(token.flags),
            _ => self.binding,
        };
        match key.tags.compare(&rules, visit, &token.tags, token.flags) {
            Ok(()) => Ok(token),
            Err(Mismatch::Tls) => refused(Reason::Tls),
            Err(Mismatch::UserAgent) => refused(Reason::UserAgent),
            Err(Mismatch::Address) => refused(Reason::Address),
        }
    }

    /// Whether any token in a request's cookies clears the visitor for a level.
    ///
    /// # Errors
    ///
    /// Why the one that comes nearest does not.
    pub fn validate_cookies(
        &self,
        names: &CookieNames,
        cookies: Cookies<'_>,
        level: u8,
        visit: &Visit<'_>,
    ) -> Result<Token, Refusal> {
        let mut nearest = Refusal::unsigned(Reason::None);
        for text in names.candidates(cookies) {
            match self.validate(text, level, visit) {
                Ok(token) => return Ok(token),
                Err(refusal) => {
                    if refusal.reason > nearest.reason {
                        nearest = refusal;
                    }
                }
            }
        }
        Err(nearest)
    }

    /// The token of the other address family that a visitor has beside a new one, and keeps: of the same
    /// scope and user agent, the highest level, and of these the one that lasts longest.
    #[must_use]
    pub fn kept(
        &self,
        names: &CookieNames,
        cookies: Cookies<'_>,
        new: &Token,
        visit: &Visit<'_>,
    ) -> Option<TokenText> {
        // What the other family's address is, nobody knows now.
        let visit = Visit {
            address: None,
            ..*visit
        };
        let mut best: Option<(Token, TokenText)> = None;
        for text in names.candidates(cookies) {
            let Ok(token) = self.read(text, &visit) else {
                continue;
            };
            let is_kept = token.flags.is_ipv6() != new.flags.is_ipv6()
                && token.flags.is_shared() == new.flags.is_shared()
                && is_current(&token, &visit).is_ok()
                && self.key(token.key_id, visit.now_unix_s).is_some_and(|key| {
                    let compared =
                        key.tags
                            .compare(&self.binding, &visit, &token.tags, token.flags);
                    matches!(compared, Ok(()) | Err(Mismatch::Address))
                });
            let is_better = best.is_none_or(|(other, _)| {
                (other.level, other.expires) < (token.level, token.expires)
            });
            if is_kept
                && is_better
                && let Some(text) = text.first_chunk()
            {
                best = Some((token, TokenText(*text)));
            }
        }
        best.map(|(_, text)| text)
    }

    /// A token whose signature is good.
    fn read(&self, text: &[u8], visit: &Visit<'_>) -> Result<Token, Refusal> {
        let malformed = Refusal::unsigned(Reason::Malformed);
        let mut bytes = [0; TOKEN_LEN];
        if text.len() != TOKEN_TEXT_LEN
            || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(TOKEN_LEN)
        {
            return Err(malformed);
        }
        let (Some(signed), Some(signature)) = (bytes.first_chunk(), bytes.last_chunk()) else {
            return Err(malformed);
        };
        let token = Token::of_bytes(signed).ok_or(malformed)?;
        let key = self
            .key(token.key_id, visit.now_unix_s)
            .ok_or(Refusal::unsigned(Reason::RevokedKey))?;
        let signers = key
            .level(token.level)
            .ok_or(Refusal::unsigned(Reason::Level))?;
        let scope = visit
            .scope
            .text(token.flags.is_shared())
            .ok_or(Refusal::unsigned(Reason::Host))?;
        if signers.clearance.is_signed(signed, scope, signature) {
            Ok(token)
        } else {
            Err(Refusal::unsigned(Reason::Mac))
        }
    }
}

fn sign(key: &RealmKey, token: &Token, visit: &Visit<'_>) -> Option<TokenText> {
    let scope = visit.scope.text(token.flags.is_shared())?;
    let signed = token.to_bytes();
    let mut bytes = [0; TOKEN_LEN];
    bytes[..SIGNED_LEN].copy_from_slice(&signed);
    let signature = key.level(token.level)?.clearance.sign(&signed, scope);
    bytes[SIGNED_LEN..].copy_from_slice(&signature);
    let mut text = [0; TOKEN_TEXT_LEN];
    URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).ok()?;
    Some(TokenText(text))
}

fn is_current(token: &Token, visit: &Visit<'_>) -> Result<(), Reason> {
    if u64::from(token.issued) > visit.now_unix_s.saturating_add(CLOCK_TOLERANCE_S) {
        return Err(Reason::Future);
    }
    if u64::from(token.expires) <= visit.now_unix_s {
        return Err(Reason::Expired);
    }
    Ok(())
}
