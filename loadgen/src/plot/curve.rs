//! The curve of a sweep: latency over rate.

use super::axis::{Axis, latency, plain, short_count, short_latency};
use super::chart::{self, Bound, Canvas, Chart, Line, WIDTH};
use super::theme::Ink;
use super::{PERCENTILES_HEIGHT, PlotError, series};
use crate::report::{Grouped, round, to_f64};
use crate::sweep::{Curve, Measurement, SweepVerdict};

/// From this ratio of the highest to the lowest rate on, equal ratios have equal widths.
const LOGARITHMIC_FROM: f64 = 30.0;

/// A line of the curve: its name, and its figure of a measurement.
type Percentile = (&'static str, fn(&Measurement) -> f64);

const PERCENTILES: [Percentile; 4] = [
    ("p50", |one| one.p50_us),
    ("p99", |one| one.p99_us),
    ("p99.9", |one| one.p999_us),
    ("max", |one| one.max_us),
];

/// Draws the latency of a sweep over its rates as an SVG.
///
/// # Errors
///
/// If nothing was measured.
pub fn plot_curve_svg(curve: &Curve) -> Result<String, PlotError> {
    let points = curve.points();
    let (Some(lowest), Some(highest)) = (points.first(), points.last()) else {
        return Err(PlotError::Empty("the sweep".to_owned()));
    };
    let best = points.iter().find(|one| Some(one.rate) == curve.best_rate);
    let figure = |one: Option<&&Measurement>, of: fn(&Measurement) -> f64| {
        one.map_or_else(|| "none".to_owned(), |one| latency(round(of(one) * 1e3)))
    };
    let legend: Vec<[String; 6]> = PERCENTILES
        .iter()
        .map(|(name, of)| {
            let [a, b, c] = [const { String::new() }; 3];
            let lowest = figure(Some(lowest), *of);
            [(*name).to_owned(), a, b, lowest, c, figure(best, *of)]
        })
        .collect();
    let names = ["", "", "at the lowest rate", "", "at the best rate"];
    let settings = match &curve.settings {
        Some(settings) => format!(
            "open loop, {} connections x {} in flight, profile {}, {}",
            Grouped(settings.connections as u64),
            Grouped(settings.in_flight as u64),
            settings.profile,
            settings.target
        ),
        None => String::new(),
    };
    let answer = curve.answer();
    let chart = chart_of(curve, &points, lowest.rate, highest.rate);
    let heading = chart::heading_height(legend.len(), 0);
    let size = (WIDTH, heading + PERCENTILES_HEIGHT);
    let draw = |canvas: &Canvas<'_>| {
        let (head, rest) = canvas.split_vertically(heading);
        chart::draw_heading(&head, "Latency over rate", &settings)?;
        chart::draw_legend(&head, names, &legend, &[])?;
        chart.draw(&rest)
    };
    chart::picture(size, series(PERCENTILES.len()), &answer, draw)
}

fn chart_of(curve: &Curve, points: &[&Measurement], lowest: u64, highest: u64) -> Chart {
    let logarithmic = to_f64(highest) / to_f64(lowest) >= LOGARITHMIC_FROM;
    let x = if logarithmic {
        Axis::logarithmic(to_f64(lowest), to_f64(highest), short_count)
    } else {
        Axis::linear(to_f64(highest), 8, short_count)
    };
    let place_x = |rate: u64| {
        if logarithmic {
            to_f64(rate).log10()
        } else {
            to_f64(rate)
        }
    };
    // A latency of nothing is none that a logarithm has.
    let place_y = |us: f64| (us * 1e3).max(1.0).log10();
    let bound_ns = curve.p99_below_us * 1e3;
    let all = || {
        let of_point = |one: &&Measurement| PERCENTILES.map(|(_, of)| of(one) * 1e3);
        let ns = points.iter().flat_map(of_point);
        ns.chain([bound_ns]).map(|ns| ns.max(1.0))
    };
    let y = Axis::logarithmic(
        all().fold(f64::INFINITY, f64::min),
        all().fold(0.0, f64::max),
        short_latency,
    );
    let lines = PERCENTILES.iter().enumerate().map(|(index, (_, of))| {
        let at = |one: &&Measurement| (place_x(one.rate), place_y(of(one)));
        let dot = |one: &&Measurement| (at(one), one.verdict == SweepVerdict::Pass);
        Line {
            ink: Ink::Series(series(index)),
            segments: vec![points.iter().map(at).collect()],
            dots: points.iter().map(dot).collect(),
        }
    });
    let mut bounds = vec![Bound::Y(
        bound_ns.log10(),
        format!("p99 below {}", short_latency(bound_ns)),
    )];
    if let Some(rate) = curve.best_rate {
        let text = format!("{} NOTIFYs/s", Grouped(rate));
        bounds.push(Bound::X(place_x(rate), text));
    }
    let generator = |one: &&&Measurement| one.verdict == SweepVerdict::Generator;
    let limited = points.iter().find(generator).is_some();
    let seconds = curve.settings.as_ref().map_or(0.0, |one| one.warmup_s);
    Chart {
        title: "Latency from the intended send time".to_owned(),
        x_title: format!(
            "NOTIFYs/s asked for (filled: passed; hollow: did not{}; each after {} s of warm-up)",
            if limited {
                ", and at the highest rate it was the generator"
            } else {
                ""
            },
            plain(seconds)
        ),
        x,
        y,
        lines: lines.collect(),
        bounds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::curve;

    #[test]
    fn a_curve_has_its_bound_and_its_answer() {
        for capacity in [1_500, 54_321] {
            let curve = curve(capacity);
            let svg = plot_curve_svg(&curve).unwrap();
            let tree = roxmltree::Document::parse(&svg).unwrap();
            let text: String = tree.descendants().filter_map(|node| node.text()).collect();
            for part in ["p99.9", "p99 below 500 us", "NOTIFYs/s", "127.0.0.1:1"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!svg.contains("=\"#0102"), "{svg}");
        }
    }

    #[test]
    fn nothing_measured_is_nothing_drawn() {
        let mut curve = curve(5_000);
        curve.measurements.clear();
        assert!(plot_curve_svg(&curve).is_err());
    }
}
