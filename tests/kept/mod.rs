//! Lists of what outsiders rely on by name, each in a file: a change of one is seen and meant.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The lines of one list that are in no other.
pub(crate) fn missing<'a>(of: &'a [String], other: &[String]) -> Vec<&'a str> {
    let other: BTreeSet<_> = other.iter().collect();
    let missing = of.iter().filter(|line| !other.contains(line));
    missing.map(String::as_str).collect()
}

/// Compares a list with the kept one, `file` in tests/data of the package at `root`, and says how to
/// accept the difference: with `RINGSPOA_BLESS` set, `command` does so.
pub(crate) fn compare(root: &str, file: &str, now: &[String], command: &str) {
    let path = Path::new(root).join("tests/data").join(file);
    if std::env::var_os("RINGSPOA_BLESS").is_some() {
        fs::write(&path, now.join("\n") + "\n").expect("the list can be written");
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let kept: Vec<_> = kept.lines().map(str::to_owned).collect();
    let (gone, new) = (missing(&kept, now), missing(now, &kept));
    let gone: String = gone.iter().map(|line| format!("- {line}\n")).collect();
    let new: String = new.iter().map(|line| format!("+ {line}\n")).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "this is not what tests/data/{file} says:\n\n{gone}{new}\n\
         A line that goes or changes breaks what somebody has: CHANGELOG.md says so, and what to do \
         instead. A line that only comes is an addition.\n\
         To accept this: RINGSPOA_BLESS=1 {command}\n"
    );
    assert!(
        kept == now,
        "tests/data/{file} is out of order: RINGSPOA_BLESS=1 {command}"
    );
}
