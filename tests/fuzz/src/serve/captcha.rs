//! What visitors send for captchas: forms and cookies.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use ringspoa::agents::remediation::{CaptchaStatus, TokenError, TokenKey, form_field, is_form};
use serde_json::Value;
use sha2::Sha256;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_700_000_000;

/// The field `r` of a form is what decoding the form as a whole finds.
pub fn form(data: &[u8]) {
    let mut expected = None;
    for pair in data.split(|&byte| byte == b'&') {
        let equals = pair.iter().position(|&byte| byte == b'=');
        let (name, value) = match equals {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        };
        let (name, value) = (decoded(name), decoded(value));
        if !pair.contains(&b';')
            && name.as_deref() == Some(b"r")
            && let Some(value) = value
        {
            expected = Some(value);
            break;
        }
    }
    assert_eq!(form_field(data, "r"), expected);
    let start = b"application/x-www-form-urlencoded";
    let has_start = data.to_ascii_lowercase().starts_with(start);
    assert_eq!(is_form(data), has_start);
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'%' {
            let digits = std::str::from_utf8(text.get(at + 1..at + 3)?).ok()?;
            if digits.starts_with('+') {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            bytes.push(if text[at] == b'+' { b' ' } else { text[at] });
            at += 1;
        }
    }
    Some(bytes)
}

/// The input as a cookie, and its lines as header and claims of a token that is signed with the key:
/// what is taken says what its JSON says, lasts, and reads the same when it is written again; and what
/// this key did not sign is not taken.
pub fn token(data: &[u8]) {
    let key = TokenKey::new(&KEY.into()).expect("long enough");
    let other = TokenKey::new(&format!("{KEY}0").into()).expect("long enough");
    assert!(other.verify(data, NOW).is_err());
    check(&key, data);

    let newline = data.iter().position(|&byte| byte == b'\n');
    let (header, claims) = match newline {
        Some(newline) => (&data[..newline], &data[newline + 1..]),
        None => (&br#"{"alg":"HS256"}"#[..], data),
    };
    let signed = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("any key");
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let whole = format!("{signed}.{signature}");
    check(&key, whole.as_bytes());
    assert!(other.verify(whole.as_bytes(), NOW).is_err());
    // With the header as it should be there is one reason left not to take an object like this.
    if newline.is_none()
        && whole.len() <= TokenKey::MAX_TOKEN_LEN
        && let Err(error) = key.verify(whole.as_bytes(), NOW)
    {
        assert!(matches!(error, TokenError::Malformed | TokenError::Expired));
    }
}

fn check(key: &TokenKey, token: &[u8]) {
    let Ok(claims) = key.verify(token, NOW) else {
        return;
    };
    assert!(token.len() <= TokenKey::MAX_TOKEN_LEN && claims.exp > NOW);
    let payload = token
        .split(|&byte| byte == b'.')
        .nth(1)
        .expect("three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    // A claim that is not known is passed over, also if it has what no text can have.
    let Ok(read) = serde_json::from_slice::<Value>(&payload) else {
        return;
    };
    let text = |name: &str| read.get(name).and_then(Value::as_str);
    assert_eq!(text("uuid"), Some(&*claims.uuid));
    assert_eq!(text("host"), claims.host.as_deref());
    assert_eq!(text("net"), claims.net.as_deref());
    assert_eq!(text("via"), claims.via.as_deref());
    let status = match claims.st {
        CaptchaStatus::Pending => "pending",
        _ => "valid",
    };
    assert_eq!(text("st"), Some(status));
    assert!(read.get("exp").is_some_and(Value::is_number));
    let again = key.sign(&claims);
    if again.len() <= TokenKey::MAX_TOKEN_LEN {
        assert_eq!(key.verify(again.as_bytes(), NOW), Ok(claims));
    }
}
