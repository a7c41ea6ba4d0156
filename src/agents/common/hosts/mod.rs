//! Which of the configured hosts a request is for, by its `Host` header.
//!
//! `pattern` knows the language of the patterns and `index` finds those that may match; here is which of
//! several counts. A look-up depends on the header's length and hardly on how many hosts there are, and
//! nothing is remembered of it: a client that makes up names fills no cache.

mod index;
mod pattern;

pub use pattern::{HostPattern, PatternError, PatternFault};

use index::Index;

/// Values by patterns of host names. What [`get`](Self::get) finds is the first that matches: patterns
/// without a `*` go before those with one, then longer ones before shorter ones, then the one that was
/// given first.
#[derive(Clone, Debug)]
pub struct HostTable<T> {
    /// Sorted: the index of an entry is its rank.
    entries: Vec<(HostPattern, T)>,
    /// Of patterns that are held against the name alone.
    names: Index,
    /// Of patterns with a `:`, which are held against the header as it came.
    raw: Index,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<T> HostTable<T> {
    /// A table of these patterns and what is configured for each.
    #[must_use]
    pub fn new(mut entries: Vec<(HostPattern, T)>) -> Self {
        entries.sort_by_key(|(pattern, _)| {
            let text = pattern.as_str();
            (text.contains('*'), std::cmp::Reverse(text.len()))
        });
        let ranked = |wants_raw: bool| {
            let ranks = entries.iter().enumerate();
            Index::new(ranks.filter_map(|(rank, (pattern, _))| {
                (pattern.as_str().contains(':') == wants_raw).then_some((rank, pattern))
            }))
        };
        Self {
            names: ranked(false),
            raw: ranked(true),
            entries,
        }
    }

    /// What is configured for this value of a `Host` header.
    ///
    /// Patterns are held against the name in lower case, without port and final dot; those that have a
    /// `:` themselves against the whole value in lower case. Of a value above
    /// [`HostPattern::MAX_TRIED_LEN`] bytes, only patterns without wildcard or with one `*`
    /// in front can match.
    #[must_use]
    pub fn get(&self, host: &[u8]) -> Option<&T> {
        self.rank(host).map(|rank| &self.entries[rank].1)
    }

    /// As [`get`](Self::get), its place in the order of the table, below [`len`](Self::len).
    #[must_use]
    pub fn rank(&self, host: &[u8]) -> Option<usize> {
        let mut best = usize::MAX;
        let name = host_name(host);
        self.names.find(name, &self.entries, &mut best);
        self.raw.find(host, &self.entries, &mut best);
        (best < self.entries.len()).then_some(best)
    }

    /// The patterns and what they stand for, in the order in which they count.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HostPattern, &T)> {
        self.entries.iter().map(|(pattern, value)| (pattern, value))
    }

    /// What has this place in the order of the table.
    #[must_use]
    pub fn at(&self, rank: usize) -> Option<&T> {
        self.entries.get(rank).map(|(_, value)| value)
    }

    /// How many patterns there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The name in a `Host` header: without port and final dot, in whatever case it is. An IPv6 address
/// keeps its brackets.
#[must_use]
pub fn host_name(host: &[u8]) -> &[u8] {
    let mut name = host;
    if let Some(colon) = host.iter().rposition(|&byte| byte == b':') {
        let (before, port) = (&host[..colon], &host[colon + 1..]);
        let is_port = port.iter().all(u8::is_ascii_digit);
        if is_port && (before.ends_with(b"]") || !before.contains(&b':')) {
            name = before;
        }
    }
    name.strip_suffix(b".").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(patterns: &[&str]) -> HostTable<String> {
        let entry = |pattern: &&str| (HostPattern::new(pattern).unwrap(), (*pattern).to_owned());
        HostTable::new(patterns.iter().map(entry).collect())
    }

    #[test]
    fn names_lose_port_and_final_dot() {
        for (host, name) in [
            ("shop.example", "shop.example"),
            ("shop.example:8443", "shop.example"),
            ("shop.example.:80", "shop.example"),
            ("shop.example.", "shop.example"),
            ("shop.example:", "shop.example"),
            ("shop.example:http", "shop.example:http"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("2001:db8::1", "2001:db8::1"),
            ("", ""),
            (":80", ""),
            (".", ""),
        ] {
            assert_eq!(host_name(host.as_bytes()), name.as_bytes(), "{host}");
        }
    }

    #[test]
    fn no_wildcard_goes_first_then_the_longer_then_the_first() {
        let table = table(&[
            "*",
            "*.example.com",
            "*example.com",
            "shop.example.com",
            "[a-z]hop.example.com",
            "*.b.example.com",
            "api-*.example.com",
            "?.example.com",
            "api.*",
            "SHOP.example.org",
            "shop.example.org:8443",
            "*:9999",
            "*hop.example.c*",
        ]);
        for (host, pattern) in [
            ("other.test", "*"),
            ("a.example.com", "?.example.com"),
            ("ab.example.com", "*.example.com"),
            ("a.b.example.com", "*.b.example.com"),
            ("example.com", "*example.com"),
            ("badexample.com:80", "*example.com"),
            // Without `*`, and longer than the plain name.
            ("shop.example.com", "[a-z]hop.example.com"),
            ("api-1.example.com", "api-*.example.com"),
            ("api.test", "api.*"),
            ("xshop.example.com", "*hop.example.c*"),
            ("Shop.Example.Org.", "SHOP.example.org"),
            ("shop.example.org:80", "SHOP.example.org"),
            ("shop.example.org:8443", "shop.example.org:8443"),
            ("SHOP.example.org:8443", "shop.example.org:8443"),
            ("other.test:9999", "*:9999"),
            ("", "*"),
        ] {
            assert_eq!(
                table.get(host.as_bytes()).map(String::as_str),
                Some(pattern),
                "{host}"
            );
        }
        assert_eq!(table.get(b"a/b"), None, "no `*` goes over a slash");
    }

    #[test]
    fn of_equals_the_first_counts() {
        let entries = ["*.a.test", "*.A.test", "a.test", "a.test."];
        let entries = entries.map(|text| HostPattern::new(text).unwrap());
        let table = HostTable::new(entries.into_iter().zip(0..).collect());
        assert_eq!(table.get(b"x.a.test"), Some(&0));
        // The longer of two patterns for one name.
        assert_eq!(table.get(b"a.test"), Some(&3));
        assert_eq!(HostTable::<u8>::default().get(b"a.test"), None);
    }

    #[test]
    fn long_names_do_bounded_work() {
        let table = table(&["*a*a*a*a*a*b", "*.test", "?*"]);
        let long = "a".repeat(60_000);
        assert_eq!(table.get(long.as_bytes()), None);
        let long = format!("{long}.test");
        assert_eq!(
            table.get(long.as_bytes()).map(String::as_str),
            Some("*.test")
        );
    }

    #[test]
    fn agrees_with_a_linear_search() {
        let mut state = 7_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let words = ["a", "b", "aa", "ab", "*", "?", "[ab]", ".", "*.", ":1", ""];
        for _ in 0..300 {
            let mut text = || -> String {
                let count = 1 + random(4);
                let word = |_| words[random(11) as usize];
                (0..count).map(word).collect()
            };
            let patterns: Vec<String> = (0..20).map(|_| text()).collect();
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let table = table(&patterns);
            for _ in 0..50 {
                let host = text().replace(['*', '?', '[', ']'], "b");
                let host = host.as_bytes();
                let slow = table.iter().position(|(pattern, _)| {
                    let is_raw = pattern.as_str().contains(':');
                    pattern.matches(if is_raw { host } else { host_name(host) })
                });
                assert_eq!(table.rank(host), slow, "{patterns:?} {host:?}");
            }
        }
    }
}
