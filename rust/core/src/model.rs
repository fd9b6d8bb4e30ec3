//! The one type the faces hold.

use arrow::record_batch::RecordBatch;

use crate::{Error, ErrorKind, Options, Result};

/// A handle on a model that is loaded once per process and shared by every handle on it.
#[derive(Debug)]
pub struct Model;

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

impl Model {
    /// Opens a bundle. `runtime::load` must have succeeded in this process.
    pub fn open(_options: &Options) -> Result<Model> {
        Err(Error::new(ErrorKind::Internal, "not built yet"))
    }

    /// Runs a batch: the same number of rows in the same order, a reason for each invalid one.
    pub fn run(&self, _batch: &RecordBatch) -> Result<RecordBatch> {
        Err(Error::new(ErrorKind::Internal, "not built yet"))
    }

    /// Makes runs in flight and later ones of this handle fail with kind `Cancelled`, between two micro-batches.
    pub fn cancel(&self) {}

    /// What this handle has done so far.
    pub fn metrics(&self) -> Metrics {
        Metrics::default()
    }
}
