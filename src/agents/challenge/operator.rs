//! Tokens by hand: those that the operator gives to what is no browser, and what a token says to people
//! who look.

use std::fmt;
use std::net::IpAddr;

use super::binding::Visit;
use super::realm::{Challenges, Realm};
use super::scope::HostError;
use super::token::{Reason, Token, TokenId, TokenText};

/// A token that the operator wants, for a monitor or a program of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorToken<'a> {
    /// The realm; `None` for the one named `default`.
    pub realm: Option<&'a str>,
    /// The level that it is good for, and all below; `None` for the highest.
    pub level: Option<u8>,
    /// The host that it is for, or one of the trusted domain that it is for.
    pub host: &'a str,
    /// The address, or one of the network, that it is good from; `None` for all.
    pub address: Option<IpAddr>,
    /// The only `User-Agent` that it is good with; `None` for all.
    pub user_agent: Option<&'a str>,
    /// How long it is good, in seconds.
    pub duration_s: u32,
}

/// Why there is no such token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperatorTokenError {
    /// There is no realm of this name.
    Realm(String),
    /// The realm has levels from 1 to this.
    Level(u8),
    /// The realm does not serve the host.
    Host(HostError),
    /// No key counts any more.
    Key,
}

impl fmt::Display for OperatorTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realm(name) => write!(f, "realm: there is none named {name:?}"),
            Self::Level(most) => write!(f, "level: the realm has 1 to {most}"),
            Self::Host(error) => write!(f, "host: {error}"),
            Self::Key => f.write_str("key: not-after of all of them is over: add another"),
        }
    }
}

impl std::error::Error for OperatorTokenError {}

/// What is known of a token's signature.
#[derive(Clone, Copy, Debug)]
pub struct Inspected<'c> {
    /// The realm that the token is of.
    pub realm: &'c Realm,
    /// What is wrong with it even so, but for who sends it.
    pub fault: Option<Reason>,
}

impl Challenges {
    /// Makes a token that nobody solved anything for. What it is not bound to does not count, whatever the
    /// realm says.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn operator_token(
        &self,
        wanted: &OperatorToken<'_>,
        id: TokenId,
        now_unix_s: u64,
    ) -> Result<(Token, TokenText, &Realm), OperatorTokenError> {
        let realm = self.named(wanted.realm)?;
        let most = realm.keys.level_count();
        let level = wanted.level.unwrap_or(most);
        if !(1..=most).contains(&level) {
            return Err(OperatorTokenError::Level(most));
        }
        let scope = realm.scope.scope(Some(wanted.host.as_bytes()));
        let scope = scope.map_err(OperatorTokenError::Host)?;
        let visit = Visit {
            scope: &scope,
            address: wanted.address,
            user_agent: wanted.user_agent.map(str::as_bytes),
            tls: None,
            now_unix_s,
        };
        let made = realm
            .keys
            .operator_token(level, wanted.duration_s, id, &visit);
        let (token, text) = made.ok_or(OperatorTokenError::Key)?;
        Ok((token, text, realm))
    }

    /// Whether the token is one of ours for this host, whoever sends it; `None` if it is none. Without a
    /// realm's name, all of them are tried.
    ///
    /// # Errors
    ///
    /// If there is no such realm.
    pub fn inspect(
        &self,
        text: &str,
        realm: Option<&str>,
        host: &str,
        now_unix_s: u64,
    ) -> Result<Option<Inspected<'_>>, OperatorTokenError> {
        let realms = match realm {
            Some(_) => std::slice::from_ref(self.named(realm)?),
            None => self.realms(),
        };
        for realm in realms {
            let Ok(scope) = realm.scope.scope(Some(host.as_bytes())) else {
                continue;
            };
            let visit = Visit {
                scope: &scope,
                address: None,
                user_agent: None,
                tls: None,
                now_unix_s,
            };
            let fault = match realm.keys.validate(text.as_bytes(), 0, &visit) {
                Ok(_) => None,
                Err(refusal) if refusal.token.is_some() => match refusal.reason {
                    // Nobody sends it.
                    Reason::Address | Reason::UserAgent | Reason::Tls => None,
                    reason => Some(reason),
                },
                Err(_) => continue,
            };
            return Ok(Some(Inspected { realm, fault }));
        }
        Ok(None)
    }

    fn named(&self, name: Option<&str>) -> Result<&Realm, OperatorTokenError> {
        let Some(name) = name else {
            return Ok(self.realm(None));
        };
        let found = self.realms().iter().find(|realm| realm.name() == name);
        found.ok_or_else(|| OperatorTokenError::Realm(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cookie::Cookies;
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn challenges() -> Challenges {
        let settings = serde_json::json!({
            "key": [{"id": 1, "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}],
            "realm": [
                {"name": "default", "level": [{"type": "pow"}, {"type": "wait"}]},
                {"name": "shop", "hosts": ["shop.example"], "level": [{"type": "pow"}]},
            ],
        });
        Challenges::new(&serde_json::from_value(settings).unwrap()).unwrap()
    }

    fn wanted<'a>() -> OperatorToken<'a> {
        OperatorToken {
            realm: None,
            level: None,
            host: "www.example",
            address: None,
            user_agent: None,
            duration_s: 60,
        }
    }

    fn reason(
        challenges: &Challenges,
        text: &TokenText,
        address: [u8; 4],
        ua: &str,
        at: u64,
    ) -> Reason {
        let realm = challenges.realm(None);
        let scope = realm.scope.scope(Some(b"www.example")).unwrap();
        let visit = Visit {
            scope: &scope,
            address: Some(address.into()),
            user_agent: Some(ua.as_bytes()),
            tls: None,
            now_unix_s: at,
        };
        let value = Cookies::Value(text.as_str().as_bytes());
        let result = realm
            .keys
            .validate_cookies(&realm.cookies, value, 2, &visit);
        result.err().map_or(Reason::None, |refusal| refusal.reason)
    }

    #[test]
    fn a_token_is_bound_to_what_is_said_and_no_more() {
        let challenges = challenges();
        let make = |wanted: &OperatorToken<'_>| {
            challenges
                .operator_token(wanted, TokenId([7; 8]), NOW)
                .unwrap()
                .1
        };
        let free = make(&wanted());
        assert_eq!(
            reason(&challenges, &free, [192, 0, 2, 1], "a", NOW),
            Reason::None
        );
        assert_eq!(
            reason(&challenges, &free, [192, 0, 2, 1], "a", NOW + 60),
            Reason::Expired
        );
        let bound = make(&OperatorToken {
            address: Some([192, 0, 2, 1].into()),
            user_agent: Some("monitor"),
            ..wanted()
        });
        for (address, ua, expected) in [
            ([192, 0, 2, 1], "monitor", Reason::None),
            ([192, 0, 2, 2], "monitor", Reason::Address),
            ([192, 0, 2, 1], "other", Reason::UserAgent),
        ] {
            assert_eq!(reason(&challenges, &bound, address, ua, NOW), expected);
        }
        let lower = make(&OperatorToken {
            level: Some(1),
            ..wanted()
        });
        assert_eq!(
            reason(&challenges, &lower, [192, 0, 2, 1], "a", NOW),
            Reason::Level
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let challenges = challenges();
        let make = |wanted: OperatorToken<'_>| {
            challenges
                .operator_token(&wanted, TokenId([7; 8]), NOW)
                .unwrap_err()
                .to_string()
        };
        for (wanted, part) in [
            (
                OperatorToken {
                    realm: Some("x"),
                    ..wanted()
                },
                "named \"x\"",
            ),
            (
                OperatorToken {
                    level: Some(0),
                    ..wanted()
                },
                "1 to 2",
            ),
            (
                OperatorToken {
                    level: Some(3),
                    ..wanted()
                },
                "1 to 2",
            ),
            (
                OperatorToken {
                    realm: Some("shop"),
                    ..wanted()
                },
                "host: ",
            ),
        ] {
            let error = make(wanted);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_token_is_found_in_its_realm() {
        let challenges = challenges();
        let wanted = OperatorToken {
            realm: Some("shop"),
            host: "shop.example",
            ..wanted()
        };
        let (_, text, _) = challenges
            .operator_token(&wanted, TokenId([7; 8]), NOW)
            .unwrap();
        let inspect = |realm, host, at| {
            let found = challenges.inspect(text.as_str(), realm, host, at).unwrap();
            found.map(|found| (found.realm.name().to_owned(), found.fault))
        };
        let shop = "shop".to_owned();
        assert_eq!(
            inspect(None, "shop.example", NOW),
            Some((shop.clone(), None))
        );
        let over = Some(Reason::Expired);
        assert_eq!(
            inspect(Some("shop"), "shop.example", NOW + 60),
            Some((shop, over))
        );
        assert_eq!(inspect(Some("default"), "shop.example", NOW), None);
        assert_eq!(inspect(None, "www.example", NOW), None);
    }
}
