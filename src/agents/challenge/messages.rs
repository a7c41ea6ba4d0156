//! What HAProxy sends and what it gets: messages and variables.
//!
//! Arguments may come in any order, and all may be missing: an older configuration goes on working, and
//! messages of berghain are understood with the arguments that it has.

use std::net::IpAddr;

use ringspoa_derive::Message;

use super::cookie::Cookies;
use crate::agent::AgentDeclaration;
use crate::message::{ArgumentValue, ValueError, ValueTypes, Var};
use crate::spop::TypedData;

/// Whether the visitor may pass.
pub const VALID: Var<bool> = Var::txn("valid");
/// Why not: `none`, `expired`, `mac`, `address`, `ua`, `tls`, `level`, `revoked-key`, `malformed`, `host` or
/// `future`.
pub const REASON: Var<str> = Var::txn("reason");
/// The level that the visitor's token is of.
pub const LEVEL: Var<i64> = Var::txn("level");
/// The token's id in hexadecimal, to limit and revoke it by.
pub const TOKEN_ID: Var<str> = Var::txn("token_id");
/// How long ago the token's challenge was issued, in seconds.
pub const TOKEN_AGE: Var<i64> = Var::txn("token_age");
/// How the token was earned: `wait`, `pow`, `pbkdf2`, `captcha`, `nojs` or `operator`.
pub const CLASS: Var<str> = Var::txn("class");
/// Whether the visitor's token is good but for the address, and young enough to be had anew for less work.
pub const REBIND_OK: Var<bool> = Var::txn("rebind_ok");
/// The crawler that the visitor is, or `claimed` for one that is none.
pub const BOT: Var<str> = Var::txn("bot");
/// The level that load and the visitor's network suggest.
pub const SUGGEST_LEVEL: Var<i64> = Var::txn("suggest_level");
/// What the visitor is to get instead of an answer: `page`, or `json` for what is no navigation.
pub const CHALLENGE: Var<str> = Var::txn("challenge");
/// In a realm with `dry-run`, whether the visitor would not pass.
pub const WOULD_CHALLENGE: Var<bool> = Var::txn("would_challenge");
/// The body of the reply, JSON.
pub const RESPONSE: Var<str> = Var::txn("response");
/// The status of the reply.
pub const STATUS: Var<i64> = Var::txn("status");
/// The status of a page that has the challenge in it.
pub const PAGE_STATUS: Var<i64> = Var::txn("page_status");
/// What a visitor can read out, and the log has: `XXXX-XXXX-XXXX`.
pub const SUPPORT_ID: Var<str> = Var::txn("support_id");
/// Where a visitor without JavaScript goes on.
pub const NOJS_URL: Var<str> = Var::txn("nojs_url");
/// After so many seconds.
pub const NOJS_WAIT: Var<i64> = Var::txn("nojs_wait");
/// The value of the cookie.
pub const TOKEN: Var<str> = Var::txn("token");
/// The value of a `Set-Cookie` header.
pub const SET_COOKIE: Var<str> = Var::txn("set_cookie");
/// What became of a solution: `ok`, `expired`, `early`, `binding`, `work`, `mac`, `format`, `busy`,
/// `provider` or `host`.
pub const RESULT: Var<str> = Var::txn("result");
/// The value of a `Location` header.
pub const LOCATION: Var<str> = Var::txn("location");
/// For berghain's configuration: `domain=...;` or nothing.
pub const DOMAIN: Var<str> = Var::txn("domain");

/// All variables that are true or false, for declarations.
pub const SWITCHES: [Var<bool>; 3] = [VALID, REBIND_OK, WOULD_CHALLENGE];
/// All that are numbers.
pub const NUMBERS: [Var<i64>; 6] = [
    LEVEL,
    TOKEN_AGE,
    SUGGEST_LEVEL,
    STATUS,
    PAGE_STATUS,
    NOJS_WAIT,
];
/// All that are texts.
pub const TEXTS: [Var<str>; 13] = [
    REASON, TOKEN_ID, CLASS, BOT, CHALLENGE, RESPONSE, SUPPORT_ID, NOJS_URL, TOKEN, SET_COOKIE,
    RESULT, LOCATION, DOMAIN,
];

/// What a [`ChallengeAgent`](super::ChallengeAgent)'s agents declare, for HAProxy's configuration to be
/// made from or checked against without one.
///
/// ```
/// use ringspoa::SpoeConfig;
/// use ringspoa::agents::challenge::messages::declaration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spoe = SpoeConfig::new(&declaration()).spoe()?;
/// assert!(spoe.contains("spoe-message validate"));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn declaration() -> AgentDeclaration {
    let mut declaration = AgentDeclaration::new("challenge")
        .with_message::<Validate<'_>>()
        .with_message::<Issue<'_>>()
        .with_message::<Verify<'_>>()
        .with_message::<Pass<'_>>()
        .with_message::<Berghain<'_>>();
    for variable in SWITCHES {
        declaration = declaration.with_variable(variable);
    }
    for variable in NUMBERS {
        declaration = declaration.with_variable(variable);
    }
    for variable in TEXTS {
        declaration = declaration.with_variable(variable);
    }
    declaration
}

/// The argument `level`. Whatever it is, it is read: that a variable was never set, or is a text, must not
/// let visitors through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LevelArgument {
    /// It is not sent, or is NULL.
    #[default]
    Missing,
    /// A number.
    Number(i64),
    /// Something else.
    Invalid,
}

impl<'a> ArgumentValue<'a> for LevelArgument {
    const TYPES: ValueTypes = ValueTypes::INTEGER.or(ValueTypes::NULL);
    const EXPECTED: &'static str = "a level";

    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        Ok(match value {
            TypedData::Null => Self::Missing,
            // Above what a signed number says it is high all the same.
            TypedData::Uint64(level) => Self::Number(i64::try_from(level).unwrap_or(i64::MAX)),
            value => value.as_i64().map_or(Self::Invalid, Self::Number),
        })
    }

    fn to_value(&self) -> TypedData<'_> {
        match self {
            Self::Missing => TypedData::Null,
            Self::Number(level) => TypedData::Int64(*level),
            Self::Invalid => TypedData::String(b"high"),
        }
    }

    fn missing() -> Option<Self> {
        Some(Self::Missing)
    }
}

/// A text that may not be sent at all, which is not the same as an empty one: nothing is bound to what
/// HAProxy never says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentText<'a>(pub Option<&'a [u8]>);

impl<'a> ArgumentValue<'a> for SentText<'a> {
    const TYPES: ValueTypes = ValueTypes::BYTES.or(ValueTypes::NULL);
    const EXPECTED: &'static str = "text";

    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        match value {
            // A header that the request does not have.
            TypedData::Null => Ok(Self(Some(b""))),
            value => match value.as_bytes() {
                Some(bytes) => Ok(Self(Some(bytes))),
                None => Err(ValueError::Type),
            },
        }
    }

    fn to_value(&self) -> TypedData<'_> {
        self.0.map_or(TypedData::Null, TypedData::String)
    }

    fn missing() -> Option<Self> {
        Some(Self(None))
    }
}

/// A number that is nice to have: what is none is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadArgument(pub Option<i64>);

impl<'a> ArgumentValue<'a> for LoadArgument {
    const TYPES: ValueTypes = ValueTypes::INTEGER.or(ValueTypes::NULL);
    const EXPECTED: &'static str = "a number";

    fn from_value(value: TypedData<'a>) -> Result<Self, ValueError> {
        Ok(Self(value.as_i64()))
    }

    fn to_value(&self) -> TypedData<'_> {
        self.0.map_or(TypedData::Null, TypedData::Int64)
    }

    fn missing() -> Option<Self> {
        Some(Self(None))
    }
}

/// Messages of ours have these arguments, and some more each.
macro_rules! message {
    ($(#[$attribute:meta])* $name:ident { $($(#[$more:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Clone, Debug, Default, PartialEq, Message)]
        $(#[$attribute])*
        pub struct $name<'a> {
            /// The realm; without one, `frontend` names it.
            #[spop(sample = "var(txn.challenge_realm)")]
            pub realm: Option<&'a [u8]>,
            /// The frontend's name, as berghain has it.
            #[spop(sample = "fe_name")]
            pub frontend: Option<&'a [u8]>,
            /// Where the visitor is.
            #[spop(sample = "src")]
            pub src: Option<IpAddr>,
            /// The value of `Host`.
            #[spop(sample = "req.hdr(host)")]
            pub host: SentText<'a>,
            /// The value of `User-Agent`.
            #[spop(sample = "req.fhdr(user-agent)")]
            pub ua: SentText<'a>,
            /// What is known of the visitor's TLS, for realms that bind tokens to it.
            #[spop(sample = "var(txn.challenge_tls)")]
            pub tls: SentText<'a>,
            /// Whether the visitor came over TLS: cookies are then for that alone.
            #[spop(sample = "ssl_fc")]
            pub secure: Option<bool>,
            /// The value of one cookie, as berghain has it.
            #[spop(sample = "var(txn.challenge_cookie)")]
            pub cookie: Option<&'a [u8]>,
            /// The value of `Cookie`.
            #[spop(sample = "req.fhdr(cookie)")]
            pub cookies: Option<&'a [u8]>,
            $($(#[$more])* pub $field: $type,)*
        }

        impl<'a> $name<'a> {
            /// Who asks.
            #[must_use]
            pub fn visitor(&self) -> Visitor<'a> {
                Visitor {
                    realm: self.realm.filter(|realm| !realm.is_empty()).or(self.frontend),
                    address: self.src,
                    host: self.host.0,
                    user_agent: self.ua.0,
                    tls: self.tls.0,
                    is_secure: self.secure.unwrap_or(false),
                    cookie: self.cookie,
                    cookies: self.cookies,
                }
            }
        }
    };
}

message! {
    /// May this visitor pass? Asked about every request.
    #[spop(name = "validate")]
    Validate {
        /// The level that is asked for; 0 is none at all.
        #[spop(sample = "var(txn.challenge_level)")]
        level: LevelArgument,
        /// Whether the request is a navigation, so that whoever makes it sees a page.
        #[spop(sample = "var(txn.challenge_nav)")]
        nav: Option<bool>,
        /// How busy the site is.
        #[spop(sample = "var(txn.challenge_load)")]
        load: LoadArgument,
    }
}

message! {
    /// A challenge, please: for a page that is about to be sent, or that asks for another.
    #[spop(name = "issue")]
    Issue {
        /// The level; 0, which is none at all, is taken for the lowest, as the page is there already.
        #[spop(sample = "var(txn.challenge_level)")]
        level: LevelArgument,
        /// How busy the site is.
        #[spop(sample = "var(txn.challenge_load)")]
        load: LoadArgument,
        /// Path and query of the request, to which a visitor without JavaScript is to come back.
        #[spop(sample = "pathq")]
        url: SentText<'a>,
        /// The value of `Accept-Language`: what the page says comes in that language.
        #[spop(sample = "req.fhdr(accept-language)")]
        lang: Option<&'a [u8]>,
    }
}

message! {
    /// Is this a solution?
    #[spop(name = "verify")]
    Verify {
        /// What the page sends.
        #[spop(sample = "req.body")]
        body: Option<&'a [u8]>,
    }
}

message! {
    /// Has this visitor without JavaScript waited?
    #[spop(name = "pass")]
    Pass {
        /// The query of the request, without the `?`.
        #[spop(sample = "query")]
        query: Option<&'a [u8]>,
    }
}

/// berghain's `challenge`: [`Issue`] by GET, [`Verify`] by POST.
#[derive(Clone, Debug, Default, PartialEq, Message)]
#[spop(name = "challenge")]
pub struct Berghain<'a> {
    /// The frontend's name.
    #[spop(sample = "fe_name")]
    pub frontend: Option<&'a [u8]>,
    /// The level.
    #[spop(sample = "var(req.berghain.level)")]
    pub level: LevelArgument,
    /// Where the visitor is.
    #[spop(sample = "src")]
    pub src: Option<IpAddr>,
    /// The value of `Host`.
    #[spop(sample = "req.hdr(host)")]
    pub host: SentText<'a>,
    /// The method.
    #[spop(sample = "method")]
    pub method: Option<&'a [u8]>,
    /// The body.
    #[spop(sample = "req.body")]
    pub body: Option<&'a [u8]>,
    /// The support ID that HAProxy made up. Ours come with the challenge, and this is not looked at.
    #[spop(sample = "var(txn.berghain.session)")]
    pub session: Option<&'a [u8]>,
}

impl<'a> Berghain<'a> {
    /// Who asks.
    #[must_use]
    pub const fn visitor(&self) -> Visitor<'a> {
        Visitor {
            realm: self.frontend,
            address: self.src,
            host: self.host.0,
            user_agent: None,
            tls: None,
            is_secure: false,
            cookie: None,
            cookies: None,
        }
    }
}

impl<'a> Visitor<'a> {
    /// What may have tokens in it: the whole header where HAProxy sends it.
    #[must_use]
    pub fn all_cookies(&self) -> Cookies<'a> {
        match self.cookies.filter(|cookies| !cookies.is_empty()) {
            Some(header) => Cookies::Header(header),
            None => Cookies::Value(self.cookie.unwrap_or_default()),
        }
    }
}

/// Who asks, whatever the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visitor<'a> {
    /// The realm's name.
    pub realm: Option<&'a [u8]>,
    /// Where the visitor is.
    pub address: Option<IpAddr>,
    /// The value of `Host`; `None` if HAProxy does not send it.
    pub host: Option<&'a [u8]>,
    /// The value of `User-Agent`; likewise.
    pub user_agent: Option<&'a [u8]>,
    /// What is known of the visitor's TLS; likewise.
    pub tls: Option<&'a [u8]>,
    /// Whether the visitor came over TLS.
    pub is_secure: bool,
    /// The value of the cookie.
    pub cookie: Option<&'a [u8]>,
    /// The value of `Cookie`.
    pub cookies: Option<&'a [u8]>,
}
