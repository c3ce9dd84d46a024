//! The documents about metrics name those that exist: the page, the dashboard, the alert rules.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::*;

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    fs::read_to_string(path).unwrap()
}

/// The metrics of the page `/metrics`.
fn emitted() -> BTreeSet<String> {
    let (_, page) = body(&figures(Vec::new()), "/metrics");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// The metrics that a text names; the series of a histogram have its name.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("panoptes_"));
    let metric = |word: &str| {
        let mut suffixes = ["_bucket", "_sum", "_count"].into_iter();
        let of_histogram = suffixes.find_map(|suffix| word.strip_suffix(suffix));
        of_histogram.unwrap_or(word).to_owned()
    };
    words.map(metric).collect()
}

/// The panels of the dashboard that show something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

fn expressions(dashboard: &Value) -> Vec<&str> {
    let targets = panels(dashboard).into_iter().filter_map(|panel| panel["targets"].as_array());
    targets.flatten().map(|target| target["expr"].as_str().unwrap()).collect()
}

#[test]
fn every_metric_is_documented() {
    assert_eq!(named(&document("metrics.md")), emitted());
}

#[test]
fn the_dashboard_shows_every_metric() {
    let dashboard: Value = serde_json::from_str(&document("grafana/panoptes.json")).unwrap();
    let expressions = expressions(&dashboard);
    assert_eq!(named(&expressions.join(" ")), emitted());
    // The choice at the top of the dashboard concerns every query.
    for expression in expressions {
        let of = expression.matches("panoptes_").count();
        assert_eq!(expression.matches("{instance=~\"$instance\"").count(), of, "{expression}");
    }
    let variables = dashboard["templating"]["list"].to_string();
    assert!(named(&variables).is_subset(&emitted()), "{variables}");
}

#[test]
fn the_panels_of_the_dashboard_do_not_cover_each_other() {
    let dashboard: Value = serde_json::from_str(&document("grafana/panoptes.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{panel}");
            }
        }
    }
}

#[test]
fn alert_rules_name_metrics_that_exist_and_each_is_tested() {
    let rules = document("prometheus/panoptes.rules.yml");
    let tests = document("prometheus/panoptes.rules.test.yml");
    for text in [&rules, &tests] {
        assert!(named(text).is_subset(&emitted()), "{:?}", &named(text) - &emitted());
    }
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    let page = document("metrics.md");
    for alert in alerts {
        assert!(page.contains(&format!("| `{alert}` |")), "{alert} is not documented");
        let expected = format!("alertname: {alert}\n        exp_alerts:");
        assert!(tests.contains(&expected), "{alert} is not tested");
        assert!(tests.contains(&format!("alertname: {alert}}}")), "{alert}: when it is not raised");
    }
}
