//! Saved runs and the histograms in them.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringspoa_loadgen::{LatencyUnit, SavedRun, percentile_csv, percentile_distribution};

/// A run as it is saved.
pub(super) const SAMPLE: &str = include_str!("../../../../loadgen/tests/data/format-1.json");

/// A file is refused with a text, or is a run that is saved again as it is.
pub fn saved_run(data: &[u8]) {
    match SavedRun::from_json(data) {
        Ok(run) => check_saved(&run),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check_saved(run: &SavedRun) {
    assert!(!run.rounds.is_empty());
    let mut text = Vec::new();
    run.save(&mut text).expect("a vector takes everything");
    let again = SavedRun::from_json(&text).expect("what was saved is read");
    // Figures may differ in their last digit; what was counted may not.
    assert_eq!(again.settings.target, run.settings.target);
    assert_eq!(again.settings.messages, run.settings.messages);
    assert_eq!(again.results.errors_by_kind, run.results.errors_by_kind);
    assert_eq!(
        (&again.corrected, &again.uncorrected),
        (&run.corrected, &run.uncorrected)
    );
    assert_eq!(again.rounds.len(), run.rounds.len());
    for (again, round) in again.rounds.iter().zip(&run.rounds) {
        assert_eq!(again.frames_by_second, round.frames_by_second);
        assert_eq!(
            (&again.corrected, &again.late),
            (&round.corrected, &round.late)
        );
    }
}

/// A histogram of any header around any counts, deflated as a saved one, is refused with a text, or
/// is saved again as it is and has its distribution written.
pub fn histogram(data: &[u8]) {
    static AROUND: OnceLock<(String, String)> = OnceLock::new();
    let (before, after) = AROUND.get_or_init(around_histogram);
    let Ok(histogram) = histogram_of(&mut Unstructured::new(data)) else {
        return;
    };
    let text = format!("{before}{}{after}", STANDARD.encode(histogram));
    match SavedRun::from_json(text.as_bytes()) {
        Err(error) => assert!(error.to_string().contains("a histogram is damaged")),
        Ok(run) => {
            check_saved(&run);
            for unit in [LatencyUnit::Nanoseconds, LatencyUnit::Milliseconds] {
                let texts = [
                    percentile_csv(&run.corrected, unit),
                    percentile_distribution(&run.corrected, unit),
                ];
                for text in texts {
                    assert_eq!(text.is_err(), run.corrected.is_empty());
                }
            }
        }
    }
}

/// What is before and behind the text of the histogram in the sample.
fn around_histogram() -> (String, String) {
    const KEY: &str = "\"corrected\": \"";
    let start = SAMPLE.find(KEY).expect("a saved run has a histogram") + KEY.len();
    let len = SAMPLE[start..].find('"').expect("a text ends");
    (SAMPLE[..start].to_owned(), SAMPLE[start + len..].to_owned())
}

/// hdrhistogram's V2 form, deflated without compression: what a choice does not spoil is right.
fn histogram_of(choices: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let spoilt: u8 = choices.arbitrary()?;
    let is = |bit: u8| spoilt >> bit & 1 == 1;
    let digits: u32 = if is(0) { choices.arbitrary()? } else { 3 };
    let low: u64 = if is(1) { choices.arbitrary()? } else { 1 };
    let high: u64 = match is(2) {
        true => choices.arbitrary()?,
        false => 60_000_000_000,
    };
    let ratio: f64 = if is(3) { choices.arbitrary()? } else { 1.0 };
    let offset: u32 = if is(4) { choices.arbitrary()? } else { 0 };
    let announced: Option<u32> = match is(5) {
        true => Some(choices.arbitrary()?),
        false => None,
    };
    let counts = choices.bytes(choices.len())?;
    let len = u32::try_from(counts.len()).expect("inputs are short");
    let mut plain = Vec::new();
    for word in [0x1c84_9303, announced.unwrap_or(len), offset, digits] {
        plain.extend_from_slice(&word.to_be_bytes());
    }
    plain.extend_from_slice(&low.to_be_bytes());
    plain.extend_from_slice(&high.to_be_bytes());
    plain.extend_from_slice(&ratio.to_be_bytes());
    plain.extend_from_slice(counts);
    let stored = u16::try_from(plain.len()).expect("inputs are short");
    // Header of zlib, then one last stored block and its length twice.
    let mut deflated = vec![0x78, 0x01, 0x01];
    deflated.extend_from_slice(&stored.to_le_bytes());
    deflated.extend_from_slice(&(!stored).to_le_bytes());
    deflated.extend_from_slice(&plain);
    deflated.extend_from_slice(&adler32(&plain).to_be_bytes());
    let len = u32::try_from(deflated.len()).expect("inputs are short");
    let mut histogram = 0x1c84_9304_u32.to_be_bytes().to_vec();
    histogram.extend_from_slice(&len.to_be_bytes());
    histogram.extend_from_slice(&deflated);
    if is(6) {
        let at = choices.int_in_range(0..=histogram.len() - 1)?;
        histogram.truncate(at);
    }
    Ok(histogram)
}

/// The sum at the end of zlib's form.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1, 0);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}
