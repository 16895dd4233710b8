//! Per-kernel times from GPU timestamps ([`super::DeviceOptions::profile`]).

use std::collections::BTreeMap;

/// What one kernel took over all its dispatches.
#[derive(Clone, Debug, Default)]
pub struct ProfileRow {
    /// The kernel's label.
    pub label: String,
    /// Dispatches.
    pub calls: u64,
    /// Seconds on the device.
    pub seconds: f64,
    /// Floating-point operations, as the kernel's module counts them.
    pub flops: f64,
    /// Bytes that must be moved at the least.
    pub bytes: f64,
}

/// Times summed by kernel label.
#[derive(Clone, Debug)]
pub struct Profile {
    period_ns: f64,
    rows: BTreeMap<String, ProfileRow>,
}

impl Profile {
    pub(super) fn new(period_ns: f32) -> Self {
        Profile { period_ns: f64::from(period_ns), rows: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, label: &str, ticks: u64, flops: f64, bytes: f64) {
        let row = self.rows.entry(label.to_string()).or_default();
        row.label = label.to_string();
        row.calls += 1;
        row.seconds += ticks as f64 * self.period_ns * 1e-9;
        row.flops += flops;
        row.bytes += bytes;
    }

    /// The rows, the slowest first.
    pub fn rows(&self) -> Vec<ProfileRow> {
        let mut rows: Vec<_> = self.rows.values().cloned().collect();
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }
}
