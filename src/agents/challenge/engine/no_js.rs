//! Visitors without JavaScript: where they go on, and where they are sent back to.

use super::super::binding::Visit;
use super::super::challenge::{Algorithm, ChallengeId, Failure, Submission, Terms};
use super::super::messages::Visitor;
use super::super::puzzle::Step;
use super::super::realm::Realm;
use super::super::reply::Text;
use super::super::token::Class;
use super::answer::{Answer, MAX_RETURN_LEN, Outcome, admit};
use super::visit;

/// Adds the URL that a visitor without JavaScript goes on with.
pub(super) fn push_no_js(
    path: &str,
    realm: &Realm,
    number: u8,
    id: ChallengeId,
    url: &[u8],
    visit: &Visit<'_>,
    out: &mut Answer,
) {
    let url = if is_return_path(url) { url } else { b"/" };
    let terms = Terms {
        level: number,
        algorithm: Algorithm::Wait,
        class: Class::NoJs,
        wait_s: realm.no_js_wait_s,
        ttl_s: realm.challenge_ttl_s,
        work: 0,
        parts: 0,
        iterations: 0,
        anew_of: None,
    };
    let signed = realm.keys.issue(&terms, id, visit).and_then(|issued| {
        let signature = realm.keys.sign_return(&issued, url, visit)?;
        Some((issued, signature))
    });
    let Some((issued, signature)) = signed else {
        return;
    };
    out.no_js_url
        .push(path)
        .push("/pass?c=")
        .push(issued.as_str());
    out.no_js_url.push("&s=").push(signature.as_str());
    out.no_js_url.push("&r=").push_encoded(url);
    out.facts.no_js_wait_s = Some(realm.no_js_wait_s);
}

/// Whether a browser that is sent there stays on the host: a path that begins with one slash, of characters
/// that no browser takes out or turns round.
pub(super) fn is_return_path(path: &[u8]) -> bool {
    let is_plain = |&byte: &u8| byte.is_ascii_graphic() && !b"\\\"<>".contains(&byte);
    path.len() <= MAX_RETURN_LEN
        && path.first() == Some(&b'/')
        && !matches!(path.get(1), Some(b'/'))
        && path.iter().all(is_plain)
}

pub(super) fn pass(
    realm: &Realm,
    visitor: &Visitor<'_>,
    query: &[u8],
    unix_s: u64,
    out: &mut Answer,
) -> Result<(), (Outcome, Option<u32>)> {
    let refused = |outcome| (outcome, None);
    let failed = |failure| match failure {
        Failure::Early { wait_s } => (Outcome::Early, Some(wait_s)),
        failure => (failure.into(), None),
    };
    let (mut challenge, mut signature, mut encoded) = (None, None, None);
    for pair in query.split(|&byte| byte == b'&') {
        // Of two of a name neither is what we made.
        let seen = match pair {
            [b'c', b'=', value @ ..] => challenge.replace(value),
            [b's', b'=', value @ ..] => signature.replace(value),
            [b'r', b'=', value @ ..] => encoded.replace(value),
            _ => return Err(refused(Outcome::Format)),
        };
        if seen.is_some() {
            return Err(refused(Outcome::Format));
        }
    }
    let (Some(challenge), Some(signature), Some(encoded)) = (challenge, signature, encoded) else {
        return Err(refused(Outcome::Format));
    };
    let submission = Submission::without_solution(challenge).map_err(failed)?;
    decode(encoded, &mut out.location).ok_or(refused(Outcome::Format))?;
    let scope = realm.scope.scope(visitor.host);
    let scope = scope.map_err(|_| refused(Outcome::Host))?;
    let visit = visit(&scope, visitor, unix_s);
    let opened = realm.keys.open(&submission, &visit).map_err(failed)?;
    out.facts.level = Some(opened.challenge().level);
    out.facts.support_id = Some(opened.challenge().id.into());
    if opened.challenge().flags.class() != Some(Class::NoJs) {
        return Err(refused(Outcome::Format));
    }
    let level = realm.level(opened.challenge().level);
    if !level.is_some_and(|level| level.has_no_js) {
        return Err(refused(Outcome::Expired));
    }
    let path = out.location.get().unwrap_or_default();
    if !is_return_path(path.as_bytes())
        || !realm
            .keys
            .is_return(&opened, path.as_bytes(), signature, &visit)
    {
        return Err(refused(Outcome::Mac));
    }
    match opened.judge().map_err(failed)? {
        Step::Solved(solved) => admit(realm, &solved, visitor, &visit, out).map_err(refused),
        // A challenge of this class is solved by waiting.
        Step::AskProvider(_) | Step::Derive(_) => Err(refused(Outcome::Format)),
    }
}

/// Decodes what [`Text::push_encoded`] makes; `None` of anything else.
pub(super) fn decode(encoded: &[u8], out: &mut Text<MAX_RETURN_LEN>) -> Option<()> {
    out.clear();
    let mut rest = encoded;
    while let [byte, after @ ..] = rest {
        rest = after;
        let byte = if *byte == b'%' {
            let [high, low, after @ ..] = after else {
                return None;
            };
            rest = after;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?
        } else {
            *byte
        };
        out.push_ascii(byte);
    }
    out.get().map(|_| ())
}
