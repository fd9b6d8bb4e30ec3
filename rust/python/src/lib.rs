//! The Python face: nothing but translation. `sparkdl._native`, imported by `sparkdl._engine` alone.

mod arrow;
mod enter;
mod error;
mod logging;
mod model;

use pyo3::prelude::*;

use crate::arrow::Batch;

/// The compiled core of sparkdl: decodes pictures and runs TensorFlow graphs. Private; use `sparkdl`.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::arrow::Batch;
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::{
        convert_graph, convert_keras, decode_images, describe_bundle, download, error_kinds, imagenet_labels,
        load_tensorflow, named_models, version,
    };

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::enter::keep_panics();
        crate::logging::install();
        Ok(())
    }
}

type OptionPairs = Vec<(String, String)>;

/// Loads TensorFlow, or says what is loaded already: `(version, library file)`.
#[pyfunction]
fn load_tensorflow(py: Python<'_>, options: OptionPairs) -> PyResult<(String, String)> {
    enter::enter(py, || {
        let runtime = sparkdl_core::runtime::load(&options)?;
        Ok((runtime.version, runtime.library.display().to_string()))
    })
}

/// Reads and checks a bundle: `(manifest as JSON, SHA-256 of the file in hex)`. Loads no TensorFlow.
#[pyfunction]
fn describe_bundle(py: Python<'_>, path: std::path::PathBuf) -> PyResult<(String, String)> {
    enter::enter(py, || {
        let description = sparkdl_core::bundle::describe(&path)?;
        Ok((description.manifest, description.digest))
    })
}

/// Writes a whole Keras file as a bundle. Needs neither Keras nor TensorFlow.
#[pyfunction]
fn convert_keras(py: Python<'_>, options: OptionPairs) -> PyResult<()> {
    enter::enter(py, || sparkdl_core::keras::convert(&options))
}

/// Writes what runs of a graph or SavedModel as a bundle, its variables as constants.
#[pyfunction]
fn convert_graph(py: Python<'_>, options: OptionPairs) -> PyResult<()> {
    enter::enter(py, || sparkdl_core::graph::convert(&options))
}

/// Fetches a file over HTTP, resumed and checked. Ctrl-C stops it between two chunks.
#[pyfunction]
fn download(py: Python<'_>, options: OptionPairs) -> PyResult<()> {
    let mut raised = None;
    let done = enter::enter(py, || {
        sparkdl_core::download::fetch(&options, &mut || {
            Python::attach(|py| py.check_signals()).map_err(|error| {
                raised = Some(error);
                sparkdl_core::Error::new(sparkdl_core::ErrorKind::Cancelled, "The download was stopped.")
            })
        })
    });
    // What the handler of the signal raised, a KeyboardInterrupt as a rule.
    raised.map_or(done, Err)
}

/// Decodes a batch of one picture column into columns `image` (Spark's image struct) and `error`.
#[pyfunction]
fn decode_images(py: Python<'_>, batch: &Bound<'_, PyAny>, options: OptionPairs) -> PyResult<Batch> {
    let batch = arrow::import(batch)?;
    enter::enter(py, || sparkdl_core::image::decode_images(&batch, &options)).map(Batch::new)
}

/// The table of built-in models, as JSON.
#[pyfunction]
fn named_models() -> &'static str {
    sparkdl_core::named_models()
}

/// ImageNet's 1,000 `[synset, label]` pairs in class order, as JSON.
#[pyfunction]
fn imagenet_labels() -> &'static str {
    sparkdl_core::imagenet_labels()
}

/// Every error kind: `(name, Spark's error condition, SQLSTATE)`.
#[pyfunction]
fn error_kinds() -> Vec<(&'static str, &'static str, &'static str)> {
    let kinds = sparkdl_core::ErrorKind::ALL;
    kinds.iter().map(|kind| (kind.name(), kind.condition(), kind.sql_state())).collect()
}

/// The version of the wheel, the jar and the core.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
