//! A reader of the text format of Prometheus (version 0.0.4) that takes nothing it need not take:
//! what it accepts, every scraper does.

use std::collections::{BTreeMap, BTreeSet};

/// One family as it was served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

impl Served {
    /// The names of the labels of its samples, in order of appearance.
    pub(crate) fn label_names(&self) -> BTreeSet<Vec<&str>> {
        // The sum and the count of a histogram have no `le`.
        let is_part = |sample: &&Sample| matches!(sample.suffix.as_str(), "_sum" | "_count");
        let whole = self.samples.iter().filter(|sample| !is_part(sample));
        whole.map(Sample::label_names).collect()
    }

    /// The sum of the samples that have all these labels.
    pub(crate) fn sum(&self, suffix: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |sample: &&Sample| {
            sample.suffix == suffix && labels.iter().all(|&(name, value)| sample.has(name, value))
        };
        let samples = self.samples.iter().filter(wanted);
        samples.map(|sample| sample.value).sum()
    }
}

/// One sample: what its name has behind the family's, its labels, its number.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) suffix: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.label(name) == Some(value)
    }

    fn label_names(&self) -> Vec<&str> {
        self.labels.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Reads a whole text, or says what is wrong with it and where.
pub(crate) fn parse(text: &str) -> Result<Vec<Served>, String> {
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut families: Vec<Served> = Vec::new();
    let mut help = None;
    for (index, line) in text[..text.len() - 1].split('\n').enumerate() {
        let at = |why: &str| format!("line {}: {why}: {line}", index + 1);
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').ok_or_else(|| at("no help"))?;
            if help.is_some() {
                return Err(at("HELP after HELP"));
            }
            if families.iter().any(|family| family.name == name) {
                return Err(at("a family in two places"));
            }
            if !is_name(name, true) {
                return Err(at("not a name"));
            }
            let text = unescape(text, &[]).ok_or_else(|| at("wrong escape"))?;
            help = Some((name.to_owned(), text));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| at("no type"))?;
            let (helped, help) = help
                .take()
                .ok_or_else(|| at("TYPE without HELP before it"))?;
            if helped != name {
                return Err(at("TYPE of another family than HELP"));
            }
            check_kind(name, kind).map_err(|why| at(&why))?;
            families.push(Served {
                name: name.to_owned(),
                kind: kind.to_owned(),
                help,
                samples: Vec::new(),
            });
        } else {
            if help.is_some() {
                return Err(at("a sample between HELP and TYPE"));
            }
            let family = families.last_mut().ok_or_else(|| at("no family yet"))?;
            let sample = parse_sample(family, line).map_err(|why| at(&why))?;
            family.samples.push(sample);
        }
    }
    if help.is_some() {
        return Err("HELP without TYPE at the end".to_owned());
    }
    for family in &families {
        check_family(family).map_err(|why| format!("{}: {why}", family.name))?;
    }
    Ok(families)
}

fn is_name(name: &str, of_metric: bool) -> bool {
    let allowed = |c: char| c.is_ascii_alphabetic() || c == '_' || (of_metric && c == ':');
    name.starts_with(allowed) && name.chars().all(|c| allowed(c) || c.is_ascii_digit())
}

/// Takes `\\` and `\n` back, and what else may be escaped; `None` if something else is, or a line
/// break or one of `others` stands there as it is.
fn unescape(text: &str, others: &[char]) -> Option<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                other if others.contains(&other) => other,
                _ => return None,
            },
            '\r' => return None,
            other if others.contains(&other) => return None,
            other => other,
        });
    }
    Some(plain)
}

fn check_kind(name: &str, kind: &str) -> Result<(), String> {
    let suffixes = ["_bucket", "_sum", "_count", "_total"];
    let suffix = suffixes.iter().find(|suffix| name.ends_with(**suffix));
    match (kind, suffix) {
        ("counter", Some(&"_total")) | ("gauge" | "histogram", None) => Ok(()),
        ("counter", _) => Err("a counter's name ends in _total".to_owned()),
        ("gauge" | "histogram", Some(suffix)) => Err(format!("{suffix} is of another type")),
        _ => Err("no such type here".to_owned()),
    }
}

fn parse_sample(family: &Served, line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let suffix = line[..end]
        .strip_prefix(family.name.as_str())
        .ok_or("a sample of another family")?;
    let allowed = match family.kind.as_str() {
        "histogram" => &["_bucket", "_sum", "_count"][..],
        _ => &[""],
    };
    if !allowed.contains(&suffix) {
        return Err(format!("{suffix} does not belong to a {}", family.kind));
    }
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), &line[end..]),
    };
    let number = rest.strip_prefix(' ').ok_or("no space before the value")?;
    Ok(Sample {
        suffix: suffix.to_owned(),
        labels,
        value: parse_value(number)?,
    })
}

type Labels = Vec<(String, String)>;

/// `name="value",...}`, and what follows.
fn parse_labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name, false) || name.starts_with("__") {
            return Err(format!("'{name}' is not a label"));
        }
        if labels.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} twice in a sample"));
        }
        let mut escaped = false;
        let end = after.find(|c: char| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        let end = end.ok_or("a label's value without an end")?;
        let value = unescape(&after[..end], &['"']).ok_or("wrong escape")?;
        labels.push((name.to_owned(), value));
        let behind = &after[end + 1..];
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                let behind = behind.strip_prefix('}').ok_or("labels without an end")?;
                return Ok((labels, behind));
            }
        }
    }
}

/// No time may follow: what is served is of now.
fn parse_value(text: &str) -> Result<f64, String> {
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_digit() || ".+-eE".contains(c));
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if is_plain => text.parse().map_err(|_| format!("'{text}' is no number")),
        _ => Err(format!("'{text}' is no number")),
    }
}

fn check_family(family: &Served) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.sort_unstable();
        if !seen.insert((sample.suffix.clone(), labels)) {
            return Err(format!("twice: {sample:?}"));
        }
        let may_fall = family.kind == "gauge";
        if sample.value.is_nan() || !(may_fall || sample.value >= 0.0) {
            return Err(format!("such a number cannot be: {sample:?}"));
        }
        let has_bound = sample.label("le").is_some();
        if has_bound != (sample.suffix == "_bucket") {
            return Err(format!("le is for buckets, and only for them: {sample:?}"));
        }
    }
    if family.label_names().len() > 1 {
        return Err("samples with different labels".to_owned());
    }
    if family.kind == "histogram" {
        let mut histograms: BTreeMap<Labels, Vec<&Sample>> = BTreeMap::new();
        for sample in &family.samples {
            let labels = sample.labels.iter().filter(|(name, _)| name != "le");
            let of = histograms.entry(labels.cloned().collect()).or_default();
            of.push(sample);
        }
        for (labels, samples) in histograms {
            check_histogram(&samples).map_err(|why| format!("{labels:?}: {why}"))?;
        }
    }
    Ok(())
}

/// Buckets by their bounds and cumulative, the last of them without a bound, then sum and count.
fn check_histogram(samples: &[&Sample]) -> Result<(), String> {
    let [buckets @ .., sum, count] = samples else {
        return Err("not whole".to_owned());
    };
    if (sum.suffix.as_str(), count.suffix.as_str()) != ("_sum", "_count") {
        return Err("no sum and count at its end".to_owned());
    }
    let mut before = (f64::NEG_INFINITY, 0.0);
    for bucket in buckets {
        let bound = bucket.label("le").ok_or("sum or count among the buckets")?;
        let bound = parse_value(bound)?;
        if bound <= before.0 || bucket.value < before.1 {
            return Err(format!("after {before:?} comes {bucket:?}"));
        }
        before = (bound, bucket.value);
    }
    if before != (f64::INFINITY, count.value) {
        return Err(format!("+Inf is not the count: {before:?}, {count:?}"));
    }
    if count.value == 0.0 && sum.value != 0.0 {
        return Err("a sum of nothing".to_owned());
    }
    Ok(())
}
