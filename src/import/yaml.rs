//! YAML as the configuration of CrowdSec's bouncer has it: texts, lists and tables, each with its place.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Deeper tables than the ten or so levels of a configuration are a mistake, and would end the stack.
const MAX_DEPTH: usize = 64;
/// What aliases may repeat: a few lines can stand for billions of nodes.
const MAX_REPEATED: usize = 10_000;

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    file: Rc<str>,
    line: usize,
}

impl Place {
    pub(super) fn start_of(path: &Path) -> Self {
        let file = path.display().to_string().into();
        Self { file, line: 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// As it is written: what it is depends on who reads it, so that a key of digits stays one.
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Value {
    /// What it is, for messages; not its text, which may be a secret.
    pub(super) const fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    fn node_count(&self) -> usize {
        let below = |nodes: &mut dyn Iterator<Item = &Node>| -> usize {
            nodes.map(|node| node.value.node_count()).sum()
        };
        1 + match self {
            Self::Null | Self::Text(_) => 0,
            Self::List(nodes) => below(&mut nodes.iter()),
            Self::Table(entries) => below(&mut entries.iter().map(|(_, node)| node)),
        }
    }
}

impl Node {
    /// Reads the first document of a text; without one it is an empty table. `path` is for messages.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, String> {
        let Place { file, .. } = Place::start_of(path);
        let mut reader = Reader {
            events: Parser::new_from_str(text),
            file,
            anchors: HashMap::new(),
            repeated: 0,
        };
        loop {
            match reader.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd, place) => {
                    let value = Value::Table(Vec::new());
                    return Ok(Self { place, value });
                }
                (event, place) => return reader.node(event, place, 0),
            }
        }
    }

    /// Puts another one over it: tables are merged, and all else is replaced.
    pub(super) fn overlay(&mut self, other: Self) {
        match (&mut self.value, other) {
            (
                Value::Table(entries),
                Self {
                    value: Value::Table(others),
                    ..
                },
            ) => {
                for (key, node) in others {
                    match entries.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known)) => known.overlay(node),
                        None => entries.push((key, node)),
                    }
                }
            }
            (_, other) => *self = other,
        }
    }

    /// Puts the variables of the environment in the place of `${NAME}`; one that is not set stays as it
    /// is written. Returns the names of those that were set, and of those that were not.
    pub(super) fn expand(
        &mut self,
        variable: &dyn Fn(&str) -> Option<String>,
        (set, unset): (&mut BTreeSet<String>, &mut BTreeSet<String>),
    ) {
        match &mut self.value {
            Value::Null => {}
            Value::Text(text) => {
                *text = expanded(text, |name| {
                    let value = variable(name);
                    let names = if value.is_some() {
                        &mut *set
                    } else {
                        &mut *unset
                    };
                    names.insert(name.to_owned());
                    value
                });
            }
            Value::List(nodes) => {
                for node in nodes {
                    node.expand(variable, (set, unset));
                }
            }
            Value::Table(entries) => {
                for (_, node) in entries {
                    node.expand(variable, (set, unset));
                }
            }
        }
    }
}

fn expanded(text: &str, mut variable: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out += before;
        let Some((name, behind)) = after.split_once('}') else {
            return out + "${" + after;
        };
        match variable(name) {
            Some(value) => out += &value,
            None => out.extend(["${", name, "}"]),
        }
        rest = behind;
    }
    out + rest
}

struct Reader<'t> {
    events: Parser<'t, saphyr_parser::StrInput<'t>>,
    file: Rc<str>,
    anchors: HashMap<usize, Node>,
    repeated: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Place), String> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, self.place(span))),
            Some(Err(error)) => Err(self.error(&error)),
            None => Err(format!("{}: it ends too early", self.file)),
        }
    }

    fn place(&self, span: Span) -> Place {
        let file = Rc::clone(&self.file);
        let line = span.start.line();
        Place { file, line }
    }

    fn error(&self, error: &ScanError) -> String {
        format!(
            "{} line {}: {}",
            self.file,
            error.marker().line(),
            error.info()
        )
    }

    fn node(&mut self, event: Event<'t>, place: Place, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("{place}: more than {MAX_DEPTH} levels"));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor);
                let mut node = known
                    .cloned()
                    .ok_or_else(|| format!("{place}: what it refers to is not whole here"))?;
                self.repeated += node.value.node_count();
                if self.repeated > MAX_REPEATED {
                    return Err(format!("{place}: it stands for too much"));
                }
                node.place = place;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null {
                    Value::Null
                } else {
                    Value::Text(text.into_owned())
                };
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let mut nodes = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, place) => nodes.push(self.node(event, place, depth + 1)?),
                    }
                }
                (Value::List(nodes), anchor)
            }
            Event::MappingStart(anchor, _) => (self.table(depth)?, anchor),
            other => return Err(format!("{place}: {other:?} is not expected here")),
        };
        let node = Node { place, value };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn table(&mut self, depth: usize) -> Result<Value, String> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        // What `<<` takes in: keys of other tables, which those that are written here go before.
        let mut merged: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                for (key, node) in merged {
                    if !entries.iter().any(|(known, _)| *known == key) {
                        entries.push((key, node));
                    }
                }
                return Ok(Value::Table(entries));
            }
            let Event::Scalar(key, style, ..) = event else {
                return Err(format!("{place}: a key is a text"));
            };
            if key == "<<" && style == ScalarStyle::Plain {
                let (event, place) = self.next()?;
                let node = self.node(event, place.clone(), depth + 1)?;
                let nodes = match node.value {
                    Value::List(nodes) => nodes,
                    _ => vec![node],
                };
                for node in nodes {
                    let Value::Table(entries) = node.value else {
                        let what = node.value.what();
                        return Err(format!("{place}: << takes in tables, and not {what}"));
                    };
                    merged.extend(entries);
                }
                continue;
            }
            if entries.iter().any(|(known, _)| *known == *key) {
                return Err(format!("{place}: the key {key:?} is there twice"));
            }
            let (event, place) = self.next()?;
            let node = self.node(event, place, depth + 1)?;
            entries.push((key.into_owned(), node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Node, String> {
        Node::parse(text, Path::new("a.yaml"))
    }

    /// Without places.
    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Text(text) => text.clone(),
            Value::List(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(shown).collect();
                format!("[{}]", nodes.join(","))
            }
            Value::Table(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, node)| format!("{key}:{}", shown(node)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    #[test]
    fn documents_are_read_as_they_are_written() {
        for (text, expected) in [
            ("", "{}"),
            ("# nothing\n", "{}"),
            ("a: 0123\nb: 'x: y'\nc:\n", "{a:0123,b:x: y,c:null}"),
            ("a: ''\nb: '~'\nc: ~\n", "{a:,b:~,c:null}"),
            ("---\na:\n  - b: 1\n    c: 2\n  - d\n", "{a:[{b:1,c:2},d]}"),
            ("a: &x {b: 1}\nc: *x\n", "{a:{b:1},c:{b:1}}"),
            ("a: |\n  one\n  two\n", "{a:one\ntwo\n}"),
            ("a: 1\n---\na: 2\n", "{a:1}"),
            (
                "a: &x {b: 1, c: {d: 2}}\ne:\n  <<: *x\n  b: 3\n",
                "{a:{b:1,c:{d:2}},e:{b:3,c:{d:2}}}",
            ),
            // The first of several, and what is behind them, go before the others.
            (
                "x: &x {b: 1}\ny: &y {b: 2, c: 3}\ne: {<<: [*x, *y], c: 4}\n",
                "{x:{b:1},y:{b:2,c:3},e:{c:4,b:1}}",
            ),
            ("a: {'<<': 1}\n", "{a:{<<:1}}"),
        ] {
            assert_eq!(shown(&parse(text).unwrap()), expected, "{text:?}");
        }
        let Value::Table(entries) = parse("\na: 1\nb: 2\n").unwrap().value else {
            panic!("a table");
        };
        assert_eq!(entries[1].1.place.to_string(), "a.yaml line 3");
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_line() {
        for (text, part) in [
            ("a: 1\nb: [1\n", "a.yaml line"),
            ("a: 1\na: 2\n", "line 2: the key \"a\" is there twice"),
            ("[a]: 1\n", "a key is a text"),
            ("a: *b\n", "a.yaml line 1"),
            ("a: {<<: 1}\n", "line 1: << takes in tables, and not a text"),
            (&"[".repeat(100), "levels"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error} lacks {part}");
        }
        let mut bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{},", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{before}]\n");
        }
        assert!(parse(&bomb).unwrap_err().contains("too much"));
    }

    #[test]
    fn a_local_file_goes_over_tables_and_replaces_the_rest() {
        let mut node = parse("a: {b: 1, c: 2}\nd: [1, 2]\ne: 1\n").unwrap();
        node.overlay(parse("a: {c: 3, f: 4}\nd: [5]\ng: 6\n").unwrap());
        assert_eq!(shown(&node), "{a:{b:1,c:3,f:4},d:[5],e:1,g:6}");
    }

    #[test]
    fn variables_are_expanded_in_braces_alone() {
        let variable = |name: &str| (name == "A").then(|| "one".to_owned());
        let mut node = parse("a: x${A}y${B}\nb: ['$A', '${A', '${A}${A}']\n").unwrap();
        let (mut set, mut unset) = (BTreeSet::new(), BTreeSet::new());
        node.expand(&variable, (&mut set, &mut unset));
        assert_eq!(shown(&node), "{a:xoney${B},b:[$A,${A,oneone]}");
        assert_eq!((set, unset), (["A".into()].into(), ["B".into()].into()));
    }
}
