//! Decisions about requests, in memory: `cargo bench --bench http --features remediation`.
//!
//! Items are lookups in `hosts`, requests in `decide` and tokens in `token`.

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use ringspoa::Headers;
use ringspoa::agents::remediation::messages::HttpRequest;
use ringspoa::agents::remediation::{
    CaptchaStatus, Claims, HostPattern, HostSettings, HostTable, Listed, Lookup, Policy,
    PolicySettings, Remediation, Ruling, TokenKey,
};

/// Adds lines on allocations to each benchmark that makes some.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const NOW: u64 = 1_700_000_000;
const KEY: &str = "0123456789abcdef0123456789abcdef";

fn main() {
    divan::main();
}

/// So many hosts: of four, one has a name, one all names below a domain, one a wildcard within its
/// first label, and one all names that end in its own.
fn patterns(count: usize) -> Vec<String> {
    let pattern = |index: usize| match index % 4 {
        0 => format!("shop-{index}.example.com"),
        1 => format!("*.team-{index}.example.com"),
        2 => format!("api-*.zone-{index}.example.org"),
        _ => format!("*site-{index}.example.net"),
    };
    (0..count).map(pattern).collect()
}

mod hosts {
    use super::*;

    const COUNTS: [usize; 3] = [10, 1_000, 10_000];

    fn look_up(bencher: Bencher<'_, '_>, count: usize, host: impl Fn(usize) -> String) {
        let pattern = |text: &String| HostPattern::new(text).expect("a pattern");
        let entries: Vec<HostPattern> = patterns(count).iter().map(pattern).collect();
        let table = HostTable::new(entries.into_iter().zip(0_usize..).collect());
        let hosts: Vec<String> = (0..1_024)
            .map(|index| host((index * 7_919) % count))
            .collect();
        bencher
            .counter(ItemsCount::new(hosts.len()))
            .bench_local(|| {
                let found = hosts
                    .iter()
                    .filter(|host| black_box(&table).get(host.as_bytes()).is_some());
                found.count()
            });
    }

    /// Names that one pattern each matches.
    #[divan::bench(args = COUNTS)]
    fn hit(bencher: Bencher<'_, '_>, count: usize) {
        look_up(bencher, count, |index| match index % 4 {
            0 => format!("Shop-{index}.example.com:8443"),
            1 => format!("www.team-{index}.example.com"),
            2 => format!("api-eu.zone-{index}.example.org"),
            _ => format!("site-{index}.example.net"),
        });
    }

    /// Names like those of the patterns.
    #[divan::bench(args = COUNTS)]
    fn miss(bencher: Bencher<'_, '_>, count: usize) {
        look_up(bencher, count, |index| {
            format!("www.shop-{index}.zone-{index}.example.info")
        });
    }
}

mod token {
    use super::*;

    fn claims() -> Claims {
        Claims {
            exp: NOW + 60,
            host: None,
            iat: NOW,
            net: None,
            st: CaptchaStatus::Valid,
            uuid: "7d444840-9dc0-41d1-b245-5ffdce74fad2".to_owned(),
            via: None,
        }
    }

    #[divan::bench]
    fn sign(bencher: Bencher<'_, '_>) {
        let (key, claims) = (TokenKey::new(&KEY.into()).expect("a key"), claims());
        bencher
            .counter(ItemsCount::new(1_u32))
            .bench_local(|| black_box(&key).sign(black_box(&claims)));
    }

    #[divan::bench]
    fn verify(bencher: Bencher<'_, '_>) {
        let key = TokenKey::new(&KEY.into()).expect("a key");
        let token = key.sign(&claims());
        bencher
            .counter(ItemsCount::new(1_u32))
            .bench_local(|| black_box(&key).verify(black_box(token.as_bytes()), NOW));
    }
}

/// A browser's request to one of 1000 hosts.
#[divan::bench(args = [Remediation::Allow, Remediation::Captcha, Remediation::Ban])]
fn decide(bencher: Bencher<'_, '_>, remediation: Remediation) {
    let hosts = patterns(1_000).into_iter().map(|pattern| {
        let json = format!(
            r#"{{ "host": "{pattern}", "captcha": {{ "provider": "hcaptcha", "site_key": "1",
                  "secret_key": "2", "signing_key": "{KEY}" }} }}"#
        );
        let settings: HostSettings = serde_json::from_str(&json).expect("settings");
        (pattern, settings)
    });
    let settings = PolicySettings {
        hosts: hosts.collect(),
        ..PolicySettings::default()
    };
    let policy = Arc::new(Policy::new(settings).expect("a policy").0);
    let headers = "host: shop-4.example.com\r\n\
        user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
        accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
        accept-language: en-GB,en;q=0.5\r\naccept-encoding: gzip, deflate, br, zstd\r\n\
        cookie: session=0f8fad5bd9cb469fa16570867728950e; theme=dark; consent=all\r\n\
        referer: https://shop-4.example.com/\r\nupgrade-insecure-requests: 1\r\n\
        sec-fetch-dest: document\r\nsec-fetch-mode: navigate\r\nsec-fetch-site: same-origin\r\n\r\n";
    let request = HttpRequest {
        address: Some([192, 0, 2, 77].into()),
        method: Some(b"GET"),
        headers: Some(Headers::from_text(headers.as_bytes()).expect("headers")),
        ..HttpRequest::default()
    };
    let listed = (remediation != Remediation::Allow).then_some(Listed {
        remediation,
        word: remediation.as_str(),
        origin: "CAPI",
    });
    let lookup = Lookup {
        listed,
        country: None,
    };
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let decision = policy.decide_http(black_box(&request), &lookup, NOW, || [7; 16]);
        match decision {
            Ruling::Now(verdict) => verdict.variables().count(),
            Ruling::Ask(_) => unreachable!("nobody is asked"),
        }
    });
}
