//! Files of decisions, and how long they last.

use std::net::IpAddr;

use ringspoa::agents::remediation::{
    CountryCode, Decision, DecisionStore, Defaults, Expiry, ListError, OnBadRecord, Source,
    StoreError, Subject, Summary, parse_csv, parse_duration, parse_json, parse_lines, parse_stream,
};

const DEFAULTS: Defaults<'static> = Defaults {
    remediation: "ban",
    origin: "file",
    expiry: Expiry::NEVER,
    now_unix_s: 1_700_000_000,
};

/// A decision that owns its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    subject: Subject,
    remediation: String,
    origin: String,
    expiry: Expiry,
    id: Option<i64>,
}

type Sink<'a> = &'a mut dyn FnMut(&Decision<'_>) -> Result<(), StoreError>;

fn collect(
    parse: impl FnOnce(Sink<'_>) -> Result<Summary, ListError>,
) -> (Result<Summary, ListError>, Vec<Read>) {
    let mut all = Vec::new();
    let summary = parse(&mut |decision| {
        all.push(Read {
            subject: decision.subject,
            remediation: decision.remediation.to_owned(),
            origin: decision.origin.to_owned(),
            expiry: decision.expiry,
            id: decision.id,
        });
        Ok(())
    });
    (summary, all)
}

/// What holds of every file: whether bad records are skipped or refused does not matter up to the first,
/// and what was read can be looked up.
fn read(
    parse: impl Fn(OnBadRecord, Sink<'_>) -> Result<Summary, ListError>,
    has_lines: bool,
) -> Option<Vec<Read>> {
    let (refusing, until) = collect(|sink| parse(OnBadRecord::Refuse, sink));
    let (skipping, all) = collect(|sink| parse(OnBadRecord::Skip, sink));
    assert_eq!(until, all[..until.len()]);
    match (&refusing, &skipping) {
        (Ok(refusing), Ok(skipping)) => {
            assert_eq!(refusing, skipping);
            assert_eq!((refusing.bad_count, &refusing.first_bad), (0, &None));
            assert_eq!(until.len(), all.len());
        }
        (Err(error), Ok(skipping)) => {
            assert!(error.line > 0 && !error.reason.is_empty());
            assert!(skipping.bad_count > 0);
            let first = skipping.first_bad.as_ref().expect("there is one");
            assert!(first.reason.contains(&error.reason));
            assert_eq!(first.line, if has_lines { error.line } else { 0 });
        }
        (Err(first), Err(error)) => assert!(error.line >= first.line && !error.reason.is_empty()),
        (Ok(_), Err(error)) => panic!("refused although bad records are skipped: {error}"),
    }
    if let Ok(summary) = &skipping {
        assert_eq!(summary.decision_count, all.len());
    }
    look_up(&all);
    refusing.is_ok().then_some(all)
}

fn look_up(all: &[Read]) {
    let mut store = DecisionStore::with_seed([7, 8]);
    let source = store
        .add_source(Source::default())
        .expect("it is the first");
    // One that had ended would end what came before of the same id.
    let lasting = || all.iter().filter(|read| !read.expiry.is_past(0));
    for read in lasting() {
        let mut decision = Decision::new(read.subject, &read.remediation, &read.origin);
        (decision.expiry, decision.id) = (read.expiry, read.id);
        store
            .insert(source, &decision)
            .expect("a short file has few kinds");
    }
    store.apply(0);
    for read in lasting() {
        let nobody = IpAddr::from([192, 0, 2, 255]);
        let (address, country, as_number) = match read.subject {
            Subject::Network(network) => (network.first(), None, None),
            Subject::Country(country) => (nobody, Some(country), None),
            Subject::AsNumber(number) => (nobody, None, Some(number)),
            other => panic!("a subject of another kind: {other}"),
        };
        let on = store.snapshot().decisions_on(address, country, as_number);
        assert!(on.iter().any(|found| found.subject() == read.subject));
        if matches!(read.subject, Subject::Network(_)) {
            assert!(store.snapshot().lookup(address).is_some(), "{address}");
        }
    }
}

/// A list is read as line by line reading says; a range is its networks one behind the other.
pub fn decision_lines(data: &[u8]) {
    let all = read(
        |on_bad, sink| parse_lines(data, &DEFAULTS, on_bad, sink),
        true,
    );
    let (Some(all), Ok(text)) = (all, std::str::from_utf8(data)) else {
        return;
    };
    let mut rest = &all[..];
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for line in text.split('\n') {
        let end = line.find(['#', ';']).unwrap_or(line.len());
        let value = line[..end].trim();
        if value.is_empty() {
            continue;
        }
        let mut ends = value.split('-').map(str::trim);
        let (first, last) = (ends.next().expect("a split has a part"), ends.next());
        let count = last.map_or(1, |last| {
            let bits =
                |text: &str| match text.parse::<IpAddr>().expect("it was read").to_canonical() {
                    IpAddr::V4(address) => u128::from(address.to_bits()),
                    IpAddr::V6(address) => address.to_bits(),
                };
            let (mut next, last) = (Some(bits(first)), bits(last));
            let mut count = 0;
            while let Some(at) = next {
                let Subject::Network(network) = rest[count].subject else {
                    panic!("a list has networks");
                };
                let (begin, width) = match network.first() {
                    IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
                    IpAddr::V6(address) => (address.to_bits(), 128),
                };
                assert_eq!(begin, at, "no gap");
                let open = u32::from(width - network.prefix_len());
                let end = begin | u128::MAX.checked_shr(128 - open).unwrap_or(0);
                assert!(end <= last, "nothing behind the end");
                next = (end < last).then(|| end + 1);
                count += 1;
            }
            count
        });
        if last.is_none() {
            assert_eq!(
                Ok(rest[0].subject),
                Subject::parse("range", first),
                "{value}"
            );
        }
        rest = &rest[count..];
    }
    assert!(rest.is_empty());
}

fn end(expiry: Expiry) -> String {
    // Small numbers are not taken for seconds since 1970, so it is said as a duration.
    expiry.unix_s().map_or("never".to_owned(), |second| {
        format!("{}s", i128::from(second) - i128::from(DEFAULTS.now_unix_s))
    })
}

/// CSV that was read and is written reads as the same.
pub fn decision_csv(data: &[u8]) {
    let Some(all) = read(
        |on_bad, sink| parse_csv(data, &DEFAULTS, on_bad, sink),
        true,
    ) else {
        return;
    };
    let mut csv = "value,scope,remediation,expiry,origin,id\n".to_owned();
    for read in &all {
        let scope = read.subject.scope();
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let id = read.id.map_or(String::new(), |id| id.to_string());
        let (word, origin) = (quoted(&read.remediation), quoted(&read.origin));
        csv += &format!(
            "{},{scope},{word},{},{origin},{id}\n",
            read.subject,
            end(read.expiry)
        );
    }
    let (summary, again) =
        collect(|sink| parse_csv(csv.as_bytes(), &DEFAULTS, OnBadRecord::Refuse, sink));
    assert!(summary.is_ok(), "{summary:?} of {csv}");
    assert_eq!(again, all);
}

/// JSON that was read and is written reads as the same, on its own and as an answer of a LAPI; and any
/// bytes as an answer do not panic.
pub fn decision_json(data: &[u8]) {
    let stream = |json: &[u8]| {
        collect(|sink| {
            parse_stream(json, &DEFAULTS, OnBadRecord::Skip, |_, decision| {
                sink(decision)
            })
        })
    };
    let _ = stream(data);
    let Some(all) = read(
        |on_bad, sink| parse_json(data, &DEFAULTS, on_bad, sink),
        false,
    ) else {
        return;
    };
    let text = |text: &str| {
        let escaped = text.chars().map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            '\0'..' ' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        });
        format!("\"{}\"", escaped.collect::<String>())
    };
    let records: Vec<String> = all
        .iter()
        .map(|read| {
            let id = read.id.map_or("null".to_owned(), |id| id.to_string());
            let (value, scope) = (read.subject, read.subject.scope());
            let (word, origin) = (text(&read.remediation), text(&read.origin));
            let end = end(read.expiry);
            format!(
                "{{\"value\":\"{value}\",\"scope\":\"{scope}\",\"type\":{word},\"origin\":{origin},\
                 \"id\":{id},\"duration\":\"{end}\"}}"
            )
        })
        .collect();
    let json = format!("[{}]", records.join(","));
    let (summary, again) =
        collect(|sink| parse_json(json.as_bytes(), &DEFAULTS, OnBadRecord::Refuse, sink));
    assert!(summary.is_ok(), "{summary:?} of {json}");
    assert_eq!(again, all);
    let (summary, again) = stream(format!("{{\"new\":{json},\"deleted\":null}}").as_bytes());
    assert!(summary.is_ok(), "{summary:?}");
    assert_eq!(again, all);
}

/// A duration is what adding up its parts gives, and written in nanoseconds it reads as the same. Texts
/// that name a country or somebody do not panic either.
pub fn duration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = CountryCode::new(text);
    let _ = text.parse::<Subject>();
    let Ok(ns) = parse_duration(text) else {
        return;
    };
    assert_eq!(parse_duration(&format!("{ns}ns")), Ok(ns));
    let unsigned = text.trim_start_matches(['+', '-']);
    assert_eq!(parse_duration(&format!("-{unsigned}")), Ok(-ns.abs()));
    let (mut sum, mut rest) = (0.0_f64, unsigned);
    while let Some(start) = rest.find(|c: char| c.is_alphabetic()) {
        let part = &rest[start..];
        let end = part
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(part.len());
        let unit = match &part[..end] {
            "ns" => 1.0,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            "d" => 8.64e13,
            "w" => 6.048e14,
            _ => 1e3,
        };
        sum += rest[..start]
            .parse::<f64>()
            .expect("a number is before the unit")
            * unit;
        rest = &part[end..];
    }
    // A part may have lost less than a nanosecond, and the sum of floats is not exact.
    let parts = text.chars().filter(|c| c.is_alphabetic()).count() as f64;
    assert!(
        (sum - ns.unsigned_abs() as f64).abs() <= parts + sum * 1e-12,
        "{text}: {ns} and {sum}"
    );
}
