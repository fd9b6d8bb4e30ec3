//! From the outputs of runs to columns of numbers and nested lists.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray,
    RecordBatch,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;

use crate::tensor;
use crate::values::{Dtype, Port, Values};
use crate::{Error, ErrorKind, Result};

/// What one run of the graph gave: a tensor for each output that was asked for, with the rows as its first dimension.
pub(crate) type Run = Vec<Values>;

/// A column for each output, and the reasons. `runs` hold, in order, the rows that have none.
pub(crate) fn batch(outputs: &[Port], runs: &[Run], errors: Vec<Option<String>>) -> Result<RecordBatch> {
    let valid: Vec<bool> = errors.iter().map(Option::is_none).collect();
    let columns = outputs
        .iter()
        .enumerate()
        .map(|(index, port)| Ok((format!("output_{index}"), column(port, index, runs, &valid)?)));
    tensor::batch(columns.collect::<Result<_>>()?, errors)
}

fn column(port: &Port, index: usize, runs: &[Run], valid: &[bool]) -> Result<ArrayRef> {
    let tensors: Vec<&Values> = runs.iter().filter_map(|run| run.get(index)).collect();
    let total: usize = tensors.iter().map(|values| count(values)).sum();
    if total > i32::MAX as usize {
        let (name, rows) = (&port.name, valid.len());
        let message =
            format!("The output {name} of {rows} rows does not fit into one column: lower batchSize.");
        return Err(Error::new(ErrorKind::InvalidBatch, message));
    }
    if port.shape.is_empty() {
        return Ok(numbers(port.dtype, &tensors, Some(valid)));
    }
    // From the numbers outwards: lists of the last dimension, lists of those …
    let mut array = numbers(port.dtype, &tensors, None);
    for depth in (0..port.shape.len()).rev() {
        let item = Arc::new(Field::new("element", array.data_type().clone(), false));
        let lengths = lengths(depth, &tensors);
        let list = if depth == 0 {
            let mut lengths = lengths.into_iter();
            let rows = valid.iter().map(|valid| if *valid { lengths.next().unwrap_or(0) } else { 0 });
            ListArray::try_new(
                item,
                OffsetBuffer::from_lengths(rows),
                array,
                Some(NullBuffer::from(valid.to_vec())),
            )
        } else {
            ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), array, None)
        };
        array =
            Arc::new(list.map_err(|e| tensor::defect("the output cannot be put into lists").with_source(e))?);
    }
    Ok(array)
}

fn count(values: &Values) -> usize {
    values.dims().iter().product::<u64>() as usize
}

/// The lengths of all lists of one depth; those of depth 0 are the rows.
fn lengths(depth: usize, tensors: &[&Values]) -> Vec<usize> {
    let of_tensor = |values: &&Values| {
        let dims = values.dims();
        let lists = dims.iter().take(depth + 1).product::<u64>() as usize;
        let length = dims.get(depth + 1).copied().unwrap_or(0) as usize;
        std::iter::repeat_n(length, lists)
    };
    tensors.iter().flat_map(of_tensor).collect()
}

/// The numbers of all tensors; with a place for rows that have none where each row is one number.
fn numbers(dtype: Dtype, tensors: &[&Values], rows: Option<&[bool]>) -> ArrayRef {
    let nulls = rows.map(|valid| NullBuffer::from(valid.to_vec()));
    macro_rules! gathered {
        ($variant:ident) => {{
            let slices = tensors.iter().filter_map(|values| match values {
                Values::$variant(tensor) => Some(&tensor[..]),
                _ => None,
            });
            slices.collect::<Vec<_>>().concat()
        }};
    }
    match dtype {
        Dtype::Float32 => Arc::new(Float32Array::new(spread(gathered!(Float32), rows).into(), nulls)),
        Dtype::Float64 => Arc::new(Float64Array::new(spread(gathered!(Float64), rows).into(), nulls)),
        Dtype::Int32 => Arc::new(Int32Array::new(spread(gathered!(Int32), rows).into(), nulls)),
        Dtype::Int64 => Arc::new(Int64Array::new(spread(gathered!(Int64), rows).into(), nulls)),
        Dtype::Bool => Arc::new(BooleanArray::new(spread(gathered!(Bool), rows).into(), nulls)),
        Dtype::Uint8 => {
            // Spark has no unsigned type: the next larger one.
            let wide = gathered!(Uint8).into_iter().map(i16::from).collect();
            Arc::new(Int16Array::new(spread(wide, rows).into(), nulls))
        }
    }
}

/// A number for every row: of those that have none, zero.
fn spread<T: Copy + Default>(found: Vec<T>, rows: Option<&[bool]>) -> Vec<T> {
    let Some(valid) = rows else { return found };
    let mut found = found.into_iter();
    valid.iter().map(|valid| if *valid { found.next().unwrap_or_default() } else { T::default() }).collect()
}
