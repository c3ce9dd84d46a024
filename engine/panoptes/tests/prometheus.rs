//! The dashboard's queries and the alert rules in a real Prometheus that scrapes the program.
//!
//! `cargo xtask metrics` fetches Prometheus and names its folder in `PANOPTES_PROMETHEUS`. Without
//! that, only a line says that the test was left out.

mod recorded;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use panoptes_bounded::{self as bounded, Port};
use serde_json::Value;
use tempfile::TempDir;

use recorded::write_machine;

/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// Queries look back so far. Prometheus scrapes once a second.
const LOOKS_BACK: &str = "15s";

/// A program that is killed at the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = bounded::wait(&mut self.0);
    }
}

/// The folder with Prometheus' programs.
fn prometheus() -> Option<PathBuf> {
    let folder = std::env::var_os("PANOPTES_PROMETHEUS").map(PathBuf::from);
    if folder.is_none() {
        panoptes_needs::skip::test("PANOPTES_PROMETHEUS");
    }
    folder
}

fn documents() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    folder.canonicalize().expect("it exists")
}

/// Runs promtool; returns its output if it succeeds.
fn promtool(programs: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(programs.join("promtool"));
    let output = bounded::output(command.args(arguments)).expect("promtool runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

/// The program: it watches a machine and an absent one, and its receiver is not there.
fn panoptes(folder: &Path, metrics: SocketAddr, absent: SocketAddr) -> Running {
    let text = format!(
        "auto_scan: false\n\
         service: {{state_dir: state}}\n\
         output:\n  \
           stdout: false\n  \
           log_folder: log\n  \
           metrics: {{address: '{metrics}'}}\n  \
           telemetry: [{{address: '{absent}'}}]\n\
         exceptions: [{{activity: process_hidden, user_id: 0, reason: it is a test}}]\n\
         systems: {{web: {{system: web, file_format: raw}}, db: {{system: /absent}}}}\n"
    );
    fs::write(folder.join("p.yaml"), text).expect("there is room for a file");
    start(
        Command::new(env!("CARGO_BIN_EXE_panoptes"))
            .args(["run", "--config", "p.yaml"])
            .current_dir(folder),
        folder,
        "panoptes",
    )
}

/// Prometheus, which scrapes the program and itself, and has our alert rules.
fn scraper(folder: &Path, programs: &Path, metrics: SocketAddr, own: SocketAddr) -> Running {
    let rules = documents().join("prometheus/panoptes.rules.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n\
         - {{job_name: panoptes, static_configs: [{{targets: ['{metrics}']}}]}}\n\
         - {{job_name: prometheus, static_configs: [{{targets: ['{own}']}}]}}\n",
        rules.display()
    );
    fs::write(folder.join("prometheus.yml"), text).expect("there is room for a file");
    start(
        Command::new(programs.join("prometheus"))
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"])
            .arg(format!("--web.listen-address={own}"))
            .current_dir(folder),
        folder,
        "prometheus",
    )
}

fn start(command: &mut Command, folder: &Path, name: &str) -> Running {
    let said = File::create(folder.join(format!("{name}.said"))).expect("there is room");
    let other = said.try_clone().expect("it can be opened twice");
    let child = command.stdin(Stdio::null()).stdout(said).stderr(other).spawn();
    Running(child.expect("the program starts"))
}

/// A Prometheus that has scraped the program for a while.
struct Scraped {
    programs: PathBuf,
    server: String,
    folder: TempDir,
    _running: [Running; 2],
    _ports: [Port; 3],
}

impl Scraped {
    /// `None` without xz.
    fn start(programs: PathBuf) -> Option<Self> {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        if !write_machine(&[folder.path().join("web")]) {
            return None;
        }
        let ports = [(); 3].map(|()| Port::reserve().expect("there is a port"));
        let [metrics, own, absent] = ports.each_ref().map(Port::address);
        let program = panoptes(folder.path(), metrics, absent);
        let scraper = scraper(folder.path(), &programs, metrics, own);
        let server = format!("http://{own}");
        let running = [program, scraper];
        let scraped = Self { programs, server, folder, _running: running, _ports: ports };
        scraped.wait("count_over_time(panoptes_scans_total[5m]) > 10");
        Some(scraped)
    }

    /// The result of a query, a line for each series.
    fn query(&self, query: &str) -> Result<Vec<String>, String> {
        let answer = promtool(&self.programs, &["query", "instant", &self.server, query])?;
        Ok(answer.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Waits until a query has a result.
    #[track_caller]
    fn wait(&self, query: &str) {
        let begin = Instant::now();
        while !self.query(query).is_ok_and(|series| !series.is_empty()) {
            let said = |name: &str| fs::read_to_string(self.folder.path().join(name));
            let said = ["panoptes.said", "prometheus.said"].map(said);
            assert!(begin.elapsed() < PATIENCE, "no {query}: {said:?}");
            sleep(Duration::from_millis(200));
        }
    }
}

/// Each query of the dashboard, by panel, as Grafana sends it if everything is chosen.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(documents().join("grafana/panoptes.json")).expect("it exists");
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("there are panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query is text");
            let query = query.replace("$__rate_interval", LOOKS_BACK);
            let query = query.replace("$instance", ".*").replace("$system", ".*");
            assert!(!query.contains('$'), "{query}");
            queries.push((panel["title"].to_string(), query));
        }
    }
    queries
}

#[test]
fn the_alert_rules_hold_their_tests() {
    let Some(programs) = prometheus() else { return };
    for (what, name) in [("check", "panoptes.rules.yml"), ("test", "panoptes.rules.test.yml")] {
        let path = documents().join("prometheus").join(name).display().to_string();
        promtool(&programs, &[what, "rules", &path]).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn each_query_of_the_dashboard_has_an_answer() {
    let Some(programs) = prometheus() else { return };
    let Some(scraped) = Scraped::start(programs) else { return };
    let mut empty = Vec::new();
    for (panel, query) in queries() {
        let series = scraped.query(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
        println!("{:3} series: {panel}: {query}", series.len());
        // Nothing may have happened that such a panel shows.
        if series.is_empty() && !query.ends_with(" > 0") {
            empty.push(query);
        }
    }
    assert_eq!(empty, [""; 0]);
    // A scrape that Prometheus does not understand is down.
    assert_eq!(scraped.query("up{job=\"panoptes\"} == 1").map(|series| series.len()), Ok(1));
    scraped.wait("ALERTS{alertname=\"PanoptesSystemNotWatched\", system=\"db\"}");
    let failures = scraped.query("sum(prometheus_rule_evaluation_failures_total) == 0");
    assert_eq!(failures.map(|series| series.len()), Ok(1));
}
