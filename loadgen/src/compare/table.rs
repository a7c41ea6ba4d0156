//! A comparison as people read it: Markdown, aligned as plain text.

use std::fmt;

use super::{Comparison, Method, Pairing, Row, Verdict};
use crate::report::{Grouped, Micros, round, to_f64};

impl Row {
    fn figure_text(&self, value: f64) -> String {
        match self.key {
            "frames_per_second" => Grouped(round(value)).to_string(),
            "cpu_us_per_frame" => format!("{value:.3}"),
            _ => Micros(round(value * 1e3)).to_string(),
        }
    }

    pub(super) fn interval_text(&self) -> String {
        self.interval.map_or("-".to_owned(), |(low, high)| {
            format!("{} to {}", ratio_text(low), ratio_text(high))
        })
    }

    /// The change from A to B as a percentage.
    pub(super) fn change(&self) -> String {
        let percent = (self.ratio.unwrap_or(1.0) - 1.0) * 100.0;
        match percent.abs() {
            0.0..1.0 => format!("{percent:+.2} %"),
            1.0..10.0 => format!("{percent:+.1} %"),
            _ => format!("{percent:+.0} %"),
        }
    }

    fn verdict_text(&self, label_b: &str) -> String {
        let change = self.change();
        let few = if self.thin { " (few)" } else { "" };
        match self.verdict {
            Verdict::NoInterval => format!("unknown, one round{few}"),
            Verdict::NoRatio => "no ratio: a figure is 0".to_owned(),
            Verdict::WithinNoise => format!("within the noise{few}"),
            Verdict::BBetter => format!("{label_b} better, {change}{few}"),
            Verdict::BWorse => format!("{label_b} worse, {change}{few}"),
            Verdict::Differs => format!("differs, {change}{few}"),
        }
    }
}

fn ratio_text(ratio: f64) -> String {
    match ratio {
        ..0.01 => format!("{ratio:.1e}"),
        0.01..10.0 => format!("{ratio:.3}"),
        10.0..100.0 => format!("{ratio:.1}"),
        _ if ratio < 1e6 => Grouped(round(ratio)).to_string(),
        _ => format!("{ratio:.0e}"),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            write!(
                f,
                "- {}: {}, {} of {} s",
                run.label,
                run.settings.target,
                plural(run.rounds, "round"),
                Seconds(run.results.duration_s / to_f64(run.rounds as u64))
            )?;
            if !run.source.is_empty() {
                write!(f, ", {}", run.source)?;
            }
            writeln!(f)?;
        }
        let settings = &self.runs[0].settings;
        write!(
            f,
            "- load: {} loop, {}, {} in flight each",
            settings.loop_kind,
            plural(settings.connections, "connection"),
            settings.in_flight_asked
        )?;
        if let Some(rate) = settings.rate {
            write!(f, ", {} NOTIFYs/s", Grouped(rate))?;
        }
        writeln!(f, ", profile {}", settings.profile)?;
        for pairing in &self.comparisons {
            write!(f, "\n{pairing}")?;
        }
        if self.has_intervals() {
            writeln!(
                f,
                "\nFigures are geometric means of the rounds. Of 20 rows of equal agents about one \
                 shows a difference by chance."
            )?;
        }
        if self
            .comparisons
            .iter()
            .any(|pairing| pairing.figures.iter().any(|row| row.thin))
        {
            writeln!(
                f,
                "\n(few): fewer than 10 latencies of a round are beyond this percentile, so it is they \
                 that are compared. Make --duration longer for more."
            )?;
        }
        if !self.notes.is_empty() || !self.warnings.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { a, b, .. } = self;
        let mut table = Markdown::new(&[
            "figure",
            "better",
            a,
            b,
            &format!("{b} / {a}"),
            "95 % interval",
            "verdict",
        ]);
        for row in &self.figures {
            table.row([
                row.name.to_owned(),
                row.better.to_string(),
                row.figure_text(row.a),
                row.figure_text(row.b),
                row.ratio.map_or("-".to_owned(), ratio_text),
                row.interval_text(),
                row.verdict_text(b),
            ]);
        }
        for (name, (count_a, count_b)) in [("errors", self.errors), ("unsent", self.unsent)] {
            let more = match count_a.cmp(&count_b) {
                std::cmp::Ordering::Less => format!("{b} has more"),
                std::cmp::Ordering::Equal => String::new(),
                std::cmp::Ordering::Greater => format!("{a} has more"),
            };
            table.row([
                name.to_owned(),
                "lower".to_owned(),
                Grouped(count_a).to_string(),
                Grouped(count_b).to_string(),
                String::new(),
                String::new(),
                more,
            ]);
        }
        write!(f, "{table}")?;
        match self.method {
            Method::Paired => writeln!(
                f,
                "\n{} pairs of rounds, made beside each other, and compared pair by pair.",
                self.rounds_a
            ),
            Method::Welch => writeln!(
                f,
                "\n{} and {} rounds, not made in turn: whatever else changed on the machine between \
                 them looks like a difference of the agents. `ab` makes them in turn.",
                self.rounds_a, self.rounds_b
            ),
            Method::SingleRound => writeln!(
                f,
                "\n{} has a single round, which does not say how far its figures scatter, so there is no \
                 interval, and what looks like a difference may be noise. Make several with `run \
                 --rounds 5`, or better with `ab`, which makes those of both agents in turn.",
                match (self.rounds_a, self.rounds_b) {
                    (1, 1) => "Each run".to_owned(),
                    (1, _) => a.clone(),
                    _ => b.clone(),
                }
            ),
        }
    }
}

fn plural(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Seconds without the digits nobody asked for.
pub(super) struct Seconds(pub(super) f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A table that Markdown takes and that is aligned as plain text.
struct Markdown {
    head: [String; Self::COLUMNS],
    rows: Vec<[String; Self::COLUMNS]>,
}

impl Markdown {
    const COLUMNS: usize = 7;

    /// Figures, their ratio and its interval are aligned to the right, words to the left.
    const RIGHT: [bool; Self::COLUMNS] = [false, false, true, true, true, true, false];

    fn new(head: &[&str; Self::COLUMNS]) -> Self {
        Self {
            head: head.map(escape),
            rows: Vec::new(),
        }
    }

    fn row(&mut self, cells: [String; Self::COLUMNS]) {
        self.rows.push(cells.map(|cell| escape(&cell)));
    }
}

/// A bar would end the cell, and an asterisk begin emphasis.
fn escape(cell: &str) -> String {
    cell.replace('|', "\\|").replace('*', "\\*")
}

impl fmt::Display for Markdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [3; Self::COLUMNS];
        for cells in self.rows.iter().chain([&self.head]) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String; Self::COLUMNS]| {
            for ((cell, &width), right) in cells.iter().zip(&widths).zip(Self::RIGHT) {
                // Not by a width in the format, which has 16 bits.
                let room = " ".repeat(width - cell.chars().count());
                if right {
                    write!(f, "| {room}{cell} ")?;
                } else {
                    write!(f, "| {cell}{room} ")?;
                }
            }
            writeln!(f, "|")
        };
        line(f, &self.head)?;
        for (&width, right) in widths.iter().zip(Self::RIGHT) {
            let dashes = "-".repeat(width + 1);
            write!(f, "|{dashes}{}", if right { ":" } else { "-" })?;
        }
        writeln!(f, "|")?;
        for cells in &self.rows {
            line(f, cells)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_sensible_digits() {
        let texts = [0.000_07, 0.5, 9.9994, 22.44, 494.6, 12_345.0, 1e9].map(ratio_text);
        assert_eq!(
            texts,
            ["7.0e-5", "0.500", "9.999", "22.4", "495", "12 345", "1e9"]
        );
    }
}
