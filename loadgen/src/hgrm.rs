//! A histogram as the text that `HdrHistogram`'s own tools read: the percentile distribution of
//! its `outputPercentileDistribution`, column for column, or the same as CSV.
//!
//! Writes what it is given and knows nothing of runs or files.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;

use crate::report::to_f64;

/// Lines until the distance to 100 % has halved; what wrk2 and the Java and C libraries use.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// What latencies are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatencyUnit {
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    #[default]
    Microseconds,
    /// Milliseconds.
    Milliseconds,
}

impl LatencyUnit {
    /// How many nanoseconds one is.
    const fn nanoseconds(self) -> u32 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
        }
    }
}

impl FromStr for LatencyUnit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ns" => Ok(Self::Nanoseconds),
            "us" => Ok(Self::Microseconds),
            "ms" => Ok(Self::Milliseconds),
            _ => Err("write ns, us or ms".to_owned()),
        }
    }
}

/// Nothing was recorded, so there is no distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSamples;

impl fmt::Display for NoSamples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the histogram is empty: no ACK came in the measured time, so it has no percentiles",
        )
    }
}

impl std::error::Error for NoSamples {}

/// A histogram of nanoseconds as the text of a `.hgrm` file: the columns value, percentile (0 to
/// 1), count up to there and 1/(1-percentile), five lines to each halving of the distance to
/// 100 %, then mean, deviation, maximum and count.
///
/// # Errors
///
/// If the histogram is empty.
pub fn percentile_distribution(
    histogram: &Histogram<u64>,
    unit: LatencyUnit,
) -> Result<String, NoSamples> {
    let digits = usize::from(histogram.sigfig());
    let scale = f64::from(unit.nanoseconds());
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for Line {
        value_ns,
        quantile,
        count,
    } in lines(histogram)?
    {
        let value = to_f64(value_ns) / scale;
        text += &format!("{value:12.digits$} {quantile:2.12} {count:10}");
        if quantile < 1.0 {
            text += &format!(" {:14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    text += &format!(
        "#[Mean    = {:12.digits$}, StdDeviation   = {:12.digits$}]\n",
        histogram.mean() / scale,
        histogram.stdev() / scale
    );
    text += &format!(
        "#[Max     = {:12.digits$}, Total count    = {:12}]\n",
        to_f64(histogram.max()) / scale,
        histogram.len()
    );
    let (buckets, sub_buckets) = buckets(histogram);
    text += &format!("#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]\n");
    Ok(text)
}

/// The same lines as comma-separated values under a line of names, without the summary.
///
/// # Errors
///
/// If the histogram is empty.
pub fn percentile_csv(histogram: &Histogram<u64>, unit: LatencyUnit) -> Result<String, NoSamples> {
    let digits = usize::from(histogram.sigfig());
    let scale = f64::from(unit.nanoseconds());
    let mut text = "\"Value\",\"Percentile\",\"TotalCount\",\"1/(1-Percentile)\"\n".to_owned();
    for Line {
        value_ns,
        quantile,
        count,
    } in lines(histogram)?
    {
        let value = to_f64(value_ns) / scale;
        text += &format!("{value:.digits$},{quantile:.12},{count},");
        if quantile < 1.0 {
            text += &format!("{:.2}\n", 1.0 / (1.0 - quantile));
        } else {
            text += "Infinity\n";
        }
    }
    Ok(text)
}

struct Line {
    value_ns: u64,
    quantile: f64,
    count: u64,
}

fn lines(histogram: &Histogram<u64>) -> Result<impl Iterator<Item = Line>, NoSamples> {
    if histogram.is_empty() {
        return Err(NoSamples);
    }
    let mut count = 0;
    Ok(histogram
        .iter_quantiles(TICKS_PER_HALF_DISTANCE)
        .map(move |step| {
            count += step.count_since_last_iteration();
            Line {
                value_ns: step.value_iterated_to(),
                quantile: step.quantile_iterated_to(),
                count,
            }
        }))
}

/// The inner dimensions that the last line of a `.hgrm` names. The crate keeps them to itself, but
/// they follow from what it tells: a half of each bucket but the first is shared with the one
/// before, so there are `(buckets + 1) * sub_buckets / 2` values.
fn buckets(histogram: &Histogram<u64>) -> (usize, usize) {
    let exact_up_to = 2 * 10_usize.pow(u32::from(histogram.sigfig()));
    let sub_buckets = exact_up_to.next_power_of_two();
    let buckets = histogram.distinct_values() / (sub_buckets / 2) - 1;
    (buckets, sub_buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::new_histogram;

    /// What `tests/data/golden.hgrm` was written from, by the Java library.
    fn histogram() -> Histogram<u64> {
        let mut histogram = new_histogram();
        for us in 1..=1_000 {
            histogram.record(us * 1_000).unwrap();
        }
        histogram.record_n(200_000_000, 7).unwrap();
        histogram
    }

    #[test]
    fn the_text_is_what_the_java_library_writes() {
        let wanted = include_str!("../tests/data/golden.hgrm");
        let text = percentile_distribution(&histogram(), LatencyUnit::Microseconds).unwrap();
        assert_eq!(text, wanted);
        let wanted = include_str!("../tests/data/golden.csv");
        let text = percentile_csv(&histogram(), LatencyUnit::Milliseconds).unwrap();
        assert_eq!(text, wanted);
    }

    #[test]
    fn one_sample_has_a_distribution() {
        let mut histogram = new_histogram();
        histogram.record(1_500).unwrap();
        let text = percentile_distribution(&histogram, LatencyUnit::Nanoseconds).unwrap();
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(
            text.contains("    1500.000 1.000000000000          1\n"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_histogram_is_an_error() {
        let unit = LatencyUnit::default();
        assert_eq!(
            percentile_distribution(&new_histogram(), unit),
            Err(NoSamples)
        );
        assert_eq!(percentile_csv(&new_histogram(), unit), Err(NoSamples));
    }

    #[test]
    fn units_have_names() {
        let units = ["ns", "us", "ms"].map(|text| text.parse::<LatencyUnit>().unwrap());
        assert_eq!(units.map(LatencyUnit::nanoseconds), [1, 1_000, 1_000_000]);
        assert!("s".parse::<LatencyUnit>().unwrap_err().contains("us"));
    }
}
