//! The table of decisions against a list that is gone through from front to back, and the cases that
//! users of the CrowdSec bouncer for HAProxy know.

mod counting;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use counting::Counting;
use ringspoa::agents::remediation::{
    CountryCode, Decision, DecisionStore, Expiry, Found, Network, Remediation, Snapshot,
    SnapshotCell, Source, SourceId, Subject,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // `try_with`: threads allocate while their locals are being torn down, too.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn subject(text: &str) -> Subject {
    match CountryCode::new(text) {
        Some(country) => Subject::Country(country),
        None => text.parse().unwrap(),
    }
}

const WORDS: [&str; 5] = ["ban", "captcha", "allow", "mfa", "throttle"];
const ORIGINS: [&str; 3] = ["cscli", "CAPI", "lists:blk"];

/// `throttle` is said to mean `captcha`.
fn meaning(word: &str) -> Remediation {
    match word {
        "throttle" => Remediation::Captcha,
        _ => Remediation::from_word(word),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    source: SourceId,
    subject: Subject,
    word: &'static str,
    origin: &'static str,
    expiry: Expiry,
    id: Option<i64>,
}

/// What a store is, done the slow way.
#[derive(Clone, Default)]
struct Model {
    sources: BTreeMap<SourceId, Source>,
    decisions: Vec<Known>,
}

impl Model {
    fn insert(&mut self, new: Known) {
        self.decisions.retain(|old| {
            let is_same = old.source == new.source
                && old.subject == new.subject
                && old.id == new.id
                && (new.id.is_some() || (old.origin, old.word) == (new.origin, new.word));
            !is_same
        });
        self.decisions.push(new);
    }

    fn priority(&self, known: &Known) -> u16 {
        let source = self.sources[&known.source];
        match source.is_allow_list && meaning(known.word) == Remediation::Allow {
            true => 256,
            false => source.priority.into(),
        }
    }

    /// Subject, meaning and priority of what holds, and until when the longest such decision lasts.
    fn lookup(
        &self,
        address: IpAddr,
        country: Option<CountryCode>,
        as_number: Option<u32>,
    ) -> Option<(Subject, Remediation, u16, Expiry)> {
        let best = |is_on: &dyn Fn(&Subject) -> Option<u8>| {
            let on = self.decisions.iter().filter_map(|known| {
                let prefix_len = is_on(&known.subject)?;
                let remediation = meaning(known.word);
                let rank = (self.priority(known), prefix_len, remediation, known.expiry);
                Some((rank, known.subject))
            });
            let best = on.max_by_key(|(rank, _)| *rank);
            best.map(|((priority, _, remediation, expiry), subject)| {
                (subject, remediation, priority, expiry)
            })
        };
        let mut holds = best(&|subject| match subject {
            Subject::Network(network) => network.contains(address).then_some(network.prefix_len()),
            _ => None,
        });
        for (is_known, wanted) in [
            (country.is_some(), country.map(Subject::Country)),
            (as_number.is_some(), as_number.map(Subject::AsNumber)),
        ] {
            let wider = best(&|subject| (is_known && Some(*subject) == wanted).then_some(0));
            let Some(wider) = wider.filter(|wider| wider.1 != Remediation::Unknown) else {
                continue;
            };
            let counts = holds.is_none_or(|holds| {
                wider.2 > holds.2 || wider.2 == holds.2 && holds.1 == Remediation::Allow
            });
            if counts {
                holds = Some(wider);
            }
        }
        holds
    }
}

fn known(found: Found<'_>) -> Known {
    let word = WORDS
        .into_iter()
        .find(|word| *word == found.word())
        .unwrap();
    let origin = ORIGINS
        .into_iter()
        .find(|origin| *origin == found.origin())
        .unwrap();
    Known {
        source: found.source(),
        subject: found.subject(),
        word,
        origin,
        expiry: found.expiry(),
        id: found.id(),
    }
}

fn sorted(decisions: impl IntoIterator<Item = Known>) -> Vec<Known> {
    let mut decisions: Vec<Known> = decisions.into_iter().collect();
    decisions.sort();
    decisions
}

/// Few addresses and all lengths of prefixes, so that decisions meet.
fn random_address(random: &mut Random) -> IpAddr {
    let near = random.below(16);
    match random.below(8) {
        0..3 => IpAddr::V4(Ipv4Addr::from_bits(
            0x0a00_0000 | u32::try_from(near).unwrap(),
        )),
        3 => ip(random.of(&["0.0.0.0", "255.255.255.255", "10.0.0.255", "9.255.255.255"])),
        4 => IpAddr::V6(Ipv6Addr::from_bits(0xffff_0a00_0000 | u128::from(near))),
        5 | 6 => IpAddr::V6(Ipv6Addr::from_bits(
            0x2001_0db8 << 96 | u128::from(near) << random.of(&[0, 62, 94]),
        )),
        _ => ip(random.of(&[
            "::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "ffff:ffff:ffff:ffff::",
            "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "::fffe:ffff:ffff",
            "::1:0:0:0",
        ])),
    }
}

fn random_subject(random: &mut Random) -> Subject {
    match random.below(20) {
        0 => Subject::Country(CountryCode::new(random.of(&["FR", "NL"])).unwrap()),
        1 => Subject::AsNumber(random.of(&[7, 64_500])),
        2..9 => random_address(random).into(),
        _ => {
            let address = random_address(random);
            let width = if address.is_ipv4() { 32 } else { 128 };
            let prefix_len = match random.below(4) {
                0 => random.of(&[0, 1, width, width - 1, width / 2]),
                1 => u8::try_from(random.below(u64::from(width) + 1)).unwrap(),
                _ => width - u8::try_from(random.below(6)).unwrap(),
            };
            Network::new(address, prefix_len).unwrap().into()
        }
    }
}

fn check(snapshot: &Snapshot, model: &Model, random: &mut Random) {
    let all = sorted(snapshot.iter().map(known));
    assert_eq!(all, sorted(model.decisions.iter().cloned()));
    assert_eq!(snapshot.count(), all.len());
    for _ in 0..40 {
        let address = random_address(random);
        let country = random.chance(50).then(|| CountryCode::new("FR").unwrap());
        let as_number = random.chance(50).then_some(7);
        let found = snapshot.lookup_with(address, country, as_number);
        let holds = model.lookup(address, country, as_number);
        let shown = found.map(|found| {
            let priority = model.priority(&known(found));
            (
                found.subject(),
                found.remediation(),
                priority,
                found.expiry(),
            )
        });
        assert_eq!(shown, holds, "{address} {country:?} {as_number:?}");
        if (country, as_number) == (None, None) {
            let alone = snapshot.lookup(address).map(known);
            assert_eq!(alone, found.map(known));
        }
        let on = snapshot.decisions_on(address, country, as_number);
        let is_on = |known: &&Known| match known.subject {
            Subject::Network(network) => network.contains(address),
            Subject::Country(of) => Some(of) == country,
            Subject::AsNumber(of) => Some(of) == as_number,
            _ => unreachable!("there are no other subjects"),
        };
        let expected = model.decisions.iter().filter(is_on).cloned();
        assert_eq!(sorted(on.into_iter().map(known)), sorted(expected));
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let mut store = DecisionStore::with_seed([random.next(), random.next()]);
    store.set_word("throttle", Remediation::Captcha);
    let mut model = Model::default();
    for (priority, is_allow_list) in [(0, false), (0, false), (5, false), (3, true)] {
        let source = Source {
            priority,
            is_allow_list,
        };
        model
            .sources
            .insert(store.add_source(source).unwrap(), source);
    }
    let sources: Vec<SourceId> = model.sources.keys().copied().collect();
    let mut now = 1_000;
    let mut applied = model.clone();
    // From when on there are ids that take more than 32 bits: in some runs from the start or half way.
    let wide_from = random.of(&[0, 30, 60]);
    for step in 0..60 {
        for _ in 0..random.below(25) {
            let source = random.of(&sources);
            let (subject, id) = (random_subject(&mut random), random.below(12) as i64);
            let id = match id {
                8 => i64::from(u32::MAX) - 1,
                9 if step >= wide_from => i64::from(u32::MAX),
                10 if step >= wide_from => -1,
                11 if step >= wide_from => i64::MAX,
                id => id,
            };
            let word = random.of(&WORDS);
            match random.below(100) {
                0..75 => {
                    let new = Known {
                        source,
                        subject,
                        word,
                        origin: random.of(&ORIGINS),
                        expiry: match random.below(3) {
                            0 => Expiry::NEVER,
                            _ => Expiry::at(now - 5 + random.below(60)),
                        },
                        id: random.chance(70).then_some(id),
                    };
                    let mut decision = Decision::new(subject, word, new.origin);
                    (decision.expiry, decision.id) = (new.expiry, new.id);
                    store.insert(source, &decision).unwrap();
                    model.insert(new);
                }
                75..85 => {
                    store.remove_word(source, subject, word);
                    model.decisions.retain(|old| {
                        (old.source, old.subject, old.word) != (source, subject, word)
                    });
                }
                85..93 => {
                    store.remove(source, subject, id);
                    model.decisions.retain(|old| {
                        (old.source, old.subject, old.id) != (source, subject, Some(id))
                    });
                }
                93..98 => {
                    store.remove_id(source, id);
                    model
                        .decisions
                        .retain(|old| (old.source, old.id) != (source, Some(id)));
                }
                _ => {
                    store.clear(source);
                    model.decisions.retain(|old| old.source != source);
                }
            }
        }
        if random.chance(5) {
            store.discard();
            model = applied.clone();
        }
        now += random.below(20);
        model.decisions.retain(|known| !known.expiry.is_past(now));
        let before = Arc::clone(store.snapshot());
        let changes = store.apply(now);
        let came = before.count() + changes.added;
        let went = changes.removed + changes.expired;
        assert_eq!(came - went, store.snapshot().count(), "{changes:?}");
        assert_eq!(changes.is_empty(), Arc::ptr_eq(&before, store.snapshot()));
        check(store.snapshot(), &model, &mut random);
        // What was published before is not touched.
        assert_eq!(
            sorted(before.iter().map(known)),
            sorted(applied.decisions.iter().cloned())
        );
        let next = model.decisions.iter().map(|known| known.expiry).min();
        let next = next.unwrap_or(Expiry::NEVER);
        assert!(
            store.next_expiry() <= next,
            "what ends is not slept through"
        );
        applied = model.clone();
    }
}

#[test]
fn whatever_is_done_a_slow_list_says_the_same() {
    for seed in 0..60 {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("seed {seed}");
            resume_unwind(panic);
        }
    }
}

/// Spread over all numbers, and far more than the other test has.
#[test]
fn forty_thousand_decisions_are_found_and_nothing_else() {
    for seed in 0..4 {
        let mut random = Random(seed);
        let mut listed = BTreeMap::new();
        let mut store = DecisionStore::new();
        let source = store.add_source(Source::default()).unwrap();
        // Half of them close together, as those of one provider.
        let mut address = |id: i64| -> IpAddr {
            let bits = random.next();
            match id % 4 {
                0 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits >> 32).unwrap())),
                1 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits >> 47).unwrap())),
                2 => IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits) << 64 | 1)),
                _ => IpAddr::V6(Ipv6Addr::from_bits(0x2001 << 112 | u128::from(bits >> 44))),
            }
        };
        for id in 0..40_000 {
            let address = address(id);
            let word = if id % 3 == 0 { "captcha" } else { "ban" };
            let decision = Decision::new(address, word, "cscli").with_id(id);
            store.insert(source, &decision).unwrap();
            listed.entry(address).or_insert_with(Vec::new).push(id);
            if id == 30_000 {
                store.apply(0);
            }
        }
        store.apply(0);
        let snapshot = store.snapshot();
        for (address, ids) in &listed {
            let found = snapshot.lookup(*address).unwrap();
            assert_eq!(found.subject(), Subject::from(*address));
            assert!(ids.contains(&found.id().unwrap()), "{address}");
            assert_eq!(snapshot.decisions_on(*address, None, None).len(), ids.len());
        }
        for id in 40_000..80_000 {
            let address = address(id);
            let is_listed = listed.contains_key(&address);
            assert_eq!(snapshot.lookup(address).is_some(), is_listed, "{address}");
        }
    }
}

/// The decisions of the compatibility vectors.
fn vectors() -> DecisionStore {
    let mut store = DecisionStore::new();
    let lapi = store.add_source(Source::default()).unwrap();
    for (value, word, origin) in [
        ("192.0.2.1", "ban", "cscli"),
        ("192.0.2.2", "captcha", "cscli"),
        ("198.51.100.0/24", "ban", "lists:blk"),
        ("198.51.100.128/25", "captcha", "CAPI"),
        ("203.0.113.9", "mfa", "cscli"),
        ("203.0.113.0/24", "ban", "cscli"),
        ("FR", "ban", "cscli"),
    ] {
        let decision = Decision::new(subject(value), word, origin);
        store.insert(lapi, &decision).unwrap();
    }
    store.apply(0);
    store
}

#[test]
fn decisions_hold_as_users_of_the_bouncer_know_it() {
    let store = vectors();
    for (address, word, origin, on) in [
        ("192.0.2.1", "ban", "cscli", "192.0.2.1"),
        ("::ffff:192.0.2.1", "ban", "cscli", "192.0.2.1"),
        ("192.0.2.2", "captcha", "cscli", "192.0.2.2"),
        ("198.51.100.200", "captcha", "CAPI", "198.51.100.128/25"),
        ("198.51.100.5", "ban", "lists:blk", "198.51.100.0/24"),
        ("203.0.113.9", "mfa", "cscli", "203.0.113.9"),
        ("203.0.113.8", "ban", "cscli", "203.0.113.0/24"),
    ] {
        let found = store.snapshot().lookup(ip(address)).unwrap();
        let shown = (found.word(), found.origin(), found.subject().to_string());
        assert_eq!(shown, (word, origin, on.to_owned()), "{address}");
        assert_eq!(found.remediation(), Remediation::from_word(word));
    }
    assert!(store.snapshot().lookup(ip("192.0.2.3")).is_none());
}

#[test]
fn decisions_are_counted_by_kind_and_scope() {
    let store = vectors();
    let kinds: Vec<_> = store.snapshot().kinds().collect();
    let counts = store.snapshot().counts();
    let mut shown: Vec<String> = counts
        .iter()
        .map(|of| {
            let kind = kinds[of.kind.index()];
            assert_eq!(kind.id, of.kind);
            let (word, origin) = (kind.word, kind.origin);
            format!("{} {word} {origin} {:?} {}", of.scope, of.is_ipv6, of.count)
        })
        .collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            "Country ban cscli None 1",
            "Ip ban cscli Some(false) 1",
            "Ip captcha cscli Some(false) 1",
            "Ip mfa cscli Some(false) 1",
            "Range ban cscli Some(false) 1",
            "Range ban lists:blk Some(false) 1",
            "Range captcha CAPI Some(false) 1",
        ]
    );
}

#[test]
fn a_word_can_be_told_what_it_means() {
    let mut store = DecisionStore::new();
    store.set_word("mfa", Remediation::Captcha);
    let source = store.add_source(Source::default()).unwrap();
    let decision = Decision::new(subject("203.0.113.9"), "mfa", "cscli");
    store.insert(source, &decision).unwrap();
    store.apply(0);
    let found = store.snapshot().lookup(ip("203.0.113.9")).unwrap();
    assert_eq!(
        (found.remediation(), found.word()),
        (Remediation::Captcha, "mfa")
    );
}

#[test]
fn a_country_counts_for_those_who_may_pass_otherwise() {
    let mut store = vectors();
    let lapi = store.add_source(Source::default()).unwrap();
    for (value, word) in [
        ("192.0.2.7", "allow"),
        ("NL", "mfa"),
        ("AS64500", "captcha"),
    ] {
        let decision = Decision::new(subject(value), word, "cscli");
        store.insert(lapi, &decision).unwrap();
    }
    store.apply(0);
    let word = |address: &str, country: &str, as_number| {
        let country = CountryCode::new(country);
        let found = store
            .snapshot()
            .lookup_with(ip(address), country, as_number);
        found.map(|found| found.word())
    };
    assert_eq!(word("192.0.2.9", "FR", None), Some("ban"));
    assert_eq!(word("192.0.2.9", "BE", None), None);
    assert_eq!(word("192.0.2.2", "FR", None), Some("captcha"));
    assert_eq!(word("203.0.113.9", "FR", None), Some("mfa"));
    assert_eq!(word("192.0.2.7", "FR", None), Some("ban"));
    // A word that means nothing is no reason to look no further.
    assert_eq!(word("192.0.2.9", "NL", None), None);
    assert_eq!(word("192.0.2.9", "NL", Some(64_500)), Some("captcha"));
    assert_eq!(word("192.0.2.9", "FR", Some(64_500)), Some("ban"));
}

#[test]
fn an_allow_list_goes_before_everything() {
    let mut store = vectors();
    let allowed = Source {
        priority: 0,
        is_allow_list: true,
    };
    let allow_list = store.add_source(allowed).unwrap();
    for value in ["192.0.2.0/24", "198.51.100.130"] {
        let decision = Decision::new(subject(value), "allow", "ours");
        store.insert(allow_list, &decision).unwrap();
    }
    store.apply(0);
    let france = CountryCode::new("FR");
    for address in ["192.0.2.1", "192.0.2.9", "198.51.100.130"] {
        let found = store
            .snapshot()
            .lookup_with(ip(address), france, None)
            .unwrap();
        assert_eq!(found.origin(), "ours", "{address}");
    }
    let found = store.snapshot().lookup(ip("198.51.100.131")).unwrap();
    assert_eq!(found.origin(), "CAPI");
}

#[test]
fn a_value_is_remediated_for_as_long_as_one_decision_is_left() {
    let mut store = DecisionStore::new();
    let lapi = store.add_source(Source::default()).unwrap();
    let value = subject("192.0.2.1");
    for (id, origin, end) in [(1, "cscli", 100), (2, "CAPI", 300), (3, "CAPI", 200)] {
        let decision = Decision::new(value, "ban", origin);
        let decision = decision.with_id(id).with_expiry(Expiry::at(end));
        store.insert(lapi, &decision).unwrap();
    }
    store.apply(0);
    let id = |store: &DecisionStore| store.snapshot().lookup(ip("192.0.2.1"))?.id();
    assert_eq!(id(&store), Some(2), "what lasts longest is shown");
    // A LAPI sends each deletion twice.
    for removed in [1, 0] {
        store.remove(lapi, value, 2);
        assert_eq!(store.apply(10).removed, removed);
    }
    assert_eq!(id(&store), Some(3));
    assert_eq!(store.next_expiry(), Expiry::at(100));
    assert_eq!(store.apply(100).expired, 1);
    assert_eq!(id(&store), Some(3));
    assert_eq!(store.apply(200).expired, 1);
    assert_eq!(id(&store), None);
}

#[test]
fn a_deletion_by_word_asks_neither_for_the_origin_nor_for_the_id() {
    let mut store = DecisionStore::new();
    let lapi = store.add_source(Source::default()).unwrap();
    let other = store.add_source(Source::default()).unwrap();
    let value = subject("192.0.2.1");
    for (source, id, word, origin) in [
        (lapi, 1, "ban", "cscli"),
        (lapi, 2, "ban", "CAPI"),
        (lapi, 3, "captcha", "CAPI"),
        (other, 1, "ban", "file"),
    ] {
        let decision = Decision::new(value, word, origin).with_id(id);
        store.insert(source, &decision).unwrap();
    }
    store.remove_word(lapi, value, "ban");
    store.apply(0);
    let left: Vec<_> = store
        .snapshot()
        .iter()
        .map(|found| (found.source(), found.id()))
        .collect();
    assert_eq!(left, [(other, Some(1)), (lapi, Some(3))]);
}

#[test]
fn ten_thousand_decisions_on_one_address_do_not_take_forever() {
    let mut store = DecisionStore::new();
    let source = store.add_source(Source::default()).unwrap();
    let value = subject("192.0.2.1");
    let insert = |store: &mut DecisionStore, id: i64| {
        let decision = Decision::new(value, "ban", "cscli").with_id(id);
        store.insert(source, &decision).unwrap();
    };
    (0..10_000).for_each(|id| insert(&mut store, id));
    assert_eq!(store.apply(0).added, 10_000);
    (0..10_000).for_each(|id| insert(&mut store, id));
    assert!(store.apply(0).is_empty(), "all of them were there");
    (0..9_999).for_each(|id| store.remove(source, value, id));
    assert_eq!(store.apply(0).removed, 9_999);
    assert_eq!(
        store.snapshot().lookup(ip("192.0.2.1")).unwrap().id(),
        Some(9_999)
    );
}

#[test]
fn a_source_is_replaced_whole() {
    let mut store = vectors();
    let list = store.add_source(Source::default()).unwrap();
    let insert = |store: &mut DecisionStore, value: &str| {
        let decision = Decision::new(subject(value), "ban", "list");
        store.insert(list, &decision).unwrap();
    };
    insert(&mut store, "10.0.0.1");
    insert(&mut store, "10.0.0.2");
    store.apply(0);
    store.clear(list);
    insert(&mut store, "10.0.0.2");
    insert(&mut store, "10.0.0.3");
    let changes = store.apply(0);
    assert_eq!((changes.added, changes.removed, changes.renewed), (1, 1, 0));
    let is_listed = |address: &str| store.snapshot().lookup(ip(address)).is_some();
    assert!(!is_listed("10.0.0.1") && is_listed("10.0.0.2") && is_listed("10.0.0.3"));
    assert!(is_listed("192.0.2.1"), "other sources are as they were");
}

#[test]
fn lookups_and_new_snapshots_allocate_nothing_where_they_are_looked_up() {
    let mut store = vectors();
    let source = store.add_source(Source::default()).unwrap();
    let cell = SnapshotCell::new(Arc::clone(store.snapshot()));
    let mut reader = cell.reader();
    for round in 0..10_u32 {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + round));
        let decision = Decision::new(address, "ban", "cscli");
        store.insert(source, &decision).unwrap();
        store.apply(0);
        cell.publish(Arc::clone(store.snapshot()));
        let before = ALLOCATIONS.with(Cell::get);
        let snapshot = reader.snapshot();
        for address in [
            address,
            ip("198.51.100.7"),
            ip("2001:db8::1"),
            ip("203.0.113.9"),
        ] {
            let found = snapshot.lookup_with(address, CountryCode::new("FR"), Some(7));
            let found = found.expect("France is banned");
            assert!(!found.word().is_empty() && !found.origin().is_empty());
        }
        assert_eq!(ALLOCATIONS.with(Cell::get), before);
    }
    assert_ne!(ALLOCATIONS.with(Cell::get), 0, "the counter counts");
}
