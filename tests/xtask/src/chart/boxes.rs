//! Boxes in levels, each as wide as its share of the whole: a flame graph.

use plotters::element::{Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color as _, FontFamily, RGBColor};

use super::{
    Axis, Canvas, CanvasResult, ChartFont, WIDTH, draw_axes, draw_legend, frame_height, svg,
    text_style,
};

/// Height of a level, and half of a box, in pixels.
const LEVEL_HEIGHT: u32 = 18;
const HALF_BOX: i32 = 8;
/// The font of names, and the width of its characters in pixels.
const FONT: ChartFont = (FontFamily::Monospace, 12);
const CHARACTER: i32 = 6;
/// A shorter piece of a name says nothing.
const CHARACTERS_MIN: usize = 3;
/// Room for a box's edges, in pixels.
const EDGES: i32 = 6;

/// A chart of boxes.
#[derive(Debug)]
pub(crate) struct BoxChart<'a> {
    pub(crate) title: &'a str,
    /// Labels of the axes.
    pub(crate) shares: &'a str,
    pub(crate) levels: &'a str,
    /// Names and colours of the kinds of boxes.
    pub(crate) kinds: &'a [(&'a str, RGBColor)],
    pub(crate) boxes: Vec<ShareBox>,
}

/// A box.
#[derive(Debug)]
pub(crate) struct ShareBox {
    pub(crate) name: String,
    /// Counted from the top.
    pub(crate) level: usize,
    /// Where it begins and ends, in percent of the whole.
    pub(crate) start: f64,
    pub(crate) end: f64,
    /// An index into the kinds of the chart.
    pub(crate) kind: usize,
}

impl BoxChart<'_> {
    /// The chart as a document of SVG.
    pub(crate) fn svg(&self) -> Result<String, String> {
        let levels = self.boxes.iter().map(|it| it.level + 1).max().unwrap_or(1);
        let height = levels as u32 * LEVEL_HEIGHT + frame_height(self.kinds.len());
        svg((WIDTH, height), |canvas| self.draw(canvas, levels))
    }

    fn draw(&self, canvas: &Canvas<'_>, levels: usize) -> CanvasResult {
        let (x, y) = (Axis::linear(self.shares, 100.0), Axis::levels(self.levels, levels));
        let chart = draw_axes(canvas, self.title, (&x, &y), self.kinds.len())?;
        draw_legend(canvas, self.kinds)?;
        for it in &self.boxes {
            let (left, middle) = chart.backend_coord(&(it.start, y.level(it.level)));
            let (right, _) = chart.backend_coord(&(it.end, y.level(it.level)));
            // Neighbours are a pixel apart.
            let right = (right - 1).max(left + 1);
            let colour = self.kinds.get(it.kind).map_or(RGBColor(255, 255, 255), |kind| kind.1);
            let corners = [(left, middle - HALF_BOX), (right, middle + HALF_BOX)];
            canvas.draw(&Rectangle::new(corners, colour.filled()))?;
            let room = ((right - left - EDGES) / CHARACTER).max(0) as usize;
            if room >= CHARACTERS_MIN {
                let name: String = it.name.chars().take(room).collect();
                let style = text_style(FONT, HPos::Left, VPos::Center);
                canvas.draw(&Text::new(name, (left + EDGES / 2, middle), style))?;
            }
        }
        Ok(())
    }
}
