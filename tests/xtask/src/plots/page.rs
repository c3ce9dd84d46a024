//! Tables of a page of docs/performance: the results that plots show.

/// Names of the machines in PERFORMANCE.md, as the pages write them.
const MACHINES: [&str; 4] = ["*Intel*", "*Xeon*", "*AMD*", "*EPYC*"];

/// A page with its file's name.
#[derive(Debug)]
pub(super) struct ResultsPage {
    name: &'static str,
    text: String,
}

/// A table. Each row has the cells of its columns.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ResultsTable<'a> {
    headings: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl ResultsPage {
    /// Reads a page of docs/performance.
    pub(super) fn open(name: &'static str) -> Result<Self, String> {
        let path = format!("{}/../../docs/performance/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { name, text })
    }

    /// The machine that a section names first, without its asterisks.
    pub(super) fn machine(&self, heading: &str) -> Result<&'static str, String> {
        let section = self.section(heading)?.join("\n");
        let places = MACHINES.into_iter().filter_map(|name| Some((section.find(name)?, name)));
        let first = places.min().ok_or_else(|| self.lacks(heading, "a machine"))?;
        Ok(first.1.trim_matches('*'))
    }

    /// The first table of a section with a heading, or a first cell of a row, that begins with this
    /// text.
    pub(super) fn table(&self, heading: &str, text: &str) -> Result<ResultsTable<'_>, String> {
        let section = self.section(heading)?;
        let tables = section.split(|line| !line.starts_with('|')).filter_map(ResultsTable::of);
        let mut fitting = tables.filter(|table| table.mentions(text));
        fitting.next().ok_or_else(|| self.lacks(heading, &format!("a table with {text:?}")))
    }

    /// The lines below a heading.
    fn section(&self, heading: &str) -> Result<Vec<&str>, String> {
        let is_heading = |line: &str| line.starts_with('#');
        let is_wanted = |line: &str| line.trim_start_matches('#').trim() == heading;
        let mut lines = self.text.lines();
        if !lines.any(|line| is_heading(line) && is_wanted(line)) {
            return Err(self.lacks(heading, "that section"));
        }
        Ok(lines.take_while(|line| !is_heading(line)).collect())
    }

    fn lacks(&self, heading: &str, what: &str) -> String {
        format!("docs/performance/{}, section {heading:?}: {what} is missing", self.name)
    }
}

impl<'a> ResultsTable<'a> {
    /// The table in consecutive lines that begin with a bar.
    fn of(lines: &[&'a str]) -> Option<Self> {
        // The second line only separates the headings from the rows.
        let (headings, rows) = (lines.first()?, lines.get(2..)?);
        let rows = rows.iter().map(|line| cells(line)).collect();
        Some(Self { headings: cells(headings), rows })
    }

    fn mentions(&self, text: &str) -> bool {
        let first = self.rows.iter().filter_map(|row| row.first());
        self.headings.iter().chain(first).any(|cell| cell.starts_with(text))
    }

    /// The heading that begins with this text.
    pub(super) fn heading(&self, text: &str) -> Option<&'a str> {
        self.headings.iter().copied().find(|heading| heading.starts_with(text))
    }

    /// The first cell of each row, with the cell in the column whose heading begins with this text.
    pub(super) fn column(&self, text: &str) -> Result<Vec<(&'a str, &'a str)>, String> {
        let column = self.headings.iter().position(|heading| heading.starts_with(text));
        let column = column.ok_or_else(|| format!("a table has no column {text:?}"))?;
        let cell = |row: &Vec<&'a str>| Some((*row.first()?, *row.get(column)?));
        Ok(self.rows.iter().filter_map(cell).collect())
    }

    /// The numbers of a column.
    pub(super) fn numbers(&self, text: &str) -> Result<Vec<f64>, String> {
        self.column(text)?.into_iter().map(|(_, cell)| number(cell)).collect()
    }

    /// The second cell of the row whose first one begins with this text.
    pub(super) fn cell(&self, text: &str) -> Result<&'a str, String> {
        let row = self.rows.iter().find(|row| row.first().is_some_and(|it| it.starts_with(text)));
        let cell = row.and_then(|row| row.get(1)).copied();
        cell.ok_or_else(|| format!("a table has no row {text:?}"))
    }
}

fn cells(line: &str) -> Vec<&str> {
    let line = line.strip_prefix('|').unwrap_or(line);
    let line = line.strip_suffix('|').unwrap_or(line);
    line.split('|').map(str::trim).collect()
}

/// A cell without the signs of Markdown.
pub(super) fn plain(cell: &str) -> String {
    cell.replace(['*', '`'], "")
}

/// The first number of a cell.
pub(super) fn number(cell: &str) -> Result<f64, String> {
    Ok(measure(cell)?.0)
}

/// The first number of a cell in seconds. It must have a unit of time.
pub(super) fn seconds(cell: &str) -> Result<f64, String> {
    let (number, unit) = measure(cell)?;
    let factor = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return Err(format!("{cell:?} is no time")),
    };
    Ok(number * factor)
}

/// The first number of a cell, and the word behind it.
fn measure(cell: &str) -> Result<(f64, &str), String> {
    let is_digit = |c: char| c.is_ascii_digit();
    let is_part = |c: char| is_digit(c) || c == '.' || c == ',';
    let start = cell.find(is_digit).unwrap_or(cell.len());
    let length = cell[start..].find(|c: char| !is_part(c)).unwrap_or(cell.len() - start);
    let (digits, rest) = cell[start..].split_at(length);
    let number = digits.replace(',', "").parse::<f64>();
    let number = number.map_err(|_| format!("{cell:?} begins with no number"))?;
    Ok((number, rest.split_whitespace().next().unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Page\n\n## One\n\nOn *AMD* and *EPYC*:\n\n| | time |\n|---|---|\n\
                        | `a` | ≥ 1,443 s |\n\n| b | c d |\n|---|---|\n| 1 | **2.5** |\n| 3 | 4 |\n\
                        \n### Two\n\n| e |\n|---|\n| f |\n";

    fn page() -> ResultsPage {
        ResultsPage { name: "x.md", text: TEXT.to_owned() }
    }

    #[test]
    fn tables_are_found_in_their_sections() {
        let page = page();
        assert_eq!(page.machine("One"), Ok("AMD"));
        let table = page.table("One", "c").unwrap();
        assert_eq!(table.numbers("c"), Ok(vec![2.5, 4.0]));
        assert_eq!(table.column("c"), Ok(vec![("1", "**2.5**"), ("3", "4")]));
        assert_eq!(table.cell("3"), Ok("4"));
        assert_eq!(table.heading("c"), Some("c d"));
        assert_eq!(page.table("One", "`a").unwrap().cell("`a"), Ok("≥ 1,443 s"));
        for missing in [page.table("One", "e"), page.table("Two", "c"), page.table("Three", "e")] {
            assert!(missing.unwrap_err().starts_with("docs/performance/x.md, section"));
        }
        assert!(page.machine("Two").is_err() && table.column("x").is_err());
    }

    #[test]
    fn cells_have_numbers_and_units() {
        assert_eq!([seconds("≥ 1,443 s"), seconds("2.5 ms")], [Ok(1443.0), Ok(0.0025)]);
        assert_eq!(number("**2.5**"), Ok(2.5));
        assert_eq!(number("7.3 ns (8.8 GB/s)"), Ok(7.3));
        assert!(seconds("7.3").is_err() && number("–").is_err());
        assert_eq!(plain("**`panoptes flow`**, x"), "panoptes flow, x");
    }
}
