//! What is shown to those who watch: the metrics of the real binary, and the files of dist/ that
//! speak of them.

mod exposition;
mod handshake;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exposition::{Served, parse};
use handshake::shake_hands;
use ringspoa::families;
use ringspoa::spop::{
    Argument, Frame, FrameId, FrameType, HaproxyHello, NotifyWriter, StreamId, TypedData,
};
use serde_json::Value;

const FRAME_SIZE: u32 = 16_380;

fn dist(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A family as dist/metrics.md has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    name: String,
    kind: String,
    labels: Vec<String>,
    help: String,
}

/// What names of families begin with.
const OF_FAMILIES: [&str; 4] = ["ringspoa_", "process_", "lapi_", "crowdsec_"];

/// The table of families that are always there, in its order.
fn table() -> Vec<Row> {
    let rows = table_below("All metrics");
    assert!(rows.len() > 30, "the table was not found");
    rows
}

/// All families that there may be.
fn all_families() -> Vec<Row> {
    let mut rows = table();
    for heading in ["With `[remediation]`", "With `[challenge]`"] {
        let more = table_below(heading);
        assert!(more.len() > 5, "the table of {heading} was not found");
        rows.extend(more);
    }
    rows
}

/// The table of families below a heading, in its order.
fn table_below(heading: &str) -> Vec<Row> {
    let text = dist("metrics.md");
    let heading = format!("## {heading}\n");
    let after = text.split(&heading).nth(1).expect("the heading");
    let section = after.split("\n## ").next().unwrap();
    let is_row = |line: &&str| {
        // Not what tables of a label's values have.
        let name = line.strip_prefix("| `");
        name.is_some_and(|name| OF_FAMILIES.iter().any(|start| name.starts_with(start)))
    };
    let rows = section.lines().filter(is_row);
    rows.map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, help, _] = cells[..] else {
            panic!("a row has four cells: {line}")
        };
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`'));
        Row {
            name: name.trim_matches('`').to_owned(),
            kind: kind.to_owned(),
            labels: labels
                .filter(|l| !l.is_empty())
                .map(str::to_owned)
                .collect(),
            help: help.to_owned(),
        }
    })
    .collect()
}

/// The binary, ended by its pid whatever the test does.
struct Serving {
    child: Child,
    listen: String,
    admin: String,
}

impl Serving {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let started = lines.next().unwrap().unwrap();
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let after = |what: &str| {
            let rest = started.split(what).nth(1).expect(&started);
            rest.split(';').next().unwrap().to_owned()
        };
        let (listen, admin) = (after("listening on "), after("admin on "));
        Self {
            child,
            listen,
            admin,
        }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.listen).unwrap();
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).unwrap();
        socket
    }

    /// The answer to a GET: its head and its body.
    fn get(&self, path: &str) -> (String, String) {
        let mut socket = TcpStream::connect(&self.admin).unwrap();
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.admin
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        (head.to_owned(), body.to_owned())
    }

    fn metrics(&self) -> Vec<Served> {
        let (head, body) = self.get("/metrics");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("Content-Type: text/plain; version=0.0.4"),
            "{head}"
        );
        parse(&body).unwrap_or_else(|why| panic!("{why}\n{body}"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks with one message, or none, and takes the answer.
fn ask(socket: &mut TcpStream, stream_id: u64, message: Option<&str>) -> FrameType {
    let mut buffer = [0; 1024];
    let mut notify =
        NotifyWriter::begin(&mut buffer, FRAME_SIZE, StreamId(stream_id), FrameId(1)).unwrap();
    if let Some(name) = message {
        let address = TypedData::Ipv4([192, 0, 2, 1].into());
        notify
            .message(name, [Argument::new("ip", address)])
            .unwrap();
    }
    let len = notify.finish();
    socket.write_all(&buffer[..len]).unwrap();
    take(socket)
}

fn take(socket: &mut TcpStream) -> FrameType {
    let (mut buffer, mut filled) = ([0; 1024], 0);
    loop {
        let len = socket.read(&mut buffer[filled..]).unwrap();
        assert_ne!(len, 0, "the server closed");
        filled += len;
        if let Some((frame, _)) = Frame::split(&buffer[..filled], FRAME_SIZE).unwrap() {
            return frame.frame_type;
        }
    }
}

fn check_health(socket: &mut TcpStream) {
    let hello = HaproxyHello {
        supported_versions: b"2.0",
        max_frame_size: FRAME_SIZE,
        capabilities: b"pipelining",
        engine_id: None,
        healthcheck: true,
    };
    let mut buffer = [0; 256];
    let len = hello.encode(&mut buffer).unwrap();
    socket.write_all(&buffer[..len]).unwrap();
    assert_eq!(take(socket), FrameType::AgentHello);
}

fn family<'a>(served: &'a [Served], name: &str) -> &'a Served {
    let found = served.iter().find(|family| family.name == name);
    found.unwrap_or_else(|| panic!("{name} is not served"))
}

/// A name that a label can only hold with escapes.
const AWKWARD: &str = "a\"b\\c\nd";

/// Messages that one core tells apart, those without a name and those beyond included.
const MESSAGES: usize = 32;

#[test]
fn the_binary_serves_what_the_table_says() {
    let serving = Serving::start();
    let mut socket = serving.connect();
    shake_hands(&mut socket);
    let invented: Vec<_> = (0..40).map(|number| format!("invented-{number}")).collect();
    let mut messages = vec![None, Some("check-client-ip"), Some(AWKWARD)];
    messages.extend(invented.iter().map(|name| Some(name.as_str())));
    messages.push(Some("check-client-ip"));
    for (stream_id, message) in (1..).zip(&messages) {
        assert_eq!(ask(&mut socket, stream_id, *message), FrameType::Ack);
    }
    let asked = messages.len() as f64;
    // One that is not what it claims to be: a message's name that goes on behind the frame's end.
    let invalid = b"\0\0\0\x08\x03\0\0\0\x01\x01\x01\x7f";
    socket.write_all(invalid).unwrap();
    assert_eq!(take(&mut socket), FrameType::AgentDisconnect);
    drop(socket);
    check_health(&mut serving.connect());
    drop(serving.connect());

    let end = Instant::now() + Duration::from_secs(10);
    let served = loop {
        let served = serving.metrics();
        let sum = |name: &str| family(&served, name).sum("", &[]);
        if sum("ringspoa_connections_silent_total") == 1.0
            && sum("ringspoa_core_connections") == 0.0
        {
            break served;
        }
        assert!(Instant::now() < end, "{served:?}");
        std::thread::sleep(Duration::from_millis(20));
    };

    let rows: Vec<_> = served
        .iter()
        .map(|family| {
            let names = family.label_names();
            let names = names
                .first()
                .unwrap_or_else(|| panic!("{} has no sample to see its labels by", family.name));
            Row {
                name: family.name.clone(),
                kind: family.kind.clone(),
                labels: names.iter().map(|&name| name.to_owned()).collect(),
                help: family.help.clone(),
            }
        })
        .collect();
    let table = table();
    for row in &rows {
        assert!(table.contains(row), "dist/metrics.md lacks\n{row:?}");
    }
    for row in &table {
        assert!(
            rows.contains(row),
            "dist/metrics.md has, and /metrics has not\n{row:?}"
        );
    }
    assert_eq!(rows, table, "the order, or a row twice");
    for (family, row) in families().iter().zip(&table) {
        assert_eq!(
            (family.name, family.labels),
            (&*row.name, &*row.labels.join(","))
        );
    }

    let sum = |name: &str, labels: &[(&str, &str)]| family(&served, name).sum("", labels);
    assert_eq!(sum("ringspoa_core_notifies_total", &[]), asked + 1.0);
    assert_eq!(sum("ringspoa_notifies_total", &[]), asked + 1.0);
    assert_eq!(
        sum("ringspoa_notifies_total", &[("message", "check-client-ip")]),
        2.0
    );
    assert_eq!(sum("ringspoa_notifies_total", &[("message", AWKWARD)]), 1.0);
    assert_eq!(
        sum("ringspoa_answers_total", &[("outcome", "answered")]),
        asked
    );
    assert_eq!(
        sum("ringspoa_answers_total", &[("outcome", "invalid")]),
        1.0
    );
    assert_eq!(sum("ringspoa_answers_total", &[]), asked + 1.0);
    assert_eq!(
        sum("ringspoa_health_checks_total", &[("result", "ok")]),
        1.0
    );
    assert_eq!(
        sum("ringspoa_disconnects_sent_total", &[("status", "4")]),
        1.0
    );
    assert_eq!(sum("ringspoa_connections_total", &[]), 3.0);
    let times = family(&served, "ringspoa_service_time_seconds");
    assert_eq!(times.sum("_count", &[]), asked);
    assert!(times.sum("_sum", &[]) > 0.0);

    // However many names there are.
    let names: BTreeSet<_> = family(&served, "ringspoa_notifies_total")
        .samples
        .iter()
        .filter_map(|sample| sample.label("message"))
        .collect();
    assert_eq!(names.len(), MESSAGES);
    assert!(
        names.contains("(none)") && names.contains("(other)"),
        "{names:?}"
    );
    let series = ["ringspoa_notifies_total", "ringspoa_answers_total"].map(|name| {
        let of = family(&served, name);
        of.samples.len()
    });
    let series = series.iter().sum::<usize>() + times.samples.len();
    let said = format!("{} series for a message", series / MESSAGES);
    assert!(
        dist("metrics.md").contains(&said),
        "dist/metrics.md lacks: {said}"
    );
}

#[test]
fn health_and_readiness_are_served() {
    let serving = Serving::start();
    for path in ["/healthz", "/readyz"] {
        let (head, body) = serving.get(path);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, "ok\n");
    }
}

#[test]
fn the_reader_takes_only_what_every_scraper_takes() {
    let histogram = |samples: &str| format!("# HELP a A.\n# TYPE a histogram\n{samples}");
    let counter = |samples: &str| format!("# HELP a_total A.\n# TYPE a_total counter\n{samples}");
    let whole = histogram("a_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 3\na_sum 4.5\na_count 3\n");
    for text in [
        counter("a_total{b=\"c\\\\d\\\"e\\nf\",g=\"\"} 1\n"),
        counter(""),
        whole.clone(),
    ] {
        parse(&text).unwrap();
    }
    let read = parse(&counter("a_total{b=\"c\\\\d\\\"e\\nf,}\"} 1\n")).unwrap();
    assert_eq!(read[0].samples[0].label("b"), Some("c\\d\"e\nf,}"));
    for (text, part) in [
        (counter("a_total 1"), "no end"),
        (counter("a_total 1\n\n"), "no value"),
        (counter("a_total 1\na_total 2\n"), "twice"),
        (
            counter("a_total{b=\"1\",c=\"2\"} 1\na_total{c=\"2\",b=\"1\"} 2\n"),
            "twice",
        ),
        (counter("a_total{b=\"1\",b=\"2\"} 1\n"), "b twice"),
        (
            counter("a_total{b=\"1\"} 1\na_total{c=\"1\"} 1\n"),
            "different labels",
        ),
        (counter("a_total{b=\"1\" } 1\n"), "without an end"),
        (counter("a_total{b=\"\\t\"} 1\n"), "wrong escape"),
        (counter("a_total{b=\"1} 1\n"), "without an end"),
        (counter("a_total{1b=\"1\"} 1\n"), "not a label"),
        (counter("a_total{le=\"1\"} 1\n"), "le is for buckets"),
        (counter("a_total -1\n"), "cannot be"),
        (counter("a_total 1 1700000000\n"), "no number"),
        (counter("a_total  1\n"), "no number"),
        (counter("a_total inf\n"), "no number"),
        (counter("b_total 1\n"), "another family"),
        (counter("a_total_sum 1\n"), "does not belong"),
        ("a 1\n".to_owned(), "no family yet"),
        ("# HELP a A.\na 1\n".to_owned(), "between HELP and TYPE"),
        ("# HELP a A.\n".to_owned(), "HELP without TYPE"),
        ("# HELP a A.\n# TYPE b gauge\n".to_owned(), "another family"),
        (
            "# TYPE a gauge\n# HELP a A.\n".to_owned(),
            "TYPE without HELP",
        ),
        (
            "# HELP a A\\t.\n# TYPE a gauge\n".to_owned(),
            "wrong escape",
        ),
        (
            "# HELP a A.\n# TYPE a counter\n".to_owned(),
            "ends in _total",
        ),
        ("# HELP a A.\n# TYPE a summary\n".to_owned(), "no such type"),
        (
            "# HELP a_total A.\n# TYPE a_total gauge\n".to_owned(),
            "another type",
        ),
        (counter(&counter("")), "two places"),
        (whole.replace(" 3\na_sum", " 1\na_sum"), "comes"),
        (whole.replace("le=\"1\"", "le=\"+Inf\""), "twice"),
        (
            whole.replace("a_count 3", "a_count 4"),
            "+Inf is not the count",
        ),
        (whole.replace("+Inf", "2"), "+Inf is not the count"),
        (whole.replace("a_sum 4.5\n", ""), "no sum and count"),
        (whole.replace("_bucket", ""), "does not belong"),
        (
            histogram("a_bucket{le=\"+Inf\"} 0\na_sum 1\na_count 0\n"),
            "sum of nothing",
        ),
    ] {
        let error = parse(&text).expect_err(&text);
        assert!(error.contains(part), "{error} lacks {part}");
    }
}

/// What an expression of PromQL names.
#[derive(Debug, Default)]
struct Uses {
    /// Metrics, with the labels that they are selected by.
    metrics: Vec<(String, Vec<String>)>,
    /// Labels that are summed by or matched on.
    groups: Vec<String>,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Not all of the language: what the files of dist/ use of it.
fn uses(expression: &str) -> Uses {
    let mut uses = Uses::default();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| is_word(c) || c == '"') {
        rest = &rest[start..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = text.split_once('"').expect(expression).1;
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = (&rest[..end], rest[end..].trim_start());
        rest = after;
        let names = |list: &str| {
            let names = list.split(',').map(|part| {
                let part = part.trim();
                part[..part.find(|c| !is_word(c)).unwrap_or(part.len())].to_owned()
            });
            names.collect::<Vec<_>>()
        };
        if ["by", "on", "without", "ignoring", "group_left"].contains(&word) {
            let list = after.strip_prefix('(').expect(expression);
            let (list, behind) = list.split_once(')').expect(expression);
            uses.groups.extend(names(list));
            rest = behind;
        } else if OF_FAMILIES.iter().any(|start| word.starts_with(start)) {
            let mut selected = Vec::new();
            if let Some(list) = after.strip_prefix('{') {
                let (list, behind) = list.split_once('}').expect(expression);
                selected = names(list);
                rest = behind;
            }
            uses.metrics.push((word.to_owned(), selected));
        }
    }
    uses
}

/// Labels that a scraper adds.
const OF_THE_SCRAPER: [&str; 2] = ["instance", "job"];

/// Checks an expression against the table; the families that it uses.
fn check_expression(expression: &str, table: &[Row]) -> Vec<Row> {
    let uses = uses(expression);
    let mut used = Vec::new();
    for (metric, selected) in &uses.metrics {
        let row = table.iter().find(|row| match row.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|suffix| metric.strip_suffix(suffix) == Some(&row.name)),
            _ => *metric == row.name,
        });
        let row = row.unwrap_or_else(|| panic!("no metric {metric}: {expression}"));
        for label in selected {
            assert!(
                has_label(std::slice::from_ref(row), label),
                "{metric} has no {label}: {expression}"
            );
        }
        let is_rate = |function: &str| {
            let call = format!("{function}({metric}");
            expression.contains(&call)
        };
        let of_growth = ["rate", "increase"]
            .iter()
            .any(|function| is_rate(function));
        // Grafana's panels of totals aside, a counter means nothing but by its growth.
        assert!(
            row.kind == "gauge" || of_growth || expression.starts_with(metric),
            "{metric} is not a gauge: {expression}"
        );
        assert!(
            row.kind != "gauge" || !of_growth,
            "{metric} is a gauge: {expression}"
        );
        used.push(row.clone());
    }
    for label in &uses.groups {
        assert!(has_label(&used, label), "nothing has {label}: {expression}");
    }
    used
}

fn has_label(rows: &[Row], label: &str) -> bool {
    OF_THE_SCRAPER.contains(&label)
        || rows
            .iter()
            .any(|row| row.labels.iter().any(|of_row| of_row == label))
}

/// Families that no panel shows, and why.
const NOT_SHOWN: [(&str, &str); 1] = [(
    "process_start_time_seconds",
    "ringspoa_start_time_seconds says it; this name is for dashboards of all kinds of programs",
)];

#[test]
fn the_dashboard_uses_what_there_is_and_all_of_it() {
    let dashboard: Value = serde_json::from_str(&dist("grafana-dashboard.json")).unwrap();
    let (table, families) = (table(), all_families());
    let variables: Vec<_> = list(&dashboard["templating"]["list"])
        .iter()
        .map(|variable| text(&variable["name"]))
        .collect();
    assert_eq!(variables, ["DS_PROMETHEUS", "instance"]);
    assert_eq!(
        text(&dashboard["templating"]["list"][0]["type"]),
        "datasource"
    );
    let of_instances = text(&dashboard["templating"]["list"][1]["query"]["query"]);
    check_expression(of_instances, &table);

    let mut shown = BTreeSet::new();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeMap::new());
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        let id = panel["id"].as_u64().expect(title);
        assert!(ids.insert(id), "{title}: id {id} is another panel's");
        let place = |key: &str| panel["gridPos"][key].as_u64().expect(title);
        assert!(place("w") > 0 && place("h") > 0, "{title} has no size");
        assert!(
            place("x") + place("w") <= 24,
            "{title} is beyond the right edge"
        );
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                if let Some(other) = places.insert((x, y), title) {
                    panic!("{title} lies on {other}");
                }
            }
        }
        if panel["type"] == "row" {
            assert_eq!(place("w"), 24, "{title} is a row");
            continue;
        }
        assert!(
            !text(&panel["description"]).is_empty(),
            "{title} says nothing"
        );
        let targets = list(&panel["targets"]);
        assert!(!targets.is_empty(), "{title} shows nothing");
        let mut references = BTreeSet::new();
        for target in targets {
            for part in [panel, target] {
                let source = text(&part["datasource"]["uid"]);
                assert_eq!(source, "${DS_PROMETHEUS}", "{title}");
            }
            assert!(
                references.insert(text(&target["refId"])),
                "{title}: a refId twice"
            );
            let expression = text(&target["expr"]);
            let used = check_expression(expression, &families);
            assert!(!used.is_empty(), "{title} uses none: {expression}");
            let metrics = uses(expression).metrics.len();
            let selections = expression.matches("instance=~\"$instance\"").count();
            assert_eq!(
                selections, metrics,
                "{title}, of which instances: {expression}"
            );
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            for part in legend.split("{{").skip(1) {
                let label = part.split("}}").next().unwrap();
                assert!(
                    has_label(&used, label),
                    "{title}: {{{{{label}}}}} of {expression}"
                );
            }
            shown.extend(used.into_iter().map(|row| row.name));
        }
    }
    assert!(ids.len() > 20, "the panels were not found");
    let remediation = table_below("With `[remediation]`");
    for row in table.iter().chain(&remediation) {
        let reason = NOT_SHOWN.iter().find(|(name, _)| *name == row.name);
        assert_ne!(
            shown.contains(&row.name),
            reason.is_some(),
            "{} is shown, or on the list of those that are not: {reason:?}",
            row.name
        );
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// An alert of dist/prometheus.rules.yml.
#[derive(Debug, Default, PartialEq, Eq)]
struct Alert {
    name: String,
    expression: String,
    after: String,
    severity: String,
}

/// Not all of YAML: `key: value`, and an expression folded over lines that are further in.
fn alerts() -> Vec<Alert> {
    let (rules, mut alerts) = (dist("prometheus.rules.yml"), Vec::<Alert>::new());
    let mut folded = None;
    for line in rules.lines() {
        let indent = line.len() - line.trim_start().len();
        if folded.is_some_and(|of| indent > of) {
            let expression = &mut alerts.last_mut().unwrap().expression;
            *expression = format!("{expression} {}", line.trim()).trim().to_owned();
            continue;
        }
        folded = None;
        let Some((key, value)) = line.trim_start().split_once(": ") else {
            continue;
        };
        if key == "- alert" {
            alerts.push(Alert {
                name: value.to_owned(),
                ..Alert::default()
            });
        }
        let Some(alert) = alerts.last_mut() else {
            continue;
        };
        match key {
            "expr" if value == ">-" => folded = Some(indent),
            "expr" => alert.expression = value.to_owned(),
            "for" => alert.after = value.to_owned(),
            "severity" => alert.severity = value.to_owned(),
            _ => {}
        }
    }
    alerts
}

/// What dist/metrics.md says of alerts: a heading, a sentence or two, the expression.
fn explained_alerts() -> Vec<Alert> {
    let text = dist("metrics.md");
    let sections = text.split("\n### `").skip(1);
    sections
        .map(|section| {
            let (name, rest) = section.split_once("`: ").expect(section);
            let (heading, rest) = rest.split_once('\n').expect(section);
            let (severity, after) = heading.split_once(" after ").expect(section);
            let code = rest.split("```promql\n").nth(1).expect(section);
            let lines = code.split("\n```").next().unwrap().lines();
            Alert {
                name: name.to_owned(),
                expression: lines.map(str::trim).collect::<Vec<_>>().join(" "),
                after: after.to_owned(),
                severity: severity.to_owned(),
            }
        })
        .collect()
}

#[test]
fn the_alerts_are_the_ones_explained_and_use_what_there_is() {
    let (alerts, table) = (alerts(), all_families());
    assert!(alerts.len() > 5, "{alerts:?}");
    assert_eq!(alerts, explained_alerts());
    let mut names = BTreeSet::new();
    for alert in &alerts {
        assert!(names.insert(&alert.name), "{} twice", alert.name);
        let is_of_scraper = alert.expression.starts_with("up{");
        let used = check_expression(&alert.expression, &table);
        assert_ne!(used.is_empty(), !is_of_scraper, "{alert:?}");
    }
}

#[test]
fn what_remediation_depends_on_has_alerts() {
    let used: BTreeSet<_> = alerts()
        .iter()
        .flat_map(|alert| uses(&alert.expression).metrics)
        .map(|(metric, _)| metric)
        .collect();
    for metric in [
        "ringspoa_appsec_total",
        "ringspoa_breakers_open",
        "ringspoa_captcha_total",
        "ringspoa_decisions",
        "ringspoa_geo_database_build_timestamp_seconds",
        "ringspoa_geo_database_failing",
        "ringspoa_source_failing",
        "ringspoa_source_staleness_seconds",
        "lapi_requests_failures_total",
    ] {
        assert!(used.contains(metric), "no alert has {metric}");
    }
}

#[test]
fn expressions_are_held_to_the_table() {
    let table = table();
    check_expression(
        "sum by (message) (rate(ringspoa_notifies_total{instance=\"a\"}[5m]))",
        &table,
    );
    for expression in [
        "rate(ringspoa_notifys_total[5m])",
        "rate(ringspoa_service_time_seconds[5m])",
        "rate(ringspoa_notifies_total_sum[5m])",
        "rate(ringspoa_notifies_total{msg=\"a\"}[5m])",
        "sum by (core) (rate(ringspoa_notifies_total[5m]))",
        "sum(ringspoa_notifies_total)",
        "rate(ringspoa_core_in_flight[5m])",
    ] {
        let result = std::panic::catch_unwind(|| check_expression(expression, &table));
        assert!(result.is_err(), "{expression}");
    }
}
