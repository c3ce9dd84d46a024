//! `cargo xtask plots`: draws the images of docs/images again, without measuring.
//!
//! The results are in the tree: the tables of docs/performance, and the stacks beside the flame
//! graph. So a plot shows the figures of its page. A test compares the images with what the command
//! draws.

mod page;

use crate::chart::{Axis, Plot, PlotPoint, PlotSeries};
use crate::flame;
use page::{ResultsPage, ResultsTable, number, plain, seconds};

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/images");
/// A file in `docs/images`, and the function that draws it.
type PlotFile = (&'static str, fn() -> Result<String, String>);

const PLOTS: [PlotFile; 4] = [
    ("flows.svg", || flows()?.svg()),
    ("growth.svg", || growth()?.svg()),
    ("peers.svg", || peers()?.svg()),
    ("scan.svg", flame::draw_again),
];

/// Room above the highest point, as a factor.
const ROOM_ABOVE: f64 = 1.15;
/// Distance of the series that share a row, in rows.
const SERIES_DISTANCE: f64 = 0.44;

/// Ways of reading the lines of a scan without decoding them, on the page of scans.
const LINE_COSTS: [(&str, &str); 2] = [
    ("a line with 64 chains", "lower bound: the lines of a scan, by 64 chains of loads"),
    ("a line of a sequential copy", "copying as many lines in sequence (memcpy)"),
];
/// Lower bounds of a scan of the node, and the programs that get the same facts, on that page.
const BOUNDS: [&str; 2] = ["the same reads with nothing decoded", "copying the pages touched"];
const PROGRAMS: [&str; 3] = ["Panoptes", "drgn", "Volatility 3"];
/// The tables of the page of flows.
const CAPTURES: [&str; 2] = ["96-byte snaps", "whole packets"];

pub(crate) fn run() -> Result<(), String> {
    for (name, draw) in PLOTS {
        let path = format!("{IMAGES}/{name}");
        std::fs::write(&path, draw()?).map_err(|error| format!("{path}: {error}"))?;
        println!("docs/images/{name}");
    }
    Ok(())
}

/// The time of a scan per object, by the number of processes, with what its reads alone would take.
fn growth() -> Result<Plot, String> {
    let page = ResultsPage::open("scan.md")?;
    let machine = page.machine("Growth")?;
    let table = page.table("Growth", "ns per object")?;
    let processes = table.numbers("processes")?;
    let times = table.column("ns per object")?;
    let scans = processes.iter().zip(&times).map(|(&x, (_, cell))| -> Result<_, String> {
        Ok(PlotPoint { x, y: number(cell)?, text: plain(cell) })
    });
    let mut series = vec![PlotSeries {
        name: "Panoptes: a cold scan".to_owned(),
        is_line: true,
        points: scans.collect::<Result<_, String>>()?,
    }];
    // What another machine's memory takes is no bound here.
    if page.machine("The model")? == machine {
        let costs = page.table("The model", LINE_COSTS[0].0)?;
        for (row, name) in LINE_COSTS {
            let line_ns = seconds(costs.cell(row)?)? * 1e9;
            let name = format!("{name}, {line_ns:.1} ns a line");
            series.push(bound_by_lines(name, &table, line_ns)?);
        }
    }
    let highest = series.iter().flat_map(|it| &it.points).map(|point| point.y).fold(0.0, f64::max);
    Ok(Plot {
        title: format!(
            "Time of a scan per object, by the size of the machine ({machine}, one core)"
        ),
        x: Axis::logarithmic("processes of the scanned machine [number]", processes.into_iter()),
        y: Axis::linear("processor time per object [ns]", highest * ROOM_ABOVE),
        series,
    })
}

/// The time per object if each line of a scan took so many nanoseconds, and nothing else any time.
fn bound_by_lines(
    name: String,
    growth: &ResultsTable<'_>,
    line_ns: f64,
) -> Result<PlotSeries, String> {
    let columns = [growth.numbers("processes")?, growth.numbers("objects")?];
    let lines = growth.numbers("lines")?;
    let rows = columns[0].iter().zip(&columns[1]).zip(&lines);
    let points = rows.map(|((&x, objects), lines)| {
        let y = lines / objects * line_ns;
        PlotPoint { x, y, text: String::new() }
    });
    Ok(PlotSeries { name, is_line: true, points: points.collect() })
}

/// The processor time of all who get the facts of the reference node, with lower bounds of a scan.
fn peers() -> Result<Plot, String> {
    const SECTION: &str = "drgn and Volatility 3";
    const NODE: &str = "The reference node";
    let page = ResultsPage::open("scan.md")?;
    let machine = page.machine(SECTION)?;
    let mut rows = Vec::new();
    if page.machine(NODE)? == machine {
        let node = page.table(NODE, BOUNDS[0])?;
        for bound in BOUNDS {
            rows.push((bound, node.cell(bound)?, "lower bounds of a scan"));
        }
    }
    for (name, cell) in page.table(SECTION, PROGRAMS[1])?.column("processor time")? {
        let program = PROGRAMS.into_iter().find(|program| name.starts_with(program));
        rows.push((name, cell, program.ok_or_else(|| format!("whose is {name:?}?"))?));
    }
    let y = Axis::rows("program", rows.iter().map(|(name, ..)| plain(name)).collect());
    let mut series: Vec<PlotSeries> = Vec::new();
    for (row, (_, cell, program)) in rows.iter().enumerate() {
        let point = PlotPoint { x: seconds(cell)?, y: y.level(row), text: plain(cell) };
        match series.iter_mut().find(|series| series.name == *program) {
            Some(series) => series.points.push(point),
            None => series.push(PlotSeries {
                name: (*program).to_owned(),
                is_line: false,
                points: vec![point],
            }),
        }
    }
    Ok(Plot {
        title: format!("The same facts of the reference node ({machine})"),
        x: Axis::logarithmic("processor time [s]", values(&series)),
        y,
        series,
    })
}

/// The speed of flow sensors over the same captures.
fn flows() -> Result<Plot, String> {
    const SECTION: &str = "Captures";
    let page = ResultsPage::open("flows.md")?;
    let speeds = |capture: &str| -> Result<_, String> {
        let table = page.table(SECTION, capture)?;
        let heading = table.heading(capture).unwrap_or(capture).to_owned();
        Ok((heading, table.column("million packets per CPU s")?))
    };
    let captures = [speeds(CAPTURES[0])?, speeds(CAPTURES[1])?];
    let names: Vec<&str> = captures[0].1.iter().map(|(name, _)| *name).collect();
    let y = Axis::rows("sensor", names.iter().map(|name| plain(name)).collect());
    let mut series = Vec::new();
    for (index, (heading, speeds)) in captures.iter().enumerate() {
        let above = SERIES_DISTANCE * (0.5 - index as f64);
        let mut points = Vec::new();
        for (name, cell) in speeds {
            let row = names.iter().position(|other| other == name);
            let row = row.ok_or_else(|| format!("{name:?} is in one of the tables only"))?;
            let (x, text) = (number(cell)?, plain(cell));
            points.push(PlotPoint { x, y: y.level(row) + above, text });
        }
        series.push(PlotSeries { name: heading.clone(), is_line: false, points });
    }
    Ok(Plot {
        title: format!("Flow sensors over the same captures ({})", page.machine(SECTION)?),
        x: Axis::logarithmic(
            "speed [million packets per second of processor time]",
            values(&series),
        ),
        y,
        series,
    })
}

/// The horizontal values of series.
fn values(series: &[PlotSeries]) -> impl Iterator<Item = f64> {
    series.iter().flat_map(|series| &series.points).map(|point| point.x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_are_those_of_the_tables() {
        for (name, draw) in PLOTS {
            let written = std::fs::read_to_string(format!("{IMAGES}/{name}")).unwrap_or_default();
            let is_drawn = written == draw().unwrap();
            assert!(is_drawn, "docs/images/{name} is out of date; run: cargo xtask plots");
        }
    }

    #[test]
    fn plots_have_the_peers_and_the_lower_bounds() {
        let peers = peers().unwrap();
        let names: Vec<&str> = peers.series.iter().map(|series| series.name.as_str()).collect();
        assert!(PROGRAMS.iter().all(|program| names.contains(program)), "{names:?}");
        let flows = flows().unwrap();
        assert_eq!(flows.series.len(), CAPTURES.len());
        assert!(flows.svg().unwrap().contains(">\nargus(8) 3\n</text>"));
        let points = growth().unwrap().series.into_iter().next().map(|series| series.points);
        assert!(points.is_some_and(|points| points.len() > 3));
    }
}
