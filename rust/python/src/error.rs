//! The core's errors as the exceptions of `sparkdl.exceptions`.

use pyo3::prelude::*;
use sparkdl_core::{Error, ErrorKind};

pyo3::import_exception!(sparkdl.exceptions, SparkDLError);
pyo3::import_exception!(sparkdl.exceptions, SparkDLValueError);

/// The exception for an error: what the caller must change is a `ValueError` too.
pub(crate) fn to_python(_py: Python<'_>, error: &Error) -> PyErr {
    let arguments = (error.report(), error.kind().name());
    match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::InvalidModel | ErrorKind::InvalidBatch => {
            SparkDLValueError::new_err(arguments)
        }
        _ => SparkDLError::new_err(arguments),
    }
}
