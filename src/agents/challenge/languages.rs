//! What the page says, in the languages that there are.
//!
//! A page has one language in it, so that it stays small. The one that a visitor's browser asks for comes with
//! the challenge.

use std::sync::LazyLock;

use serde_json::{Map, Value};

macro_rules! texts {
    ($($code:literal)*) => {
        /// Codes of the languages, and their texts by name, JSON.
        const FILES: [(&str, &str); 15] = [
            $(($code, include_str!(concat!("page/strings/", $code, ".json"))),)*
        ];
    };
}

texts! { "ar" "cs" "de" "en" "es" "fr" "it" "ja" "nl" "pl" "pt" "ru" "tr" "uk" "zh" }

/// The language that a page has in it, unless its site wants another.
pub(super) const OF_PAGE: &str = "en";

static LANGUAGES: LazyLock<Vec<Language>> = LazyLock::new(|| {
    let languages = FILES.iter().map(|&(code, file)| Language::new(code, file));
    languages.collect()
});

/// The texts of one language.
#[derive(Debug)]
pub(super) struct Language {
    /// As in `de`.
    pub(super) code: &'static str,
    /// By name.
    pub(super) texts: Map<String, Value>,
    /// As the page knows them.
    pub(super) joined: String,
}

impl Language {
    fn new(code: &'static str, file: &str) -> Self {
        let texts = serde_json::from_str(file).expect("the page's own texts are JSON");
        let joined = joined(&texts);
        Self {
            code,
            texts,
            joined,
        }
    }

    pub(super) fn of(code: &str) -> Option<&'static Self> {
        LANGUAGES.iter().find(|language| language.code == code)
    }

    /// What `Accept-Language` asks for most, of what there is.
    pub(super) fn asked_for(header: &[u8]) -> Option<&'static Self> {
        let mut best = None;
        // No browser sends more, and whoever does shall not keep us busy.
        for item in header.split(|&byte| byte == b',').take(16) {
            let mut parts = item.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split(|&byte| byte == b'-').next().unwrap_or_default();
            let weight = parts
                .find_map(|part| part.strip_prefix(b"q="))
                .map_or(1000, thousandths);
            let language = LANGUAGES
                .iter()
                .find(|language| primary.eq_ignore_ascii_case(language.code.as_bytes()));
            let is_better = weight > best.map_or(0, |(weight, _)| weight);
            if let (Some(language), true) = (language, is_better) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }
}

/// All texts in the order of their names, as the page knows them.
pub(super) fn joined(texts: &Map<String, Value>) -> String {
    let mut names: Vec<_> = texts.keys().collect();
    names.sort_unstable();
    let texts: Vec<_> = names
        .iter()
        .map(|name| texts[*name].as_str().unwrap_or_default())
        .collect();
    texts.join("|")
}

/// All codes.
pub(super) fn codes() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|&(code, _)| code)
}

/// A weight of at most three decimals. What is none counts for nothing.
fn thousandths(weight: &[u8]) -> u16 {
    let (whole, decimals) = match weight {
        [whole] | [whole, b'.'] => (whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return 0,
    };
    let mut thousandths = 0;
    for place in 0..4 {
        let digit = match place {
            0 => *whole,
            place => decimals.get(place - 1).copied().unwrap_or(b'0'),
        };
        if !digit.is_ascii_digit() {
            return 0;
        }
        thousandths = thousandths * 10 + u16::from(digit - b'0');
    }
    thousandths.min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_languages_say_the_same_things() {
        let english = Language::of("en").unwrap();
        for language in LANGUAGES.iter() {
            let names = |language: &Language| language.texts.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(language), names(english), "{}", language.code);
            for (name, text) in &language.texts {
                let text = text.as_str().unwrap();
                assert!(
                    !text.is_empty() && !text.contains('|'),
                    "{} {name}",
                    language.code
                );
                // It stands between quotes in JSON in a page, and in a log-format string.
                let is_careful = |c: char| "\"\\<%".contains(c) || c.is_control();
                assert!(!text.contains(is_careful), "{} {name}", language.code);
            }
            assert!(
                language.texts["about"].as_str().unwrap().contains('#'),
                "{}",
                language.code
            );
            assert_eq!(
                language.joined.matches('|').count(),
                english.texts.len() - 1
            );
        }
    }

    #[test]
    fn the_languages_are_those_of_the_folder() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/agents/challenge/page/strings"
        );
        let names = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names
            .filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()))
            .collect();
        names.sort();
        assert_eq!(names, codes().collect::<Vec<_>>());
    }

    #[test]
    fn a_browser_gets_what_it_asks_for_most() {
        for (header, expected) in [
            ("de", Some("de")),
            ("de-AT,de;q=0.9,en;q=0.8", Some("de")),
            ("sv-SE, sv;q=0.9, fr;q=0.5, it;q=0.7", Some("it")),
            ("ZH-Hant-TW", Some("zh")),
            ("en;q=0.5, ar ; q=0.9", Some("ar")),
            ("fr;q=0.800,pl;q=0.8", Some("fr")),
            ("fr;q=0", None),
            ("fr;q=1.5,de;q=0.9", Some("fr")),
            ("fr;q=x,de;q=0.0001", None),
            ("*", None),
            ("", None),
            ("deu", None),
            (",,;;q=1,", None),
        ] {
            let language = Language::asked_for(header.as_bytes()).map(|language| language.code);
            assert_eq!(language, expected, "{header}");
        }
    }
}
