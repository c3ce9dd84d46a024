//! The metrics of the sensor of flows. Without one, they have no samples.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::text::{MetricKind, MetricLabelValue, MetricsPage};
use crate::flow::{OutputFigures, SensorFigures, key_of_gap};

/// A figure of the sensor.
type SensorFigure = fn(&SensorFigures) -> &AtomicU64;
/// A figure of one of its outputs.
type SensorOutputFigure = fn(&OutputFigures) -> &AtomicU64;

const SENSOR_METRICS: [(&str, MetricKind, &str, SensorFigure); 6] = [
    (
        "panoptes_flow_packets_total",
        MetricKind::Counter,
        "Packets that the sensor of flows has read.",
        |sensor| &sensor.packets,
    ),
    ("panoptes_flow_bytes_total", MetricKind::Counter, "Their bytes on the wire.", |sensor| {
        &sensor.bytes
    }),
    ("panoptes_flow_flows", MetricKind::Gauge, "Flows that are tracked now.", |sensor| {
        &sensor.flows
    }),
    (
        "panoptes_flow_flows_limit",
        MetricKind::Gauge,
        "How many flows can be tracked at once.",
        |sensor| &sensor.flows_limit,
    ),
    (
        "panoptes_flow_evictions_total",
        MetricKind::Counter,
        "Flows that were reported early because the table was full.",
        |sensor| &sensor.evictions,
    ),
    ("panoptes_flow_records_total", MetricKind::Counter, "Records of flows.", |sensor| {
        &sensor.records
    }),
];

const OUTPUT_METRICS: [(&str, &str, SensorOutputFigure); 2] = [
    (
        "panoptes_flow_output_records_total",
        "Records of the sensor that its output has accepted.",
        |output| &output.records,
    ),
    (
        "panoptes_flow_output_dropped_total",
        "Records of the sensor for which its output had no room.",
        |output| &output.dropped,
    ),
];

/// Adds the metrics.
pub(super) fn add_flows(text: &mut MetricsPage, sensor: Option<&SensorFigures>) {
    let get = |place: &AtomicU64| place.load(Ordering::Relaxed);
    for (name, kind, help, value) in SENSOR_METRICS {
        text.metric(name, kind, help);
        if let Some(sensor) = sensor {
            text.sample(&[], get(value(sensor)));
        }
    }
    let help = "Packets that were lost because a ring, or the way between threads, was full.";
    text.metric("panoptes_flow_packets_lost_total", MetricKind::Counter, help);
    // An interface may be named twice.
    let mut lost: BTreeMap<MetricLabelValue, u64> = BTreeMap::new();
    for (interface, count) in sensor.iter().flat_map(|sensor| &sensor.lost) {
        *lost.entry(MetricLabelValue::new(interface)).or_default() += get(count);
    }
    for (interface, count) in &lost {
        text.sample(&[("interface", interface)], count);
    }
    for (name, help, value) in OUTPUT_METRICS {
        text.metric(name, MetricKind::Counter, help);
        for (output, figures) in sensor.iter().flat_map(|sensor| &sensor.outputs) {
            text.sample(&[("output", &MetricLabelValue::new(output))], get(value(figures)));
        }
    }
    let help = "What the sensor missed since the gap began; 0 without a gap.";
    text.metric("panoptes_flow_gap", MetricKind::Gauge, help);
    for (gap, count) in sensor.iter().flat_map(|sensor| sensor.gaps.iter().enumerate()) {
        text.sample(&[("gap", &MetricLabelValue::new(key_of_gap(gap)))], get(count));
    }
}
