//! The drawing itself, in units of which a screen's pixel has two: the plotting crate places
//! everything at whole units, which would make steps of a pixel in smooth lines.

use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, EmptyElement, PathElement, Text};
use plotters::prelude::{ChartBuilder, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, ShapeStyle, TRANSPARENT, TextStyle};

use super::axis::Axis;
use super::theme::{Ink, dark_style, dress};
use super::{PlotError, page::escaped};

/// The width of a picture; it is shown at half of that unless there is less room.
pub(super) const WIDTH: u32 = 2_000;

/// Where charts begin and end; labels of the axis are to the left of it.
const LEFT: i32 = 150;
const RIGHT: i32 = 1_920;

/// Right ends of the columns of figures.
const COLUMNS: [i32; 5] = [1_150, 1_340, 1_530, 1_720, RIGHT];

/// Labels longer than that would run into the figures; notes and settings into the edge.
const LABEL_CHARS: usize = 48;
const LINE_CHARS: usize = 140;

const TITLE_Y: i32 = 56;
const SETTINGS_Y: i32 = 108;
const LEGEND_Y: i32 = 176;
const ROW: i32 = 46;

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of data.
pub(super) struct Line {
    pub(super) ink: Ink,
    /// What is drawn through; one after the other, without a line between.
    pub(super) segments: Vec<Vec<(f64, f64)>>,
    /// Points to mark, filled or hollow.
    pub(super) dots: Vec<((f64, f64), bool)>,
}

/// A value on one of the axes that is marked across the chart.
pub(super) enum Bound {
    /// A horizontal line.
    Y(f64, String),
    /// A vertical line.
    X(f64, String),
}

/// One chart, in the coordinates of its axes.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x_title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    pub(super) bounds: Vec<Bound>,
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError::Drawing(error.to_string())
}

/// Text of this many pixels on the screen, on both sides of the line it is placed at.
fn text(pixels: f64, ink: Ink, side: HPos, style: FontStyle) -> TextStyle<'static> {
    // The backend divides sizes by 1.24 when it writes SVG.
    let size = pixels * 2.0 * 1.24;
    let family = FontFamily::Name("system-ui, sans-serif");
    TextStyle {
        font: FontDesc::new(family, size, style),
        color: ink.stand_in().to_backend_color(),
        pos: Pos::new(side, VPos::Center),
    }
}

fn stroke(ink: Ink, width: u32) -> ShapeStyle {
    ink.stand_in().stroke_width(width)
}

/// A text that fits, and that XML allows: most control characters are in none.
fn fitting(text: &str, chars: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.chars().count() <= chars {
        return text.chars().map(clean).collect();
    }
    let start: String = text.chars().take(chars - 1).map(clean).collect();
    format!("{}\u{2026}", start.trim_end())
}

/// Draws a picture and makes it a complete SVG.
pub(super) fn picture(
    size: (u32, u32),
    series: u8,
    title: &str,
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        canvas.fill(&Ink::Page.stand_in()).map_err(failed)?;
        draw(&canvas)?;
        canvas.present().map_err(failed)?;
    }
    let svg = dress(&svg, series);
    let (_, body) = svg
        .split_once(">\n")
        .ok_or_else(|| failed("the picture has no beginning"))?;
    let (width, height) = size;
    let title = escaped(title);
    let style = dark_style(series);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" style=\"max-width: 100%; height: auto\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n{body}",
        width / 2,
        height / 2
    ))
}

/// The height of title, settings, legend and notes.
pub(super) fn heading_height(rows: usize, notes: usize) -> u32 {
    let lines = i32::try_from(rows + notes).unwrap_or(0);
    u32::try_from(LEGEND_Y + ROW * (lines + 1)).unwrap_or(0)
}

pub(super) fn draw_heading(
    canvas: &Canvas<'_>,
    title: &str,
    settings: &str,
) -> Result<(), PlotError> {
    let style = text(20.0, Ink::Text, HPos::Left, FontStyle::Bold);
    canvas
        .draw(&Text::new(title.to_owned(), (LEFT - 90, TITLE_Y), style))
        .map_err(failed)?;
    let style = text(13.0, Ink::Faint, HPos::Left, FontStyle::Normal);
    let settings = fitting(settings, LINE_CHARS);
    canvas
        .draw(&Text::new(settings, (LEFT - 90, SETTINGS_Y), style))
        .map_err(failed)
}

/// Draws a row for each series with a piece of its line, its label and its figures, then notes.
pub(super) fn draw_legend(
    canvas: &Canvas<'_>,
    names: [&str; 5],
    rows: &[[String; 6]],
    notes: &[String],
) -> Result<(), PlotError> {
    let left = LEFT - 90;
    let write = |words: &str, x: i32, y: i32, ink: Ink, side: HPos| {
        let style = text(13.0, ink, side, FontStyle::Normal);
        canvas
            .draw(&Text::new(words.to_owned(), (x, y), style))
            .map_err(failed)
    };
    for (name, x) in names.into_iter().zip(COLUMNS) {
        write(name, x, LEGEND_Y, Ink::Faint, HPos::Right)?;
    }
    let mut y = LEGEND_Y;
    for ([label, figures @ ..], number) in rows.iter().zip(0..) {
        y += ROW;
        let line = vec![(left, y), (left + 108, y)];
        let style = stroke(Ink::Series(number), 5);
        canvas
            .draw(&PathElement::new(line, style))
            .map_err(failed)?;
        let label = fitting(label, LABEL_CHARS);
        write(&label, left + 130, y, Ink::Text, HPos::Left)?;
        for (figure, x) in figures.iter().zip(COLUMNS) {
            write(figure, x, y, Ink::Text, HPos::Right)?;
        }
    }
    for note in notes {
        y += ROW;
        write(&fitting(note, LINE_CHARS), left, y, Ink::Bound, HPos::Left)?;
    }
    Ok(())
}

impl Chart {
    /// Draws the chart over the whole canvas.
    pub(super) fn draw(&self, canvas: &Canvas<'_>) -> Result<(), PlotError> {
        let title = text(14.0, Ink::Text, HPos::Left, FontStyle::Bold);
        canvas
            .draw(&Text::new(self.title.clone(), (LEFT - 90, 50), title))
            .map_err(failed)?;
        let (x, y) = (&self.x, &self.y);
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(96)
            .margin_right(WIDTH.saturating_sub(RIGHT.unsigned_abs()))
            .margin_bottom(54)
            .x_label_area_size(54)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(x.clone(), y.clone())
            .map_err(failed)?;
        let label = text(12.0, Ink::Faint, HPos::Center, FontStyle::Normal);
        chart
            .configure_mesh()
            .bold_line_style(stroke(Ink::Grid, 2))
            .light_line_style(TRANSPARENT)
            .axis_style(stroke(Ink::Faint, 2))
            .set_all_tick_mark_size(12)
            .label_style(label.clone())
            .draw()
            .map_err(failed)?;
        let bottom = i32::try_from(canvas.dim_in_pixel().1).unwrap_or(0) - 34;
        let middle = i32::midpoint(LEFT, RIGHT);
        canvas
            .draw(&Text::new(self.x_title.clone(), (middle, bottom), label))
            .map_err(failed)?;
        for bound in &self.bounds {
            // The words stand where the chart has room for them.
            let (points, place, offset, pos, words) = match bound {
                Bound::Y(at, words) => (
                    vec![(x.from, *at), (x.to, *at)],
                    (x.from, *at),
                    (12, -6),
                    Pos::new(HPos::Left, VPos::Bottom),
                    words,
                ),
                Bound::X(at, words) => {
                    let right = *at < f64::midpoint(x.from, x.to);
                    let side = if right { HPos::Left } else { HPos::Right };
                    (
                        vec![(*at, y.from), (*at, y.to)],
                        (*at, y.to),
                        (if right { 12 } else { -12 }, 8),
                        Pos::new(side, VPos::Top),
                        words,
                    )
                }
            };
            let style = text(12.0, Ink::Bound, HPos::Left, FontStyle::Normal).pos(pos);
            let words = EmptyElement::at(place) + Text::new(words.clone(), offset, style);
            let line = PathElement::new(points, stroke(Ink::Bound, 2));
            chart.draw_series([line]).map_err(failed)?;
            chart.draw_series([words]).map_err(failed)?;
        }
        for line in &self.lines {
            let paths = line
                .segments
                .iter()
                .map(|points| PathElement::new(points.clone(), stroke(line.ink, 4)));
            chart.draw_series(paths).map_err(failed)?;
            let dots = line.dots.iter().map(|(at, filled)| {
                let style = if *filled {
                    line.ink.stand_in().filled()
                } else {
                    stroke(line.ink, 3)
                };
                Circle::new(*at, 9, style)
            });
            chart.draw_series(dots).map_err(failed)?;
        }
        Ok(())
    }
}
