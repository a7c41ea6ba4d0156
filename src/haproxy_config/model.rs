//! What the lines mean: proxies with what they inherit, engines, and the filters between them.

use std::time::Duration;

use super::finding::{Findings, Place};
use super::read::{self, ConfigFile, Line, Word};
use super::version::HaproxyVersion;

/// Words that begin a section of haproxy.cfg.
const SECTIONS: &[&str] = &[
    "acme",
    "backend",
    "cache",
    "crt-list",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// Words that begin a section of an engine's file.
const ENGINE_SECTIONS: &[&str] = &["spoe-agent", "spoe-message", "spoe-group"];

/// A section: its first line, and those that follow.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) head: Line,
    pub(super) body: Vec<Line>,
    /// The engine it is for, in an engine's file.
    pub(super) scope: Option<String>,
}

impl Section {
    pub(super) fn keyword(&self) -> &str {
        self.head.word(0)
    }

    pub(super) fn name(&self) -> &str {
        self.head.word(1)
    }

    pub(super) const fn place(&self) -> Place {
        self.head.place
    }
}

/// All files together.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) version: HaproxyVersion,
    /// Lines of `global`.
    pub(super) global: Vec<Line>,
    pub(super) proxies: Vec<Proxy>,
    pub(super) filters: Vec<Filter>,
    pub(super) engines: Vec<Engine>,
    /// Whether there is a haproxy.cfg among the files.
    pub(super) has_main: bool,
    /// Every line of every haproxy.cfg.
    pub(super) main_lines: Vec<Line>,
    /// The names of the files.
    pub(super) names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Frontend,
    Backend,
    Listen,
}

/// A frontend, backend or listen section.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) kind: Kind,
    pub(super) section: Section,
    /// Lines of its `defaults`, the nearest last.
    inherited: Vec<Line>,
}

impl Proxy {
    pub(super) fn name(&self) -> &str {
        self.section.name()
    }

    pub(super) const fn place(&self) -> Place {
        self.section.place()
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.section.body
    }

    /// The last line that begins so, of its own or else inherited.
    pub(super) fn setting(&self, words: &[&str]) -> Option<&Line> {
        let all = self.inherited.iter().chain(&self.section.body);
        all.rev().find(|line| line.begins(words))
    }

    /// Whether an option is on.
    pub(super) fn has_option(&self, name: &str) -> bool {
        let all = self.inherited.iter().chain(&self.section.body);
        let last = all
            .rev()
            .find(|line| line.begins(&["option", name]) || line.begins(&["no", "option", name]));
        last.is_some_and(|line| line.word(0) == "option")
    }

    /// Its mode; tcp where nothing is said.
    pub(super) fn mode(&self) -> &str {
        self.setting(&["mode"]).map_or("tcp", |line| line.word(1))
    }

    /// A timeout, where one is set.
    pub(super) fn timeout(&self, name: &str) -> Option<Setting<'_>> {
        let line = self.setting(&["timeout", name])?;
        Some(Setting::new(line, 2))
    }

    /// Inherited and own lines.
    pub(super) fn all_lines(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.inherited.iter().chain(&self.section.body)
    }

    pub(super) fn is_frontend(&self) -> bool {
        self.kind != Kind::Backend
    }

    pub(super) fn is_backend(&self) -> bool {
        self.kind != Kind::Frontend
    }
}

/// A word that says how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'l> {
    pub(super) place: Place,
    pub(super) word: Option<&'l Word>,
}

impl<'l> Setting<'l> {
    pub(super) fn new(line: &'l Line, index: usize) -> Self {
        Self {
            place: line.place,
            word: line.words.get(index),
        }
    }

    /// How long; `None` if the environment says it, or it is no time. Zero is never.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.word
            .filter(|word| !word.is_open)
            .and_then(|word| parse_time(&word.text))
    }

    /// Whether it is there, or may be, and is no zero.
    pub(super) fn is_set(&self) -> bool {
        self.word.is_some() && self.duration() != Some(Duration::ZERO)
    }
}

/// A time of HAProxy: a number and its unit, milliseconds where there is none.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let microseconds = match unit {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    Some(Duration::from_micros(number.checked_mul(microseconds)?))
}

/// A `filter spoe` line.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) place: Place,
    /// The index of the proxy that has it.
    pub(super) proxy: usize,
    pub(super) engine: Option<Word>,
    pub(super) config: Option<Word>,
    /// The index of the engine, where its file is given.
    pub(super) target: Option<usize>,
}

/// All sections of one scope in one file.
#[derive(Debug)]
pub(super) struct Engine {
    /// `None` for what stands before the first `[scope]`.
    pub(super) scope: Option<String>,
    pub(super) place: Place,
    pub(super) agents: Vec<Section>,
    pub(super) messages: Vec<Section>,
    pub(super) groups: Vec<Section>,
    /// The index of the declaration it is held against.
    pub(super) declaration: Option<usize>,
}

impl Engine {
    /// Its name, in words.
    pub(super) fn name(&self) -> &str {
        match &self.scope {
            Some(scope) => scope,
            None => self.agents.first().map_or("", Section::name),
        }
    }

    pub(super) fn agent(&self) -> Option<&Section> {
        self.agents.first()
    }

    /// The agent's last line that begins so.
    pub(super) fn setting(&self, words: &[&str]) -> Option<&Line> {
        let lines = self.agent()?.body.iter();
        lines.rev().find(|line| line.begins(words))
    }

    pub(super) fn timeout(&self, name: &str) -> Option<Setting<'_>> {
        self.setting(&["timeout", name])
            .map(|line| Setting::new(line, 2))
    }

    /// The prefix of its variables; `None` if the environment decides on it.
    pub(super) fn prefix(&self) -> Option<&str> {
        match self.setting(&["option", "var-prefix"]) {
            Some(line) => {
                let word = line.words.get(2)?;
                (!word.is_open).then_some(&word.text)
            }
            None => self.agent().map(Section::name),
        }
    }

    /// What the agent lists on its lines of this keyword, with their places.
    pub(super) fn listed<'e>(
        &'e self,
        keyword: &'e str,
    ) -> impl Iterator<Item = (&'e Word, Place)> + 'e {
        let sections = self.agents.iter().take(1);
        sections.flat_map(move |section| listed(section, keyword))
    }

    /// The message sections that may be sent: listed by the agent, with an event or in a group.
    pub(super) fn message(&self, name: &str) -> Option<&Section> {
        self.messages.iter().find(|message| message.name() == name)
    }

    pub(super) fn group(&self, name: &str) -> Option<&Section> {
        self.groups.iter().find(|group| group.name() == name)
    }
}

/// What a section lists on its lines of this keyword.
pub(super) fn listed<'s>(
    section: &'s Section,
    keyword: &'s str,
) -> impl Iterator<Item = (&'s Word, Place)> + 's {
    let lines = section
        .body
        .iter()
        .filter(move |line| line.word(0) == keyword);
    lines.flat_map(|line| line.rest(1).iter().map(|word| (word, line.place)))
}

/// Reads all of them, and says what is no configuration.
pub(super) fn read(
    files: &[ConfigFile],
    version: Option<HaproxyVersion>,
    found: &mut Findings,
) -> Config {
    let raw = raw_lines(files, found);
    let version = version
        .or_else(|| guess(&raw))
        .unwrap_or(HaproxyVersion::V3_2);
    let mut config = Config {
        version,
        global: Vec::new(),
        proxies: Vec::new(),
        filters: Vec::new(),
        engines: Vec::new(),
        has_main: false,
        main_lines: Vec::new(),
        names: files.iter().map(|file| file.name.clone()).collect(),
    };
    let mut defaults = Vec::new();
    for (index, lines) in raw.into_iter().enumerate() {
        let is_main = lines.iter().any(|line| SECTIONS.contains(&line.word(0)));
        let begins_section = |line: &&Line| ENGINE_SECTIONS.contains(&line.word(0));
        let engine_line = lines.iter().find(begins_section).map(|line| line.place);
        let lines = read::follow_conditions(lines, version, found);
        match (is_main, engine_line) {
            (true, misplaced) => {
                if let Some(place) = misplaced {
                    found.error(
                        "section-misplaced",
                        place,
                        "a section of an SPOE engine stands in a haproxy.cfg: HAProxy does not start",
                        "put the engine's sections into a file of their own, which the filter line names: \
                         filter spoe engine NAME config FILE",
                    );
                }
                config.has_main = true;
                config.main_lines.extend(lines.iter().cloned());
                add_main(lines, &mut config, &mut defaults);
            }
            (false, Some(_)) => add_engines(lines, &mut config, found),
            (false, None) => found.warning(
                "file-unknown",
                Place {
                    file: index,
                    line: 1,
                },
                "this is neither a haproxy.cfg nor the file of an SPOE engine: it has no section of either",
                "name the file that has the frontends and backends, and the one that has spoe-agent",
            ),
        }
    }
    add_filters(&mut config);
    resolve(&mut config);
    config
}

/// The lines of each file, whatever version they are for.
pub(super) fn raw_lines(files: &[ConfigFile], found: &mut Findings) -> Vec<Vec<Line>> {
    let files = files.iter().enumerate();
    files
        .map(|(index, file)| read::lines(index, &file.text, found))
        .collect()
}

/// The version the files can only be for, if they say so.
pub(super) fn guess(files: &[Vec<Line>]) -> Option<HaproxyVersion> {
    let mut lines = files.iter().flatten();
    lines
        .any(|line| line.begins(&["mode", "spop"]))
        .then_some(HaproxyVersion::V3_2)
}

/// Cuts lines into sections; what stands before the first one is left out.
fn sections(lines: Vec<Line>, keywords: &[&str]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in lines {
        if keywords.contains(&line.word(0)) {
            sections.push(Section {
                head: line,
                body: Vec::new(),
                scope: None,
            });
        } else if let Some(section) = sections.last_mut() {
            section.body.push(line);
        }
    }
    sections
}

/// A `defaults` section: its name, and its lines after those that it inherits itself.
type Defaults = (String, Vec<Line>);

fn add_main(lines: Vec<Line>, config: &mut Config, defaults: &mut Vec<Defaults>) {
    for section in sections(lines, SECTIONS) {
        let kind = match section.keyword() {
            "global" => {
                config.global.extend(section.body);
                continue;
            }
            "defaults" => {
                let name = match section.name() {
                    "from" => "",
                    name => name,
                };
                let mut all = from(&section.head)
                    .map_or_else(Vec::new, |from| inherited(defaults, Some(from)));
                all.extend(section.body.iter().cloned());
                defaults.push((name.to_owned(), all));
                continue;
            }
            "frontend" => Kind::Frontend,
            "backend" => Kind::Backend,
            "listen" => Kind::Listen,
            _ => continue,
        };
        let inherited = inherited(defaults, from(&section.head));
        config.proxies.push(Proxy {
            kind,
            section,
            inherited,
        });
    }
}

/// The section that `from` names.
fn from(head: &Line) -> Option<&str> {
    let at = head.words.iter().position(|word| word.text == "from")?;
    head.words.get(at + 1).map(|word| word.text.as_str())
}

/// The lines of the named defaults, or of the last ones.
fn inherited(defaults: &[Defaults], name: Option<&str>) -> Vec<Line> {
    let mut all = defaults.iter().rev();
    let section = match name {
        Some(wanted) => all.find(|(name, _)| name == wanted),
        None => all.next(),
    };
    section.map_or_else(Vec::new, |(_, lines)| lines.clone())
}

fn add_engines(lines: Vec<Line>, config: &mut Config, found: &mut Findings) {
    let first = config.engines.len();
    let mut scope: Option<String> = None;
    let mut scope_place = None;
    let mut open: Option<Section> = None;
    let close = |section: Option<Section>, place: Option<Place>, config: &mut Config| {
        let Some(section) = section else {
            return;
        };
        let engines = &mut config.engines[first..];
        let known = engines
            .iter_mut()
            .position(|engine| engine.scope == section.scope);
        let index = known.map_or(config.engines.len(), |index| first + index);
        if known.is_none() {
            config.engines.push(Engine {
                scope: section.scope.clone(),
                place: place.unwrap_or_else(|| section.place()),
                agents: Vec::new(),
                messages: Vec::new(),
                groups: Vec::new(),
                declaration: None,
            });
        }
        let engine = &mut config.engines[index];
        match section.keyword() {
            "spoe-agent" => engine.agents.push(section),
            "spoe-message" => engine.messages.push(section),
            _ => engine.groups.push(section),
        }
    };
    for line in lines {
        let word = line.word(0);
        if let Some(rest) = word.strip_prefix('[') {
            close(open.take(), scope_place, config);
            let name = rest.strip_suffix(']').unwrap_or_default();
            if name.is_empty() || !name.chars().all(is_name_character) {
                found.error(
                    "syntax",
                    line.place,
                    format!("'{word}' is no scope: HAProxy does not start"),
                    "write [NAME], of letters, digits, '-', '_', '.' and ':'",
                );
            }
            scope = Some(name.to_owned());
            scope_place = Some(line.place);
        } else if ENGINE_SECTIONS.contains(&word) {
            close(open.take(), scope_place, config);
            let scope = scope.clone();
            open = Some(Section {
                head: line,
                body: Vec::new(),
                scope,
            });
        } else if let Some(section) = &mut open {
            section.body.push(line);
        } else {
            found.error(
                "keyword-unknown",
                line.place,
                format!("'{word}' stands in no section: HAProxy does not start"),
                "put it below a line with spoe-agent, spoe-message or spoe-group",
            );
        }
    }
    close(open, scope_place, config);
}

pub(super) fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | ':')
}

fn add_filters(config: &mut Config) {
    for (index, proxy) in config.proxies.iter().enumerate() {
        for line in proxy.lines() {
            if !line.begins(&["filter", "spoe"]) {
                continue;
            }
            let after = |keyword: &str| {
                let at = line.rest(2).iter().position(|word| word.text == keyword)?;
                line.words.get(2 + at + 1).cloned()
            };
            config.filters.push(Filter {
                place: line.place,
                proxy: index,
                engine: after("engine"),
                config: after("config"),
                target: None,
            });
        }
    }
}

/// The last part of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Finds each filter's engine: in the file it names, by path or by the last part of it, else in
/// whichever file has the engine, as samples are not where they are to be installed.
fn resolve(config: &mut Config) {
    let targets: Vec<_> = config
        .filters
        .iter()
        .map(|filter| {
            let name = filter.engine.as_ref().map(|word| word.text.as_str());
            let path = filter.config.as_ref().map_or("", |word| &word.text);
            let of_name = |engine: &Engine| engine.scope.as_deref() == name;
            let by = |is_file: &dyn Fn(&str) -> bool| {
                let mut engines = config.engines.iter();
                engines.position(|engine| {
                    of_name(engine)
                        && config
                            .names
                            .get(engine.place.file)
                            .is_some_and(|name| is_file(name))
                })
            };
            by(&|file| file == path)
                .or_else(|| by(&|file| base_name(file) == base_name(path)))
                .or_else(|| name.and_then(|_| by(&|_| true)))
                // An engine without a name is the one file's that has no scopes.
                .or_else(|| match name {
                    None if config.engines.len() == 1 => config.engines.iter().position(of_name),
                    _ => None,
                })
        })
        .collect();
    for (filter, target) in config.filters.iter_mut().zip(targets) {
        filter.target = target;
    }
}

impl Config {
    /// The filters that use this engine.
    pub(super) fn filters_of(&self, engine: usize) -> impl Iterator<Item = &Filter> {
        let filters = self.filters.iter();
        filters.filter(move |filter| filter.target == Some(engine))
    }

    /// The backend of this name.
    pub(super) fn backend(&self, name: &str) -> Option<&Proxy> {
        let mut proxies = self.proxies.iter();
        proxies.find(|proxy| proxy.is_backend() && proxy.name() == name)
    }

    /// The backend that an engine sends to, where it is known.
    pub(super) fn backend_of(&self, engine: &Engine) -> Option<&Proxy> {
        let line = engine.setting(&["use-backend"])?;
        let word = line.words.get(1).filter(|word| !word.is_open)?;
        self.backend(&word.text)
    }

    /// The last line of `global` that begins so.
    pub(super) fn global_setting(&self, words: &[&str]) -> Option<&Line> {
        self.global.iter().rev().find(|line| line.begins(words))
    }

    /// The size of HAProxy's buffers; `None` if the environment says it.
    pub(super) fn bufsize(&self) -> Option<u64> {
        const DEFAULT: u64 = 16_384;
        match self.global_setting(&["tune.bufsize"]) {
            None => Some(DEFAULT),
            Some(line) => line.words.get(1).and_then(parse_size),
        }
    }
}

/// A number of bytes, with HAProxy's units.
fn parse_size(word: &Word) -> Option<u64> {
    if word.is_open {
        return None;
    }
    let text = &word.text;
    let (number, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text.as_str(), 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        for (text, ms) in [
            ("100", Some(100)),
            ("100ms", Some(100)),
            ("2s", Some(2_000)),
            ("1m", Some(60_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("5000us", Some(5)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("99999999999999999999", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(parse_time(text), ms.map(Duration::from_millis), "{text}");
        }
        for (text, size) in [
            ("16384", Some(16_384)),
            ("64k", Some(65_536)),
            ("1M", Some(1 << 20)),
            ("k", None),
            ("", None),
        ] {
            let word = Word {
                text: text.to_owned(),
                is_open: false,
            };
            assert_eq!(parse_size(&word), size, "{text}");
        }
    }

    fn config(texts: &[&str]) -> Config {
        let files: Vec<_> = texts
            .iter()
            .map(|text| ConfigFile::new("f", *text))
            .collect();
        read(&files, None, &mut Findings::default())
    }

    #[test]
    fn proxies_inherit_from_the_last_defaults_or_the_named_ones() {
        let config = config(&["defaults\n mode http\n timeout connect 1s\n option a\n\
             defaults slow from none\n timeout connect 9s\n\
             frontend one from slow\n\
             backend two\n mode tcp\n no option a\n\
             defaults\n mode http\n option a\n\
             backend three\n timeout connect 2s\n no option a\n"]);
        let connect = |index: usize| {
            let proxy: &Proxy = &config.proxies[index];
            proxy.timeout("connect").and_then(|time| time.duration())
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            (connect(0), connect(1), connect(2)),
            (seconds(9), seconds(9), seconds(2))
        );
        let modes: Vec<_> = config.proxies.iter().map(Proxy::mode).collect();
        assert_eq!(modes, ["tcp", "tcp", "http"]);
        assert!(!config.proxies[2].has_option("a"));
    }

    #[test]
    fn scopes_may_come_twice_and_filters_find_their_engine() {
        let config = config(&[
            "frontend f\n filter spoe config x/e.cfg engine b\n filter spoe engine none config e.cfg\n",
            "spoe-agent free\n[b]\nspoe-agent b\n messages m n\n[c]\nspoe-agent c\n[b]\nspoe-message m\n",
        ]);
        let scopes: Vec<_> = config
            .engines
            .iter()
            .map(|engine| engine.scope.as_deref())
            .collect();
        assert_eq!(scopes, [None, Some("b"), Some("c")]);
        let engine = &config.engines[1];
        assert!(engine.message("m").is_some() && engine.listed("messages").count() == 2);
        let targets: Vec<_> = config.filters.iter().map(|filter| filter.target).collect();
        assert_eq!(targets, [Some(1), None]);
    }
}
