//! Arrow batches in and out of Python by the PyCapsule interface, without a copy.
#![allow(unsafe_code)] // The capsules hold raw pointers of Arrow's C data interface.

use std::ffi::CStr;
use std::ptr::NonNull;

use arrow::array::{Array, StructArray};
use arrow::datatypes::DataType;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi};
use arrow::record_batch::RecordBatch;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use sparkdl_core::{Error, ErrorKind, Result};

use crate::enter::enter;

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";

/// A record batch of the core, taken over by anything that reads `__arrow_c_array__`.
#[pyclass(module = "sparkdl._native", frozen)]
pub(crate) struct Batch {
    batch: RecordBatch,
}

impl Batch {
    pub(crate) fn new(batch: RecordBatch) -> Self {
        Batch { batch }
    }
}

#[pymethods]
impl Batch {
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // The interface lets a producer answer with its own schema where it cannot cast; ours never casts.
        let _ = requested_schema;
        let data = StructArray::from(self.batch.clone()).into_data();
        let (array, schema) = enter(py, || to_ffi(&data).map_err(batch_error))?;
        Ok((PyCapsule::new_with_value(py, schema, SCHEMA)?, PyCapsule::new_with_value(py, array, ARRAY)?))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = enter(py, || FFI_ArrowSchema::try_from(&*self.batch.schema()).map_err(batch_error))?;
        PyCapsule::new_with_value(py, schema, SCHEMA)
    }

    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }
}

/// Takes over a batch from any object with `__arrow_c_array__`, such as a `pyarrow.RecordBatch`.
pub(crate) fn import(batch: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let capsules = batch.call_method0("__arrow_c_array__")?;
    let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) = capsules.extract()?;
    let schema: NonNull<FFI_ArrowSchema> = schema.pointer_checked(Some(SCHEMA))?.cast();
    let array: NonNull<FFI_ArrowArray> = array.pointer_checked(Some(ARRAY))?.cast();
    // SAFETY: the names of the capsules say that they hold these two structs, and the capsules live until the end of
    // this function. The structs are moved out, which leaves released ones behind for the capsules to drop.
    let (schema, array) =
        unsafe { (FFI_ArrowSchema::from_raw(schema.as_ptr()), FFI_ArrowArray::from_raw(array.as_ptr())) };
    enter(batch.py(), move || to_batch(array, &schema))
}

fn to_batch(array: FFI_ArrowArray, schema: &FFI_ArrowSchema) -> Result<RecordBatch> {
    if array.is_released() || schema.release().is_none() {
        return Err(Error::new(ErrorKind::InvalidBatch, "this Arrow batch has been taken over already"));
    }
    // SAFETY: the producer vouches for its own buffers: that is what the interface means.
    let data = unsafe { from_ffi(array, schema) }.map_err(batch_error)?;
    // Offsets and text come from outside: a wrong one must not be read past its buffer later.
    data.validate_full().map_err(batch_error)?;
    if !matches!(data.data_type(), DataType::Struct(_)) || data.null_count() > 0 {
        let found = data.data_type();
        return Err(Error::new(
            ErrorKind::InvalidBatch,
            format!("expected a record batch but found {found}"),
        ));
    }
    Ok(RecordBatch::from(StructArray::from(data)))
}

fn batch_error(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::InvalidBatch, "cannot read the Arrow batch").with_source(error)
}
