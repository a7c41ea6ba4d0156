//! `plot`: saved runs as a picture.

use std::path::{Path, PathBuf};

use clap::Args;
use ringspoa_loadgen::{PlotOptions, PlotRun, SavedRun, plot_html, plot_svg};

use crate::commands::{Exit, Failure, Output, distinct, load, once};

/// The flags of `plot`.
#[derive(Debug, Args)]
#[command(
    after_help = "The picture shows latency by percentile (each step to the right leaves a tenth \
    of the ACKs) and throughput over time. It is one file that loads nothing else, and is dark where \
    the reader's system is.\n\n\
    Exit codes: 0 it was written; 1 it could not be; 2 wrong flags."
)]
pub(crate) struct PlotArgs {
    /// Files that --output of a run wrote, at most 12.
    #[arg(value_name = "RUN.json", required = true)]
    runs: Vec<PathBuf>,
    /// Where to write it: .svg for the picture, .html for a page with figures and settings too.
    #[arg(long, short, value_name = "FILE.svg|FILE.html")]
    output: PathBuf,
    /// Names for the legend, in the order of the files; without this, those that `ab` was given, or
    /// of the files.
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    labels: Vec<String>,
    /// Latencies from the actual send time, which hide the stalls of an open loop.
    #[arg(long)]
    uncorrected: bool,
    /// Latencies on a logarithmic axis.
    #[arg(long)]
    log_latency: bool,
}

/// What the name of a picture's file asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Svg,
    Html,
}

/// Loads, draws, writes.
pub(crate) fn execute(args: &PlotArgs) -> Result<Exit, Failure> {
    let kind = kind(&args.output)?;
    once(&args.runs)?;
    for run in &args.runs {
        distinct(("--output", &args.output), ("a run", run))?;
    }
    let runs: Vec<SavedRun> = args
        .runs
        .iter()
        .map(|path| load(path))
        .collect::<Result<_, _>>()?;
    let names: Vec<_> = runs
        .iter()
        .map(|run| run.settings.name.as_deref())
        .collect();
    let labels = labels(&args.runs, &names, &args.labels)?;
    let runs: Vec<PlotRun<'_>> = labels
        .into_iter()
        .zip(&runs)
        .map(|(label, run)| PlotRun { label, run })
        .collect();
    let options = PlotOptions {
        uncorrected: args.uncorrected,
        log_latency: args.log_latency,
    };
    let picture = match kind {
        Kind::Svg => plot_svg(&runs, options),
        Kind::Html => plot_html(&runs, options),
    };
    let picture = picture.map_err(Failure::failed)?;
    Output::create("--output", &args.output)?.write_text(&picture)?;
    Ok(Exit::Success)
}

fn kind(path: &Path) -> Result<Kind, Failure> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("svg") => Ok(Kind::Svg),
        Some("html" | "htm") => Ok(Kind::Html),
        _ => Err(Failure::flags(format!(
            "--output {}: give a name that ends in .svg or .html",
            path.display()
        ))),
    }
}

/// A name for each run: as given, or the one it was saved with, or the file's without `.json`, or,
/// where two would have the same, the whole path.
fn labels(
    paths: &[PathBuf],
    names: &[Option<&str>],
    given: &[String],
) -> Result<Vec<String>, Failure> {
    if !given.is_empty() {
        if given.len() != paths.len() {
            return Err(Failure::flags(format!(
                "--labels: {} names for {} files; give one for each, separated by commas",
                given.len(),
                paths.len()
            )));
        }
        return Ok(given.to_vec());
    }
    let stem = |path: &PathBuf| {
        path.file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
    };
    let short: Vec<String> = paths
        .iter()
        .zip(names)
        .map(|(path, name)| name.map_or_else(|| stem(path), str::to_owned))
        .collect();
    let unique = |label: &String| short.iter().filter(|one| *one == label).count() == 1;
    let label = |(label, path): (&String, &PathBuf)| {
        if unique(label) {
            label.clone()
        } else {
            path.display().to_string()
        }
    };
    Ok(short.iter().zip(paths).map(label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_names_that_differ() {
        let paths = ["a/x.json", "b/x.json", "b/y.json"].map(PathBuf::from);
        let none = [None; 3];
        assert_eq!(
            labels(&paths, &none, &[]).unwrap(),
            ["a/x.json", "b/x.json", "y"]
        );
        let named = [Some("new"), Some("old"), None];
        assert_eq!(labels(&paths, &named, &[]).unwrap(), ["new", "old", "y"]);
        let given = ["1", "2", "3"].map(str::to_owned);
        assert_eq!(labels(&paths, &named, &given).unwrap(), given);
        let failure = labels(&paths, &none, &given[..2]).unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(
            failure.text.contains("2 names for 3 files"),
            "{}",
            failure.text
        );
    }

    #[test]
    fn the_name_of_the_output_says_what_it_is() {
        assert_eq!(kind(Path::new("a.svg")).unwrap(), Kind::Svg);
        assert_eq!(kind(Path::new("a.b/c.HTML")).unwrap(), Kind::Html);
        let failure = kind(Path::new("plot.png")).unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(failure.text.contains(".svg or .html"), "{}", failure.text);
    }
}
