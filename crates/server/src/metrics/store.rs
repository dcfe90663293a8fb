//! What a store holds.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::text::TextWriter;

/// Counts of a store.
#[derive(Debug, Default)]
pub(crate) struct StoreMetrics {
    entries: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
    failures: AtomicU64,
}

impl StoreMetrics {
    /// Entries and bytes after a change, and how many entries it removed to make room.
    pub(crate) fn note(&self, totals: Option<(u64, u64, u64)>) {
        let Some((entries, bytes, evicted)) = totals else { return };
        self.entries.store(entries, Relaxed);
        self.bytes.store(bytes, Relaxed);
        self.evictions.fetch_add(evicted, Relaxed);
    }

    /// Something could not be read or kept.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Writes the families of the store called `store`, which keeps `things`.
    pub(super) fn write(&self, writer: &mut TextWriter, store: &str, things: &str) {
        let families = [
            ("entries", "gauge", format!("{things} in the store."), &self.entries),
            ("bytes", "gauge", format!("Bytes of the {} in the store.", things.to_lowercase()), &self.bytes),
            (
                "evictions_total",
                "counter",
                format!("{things} removed to make room for others."),
                &self.evictions,
            ),
            (
                "failures_total",
                "counter",
                format!("{things} that could not be stored or read."),
                &self.failures,
            ),
        ];
        for (name, kind, help, value) in families {
            let name = format!("millrace:{store}_{name}");
            writer.family(&name, kind, &help);
            writer.sample(&name, &[], value.load(Relaxed));
        }
    }
}

#[cfg(test)]
impl StoreMetrics {
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}
