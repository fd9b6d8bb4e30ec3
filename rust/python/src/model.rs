//! The handle on a model, as Python sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::OptionPairs;
use crate::arrow::{Batch, import};
use crate::enter::enter;

/// A bundle that is loaded once per process and shared by every `Model` on it. Load TensorFlow first.
#[pyclass(module = "sparkdl._native", frozen)]
pub(crate) struct Model {
    handle: Option<Arc<sparkdl_core::Model>>,
}

#[pymethods]
impl Model {
    #[new]
    fn open(py: Python<'_>, options: OptionPairs) -> PyResult<Self> {
        let handle = enter(py, || sparkdl_core::Model::open(&options))?;
        Ok(Model { handle: Some(Arc::new(handle)) })
    }

    /// Runs a batch, as `rust/ARCHITECTURE.md` lays it out: columns of results, then `error`, as many rows, in order.
    fn run(&self, py: Python<'_>, batch: &Bound<'_, PyAny>) -> PyResult<Batch> {
        let batch = import(batch)?;
        let handle = self.handle.clone();
        enter(py, move || match handle {
            Some(model) => model.run(&batch),
            None => Err(closed()),
        })
        .map(Batch::new)
    }

    /// Makes runs in flight and later ones of this handle fail with kind `Cancelled`.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let handle = self.handle.clone();
        enter(py, move || {
            handle.iter().for_each(|model| model.cancel());
            Ok(())
        })
    }

    /// What this handle has done so far, by name.
    fn metrics(&self, py: Python<'_>) -> PyResult<BTreeMap<&'static str, u64>> {
        let handle = self.handle.clone();
        let metrics = enter(py, move || Ok(handle.map(|model| model.metrics()).unwrap_or_default()))?;
        Ok(BTreeMap::from([
            ("rows", metrics.rows),
            ("invalid_rows", metrics.invalid_rows),
            ("native_calls", metrics.native_calls),
            ("session_runs", metrics.session_runs),
            ("decode_nanos", metrics.decode_nanos),
            ("run_nanos", metrics.run_nanos),
        ]))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let handle = self.handle.take();
        // Closing a session may wait for its runs, and those may want the interpreter for a line of log.
        let _ = Python::try_attach(|py| {
            enter(py, move || {
                drop(handle);
                Ok(())
            })
        });
    }
}

fn closed() -> sparkdl_core::Error {
    sparkdl_core::Error::new(sparkdl_core::ErrorKind::Closed, "the model is closed: open it again")
}
