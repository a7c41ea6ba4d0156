//! "Did you mean": the known word most like one that is not known.

/// Longer words are compared by their beginnings, so that a file cannot make this slow.
const MAX_LEN: usize = 64;

/// The candidate nearest to `word`, if a slip or two of the fingers lie between them.
pub(super) fn closest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = match word.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| (1..=allowed).contains(distance))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// " (did you mean 'x'?)", or nothing.
pub(super) fn hint<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    closest(word, candidates).map_or_else(String::new, |candidate| {
        format!(" (did you mean '{candidate}'?)")
    })
}

/// How many characters have to be put in, taken out, replaced or exchanged with their neighbour, none
/// of them twice.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(MAX_LEN).collect();
    let b: Vec<char> = b.chars().take(MAX_LEN).collect();
    let width = b.len() + 1;
    let mut rows = vec![(0..width).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let replaced = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + replaced);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let known = ["remediation", "error", "ip"];
        for (word, expected) in [
            ("remedation", Some("remediation")),
            ("remediatoin", Some("remediation")),
            ("eror", Some("error")),
            ("error", None),
            ("remedy", None),
            ("pi", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), expected, "{word}");
        }
    }
}
