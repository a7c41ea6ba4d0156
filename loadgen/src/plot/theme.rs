//! Colours and dashes, for light and dark pages.
//!
//! The plotting crate knows colours as three bytes only. So everything is drawn in a stand-in of
//! its own, and [`Theme::dress`] puts the real colour, a class and the dashes in its place: the
//! colours of a light page as attributes, which every viewer understands, and those of a dark one
//! as a style.

use plotters::style::RGBColor;

/// What something is drawn in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// The page.
    Page,
    /// Titles and figures.
    Text,
    /// Labels of axes.
    Faint,
    /// Lines of the grid.
    Grid,
    /// A bound that was asked for.
    Bound,
    /// A line of data, by its number.
    Series(u8),
}

/// Light and dark, in the order of the inks before `Series`. All text has a contrast of more than
/// 4.5 to its page.
const PLAIN: [(&str, &str); 5] = [
    ("#ffffff", "#16181c"),
    ("#1c1e21", "#e8e9eb"),
    ("#5b6068", "#a3a8b0"),
    ("#dfe2e6", "#33373d"),
    ("#b3261e", "#ff8a80"),
];

/// Six colours that stay apart for every kind of colour blindness: those of Okabe and Ito, made
/// darker for a white page and lighter for a dark one.
const SERIES: [(&str, &str); 6] = [
    ("#0068a8", "#5ab8f0"),
    ("#c8500a", "#f5925a"),
    ("#00805c", "#35c99d"),
    ("#9c3587", "#e493cc"),
    ("#8f6a00", "#efc247"),
    ("#4a4f57", "#c4c8ce"),
];

/// One each, so that lines are told apart without colour too; in the picture's units, of which a
/// screen's pixel has two.
const DASHES: [&str; 6] = ["", "16 8", "4 7", "22 7 4 7", "10 5", "22 7 4 7 4 7"];

impl Ink {
    const fn index(self) -> u8 {
        match self {
            Self::Page => 0,
            Self::Text => 1,
            Self::Faint => 2,
            Self::Grid => 3,
            Self::Bound => 4,
            Self::Series(number) => 16 + number,
        }
    }

    /// What stands for this ink while drawing.
    pub(super) const fn stand_in(self) -> RGBColor {
        RGBColor(1, 2, self.index())
    }

    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Series(number) => SERIES[usize::from(number) % SERIES.len()],
            plain => PLAIN[usize::from(plain.index())],
        }
    }

    /// Where colours come round again, dashes go on by one: 36 lines differ.
    fn dashes(self) -> &'static str {
        match self {
            Self::Series(number) => {
                let number = usize::from(number);
                DASHES[(number + number / SERIES.len()) % DASHES.len()]
            }
            Self::Bound => "12 8",
            _ => "",
        }
    }
}

/// Puts real colours and dashes for the stand-ins of a finished picture with this many series.
/// Quotes in texts are escaped by then, so no text can be taken for a stand-in.
pub(super) fn dress(svg: &str, series: u8) -> String {
    let mut svg = svg.to_owned();
    for ink in inks(series) {
        let RGBColor(red, green, blue) = ink.stand_in();
        let stand_in = format!("#{red:02X}{green:02X}{blue:02X}");
        let (light, _) = ink.colours();
        let index = ink.index();
        let mut stroke = format!("class=\"k{index}\" stroke=\"{light}\"");
        if !ink.dashes().is_empty() {
            stroke += &format!(" stroke-dasharray=\"{}\"", ink.dashes());
        }
        svg = svg
            .replace(&format!("stroke=\"{stand_in}\""), &stroke)
            .replace(
                &format!("fill=\"{stand_in}\""),
                &format!("class=\"f{index}\" fill=\"{light}\""),
            );
    }
    svg
}

/// The style that makes the picture dark where the reader prefers that.
pub(super) fn dark_style(series: u8) -> String {
    let mut style = String::from("@media (prefers-color-scheme: dark) {\n");
    for ink in inks(series) {
        let (_, dark) = ink.colours();
        let index = ink.index();
        style += &format!(".k{index} {{ stroke: {dark} }} .f{index} {{ fill: {dark} }}\n");
    }
    style + "}\n"
}

fn inks(series: u8) -> impl Iterator<Item = Ink> {
    [Ink::Page, Ink::Text, Ink::Faint, Ink::Grid, Ink::Bound]
        .into_iter()
        .chain((0..series).map(Ink::Series))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_own_look() {
        let mut looks = Vec::new();
        for number in 0..36 {
            let ink = Ink::Series(number);
            looks.push((ink.colours(), ink.dashes()));
        }
        looks.sort_unstable();
        looks.dedup();
        assert_eq!(looks.len(), 36);
    }

    #[test]
    fn stand_ins_are_replaced_and_texts_are_not() {
        let svg = "<a stroke=\"#010210\"/><b fill=\"#010200\">stroke=&quot;#010210&quot;</b>";
        assert_eq!(
            dress(svg, 1),
            "<a class=\"k16\" stroke=\"#0068a8\"/><b class=\"f0\" fill=\"#ffffff\">\
             stroke=&quot;#010210&quot;</b>"
        );
        assert!(dark_style(2).contains(".k17 { stroke: #f5925a }"));
    }
}
