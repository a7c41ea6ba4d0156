//! What the built-in agent decides about a message `validate`, by the same code, for a server of another kind:
//! the same signature is checked, and the same variables are set.

use std::cell::RefCell;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringspoa::agents::challenge::messages::{LevelArgument, Visitor};
use ringspoa::agents::challenge::{
    ChallengeSettings, Challenges, Engine, KeySettings, LevelSettings, Now, RealmSettings,
};
use spop::TypedData;
use spop::actions::VarScope;
use spop::frame::Message;
use spop::frames::Ack;

/// A realm with one level, as a puzzle.
pub(crate) struct Validator(RefCell<Engine>);

impl Validator {
    /// With a key of this id and secret, in base64.
    pub(crate) fn new(id: u8, secret: &str) -> Result<Self, Box<dyn Error>> {
        let settings = ChallengeSettings {
            keys: vec![KeySettings {
                id: Some(id.into()),
                secret: Some(secret.into()),
                ..KeySettings::default()
            }],
            realms: vec![RealmSettings {
                levels: vec![LevelSettings {
                    kind: Some("pow".to_owned()),
                    ..LevelSettings::default()
                }],
                ..RealmSettings::default()
            }],
            ..ChallengeSettings::default()
        };
        let challenges = Challenges::new(&settings)?;
        Ok(Self(RefCell::new(Engine::new(Arc::new(challenges)))))
    }

    pub(crate) fn add_to(&self, messages: &[Message], mut ack: Ack) -> Ack {
        for message in messages {
            let mut visitor = Visitor::default();
            let (mut level, mut is_navigation) = (LevelArgument::Missing, None);
            for (name, value) in &message.args {
                match (name.as_str(), value) {
                    ("realm", TypedData::String(text)) => visitor.realm = Some(text.as_bytes()),
                    ("host", TypedData::String(text)) => visitor.host = Some(text.as_bytes()),
                    ("ua", TypedData::String(text)) => visitor.user_agent = Some(text.as_bytes()),
                    ("cookies", TypedData::String(text)) => visitor.cookies = Some(text.as_bytes()),
                    ("src", TypedData::IPv4(address)) => {
                        visitor.address = Some(IpAddr::V4(*address))
                    }
                    ("src", TypedData::IPv6(address)) => {
                        visitor.address = Some(IpAddr::V6(*address))
                    }
                    ("secure", TypedData::Bool(secure)) => visitor.is_secure = *secure,
                    ("nav", TypedData::Bool(nav)) => is_navigation = Some(*nav),
                    ("level", TypedData::Int64(number)) => level = LevelArgument::Number(*number),
                    ("level", TypedData::Int32(number)) => {
                        level = LevelArgument::Number((*number).into());
                    }
                    _ => {}
                }
            }
            let mut engine = self.0.borrow_mut();
            let Some(found) = engine.validate(&visitor, level, is_navigation, None, now()) else {
                continue;
            };
            let to = VarScope::Transaction;
            ack = ack.set_var(to, "valid", found.is_valid);
            ack = ack.set_var(to, "suggest_level", i64::from(found.suggested_level));
            if let Some(reason) = found.reason {
                ack = ack.set_var(to, "reason", reason.as_str());
            }
            if let Some(token) = &found.token {
                ack = ack.set_var(to, "level", i64::from(token.level));
                ack = ack.set_var(to, "token_id", &*token.id.to_string());
                ack = ack.set_var(
                    to,
                    "token_age",
                    i64::try_from(found.token_age_s).unwrap_or(0),
                );
                ack = ack.set_var(to, "class", token.class().as_str());
            }
            if let Some(shown) = found.shown {
                ack = ack.set_var(to, "challenge", shown.as_str());
            }
        }
        ack
    }
}

fn now() -> Now {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        unix_s: since.as_secs(),
        ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}
