//! The HTML page around a picture.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::axis::latency;
use super::{PlotOptions, PlotRun};
use crate::report::{Grouped, round};
use crate::saved::SavedRun;

/// Everything is in the page: it loads nothing, and runs nothing.
const HEAD: &str = "<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n\
    <style>\n\
    body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem; \
    max-width: 1000px; color: #1c1e21; background: #ffffff }\n\
    h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }\n\
    .wide { overflow-x: auto }\n\
    table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }\n\
    th, td { padding: .3rem .6rem; border-bottom: 1px solid #dfe2e6; text-align: left; \
    vertical-align: top; overflow-wrap: anywhere }\n\
    thead th { font-weight: 600 }\n\
    tbody th, .figures th, .figures td { overflow-wrap: normal; white-space: nowrap }\n\
    .figures tbody th { white-space: normal; min-width: 8rem }\n\
    .figures td, .figures th + th { text-align: right }\n\
    tbody th { font-weight: 500 }\n\
    @media (prefers-color-scheme: dark) {\n\
    body { color: #e8e9eb; background: #16181c }\n\
    th, td { border-color: #33373d }\n\
    }\n\
    </style>\n";

/// Text as HTML and XML have it, in elements and in quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn page(runs: &[PlotRun<'_>], options: PlotOptions, svg: &str) -> String {
    let labels: Vec<_> = runs.iter().map(|run| run.label.as_str()).collect();
    let title = escaped(&format!("Latency and throughput of {}", labels.join(", ")));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{HEAD}<title>{title}</title>\n</head>\n\
         <body>\n{svg}\n"
    );
    page += "<h2>Figures</h2>\n";
    let open = runs.iter().any(|run| run.run.settings.rate.is_some());
    page += match (options.uncorrected, open) {
        (true, true) => {
            "<p>Latency counts from the actual send time (uncorrected): what waited for a stalled \
             agent before it could be sent is not in it.</p>\n"
        }
        (false, true) => {
            "<p>Latency counts from the intended send time of a NOTIFY in an open \
             loop, from its write in a closed one.</p>\n"
        }
        (_, false) => "<p>Latency counts from the write of a NOTIFY to the read of its ACK.</p>\n",
    };
    page += &figures(runs, options);
    let warnings: Vec<_> = runs
        .iter()
        .flat_map(|run| {
            let warnings = run.run.results.warnings.iter();
            warnings.map(|text| format!("<li>{}: {}</li>\n", escaped(&run.label), escaped(text)))
        })
        .collect();
    if !warnings.is_empty() {
        page += &format!("<h2>Warnings</h2>\n<ul>\n{}</ul>\n", warnings.concat());
    }
    page += "<h2>Settings</h2>\n";
    page += &settings(runs);
    page + "</body>\n</html>\n"
}

fn row(head: &str, cells: impl Iterator<Item = String>) -> String {
    let cells: String = cells
        .map(|cell| format!("<td>{}</td>", escaped(&cell)))
        .collect();
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escaped(head))
}

fn table<'a>(class: &str, names: impl Iterator<Item = &'a str>, rows: &str) -> String {
    let names: String = names
        .map(|name| format!("<th scope=\"col\">{}</th>", escaped(name)))
        .collect();
    format!(
        "<div class=\"wide\"><table class=\"{class}\">\n<thead><tr><th></th>{names}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table></div>\n"
    )
}

fn figures(runs: &[PlotRun<'_>], options: PlotOptions) -> String {
    let rows: String = runs
        .iter()
        .map(|run| {
            let results = &run.run.results;
            let histogram = run.histogram(options);
            let mut cells = vec![Grouped(round(results.frames_per_second)).to_string()];
            for quantile in [0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0] {
                cells.push(latency(histogram.value_at_quantile(quantile)));
            }
            cells.push(Grouped(histogram.len()).to_string());
            cells.push(Grouped(results.unsent).to_string());
            cells.push(Grouped(results.errors).to_string());
            row(&run.label, cells.into_iter())
        })
        .collect();
    let names = [
        "frames/s", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max", "ACKs", "unsent",
        "errors",
    ];
    table("figures", names.into_iter(), &rows)
}

fn settings(runs: &[PlotRun<'_>]) -> String {
    let line = |name: &str, of: &dyn Fn(&SavedRun) -> String| {
        row(name, runs.iter().map(|run| of(run.run)))
    };
    let list = |items: &[String]| {
        if items.is_empty() {
            "none".to_owned()
        } else {
            items.join(", ")
        }
    };
    let rows = [
        line("target", &|run| run.settings.target.clone()),
        line("loop", &|run| match run.settings.rate {
            Some(rate) => format!("open, {} NOTIFYs/s", Grouped(rate)),
            None => "closed".to_owned(),
        }),
        line("connections", &|run| run.settings.connections.to_string()),
        line("in flight each", &|run| {
            let settings = &run.settings;
            if settings.in_flight == settings.in_flight_asked {
                settings.in_flight.to_string()
            } else {
                let asked = settings.in_flight_asked;
                format!("{} ({asked} asked, no pipelining)", settings.in_flight)
            }
        }),
        line("profile", &|run| run.settings.profile.clone()),
        line("messages", &|run| list(&run.settings.messages)),
        line("expected of ACKs", &|run| list(&run.settings.expectations)),
        line("max-frame-size", &|run| {
            format!("{} bytes", run.settings.max_frame_size)
        }),
        line("warm-up", &|run| format!("{} s", run.settings.warmup_s)),
        line("measured", &|run| {
            let rounds = super::rounds(run);
            let seconds: Vec<_> = rounds
                .iter()
                .map(|(_, seconds)| format!("{seconds:.2}"))
                .collect();
            format!("{} s", seconds.join(" + "))
        }),
        line("threads of the generator", &|run| {
            let settings = &run.settings;
            let cores: Vec<_> = settings.cores.iter().map(ToString::to_string).collect();
            if cores.is_empty() {
                format!("{}, not pinned", settings.threads)
            } else {
                format!("{}, on cores {}", settings.threads, cores.join(", "))
            }
        }),
        line("CPU of the generator", &|run| {
            format!("{:.3} us per frame", run.results.cpu_us_per_frame)
        }),
        line("kernel", &|run| run.settings.kernel.clone()),
        line("started", &|run| {
            let since = Duration::from_secs(run.settings.started_unix_s);
            // A time after the year 9999 has no such form, which `to_string` would panic of.
            let mut text = String::new();
            let written = UNIX_EPOCH.checked_add(since).is_some_and(|time| {
                write!(text, "{}", humantime::format_rfc3339_seconds(time)).is_ok()
            });
            if written { text } else { "unknown".to_owned() }
        }),
        line("generator", &|run| {
            format!("ringspoa-loadgen {}", run.settings.version)
        }),
    ];
    table(
        "settings",
        runs.iter().map(|run| run.label.as_str()),
        &rows.concat(),
    )
}
