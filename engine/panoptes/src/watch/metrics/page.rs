//! The page `/metrics`: the figures as text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use panoptes_engine::limits::Limit;
use panoptes_engine::policy::gaps::key_of;
use panoptes_engine::watch::ScanStage;
use panoptes_sinks::output::OutputCounters;

use super::flows::add_flows;
use super::text::{MetricKind, MetricLabelValue, MetricsPage, seconds};
use super::{Figures, lock};
use crate::watch::counters::{SystemFigures, TableFigures};

/// A figure of a system.
type SystemFigure = fn(&SystemFigures) -> u64;
/// A figure of a table.
type TableFigure = fn(&TableFigures) -> &AtomicU64;
/// A figure of an output.
type OutputFigure = fn(&OutputCounters) -> u64;

const SYSTEM_METRICS: [(&str, MetricKind, &str, SystemFigure); 10] = [
    (
        "panoptes_system_watched",
        MetricKind::Gauge,
        "Whether the system is scanned; 0 while its kernel is searched, or it is absent.",
        |system| system.is_watched.load(Ordering::Relaxed).into(),
    ),
    (
        "panoptes_scans_total",
        MetricKind::Counter,
        "Scans; a scan in parts counts once for each part.",
        |system| system.scans.load(Ordering::Relaxed),
    ),
    (
        "panoptes_partial_scans_total",
        MetricKind::Counter,
        "Scans that left something for the next one.",
        |system| system.partial.load(Ordering::Relaxed),
    ),
    (
        "panoptes_kept_scans_total",
        MetricKind::Counter,
        "Scans that kept what the one before had read, because no task had run.",
        |system| system.kept.load(Ordering::Relaxed),
    ),
    (
        "panoptes_light_scans_total",
        MetricKind::Counter,
        "Scans that left the descriptors and memory areas of processes that had not run.",
        |system| system.light.load(Ordering::Relaxed),
    ),
    (
        "panoptes_early_scans_total",
        MetricKind::Counter,
        "Scans before the interval was over, because something was started.",
        |system| system.early.load(Ordering::Relaxed),
    ),
    (
        "panoptes_failed_scans_total",
        MetricKind::Counter,
        "Scans that found no consistent process list, or another boot.",
        |system| system.failed.load(Ordering::Relaxed),
    ),
    (
        "panoptes_read_bytes_total",
        MetricKind::Counter,
        "Bytes of the machine's memory that scans have read.",
        |system| system.read_bytes.load(Ordering::Relaxed),
    ),
    ("panoptes_read_batches_total", MetricKind::Counter, "Batches of reads.", |system| {
        system.read_batches.load(Ordering::Relaxed)
    }),
    (
        "panoptes_read_errors_total",
        MetricKind::Counter,
        "Reads that gave no bytes: memory that is not there, or does not answer.",
        |system| system.read_errors.load(Ordering::Relaxed),
    ),
];

const TABLE_METRICS: [(&str, &str, TableFigure); 3] = [
    (
        "panoptes_table_entries",
        "Tracked objects by table; bytes of names for the table strings.",
        |table| &table.used,
    ),
    ("panoptes_table_capacity", "The table's capacity.", |table| &table.capacity),
    (
        "panoptes_table_untracked",
        "Objects that found no room in the table in the last scan.",
        |table| &table.untracked,
    ),
];

const OUTPUT_METRICS: [(&str, MetricKind, &str, OutputFigure); 8] = [
    (
        "panoptes_output_records_total",
        MetricKind::Counter,
        "Records that reached the kernel, or that the receiver has confirmed.",
        OutputCounters::records,
    ),
    (
        "panoptes_output_bytes_total",
        MetricKind::Counter,
        "Bytes that reached the kernel.",
        OutputCounters::bytes,
    ),
    (
        "panoptes_output_backlog_records",
        MetricKind::Gauge,
        "Records that wait for the receiver.",
        OutputCounters::waiting,
    ),
    (
        "panoptes_output_backlog_bytes",
        MetricKind::Gauge,
        "Bytes that wait for the receiver.",
        OutputCounters::waiting_bytes,
    ),
    (
        "panoptes_output_dropped_total",
        MetricKind::Counter,
        "Records that the output could not accept in time, that found no room in its backlog, or \
         that the receiver refused.",
        OutputCounters::dropped,
    ),
    (
        "panoptes_output_errors_total",
        MetricKind::Counter,
        "Failed operations, retries included.",
        OutputCounters::errors,
    ),
    (
        "panoptes_output_failed_syncs_total",
        MetricKind::Counter,
        "Failed syncs: what was written before may not be on the disk.",
        OutputCounters::failed_syncs,
    ),
    (
        "panoptes_output_connections_total",
        MetricKind::Counter,
        "Connections that were made to the receiver.",
        OutputCounters::connections,
    ),
];

/// Renders all figures.
pub(super) fn page(figures: &Figures) -> String {
    let mut text = MetricsPage::default();
    let version = MetricLabelValue::new(env!("CARGO_PKG_VERSION"));
    text.metric("panoptes_build_info", MetricKind::Gauge, "Always 1, with the version.");
    text.sample(&[("version", &version)], 1);
    let help = "The time from scan to scan that is configured.";
    text.metric("panoptes_configured_scan_interval_seconds", MetricKind::Gauge, help);
    text.sample(&[], seconds(figures.interval_ns()));
    // The lock is not held while the text is made.
    let systems: Vec<_> = lock(&figures.systems)
        .iter()
        .map(|(name, figures)| (MetricLabelValue::new(name), Arc::clone(figures)))
        .collect();
    add_systems(&mut text, &systems);
    add_scans(&mut text, &systems);
    add_records(&mut text, figures);
    add_outputs(&mut text, figures);
    add_flows(&mut text, lock(&figures.flows).clone().as_deref());
    add_exceptions(&mut text, figures);
    text.finish()
}

fn add_systems(text: &mut MetricsPage, systems: &[(MetricLabelValue, Arc<SystemFigures>)]) {
    for (name, kind, help, value) in SYSTEM_METRICS {
        text.metric(name, kind, help);
        for (system, figures) in systems {
            text.sample(&[("system", system)], value(figures));
        }
    }
    let names = Limit::ALL.map(|limit| MetricLabelValue::new(limit.key()));
    for (name, help, value) in TABLE_METRICS {
        text.metric(name, MetricKind::Gauge, help);
        for (system, figures) in systems {
            for (table, figures) in names.iter().zip(&figures.tables) {
                let value = value(figures).load(Ordering::Relaxed);
                text.sample(&[("system", system), ("table", table)], value);
            }
        }
    }
    let help = "What scans missed since the gap began; 0 without a gap.";
    text.metric("panoptes_coverage_missed", MetricKind::Gauge, help);
    for (system, figures) in systems {
        for (gap, count) in figures.gaps.iter().enumerate() {
            let gap = MetricLabelValue::new(key_of(gap));
            text.sample(&[("system", system), ("gap", &gap)], count.load(Ordering::Relaxed));
        }
    }
}

fn add_scans(text: &mut MetricsPage, systems: &[(MetricLabelValue, Arc<SystemFigures>)]) {
    let help = "When the last scan began, in seconds since 1970; absent before the first one.";
    text.metric("panoptes_last_scan_timestamp_seconds", MetricKind::Gauge, help);
    for (system, figures) in systems {
        let last_ns = figures.last_scan_ns.load(Ordering::Relaxed);
        if let Ok(ns) = u64::try_from(last_ns)
            && ns > 0
        {
            text.sample(&[("system", system)], seconds(ns));
        }
    }
    let help = "Time of a scan by stage. Hashing has a share of the time between scans, too.";
    text.metric("panoptes_scan_duration_seconds", MetricKind::Histogram, help);
    for (system, figures) in systems {
        for (stage, durations) in ScanStage::ALL.iter().zip(&figures.stages) {
            let stage = MetricLabelValue::new(stage.name());
            text.histogram(&[("system", system), ("stage", &stage)], durations);
        }
    }
    let help = "Time from the start of a scan to the start of the next one.";
    text.metric("panoptes_scan_interval_seconds", MetricKind::Histogram, help);
    for (system, figures) in systems {
        text.histogram(&[("system", system)], &figures.intervals);
    }
}

fn add_records(text: &mut MetricsPage, figures: &Figures) {
    text.metric("panoptes_records_total", MetricKind::Counter, "Records by activity.");
    for (activity, message_type, count) in figures.records.all() {
        let (kind, name) =
            (MetricLabelValue::new(message_type.word()), MetricLabelValue::new(activity.name()));
        text.sample(&[("type", &kind), ("activity", &name)], count);
    }
    let help = "Records that found no room in the queues to the writer.";
    text.metric("panoptes_queue_dropped_total", MetricKind::Counter, help);
    text.sample(&[], figures.refused.load(Ordering::Relaxed));
}

fn add_outputs(text: &mut MetricsPage, figures: &Figures) {
    // Two receivers may have the same address; they are one here.
    let mut outputs: BTreeMap<MetricLabelValue, Vec<Arc<OutputCounters>>> = BTreeMap::new();
    for (name, counters) in &*lock(&figures.outputs) {
        if let Some(counters) = counters.upgrade() {
            outputs.entry(MetricLabelValue::new(name)).or_default().push(counters);
        }
    }
    for (name, kind, help, value) in OUTPUT_METRICS {
        text.metric(name, kind, help);
        for (output, all) in &outputs {
            let sum = all.iter().map(|counters| value(counters)).fold(0, u64::saturating_add);
            text.sample(&[("output", output)], sum);
        }
    }
}

fn add_exceptions(text: &mut MetricsPage, figures: &Figures) {
    // Two exceptions may have the same reason.
    let mut counts: BTreeMap<(&str, MetricLabelValue), u64> = BTreeMap::new();
    for (exception, count) in lock(&figures.exceptions).counts() {
        let key = (exception.activity.name(), MetricLabelValue::new(&exception.reason));
        *counts.entry(key).or_default() += count;
    }
    let help = "Alerts that exceptions have silenced.";
    text.metric("panoptes_exceptions_total", MetricKind::Counter, help);
    for ((activity, reason), count) in &counts {
        let activity = MetricLabelValue::new(activity);
        text.sample(&[("activity", &activity), ("reason", reason)], count);
    }
}
