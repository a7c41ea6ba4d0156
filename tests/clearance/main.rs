//! Challenges and clearance tokens, from the keys to the cookie: what is issued, what is taken, and for what
//! reason all else is refused.

mod binding;
mod cookies;
mod formats;
mod refusals;
mod settings;
mod solutions;

use std::net::IpAddr;

use ringspoa::agents::challenge::{
    BindingRules, ChallengeId, CookieNames, Cookies, Failure, Issued, Key, Keyring, Level, Method,
    RealmKeys, Reason, Scope, ScopeRules, Step, Submission, Terms, Token, TokenText, Visit,
    solution_body, solve,
};

/// The second that it is.
const NOW: u64 = 1_764_000_000;
const NOW_S: u32 = 1_764_000_000;
const DURATION_S: u32 = 3600;
const TTL_S: u32 = 300;
const ID: ChallengeId = ChallengeId(*b"twelve bytes");

/// The secrets of keys 7 and 3.
const SECRETS: [&[u8]; 2] = [
    b"the first secret of these tests!",
    b"another one, a good deal longer than it would have to be",
];

fn key(id: u8, secret: &[u8]) -> Key {
    Key::new(id, secret, None).unwrap()
}

fn keyring() -> Keyring {
    Keyring::new(vec![key(7, SECRETS[0]), key(3, SECRETS[1])]).unwrap()
}

/// A level of each method: waiting, SHA-256, PBKDF2, captcha.
fn levels() -> Vec<Level> {
    let level = |method, wait_s| Level {
        method,
        wait_s,
        duration_s: DURATION_S,
    };
    vec![
        level(Method::Wait, 5),
        level(Method::Sha256 { work: 64, parts: 4 }, 0),
        level(
            Method::Pbkdf2 {
                work: 4,
                parts: 2,
                iterations: 3,
            },
            0,
        ),
        level(
            Method::Captcha {
                provider: "turnstile".to_owned(),
                site_key: "1x00000000000000000000AA".to_owned(),
            },
            0,
        ),
    ]
}

const WAIT: u8 = 1;
const POW: u8 = 2;
const PBKDF2: u8 = 3;
const CAPTCHA: u8 = 4;

fn realm_of(keyring: &Keyring, name: &str, levels: &[Level], binding: BindingRules) -> RealmKeys {
    RealmKeys::new(keyring, name, levels, binding).unwrap()
}

fn realm() -> RealmKeys {
    realm_of(&keyring(), "default", &levels(), BindingRules::default())
}

fn bound_to(ipv4: Option<u8>, ipv6: Option<u8>, user_agent: bool, tls: bool) -> RealmKeys {
    let rules = BindingRules::new(ipv4, ipv6, user_agent, tls).unwrap();
    realm_of(&keyring(), "default", &levels(), rules)
}

fn scope_of(host: &str) -> Scope<'static> {
    static RULES: std::sync::LazyLock<ScopeRules> =
        std::sync::LazyLock::new(|| ScopeRules::new([], ["example.com", "b.example"]).unwrap());
    RULES.scope(Some(host.as_bytes())).unwrap()
}

fn visit<'a>(scope: &'a Scope<'a>) -> Visit<'a> {
    Visit {
        scope,
        address: Some(address("203.0.113.7")),
        user_agent: Some(b"Mozilla/5.0"),
        tls: Some(b"t13d1516h2"),
        now_unix_s: NOW,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn after(visit: Visit<'_>, seconds: u64) -> Visit<'_> {
    Visit {
        now_unix_s: visit.now_unix_s + seconds,
        ..visit
    }
}

fn before(visit: Visit<'_>, seconds: u64) -> Visit<'_> {
    Visit {
        now_unix_s: visit.now_unix_s - seconds,
        ..visit
    }
}

fn from<'a>(visit: Visit<'a>, text: &str) -> Visit<'a> {
    Visit {
        address: Some(address(text)),
        ..visit
    }
}

fn issue(keys: &RealmKeys, level: u8, visit: &Visit<'_>) -> Issued {
    let terms = Terms::of(level, &levels()[usize::from(level) - 1], TTL_S);
    keys.issue(&terms, ID, visit).unwrap()
}

/// The body that solves a challenge.
fn solved_body(issued: &Issued) -> String {
    let nonces = solve(issued.as_bytes()).expect("a puzzle");
    solution_body(issued.as_str(), &nonces)
}

/// What is signed for a body, with a provider that says yes.
fn submit(keys: &RealmKeys, body: &[u8], visit: &Visit<'_>) -> Result<(Token, TokenText), Failure> {
    let opened = keys.open(&Submission::parse(body)?, visit)?;
    let solved = match opened.judge()? {
        Step::Solved(solved) => solved,
        Step::AskProvider(proof) => proof.pending().accepted(),
        Step::Derive(job) => job.run()?,
    };
    keys.clearance(&solved, DURATION_S, visit)
}

fn submitted(keys: &RealmKeys, body: &[u8], visit: &Visit<'_>) -> Result<(), Failure> {
    submit(keys, body, visit).map(|_| ())
}

/// The token of who solves a challenge at once.
fn cleared(keys: &RealmKeys, visit: &Visit<'_>) -> String {
    let body = solved_body(&issue(keys, POW, visit));
    let (_, text) = submit(keys, body.as_bytes(), visit).unwrap();
    text.as_str().to_owned()
}

fn validated(keys: &RealmKeys, text: &str, level: u8, visit: &Visit<'_>) -> Result<(), Reason> {
    let result = keys.validate(text.as_bytes(), level, visit);
    result.map(|_| ()).map_err(|refusal| refusal.reason)
}

fn validated_header(keys: &RealmKeys, header: &str, visit: &Visit<'_>) -> Result<(), Reason> {
    let cookies = Cookies::Header(header.as_bytes());
    let result = keys.validate_cookies(&CookieNames::default(), cookies, POW, visit);
    result.map(|_| ()).map_err(|refusal| refusal.reason)
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .unwrap()
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
