//! Keys: what is configured, what is derived of it, and what of that is computed once.
//!
//! ```text
//! secret -- HKDF-SHA-256, "ringspoa challenge 1 <purpose>" --> a key for each purpose
//!
//! signature of one thing = HMAC-SHA-256, the first 16 bytes, of
//!     32  SHA-256 of the realm's name and the definition of the level
//!     32  the purpose, padded with zeros
//!      .  the thing
//! ```
//!
//! The first 64 bytes are one block of the hash: what HMAC is behind them is kept for each key, realm and
//! level, so that a signature takes as many compressions as the thing has blocks, and one.

use std::fmt;
use std::net::IpAddr;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;

use super::binding::{BindingRules, TagKeys};
use super::level::{Level, LevelError, is_realm_name};

/// Secrets in samples, ours and berghain's, which everybody knows.
const SAMPLE_SECRETS: &[&[u8]] = &[
    b"ringspoa sample key, not secret!",
    b"\x24\xc6\xa5\xd1\x72\x51\x44\xe3\x8c\xb0\xc7\x4f\xaa\x08\x06\xda\
      \xd4\x79\xe8\x24\xe4\xa6\x03\x77\xaf\x8e\xc6\x81\x43\x7f\x59\x24",
];

/// A key as it is configured.
#[derive(Clone)]
pub struct Key {
    id: u8,
    secret: Box<[u8]>,
    not_after_unix_s: Option<u64>,
}

impl Key {
    /// The shortest secret, in bytes.
    pub const MIN_SECRET_LEN: usize = 32;

    /// A key with an id of its own and a secret of random bytes, which counts up to a second since 1970 if
    /// one is given.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn new(id: u8, secret: &[u8], not_after_unix_s: Option<u64>) -> Result<Self, KeyError> {
        if id == 0 {
            return Err(KeyError::ZeroId);
        }
        if secret.len() < Self::MIN_SECRET_LEN {
            return Err(KeyError::TooShort(secret.len()));
        }
        if secret.iter().all(|byte| *byte == secret[0]) {
            return Err(KeyError::AllEqual);
        }
        if SAMPLE_SECRETS.contains(&secret) {
            return Err(KeyError::Sample);
        }
        Ok(Self {
            id,
            secret: secret.into(),
            not_after_unix_s,
        })
    }

    /// As [`new`](Self::new), of the base64 that files have; line ends around it do not count.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn from_base64(
        id: u8,
        secret: &str,
        not_after_unix_s: Option<u64>,
    ) -> Result<Self, KeyError> {
        use base64::Engine;
        use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
        let text = secret.trim().trim_end_matches('=');
        let bytes = STANDARD_NO_PAD
            .decode(text)
            .or_else(|_| URL_SAFE_NO_PAD.decode(text))
            .map_err(|_| KeyError::NotBase64)?;
        Self::new(id, &bytes, not_after_unix_s)
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> u8 {
        self.id
    }

    fn derive<const LEN: usize>(&self, purpose: Purpose) -> [u8; LEN] {
        let mut key = [0; LEN];
        let info: [&[u8]; 2] = [b"ringspoa challenge 1 ", purpose.label().as_bytes()];
        Hkdf::<Sha256>::new(None, &self.secret)
            .expand_multi_info(&info, &mut key)
            .expect("a key is shorter than 255 hashes");
        key
    }
}

/// Not the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("not_after_unix_s", &self.not_after_unix_s)
            .finish_non_exhaustive()
    }
}

/// The keys of all realms: the first that counts signs, and whatever one of them signed is taken.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: Box<[Key]>,
    /// Of the first key: pseudonyms in the log change when it does.
    log: SipHasher24,
}

impl Keyring {
    /// A keyring of these, the one that signs in front.
    ///
    /// # Errors
    ///
    /// If there is none, or two have the same id.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyError> {
        let Some(first) = keys.first() else {
            return Err(KeyError::NoKey);
        };
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|other| other.id == key.id) {
                return Err(KeyError::SameId(key.id));
            }
        }
        Ok(Self {
            log: sip_hasher(&first.derive(Purpose::Log)),
            keys: keys.into(),
        })
    }

    /// The ids, the one that signs in front.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = u8> {
        self.keys.iter().map(Key::id)
    }

    /// What stands for an address in the log: the same for the same address as long as the first key is
    /// the same, and nothing that tells the address to who has not got that.
    #[must_use]
    pub fn pseudonym(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(address) => self.log.hash(&address.octets()),
            IpAddr::V6(address) => self.log.hash(&address.octets()),
        }
    }
}

/// Why a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// An id of 0.
    ZeroId,
    /// A secret of so many bytes.
    TooShort(usize),
    /// A secret of one byte again and again.
    AllEqual,
    /// A secret that samples have.
    Sample,
    /// A text that is not base64.
    NotBase64,
    /// No key at all.
    NoKey,
    /// Two keys with this id.
    SameId(u8),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIX: &str = "make one with: openssl rand -base64 32";
        match self {
            Self::ZeroId => f.write_str("the id is 0: want 1 to 255"),
            Self::TooShort(len) => {
                let least = Key::MIN_SECRET_LEN;
                write!(f, "the secret has {len} bytes, of {least} or more: {FIX}")
            }
            Self::AllEqual => write!(f, "the secret is one byte again and again: {FIX}"),
            Self::Sample => write!(f, "the secret is that of a sample, which is known: {FIX}"),
            Self::NotBase64 => write!(f, "the secret is not base64: {FIX}"),
            Self::NoKey => f.write_str("there is no key"),
            Self::SameId(id) => write!(f, "two keys have the id {id}: give each its own"),
        }
    }
}

impl std::error::Error for KeyError {}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Clearance,
    Challenge,
    NoJs,
    Log,
    Tags,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Self::Clearance => "clearance",
            Self::Challenge => "challenge",
            Self::NoJs => "nojs",
            Self::Log => "log",
            Self::Tags => "tags",
        }
    }
}

/// The bytes of a signature.
pub(super) const MAC_LEN: usize = 16;

/// HMAC behind the block that says what for, and for which realm and level.
#[derive(Clone)]
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    fn new(key: &Key, purpose: Purpose, realm_and_level: [u8; 32]) -> Self {
        let mut mac =
            Hmac::new_from_slice(&key.derive::<32>(purpose)).expect("a key of any length");
        let mut block = [0; 64];
        block[..32].copy_from_slice(&realm_and_level);
        let label = purpose.label().as_bytes();
        block[32..32 + label.len()].copy_from_slice(label);
        mac.update(&block);
        Self(mac)
    }

    /// Signs a thing with a text behind it.
    pub(super) fn sign(&self, thing: &[u8], text: &[u8]) -> [u8; MAC_LEN] {
        let full: [u8; 32] = self.mac(thing, text).finalize().into_bytes().into();
        *full.first_chunk().expect("32 bytes")
    }

    /// Whether this is the signature, in a time that does not depend on it.
    pub(super) fn is_signed(&self, thing: &[u8], text: &[u8], signature: &[u8; MAC_LEN]) -> bool {
        self.mac(thing, text)
            .verify_truncated_left(signature)
            .is_ok()
    }

    fn mac(&self, thing: &[u8], text: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(thing);
        mac.update(&len_prefix(text));
        mac.update(text);
        mac
    }
}

/// The length that stands in front of a text where it is signed.
pub(super) fn len_prefix(text: &[u8]) -> [u8; 2] {
    // Callers bound what they sign; of what would be longer, the length is that of none.
    u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// What signs and verifies for one realm.
#[derive(Clone)]
pub struct RealmKeys {
    /// In the keyring's order.
    keys: Box<[RealmKey]>,
    /// For each id the index of its key and 1, or 0.
    by_id: Box<[u8; 256]>,
    pub(super) level_count: u8,
    pub(super) binding: BindingRules,
}

/// A key as one realm uses it.
#[derive(Clone)]
pub(super) struct RealmKey {
    pub(super) id: u8,
    not_after_unix_s: u64,
    pub(super) tags: TagKeys,
    levels: Box<[LevelSigners]>,
}

#[derive(Clone)]
pub(super) struct LevelSigners {
    pub(super) clearance: Signer,
    pub(super) challenge: Signer,
    pub(super) no_js: Signer,
}

impl RealmKeys {
    /// For a realm of this name, its levels from 1, and what it binds tokens to.
    ///
    /// # Errors
    ///
    /// If a level cannot be, or there are none or too many.
    pub fn new(
        keyring: &Keyring,
        realm: &str,
        levels: &[Level],
        binding: BindingRules,
    ) -> Result<Self, LevelError> {
        let level_count = u8::try_from(levels.len())
            .ok()
            .filter(|count| *count != 0)
            .ok_or(LevelError::Count(levels.len()))?;
        if !is_realm_name(realm) {
            return Err(LevelError::RealmTooLong);
        }
        let mut hashes = Vec::with_capacity(levels.len());
        for level in levels {
            level.check()?;
            let mut hash = Sha256::new();
            hash.update(len_prefix(realm.as_bytes()));
            hash.update(realm);
            hash.update(level.definition());
            hashes.push(<[u8; 32]>::from(hash.finalize()));
        }
        let mut by_id = Box::new([0; 256]);
        // No more than 255, as each has an id of its own.
        for (key, place) in keyring.keys.iter().zip(1..=u8::MAX) {
            by_id[usize::from(key.id)] = place;
        }
        let of_realm = |key: &Key| RealmKey {
            id: key.id,
            not_after_unix_s: key.not_after_unix_s.unwrap_or(u64::MAX),
            tags: TagKeys::new(&key.derive(Purpose::Tags)),
            levels: hashes
                .iter()
                .map(|&hash| LevelSigners {
                    clearance: Signer::new(key, Purpose::Clearance, hash),
                    challenge: Signer::new(key, Purpose::Challenge, hash),
                    no_js: Signer::new(key, Purpose::NoJs, hash),
                })
                .collect(),
        };
        Ok(Self {
            keys: keyring.keys.iter().map(of_realm).collect(),
            by_id,
            level_count,
            binding,
        })
    }

    /// How many levels there are.
    #[must_use]
    pub const fn level_count(&self) -> u8 {
        self.level_count
    }

    /// What tokens are bound to.
    #[must_use]
    pub const fn binding(&self) -> &BindingRules {
        &self.binding
    }

    /// The first key that counts at this second.
    pub(super) fn signing(&self, now_unix_s: u64) -> Option<&RealmKey> {
        self.keys.iter().find(|key| key.counts(now_unix_s))
    }

    /// The key with this id, if it counts at this second.
    pub(super) fn key(&self, id: u8, now_unix_s: u64) -> Option<&RealmKey> {
        let place = usize::from(self.by_id[usize::from(id)]);
        let key = self.keys.get(place.checked_sub(1)?)?;
        key.counts(now_unix_s).then_some(key)
    }
}

impl RealmKey {
    const fn counts(&self, now_unix_s: u64) -> bool {
        now_unix_s <= self.not_after_unix_s
    }

    /// What signs for a level; there is none of level 0.
    pub(super) fn level(&self, level: u8) -> Option<&LevelSigners> {
        self.levels.get(usize::from(level).checked_sub(1)?)
    }
}

/// Not the keys.
impl fmt::Debug for RealmKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u8> = self.keys.iter().map(|key| key.id).collect();
        f.debug_struct("RealmKeys")
            .field("ids", &ids)
            .field("level_count", &self.level_count)
            .finish_non_exhaustive()
    }
}

pub(super) fn sip_hasher(key: &[u8; 16]) -> SipHasher24 {
    SipHasher24::new_with_key(key)
}
