//! What a handle has done, counted while it works.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What a handle has done so far, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Rows given to `run`.
    pub rows: u64,
    /// Rows that came back with a reason instead of a value.
    pub invalid_rows: u64,
    /// Calls of `run`.
    pub native_calls: u64,
    /// Calls of TensorFlow.
    pub session_runs: u64,
    /// Time spent decoding, resizing and packing, in nanoseconds, summed over threads.
    pub decode_nanos: u64,
    /// Time spent in TensorFlow, in nanoseconds, summed over threads.
    pub run_nanos: u64,
}

/// The counters behind `Metrics`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    rows: AtomicU64,
    invalid_rows: AtomicU64,
    native_calls: AtomicU64,
    session_runs: AtomicU64,
    decode_nanos: AtomicU64,
    run_nanos: AtomicU64,
}

impl Counters {
    pub(crate) fn decoded(&self, since: Instant) {
        self.decode_nanos.fetch_add(nanos(since), Ordering::Relaxed);
    }

    pub(crate) fn ran(&self, since: Instant) {
        self.session_runs.fetch_add(1, Ordering::Relaxed);
        self.run_nanos.fetch_add(nanos(since), Ordering::Relaxed);
    }

    pub(crate) fn called(&self, rows: usize, invalid: usize) {
        self.native_calls.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.invalid_rows.fetch_add(invalid as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Metrics {
        Metrics {
            rows: self.rows.load(Ordering::Relaxed),
            invalid_rows: self.invalid_rows.load(Ordering::Relaxed),
            native_calls: self.native_calls.load(Ordering::Relaxed),
            session_runs: self.session_runs.load(Ordering::Relaxed),
            decode_nanos: self.decode_nanos.load(Ordering::Relaxed),
            run_nanos: self.run_nanos.load(Ordering::Relaxed),
        }
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
