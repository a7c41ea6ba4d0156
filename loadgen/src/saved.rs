//! A run with its histograms, and the file from which it can be loaded again.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::report::{Results, Settings};

/// Raised when a file of an older generator would be misread.
const FORMAT: u32 = 1;

/// A run with everything needed to compare it with another later.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedRun {
    /// How it was made.
    pub settings: Settings,
    /// What came out.
    pub results: Results,
    /// ACKs in each measured second; the last may be a part of one.
    pub frames_by_second: Vec<u64>,
    /// Latencies from the intended send time, in nanoseconds.
    pub corrected: Histogram<u64>,
    /// Latencies from the actual send time, in nanoseconds. The same in a closed loop.
    pub uncorrected: Histogram<u64>,
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
                "saved in format {format}, and this generator reads format {FORMAT}"
            ),
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
    frames_by_second: Vec<u64>,
    /// Nanoseconds, hdrhistogram V2 deflated, in base64: what other HDR tools read and write.
    histograms: Histograms,
}

#[derive(Serialize, Deserialize)]
struct Histograms {
    corrected: String,
    uncorrected: String,
}

impl SavedRun {
    /// Loads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a saved run of this format.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let file = File::open(path).map_err(LoadError::File)?;
        let document: Document =
            serde_json::from_reader(BufReader::new(file)).map_err(LoadError::Json)?;
        if document.format != FORMAT {
            return Err(LoadError::Format(document.format));
        }
        Ok(Self {
            settings: document.settings,
            results: document.results,
            frames_by_second: document.frames_by_second,
            corrected: from_text(&document.histograms.corrected)?,
            uncorrected: from_text(&document.histograms.uncorrected)?,
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
            frames_by_second: self.frames_by_second.clone(),
            histograms: Histograms {
                corrected: to_text(&self.corrected)?,
                uncorrected: to_text(&self.uncorrected)?,
            },
        };
        let mut out = BufWriter::new(out);
        serde_json::to_writer_pretty(&mut out, &document).map_err(LoadError::Json)?;
        out.write_all(b"\n")
            .and_then(|()| out.flush())
            .map_err(LoadError::File)
    }
}

fn to_text(histogram: &Histogram<u64>) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| LoadError::Histogram(error.to_string()))?;
    Ok(STANDARD.encode(bytes))
}

fn from_text(text: &str) -> Result<Histogram<u64>, LoadError> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| LoadError::Histogram(error.to_string()))?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| LoadError::Histogram(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_saved_run_loads_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        for rate in [None, Some(5_000)] {
            let run = sample(rate);
            run.save(File::create(&path).unwrap()).unwrap();
            let loaded = SavedRun::load(&path).unwrap();
            assert_eq!(loaded, run);
            for quantile in [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
                for (before, after) in [
                    (&run.corrected, &loaded.corrected),
                    (&run.uncorrected, &loaded.uncorrected),
                ] {
                    let (before, after) = (before, after);
                    assert_eq!(
                        before.value_at_quantile(quantile),
                        after.value_at_quantile(quantile)
                    );
                }
            }
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
        std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
        assert!(matches!(SavedRun::load(&path), Err(LoadError::Format(9))));
        let damaged = text.replace("\"corrected\": \"", "\"corrected\": \"AAAA");
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(
            SavedRun::load(&path),
            Err(LoadError::Histogram(_))
        ));
    }
}
