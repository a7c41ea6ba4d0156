//! When a decision ends, as files say it.

use super::super::dataset::Expiry;
use super::duration::parse_duration;

/// Seconds from here on are taken for seconds since 1970, not for a duration without a unit: September
/// 2001.
const FIRST_UNIX_S: u64 = 1_000_000_000;

const NS_PER_S: i64 = 1_000_000_000;

/// Reads `never`, a duration from `now_unix_s` on, a time of RFC 3339, or seconds since 1970.
pub(super) fn expiry(text: &str, now_unix_s: u64) -> Option<Expiry> {
    if text.eq_ignore_ascii_case("never") {
        return Some(Expiry::NEVER);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let second = text.parse().ok().filter(|second| *second >= FIRST_UNIX_S);
        return second.map(Expiry::at);
    }
    if let Ok(ns) = parse_duration(text) {
        // Up to a whole second: a decision does not end before its time.
        let s = ns.div_euclid(NS_PER_S) + i64::from(ns.rem_euclid(NS_PER_S) > 0);
        return Some(Expiry::at(now_unix_s.saturating_add_signed(s)));
    }
    rfc_3339(text).map(|second| Expiry::at(u64::try_from(second).unwrap_or(0)))
}

/// The second since 1970 of a time such as `2027-01-31T12:00:00.5+01:00`; fractions are cut off.
pub(in crate::agents) fn rfc_3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<i64>().ok().filter(|_| is_number)
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let marks = [4, 7, 10, 13, 16].map(|at| text.as_bytes()[at]);
    let [b'-', b'-', b'T' | b't' | b' ', b':', b':'] = marks else {
        return None;
    };
    let mut zone = text.get(19..)?;
    if let Some(fraction) = zone.strip_prefix('.') {
        let end = fraction.find(|c: char| !c.is_ascii_digit())?;
        zone = fraction.get(end..).filter(|_| end > 0)?;
    }
    let offset_s = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let start = text.len() - 5;
            let (hours, minutes) = (number(start..start + 2)?, number(start + 3..start + 5)?);
            let offset_s = 3_600 * hours + 60 * minutes;
            let is_offset = hours < 24 && minutes < 60;
            is_offset.then_some(if *sign == b'-' { -offset_s } else { offset_s })?
        }
        _ => return None,
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_len = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return None,
    };
    // Second 60 is a leap second, which is the first of the next minute here.
    if !(1..=month_len).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let s_of_day = 3_600 * hour + 60 * minute + second;
    Some(86_400 * days_since_1970(year, month, day) + s_of_day - offset_s)
}

/// Days from 1970-01-01 to this date. Years are counted from March on here, so that the day that not all
/// of them have is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    // The lengths of the months from March on: 153 days in five of them, and again.
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // To 1970-01-01 from the first of March of the year 0.
    365 * year + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_all_forms() {
        const NOW: u64 = 1_700_000_000;
        for (text, unix_s) in [
            ("4h", NOW + 14_400),
            ("1.001s", NOW + 2),
            ("-1.5s", NOW - 1),
            ("1800000000", 1_800_000_000),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", 0),
            ("2000-02-29T12:34:56.789Z", 951_827_696),
            ("2023-11-14T22:13:20+00:00", NOW),
            ("2023-11-15T00:13:20+02:00", NOW),
            ("2023-11-14 18:43:20-03:30", NOW),
            ("2024-12-31T23:59:60Z", 1_735_689_600),
        ] {
            assert_eq!(expiry(text, NOW), Some(Expiry::at(unix_s)), "{text}");
        }
        assert_eq!(expiry("Never", NOW), Some(Expiry::NEVER));
        for text in [
            "",
            "3600",
            "soon",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T24:00:00Z",
            "2023-1-14T22:13:20Z",
            "2023-11-14T22:13:20+0100",
            "+023-11-14T22:13:20Z",
            "2023-11-14T22:13:20é",
        ] {
            assert_eq!(expiry(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn days_are_counted_one_by_one() {
        let mut days = days_since_1970(1599, 12, 31);
        for year in 1600..2200 {
            for month in 1..=12 {
                for day in 1..=31 {
                    let text = format!("{year}-{month:02}-{day:02}T00:00:00Z");
                    if let Some(second) = rfc_3339(&text) {
                        assert_eq!((second % 86_400, second / 86_400), (0, days + 1), "{text}");
                        days += 1;
                    }
                }
            }
        }
    }
}
