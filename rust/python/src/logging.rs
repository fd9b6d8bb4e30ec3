//! The core's log goes to Python's `logging`, under `sparkdl` and the part of the core that speaks.

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

struct PythonLog;

/// Sends the core's log to Python. A second module of the same process keeps the first one's bridge.
pub(crate) fn install() {
    if log::set_logger(&PythonLog).is_ok() {
        // Python's levels are read with each record, so they can be changed at any time; below DEBUG Python has no level.
        log::set_max_level(LevelFilter::Debug);
    }
}

impl Log for PythonLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sparkdl")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // None at the interpreter's end. A handler's own failure is Python's to show, not ours to raise here.
            let _ = Python::try_attach(|py| emit(py, record));
        }
    }

    fn flush(&self) {}
}

fn emit(py: Python<'_>, record: &Record<'_>) -> PyResult<()> {
    let name = record.target().replacen("sparkdl_core", "sparkdl", 1).replace("::", ".");
    let logger = py.import("logging")?.call_method1("getLogger", (name,))?;
    logger.call_method1("log", (python_level(record.level()), "%s", record.args().to_string())).map(drop)
}

fn python_level(level: Level) -> u8 {
    match level {
        Level::Error => 40,
        Level::Warn => 30,
        Level::Info => 20,
        Level::Debug | Level::Trace => 10,
    }
}
