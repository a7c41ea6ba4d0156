//! Crawlers that say who they are, and whether their address is one that their owner publishes.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use crate::agents::remediation::{AddressTable, ListError, parse_list};

/// The longest `User-Agent` that is looked into, in bytes. Those of crawlers have less than 300.
const MAX_USER_AGENT_LEN: usize = 1024;

/// A crawler: what its `User-Agent` has in it, and the networks it comes from.
#[derive(Clone, Debug)]
pub struct Crawler {
    /// What it is called in the variable `bot`.
    pub name: String,
    /// Any of these in a `User-Agent` is its claim, in whatever case.
    pub user_agents: Vec<String>,
    /// Its networks, a table for each file of them.
    pub networks: Vec<AddressTable>,
}

/// Whether a visitor is a crawler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bot<'a> {
    /// It does not say so.
    #[default]
    No,
    /// It says so, and its address is one of those published.
    Verified(&'a str),
    /// It says so, but its address is none of those: somebody who wants to be taken for it.
    Claimed,
}

impl<'a> Bot<'a> {
    /// The value of the variable `bot`: the name or `claimed`; nothing for those who do not say so.
    #[must_use]
    pub const fn word(self) -> Option<&'a str> {
        match self {
            Self::No => None,
            Self::Verified(name) => Some(name),
            Self::Claimed => Some("claimed"),
        }
    }
}

/// All crawlers that are known.
#[derive(Clone, Debug, Default)]
pub struct Crawlers {
    crawlers: Vec<Crawler>,
    /// What to look for in lower case, and whose it is.
    claims: Vec<(Box<[u8]>, usize)>,
    /// Which bytes any of them begins with.
    first_bytes: FirstBytes,
}

#[derive(Clone, Debug)]
struct FirstBytes([bool; 256]);

impl Default for FirstBytes {
    fn default() -> Self {
        Self([false; 256])
    }
}

impl Crawlers {
    /// These.
    #[must_use]
    pub fn new(crawlers: Vec<Crawler>) -> Self {
        let mut claims = Vec::new();
        let mut first_bytes = FirstBytes::default();
        for (index, crawler) in crawlers.iter().enumerate() {
            for text in &crawler.user_agents {
                let text = text.to_ascii_lowercase().into_bytes();
                if let Some(&first) = text.first() {
                    first_bytes.0[usize::from(first)] = true;
                    first_bytes.0[usize::from(first.to_ascii_uppercase())] = true;
                    claims.push((text.into_boxed_slice(), index));
                }
            }
        }
        Self {
            crawlers,
            claims,
            first_bytes,
        }
    }

    /// Their names, in the order of the configuration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.crawlers.iter().map(|crawler| &*crawler.name)
    }

    /// Whether this visitor is one. Where several are claimed, one that is verified counts.
    #[must_use]
    pub fn judge(&self, user_agent: &[u8], address: Option<IpAddr>) -> Bot<'_> {
        if self.claims.is_empty() {
            return Bot::No;
        }
        let user_agent = &user_agent[..user_agent.len().min(MAX_USER_AGENT_LEN)];
        let mut bot = Bot::No;
        for (at, &byte) in user_agent.iter().enumerate() {
            if !self.first_bytes.0[usize::from(byte)] {
                continue;
            }
            for (text, index) in &self.claims {
                let there = user_agent[at..].get(..text.len());
                if !there.is_some_and(|there| there.eq_ignore_ascii_case(text)) {
                    continue;
                }
                let crawler = &self.crawlers[*index];
                let is_there =
                    |address| crawler.networks.iter().any(|table| table.contains(address));
                if address.is_some_and(is_there) {
                    return Bot::Verified(&crawler.name);
                }
                bot = Bot::Claimed;
            }
        }
        bot
    }
}

/// Why a file has no networks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworksError {
    /// It is neither text nor JSON.
    Utf8,
    /// It is JSON, but not as crawlers' owners publish it.
    Json(String),
    /// A line is no network.
    List(ListError),
    /// It has none.
    Empty,
}

impl fmt::Display for NetworksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8 => f.write_str("is not UTF-8"),
            Self::Json(error) => write!(
                f,
                "is not JSON as in {{\"prefixes\":[{{\"ipv4Prefix\":\"192.0.2.0/24\"}}]}}: {error}"
            ),
            Self::List(error) => error.fmt(f),
            Self::Empty => f.write_str("has no network"),
        }
    }
}

impl std::error::Error for NetworksError {}

/// Reads the networks of a crawler as lines: a file of one network a line, with `#` before comments, or the
/// JSON that Google and others publish, `{"prefixes":[{"ipv4Prefix":"192.0.2.0/24"}]}`.
///
/// # Errors
///
/// If it is neither, or has none: an empty list would make every visit of the crawler a false claim.
pub fn crawler_networks(file: &[u8]) -> Result<AddressTable, NetworksError> {
    #[derive(Deserialize)]
    struct Published {
        prefixes: Vec<Prefix>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Prefix {
        ipv4_prefix: Option<String>,
        ipv6_prefix: Option<String>,
    }
    let text = std::str::from_utf8(file).map_err(|_| NetworksError::Utf8)?;
    let list = if text.trim_start().starts_with('{') {
        let published: Published =
            serde_json::from_str(text).map_err(|error| NetworksError::Json(error.to_string()))?;
        let prefixes = published.prefixes.into_iter();
        let prefixes = prefixes.flat_map(|prefix| [prefix.ipv4_prefix, prefix.ipv6_prefix]);
        let lines = prefixes.flatten().fold(String::new(), |mut lines, prefix| {
            lines.push_str(&prefix);
            lines.push('\n');
            lines
        });
        parse_list(&lines)
    } else {
        parse_list(text)
    };
    let table = list.map_err(NetworksError::List)?;
    match table.range_count() {
        0 => Err(NetworksError::Empty),
        _ => Ok(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crawlers() -> Crawlers {
        let crawler = |name: &str, user_agents: &[&str], networks: &str| Crawler {
            name: name.to_owned(),
            user_agents: user_agents.iter().map(|&text| text.to_owned()).collect(),
            networks: vec![crawler_networks(networks.as_bytes()).unwrap()],
        };
        Crawlers::new(vec![
            crawler(
                "google",
                &["Googlebot", "GoogleOther"],
                r#"{"creationTime":"2026-01-01","prefixes":[{"ipv4Prefix":"192.0.2.0/27"},
                    {"ipv6Prefix":"2001:db8:4860::/48"}]}"#,
            ),
            crawler("bing", &["bingbot"], "# of bing\n198.51.100.0/24\n"),
        ])
    }

    #[test]
    fn a_claim_is_held_against_the_published_networks() {
        let crawlers = crawlers();
        let judge = |user_agent: &str, address: &str| {
            crawlers.judge(user_agent.as_bytes(), Some(address.parse().unwrap()))
        };
        let google = "Mozilla/5.0 (compatible; googlebot/2.1; +http://www.google.com/bot.html)";
        assert_eq!(judge(google, "192.0.2.1"), Bot::Verified("google"));
        assert_eq!(judge(google, "::ffff:192.0.2.1"), Bot::Verified("google"));
        assert_eq!(judge(google, "2001:db8:4860::7"), Bot::Verified("google"));
        assert_eq!(judge(google, "192.0.2.32"), Bot::Claimed);
        assert_eq!(judge(google, "198.51.100.1"), Bot::Claimed);
        assert_eq!(judge("GOOGLEOTHER", "192.0.2.1"), Bot::Verified("google"));
        let both = "Googlebot bingbot";
        assert_eq!(judge(both, "198.51.100.1"), Bot::Verified("bing"));
        assert_eq!(judge("Mozilla/5.0 Firefox/140.0", "192.0.2.1"), Bot::No);
        assert_eq!(judge("", "192.0.2.1"), Bot::No);
        assert_eq!(judge("bingbo", "198.51.100.1"), Bot::No);
        assert_eq!(crawlers.judge(b"bingbot", None), Bot::Claimed);
        let late = format!("{}bingbot", " ".repeat(MAX_USER_AGENT_LEN - 3));
        assert_eq!(judge(&late, "198.51.100.1"), Bot::No);
        assert_eq!(Crawlers::default().judge(b"Googlebot", None), Bot::No);
    }

    #[test]
    fn files_that_are_of_no_use_are_refused() {
        for (file, part) in [
            (&b"\xff"[..], "not UTF-8"),
            (b"", "no network"),
            (b"{\"prefixes\":[]}", "no network"),
            (b"{\"networks\":[]}", "prefixes"),
            (b"192.0.2.0/24\nnonsense\n", "line 2"),
            (
                b"{\"prefixes\":[{\"ipv4Prefix\":\"nonsense\"}]}",
                "nonsense",
            ),
        ] {
            let error = crawler_networks(file).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
