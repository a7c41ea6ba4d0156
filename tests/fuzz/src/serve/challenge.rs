//! What visitors send of browser validation: a host, cookies with tokens, challenges and solutions.

use std::net::IpAddr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use ringspoa::agents::challenge::{
    BindingRules, CHALLENGE_TEXT_LEN, ChallengeId, CookieNames, Cookies, Failure, Issued, Key,
    Keyring, Level, MAX_BODY_LEN, MAX_CANDIDATES, MAX_CAPTCHA_BODY_LEN, MAX_COOKIES_LEN, Method,
    RealmKeys, Reason, Scope, ScopeRules, Step, Submission, TOKEN_TEXT_LEN, Tags, Terms, Visit,
};
use sha2::{Digest, Sha256};

const SECRET: &[u8] = b"a secret of the fuzzer, 32 bytes";
const OTHER_SECRET: &[u8] = b"one that signs nothing, 32 bytes";
const KEY_ID: u8 = 7;
const REALM: &str = "default";
const NOW: u64 = 1_764_000_000;
const TOLERANCE_S: u64 = 60;

struct Site {
    keys: RealmKeys,
    names: CookieNames,
    rules: ScopeRules,
    levels: Vec<Level>,
    clearance: Vec<Hmac<Sha256>>,
    challenge: Vec<Hmac<Sha256>>,
    /// Of the visitor that there is.
    tags: Tags,
}

static SITE: LazyLock<Site> = LazyLock::new(|| site(SECRET));

/// What `SITE` signs the fuzzer may come to know; with this one's key nothing is signed.
static OTHER: LazyLock<Site> = LazyLock::new(|| site(OTHER_SECRET));

fn site(secret: &[u8]) -> Site {
    let level = |method| Level {
        method,
        wait_s: 0,
        duration_s: 3600,
    };
    let levels = vec![
        level(Method::Wait),
        level(Method::Sha256 { work: 6, parts: 3 }),
        level(Method::Pbkdf2 {
            work: 4,
            parts: 2,
            iterations: 1,
        }),
        level(Method::Captcha {
            provider: "turnstile".to_owned(),
            site_key: "key".to_owned(),
        }),
    ];
    let key = Key::new(KEY_ID, secret, None).expect("a good key");
    let keyring = Keyring::new(vec![key]).expect("one key");
    let binding = BindingRules::default();
    let mut site = Site {
        keys: RealmKeys::new(&keyring, REALM, &levels, binding).expect("good levels"),
        names: CookieNames::default(),
        rules: ScopeRules::new([], ["example.com"]).expect("a domain"),
        clearance: prefixes(secret, &levels, "clearance"),
        challenge: prefixes(secret, &levels, "challenge"),
        levels,
        tags: Tags::default(),
    };
    site.tags = issued(&site, 1, &visit(&site.scope(false))).challenge.tags;
    site
}

impl Site {
    fn scope(&self, is_shared: bool) -> Scope<'_> {
        let host: &[u8] = if is_shared {
            b"a.example.com"
        } else {
            b"shop.test"
        };
        self.rules.scope(Some(host)).expect("a host")
    }
}

/// What the key signs for a level.
fn sign(prefixes: &[Hmac<Sha256>], level: u8, thing: &[u8], text: &[u8]) -> Option<[u8; 16]> {
    let mut mac = prefixes.get(usize::from(level).checked_sub(1)?)?.clone();
    mac.update(thing);
    let len = u16::try_from(text.len()).expect("a host or a path");
    mac.update(&len.to_be_bytes());
    mac.update(text);
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    full.first_chunk().copied()
}

/// What stands in front of whatever is signed, for each level, by the word of the format.
fn prefixes(secret: &[u8], levels: &[Level], purpose: &str) -> Vec<Hmac<Sha256>> {
    // HKDF of one block: extract with a salt of zeros, and expand.
    let info = format!("ringspoa challenge 1 {purpose}");
    let extracted = hmac(&[0; 32], &[secret]);
    let key = hmac(&extracted, &[info.as_bytes(), &[1]]);
    let realm_len = u16::try_from(REALM.len()).expect("a word");
    let of_level = |level: &Level| {
        let definition = Sha256::new()
            .chain_update(realm_len.to_be_bytes())
            .chain_update(REALM)
            .chain_update(level.definition())
            .finalize();
        let mut label = [0; 32];
        label[..purpose.len()].copy_from_slice(purpose.as_bytes());
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any key");
        mac.update(&definition);
        mac.update(&label);
        mac
    };
    levels.iter().map(of_level).collect()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn visit<'a>(scope: &'a Scope<'a>) -> Visit<'a> {
    Visit {
        scope,
        address: Some(IpAddr::from([192, 0, 2, 7])),
        user_agent: Some(b"Mozilla/5.0"),
        tls: None,
        now_unix_s: NOW,
    }
}

/// A challenge for this visitor on a level.
fn issued(site: &Site, level: u8, visit: &Visit<'_>) -> Issued {
    let terms = Terms::of(level, &site.levels[usize::from(level) - 1], 300);
    let id = ChallengeId(*b"twelve bytes");
    site.keys.issue(&terms, id, visit).expect("a level")
}

/// What a signature is for: a trusted domain, a host of it, or another host.
fn scope_text(is_shared: bool, is_trusted: bool) -> &'static [u8] {
    match (is_shared, is_trusted) {
        (true, _) => b"example.com",
        (false, true) => b"a.example.com",
        (false, false) => b"shop.test",
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Splits off one byte that says what is done, and so many others, zeros if there are none.
fn split<const LEN: usize>(data: &[u8]) -> (u8, [u8; LEN], &[u8]) {
    let mut bytes = [0; LEN];
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let len = rest.len().min(LEN);
    bytes[..len].copy_from_slice(&rest[..len]);
    (*first, bytes, &rest[len..])
}

/// A header of cookies, and within it a token that is signed and says anything: the candidates are those
/// of a second reading; nothing but what is signed, of now and of this visitor clears anybody.
pub fn clearance(data: &[u8]) {
    let site = &*SITE;
    let (mode, mut signed, header) = split::<32>(data);
    let candidates: Vec<&[u8]> = site.names.candidates(Cookies::Header(header)).collect();
    assert_eq!(candidates, read_candidates(header));
    let scope = site.scope(mode & 1 != 0);
    let visit = visit(&scope);
    let cookies = Cookies::Header(header);
    let validated = OTHER
        .keys
        .validate_cookies(&OTHER.names, cookies, 1, &visit);
    let refusal = validated.expect_err("nothing in it can be signed");
    assert_eq!(refusal.token, None);
    assert!(refusal.reason <= Reason::Mac || refusal.reason == Reason::Level);
    let alone = OTHER.keys.validate(header, 1, &visit);
    assert!(alone.is_err_and(|refusal| refusal.token.is_none()));

    // Anything, signed; with the tags of this visitor if the mode says so.
    let tags = site.tags;
    if mode & 2 != 0 {
        signed[0] = 1;
        signed[1] = KEY_ID;
    }
    if mode & 4 != 0 {
        signed[20..26].copy_from_slice(&tags.address);
    }
    if mode & 8 != 0 {
        signed[26..29].copy_from_slice(&tags.user_agent);
    }
    let is_shared = signed[2] & 0x80 != 0;
    let text = scope_text(is_shared, mode & 1 != 0);
    let Some(signature) = sign(&site.clearance, signed[3], &signed, text) else {
        return;
    };
    let token = URL_SAFE_NO_PAD.encode([&signed[..], &signature].concat());
    assert_eq!(token.len(), TOKEN_TEXT_LEN);
    let wanted = mode >> 4 & 3;
    let result = site.keys.validate(token.as_bytes(), wanted, &visit);
    // The operator's own are bound to what they are bound to, and not to what the rules ask for.
    let is_operators = signed[2] >> 4 & 7 == 4;
    let lacks = |flag| signed[2] & flag == 0 && !is_operators;
    let expected = if signed[0] != 1 || signed[2] >> 4 & 7 > 5 {
        Some(Reason::Malformed)
    } else if signed[1] != KEY_ID {
        Some(Reason::RevokedKey)
    } else if is_shared && mode & 1 == 0 {
        Some(Reason::Host)
    } else if number(&signed[4..8]) > NOW + TOLERANCE_S {
        Some(Reason::Future)
    } else if number(&signed[8..12]) <= NOW {
        Some(Reason::Expired)
    } else if signed[3] < wanted {
        Some(Reason::Level)
    } else if lacks(4) || signed[2] & 4 != 0 && signed[26..29] != tags.user_agent {
        Some(Reason::UserAgent)
    } else if lacks(2) || signed[2] & 2 != 0 && signed[20..26] != tags.address {
        Some(Reason::Address)
    } else {
        None
    };
    assert_eq!(
        result.map(|_| ()).map_err(|refusal| refusal.reason),
        expected.map_or(Ok(()), Err)
    );

    // Wherever it stands, it clears if it is a candidate; and one bit makes it none.
    let whole = [header, b";clearance=", token.as_bytes()].concat();
    let is_candidate = read_candidates(&whole).contains(&token.as_bytes());
    let validated =
        site.keys
            .validate_cookies(&site.names, Cookies::Header(&whole), wanted, &visit);
    let has_other = candidates
        .iter()
        .any(|text| site.keys.validate(text, wanted, &visit).is_ok());
    let is_cleared = is_candidate && expected.is_none();
    assert_eq!(validated.is_ok(), is_cleared || has_other);
    let place = usize::from(mode) % TOKEN_TEXT_LEN;
    let mut other = token.into_bytes();
    other[place] = if other[place] == b'A' { b'B' } else { b'A' };
    assert!(site.keys.validate(&other, wanted, &visit).is_err());
}

/// What may be tokens of a header, read word by word.
fn read_candidates(header: &[u8]) -> Vec<&[u8]> {
    let mut candidates = Vec::new();
    let mut counts = [0; 3];
    let mut rest = &header[..header.len().min(MAX_COOKIES_LEN)];
    let mut is_last = false;
    while !is_last {
        let pair = match rest.iter().position(|&byte| byte == b';') {
            Some(end) => {
                let pair = &rest[..end];
                rest = &rest[end + 1..];
                pair
            }
            None => {
                is_last = true;
                rest
            }
        };
        let pair = pair.trim_ascii();
        let value = ["clearance=", "__Host-clearance=", "clearance-s="]
            .iter()
            .zip(&mut counts)
            .find_map(|(name, count)| Some((pair.strip_prefix(name.as_bytes())?, count)));
        let Some((value, count)) = value else {
            continue;
        };
        *count += 1;
        if *count > MAX_CANDIDATES {
            continue;
        }
        let mut parts = value.split(|&byte| byte == b'.');
        candidates.extend(parts.next());
        candidates.extend(parts.next());
    }
    candidates
}

/// A challenge that is signed and says anything, and bytes that are no more than a text: it is opened if
/// it is of this visitor and its time is now, and else fails for the first reason in the order.
pub fn challenge(data: &[u8]) {
    let site = &*SITE;
    let (mode, mut signed, rest) = split::<50>(data);
    let scope = site.scope(mode & 1 != 0);
    let visit = visit(&scope);
    if let Ok(submission) = Submission::parse(rest) {
        assert!(OTHER.keys.open(&submission, &visit).is_err());
    }
    if let Ok(submission) = Submission::without_solution(rest) {
        assert!(OTHER.keys.open(&submission, &visit).is_err());
    }
    let tags = site.tags;
    if mode & 2 != 0 {
        signed[0] = 1;
        signed[1] = KEY_ID;
    }
    if mode & 4 != 0 {
        signed[38..44].copy_from_slice(&tags.address);
    }
    if mode & 8 != 0 {
        signed[44..47].copy_from_slice(&tags.user_agent);
    }
    let is_shared = signed[4] & 0x80 != 0;
    let text = scope_text(is_shared, mode & 1 != 0);
    let Some(signature) = sign(&site.challenge, signed[3], &signed, text) else {
        return;
    };
    let challenge = [&signed[..], &signature].concat();
    let text = URL_SAFE_NO_PAD.encode(&challenge);
    assert_eq!(text.len(), CHALLENGE_TEXT_LEN);
    let body = [text.as_bytes(), b".", rest].concat();
    let Ok(submission) = Submission::parse(&body) else {
        let max_len = if signed[2] == 3 {
            MAX_CAPTCHA_BODY_LEN
        } else {
            MAX_BODY_LEN
        };
        assert!(body.len() > max_len);
        return;
    };
    let not_before = number(&signed[13..17]);
    let expected = if signed[0] != 1 || signed[2] > 3 || signed[4] >> 4 & 7 > 5 {
        Some(Failure::Format)
    } else if signed[1] != KEY_ID {
        Some(Failure::Key)
    } else if is_shared && mode & 1 == 0 {
        Some(Failure::Host)
    } else if signed[4] & 4 == 0 || signed[44..47] != tags.user_agent {
        Some(Failure::UserAgent)
    } else if signed[4] & 2 == 0 || signed[38..44] != tags.address {
        Some(Failure::Address)
    } else if number(&signed[5..9]) > NOW + TOLERANCE_S {
        Some(Failure::Future)
    } else if number(&signed[9..13]) <= NOW {
        Some(Failure::Expired)
    } else if not_before > NOW && not_before > number(&signed[5..9]) {
        Some(Failure::Early {
            wait_s: u32::try_from(not_before - NOW).expect("of 4 bytes"),
        })
    } else {
        None
    };
    let opened = site.keys.open(&submission, &visit);
    assert_eq!(opened.as_ref().err().copied(), expected);
    if let Ok(opened) = opened
        && let Ok(Step::Solved(solved)) = opened.judge()
    {
        let token = site.keys.clearance(&solved, 3600, &visit);
        let (token, text) = token.expect("the key counts");
        assert_eq!(token.issued, solved.challenge().issued);
        assert_eq!(token.id.0, signed[26..34]);
        if u64::from(token.expires) > NOW {
            let read = site.keys.validate(text.as_str().as_bytes(), 1, &visit);
            assert_eq!(read, Ok(token));
        }
    }
    // One bit of it is another, and it is nobody's.
    let mut other = challenge;
    let bit = usize::from(mode) + 256 * usize::from(rest.first().is_some_and(|byte| byte & 1 != 0));
    other[bit / 8 % 66] ^= 1 << (bit % 8);
    let other = URL_SAFE_NO_PAD.encode(other);
    let submission = Submission::without_solution(other.as_bytes()).expect("a challenge's length");
    assert!(site.keys.open(&submission, &visit).is_err());
}

/// The solution of a challenge of each kind: it is taken if it has the form and the work, as a second
/// reading finds them.
pub fn solution(data: &[u8]) {
    let site = &*SITE;
    let (mode, [], rest) = split::<0>(data);
    let scope = site.scope(false);
    let visit = visit(&scope);
    let level = mode % 4 + 1;
    let issued = issued(site, level, &visit);
    let body = [issued.as_str().as_bytes(), b".", rest].concat();
    let max_len = if level == 4 {
        MAX_CAPTCHA_BODY_LEN
    } else {
        MAX_BODY_LEN
    };
    let parsed = Submission::parse(&body);
    assert_eq!(parsed.is_ok(), body.len() <= max_len);
    let Ok(parsed) = parsed else { return };
    let opened = site.keys.open(&parsed, &visit).expect("it was just made");
    let bytes = issued.as_bytes();
    match opened.judge() {
        Ok(Step::Solved(_)) if level == 1 => assert!(rest.is_empty()),
        Ok(Step::Solved(_)) => {
            let nonces = read_nonces(rest, 3).expect("three nonces");
            assert!(are_low_hashes(bytes, &nonces));
        }
        Ok(Step::Derive(job)) => {
            let nonces = read_nonces(rest, 2).expect("two nonces");
            assert_eq!(level, 3);
            assert_eq!(job.run().is_ok(), are_low_derivations(bytes, &nonces));
        }
        Ok(Step::AskProvider(proof)) => {
            assert_eq!(level, 4);
            assert_eq!(proof.token().as_bytes(), rest);
            assert!(!rest.is_empty() && rest.iter().all(|byte| (b'!'..=b'~').contains(byte)));
        }
        Err(Failure::Solution) => match level {
            1 => assert!(!rest.is_empty()),
            2 => assert_eq!(read_nonces(rest, 3), None),
            3 => assert_eq!(read_nonces(rest, 2), None),
            _ => assert!(rest.is_empty() || rest.iter().any(|byte| !(b'!'..=b'~').contains(byte))),
        },
        Err(Failure::Work) => {
            let nonces = read_nonces(rest, 3).expect("three nonces");
            assert_eq!(level, 2);
            assert!(!are_low_hashes(bytes, &nonces));
        }
        Err(failure) => panic!("{failure:?} is nothing to find here"),
    }
}

fn read_nonces(text: &[u8], count: usize) -> Option<Vec<u64>> {
    let text = std::str::from_utf8(text).ok()?;
    let nonces: Option<Vec<u64>> = text
        .split(',')
        .map(|digits| {
            let is_hex = digits
                .chars()
                .all(|digit| matches!(digit, '0'..='9' | 'a'..='f'));
            let is_short = digits.len() <= 16;
            (is_hex && is_short).then(|| u64::from_str_radix(digits, 16).ok())?
        })
        .collect();
    nonces.filter(|nonces| nonces.len() == count)
}

/// Below half of what there is: the work of one part is 2.
fn is_low(hash: &[u8]) -> bool {
    hash[0] < 0x80
}

fn are_low_hashes(challenge: &[u8], nonces: &[u64]) -> bool {
    let seed = Sha256::new().chain_update("pow1").chain_update(challenge);
    let seed = seed.finalize();
    (0_u32..).zip(nonces).all(|(part, nonce)| {
        let hash = Sha256::new()
            .chain_update(seed)
            .chain_update(part.to_be_bytes())
            .chain_update(nonce.to_be_bytes());
        is_low(&hash.finalize())
    })
}

/// PBKDF2 of one iteration and one block is one HMAC.
fn are_low_derivations(challenge: &[u8], nonces: &[u64]) -> bool {
    let seed = Sha256::new().chain_update("pbk1").chain_update(challenge);
    let seed = seed.finalize();
    (0_u32..).zip(nonces).all(|(part, nonce)| {
        let salt = [&part.to_be_bytes()[..], &nonce.to_be_bytes(), &[0, 0, 0, 1]].concat();
        is_low(&hmac(&seed, &[&salt]))
    })
}

/// A `Host` header: what is taken of it can stand in a cookie's attribute, and is taken again as it is.
pub fn scope(data: &[u8]) {
    let rules = &SITE.rules;
    let Ok(scope) = rules.scope(Some(data)) else {
        return;
    };
    let host = scope.host();
    assert!(!host.is_empty() && host.len() <= 255);
    let lower = data.to_ascii_lowercase();
    assert!(
        lower
            .windows(host.len())
            .any(|part| part == host.as_bytes())
    );
    let is_address = data.starts_with(b"[");
    assert!(host.bytes().all(|byte| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'.' => true,
        b'-' | b'_' => !is_address,
        b':' => is_address,
        _ => false,
    }));
    let is_within = host == "example.com" || host.ends_with(".example.com");
    assert_eq!(scope.shared_domain().is_some(), is_within);
    let again = if is_address {
        format!("[{host}]:443")
    } else {
        format!("{host}:443")
    };
    let again = rules
        .scope(Some(again.as_bytes()))
        .expect("it was one before");
    assert_eq!(again.host(), host);
}
