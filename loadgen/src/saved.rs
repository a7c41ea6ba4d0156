//! A run with its histograms, and the file from which it can be loaded again.

use std::fmt;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::latency::new_histogram;
use crate::report::{Results, Settings};

/// The format written. Format 1 had one round, its parts at the top; it is still read.
const FORMAT: u32 = 2;

/// A run with everything needed to compare it with another later: one or more rounds of the same
/// settings.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedRun {
    /// How it was made.
    pub settings: Settings,
    /// What came out of all rounds together.
    pub results: Results,
    /// The rounds, in the order they were made; at least one.
    pub rounds: Vec<Round>,
    /// Latencies of all rounds from the intended send time, in nanoseconds.
    pub corrected: Histogram<u64>,
    /// Latencies of all rounds from the actual send time, in nanoseconds. The same in a closed loop.
    pub uncorrected: Histogram<u64>,
}

/// One measurement: connections of its own, a warm-up, the measured time.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// When it started, in seconds since 1970.
    pub started_unix_s: u64,
    /// The same text as that of the round of another run that was made right before or after this
    /// one, so that the two can be compared as a pair.
    pub pair: Option<String>,
    /// What it measured.
    pub results: Results,
    /// ACKs in each measured second; the last may be a part of one.
    pub frames_by_second: Vec<u64>,
    /// Latencies from the intended send time, in nanoseconds.
    pub corrected: Histogram<u64>,
    /// Latencies from the actual send time, in nanoseconds. The same in a closed loop.
    pub uncorrected: Histogram<u64>,
    /// In an open loop, how late the generator itself sent, in nanoseconds. None in files of
    /// format 1.
    pub late: Option<Histogram<u64>>,
}

/// Why a file is not a saved run.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read or written.
    File(std::io::Error),
    /// It is not JSON of this shape.
    Json(serde_json::Error),
    /// It is of another format than this generator's.
    Format(u32),
    /// It has no round.
    Empty,
    /// A histogram in it is damaged.
    Histogram(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Json(error) => write!(f, "not a saved run: {error}"),
            Self::Format(format) => write!(
                f,
                "saved in format {format}, and this generator reads formats 1 and {FORMAT}: load it \
                 with the generator that saved it, or a later one"
            ),
            Self::Empty => f.write_str("not a saved run: it has no round"),
            Self::Histogram(error) => write!(f, "a histogram is damaged: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// The file of a run.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    settings: Settings,
    results: Results,
    rounds: Vec<SavedRound>,
}

/// The file of a run in format 1.
#[derive(Deserialize)]
struct Document1 {
    settings: Settings,
    results: Results,
    frames_by_second: Vec<u64>,
    histograms: Histograms,
}

/// What is read first.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct SavedRound {
    started_unix_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<String>,
    results: Results,
    frames_by_second: Vec<u64>,
    histograms: Histograms,
}

/// Nanoseconds, hdrhistogram V2 deflated, in base64: what other HDR tools read and write.
#[derive(Serialize, Deserialize)]
struct Histograms {
    corrected: String,
    uncorrected: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<String>,
}

impl SavedRound {
    fn of(round: &Round) -> Result<Self, LoadError> {
        Ok(Self {
            started_unix_s: round.started_unix_s,
            pair: round.pair.clone(),
            results: round.results.clone(),
            frames_by_second: round.frames_by_second.clone(),
            histograms: Histograms {
                corrected: to_text(&round.corrected)?,
                uncorrected: to_text(&round.uncorrected)?,
                late: round.late.as_ref().map(to_text).transpose()?,
            },
        })
    }

    fn load(self) -> Result<Round, LoadError> {
        Ok(Round {
            started_unix_s: self.started_unix_s,
            pair: self.pair,
            results: self.results,
            frames_by_second: self.frames_by_second,
            corrected: from_text(&self.histograms.corrected)?,
            uncorrected: from_text(&self.histograms.uncorrected)?,
            late: self.histograms.late.as_deref().map(from_text).transpose()?,
        })
    }
}

impl SavedRun {
    /// Loads what [`save`](Self::save) wrote, now or in format 1.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a saved run.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::from_json(&std::fs::read(path).map_err(LoadError::File)?)
    }

    /// As [`load`](Self::load), of what is in the file.
    ///
    /// # Errors
    ///
    /// If it is not a saved run.
    pub fn from_json(text: &[u8]) -> Result<Self, LoadError> {
        let Format { format } = serde_json::from_slice(text).map_err(LoadError::Json)?;
        let Document {
            settings,
            results,
            rounds,
            ..
        } = match format {
            1 => {
                let old: Document1 = serde_json::from_slice(text).map_err(LoadError::Json)?;
                Document {
                    format,
                    rounds: vec![SavedRound {
                        started_unix_s: old.settings.started_unix_s,
                        pair: None,
                        results: old.results.clone(),
                        frames_by_second: old.frames_by_second,
                        histograms: old.histograms,
                    }],
                    settings: old.settings,
                    results: old.results,
                }
            }
            FORMAT => serde_json::from_slice(text).map_err(LoadError::Json)?,
            _ => return Err(LoadError::Format(format)),
        };
        let rounds = rounds
            .into_iter()
            .map(SavedRound::load)
            .collect::<Result<Vec<_>, _>>()?;
        if rounds.is_empty() {
            return Err(LoadError::Empty);
        }
        Ok(Self {
            settings: printable(settings),
            results,
            corrected: merge(rounds.iter().map(|round| &round.corrected))?,
            uncorrected: merge(rounds.iter().map(|round| &round.uncorrected))?,
            rounds,
        })
    }

    /// Writes the run with its full histograms, as JSON.
    ///
    /// # Errors
    ///
    /// If `out` cannot be written.
    pub fn save(&self, out: impl Write) -> Result<(), LoadError> {
        let document = Document {
            format: FORMAT,
            settings: self.settings.clone(),
            results: self.results.clone(),
            rounds: self
                .rounds
                .iter()
                .map(SavedRound::of)
                .collect::<Result<_, _>>()?,
        };
        let mut out = BufWriter::new(out);
        serde_json::to_writer_pretty(&mut out, &document).map_err(LoadError::Json)?;
        out.write_all(b"\n")
            .and_then(|()| out.flush())
            .map_err(LoadError::File)
    }

    /// Adds the rounds of another run of the same settings, made after this one.
    ///
    /// # Errors
    ///
    /// `Histogram` if it is from elsewhere and its histograms have other bounds.
    pub fn add_rounds_of(&mut self, other: Self) -> Result<(), LoadError> {
        // Where the agent pipelined once and then no more, what holds for all rounds is less.
        self.settings.in_flight = self.settings.in_flight.min(other.settings.in_flight);
        self.rounds.extend(other.rounds);
        self.corrected = merge([&self.corrected, &other.corrected].into_iter())?;
        self.uncorrected = merge([&self.uncorrected, &other.uncorrected].into_iter())?;
        let mut late = self.rounds.iter().filter_map(|round| round.late.as_ref());
        let late = match late.next() {
            Some(first) => Some(merge(std::iter::once(first).chain(late))?),
            None => None,
        };
        self.results = Results::of_rounds(
            &self.settings,
            &self.rounds,
            &self.corrected,
            &self.uncorrected,
            late.as_ref(),
        );
        Ok(())
    }
}

fn merge<'a>(
    histograms: impl Iterator<Item = &'a Histogram<u64>>,
) -> Result<Histogram<u64>, LoadError> {
    let mut sum = new_histogram();
    for histogram in histograms {
        sum.add(histogram)
            .map_err(|error| LoadError::Histogram(error.to_string()))?;
    }
    countable(sum)
}

/// Refuses a histogram of so many counts that hdrhistogram's own sums of them overflow: it finds no
/// quantile then, and panics. Its total stays at the largest number.
fn countable(histogram: Histogram<u64>) -> Result<Histogram<u64>, LoadError> {
    if histogram.len() == u64::MAX {
        return Err(LoadError::Histogram(
            "its counts together exceed 64 bits".to_owned(),
        ));
    }
    Ok(histogram)
}

fn to_text(histogram: &Histogram<u64>) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| LoadError::Histogram(error.to_string()))?;
    Ok(STANDARD.encode(bytes))
}

/// A file may be a stranger's: what of it is printed must not move the reader's cursor.
fn printable(mut settings: Settings) -> Settings {
    fn clean(text: &mut String) {
        *text = text
            .chars()
            .map(|one| if one.is_control() { '\u{fffd}' } else { one })
            .collect();
    }
    for text in [
        &mut settings.target,
        &mut settings.profile,
        &mut settings.kernel,
        &mut settings.version,
        &mut settings.loop_kind,
    ] {
        clean(text);
    }
    settings.name.iter_mut().for_each(clean);
    settings.cpu_model.iter_mut().for_each(clean);
    settings.messages.iter_mut().for_each(clean);
    settings.expectations.iter_mut().for_each(clean);
    settings
}

fn from_text(text: &str) -> Result<Histogram<u64>, LoadError> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| LoadError::Histogram(error.to_string()))?;
    check_bounds(&bytes).map_err(LoadError::Histogram)?;
    let histogram = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| LoadError::Histogram(error.to_string()))?;
    countable(histogram)
}

/// Refuses a histogram that announces more than one of ours can have. The deserializer takes memory
/// as announced, up to 4 GiB, before it looks at what is there.
fn check_bounds(bytes: &[u8]) -> Result<(), String> {
    /// The longest form of a count.
    const MAX_COUNT_LEN: usize = 9;
    /// Cookie and length, before what is deflated.
    const OUTER_LEN: usize = 8;
    // Cookie, payload length, offset, digits (4 bytes each), lowest and highest value, ratio (8 each).
    let mut header = [0; 40];
    ZlibDecoder::new(bytes.get(OUTER_LEN..).unwrap_or_default())
        .read_exact(&mut header)
        .map_err(|error| error.to_string())?;
    let number = |range: std::ops::Range<usize>| {
        header[range]
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (payload_len, digits, high) = (number(4..8), number(12..16), number(24..32));
    let own = new_histogram();
    if digits > u64::from(own.sigfig()) || high > own.high() {
        return Err(format!(
            "it is for values up to {high} with {digits} digits, and this generator's are for \
             values up to {} with {}",
            own.high(),
            own.sigfig()
        ));
    }
    if payload_len > (own.distinct_values() * MAX_COUNT_LEN) as u64 {
        return Err(format!(
            "it announces {payload_len} bytes, more than any of its bounds takes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use hdrhistogram::serialization::V2Serializer;

    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn what_a_stranger_saved_moves_no_cursor() {
        let mut run = sample(None);
        run.settings.name = Some("a\u{1b}[2Jb".to_owned());
        run.settings.target = "x\ry".to_owned();
        let settings = printable(run.settings);
        assert_eq!(settings.name.as_deref(), Some("a\u{fffd}[2Jb"));
        assert_eq!(settings.target, "x\u{fffd}y");
    }

    #[test]
    fn a_saved_run_loads_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        for (rate, rounds) in [(None, 1), (Some(5_000), 1), (None, 3), (Some(5_000), 2)] {
            let mut run = sample(rate);
            for _ in 1..rounds {
                run.add_rounds_of(sample(rate)).unwrap();
            }
            run.rounds[0].pair = Some("here/1".to_owned());
            run.save(File::create(&path).unwrap()).unwrap();
            let loaded = SavedRun::load(&path).unwrap();
            assert_eq!(loaded, run);
            assert_eq!(loaded.rounds.len(), rounds);
            for quantile in [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
                for (before, after) in [
                    (&run.corrected, &loaded.corrected),
                    (&run.uncorrected, &loaded.uncorrected),
                ] {
                    assert_eq!(
                        before.value_at_quantile(quantile),
                        after.value_at_quantile(quantile)
                    );
                }
            }
        }
    }

    #[test]
    fn rounds_add_up() {
        let one = sample(Some(5_000));
        let mut run = one.clone();
        let mut other = one.clone();
        other.rounds[0]
            .results
            .warnings
            .insert(0, "no pipelining".to_owned());
        run.add_rounds_of(other).unwrap();
        let (results, single) = (&run.results, &one.results);
        assert_eq!(
            (results.frames, results.errors, results.unsent),
            (2 * single.frames, 2 * single.errors, 2 * single.unsent)
        );
        assert_eq!(results.errors_by_kind["duplicate"], 2);
        assert!((results.duration_s - 2.0 * single.duration_s).abs() < 1e-9);
        for (sum, one) in [
            (results.frames_per_second, single.frames_per_second),
            (results.p99_us, single.p99_us),
            (results.late_p99_us, single.late_p99_us),
            (results.cpu_us_per_frame, single.cpu_us_per_frame),
            (results.cpu_busy, single.cpu_busy),
        ] {
            assert!((sum - one).abs() < 1e-9, "{sum} {one}");
        }
        assert_eq!(run.corrected.len(), 2 * one.corrected.len());
        // What is said of the figures is said of their sums, once.
        let said: Vec<_> = results.warnings.iter().map(String::as_str).collect();
        assert_eq!(said[0], "no pipelining");
        assert!(said.iter().any(|text| text.starts_with("6 NOTIFYs")));
        assert_eq!(said.len(), single.warnings.len() + 1, "{said:?}");
    }

    #[test]
    fn format_1_still_loads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/format-1.json");
        let run = SavedRun::load(&path).unwrap();
        assert_eq!((run.rounds.len(), run.results.frames), (1, 600));
        assert_eq!(run.rounds[0].frames_by_second, [400, 200]);
        assert_eq!(run.rounds[0].results, run.results);
        assert_eq!(run.rounds[0].started_unix_s, run.settings.started_unix_s);
        assert_eq!(run.corrected.len(), 600);
        assert_eq!(
            (&run.settings.cpu_model, run.settings.cpu_count),
            (&None, None)
        );
    }

    #[test]
    fn a_histogram_that_announces_too_much_is_refused_before_memory_is_taken() {
        // Payload length, digits, highest value: each at its place in the header.
        for (at, forged, part) in [
            (4, &u32::MAX.to_be_bytes()[..], "4294967295 bytes"),
            (12, &5_u32.to_be_bytes(), "with 5 digits"),
            (24, &u64::MAX.to_be_bytes(), "up to 18446744073709551615"),
        ] {
            let mut plain = Vec::new();
            V2Serializer::new()
                .serialize(&new_histogram(), &mut plain)
                .unwrap();
            plain[at..at + forged.len()].copy_from_slice(forged);
            let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
            deflated.write_all(&plain).unwrap();
            let deflated = deflated.finish().unwrap();
            let len = u32::try_from(deflated.len()).unwrap();
            let cookie = &STANDARD.decode(to_text(&new_histogram()).unwrap()).unwrap()[..4];
            let text = STANDARD.encode([cookie, &len.to_be_bytes(), &deflated].concat());
            let error = from_text(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(
            from_text(&to_text(&new_histogram()).unwrap()).unwrap(),
            new_histogram()
        );
    }

    #[test]
    fn counts_beyond_64_bits_are_refused() {
        let mut run = sample(None);
        let most = u64::try_from(i64::MAX).unwrap();
        run.rounds[0]
            .corrected
            .record_n(40_000_000_000, most)
            .unwrap();
        let (mut two, mut three) = (run.clone(), run.clone());
        two.rounds[0]
            .corrected
            .record_n(50_000_000_000, most)
            .unwrap();
        three.rounds.push(run.rounds[0].clone());
        three.rounds.push(run.rounds[0].clone());
        for (case, run) in [("one histogram", two), ("all of them", three)] {
            let mut file = Vec::new();
            run.save(&mut file).unwrap();
            let error = SavedRun::from_json(&file).expect_err(case).to_string();
            assert!(error.contains("exceed 64 bits"), "{case}: {error}");
        }
    }

    #[test]
    fn files_that_are_no_saved_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        assert!(matches!(SavedRun::load(&path), Err(LoadError::File(_))));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(SavedRun::load(&path), Err(LoadError::Json(_))));
        sample(None).save(File::create(&path).unwrap()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"format\": 2", "\"format\": 9")).unwrap();
        assert!(matches!(SavedRun::load(&path), Err(LoadError::Format(9))));
        let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
        document["rounds"] = serde_json::json!([]);
        std::fs::write(&path, document.to_string()).unwrap();
        assert!(matches!(SavedRun::load(&path), Err(LoadError::Empty)));
        let damaged = text.replace("\"corrected\": \"", "\"corrected\": \"AAAA");
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(
            SavedRun::load(&path),
            Err(LoadError::Histogram(_))
        ));
    }
}
