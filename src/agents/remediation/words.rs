//! What is done about a client, and the words for it.

use std::collections::HashMap;
use std::fmt;

use super::dataset::Remediation;

/// The word of decisions and of AppSec for what is not served here: CrowdSec's bouncer turns away who it
/// cannot show a challenge to, and so does this one unless it is told another meaning.
pub(super) const CHALLENGE: &str = "challenge";

/// What words mean that decisions and AppSec may have beside `allow`, `captcha` and `ban`. Unless it is
/// given another meaning, `challenge` is a ban.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemediationWords {
    words: HashMap<Box<str>, Remediation>,
}

impl RemediationWords {
    /// These words and the remediations they stand for, as in `("mfa", "captcha")`.
    ///
    /// # Errors
    ///
    /// A word that stands for none, or for another remediation than it names itself.
    pub fn new<'a>(
        words: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, RemediationWordError> {
        let mut this = Self::default();
        for (word, meaning) in words {
            let remediation = Remediation::from_word(meaning);
            let own = Remediation::from_word(word);
            let is_known = remediation != Remediation::Unknown || meaning == "unknown";
            if !is_known || (own != Remediation::Unknown && own != remediation) {
                return Err(RemediationWordError {
                    word: word.to_owned(),
                    meaning: meaning.to_owned(),
                });
            }
            this.words.insert(word.into(), remediation);
        }
        Ok(this)
    }

    /// What this word means.
    #[must_use]
    pub fn remediation(&self, word: &str) -> Remediation {
        match Remediation::from_word(word) {
            Remediation::Unknown => match self.words.get(word) {
                Some(meaning) => *meaning,
                None if word == CHALLENGE => Remediation::Ban,
                None => Remediation::Unknown,
            },
            known => known,
        }
    }
}

/// A word that cannot stand for what it is to stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemediationWordError {
    /// The word.
    pub word: String,
    /// What it was to mean.
    pub meaning: String,
}

impl fmt::Display for RemediationWordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { word, meaning } = self;
        if Remediation::from_word(word) == Remediation::Unknown {
            write!(
                f,
                "remediation {word:?} cannot mean {meaning:?}: want allow, unknown, captcha or ban"
            )
        } else {
            write!(
                f,
                "remediation {word:?} means itself, and cannot mean {meaning:?}"
            )
        }
    }
}

impl std::error::Error for RemediationWordError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_exact_and_may_be_given_a_meaning() {
        use Remediation::{Allow, Ban, Captcha, Unknown};
        assert!(Allow < Unknown && Unknown < Captcha && Captcha < Ban);
        let words = [("mfa", "captcha"), ("throttle", "allow"), ("ban", "ban")];
        let words = RemediationWords::new(words).unwrap();
        for (word, remediation) in [
            ("allow", Allow),
            ("captcha", Captcha),
            ("ban", Ban),
            ("mfa", Captcha),
            ("throttle", Allow),
            ("MFA", Unknown),
            ("Ban", Unknown),
            ("unknown", Unknown),
            ("", Unknown),
            // What cannot be shown does not pass.
            ("challenge", Ban),
        ] {
            assert_eq!(words.remediation(word), remediation, "{word:?}");
        }
        let words = RemediationWords::new([("challenge", "captcha")]).unwrap();
        assert_eq!(words.remediation("challenge"), Captcha);
        for (pair, part) in [
            (("mfa", "mfa2"), "want allow"),
            (("ban", "allow"), "means itself"),
        ] {
            let error = RemediationWords::new([pair]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
