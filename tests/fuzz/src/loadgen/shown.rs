//! What is shown of a saved run, whatever its figures are.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use hdrhistogram::Histogram;
use ringspoa_loadgen::{
    Comparison, Contestant, LatencyUnit, PlotOptions, PlotRun, Results, SavedRun, percentile_csv,
    percentile_distribution, plot_html, plot_svg,
};

use super::saved::SAMPLE;

/// Two runs with figures as a file may have them.
fn runs(choices: &mut Unstructured<'_>) -> [SavedRun; 2] {
    static RUN: OnceLock<SavedRun> = OnceLock::new();
    let sample = RUN.get_or_init(sample);
    [(); 2].map(|()| {
        let mut run = sample.clone();
        // Choices that run out leave what is not chosen as it is in the sample.
        let _ = change(&mut run, choices);
        run
    })
}

/// They are compared and listed.
pub fn shown(data: &[u8]) {
    let runs = runs(&mut Unstructured::new(data));
    let [first, second] = &runs;
    let contestants = [("a", first), ("b", second)].map(|(source, run)| Contestant { source, run });
    if let Ok(comparison) = Comparison::new(&contestants, &|_| true) {
        assert!(!comparison.to_string().is_empty());
        assert!(comparison.to_json().is_ok());
        if comparison.has_intervals() {
            let _ = comparison.slower(5.0);
        }
    }
    for run in &runs {
        assert!(!run.table().to_string().is_empty());
        assert!(run.to_json().is_ok());
        let is_empty = run.corrected.is_empty();
        let csv = percentile_csv(&run.corrected, LatencyUnit::Microseconds);
        let text = percentile_distribution(&run.corrected, LatencyUnit::Microseconds);
        assert_eq!((csv.is_err(), text.is_err()), (is_empty, is_empty));
    }
}

/// They are drawn, which takes a hundred times as long.
pub fn picture(data: &[u8]) {
    let mut choices = Unstructured::new(data);
    let options = PlotOptions {
        uncorrected: choices.arbitrary().unwrap_or(false),
        log_latency: choices.arbitrary().unwrap_or(false),
    };
    let html = choices.arbitrary().unwrap_or(false);
    let label = choices.arbitrary().unwrap_or("run").to_owned();
    let runs = runs(&mut choices);
    let runs: Vec<_> = runs
        .iter()
        .map(|run| PlotRun {
            label: label.clone(),
            run,
        })
        .collect();
    let drawn = if html {
        plot_html(&runs, options)
    } else {
        plot_svg(&runs, options)
    };
    match drawn {
        Ok(picture) => assert!(picture.len() < 1 << 20, "{} bytes", picture.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A run with histograms of one digit, which are as good here and a hundred times as fast.
fn sample() -> SavedRun {
    let mut run = SavedRun::from_json(SAMPLE.as_bytes()).expect("it is a saved run");
    let small = |histogram: &mut Histogram<u64>| {
        let mut copy = Histogram::new_with_bounds(1, 60_000_000_000, 1).expect("these are bounds");
        copy.add(&*histogram).expect("the bounds are the same");
        *histogram = copy;
    };
    let SavedRun {
        corrected,
        uncorrected,
        rounds,
        ..
    } = &mut run;
    small(corrected);
    small(uncorrected);
    for round in rounds {
        small(&mut round.corrected);
        small(&mut round.uncorrected);
        round.late = None;
    }
    run
}

fn change(run: &mut SavedRun, choices: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..choices.int_in_range(0..=2)? {
        let more = run.rounds[0].clone();
        run.rounds.push(more);
    }
    run.settings.rate = choices.arbitrary()?;
    run.settings.connections = choices.arbitrary()?;
    run.settings.in_flight = choices.arbitrary()?;
    run.settings.duration_asked_s = Some(figure(choices)?);
    change_results(&mut run.results, choices)?;
    for _ in 0..choices.int_in_range(0..=8)? {
        let count: u32 = if choices.arbitrary()? {
            1
        } else {
            choices.arbitrary()?
        };
        let value = choices.arbitrary()?;
        run.corrected
            .saturating_record_n(value, u64::from(count) << 24);
        run.uncorrected.saturating_record(choices.arbitrary()?);
    }
    if choices.ratio(1, 8)? {
        run.corrected.reset();
    }
    for round in &mut run.rounds {
        change_results(&mut round.results, choices)?;
        round.frames_by_second.clear();
        for _ in 0..choices.int_in_range(0..=8)? {
            round.frames_by_second.push(choices.arbitrary()?);
        }
        round.corrected.saturating_record(choices.arbitrary()?);
        round.pair = choices.arbitrary()?;
    }
    Ok(())
}

fn change_results(results: &mut Results, choices: &mut Unstructured<'_>) -> Result<()> {
    for figure_of in [
        &mut results.duration_s,
        &mut results.frames_per_second,
        &mut results.p50_us,
        &mut results.p99_us,
        &mut results.p999_us,
        &mut results.max_us,
        &mut results.uncorrected_p99_us,
        &mut results.late_p99_us,
        &mut results.cpu_us_per_frame,
        &mut results.cpu_busy,
    ] {
        if choices.arbitrary()? {
            *figure_of = figure(choices)?;
        }
    }
    for count in [
        &mut results.frames,
        &mut results.unsent,
        &mut results.errors,
        &mut results.bytes_in,
    ] {
        if choices.arbitrary()? {
            *count = choices.arbitrary()?;
        }
    }
    if choices.arbitrary()? {
        let (kind, count) = choices.arbitrary::<(&str, u64)>()?;
        results.errors_by_kind.insert(kind.to_owned(), count);
        results
            .error_examples
            .insert(kind.to_owned(), kind.to_owned());
    }
    Ok(())
}

/// Any number that JSON has.
fn figure(choices: &mut Unstructured<'_>) -> Result<f64> {
    let any: f64 = choices.arbitrary()?;
    Ok(if any.is_finite() { any } else { 0.0 })
}
