//! Axes of charts: their ranges, their ticks, and the texts at the ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// A linear axis has at most one tick more.
const STEPS_MAX: f64 = 7.0;
/// A logarithmic axis over more decades has one tick a decade; otherwise, it has three.
const DECADES_MAX: f64 = 2.5;
/// Room beside the outermost points of a logarithmic axis, as a factor.
const LOGARITHMIC_ROOM: f64 = 1.25;
/// Width of a character in an axis' texts, and of what else stands beside an axis, in pixels.
const CHARACTER_WIDTH: usize = 7;
const LABEL_WIDTH: usize = 44;
/// Length of a vertical axis of numbers, and of a level of one with levels, in pixels.
const NUMBERS_HEIGHT: u32 = 300;
const LEVEL_HEIGHT: u32 = 34;

/// An axis of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What it shows, with the unit.
    pub(super) label: String,
    range: Range<f64>,
    is_logarithmic: bool,
    ticks: Vec<f64>,
    /// What the ticks stand for, where that is no number.
    names: Vec<String>,
}

impl Axis {
    /// A logarithmic axis with room for these positive values.
    pub(crate) fn logarithmic(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let (least, greatest) = values
            .fold((f64::MAX, f64::MIN_POSITIVE), |(least, greatest), it| {
                (least.min(it), greatest.max(it))
            });
        let range = least / LOGARITHMIC_ROOM..greatest * LOGARITHMIC_ROOM;
        let (first, last) = (range.start.log10(), range.end.log10());
        let digits: &[f64] = if last - first > DECADES_MAX { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let exponents = first.floor() as i32..=last.ceil() as i32;
        let all = exponents
            .flat_map(|exponent| digits.iter().map(move |digit| digit * 10_f64.powi(exponent)));
        let ticks = all.filter(|tick| range.contains(tick)).collect();
        Self { label: label.to_owned(), range, is_logarithmic: true, ticks, names: Vec::new() }
    }

    /// A linear axis from 0 to a positive number.
    pub(crate) fn linear(label: &str, end: f64) -> Self {
        let end = end.max(f64::MIN_POSITIVE);
        let least = end / STEPS_MAX;
        let magnitude = 10_f64.powf(least.log10().floor());
        let mut steps = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * magnitude);
        let step = steps.find(|step| *step >= least).unwrap_or(10.0 * magnitude);
        let ticks = (0..=(end / step) as u32).map(|index| f64::from(index) * step).collect();
        let label = label.to_owned();
        Self { label, range: 0.0..end, is_logarithmic: false, ticks, names: Vec::new() }
    }

    /// A vertical axis of levels without ticks, the first of them at the top.
    pub(crate) fn levels(label: &str, count: usize) -> Self {
        let range = -0.5..count as f64 - 0.5;
        let (label, ticks) = (label.to_owned(), Vec::new());
        Self { label, range, is_logarithmic: false, ticks, names: Vec::new() }
    }

    /// A vertical axis with a level for each name, the first of them at the top.
    pub(crate) fn rows(label: &str, names: Vec<String>) -> Self {
        let levels = Self::levels(label, names.len());
        let ticks = (0..names.len()).map(|index| levels.level(index)).collect();
        Self { ticks, names, ..levels }
    }

    /// The value of a level, counted from the top.
    pub(crate) fn level(&self, index: usize) -> f64 {
        self.range.end - 0.5 - index as f64
    }

    /// The text at a tick.
    pub(super) fn text(&self, tick: f64) -> String {
        if self.names.is_empty() {
            return number(tick);
        }
        // Levels are 1 apart.
        let index = self.ticks.iter().position(|other| (other - tick).abs() < 0.5);
        index.and_then(|index| self.names.get(index)).cloned().unwrap_or_default()
    }

    /// Room for the texts beside a vertical axis, in pixels.
    pub(super) fn width(&self) -> u32 {
        let lengths = self.ticks.iter().map(|tick| self.text(*tick).chars().count());
        (LABEL_WIDTH + CHARACTER_WIDTH * lengths.max().unwrap_or(0)) as u32
    }

    /// Length of a vertical axis, in pixels.
    pub(super) fn height(&self) -> u32 {
        if self.names.is_empty() { NUMBERS_HEIGHT } else { LEVEL_HEIGHT * self.names.len() as u32 }
    }

    /// The scale on which the axis is even.
    fn scaled(&self, value: f64) -> f64 {
        if self.is_logarithmic { value.ln() } else { value }
    }
}

/// plotters' own logarithmic and linear axes are of different types, and only the former can be
/// given ticks.
impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (start, end) = (self.scaled(self.range.start), self.scaled(self.range.end));
        let share = ((self.scaled(*value) - start) / (end - start)).clamp(0.0, 1.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light points are those of a finer grid.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// A number with commas between its thousands, or with six decimal places at most.
fn number(value: f64) -> String {
    if value < 1000.0 {
        return ((value * 1e6).round() / 1e6).to_string();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.text(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let decades = Axis::logarithmic("", [0.008, 1443.0].into_iter());
        assert_eq!(texts(&decades), ["0.01", "0.1", "1", "10", "100", "1,000"]);
        let narrow = Axis::logarithmic("", [1010.0, 10_010.0].into_iter());
        assert_eq!(texts(&narrow), ["1,000", "2,000", "5,000", "10,000"]);
        assert_eq!(texts(&Axis::linear("", 949.0)), ["0", "200", "400", "600", "800"]);
        assert_eq!(texts(&Axis::linear("", 100.0)), ["0", "20", "40", "60", "80", "100"]);
    }

    #[test]
    fn values_are_mapped_to_pixels() {
        let axis = Axis::logarithmic("", [1.25, 80.0].into_iter());
        assert_eq!([1.0, 10.0, 100.0].map(|value| axis.map(&value, (200, 0))), [200, 100, 0]);
        // What has no place is at an end.
        assert_eq!([0.0, 1e9].map(|value| axis.map(&value, (200, 0))), [200, 0]);
    }

    #[test]
    fn rows_begin_at_the_top() {
        let axis = Axis::rows("", vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(texts(&axis), ["a", "b"]);
        assert!(axis.level(0) > axis.level(1));
        assert_eq!(axis.map(&axis.level(0), (200, 0)), 50);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [1_234_567.0, 1000.0, 999.0, 0.1].map(number),
            ["1,234,567", "1,000", "999", "0.1"]
        );
    }
}
