//! Pictures of saved runs: latency by percentile and throughput over time, as one SVG that needs
//! nothing else, or as a page around it with settings and figures.
//!
//! Knows runs and figures, not files. The plotting crate draws; what it cannot, a picture that is
//! right on light and dark pages, is in [`theme`].

mod axis;
mod chart;
mod curve;
mod page;
mod theme;

use std::fmt;

use hdrhistogram::Histogram;

use self::axis::{Axis, depth, latency, plain, short_count, short_latency, unit_of};
use self::chart::{Canvas, Chart, Line, WIDTH};
pub use self::curve::plot_curve_svg;
use self::theme::Ink;
use crate::report::{Grouped, LATE_US, round, to_f64};
use crate::saved::SavedRun;

/// More lines than this cannot be told apart.
const MAX_RUNS: usize = 12;

/// The height of both charts, in the picture's units.
const PERCENTILES_HEIGHT: u32 = 860;
const THROUGHPUT_HEIGHT: u32 = 480;

/// Points of the percentile line in a decade; the widest decade has some 1700 units.
const POINTS_PER_DECADE: u32 = 300;

/// Steps of the throughput line; a longer run has several seconds in one.
const MAX_STEPS: usize = 600;

/// A part of a second shorter than this says nothing about the rate.
const LEAST_PART_S: f64 = 0.05;

/// A run and what to call it.
#[derive(Clone, Debug)]
pub struct PlotRun<'a> {
    /// The name in the legend; any text.
    pub label: String,
    /// The run.
    pub run: &'a SavedRun,
}

/// What to draw of the runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlotOptions {
    /// Latency from the actual instead of the intended send time; default no. Hides the stalls of
    /// an open loop.
    pub uncorrected: bool,
    /// Latency on a logarithmic axis; default no.
    pub log_latency: bool,
}

/// Why nothing was drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlotError {
    /// There is no run.
    NoRun,
    /// There are too many runs: this many.
    TooMany(usize),
    /// The run of this label has no ACK in its histogram.
    Empty(String),
    /// The plotting crate failed.
    Drawing(String),
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRun => f.write_str("there is no run to plot; give at least one"),
            Self::TooMany(count) => write!(
                f,
                "{count} runs are too many for one plot; give at most {MAX_RUNS}"
            ),
            Self::Empty(label) => write!(
                f,
                "{label}: no ACK was counted in this run, so it has no percentiles; leave it out"
            ),
            Self::Drawing(reason) => write!(f, "drawing: {reason}"),
        }
    }
}

impl std::error::Error for PlotError {}

impl PlotRun<'_> {
    fn histogram(&self, options: PlotOptions) -> &Histogram<u64> {
        if options.uncorrected {
            &self.run.uncorrected
        } else {
            &self.run.corrected
        }
    }

    /// What the reader must know about the figures, if anything.
    fn note(&self) -> Option<String> {
        let results = &self.run.results;
        let mut parts = Vec::new();
        if results.errors > 0 {
            parts.push(format!("{} errors", Grouped(results.errors)));
        }
        if results.unsent > 0 {
            parts.push(format!(
                "{} NOTIFYs were never sent and are missing here",
                Grouped(results.unsent)
            ));
        }
        if results.late_p99_us > LATE_US {
            parts.push("the generator itself was late, which the latencies contain".to_owned());
        }
        (!parts.is_empty()).then(|| format!("{}: {}", self.label, parts.join(", ")))
    }
}

/// Draws the runs as an SVG.
///
/// # Errors
///
/// If there is no run, or more than 12, or one without a single ACK.
pub fn plot_svg(runs: &[PlotRun<'_>], options: PlotOptions) -> Result<String, PlotError> {
    check(runs, options)?;
    let mut notes: Vec<String> = runs.iter().filter_map(PlotRun::note).collect();
    notes.extend(differing(runs));
    let legend: Vec<[String; 6]> = runs.iter().map(|run| legend_row(run, options)).collect();
    let heading = chart::heading_height(legend.len(), notes.len());
    let size = (WIDTH, heading + PERCENTILES_HEIGHT + THROUGHPUT_HEIGHT);
    let draw = |canvas: &Canvas<'_>| {
        let (head, rest) = canvas.split_vertically(heading);
        let (upper, lower) = rest.split_vertically(PERCENTILES_HEIGHT);
        chart::draw_heading(&head, "Latency and throughput", &settings_line(runs))?;
        chart::draw_legend(
            &head,
            ["frames/s", "p50", "p99", "p99.9", "max"],
            &legend,
            &notes,
        )?;
        percentiles(runs, options).draw(&upper)?;
        throughput(runs).draw(&lower)
    };
    let labels: Vec<&str> = runs.iter().map(|run| run.label.as_str()).collect();
    let title = format!("Latency and throughput of {}", labels.join(", "));
    chart::picture(size, series(runs.len()), &title, draw)
}

/// Draws the runs as an HTML page with the picture, the figures and the settings.
///
/// # Errors
///
/// As [`plot_svg`].
pub fn plot_html(runs: &[PlotRun<'_>], options: PlotOptions) -> Result<String, PlotError> {
    Ok(page::page(runs, options, &plot_svg(runs, options)?))
}

fn check(runs: &[PlotRun<'_>], options: PlotOptions) -> Result<(), PlotError> {
    if runs.is_empty() {
        return Err(PlotError::NoRun);
    }
    if runs.len() > MAX_RUNS {
        return Err(PlotError::TooMany(runs.len()));
    }
    match runs.iter().find(|run| run.histogram(options).is_empty()) {
        Some(run) => Err(PlotError::Empty(run.label.clone())),
        None => Ok(()),
    }
}

/// The number of a series, of which there are few.
fn series(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

fn legend_row(run: &PlotRun<'_>, options: PlotOptions) -> [String; 6] {
    let histogram = run.histogram(options);
    let at = |quantile| latency(histogram.value_at_quantile(quantile));
    [
        run.label.clone(),
        Grouped(round(run.run.results.frames_per_second)).to_string(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    ]
}

/// What is not alike in how the runs were made: a difference of the curves may be one of the load.
fn differing(runs: &[PlotRun<'_>]) -> Option<String> {
    type Setting = (&'static str, fn(&SavedRun) -> String);
    const SETTINGS: [Setting; 6] = [
        ("loop", |run| run.settings.loop_kind.clone()),
        ("connections", |run| run.settings.connections.to_string()),
        ("in flight", |run| run.settings.in_flight_asked.to_string()),
        ("rate", |run| format!("{:?}", run.settings.rate)),
        ("profile", |run| run.settings.profile.clone()),
        ("kernel", |run| run.settings.kernel.clone()),
    ];
    let differs = |of: &fn(&SavedRun) -> String| {
        let first = of(runs[0].run);
        runs.iter().any(|one| of(one.run) != first)
    };
    let names: Vec<&str> = SETTINGS
        .iter()
        .filter(|(_, of)| differs(of))
        .map(|(name, _)| *name)
        .collect();
    (!names.is_empty()).then(|| format!("The runs are not alike in: {}", names.join(", ")))
}

/// What all the runs have in common.
fn settings_line(runs: &[PlotRun<'_>]) -> String {
    let common = |of: &dyn Fn(&SavedRun) -> String| {
        let first = of(runs.first()?.run);
        runs.iter().all(|run| of(run.run) == first).then_some(first)
    };
    let parts = [
        common(&|run| match run.settings.rate {
            Some(rate) => format!("open loop at {}/s", Grouped(rate)),
            None => "closed loop".to_owned(),
        }),
        common(&|run| {
            let settings = &run.settings;
            format!(
                "{} connections x {} in flight",
                Grouped(settings.connections as u64),
                Grouped(settings.in_flight as u64)
            )
        }),
        common(&|run| format!("profile {}", run.settings.profile)),
        common(&|run| {
            let seconds: f64 = rounds(run).iter().map(|(_, seconds)| seconds).sum();
            let rounds = match rounds(run).len() {
                1 => String::new(),
                count => format!(" in {count} rounds"),
            };
            format!(
                "{} s measured{rounds}",
                plain((seconds * 100.0).round() / 100.0)
            )
        }),
        common(&|run| run.settings.target.clone()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn percentiles(runs: &[PlotRun<'_>], options: PlotOptions) -> Chart {
    let histograms = || runs.iter().map(|run| run.histogram(options));
    let samples = histograms().map(Histogram::len).max().unwrap_or(0);
    let max_ns = to_f64(histograms().map(Histogram::max).max().unwrap_or(0)).max(1.0);
    let min_ns = to_f64(histograms().map(Histogram::min).min().unwrap_or(0)).max(1.0);
    let open = runs.iter().any(|run| run.run.settings.rate.is_some());
    let since = match (options.uncorrected, open) {
        (true, true) => " from the actual send time (uncorrected)",
        (false, true) => " from the intended send time",
        (_, false) => " from the write of a NOTIFY",
    };
    let (unit, unit_ns) = unit_of(max_ns);
    let (y, unit) = if options.log_latency {
        let axis = Axis::logarithmic(min_ns, max_ns, short_latency);
        (axis, String::new())
    } else {
        let axis = Axis::linear(max_ns / unit_ns, 6, plain);
        (axis, format!(", {unit}"))
    };
    let place = |ns: u64| {
        let ns = to_f64(ns).max(1.0);
        if options.log_latency {
            ns.log10()
        } else {
            ns / unit_ns
        }
    };
    let lines = histograms().enumerate().map(|(index, histogram)| {
        let end = depth(histogram.len());
        let mut points: Vec<_> = (0..)
            .map(|point| f64::from(point) / f64::from(POINTS_PER_DECADE))
            .take_while(|decades| *decades < end)
            .map(|decades| {
                let quantile = 1.0 - 10_f64.powf(-decades);
                (decades, place(histogram.value_at_quantile(quantile)))
            })
            .collect();
        let last = (end, place(histogram.max()));
        points.push(last);
        Line {
            ink: Ink::Series(series(index)),
            segments: vec![points],
            dots: vec![(last, true)],
        }
    });
    Chart {
        title: format!("Latency{since}{unit}"),
        x_title: "percentile of all ACKs (dot: the longest latency)".to_owned(),
        x: Axis::percentiles(samples),
        y,
        lines: lines.collect(),
        bounds: Vec::new(),
    }
}

/// The rounds of a run: ACKs of each second, and the seconds.
fn rounds(run: &SavedRun) -> Vec<(&[u64], f64)> {
    run.rounds
        .iter()
        .map(|round| (round.frames_by_second.as_slice(), round.results.duration_s))
        .collect()
}

fn throughput(runs: &[PlotRun<'_>]) -> Chart {
    let lines: Vec<Line> = runs
        .iter()
        .enumerate()
        .map(|(index, run)| Line {
            ink: Ink::Series(series(index)),
            segments: steps(&rounds(run.run)),
            dots: Vec::new(),
        })
        .collect();
    let points = || lines.iter().flat_map(|line| line.segments.iter().flatten());
    let seconds = points().map(|point| point.0).fold(0.0, f64::max);
    let rate = points().map(|point| point.1).fold(0.0, f64::max);
    Chart {
        title: "Throughput, frames/s".to_owned(),
        x_title: if runs.iter().any(|run| rounds(run.run).len() > 1) {
            "measured time, s, the rounds one after the other".to_owned()
        } else {
            "measured time, s".to_owned()
        },
        x: Axis::linear_exact(seconds, 10, plain),
        y: Axis::linear(rate, 4, short_count),
        lines,
        bounds: Vec::new(),
    }
}

/// The rate of each second as a level line, so that one second can be seen too. Each round is a
/// line of its own after the one before.
fn steps(rounds: &[(&[u64], f64)]) -> Vec<Vec<(f64, f64)>> {
    let count: usize = rounds.iter().map(|(seconds, _)| seconds.len()).sum();
    let at_once = count.div_ceil(MAX_STEPS).max(1);
    let mut start_s = 0.0;
    let mut segments = Vec::new();
    for (seconds, duration_s) in rounds {
        let mut points = Vec::new();
        let mut from_s = 0.0;
        for part in seconds.chunks(at_once) {
            let to_s = duration_s.min(from_s + to_f64(part.len() as u64));
            if to_s - from_s >= LEAST_PART_S {
                let rate = to_f64(part.iter().sum()) / (to_s - from_s);
                points.extend([(start_s + from_s, rate), (start_s + to_s, rate)]);
            }
            from_s = to_s;
        }
        start_s += duration_s;
        segments.push(points);
    }
    segments.retain(|points| !points.is_empty());
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::new_histogram;
    use crate::report::tests::sample;

    const NASTY: &str = "<b>\"R&D\"</b> 'stroke=\"#010210\"' \u{1}\u{7f}";

    fn plotted(runs: &[PlotRun<'_>]) -> String {
        let options = PlotOptions::default();
        let page = plot_html(runs, options).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>\n"));
        for link in ["<script", "<link", "src=", "href=", "url(", "<b>"] {
            assert!(!page.contains(link), "{link}");
        }
        let svg = plot_svg(runs, options).unwrap();
        assert!(page.contains(&svg));
        // No stand-in is left where a colour belongs.
        assert!(!svg.contains("=\"#0102"), "{svg}");
        svg
    }

    fn texts(svg: &str) -> Vec<String> {
        let tree = roxmltree::Document::parse(svg).unwrap();
        let texts = tree.descendants().filter(|node| node.has_tag_name("text"));
        texts
            .filter_map(|node| node.text())
            .map(|text| text.trim().to_owned())
            .collect()
    }

    fn shapes(svg: &str, class: &str) -> usize {
        svg.matches(&format!("class=\"{class}\"")).count()
    }

    #[test]
    fn unlike_runs_and_a_late_generator_are_named() {
        const UNLIKE: &str = "The runs are not alike in: rate";
        let (mut one, mut other) = (sample(Some(5_000)), sample(Some(5_000)));
        one.results.late_p99_us = 5.0;
        other.results.late_p99_us = 5.0;
        let svg = |other: &SavedRun| {
            let labels = ["a", "b"].map(str::to_owned);
            let runs: Vec<_> = labels
                .into_iter()
                .zip([&one, other])
                .map(|(label, run)| PlotRun { label, run })
                .collect();
            plotted(&runs)
        };
        let alike = svg(&other);
        assert!(!alike.contains(UNLIKE) && !alike.contains("itself was late"));
        other.settings.rate = Some(2_000);
        other.results.late_p99_us = 5_000.0;
        let svg = svg(&other);
        for part in [UNLIKE, "the generator itself was late"] {
            assert!(svg.contains(part), "{part}");
        }
    }

    #[test]
    fn one_run_and_many() {
        let run = sample(Some(5_000));
        for count in [1, 6, MAX_RUNS] {
            let runs: Vec<_> = (0..count)
                .map(|index| PlotRun {
                    label: format!("run {index}"),
                    run: &run,
                })
                .collect();
            let svg = plotted(&runs);
            let texts = texts(&svg);
            for run in &runs {
                assert!(texts.contains(&run.label), "{}", run.label);
            }
            assert!(texts.contains(&"99.999%".to_owned()), "{texts:?}");
            // In the legend, of percentiles, of throughput; and the dot of the longest latency.
            let last = 16 + count - 1;
            assert_eq!(shapes(&svg, &format!("k{last}")), 3, "{count}");
            assert_eq!(shapes(&svg, &format!("f{last}")), 1, "{count}");
        }
    }

    #[test]
    fn any_text_is_drawn_as_it_is() {
        let mut run = sample(Some(5_000));
        run.settings.target = format!("unix:{NASTY}");
        run.settings.profile = NASTY.to_owned();
        let label = NASTY.to_owned();
        let svg = plotted(&[PlotRun { label, run: &run }]);
        let shown = NASTY.replace(['\u{1}', '\u{7f}'], "\u{fffd}");
        assert!(texts(&svg).contains(&shown), "{svg}");
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        fn runs(run: &SavedRun) -> Vec<PlotRun<'_>> {
            let label = "quiet".to_owned();
            vec![PlotRun { label, run }; MAX_RUNS + 1]
        }
        let options = PlotOptions::default();
        assert_eq!(plot_svg(&[], options), Err(PlotError::NoRun));
        let mut run = sample(None);
        let error = plot_svg(&runs(&run), options).unwrap_err();
        assert!(error.to_string().contains("at most 12"), "{error}");
        run.corrected = new_histogram();
        let error = plot_svg(&runs(&run)[..1], options).unwrap_err();
        assert!(error.to_string().starts_with("quiet: no ACK"), "{error}");
    }

    #[test]
    fn one_sample_and_one_second_are_seen() {
        let mut run = sample(None);
        run.corrected = new_histogram();
        run.corrected.record(42_000).unwrap();
        run.rounds.truncate(1);
        run.rounds[0].frames_by_second = vec![1];
        run.rounds[0].results.duration_s = 0.5;
        for log_latency in [false, true] {
            let runs = [PlotRun {
                label: "one".to_owned(),
                run: &run,
            }];
            let options = PlotOptions {
                log_latency,
                ..PlotOptions::default()
            };
            let svg = plot_svg(&runs, options).unwrap();
            assert_eq!(shapes(&svg, "f16"), 1);
            assert!(texts(&svg).contains(&"42.0 us".to_owned()), "{svg}");
        }
        assert_eq!(steps(&rounds(&run)), [[(0.0, 2.0), (0.5, 2.0)]]);
    }

    #[test]
    fn rounds_follow_each_other_and_long_runs_are_thinned() {
        let rounds: [(&[u64], f64); 2] = [(&[10, 20, 0], 2.01), (&[30], 1.0)];
        assert_eq!(
            steps(&rounds),
            [
                vec![(0.0, 10.0), (1.0, 10.0), (1.0, 20.0), (2.0, 20.0)],
                vec![(2.01, 30.0), (3.01, 30.0)],
            ]
        );
        let day = vec![7_u64; 86_400];
        let steps = steps(&[(&day, 86_400.0)]);
        assert_eq!(steps[0].len(), 2 * MAX_STEPS);
        assert!(steps[0].iter().all(|(_, rate)| *rate == 7.0));
    }
}
