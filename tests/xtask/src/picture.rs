//! A picture (SVG) of a command's output, for the README.

use std::fmt::Write as _;

/// Maximum number of lines in the picture.
const LINES_MAX: usize = 52;
/// Maximum length of a line, in characters.
const WIDTH: usize = 132;
/// Lines shown after each act, beside alerts and warnings.
const AFTER_ACT: usize = 1;
/// Size of a character, in units of the picture.
const CELL: (f64, usize) = (7.3, 17);

/// Colours by the codes that `human` prints.
const COLOURS: [(&str, &str); 5] = [
    ("\x1b[1;36m", "#56c8d8"),
    ("\x1b[1;31m", "#ff6b68"),
    ("\x1b[33m", "#e5c07b"),
    ("\x1b[31m", "#ff6b68"),
    ("\x1b[2m", "#7f848e"),
];
const PLAIN: &str = "#d7dae0";
const ACT: &str = "\x1b[1;36m";

/// The picture of coloured lines: from the first act on, the acts of the demo, the first record of
/// each, and all alerts and warnings. `…` ends a picture that would be too long.
pub(crate) fn svg(lines: &[String]) -> String {
    let chosen = choose(lines);
    let height = (chosen.len() + 2) * CELL.1;
    let width = (WIDTH as f64 * CELL.0) as usize + 32;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#1e2127\"/>\n"
    );
    for (row, line) in chosen.iter().enumerate() {
        let (colour, text) = parts(line);
        let short: String = text.chars().take(WIDTH).collect();
        let _ = writeln!(
            out,
            "<text x=\"16\" y=\"{}\" fill=\"{colour}\" xml:space=\"preserve\">{}</text>",
            (row + 2) * CELL.1 - 4,
            escaped(&short)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// The lines to show.
fn choose(lines: &[String]) -> Vec<&str> {
    let is_act = |line: &&String| line.starts_with(ACT);
    let mut chosen = Vec::new();
    let mut after_act = 0;
    for line in lines.iter().skip_while(|line| !is_act(line)) {
        let is_marked = line.contains("\x1b[1;31m") || line.contains("\x1b[33m");
        after_act = if is_act(&line) { 0 } else { after_act + 1 };
        if after_act > AFTER_ACT && !is_marked {
            continue;
        }
        if chosen.len() + 1 == LINES_MAX {
            chosen.push("…");
            break;
        }
        chosen.push(line.as_str());
    }
    chosen
}

/// A line's colour, and its text without codes.
fn parts(line: &str) -> (&'static str, &str) {
    for (code, colour) in COLOURS {
        if let Some(rest) = line.strip_prefix(code) {
            return (colour, rest.strip_suffix("\x1b[0m").unwrap_or(rest));
        }
    }
    (PLAIN, line)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_and_alerts_are_shown_and_the_rest_is_cut() {
        let mut lines = vec!["before".to_owned(), format!("{ACT}--- a shell & more\x1b[0m")];
        lines.extend((0..5).map(|number| format!("record {number}")));
        lines.push("\x1b[1;31malert\x1b[0m".to_owned());
        let chosen = choose(&lines);
        assert_eq!(chosen[1..], ["record 0", "\x1b[1;31malert\x1b[0m"]);
        assert_eq!(parts(chosen[2]), ("#ff6b68", "alert"));
        let picture = svg(&lines);
        assert!(picture.contains("--- a shell &amp; more</text>"), "{picture}");
        assert_eq!(picture.matches("<text").count(), 3);
    }

    #[test]
    fn a_picture_has_a_bound() {
        let lines: Vec<String> = (0..100).map(|_| format!("{ACT}act\x1b[0m")).collect();
        let chosen = choose(&lines);
        assert_eq!((chosen.len(), chosen.last()), (LINES_MAX, Some(&"…")));
    }
}
