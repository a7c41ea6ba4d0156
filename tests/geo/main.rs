//! Where addresses are: databases as the tests write them, alone, in files that change, and behind the
//! agent.

#![allow(
    clippy::cast_possible_truncation,
    reason = "of random bits, as many as are needed"
)]

#[cfg(feature = "cli")]
mod binary;
#[path = "../counting/mod.rs"]
mod counting;
mod writer;

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use counting::Counting;
use maxminddb::{PathElement, Reader};
use ringspoa::agents::remediation::messages::{
    CrowdsecHttpNoBody, CrowdsecTcp, ISOCODE, REMEDIATION, RequestHeaders,
};
use ringspoa::agents::remediation::{
    Bouncer, CountryCode, Decision, DecisionStore, GeoDatabase, Network, Policy, PolicySettings,
    SnapshotCell, Source, Subject,
};
use ringspoa::outbound::{Outbound, OutboundConfig};
use ringspoa::sources::{GeoConfig, GeoFiles};
use ringspoa::{Agent, Harness};
use writer::{BUILT, Value, Writer};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting =
    Counting(|| _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1)));

/// Longer than any wait that ends well.
const PATIENCE: Duration = Duration::from_secs(10);

fn code(text: &'static str) -> Value {
    Value::Map(vec![
        ("geoname_id", Value::U32(3_017_382)),
        ("iso_code", Value::Text(text)),
        ("names", Value::Map(vec![("en", Value::Text("Somewhere"))])),
    ])
}

/// A record as that of a database of cities.
fn country(text: &'static str) -> Value {
    let city = Value::Map(vec![(
        "names",
        Value::Map(vec![(
            "en",
            Value::Text("A city whose name has many letters"),
        )]),
    )]);
    Value::Map(vec![
        ("city", city),
        ("continent", Value::Map(vec![("code", Value::Text("EU"))])),
        ("country", code(text)),
        ("registered_country", code("XX")),
    ])
}

fn city() -> Writer {
    let mut city = Writer::new("Test-City");
    city.add("192.0.2.0", 24, &country("FR"));
    city.add("198.51.100.0", 25, &country("de"));
    city.add("2001:db8::", 32, &country("NL"));
    let registered = vec![
        ("registered_country", code("CH")),
        ("represented_country", code("US")),
    ];
    city.add("203.0.113.0", 25, &Value::Map(registered));
    let represented = vec![
        ("country", Value::Map(vec![("geoname_id", Value::U32(1))])),
        ("represented_country", code("US")),
    ];
    city.add("203.0.113.128", 25, &Value::Map(represented));
    city.add("100.64.0.0", 10, &country("nowhere"));
    city
}

fn asn() -> Writer {
    let mut asn = Writer::new("Test-ASN");
    let record = |number| {
        Value::Map(vec![
            ("autonomous_system_number", Value::U32(number)),
            ("autonomous_system_organization", Value::Text("Example")),
        ])
    };
    asn.add("192.0.2.0", 25, &record(64_500));
    asn.add("2001:db8::", 33, &record(4_200_000_000));
    asn
}

fn database(writer: &Writer) -> GeoDatabase {
    GeoDatabase::from_bytes(writer.finish()).unwrap()
}

fn country_of(database: &GeoDatabase, address: &str) -> Option<String> {
    let country = database.country(address.parse().unwrap());
    country.map(|country| country.to_string())
}

#[test]
fn a_country_is_that_of_use_else_of_registration_else_the_represented_one() {
    let database = database(&city());
    for (address, country) in [
        ("192.0.2.0", Some("FR")),
        ("192.0.2.255", Some("FR")),
        ("192.0.3.0", None),
        ("::ffff:192.0.2.7", Some("FR")),
        ("198.51.100.1", Some("DE")),
        ("198.51.100.128", None),
        ("2001:db8:ffff::1", Some("NL")),
        ("2001:db9::1", None),
        ("203.0.113.1", Some("CH")),
        ("203.0.113.129", Some("US")),
        // It has a code that is none, and one of registration.
        ("100.64.0.1", Some("XX")),
    ] {
        assert_eq!(
            country_of(&database, address).as_deref(),
            country,
            "{address}"
        );
    }
    assert_eq!(database.database_type(), "Test-City");
    assert_eq!(database.built_unix_s(), BUILT);
    assert_eq!(database.as_number("192.0.2.1".parse().unwrap()), None);
}

#[test]
fn autonomous_systems_have_numbers() {
    let database = database(&asn());
    for (address, number) in [
        ("192.0.2.1", Some(64_500)),
        ("::ffff:192.0.2.1", Some(64_500)),
        ("192.0.2.128", None),
        ("2001:db8::1", Some(4_200_000_000)),
        ("2001:db8:8000::", None),
    ] {
        assert_eq!(
            database.as_number(address.parse().unwrap()),
            number,
            "{address}"
        );
    }
    assert_eq!(country_of(&database, "192.0.2.1"), None);
}

#[test]
fn a_database_of_ipv4_alone_says_nothing_of_ipv6() {
    let mut writer = Writer::of_v4("Test-Country");
    writer.add("192.0.2.0", 24, &country("FR"));
    let database = database(&writer);
    assert_eq!(country_of(&database, "192.0.2.1").as_deref(), Some("FR"));
    assert_eq!(
        country_of(&database, "::ffff:192.0.2.1").as_deref(),
        Some("FR")
    );
    assert_eq!(country_of(&database, "2001:db8::1"), None);
    // Its first four bytes are those of the network.
    assert_eq!(country_of(&database, "c000:200::1"), None);
}

/// What the reader of MaxMind's format says of an address, record by record.
fn as_read(reader: &Reader<Vec<u8>>, address: IpAddr) -> (Option<String>, Option<u32>) {
    let address = address.to_canonical();
    if address.is_ipv6() && reader.metadata().ip_version == 4 {
        return (None, None);
    }
    let Some(record) = reader.lookup(address).ok().filter(|one| one.has_data()) else {
        return (None, None);
    };
    let country = ["country", "registered_country", "represented_country"].iter();
    let country = country.copied().find_map(|country| {
        let path = [PathElement::Key(country), PathElement::Key("iso_code")];
        CountryCode::new(record.decode_path::<&str>(&path).ok()??)
    });
    let path = [PathElement::Key("autonomous_system_number")];
    (
        country.map(|country| country.to_string()),
        record.decode_path(&path).ok().flatten(),
    )
}

/// Holds a database to what the reader says of these addresses.
fn assert_as_read(bytes: &[u8], addresses: &[IpAddr]) {
    let reader = Reader::from_source(bytes.to_vec()).unwrap();
    let database = GeoDatabase::from_bytes(bytes.to_vec()).unwrap();
    for &address in addresses {
        let country = database.country(address);
        let place = (
            country.map(|country| country.to_string()),
            database.as_number(address),
        );
        assert_eq!(place, as_read(&reader, address), "{address}");
    }
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Networks at random, and addresses on both sides of all their ends.
#[test]
fn places_are_those_that_the_reader_finds() {
    let mut state = 3;
    for (round, (record_size, has_v6)) in [(24, true), (28, true), (32, true), (28, false)]
        .into_iter()
        .enumerate()
    {
        let writer = match has_v6 {
            true => Writer::new("Test-Both"),
            false => Writer::of_v4("Test-Both"),
        };
        let mut writer = writer.with_record_size(record_size);
        let mut addresses = Vec::new();
        for _ in 0..2_000 {
            let code = code(["FR", "DE", "NL", "nowhere"][random(&mut state) as usize % 4]);
            let number = u32::MAX - random(&mut state) as u32 % 3;
            let record = Value::Map(vec![
                ("country", code),
                ("autonomous_system_number", Value::U32(number)),
            ]);
            let bits = u128::from(random(&mut state)) << 64 | u128::from(random(&mut state));
            let len = 1 + random(&mut state) as u8 % 32;
            let open = u32::MAX.checked_shr(len.into()).unwrap_or(0);
            let first = bits as u32 & !open;
            if random(&mut state).is_multiple_of(2) || !has_v6 {
                // Half are in one small network, so that some touch.
                let first = if len > 20 {
                    first & 0x0fff | 0x0a00_0000
                } else {
                    first
                };
                writer.try_add(Ipv4Addr::from_bits(first).into(), len, &record);
                let ends = [first, first | open].into_iter();
                let ends = ends.flat_map(|end| [end.wrapping_sub(1), end, end.wrapping_add(1)]);
                addresses.extend(ends.map(|end| IpAddr::from(Ipv4Addr::from_bits(end))));
            } else {
                let len = 17 + len * 3;
                let open = u128::MAX.checked_shr(len.into()).unwrap_or(0);
                let first = (bits >> 16 | 0x2a00 << 112) & !open;
                writer.try_add(Ipv6Addr::from_bits(first).into(), len, &record);
                let ends = [first, first | open].into_iter();
                let ends = ends.flat_map(|end| [end - 1, end, end + 1]);
                addresses.extend(ends.map(|end| IpAddr::from(Ipv6Addr::from_bits(end))));
            }
        }
        if has_v6 {
            writer.embed_v4("2002::", 16);
            writer.embed_v4("2001::", 32);
            writer.embed_v4("::ffff:0:0", 96);
            // Where 32 bits are left, and where fewer are.
            writer.embed_v4("2001:db8::", 96);
            writer.embed_v4("2001:db8:1::", 110);
        }
        for _ in 0..20_000 {
            let bits = u128::from(random(&mut state)) << 64 | u128::from(random(&mut state));
            let v4 = bits as u32;
            let near = v4 & 0x0fff | 0x0a00_0000;
            let (wide, low) = (u128::from(near), bits & 0x1_ffff_ffff);
            addresses.extend([v4, near].map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))));
            addresses.extend(
                [
                    bits,
                    bits >> 16 | 0x2a00 << 112,
                    0x2002 << 112 | wide << 80 | low,
                    0x2001 << 112 | u128::from(v4) << 64 | low,
                    0x2001_0db8 << 96 | low,
                    0x2001_0db8_0001 << 80 | low,
                    0xffff << 32 | wide,
                    wide,
                ]
                .map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
            );
        }
        assert!(addresses.len() > 100_000, "round {round}");
        let bytes = writer.finish();
        assert_as_read(&bytes, &addresses);
        // The file itself is kept only where the reader may be asked.
        let kept = GeoDatabase::from_bytes(bytes.clone()).unwrap().byte_len();
        assert_eq!(kept > bytes.len(), has_v6, "{kept} of {}", bytes.len());
    }
}

/// A tree in which each branch leads where its neighbour does: laid out it would have no end.
#[test]
fn a_tree_whose_branches_meet_is_read_at_once_and_as_the_reader_does() {
    let mut writer = Writer::new("Test-City");
    writer.add("192.0.2.0", 24, &country("FR"));
    writer.add("2001:db8::", 32, &country("NL"));
    let mut bytes = writer.finish();
    // The nodes below the first one: both branches to the next.
    for node in 1..60_u32 {
        let at = node as usize * 6;
        let next = (node + 1).to_be_bytes();
        bytes[at..at + 6].copy_from_slice(&[&next[1..], &next[1..]].concat());
    }
    let mut state = 5;
    let addresses: Vec<IpAddr> = (0..5_000)
        .map(|_| random(&mut state))
        .flat_map(|bits| {
            let ends_in_v4 = u128::from(bits) << 64 | 0xc000_0200 | u128::from(bits as u8);
            [
                IpAddr::from(Ipv4Addr::from_bits(bits as u32)),
                IpAddr::from(Ipv6Addr::from_bits(u128::from(bits) << 64)),
                IpAddr::from(Ipv6Addr::from_bits(ends_in_v4 & !(u128::MAX << 60))),
            ]
        })
        .chain(["192.0.2.1".parse().unwrap()])
        .collect();
    assert_as_read(&bytes, &addresses);
}

/// Whatever a file has, it is refused or answers as the reader does; cut anywhere, it is refused.
#[test]
fn bytes_that_are_no_database_are_refused_and_bad_ones_do_no_harm() {
    let good = city().finish();
    for len in 0..good.len() {
        let error = GeoDatabase::from_bytes(good[..len].to_vec()).err();
        let error = error.unwrap_or_else(|| panic!("{len} of {} bytes are taken", good.len()));
        assert!(
            error.to_string().contains("not a whole database"),
            "{error}"
        );
    }
    let addresses = [
        "192.0.2.1",
        "203.0.113.1",
        "203.0.113.129",
        "2001:db8::1",
        "::",
    ]
    .map(|address| address.parse().unwrap());
    let mut taken = 0;
    for at in 0..good.len() {
        for flipped in [1, 0x20, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= flipped;
            if GeoDatabase::from_bytes(bytes.clone()).is_err() {
                continue;
            }
            taken += 1;
            assert_as_read(&bytes, &addresses);
        }
    }
    assert!(
        taken > good.len(),
        "only the description is checked beforehand: {taken}"
    );
}

#[test]
fn lookups_allocate_nothing() {
    let mut city = city();
    city.embed_v4("2002::", 16);
    let (city, asn) = (database(&city), database(&asn()));
    let addresses = [
        "2002:c000:0201::1",
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "192.0.3.1",
        "203.0.113.129",
        "2001:db8::1",
        "2001:db9::1",
    ];
    let addresses = addresses.map(|address| address.parse().unwrap());
    let before = ALLOCATIONS.get();
    let mut found = 0;
    for address in addresses {
        found += usize::from(city.country(address).is_some());
        found += usize::from(asn.as_number(address).is_some());
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(found, 8);
}

/// A folder of this test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("ringspoa-geo-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Puts a file there as tools that update databases do: in one step.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let (at, new) = (self.0.join(name), self.0.join("new"));
        fs::write(&new, bytes).unwrap();
        fs::rename(new, &at).unwrap();
        at
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(city: Option<&Path>, asn: Option<&Path>) -> GeoConfig {
    let mut config = GeoConfig::default();
    config.city_database = city.map(Path::to_owned);
    config.asn_database = asn.map(Path::to_owned);
    config
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what} has not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_database_that_is_replaced_is_read_again_and_a_broken_one_is_not_taken() {
    let folder = Folder::new("replaced");
    let path = folder.put("city.mmdb", &city().finish());
    let mut config = config(Some(&path), Some(&folder.put("asn.mmdb", &asn().finish())));
    config.poll_every = Duration::from_millis(20);
    let files = GeoFiles::start(&config).unwrap();
    let place = || {
        files
            .databases()
            .current()
            .place("192.0.2.1".parse().unwrap())
    };
    let shown = || place().country.map(|country| country.to_string());
    let fault = || files.status()[0].fault.clone();
    assert_eq!(shown().as_deref(), Some("FR"));
    assert_eq!((place().as_number, fault()), (Some(64_500), None));
    assert_eq!(files.status()[0].built_unix_s, BUILT);

    let good = city().finish();
    folder.put("city.mmdb", &good[..good.len() / 2]);
    eventually("the fault", || fault().is_some());
    let text = fault().unwrap().to_string();
    assert!(
        text.starts_with("city-database: ") && text.contains("city.mmdb"),
        "{text}"
    );
    assert_eq!(shown().as_deref(), Some("FR"));
    // Nothing changes while it is not repaired.
    std::thread::sleep(4 * config.poll_every);
    assert!(fault().is_some() && shown().is_some());

    fs::remove_file(&path).unwrap();
    eventually("that it is gone", || {
        fault().is_some_and(|fault| fault.reason.contains("No such file"))
    });
    assert_eq!(shown().as_deref(), Some("FR"));

    let mut other = Writer::new("Test-City");
    other.add("192.0.2.0", 24, &country("IT"));
    folder.put("city.mmdb", &other.finish());
    eventually("the next country", || shown().as_deref() == Some("IT"));
    assert_eq!(fault(), None);
    assert_eq!(place().as_number, Some(64_500));
}

#[test]
fn a_reload_does_not_wait_for_the_next_look() {
    let folder = Folder::new("asked");
    let path = folder.put("city.mmdb", &city().finish());
    // The default is a minute.
    let files = GeoFiles::start(&config(Some(&path), None)).unwrap();
    let mut reader = files.databases().reader();
    let first = Arc::downgrade(&files.databases().current());
    let mut other = Writer::new("Test-City");
    other.add("192.0.2.0", 24, &country("IT"));
    folder.put("city.mmdb", &other.finish());
    files.reload();
    eventually("the next database", || files.databases().generation() == 1);
    assert!(first.upgrade().is_some(), "a core has not looked since");
    let place = reader.snapshot().place("192.0.2.1".parse().unwrap());
    assert_eq!(place.country, CountryCode::new("IT"));
    files.reload();
    eventually("that the first is freed", || first.upgrade().is_none());
}

#[test]
fn what_cannot_be_used_at_the_start_is_named() {
    let folder = Folder::new("start");
    let good = folder.put("city.mmdb", &city().finish());
    let systems = folder.put("asn.mmdb", &asn().finish());
    let text = folder.put("text.mmdb", b"192.0.2.1\n");
    let missing = folder.0.join("missing.mmdb");
    for (config, parts) in [
        (
            config(Some(&missing), None),
            ["city-database: ", "missing.mmdb: No such file"],
        ),
        (
            config(Some(&good), Some(&missing)),
            ["asn-database: ", "missing.mmdb: No such file"],
        ),
        (
            config(None, Some(&text)),
            ["asn-database: ", "text.mmdb: not a whole database"],
        ),
        (
            config(Some(&folder.0), None),
            ["city-database: ", "not a file"],
        ),
        (
            config(Some(&systems), None),
            ["countries is wanted", "this is Test-ASN"],
        ),
        (
            config(None, Some(&good)),
            ["autonomous systems is wanted", "this is Test-City"],
        ),
    ] {
        let error = GeoFiles::start(&config).unwrap_err();
        assert_eq!(GeoFiles::check(&config), Err(error.clone()));
        for part in parts {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert_eq!(
        GeoFiles::check(&config(Some(&good), Some(&systems))),
        Ok(())
    );
    let none = GeoFiles::start(&config(None, None)).unwrap();
    assert_eq!(none.status(), []);
}

/// Decisions on countries and autonomous systems, and one on an address that goes before.
fn decisions() -> Arc<SnapshotCell> {
    let mut store = DecisionStore::new();
    let source = store.add_source(Source::default()).unwrap();
    let address: Network = "198.51.100.7".parse().unwrap();
    for (subject, word) in [
        (Subject::Country(CountryCode::new("DE").unwrap()), "ban"),
        (Subject::Country(CountryCode::new("NL").unwrap()), "ban"),
        (Subject::AsNumber(64_500), "ban"),
        (Subject::Network(address), "captcha"),
    ] {
        store
            .insert(source, &Decision::new(subject, word, "cscli"))
            .unwrap();
    }
    store.apply(0);
    SnapshotCell::new(Arc::clone(store.snapshot()))
}

fn ask(harness: &mut Harness<impl Agent>, address: &str) -> (Option<String>, Option<String>) {
    let src_ip = Some(address.parse().unwrap());
    let ack = harness.notify(&CrowdsecTcp { src_ip }).ack();
    let tcp = [REMEDIATION, ISOCODE].map(|variable| ack.get(variable).map(str::to_owned));
    let http = CrowdsecHttpNoBody {
        remediation: None,
        id: None,
        method: Some(b"GET"),
        path: Some(b"/"),
        query: None,
        version: Some(b"1.1"),
        headers: RequestHeaders(None),
        url: Some(b"/"),
        ssl: Some(false),
        src_ip,
    };
    let ack = harness.notify(&http).ack();
    assert_eq!(
        ack.get(ISOCODE),
        tcp[1].as_deref(),
        "both messages say the country"
    );
    let [remediation, isocode] = tcp;
    (remediation, isocode)
}

#[test]
fn a_country_is_banned_and_told_also_of_those_who_pass() {
    let folder = Folder::new("agent");
    let path = folder.put("city.mmdb", &city().finish());
    let systems = folder.put("asn.mmdb", &asn().finish());
    let files = GeoFiles::start(&config(Some(&path), Some(&systems))).unwrap();
    let (policy, _) = Policy::new(PolicySettings::default()).unwrap();
    let policy = Arc::new(policy);
    let outbound = Outbound::start(OutboundConfig::default()).unwrap();
    let bouncer = Bouncer::new(Arc::clone(&policy), decisions(), &outbound, PATIENCE).unwrap();
    let mut without = Harness::new(bouncer.agent());
    assert_eq!(
        ask(&mut without, "198.51.100.1"),
        (Some("allow".to_owned()), None)
    );

    let bouncer = bouncer.with_geo(Arc::clone(files.databases()));
    // A reload keeps the databases.
    let reloaded = bouncer.with_policy(policy, &outbound, PATIENCE).unwrap();
    for bouncer in [bouncer, reloaded] {
        let mut harness = Harness::new(bouncer.agent());
        for (address, remediation, isocode) in [
            ("192.0.2.1", "ban", Some("FR")),
            ("192.0.2.129", "allow", Some("FR")),
            ("198.51.100.1", "ban", Some("DE")),
            ("::ffff:198.51.100.1", "ban", Some("DE")),
            ("198.51.100.7", "captcha", Some("DE")),
            ("2001:db8::1", "ban", Some("NL")),
            ("203.0.113.1", "allow", Some("CH")),
            ("192.0.3.1", "allow", None),
        ] {
            let (found, told) = ask(&mut harness, address);
            assert_eq!(found.as_deref(), Some(remediation), "{address}");
            assert_eq!(told.as_deref(), isocode, "{address}");
        }
    }
}
