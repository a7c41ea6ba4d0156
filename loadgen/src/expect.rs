//! `--expect`: a variable every ACK must set, and the values it may have.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use ringspoa::spop::{Action, Scope, TypedData};

/// More expectations than this and [`Found`] would need more than a word.
pub(crate) const MAX_EXPECTATIONS: usize = 64;

/// A variable every ACK must set to one of some values.
///
/// ```
/// use ringspoa_loadgen::Expectation;
///
/// let expectation: Expectation = "txn.remediation=ban|allow".parse()?;
/// assert_eq!(expectation.to_string(), "txn.remediation=ban|allow");
/// assert!("remediation".parse::<Expectation>().is_err());
/// # Ok::<(), ringspoa_loadgen::ExpectationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Any scope if none.
    scope: Option<Scope>,
    name: String,
    /// As text; at least one.
    values: Vec<String>,
}

/// What is wrong with the text of an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectationError {
    /// No `=`.
    NoValue,
    /// Nothing before the `=`.
    NoName,
}

impl fmt::Display for ExpectationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoValue => "no '=': write VAR=VALUE, such as txn.remediation=ban|allow",
            Self::NoName => "no variable before '=': write VAR=VALUE, such as remediation=ban",
        })
    }
}

impl std::error::Error for ExpectationError {}

impl FromStr for Expectation {
    type Err = ExpectationError;

    fn from_str(text: &str) -> Result<Self, ExpectationError> {
        let (variable, values) = text.split_once('=').ok_or(ExpectationError::NoValue)?;
        // A name may have dots of its own, so only a word that is a scope is taken as one.
        let scoped = variable
            .split_once('.')
            .and_then(|(word, name)| Some((Scope::from_name(word)?, name)));
        let (scope, name) = match scoped {
            Some((scope, name)) => (Some(scope), name),
            None => (None, variable),
        };
        if name.is_empty() {
            return Err(ExpectationError::NoName);
        }
        Ok(Self {
            scope,
            name: name.to_owned(),
            values: values.split('|').map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scope) = self.scope {
            write!(f, "{scope}.")?;
        }
        write!(f, "{}={}", self.name, self.values.join("|"))
    }
}

impl Expectation {
    fn is_about(&self, scope: Scope, name: &[u8]) -> bool {
        self.scope.is_none_or(|wanted| wanted == scope) && self.name.as_bytes() == name
    }

    fn allows(&self, value: &TypedData<'_>) -> bool {
        if let Some(bytes) = value.as_bytes() {
            return self.values.iter().any(|wanted| wanted.as_bytes() == bytes);
        }
        let mut text = ShortText::default();
        let fits = write!(text, "{value}").is_ok();
        fits && self
            .values
            .iter()
            .any(|wanted| wanted.as_bytes() == text.as_bytes())
    }
}

/// The text of a number, boolean or address, without allocating.
struct ShortText {
    bytes: [u8; 64],
    len: usize,
}

impl Default for ShortText {
    fn default() -> Self {
        Self {
            bytes: [0; 64],
            len: 0,
        }
    }
}

impl ShortText {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Write for ShortText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes[self.len..].get_mut(..text.len());
        room.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Which expectations the actions of one ACK have met, one bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found(u64);

impl Found {
    /// Takes one action into account. The last one about a variable decides, as in HAProxy.
    pub(crate) fn see(&mut self, expectations: &[Expectation], action: &Action<'_>) {
        for (index, expectation) in expectations.iter().enumerate() {
            let (scope, name, met) = match action {
                Action::SetVar { scope, name, value } => (*scope, *name, expectation.allows(value)),
                Action::UnsetVar { scope, name } => (*scope, *name, false),
            };
            if expectation.is_about(scope, name) {
                self.0 = self.0 & !(1 << index) | u64::from(met) << index;
            }
        }
    }

    /// The first expectation that was not met.
    pub(crate) fn first_missing<'e>(
        &self,
        expectations: &'e [Expectation],
    ) -> Option<&'e Expectation> {
        let met = |index: usize| self.0 & (1 << index) != 0;
        let mut numbered = expectations.iter().enumerate();
        numbered
            .find(|(index, _)| !met(*index))
            .map(|(_, expectation)| expectation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(expectations: &[&str], actions: &[Action<'_>]) -> bool {
        let expectations: Vec<Expectation> = expectations
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let mut found = Found::default();
        for action in actions {
            found.see(&expectations, action);
        }
        found.first_missing(&expectations).is_none()
    }

    fn set<'a>(scope: Scope, name: &'a str, value: TypedData<'a>) -> Action<'a> {
        Action::SetVar {
            scope,
            name: name.as_bytes(),
            value,
        }
    }

    #[test]
    fn values_are_compared_as_text() {
        let ban = [set(
            Scope::Transaction,
            "remediation",
            TypedData::String(b"ban"),
        )];
        assert!(met(&["remediation=ban"], &ban));
        assert!(met(&["txn.remediation=allow|ban"], &ban));
        assert!(!met(&["remediation=allow"], &ban));
        assert!(!met(&["sess.remediation=ban"], &ban));
        assert!(!met(&["remediation=ban", "score=1"], &ban));
        let score = [
            set(Scope::Request, "a.score", TypedData::Int64(-7)),
            set(Scope::Request, "ok", TypedData::Bool(true)),
            set(Scope::Request, "ip", TypedData::Ipv4([192, 0, 2, 1].into())),
        ];
        assert!(met(&["a.score=-7", "req.ok=true", "ip=192.0.2.1"], &score));
    }

    #[test]
    fn the_last_action_about_a_variable_decides() {
        let first = set(Scope::Session, "v", TypedData::Uint32(1));
        let second = set(Scope::Session, "v", TypedData::Uint32(2));
        let unset = Action::UnsetVar {
            scope: Scope::Session,
            name: b"v",
        };
        assert!(met(&["v=2"], &[first, second]));
        assert!(!met(&["v=1"], &[first, second]));
        assert!(!met(&["v=1"], &[first, unset]));
        assert!(!met(&["v=1"], &[]));
    }

    #[test]
    fn texts_that_are_no_expectation() {
        assert_eq!("v".parse::<Expectation>(), Err(ExpectationError::NoValue));
        assert_eq!("=1".parse::<Expectation>(), Err(ExpectationError::NoName));
        assert_eq!(
            "txn.=1".parse::<Expectation>(),
            Err(ExpectationError::NoName)
        );
    }
}
