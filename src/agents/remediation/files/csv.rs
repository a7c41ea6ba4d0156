//! CSV, with or without a line that names the columns.

use std::io::BufRead;

use super::super::dataset::{Decision, StoreError};
use super::super::decisions::ListError;
use super::{Defaults, Fields, OnBadRecord, Reading, Summary, each_line};

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Value,
    Remediation,
    Expiry,
    Origin,
    Scope,
    Scenario,
    Id,
    Unknown,
}

/// The columns of a file that does not name them.
const UNNAMED: [Column; 4] = [
    Column::Value,
    Column::Remediation,
    Column::Expiry,
    Column::Origin,
];

impl Column {
    /// By the names CrowdSec has for them, and by ours.
    fn named(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "value" | "ip" | "address" => Self::Value,
            "remediation" | "type" | "action" => Self::Remediation,
            "expiry" | "duration" | "until" | "expiration" => Self::Expiry,
            "origin" => Self::Origin,
            "scope" => Self::Scope,
            "reason" | "scenario" => Self::Scenario,
            "id" => Self::Id,
            _ => Self::Unknown,
        }
    }
}

/// Reads CSV: by default the columns `value,remediation,expiry,origin`, of which those at the end may be
/// left out, and all but the first left empty. Other orders and columns are named in the first line:
/// also `scope`, `reason`, `id`, and `type` and `duration` as CrowdSec says it; what has another name is
/// passed over. Fields may be in quotes, but not go over the end of a line. Empty lines and such as begin
/// with `#` do not count.
///
/// # Errors
///
/// As [`parse_lines`](super::parse_lines); and a line of names without that of the value.
pub fn parse_csv(
    input: impl BufRead,
    defaults: &Defaults<'_>,
    on_bad: OnBadRecord,
    sink: impl FnMut(&Decision<'_>) -> Result<(), StoreError>,
) -> Result<Summary, ListError> {
    let mut reading = Reading::new(defaults, on_bad, sink);
    let mut columns = UNNAMED.to_vec();
    let (mut is_first, mut room) = (true, Vec::new());
    each_line(input, |line, text| {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let error = |reason: &str| ListError {
            line,
            reason: reason.to_owned(),
        };
        let count = match split(text, &mut room) {
            Ok(count) => count,
            Err(reason) => return reading.bad(error(reason)),
        };
        let cells = &room[..count];
        if std::mem::take(&mut is_first) {
            let named: Vec<Column> = cells.iter().map(|name| Column::named(name)).collect();
            // An address or a network is the name of nothing.
            if named
                .first()
                .is_some_and(|column| *column != Column::Unknown)
                || named.contains(&Column::Value)
            {
                if !named.contains(&Column::Value) {
                    return Err(error("no column is named 'value'"));
                }
                columns = named;
                return Ok(());
            }
        }
        if count > columns.len() {
            return reading.bad(error("more fields than columns"));
        }
        let mut fields = Fields::default();
        for (column, cell) in columns.iter().zip(cells) {
            let cell = cell.trim();
            match column {
                Column::Value => fields.value = cell,
                Column::Remediation => fields.remediation = cell,
                Column::Expiry => fields.expiry = cell,
                Column::Origin => fields.origin = cell,
                Column::Scope => fields.scope = cell,
                Column::Scenario => fields.scenario = cell,
                Column::Id if cell.is_empty() => {}
                Column::Id => match cell.parse() {
                    Ok(id) => fields.id = Some(id),
                    Err(_) => return reading.bad(error("the id is not a number")),
                },
                Column::Unknown => {}
            }
        }
        reading.record(line, &fields)
    })?;
    Ok(reading.summary)
}

/// Splits a line into fields, in `room` that is used again, and returns how many there are.
fn split(line: &str, room: &mut Vec<String>) -> Result<usize, &'static str> {
    let (mut count, mut rest) = (0, Some(line));
    while let Some(text) = rest {
        if count == room.len() {
            room.push(String::new());
        }
        let cell = &mut room[count];
        cell.clear();
        count += 1;
        let Some(mut quoted) = text.trim_start().strip_prefix('"') else {
            let (plain, after) = match text.split_once(',') {
                Some((plain, after)) => (plain, Some(after)),
                None => (text, None),
            };
            cell.push_str(plain);
            rest = after;
            continue;
        };
        loop {
            let (part, after) = quoted.split_once('"').ok_or("a quote is not closed")?;
            cell.push_str(part);
            quoted = after;
            match after.strip_prefix('"') {
                // Two of them are one of the text.
                Some(after) => quoted = after,
                None => break,
            }
            cell.push('"');
        }
        rest = match quoted.trim_start() {
            "" => None,
            after => Some(
                after
                    .strip_prefix(',')
                    .ok_or("no comma after a field in quotes")?,
            ),
        };
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DEFAULTS, collect};
    use super::*;

    fn parse(text: &str, on_bad: OnBadRecord) -> (Result<Summary, ListError>, Vec<String>) {
        collect(|sink| parse_csv(text.as_bytes(), &DEFAULTS, on_bad, sink))
    }

    #[test]
    fn columns_without_names() {
        let csv = "# heading\n192.0.2.1\n192.0.2.0/24,captcha\n10.0.0.1,,4h\r\n\
            10.0.0.2,ban,never,cscli\n10.0.0.3,ban,,\n10.0.0.4-10.0.0.5 , mfa , 1h , \"a, \"\"b\"\"\"\n\
            AS64500,ban\n";
        let (summary, decisions) = parse(csv, OnBadRecord::Refuse);
        assert_eq!(
            decisions,
            [
                "192.0.2.1 ban list never",
                "192.0.2.0/24 captcha list never",
                "10.0.0.1 ban list 15400",
                "10.0.0.2 ban cscli never",
                "10.0.0.3 ban list never",
                "10.0.0.4/31 mfa a, \"b\" 4600",
                "AS64500 ban list never",
            ]
        );
        assert_eq!(summary.unwrap().decision_count, 7);
    }

    #[test]
    fn columns_with_names() {
        let csv = "id,duration,scope,Value,reason,type,origin,uuid\n\
            7,4h,Ip,192.0.2.1,crowdsecurity/ssh-bf,ban,cscli,x\n\
            ,1h,Country,fr,why,captcha,,\n\
            8,1h,username,root,why,ban,,\n\
            9,1h,range,10.0.0.0/8,tor,ban,lists,\n";
        let (summary, decisions) = parse(csv, OnBadRecord::Refuse);
        assert_eq!(
            decisions,
            [
                "192.0.2.1 ban cscli 15400 #7",
                "FR captcha list 4600",
                "10.0.0.0/8 ban lists:tor 4600 #9",
            ]
        );
        assert_eq!(summary.unwrap().ignored_count, 1);
    }

    #[test]
    fn bad_lines_are_named_or_counted() {
        for (csv, line, part) in [
            (
                "10.0.0.1\n10.0.0.2,ban,3600\n10.0.0.3",
                2,
                "'3600' is no end",
            ),
            ("10.0.0.1,ban,4h,x,y\n10.0.0.3", 1, "more fields"),
            ("10.0.0.1,\"ban\n10.0.0.3", 1, "not closed"),
            ("10.0.0.1,\"ban\"x,4h\n10.0.0.3", 1, "no comma"),
            ("FR,ban\n10.0.0.3", 1, "'FR': not an address"),
            ("id,value\nx,10.0.0.1\n1,10.0.0.3", 2, "id is not a number"),
            ("value\n\"\"\n10.0.0.3", 2, "'': not an address"),
        ] {
            let (error, _) = parse(csv, OnBadRecord::Refuse);
            let error = error.unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.reason.contains(part), "{error}");
            let (summary, decisions) = parse(csv, OnBadRecord::Skip);
            let summary = summary.unwrap();
            assert_eq!((summary.bad_count, summary.first_bad), (1, Some(error)));
            assert!(decisions.last().unwrap().starts_with("10.0.0.3 "));
        }
        let (error, _) = parse("type,duration\nban,4h\n", OnBadRecord::Skip);
        assert!(error.unwrap_err().reason.contains("'value'"));
    }
}
