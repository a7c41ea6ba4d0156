//! Plain lists: one value a line.

use std::io::BufRead;

use super::super::dataset::{Decision, StoreError};
use super::super::decisions::ListError;
use super::{Defaults, Fields, OnBadRecord, Reading, Summary, each_line};

/// Reads a list: an address, a network as in `192.0.2.0/24`, or a range as in `192.0.2.1 - 192.0.2.9` a
/// line. `#` or `;` begins a comment; empty lines do not count. An IPv4-mapped IPv6 address counts as
/// IPv4; bits of a network's address beyond its prefix are ignored.
///
/// # Errors
///
/// The first bad line, if such are refused, one the sink does not take, or one that cannot be read.
pub fn parse_lines(
    input: impl BufRead,
    defaults: &Defaults<'_>,
    on_bad: OnBadRecord,
    sink: impl FnMut(&Decision<'_>) -> Result<(), StoreError>,
) -> Result<Summary, ListError> {
    let mut reading = Reading::new(defaults, on_bad, sink);
    each_line(input, |line, text| {
        let value = text.split(['#', ';']).next().unwrap_or_default().trim();
        if value.is_empty() {
            return Ok(());
        }
        let fields = Fields {
            scope: "range",
            value,
            ..Fields::default()
        };
        reading.record(line, &fields)
    })?;
    Ok(reading.summary)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DEFAULTS, collect};
    use super::*;

    fn parse(text: &str, on_bad: OnBadRecord) -> (Result<Summary, ListError>, Vec<String>) {
        collect(|sink| parse_lines(text.as_bytes(), &DEFAULTS, on_bad, sink))
    }

    #[test]
    fn all_forms_of_lines() {
        let list = "\u{feff}# heading\n\n 192.0.2.1 # one\r\n2001:db8::/32\n\
            198.51.100.0/24 ; as others write it\n10.0.0.1-10.0.0.3\n::1 - ::1\n::ffff:10.0.0.9";
        let (summary, decisions) = parse(list, OnBadRecord::Refuse);
        assert_eq!(
            decisions,
            [
                "192.0.2.1 ban list never",
                "2001:db8::/32 ban list never",
                "198.51.100.0/24 ban list never",
                "10.0.0.1 ban list never",
                "10.0.0.2/31 ban list never",
                "::1 ban list never",
                "10.0.0.9 ban list never",
            ]
        );
        assert_eq!(summary.unwrap().decision_count, decisions.len());
    }

    #[test]
    fn bad_lines_are_named_or_counted() {
        for (list, line, part) in [
            (
                "192.0.2.1\nnonsense\n10.0.0.1",
                2,
                "'nonsense': not an address or network",
            ),
            ("192.0.2.0/33\n10.0.0.1", 1, "from 0 to 32"),
            ("\n\n2001:db8::/129\n10.0.0.1", 3, "from 0 to 128"),
            ("AS64500\n10.0.0.1", 1, "not an address"),
            (
                "10.0.0.3-10.0.0.1\n10.0.0.1",
                1,
                "from its first address to its last",
            ),
            ("10.0.0.3-::1\n10.0.0.1", 1, "from its first address"),
            ("10.0.0.0/8-10.0.0.1\n10.0.0.1", 1, "not an address"),
        ] {
            let (error, _) = parse(list, OnBadRecord::Refuse);
            let error = error.unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.reason.contains(part), "{error}");
            let (summary, decisions) = parse(list, OnBadRecord::Skip);
            let summary = summary.unwrap();
            assert_eq!((summary.bad_count, summary.first_bad), (1, Some(error)));
            assert_eq!(decisions.last().unwrap(), "10.0.0.1 ban list never");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let bytes = [b'x'; 100_000];
        for (bytes, part) in [(&bytes[..], "longer than"), (b"\xff\n", "not UTF-8")] {
            let (error, _) = collect(|sink| parse_lines(bytes, &DEFAULTS, OnBadRecord::Skip, sink));
            assert!(error.unwrap_err().reason.contains(part));
        }
    }

    #[test]
    fn a_full_store_ends_the_reading() {
        let full = |_: &Decision<'_>| Err(StoreError::TooManyKinds);
        let error = parse_lines(&b"10.0.0.1"[..], &DEFAULTS, OnBadRecord::Skip, full);
        assert!(error.unwrap_err().reason.contains("65536"));
    }
}
