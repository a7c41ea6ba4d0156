//! Visitors of a site that validates browsers: what they send, good and bad. For the benchmark, and for the
//! test that nothing of it allocates.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the benchmark and the test each use their part"
)]

use std::net::IpAddr;

use ringspoa::agents::challenge::{
    BindingRules, ChallengeId, CookieNames, Cookies, Failure, Issued, Key, Keyring, Level, Method,
    RealmKeys, Reason, Scope, ScopeRules, Step, Submission, Terms, Visit, solution_body, solve,
};

/// The second that it is.
pub const NOW: u64 = 1_764_000_000;

/// What a common browser says of itself.
pub const USER_AGENT: &[u8] = b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 \
    (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";

/// Cookies that an ordinary shop sets beside.
const OTHER_COOKIES: &str = "_ga=GA1.1.1084263012.1763000000; session=f3b6a1e2c4d5908776655443322110ff; \
    theme=dark; cart=eyJpdGVtcyI6W3siaWQiOjEyMywicXR5IjoyfV19; consent=analytics%3Dyes%26ads%3Dno; \
    lang=en-GB; _gid=GA1.1.507842901.1763990000";

/// A realm with a level of waiting and one of work.
pub struct Site {
    pub rules: ScopeRules,
    pub keys: RealmKeys,
    pub names: CookieNames,
    pub levels: [Level; 3],
}

impl Site {
    pub fn new() -> Self {
        let secret: Vec<u8> = (0..32)
            .map(|index: u8| index.wrapping_mul(151) ^ 0x5a)
            .collect();
        let keyring = Keyring::new(vec![
            Key::new(7, &secret, None).expect("a good key"),
            Key::new(3, &secret[..].repeat(2), None).expect("a good key"),
        ]);
        let level = |method| Level {
            method,
            wait_s: 0,
            duration_s: 43_200,
        };
        let levels = [
            level(Method::Wait),
            level(Method::Sha256 {
                work: 1 << 12,
                parts: 16,
            }),
            level(Method::Pbkdf2 {
                work: 4,
                parts: 4,
                iterations: 1_000,
            }),
        ];
        let binding = BindingRules::default();
        let keys = RealmKeys::new(&keyring.expect("two keys"), "default", &levels, binding);
        Self {
            rules: ScopeRules::default(),
            keys: keys.expect("good levels"),
            names: CookieNames::default(),
            levels,
        }
    }

    pub fn scope(&self) -> Scope<'_> {
        self.rules.scope(Some(b"shop.example")).expect("a host")
    }

    pub fn issue(&self, number: u8, visit: &Visit<'_>) -> Issued {
        let terms = Terms::of(number, &self.levels[usize::from(number) - 1], 300);
        let id = ChallengeId(*b"twelve bytes");
        self.keys.issue(&terms, id, visit).expect("a level")
    }
}

pub fn visit<'a>(scope: &'a Scope<'a>) -> Visit<'a> {
    Visit {
        scope,
        address: Some(IpAddr::from([203, 0, 113, 7])),
        user_agent: Some(USER_AGENT),
        tls: None,
        now_unix_s: NOW,
    }
}

/// The same visitor in another network.
pub fn moved<'a>(scope: &'a Scope<'a>) -> Visit<'a> {
    Visit {
        address: Some(IpAddr::from([198, 51, 100, 7])),
        ..visit(scope)
    }
}

/// What is done over and over, and what has to come of it.
pub struct Scene {
    pub name: &'static str,
    /// Does it once.
    pub run: Box<dyn Fn()>,
}

fn scene(name: &'static str, run: impl Fn() + 'static) -> Scene {
    Scene {
        name,
        run: Box::new(run),
    }
}

fn flipped(text: &str) -> String {
    let last = if text.ends_with('A') { "B" } else { "A" };
    format!("{}{last}", &text[..text.len() - 1])
}

/// What is asked of cookies.
pub fn validations() -> Vec<Scene> {
    let site: &'static Site = Box::leak(Box::new(Site::new()));
    let scope: &'static Scope<'static> = Box::leak(Box::new(site.scope()));
    let visit = visit(scope);
    let issued = site.issue(2, &visit);
    let body = solution_body(
        issued.as_str(),
        &solve(issued.as_bytes()).expect("a puzzle"),
    );
    let opened = site
        .keys
        .open(&Submission::parse(body.as_bytes()).expect("a body"), &visit);
    let Ok(Step::Solved(solved)) = opened.expect("a challenge").judge() else {
        panic!("the puzzle is solved");
    };
    let cleared = site.keys.clearance(&solved, 43_200, &visit);
    let text = cleared.expect("a key").1.as_str().to_owned();
    let forged = flipped(&text);

    let validate = move |cookies: Cookies<'_>, visit: &Visit<'_>| {
        let result = site.keys.validate_cookies(&site.names, cookies, 2, visit);
        result.map(|_| ()).map_err(|refusal| refusal.reason)
    };
    let header = move |name, header: String, expected: Result<(), Reason>| {
        scene(name, move || {
            let cookies = Cookies::Header(std::hint::black_box(header.as_bytes()));
            assert_eq!(validate(cookies, &visit), expected);
        })
    };
    let named = |text: &str| format!("__Host-clearance={text}");
    let many = |text: &str| (0..20).map(|_| named(text) + "; ").collect::<String>();
    let value = text.clone();
    let other = text.clone();
    vec![
        scene("value", move || {
            let cookies = Cookies::Value(std::hint::black_box(value.as_bytes()));
            assert_eq!(validate(cookies, &visit), Ok(()));
        }),
        header("only_cookie", named(&text), Ok(())),
        header(
            "among_others",
            format!("{OTHER_COOKIES}; {}", named(&text)),
            Ok(()),
        ),
        header(
            "of_both_families",
            format!("{}.{text}", named(&forged)),
            Ok(()),
        ),
        header("no_cookie", OTHER_COOKIES.to_owned(), Err(Reason::None)),
        header("forged", named(&forged), Err(Reason::Mac)),
        scene("moved", move || {
            let cookies = Cookies::Value(std::hint::black_box(other.as_bytes()));
            assert_eq!(validate(cookies, &moved(scope)), Err(Reason::Address));
        }),
        header("twenty_forged", many(&forged), Err(Reason::Mac)),
        header("junk_8_kib", "a=b; ".repeat(1_639), Err(Reason::None)),
        scene("with_host", move || {
            let host = std::hint::black_box(&b"Shop.Example:8443"[..]);
            let scope = site.rules.scope(Some(host)).expect("a host");
            let visit = Visit {
                scope: &scope,
                ..visit
            };
            assert_eq!(validate(Cookies::Value(text.as_bytes()), &visit), Ok(()));
        }),
    ]
}

/// What is submitted.
pub fn submissions() -> Vec<Scene> {
    let site: &'static Site = Box::leak(Box::new(Site::new()));
    let scope: &'static Scope<'static> = Box::leak(Box::new(site.scope()));
    let visit = visit(scope);
    let issued = site.issue(2, &visit);
    let challenge = issued.as_str().to_owned();
    let nonces = solve(issued.as_bytes()).expect("a puzzle");
    let right = solution_body(&challenge, &nonces);
    let wrong = |index: usize| {
        let mut nonces = nonces.clone();
        nonces[index] ^= 1 << 40;
        solution_body(&challenge, &nonces)
    };
    let (first_wrong, last_wrong) = (wrong(0), wrong(15));
    let nonces = &right[challenge.len()..];
    let derived = site.issue(3, &visit);
    let derivation = solution_body(
        derived.as_str(),
        &solve(derived.as_bytes()).expect("a puzzle"),
    );
    let judge = move |body: &[u8], visit: &Visit<'_>| {
        let opened = site
            .keys
            .open(&Submission::parse(std::hint::black_box(body))?, visit)?;
        match opened.judge()? {
            Step::Solved(solved) => {
                let (token, _) = site.keys.clearance(&solved, 43_200, visit)?;
                assert_eq!(token.level, 2);
            }
            Step::Derive(job) => {
                job.run()?;
            }
            Step::AskProvider(_) => panic!("there is no captcha"),
        }
        Ok(())
    };
    let body = move |name, body: String, expected: Result<(), Failure>| {
        scene(name, move || {
            assert_eq!(judge(body.as_bytes(), &visit), expected);
        })
    };
    let elsewhere = right.clone();
    vec![
        body("malformed", "x".repeat(400), Err(Failure::Format)),
        body("long", "A".repeat(8_192), Err(Failure::Format)),
        body("forged", flipped(&challenge) + nonces, Err(Failure::Mac)),
        scene("moved", move || {
            assert_eq!(
                judge(elsewhere.as_bytes(), &moved(scope)),
                Err(Failure::Address)
            );
        }),
        body("first_wrong", first_wrong, Err(Failure::Work)),
        body("last_wrong", last_wrong, Err(Failure::Work)),
        body("right", right, Ok(())),
        body("derived", derivation, Ok(())),
        scene("issue", move || {
            std::hint::black_box(site.issue(2, std::hint::black_box(&visit)));
        }),
    ]
}
