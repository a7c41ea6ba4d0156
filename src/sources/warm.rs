//! The decisions of LAPIs on disk, for the next start: until a LAPI answers, those it had sent before
//! are in force.
//!
//! ```text
//! "ringspoa decisions\n"  version: u8
//! sources: u16            each: name, second of its last good answer: u64
//! kinds: u32              each: source: u16, origin, word
//! rows: u64               each: what: u8, value, kind: u32, end: u32 (its maximum: never), id
//!   what & 3: 0 an IPv4 network (4 bytes, prefix length), 1 an IPv6 one (16 and that), 2 a country
//!             (2 bytes), 3 an autonomous system (u32);  what & 4: it has an id (i64)
//! sum: u64                of all before, by FNV-1a
//! ```
//!
//! Numbers are little-endian; a text is its length as a u16 and its bytes. The sum finds a file that was
//! cut off or has rotted, not one that somebody made: who may write the file decides who is banned, so
//! one that others may write is not read.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::agents::remediation::{
    CountryCode, Decision, DecisionKind, Expiry, Network, Snapshot, SourceId, Subject,
};

use super::batch::Batch;
use super::config::WarmConfig;

const MAGIC: &[u8] = b"ringspoa decisions\n";
const VERSION: u8 = 1;
/// For a decision that does not end.
const NEVER: u32 = u32::MAX;
const HAS_ID: u8 = 4;

/// A source whose decisions are written.
pub(super) struct Kept {
    pub(super) id: SourceId,
    pub(super) name: String,
    /// When it last answered, in seconds since 1970.
    pub(super) unix_s: u64,
}

/// What a file had.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    sources: BTreeMap<String, LoadedSource>,
}

#[derive(Debug)]
pub(super) struct LoadedSource {
    pub(super) unix_s: u64,
    pub(super) batch: Batch,
}

impl Loaded {
    pub(super) fn get(&self, name: &str) -> Option<&LoadedSource> {
        self.sources.get(name)
    }
}

/// Writes the decisions of these sources, in place of the file that is there. Says how long it is, in bytes.
///
/// # Errors
///
/// A text with the file's name. The file that was there stays then.
pub(super) fn write(
    config: &WarmConfig,
    snapshot: &Snapshot,
    kept: &[Kept],
) -> Result<u64, String> {
    let path = &config.path;
    let beside = beside(path);
    let written = create(&beside)
        .and_then(|file| {
            let mut out = Summed {
                inner: BufWriter::with_capacity(64 * 1024, file),
                sum: Fnv::default(),
                left: config.max_len,
            };
            encode(&mut out, snapshot, kept)?;
            let (sum, len) = (out.sum.0, config.max_len - out.left);
            out.inner.write_all(&sum.to_le_bytes())?;
            out.inner.into_inner()?.sync_all()?;
            Ok(len)
        })
        .and_then(|len| fs::rename(&beside, path).map(|()| len));
    written.map_err(|error| {
        // Of no use, and perhaps large.
        let _ = fs::remove_file(&beside);
        format!("decisions cannot be kept in {}: {error}", path.display())
    })
}

/// The name a file has until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A link that somebody puts there meanwhile is not followed.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

struct Summed<W> {
    inner: W,
    sum: Fnv,
    left: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("they are more than its max_len"))?;
        self.sum.add(bytes);
        self.inner.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// FNV-1a of 64 bits: each step can be undone, so that no change of a single byte stays hidden.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn encode(out: &mut impl Write, snapshot: &Snapshot, kept: &[Kept]) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&[VERSION])?;
    let count = |len: usize| u16::try_from(len).map_err(|_| io::Error::other("too many sources"));
    out.write_all(&count(kept.len())?.to_le_bytes())?;
    for source in kept {
        text(out, &source.name)?;
        out.write_all(&source.unix_s.to_le_bytes())?;
    }
    let place = |id: SourceId| kept.iter().position(|source| source.id == id);
    // The numbers in the file of those of the snapshot.
    let mut numbers = vec![0_u32; snapshot.kinds().len()];
    let kinds: Vec<(usize, DecisionKind<'_>)> = snapshot
        .kinds()
        .filter_map(|kind| Some((place(kind.source)?, kind)))
        .collect();
    let kind_count = u32::try_from(kinds.len()).map_err(io::Error::other)?;
    out.write_all(&kind_count.to_le_bytes())?;
    for (number, (source, kind)) in (0..).zip(&kinds) {
        numbers[kind.id.index()] = number;
        out.write_all(&count(*source)?.to_le_bytes())?;
        text(out, kind.origin)?;
        text(out, kind.word)?;
    }
    let all = || {
        snapshot
            .iter()
            .filter(|found| place(found.source()).is_some())
    };
    let row_count = all().count() as u64;
    out.write_all(&row_count.to_le_bytes())?;
    for found in all() {
        let id = found.id();
        let flag = if id.is_some() { HAS_ID } else { 0 };
        match found.subject() {
            Subject::Network(network) => match network.first() {
                IpAddr::V4(first) => {
                    out.write_all(&[flag])?;
                    out.write_all(&first.octets())?;
                    out.write_all(&[network.prefix_len()])?;
                }
                IpAddr::V6(first) => {
                    out.write_all(&[flag | 1])?;
                    out.write_all(&first.octets())?;
                    out.write_all(&[network.prefix_len()])?;
                }
            },
            Subject::Country(country) => {
                out.write_all(&[flag | 2])?;
                out.write_all(country.as_str().as_bytes())?;
            }
            Subject::AsNumber(number) => {
                out.write_all(&[flag | 3])?;
                out.write_all(&number.to_le_bytes())?;
            }
        }
        out.write_all(&numbers[found.kind().index()].to_le_bytes())?;
        let end = found.expiry().unix_s().and_then(|s| u32::try_from(s).ok());
        out.write_all(&end.unwrap_or(NEVER).to_le_bytes())?;
        if let Some(id) = id {
            out.write_all(&id.to_le_bytes())?;
        }
    }
    Ok(())
}

fn text(out: &mut impl Write, text: &str) -> io::Result<()> {
    let len = u16::try_from(text.len()).map_err(|_| io::Error::other("a text is too long"))?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(text.as_bytes())
}

/// Reads what was written. `None` if there is no such file.
///
/// # Errors
///
/// A text with the file's name, if it is not one of ours, not whole, or one that others may write.
pub(super) fn load(config: &WarmConfig) -> Result<Option<Loaded>, String> {
    let path = &config.path;
    let bytes = match read(path, config.max_len) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(format!(
                "decisions kept in {}: {error}; the server's user and root can read them",
                path.display()
            ));
        }
        Err(error) => {
            return Err(format!("decisions kept in {}: {error}", path.display()));
        }
    };
    decode(&bytes).map(Some).map_err(|reason| {
        format!(
            "decisions kept in {} are not used: {reason}",
            path.display()
        )
    })
}

fn read(path: &Path, max_len: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for somebody who writes to it.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "not read, as others than its owner may write it; its mode should be 0600",
        ));
    }
    if metadata.len() > max_len {
        return Err(io::Error::other(
            "not read, as it is larger than its max_len",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max_len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is read, from its front on.
struct Cursor<'a>(&'a [u8]);

const CUT_OFF: &str = "it is cut off";

impl<'a> Cursor<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.bytes(N)?.try_into().map_err(|_| CUT_OFF)
    }

    fn text(&mut self) -> Result<&'a str, &'static str> {
        let len = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.bytes(len.into())?).map_err(|_| "a text is not UTF-8")
    }
}

fn decode(bytes: &[u8]) -> Result<Loaded, &'static str> {
    if !bytes.starts_with(MAGIC) {
        return Err("it is another sort of file");
    }
    if bytes.get(MAGIC.len()) != Some(&VERSION) {
        return Err("it is of another version");
    }
    let (body, sum) = bytes.split_last_chunk::<8>().ok_or(CUT_OFF)?;
    let mut expected = Fnv::default();
    expected.add(body);
    if u64::from_le_bytes(*sum) != expected.0 {
        return Err("it is not as it was written, or not whole");
    }
    let mut input = Cursor(&body[MAGIC.len() + 1..]);
    let mut sources = Vec::new();
    for _ in 0..u16::from_le_bytes(input.array()?) {
        let name = input.text()?;
        let unix_s = u64::from_le_bytes(input.array()?);
        let batch = Batch::default();
        sources.push((name, LoadedSource { unix_s, batch }));
    }
    let mut kinds = Vec::new();
    for _ in 0..u32::from_le_bytes(input.array()?) {
        let source = usize::from(u16::from_le_bytes(input.array()?));
        if source >= sources.len() {
            return Err("a kind is of no source");
        }
        kinds.push((source, input.text()?, input.text()?));
    }
    for _ in 0..u64::from_le_bytes(input.array()?) {
        row(&mut input, &kinds, &mut sources)?;
    }
    if !input.0.is_empty() {
        return Err("something is behind its end");
    }
    let sources = sources.into_iter();
    Ok(Loaded {
        sources: sources
            .map(|(name, source)| (name.to_owned(), source))
            .collect(),
    })
}

fn row(
    input: &mut Cursor<'_>,
    kinds: &[(usize, &str, &str)],
    sources: &mut [(&str, LoadedSource)],
) -> Result<(), &'static str> {
    let [what] = input.array()?;
    let network = |first: IpAddr, prefix_len: u8| {
        Network::new(first, prefix_len).ok_or("a prefix is too long")
    };
    let subject = match what & !HAS_ID {
        0 => {
            let first = Ipv4Addr::from(input.array::<4>()?).into();
            let [len] = input.array()?;
            Subject::Network(network(first, len)?)
        }
        1 => {
            let first = Ipv6Addr::from(input.array::<16>()?).into();
            let [len] = input.array()?;
            Subject::Network(network(first, len)?)
        }
        2 => {
            let letters = std::str::from_utf8(input.bytes(2)?).unwrap_or_default();
            Subject::Country(CountryCode::new(letters).ok_or("a country has no such code")?)
        }
        3 => Subject::AsNumber(u32::from_le_bytes(input.array()?)),
        _ => return Err("a decision is of no known sort"),
    };
    let kind = u32::from_le_bytes(input.array()?);
    let end = u32::from_le_bytes(input.array()?);
    let id = match what & HAS_ID {
        0 => None,
        _ => Some(i64::from_le_bytes(input.array()?)),
    };
    let kind = usize::try_from(kind).ok().and_then(|kind| kinds.get(kind));
    let (source, origin, word) = *kind.ok_or("a decision is of no kind")?;
    let decision = Decision {
        subject,
        remediation: word,
        origin,
        expiry: match end {
            NEVER => Expiry::NEVER,
            second => Expiry::at(second.into()),
        },
        id,
    };
    let (_, source) = &mut sources[source];
    source
        .batch
        .push(&decision)
        .map_err(|_| "it has too many kinds")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::agents::remediation::{DecisionStore, Source};

    use super::*;

    /// A folder that is gone when the test is over.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ringspoa-warm-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn config(&self) -> WarmConfig {
            WarmConfig::new(self.0.join("decisions"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn store() -> (DecisionStore, [SourceId; 2]) {
        let mut store = DecisionStore::with_seed([1, 2]);
        let sources = [0, 1].map(|_| store.add_source(Source::default()).unwrap());
        for (source, value, word, origin, end, id) in [
            (0, "192.0.2.1", "ban", "cscli", Some(4_000_000_000), Some(7)),
            (0, "192.0.2.1", "captcha", "lists:tor", None, Some(-8)),
            (0, "198.51.100.0/24", "ban", "cscli", None, None),
            (1, "2001:db8::/32", "mfa", "CAPI", Some(9), Some(i64::MAX)),
            (0, "::1", "ban", "cscli", Some(10), None),
            (0, "AS64500", "ban", "cscli", None, Some(1)),
        ] {
            let subject: Subject = value.parse().unwrap();
            let mut decision = Decision::new(subject, word, origin);
            decision.expiry = end.map_or(Expiry::NEVER, Expiry::at);
            decision.id = id;
            store.insert(sources[source], &decision).unwrap();
        }
        let country = Subject::Country(CountryCode::new("FR").unwrap());
        let decision = Decision::new(country, "ban", "cscli");
        store.insert(sources[0], &decision).unwrap();
        store.apply(0);
        (store, sources)
    }

    fn kept(id: SourceId, name: &str) -> Kept {
        Kept {
            id,
            name: name.to_owned(),
            unix_s: 1_700_000_000,
        }
    }

    fn shown(loaded: &Loaded, name: &str) -> Vec<String> {
        let batch = &loaded.get(name).unwrap().batch;
        let mut all: Vec<String> = batch
            .iter()
            .map(|decision| format!("{decision:?}"))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = Folder::new();
        let config = folder.config();
        assert!(load(&config).unwrap().is_none());
        let (store, [one, other]) = store();
        let sources = [kept(one, "one"), kept(other, "other")];
        write(&config, store.snapshot(), &sources).unwrap();
        let loaded = load(&config).unwrap().unwrap();
        assert_eq!(loaded.get("one").unwrap().unix_s, 1_700_000_000);
        assert!(loaded.get("two").is_none());
        // A store that takes it is the one it came from.
        let mut again = DecisionStore::with_seed([3, 4]);
        for name in ["one", "other"] {
            let id = again.add_source(Source::default()).unwrap();
            loaded
                .get(name)
                .unwrap()
                .batch
                .insert_into(&mut again, id)
                .unwrap();
        }
        again.apply(0);
        let all = |store: &DecisionStore| {
            let mut all: Vec<String> = store
                .snapshot()
                .iter()
                .map(|found| format!("{found:?}"))
                .collect();
            all.sort();
            all
        };
        assert_eq!(all(&again), all(&store));
        assert_eq!(again.snapshot().count(), 7);
        // Of one source alone, in place of the file that is there.
        write(&config, store.snapshot(), &[kept(other, "other")]).unwrap();
        let loaded = load(&config).unwrap().unwrap();
        assert_eq!(shown(&loaded, "other").len(), 1);
        assert!(loaded.get("one").is_none());
        let mode = fs::metadata(&config.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(&folder.0).unwrap().count(),
            1,
            "nothing beside it"
        );
    }

    #[test]
    fn files_that_are_cut_off_or_changed_are_not_used() {
        let folder = Folder::new();
        let (store, [one, other]) = store();
        let sources = [kept(one, "one"), kept(other, "other")];
        write(&folder.config(), store.snapshot(), &sources).unwrap();
        let bytes = fs::read(folder.config().path).unwrap();
        assert!(decode(&bytes).is_ok());
        for len in 0..bytes.len() {
            decode(&bytes[..len]).unwrap_err();
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                decode(&changed).unwrap_err();
            }
        }
    }

    /// With a sum that is right, as somebody could make it.
    #[test]
    fn no_bytes_make_it_panic() {
        let folder = Folder::new();
        let (store, [one, _]) = store();
        write(&folder.config(), store.snapshot(), &[kept(one, "one")]).unwrap();
        let bytes = fs::read(folder.config().path).unwrap();
        let body = &bytes[..bytes.len() - 8];
        for at in MAGIC.len() + 1..body.len() {
            for value in [0, 1, 0x7f, 0xff, body[at] ^ 1] {
                let mut changed = body.to_vec();
                changed[at] = value;
                let mut sum = Fnv::default();
                sum.add(&changed);
                changed.extend(sum.0.to_le_bytes());
                let _ = decode(&changed);
            }
        }
    }

    #[test]
    fn files_that_are_not_ours_are_named_and_left_alone() {
        let folder = Folder::new();
        let config = folder.config();
        let refused = |config: &WarmConfig, part: &str| {
            let text = load(config).unwrap_err();
            assert!(text.contains(part) && text.contains("decisions"), "{text}");
        };
        let private = |bytes: &[u8]| {
            fs::write(&config.path, bytes).unwrap();
            fs::set_permissions(&config.path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        private(b"");
        refused(&config, "another sort of file");
        private(b"[]");
        refused(&config, "another sort of file");
        private(b"ringspoa decisions\n\x09");
        refused(&config, "another version");
        fs::set_permissions(&config.path, fs::Permissions::from_mode(0o620)).unwrap();
        refused(&config, "0600");
        private(&[0; 1_000]);
        let small = WarmConfig {
            max_len: 999,
            ..config.clone()
        };
        refused(&small, "max_len");
        let (store, [one, _]) = store();
        let tiny = WarmConfig {
            max_len: 20,
            ..config.clone()
        };
        let text = write(&tiny, store.snapshot(), &[kept(one, "one")]).unwrap_err();
        assert!(text.contains("max_len"), "{text}");
        assert_eq!(
            fs::read(&config.path).unwrap().len(),
            1_000,
            "what was there stays"
        );
        assert_eq!(
            fs::read_dir(&folder.0).unwrap().count(),
            1,
            "nothing beside it"
        );
        let nowhere = WarmConfig::new(folder.0.join("missing/decisions"));
        assert!(write(&nowhere, store.snapshot(), &[]).is_err());
        let of_folder = WarmConfig::new(&folder.0);
        let text = load(&of_folder).unwrap_err();
        assert!(
            text.contains("not a file") || text.contains("0600"),
            "{text}"
        );
    }
}
