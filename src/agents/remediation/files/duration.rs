//! Durations as Go writes them, which is how CrowdSec does.

use std::fmt;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurationError {
    /// Not numbers with units, as in `3h59m49.64s`.
    Form,
    /// More than 292 years.
    Overflow,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "not a duration, as in 4h, 1h30m or 90s",
            Self::Overflow => "a duration has at most 292 years",
        })
    }
}

impl std::error::Error for DurationError {}

/// Reads a duration in Go's syntax, in nanoseconds: numbers with a unit each, `ns`, `us` or `µs`, `ms`,
/// `s`, `m` or `h`, and a sign before the first, as in `3h59m49.64s` or `-1.5h`; also `d` for days, which
/// CrowdSec's own tools take. What is less than a nanosecond is cut off.
///
/// # Errors
///
/// `Form` for anything else, `Overflow` for what nanoseconds in an `i64` cannot say.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let (is_negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    // The only number that needs no unit.
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Form);
    }
    let mut sum_ns = 0_u128;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Form);
        }
        let unit_end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_ns = unit_ns(unit).ok_or(DurationError::Form)?;
        // 2^63 ns have 19 digits: with more the number is too large, zeros in front apart.
        let whole = whole.trim_start_matches('0');
        let whole: u128 = match whole.len() {
            0 => 0,
            1..=19 => whole.parse().map_err(|_| DurationError::Form)?,
            _ => return Err(DurationError::Overflow),
        };
        // Digits after the 18th are below a nanosecond in any unit.
        let fraction = &fraction[..fraction.len().min(18)];
        let numerator: u128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| DurationError::Form)?
        };
        let denominator = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        sum_ns += whole * unit_ns + numerator * unit_ns / denominator;
        if sum_ns > i64::MAX.unsigned_abs().into() {
            return Err(DurationError::Overflow);
        }
        rest = after;
    }
    let sum_ns = i64::try_from(sum_ns).map_err(|_| DurationError::Overflow)?;
    Ok(if is_negative { -sum_ns } else { sum_ns })
}

/// The digits at the front, and what comes after.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn unit_ns(unit: &str) -> Option<u128> {
    const S: u128 = 1_000_000_000;
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => S,
        "m" => 60 * S,
        "h" => 3_600 * S,
        "d" => 86_400 * S,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    /// Of the tests of Go's `time.ParseDuration`, and days.
    #[test]
    fn durations_as_go_reads_them() {
        for (text, ns) in [
            ("0", 0),
            ("+0", 0),
            ("5s", 5 * S),
            ("1478s", 1478 * S),
            ("-5s", -5 * S),
            ("5.0s", 5 * S),
            ("5.6s", 5 * S + 600_000_000),
            ("5.s", 5 * S),
            (".5s", 500_000_000),
            ("1.004s", S + 4_000_000),
            ("100.00100s", 100 * S + 1_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("13ms", 13_000_000),
            ("15m", 900 * S),
            ("16h", 57_600 * S),
            ("3h59m49.64s", 14_389 * S + 640_000_000),
            ("-1.5h", -5_400 * S),
            ("39h9m14.425s", 140_954 * S + 425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_200 * S - 1),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775807ns", -i64::MAX),
            ("0.9223372036854775807h", 3_320_413_933_267),
            ("0000000000000000000000000000000001s", S),
            ("7d", 604_800 * S),
        ] {
            assert_eq!(parse_duration(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "", "3", "-", "s", ".", "-.", ".s", "+.s", "1d2", "1x", "1h 2m", "٣s", "1e3s", "--1s",
            "4 h", "never",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError::Form), "{text}");
        }
        for text in [
            "9223372036854775808ns",
            "9999999999999999999999h",
            "2562047h48m",
            "106752d",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError::Overflow), "{text}");
        }
    }
}
