//! Sizes for people.

/// A size for people: `58.3 MiB`.
pub(crate) fn show(bytes: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    #[expect(clippy::cast_precision_loss, reason = "it is rounded anyway")]
    let mib = bytes as f64 / MIB;
    if mib < 10_240.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}
