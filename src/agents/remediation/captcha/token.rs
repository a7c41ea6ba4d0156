//! The text in a captcha's cookie: a JSON Web Token (RFC 7519) signed with HMAC (RFC 7518, 3.2).
//!
//! ```text
//! eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9 . eyJleHAiOjE3...   . Qdzc8Nn1...
//! {"alg":"HS256","typ":"JWT"}            claims              HMAC-SHA256 of what is before
//! ```
//!
//! It is signed and not encrypted: a visitor can read what is in it. Its claims are those that the
//! CrowdSec bouncer writes, so that either reads the cookies of the other, and up to three more.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Sha256, Sha384, Sha512};

use crate::agents::common::secret::Secret;

/// How far a visitor has come with a captcha.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptchaStatus {
    /// It was shown.
    #[serde(rename = "pending")]
    Pending,
    /// It was solved.
    #[serde(rename = "valid")]
    Valid,
}

impl CaptchaStatus {
    /// As the variable `captcha_status` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
        }
    }
}

/// What a token says. Written in this order, which is that of the alphabet, and read in any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The second since 1970 at which it is over.
    #[serde(deserialize_with = "second")]
    pub exp: u64,
    /// The name of the host that it is tied to, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The second at which it was made.
    #[serde(default, deserialize_with = "second")]
    pub iat: u64,
    /// The network that it is tied to, if it is, as in 192.0.2.0/24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// Whether the captcha was solved.
    pub st: CaptchaStatus,
    /// One for all tokens of a visit, from the first to the last.
    pub uuid: String,
    /// Who asked for the captcha, if that was not a decision: `appsec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// A key that signs and verifies tokens.
#[derive(Clone)]
pub struct TokenKey {
    key: Secret,
    /// With the key taken in already: two of the hash's blocks less for each token.
    hs256: Hmac<Sha256>,
}

/// The header of the tokens that are made here, as text.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

impl TokenKey {
    /// The shortest key, in bytes: what RFC 7518, section 3.2, asks of HS256.
    pub const MIN_LEN: usize = 32;

    /// The longest token that is looked at, in bytes: what browsers keep of a cookie.
    pub const MAX_TOKEN_LEN: usize = 4096;

    /// A key; `None` if it is shorter than [`MIN_LEN`](Self::MIN_LEN).
    #[must_use]
    pub fn new(key: &Secret) -> Option<Self> {
        let bytes = key.reveal().as_bytes();
        if bytes.len() < Self::MIN_LEN {
            return None;
        }
        Some(Self {
            hs256: Hmac::new_from_slice(bytes).ok()?,
            key: key.clone(),
        })
    }

    /// Signs a token with HMAC-SHA256.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let mut token = String::with_capacity(320);
        token.push_str(HEADER);
        token.push('.');
        // Texts and numbers: there is nothing in them that JSON does not have.
        let json = serde_json::to_vec(claims).unwrap_or_default();
        URL_SAFE_NO_PAD.encode_string(json, &mut token);
        let mut mac = self.hs256.clone();
        mac.update(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut token);
        token
    }

    /// Reads a token that this key signed and that is not over yet. The signature may be of HS256,
    /// HS384 or HS512; it is compared in a time that does not depend on it, and nothing but the name of
    /// the algorithm is decoded before.
    ///
    /// # Errors
    ///
    /// Why it does not count.
    pub fn verify(&self, token: &[u8], now_unix_s: u64) -> Result<Claims, TokenError> {
        if token.len() > Self::MAX_TOKEN_LEN {
            return Err(TokenError::TooLong);
        }
        let mut parts = token.split(|&byte| byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let signed = &token[..header.len() + 1 + payload.len()];
        let signature = decode(signature)?;
        let key = self.key.reveal().as_bytes();
        let is_signed = match algorithm(header)? {
            Algorithm::Hs256 => is_signed(self.hs256.clone(), signed, &signature),
            Algorithm::Hs384 => Hmac::<Sha384>::new_from_slice(key)
                .is_ok_and(|mac| is_signed(mac, signed, &signature)),
            Algorithm::Hs512 => Hmac::<Sha512>::new_from_slice(key)
                .is_ok_and(|mac| is_signed(mac, signed, &signature)),
        };
        if !is_signed {
            return Err(TokenError::Signature);
        }
        let claims: Claims =
            serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
        if claims.exp <= now_unix_s {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// Not the key.
impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

fn is_signed(mut mac: impl Mac, signed: &[u8], signature: &[u8]) -> bool {
    mac.update(signed);
    mac.verify_slice(signature).is_ok()
}

fn decode(part: &[u8]) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

#[derive(Clone, Copy)]
enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
}

fn algorithm(header: &[u8]) -> Result<Algorithm, TokenError> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
        /// Extensions that have to be understood (RFC 7515, 4.1.11): none is.
        crit: Option<IgnoredAny>,
    }
    if header == HEADER.as_bytes() {
        return Ok(Algorithm::Hs256);
    }
    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
    match &*header.alg {
        _ if header.crit.is_some() => Err(TokenError::Algorithm),
        "HS256" => Ok(Algorithm::Hs256),
        "HS384" => Ok(Algorithm::Hs384),
        "HS512" => Ok(Algorithm::Hs512),
        _ => Err(TokenError::Algorithm),
    }
}

/// A NumericDate (RFC 7519, section 2): a whole number, or one with a fraction, which is left out.
fn second<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    struct Second;
    impl Visitor<'_> for Second {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seconds since 1970")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
            Ok(u64::try_from(value).unwrap_or(0))
        }

        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the fraction is to go, and the cast ends at the bounds of the type"
        )]
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<u64, E> {
            Ok(value as u64)
        }
    }
    from.deserialize_any(Second)
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It has more than [`TokenKey::MAX_TOKEN_LEN`] bytes.
    TooLong,
    /// It is not three parts of base64url, or the parts are not the JSON they have to be.
    Malformed,
    /// Its signature is of no algorithm that is taken.
    Algorithm,
    /// This key did not sign it.
    Signature,
    /// It is over.
    Expired,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the token is too long",
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token is signed with an algorithm that is not taken",
            Self::Signature => "the token's signature is not of this key",
            Self::Expired => "the token is over",
        })
    }
}

impl std::error::Error for TokenError {}

/// A random UUID (RFC 9562, 5.4) of 16 random bytes.
#[must_use]
pub fn uuid_v4(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in random.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const UUID: &str = "7d444840-9dc0-41d1-b245-5ffdce74fad2";

    fn key() -> TokenKey {
        TokenKey::new(&KEY.into()).unwrap()
    }

    fn pending() -> Claims {
        Claims {
            exp: 1_700_001_800,
            host: None,
            iat: 1_700_000_000,
            net: None,
            st: CaptchaStatus::Pending,
            uuid: UUID.to_owned(),
            via: None,
        }
    }

    /// Made by Python's hmac, hashlib and base64 of the claims of [`pending`], in the order of the
    /// alphabet.
    const HS256: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3MDAwMDE4MDAsImlhdCI6MTcwMDAw\
        MDAwMCwic3QiOiJwZW5kaW5nIiwidXVpZCI6IjdkNDQ0ODQwLTlkYzAtNDFkMS1iMjQ1LTVmZmRjZTc0ZmFkMiJ9.7synri\
        T2G-jLkih51yMw5xXcZxbfI-iTugsKedt5ZnE";
    const HS384: &str = "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3MDAwMDE4MDAsImlhdCI6MTcwMDAw\
        MDAwMCwic3QiOiJwZW5kaW5nIiwidXVpZCI6IjdkNDQ0ODQwLTlkYzAtNDFkMS1iMjQ1LTVmZmRjZTc0ZmFkMiJ9.5k5X19\
        ZYuWaX3u6DsdMAt55XjaoE398buOjldv0Z3H8AHJjX63qE4ij1UR_JGsWu";
    const HS512: &str = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3MDAwMDE4MDAsImlhdCI6MTcwMDAw\
        MDAwMCwic3QiOiJwZW5kaW5nIiwidXVpZCI6IjdkNDQ0ODQwLTlkYzAtNDFkMS1iMjQ1LTVmZmRjZTc0ZmFkMiJ9.avOHh5\
        Hi2NEGADorTFuPZmFtEAVNeiN9JAE5wb0cs6T9FLoTzsQ8OLSEl_vdwL-EUBxiYZ1giZvdAh-xtVBj9g";
    /// The same of `valid` until 1700086400, with spaces, in another order.
    const OTHER_ORDER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ1dWlkIjogIjdkNDQ0ODQwLTlkYzAtND\
        FkMS1iMjQ1LTVmZmRjZTc0ZmFkMiIsICJzdCI6ICJ2YWxpZCIsICJpYXQiOiAxNzAwMDAwMDAwLCAiZXhwIjogMTcwMDA4\
        NjQwMH0.CQci112xMkQoSJNu394dEflj7hS6K9yw3inL_H3xdGU";
    /// `{"uuid":"x","st":"valid","iat":1700000000.5,"exp":1.7000864e9}`
    const FRACTIONS: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1dWlkIjoieCIsInN0IjoidmFsaWQiLCJp\
        YXQiOjE3MDAwMDAwMDAuNSwiZXhwIjoxLjcwMDA4NjRlOX0.NlfWIoQVtcSBKJX6aBVIX1hkZxjTTU-XNTubSov67Ag";

    #[test]
    fn tokens_of_other_implementations_are_taken_and_made() {
        for token in [HS256, HS384, HS512] {
            let read = key().verify(token.as_bytes(), 1_700_000_000);
            assert_eq!(read, Ok(pending()), "{token}");
        }
        assert_eq!(key().sign(&pending()), HS256);
        let read = key().verify(OTHER_ORDER.as_bytes(), 1_700_000_000);
        let expected = Claims {
            st: CaptchaStatus::Valid,
            exp: 1_700_086_400,
            ..pending()
        };
        assert_eq!(read, Ok(expected));
        let read = key().verify(FRACTIONS.as_bytes(), 1_700_000_000).unwrap();
        assert_eq!((read.iat, read.exp), (1_700_000_000, 1_700_086_400));
    }

    #[test]
    fn a_token_is_over_in_the_second_it_names() {
        let last = key().verify(HS256.as_bytes(), 1_700_001_799);
        assert!(last.is_ok());
        let over = key().verify(HS256.as_bytes(), 1_700_001_800);
        assert_eq!(over, Err(TokenError::Expired));
    }

    #[test]
    fn no_changed_bit_is_taken() {
        for at in 0..HS256.len() {
            for bit in 0..8 {
                let mut token = HS256.as_bytes().to_vec();
                token[at] ^= 1 << bit;
                assert!(key().verify(&token, 0).is_err(), "byte {at} bit {bit}");
            }
        }
        let other = TokenKey::new(&format!("{KEY}0").into()).unwrap();
        let error = other.verify(HS256.as_bytes(), 0);
        assert_eq!(error, Err(TokenError::Signature));
    }

    /// A token of this header and payload that is signed as the header would have it.
    fn signed(header: &str, payload: &str) -> String {
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        format!(
            "{text}.{}",
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        )
    }

    #[test]
    fn what_else_does_not_count() {
        use TokenError::{Algorithm, Malformed, Signature, TooLong};
        let claims = r#"{"exp":9,"st":"valid","uuid":"x"}"#;
        let hs256 = r#"{"alg":"HS256"}"#;
        assert!(key().verify(signed(hs256, claims).as_bytes(), 8).is_ok());
        for (token, error) in [
            (String::new(), Malformed),
            ("..".to_owned(), Malformed),
            (format!("{HS256}.x"), Malformed),
            (format!("{HS256}="), Malformed),
            ("a".repeat(4097), TooLong),
            (signed(r#"{"alg":"none"}"#, claims), Algorithm),
            (signed(r#"{"alg":"RS256"}"#, claims), Algorithm),
            (signed(r#"{"alg":"HS256","crit":["x"]}"#, claims), Algorithm),
            (signed(r#"{"alg":"HS384"}"#, claims), Signature),
            (signed(r#"{"typ":"JWT"}"#, claims), Malformed),
            (signed(hs256, r#"{"st":"valid","uuid":"x"}"#), Malformed),
            (
                signed(hs256, r#"{"exp":9,"st":"solved","uuid":"x"}"#),
                Malformed,
            ),
            (
                signed(hs256, r#"{"exp":"9","st":"valid","uuid":"x"}"#),
                Malformed,
            ),
            (
                signed(hs256, r#"{"exp":-9,"st":"valid","uuid":"x"}"#),
                TokenError::Expired,
            ),
            (signed(hs256, "valid"), Malformed),
        ] {
            assert_eq!(key().verify(token.as_bytes(), 0), Err(error), "{token}");
        }
        // An empty signature is a signature that is wrong.
        let (text, _) = HS256.rsplit_once('.').unwrap();
        let error = key().verify(format!("{text}.").as_bytes(), 0);
        assert_eq!(error, Err(Signature));
    }

    #[test]
    fn keys_have_a_least_length_and_are_not_shown() {
        assert!(TokenKey::new(&KEY[1..].into()).is_none());
        assert!(!format!("{:?}", key()).contains("0123"));
    }

    #[test]
    fn uuids_have_their_version_and_variant() {
        assert_eq!(uuid_v4([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_v4([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
