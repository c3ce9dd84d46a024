//! Charts in SVG, drawn by plotters: labelled axes, a grid, and a legend below.
//!
//! plotters without its feature `ttf` writes texts as `<text>` and only estimates their width. So
//! no font is needed, and the same data give the same document. [`Plot`] has points and lines,
//! [`BoxChart`] a flame graph. `plots.rs` has what is drawn.

mod axis;
mod boxes;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontFamily, TextStyle, WHITE};

pub(crate) use axis::Axis;
pub(crate) use boxes::{BoxChart, ShareBox};
pub(crate) use plotters::style::RGBColor;

/// Sizes in pixels: of a chart, of its edges, of what is above and below its axes, and of a row of
/// its legend.
const WIDTH: u32 = 1000;
const MARGIN: u32 = 12;
/// Room for the text beside the last point.
const MARGIN_RIGHT: u32 = 90;
const TITLE_HEIGHT: u32 = 36;
const X_LABEL_HEIGHT: u32 = 48;
const LEGEND_HEIGHT: u32 = 18;
/// Half of a coloured square of the legend.
const HALF_SQUARE: i32 = 5;
/// Radius of a point, and its distance from its text.
const RADIUS: i32 = 4;
const TEXT_DISTANCE: i32 = 9;
const LINE_WIDTH: u32 = 2;
/// Fonts of all texts but those in boxes. The document has their sizes divided by 1.24.
const FONT: ChartFont = (FontFamily::SansSerif, 15);
const TITLE_FONT: ChartFont = (FontFamily::SansSerif, 18);

/// Colours of series, which people with a weak sense of colour can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
];

/// A family of fonts, and the size of one in pixels.
type ChartFont = (FontFamily<'static>, i32);
/// What charts are drawn on.
type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type CanvasError = DrawingAreaErrorKind<std::io::Error>;
type CanvasResult = Result<(), CanvasError>;

/// Points and lines between two axes.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<PlotSeries>,
}

/// What has one colour, and one line of the legend.
#[derive(Debug)]
pub(crate) struct PlotSeries {
    pub(crate) name: String,
    /// Whether a line joins the points. Their texts are above them then, otherwise to the right.
    pub(crate) is_line: bool,
    pub(crate) points: Vec<PlotPoint>,
}

/// A point with the text beside it, which may be empty.
#[derive(Debug)]
pub(crate) struct PlotPoint {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) text: String,
}

impl Plot {
    /// The plot as a document of SVG.
    pub(crate) fn svg(&self) -> Result<String, String> {
        let height = self.y.height() + frame_height(self.series.len());
        svg((WIDTH, height), |canvas| self.draw(canvas))
    }

    fn draw(&self, canvas: &Canvas<'_>) -> CanvasResult {
        let chart = draw_axes(canvas, &self.title, (&self.x, &self.y), self.series.len())?;
        let colours = COLOURS.into_iter().cycle();
        let names = self.series.iter().map(|series| series.name.as_str());
        draw_legend(canvas, &names.zip(colours.clone()).collect::<Vec<_>>())?;
        for (series, colour) in self.series.iter().zip(colours) {
            let points = series.points.iter();
            let places = points.map(|point| chart.backend_coord(&(point.x, point.y)));
            series.draw(canvas, &places.collect::<Vec<_>>(), colour)?;
        }
        Ok(())
    }
}

impl PlotSeries {
    /// Draws the points at their places on the canvas.
    fn draw(&self, canvas: &Canvas<'_>, places: &[(i32, i32)], colour: RGBColor) -> CanvasResult {
        if self.is_line {
            canvas.draw(&PathElement::new(places.to_vec(), colour.stroke_width(LINE_WIDTH)))?;
        }
        for (&(x, y), point) in places.iter().zip(&self.points) {
            canvas.draw(&Circle::new((x, y), RADIUS, colour.filled()))?;
            let (place, style) = if self.is_line {
                ((x, y - TEXT_DISTANCE), text_style(FONT, HPos::Center, VPos::Bottom))
            } else {
                ((x + TEXT_DISTANCE, y), text_style(FONT, HPos::Left, VPos::Center))
            };
            if !point.text.is_empty() {
                canvas.draw(&Text::new(point.text.as_str(), place, style))?;
            }
        }
        Ok(())
    }
}

/// The document with what `draw` draws, of this width and height in pixels.
fn svg(size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> CanvasResult) -> Result<String, String> {
    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
    let drawn = canvas.fill(&WHITE).and_then(|()| draw(&canvas)).and_then(|()| canvas.present());
    drop(canvas);
    drawn.map_err(|error| format!("cannot draw a chart: {error}"))?;
    Ok(text)
}

/// Height of everything but the vertical axis, in pixels.
fn frame_height(legends: usize) -> u32 {
    TITLE_HEIGHT + 2 * MARGIN + X_LABEL_HEIGHT + legend_height(legends)
}

fn legend_height(legends: usize) -> u32 {
    legends as u32 * LEGEND_HEIGHT + MARGIN
}

/// Draws a title and two axes with their grid, above the legend. What is returned maps values to
/// pixels of the canvas.
fn draw_axes<'c, 'b>(
    canvas: &Canvas<'b>,
    title: &str,
    (x, y): (&Axis, &Axis),
    legends: usize,
) -> Result<ChartContext<'c, SVGBackend<'b>, Cartesian2d<Axis, Axis>>, CanvasError> {
    let (_, height) = canvas.dim_in_pixel();
    let (upper, _) = canvas.split_vertically(height - legend_height(legends));
    let mut chart = ChartBuilder::on(&upper)
        .margin(MARGIN)
        .margin_right(MARGIN_RIGHT)
        .caption(title, text_style(TITLE_FONT, HPos::Center, VPos::Top))
        .x_label_area_size(X_LABEL_HEIGHT)
        .y_label_area_size(y.width())
        .build_cartesian_2d(x.clone(), y.clone())?;
    let (x_text, y_text) = (|tick: &f64| x.text(*tick), |tick: &f64| y.text(*tick));
    chart
        .configure_mesh()
        .x_desc(x.label.as_str())
        .y_desc(y.label.as_str())
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .label_style(text_style(FONT, HPos::Left, VPos::Top))
        .draw()?;
    Ok(chart)
}

/// Draws the names and colours below a chart, one a line.
fn draw_legend(canvas: &Canvas<'_>, entries: &[(&str, RGBColor)]) -> CanvasResult {
    let (_, height) = canvas.dim_in_pixel();
    let (_, area) = canvas.split_vertically(height - legend_height(entries.len()));
    let left = MARGIN as i32;
    for (row, (name, colour)) in entries.iter().enumerate() {
        let y = (row as u32 * LEGEND_HEIGHT + LEGEND_HEIGHT / 2) as i32;
        let corners = [(left, y - HALF_SQUARE), (left + 2 * HALF_SQUARE, y + HALF_SQUARE)];
        area.draw(&Rectangle::new(corners, colour.filled()))?;
        let style = text_style(FONT, HPos::Left, VPos::Center);
        area.draw(&Text::new(*name, (left + 4 * HALF_SQUARE, y), style))?;
    }
    Ok(())
}

/// A font, and the side of a text that is at its place.
fn text_style(font: ChartFont, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    TextStyle::from(font).pos(Pos::new(horizontal, vertical))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, y: f64) -> PlotPoint {
        PlotPoint { x, y, text: format!("{y} ns") }
    }

    #[test]
    fn a_plot_has_labels_units_and_the_name_of_each_series() {
        let series =
            |name: &str, is_line, points| PlotSeries { name: name.to_owned(), is_line, points };
        let plot = Plot {
            title: "Scans & peers".to_owned(),
            x: Axis::logarithmic("processes [number]", [1000.0, 10_000.0].into_iter()),
            y: Axis::linear("time per object [ns]", 700.0),
            series: vec![
                series("Panoptes", true, vec![point(1000.0, 597.0), point(10_000.0, 525.0)]),
                series("copying its lines", false, vec![point(1000.0, 49.0)]),
            ],
        };
        let svg = plot.svg().unwrap();
        for text in [
            "Scans &amp; peers",
            "processes [number]",
            "time per object [ns]",
            "Panoptes",
            "copying its lines",
            "597 ns",
            "525 ns",
            "49 ns",
            "5,000",
            "600",
        ] {
            assert!(svg.contains(&format!(">\n{text}\n</text>")), "{text}: {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 3, "{svg}");
        assert!(svg.starts_with("<svg width=\"1000\"") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn a_chart_of_boxes_has_its_axis_and_its_names() {
        let share = |name: &str, level, start, end, kind| ShareBox {
            name: name.to_owned(),
            level,
            start,
            end,
            kind,
        };
        let chart = BoxChart {
            title: "Calls",
            shares: "share of samples [%]",
            levels: "calls",
            kinds: &[("the walk", RGBColor(1, 2, 3)), ("tables", RGBColor(4, 5, 6))],
            boxes: vec![share("read", 0, 0.0, 100.0, 0), share("narrow", 1, 0.0, 0.1, 1)],
        };
        let svg = chart.svg().unwrap();
        for text in ["Calls", "share of samples [%]", "calls", "the walk", "tables", "read", "80"] {
            assert!(svg.contains(&format!(">\n{text}\n</text>")), "{text}: {svg}");
        }
        assert!(!svg.contains("narrow"), "a name has no room: {svg}");
        // Each kind has a square in the legend, and each box its own.
        assert_eq!(svg.matches("#010203").count() + svg.matches("#040506").count(), 4, "{svg}");
    }
}
