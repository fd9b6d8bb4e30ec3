//! From a run's values to the columns of the batch that goes back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};

use crate::image::{self, ChannelOrder, Depth, Picture};
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

/// Spark's image structs of float pictures; `origin` is null.
pub(crate) fn images(
    mut values: Vec<f32>,
    [height, width, channels]: [usize; 3],
    order: ChannelOrder,
    valid: &[bool],
) -> Result<ArrayRef> {
    if order == ChannelOrder::Rgb && channels > 1 {
        values.chunks_exact_mut(channels).for_each(|pixel| pixel.swap(0, 2));
    }
    let samples = |picture: &[f32]| picture.iter().flat_map(|value| value.to_le_bytes()).collect();
    let picture = |values| Picture { height, width, channels, depth: Depth::Float32, data: samples(values) };
    let rows = values.chunks_exact(height * width * channels).zip(valid);
    let pictures: Vec<_> = rows.map(|(values, valid)| valid.then(|| picture(values))).collect();
    Ok(Arc::new(image::images(StringArray::new_null(valid.len()), &pictures)?))
}

/// Every batch that goes back: the columns of results by name, and the reasons.
pub(crate) fn batch(
    mut columns: Vec<(String, ArrayRef)>,
    errors: Vec<Option<String>>,
) -> Result<RecordBatch> {
    columns.push(("error".to_owned(), Arc::new(StringArray::from(errors))));
    let nullable = columns.into_iter().map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(nullable)
        .map_err(|e| defect("the columns do not make a batch").with_source(e))
}

pub(crate) fn defect(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("A defect of sparkdl: {what}. Please report it."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float32Type;

    use super::*;

    #[test]
    fn ties_come_in_class_order_and_nan_comes_last() {
        let labels: Vec<Label> =
            ["a", "b", "c", "d"].map(|name| Label { class: name.into(), description: name.into() }).into();
        let scores = [f32::NAN, 0.25, 0.5, 0.25, 0.0, -0.0, f32::INFINITY, f32::NAN];
        let column = top_k(&scores, &labels, 4, vec![true, true]).unwrap();
        let names = |row: usize| -> Vec<String> {
            let classes = column.as_list::<i32>().value(row);
            classes.as_struct().column(0).as_string::<i32>().iter().map(|c| c.unwrap().to_owned()).collect()
        };
        assert_eq!(names(0), ["c", "b", "d", "a"]);
        assert_eq!(names(1), ["c", "a", "b", "d"]);
        let first = column.as_list::<i32>().value(0);
        let probabilities = first.as_struct().column(2).as_primitive::<Float32Type>().values().to_vec();
        assert_eq!(probabilities[..3], [0.5, 0.25, 0.25]);
        assert!(probabilities[3].is_nan());
    }

    #[test]
    fn an_invalid_row_has_no_classes_and_takes_none_of_another() {
        let labels = vec![Label { class: "only".into(), description: "one".into() }];
        let column = top_k(&[0.5, 0.0, 0.75], &labels, 3, vec![true, false, true]).unwrap();
        let list = column.as_list::<i32>();
        let lengths: Vec<i32> = (0..3).map(|row| list.value_length(row)).collect();
        assert_eq!((list.is_null(1), lengths), (true, vec![1, 0, 1]));
    }
}
