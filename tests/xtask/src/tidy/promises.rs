//! Each promise of PERFORMANCE.md names what holds it.

use super::{files, sources};

/// The last column of a table of promises.
const HEADING: &str = "| held by |";
/// Words for a promise that no test and no command holds.
const NOT_HELD: [&str; 2] = ["*no test*", "*not reached*"];

/// The last cells of the tables of promises.
fn holders(page: &str) -> Vec<&str> {
    let (mut found, mut is_table) = (Vec::new(), false);
    for line in page.lines() {
        if line.ends_with(HEADING) {
            is_table = true;
        } else if !line.starts_with('|') {
            is_table = false;
        } else if is_table && !line.starts_with("|---") {
            let cell = line.trim_end_matches('|').rsplit('|').next();
            found.extend(cell.map(str::trim));
        }
    }
    found
}

#[test]
fn each_promise_names_what_holds_it() {
    let (sources, pages) = (sources(), files(&["md"]));
    let is_page = |(path, _): &&(String, String)| path == "PERFORMANCE.md";
    let (_, page) = pages.iter().find(is_page).expect("PERFORMANCE.md exists");
    let holders = holders(page);
    assert!(holders.len() > 20, "the tables were not found");
    for holder in holders {
        let names: Vec<&str> = holder.split('`').skip(1).step_by(2).collect();
        assert!(
            NOT_HELD.contains(&holder) || !names.is_empty(),
            "PERFORMANCE.md: {holder:?} is no test"
        );
        for name in names.into_iter().filter(|name| !name.starts_with("cargo ")) {
            let function = format!("fn {name}(");
            let is_test = sources.iter().any(|(_, text)| text.contains(&function));
            assert!(is_test, "PERFORMANCE.md: there is no test {name}");
        }
    }
}

#[test]
fn the_last_cells_of_promises_are_found() {
    let page = "| a | b |\n|---|---|\n| 1 | 2 |\n\n| a | held by |\n|---|---|\n| 1 | `x` |\n\n\
                | c | d |\n";
    assert_eq!(holders(page), ["`x`"]);
}
