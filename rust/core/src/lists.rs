//! From the outputs of runs to columns of numbers, texts and nested lists.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use half::f16;

use crate::tensor;
use crate::values::{Dtype, Port, Values};
use crate::{Error, ErrorKind, Result};

/// What one run of the graph gave: a tensor for each output that was asked for, with the rows as its first dimension.
pub(crate) type Run = Vec<Values>;

/// A column for each output, and the reasons. `runs` hold, in order, the rows that have none.
pub(crate) fn batch(outputs: &[Port], runs: &[Run], mut errors: Vec<Option<String>>) -> Result<RecordBatch> {
    let ran: Vec<bool> = errors.iter().map(Option::is_none).collect();
    for (index, port) in outputs.iter().enumerate().filter(|(_, port)| port.dtype == Dtype::String) {
        refuse_bytes(port, index, runs, &ran, &mut errors);
    }
    let rows = Rows { valid: errors.iter().map(Option::is_none).collect(), ran };
    let columns = outputs
        .iter()
        .enumerate()
        .map(|(index, port)| Ok((format!("output_{index}"), column(port, index, runs, &rows)?)));
    tensor::batch(columns.collect::<Result<_>>()?, errors)
}

/// The rows of a batch: those that a run has, and those among them that have an output.
struct Rows {
    ran: Vec<bool>,
    valid: Vec<bool>,
}

impl Rows {
    fn nulls(&self) -> NullBuffer {
        NullBuffer::from(self.valid.as_slice())
    }
}

/// A column of texts holds no other bytes: rows that have some get a reason.
fn refuse_bytes(port: &Port, index: usize, runs: &[Run], ran: &[bool], errors: &mut [Option<String>]) {
    let mut rows = (0..ran.len()).filter(|row| ran[*row]);
    for values in runs.iter().filter_map(|run| run.get(index)) {
        let Values::String(texts) = values else { continue };
        let count = values.dims().first().map_or(0, |count| *count as usize);
        let each = texts.len().checked_div(count).unwrap_or(0);
        for (place, row) in rows.by_ref().take(count).enumerate() {
            let mut row_texts = (place * each..(place + 1) * each).map(|index| texts.get(index));
            if row_texts.any(|text| std::str::from_utf8(text).is_err()) && errors[row].is_none() {
                errors[row] = Some(format!("a string of the output {} is not UTF-8", port.name));
            }
        }
    }
}

fn column(port: &Port, index: usize, runs: &[Run], rows: &Rows) -> Result<ArrayRef> {
    let tensors: Vec<&Values> = runs.iter().filter_map(|run| run.get(index)).collect();
    let total: usize = tensors.iter().map(|values| count(values).max(text_bytes(values))).sum();
    if total > i32::MAX as usize {
        let (name, rows) = (&port.name, rows.ran.len());
        let message =
            format!("The output {name} of {rows} rows does not fit into one column: lower batchSize.");
        return Err(Error::new(ErrorKind::InvalidBatch, message));
    }
    if port.shape.is_empty() {
        return Ok(numbers(port.dtype, &tensors, Some(rows)));
    }
    // From the numbers outwards: lists of the last dimension, lists of those …
    let mut array = numbers(port.dtype, &tensors, None);
    for depth in (0..port.shape.len()).rev() {
        let item = Arc::new(Field::new("element", array.data_type().clone(), false));
        let lengths = lengths(depth, &tensors);
        let list = if depth == 0 {
            let mut lengths = lengths.into_iter();
            let of_rows = rows.ran.iter().map(|ran| if *ran { lengths.next().unwrap_or(0) } else { 0 });
            ListArray::try_new(item, OffsetBuffer::from_lengths(of_rows), array, Some(rows.nulls()))
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

/// What texts have together: Arrow counts the bytes of a column, too.
fn text_bytes(values: &Values) -> usize {
    match values {
        Values::String(texts) => texts.iter().map(<[u8]>::len).sum(),
        _ => 0,
    }
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

/// The values of all tensors; with a place for rows that have none where each row is one value.
fn numbers(dtype: Dtype, tensors: &[&Values], rows: Option<&Rows>) -> ArrayRef {
    let nulls = rows.map(Rows::nulls);
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
        Dtype::Float16 => {
            let wide = gathered!(Float16).into_iter().map(f16::to_f32).collect();
            Arc::new(Float32Array::new(spread(wide, rows).into(), nulls))
        }
        Dtype::Int8 => Arc::new(Int8Array::new(spread(gathered!(Int8), rows).into(), nulls)),
        Dtype::Int16 => Arc::new(Int16Array::new(spread(gathered!(Int16), rows).into(), nulls)),
        Dtype::String => {
            let texts = tensors.iter().filter_map(|values| match values {
                Values::String(texts) => Some(texts),
                _ => None,
            });
            // Those of other bytes are in rows that are null.
            let texts = texts.flat_map(|texts| texts.iter().map(|text| str::from_utf8(text).unwrap_or("")));
            let array = StringArray::from_iter_values(spread(texts.collect(), rows));
            let (offsets, bytes, _) = array.into_parts();
            Arc::new(StringArray::new(offsets, bytes, nulls))
        }
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

/// A value for every row: of those that have none, zero.
fn spread<T: Copy + Default>(found: Vec<T>, rows: Option<&Rows>) -> Vec<T> {
    let Some(rows) = rows else { return found };
    let mut found = found.into_iter();
    rows.ran.iter().map(|ran| if *ran { found.next().unwrap_or_default() } else { T::default() }).collect()
}
