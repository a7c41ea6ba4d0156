//! Durations as configurations have them: in Go's notation.

use std::fmt;
use std::time::Duration;

/// Units and their length. Go has no days and weeks; they are taken because configurations with `7d`
/// are about.
const UNITS: [(&str, u64); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 604_800 * 1_000_000_000),
];

/// Reads a duration in Go's notation, as in `200ms`, `1h30m` or `1.5h`, and with days and weeks.
///
/// # Errors
///
/// If it is none, is negative, or is above some 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(DurationError::Negative);
    }
    if text.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut total_ns = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Syntax);
        }
        let unit_len = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(DurationError::NoUnit);
        }
        let unit_ns = UNITS.iter().find(|(name, _)| *name == unit);
        let unit_ns = unit_ns.ok_or(DurationError::Unit)?.1;
        let whole: u64 = match whole {
            "" => 0,
            whole => whole.parse().map_err(|_| DurationError::TooLong)?,
        };
        // Beyond nanoseconds of a week there is nothing to tell.
        let fraction: String = fraction.chars().take(18).collect();
        let parts = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let fraction_ns = fraction.parse().unwrap_or(0_u128) * u128::from(unit_ns) / parts;
        total_ns = whole
            .checked_mul(unit_ns)
            .and_then(|ns| ns.checked_add(u64::try_from(fraction_ns).ok()?))
            .and_then(|ns| ns.checked_add(total_ns))
            .ok_or(DurationError::TooLong)?;
        rest = after;
    }
    Ok(Duration::from_nanos(total_ns))
}

fn digits(text: &str) -> (&str, &str) {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(len)
}

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurationError {
    /// No number where one has to be.
    Syntax,
    /// A number without a unit.
    NoUnit,
    /// A unit that there is not.
    Unit,
    /// Below nothing.
    Negative,
    /// More than 64 bits of nanoseconds.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "is no duration, as in 200ms or 1h30m",
            Self::NoUnit => "has no unit, as in 200ms or 30s",
            Self::Unit => "has a unit that is none of ns, us, ms, s, m, h, d and w",
            Self::Negative => "is negative",
            Self::TooLong => "is longer than 584 years",
        })
    }
}

impl std::error::Error for DurationError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_the_notation_of_go_and_days() {
        for (text, ms) in [
            ("0", 0),
            ("5s", 5_000),
            ("+5s", 5_000),
            ("200ms", 200),
            ("30m", 30 * 60_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.s", 1_000),
            ("1500us", 1),
            ("1500\u{b5}s", 1),
            ("7d", 604_800_000),
            ("1w1d", 691_200_000),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration.as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_a_reason() {
        use DurationError::{Negative, NoUnit, Syntax, TooLong, Unit};
        for (text, error) in [
            ("", Syntax),
            ("h", Syntax),
            (".s", Syntax),
            ("30", NoUnit),
            ("1h30", NoUnit),
            ("1 h", Unit),
            ("1y", Unit),
            ("1H", Unit),
            ("-5s", Negative),
            ("99999999999h", TooLong),
            ("999999999999999999999999s", TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }
}
