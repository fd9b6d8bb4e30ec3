//! From a run's values to the columns of the batch that goes back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};

use crate::{Error, ErrorKind, Result};

/// One class of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) class: String,
    pub(crate) description: String,
}

/// `fixed_size_list<float32 not null, n>`; `values` has a slot for every row, read or not.
pub(crate) fn vectors(values: Vec<f32>, length: usize, valid: Vec<bool>) -> Result<ArrayRef> {
    let length =
        i32::try_from(length).map_err(|e| defect("an output is too long for Arrow").with_source(e))?;
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(values));
    let array = FixedSizeListArray::try_new(item, length, values, Some(NullBuffer::from(valid)))
        .map_err(|e| defect("the output cannot be put into a column").with_source(e))?;
    Ok(Arc::new(array))
}

/// `list<struct<class, description, probability>>`, best first; ties in class order, NaN last.
pub(crate) fn top_k(values: &[f32], labels: &[Label], k: usize, valid: Vec<bool>) -> Result<ArrayRef> {
    let mut classes = Vec::new();
    let mut probabilities = Vec::new();
    let mut lengths = Vec::with_capacity(valid.len());
    let mut order: Vec<usize> = Vec::new();
    for (row, scores) in values.chunks_exact(labels.len()).enumerate() {
        if !valid.get(row).copied().unwrap_or(false) {
            lengths.push(0);
            continue;
        }
        order.clear();
        order.extend(0..scores.len());
        order.sort_by(|a, b| best_first(scores[*a], scores[*b]));
        order.truncate(k);
        lengths.push(order.len());
        classes.extend_from_slice(&order);
        probabilities.extend(order.iter().map(|class| scores[*class]));
    }
    let class = StringArray::from_iter_values(classes.iter().map(|class| labels[*class].class.as_str()));
    let description =
        StringArray::from_iter_values(classes.iter().map(|class| labels[*class].description.as_str()));
    let fields = top_k_fields();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(class), Arc::new(description), Arc::new(Float32Array::from(probabilities))];
    let items = StructArray::try_new(fields.clone(), columns, None)
        .map_err(|e| defect("the classes cannot be put into a column").with_source(e))?;
    let item = Arc::new(Field::new("item", DataType::Struct(fields), false));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let list = ListArray::try_new(item, offsets, Arc::new(items), Some(NullBuffer::from(valid)))
        .map_err(|e| defect("the classes cannot be put into a column").with_source(e))?;
    Ok(Arc::new(list))
}

fn best_first(a: f32, b: f32) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => b.total_cmp(&a),
        (a, b) => a.cmp(&b),
    }
}

fn top_k_fields() -> Fields {
    Fields::from(vec![
        Field::new("class", DataType::Utf8, false),
        Field::new("description", DataType::Utf8, false),
        Field::new("probability", DataType::Float32, false),
    ])
}

/// The two columns of every batch that goes back.
pub(crate) fn batch(output: ArrayRef, errors: Vec<Option<String>>) -> Result<RecordBatch> {
    let schema = Schema::new(vec![
        Field::new("output", output.data_type().clone(), true),
        Field::new("error", DataType::Utf8, true),
    ]);
    let error = Arc::new(StringArray::from(errors));
    RecordBatch::try_new(Arc::new(schema), vec![output, error])
        .map_err(|e| defect("the columns do not make a batch").with_source(e))
}

fn defect(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("A defect of sparkdl: {what}. Please report it."))
}
