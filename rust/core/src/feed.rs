//! A column of numbers, arrays or MLlib vectors, read as rows of one of a graph's inputs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, Int8Array, Int32Array, LargeListArray,
    ListArray, PrimitiveArray, StructArray, UInt8Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type,
};
use arrow::error::ArrowError;
use half::f16;

use crate::values::{Dtype, MAX_VALUES, Port, Values};
use crate::{Error, ErrorKind, Result};

/// Where the numbers of a row are, and its shape.
pub(crate) struct RowPlace {
    pub(crate) dims: Vec<usize>,
    numbers: Range<usize>,
}

/// One column of a batch, checked against the input that it feeds.
pub(crate) struct Feed {
    port: Port,
    rows: Option<NullBuffer>,
    levels: Vec<Level>,
    /// Where the numbers of the first row begin in what `levels` count.
    base: usize,
    /// Of the input's type; what does not fit it is null.
    numbers: ArrayRef,
    /// As they came.
    given: ArrayRef,
    misfits: Misfits,
}

/// Sparse vectors that the input cannot take, by row: their sizes. They are not written out.
type Misfits = HashMap<usize, usize>;

enum Level {
    Small(OffsetBuffer<i32>, Option<NullBuffer>),
    Large(OffsetBuffer<i64>, Option<NullBuffer>),
    Fixed(usize, Option<NullBuffer>),
}

impl Level {
    /// Where the entries of these lists are.
    fn entries(&self, lists: &Range<usize>) -> Range<usize> {
        // Arrow's own offsets are ascending and not negative.
        match self {
            Level::Small(offsets, _) => offsets[lists.start] as usize..offsets[lists.end] as usize,
            Level::Large(offsets, _) => offsets[lists.start] as usize..offsets[lists.end] as usize,
            Level::Fixed(size, _) => lists.start * size..lists.end * size,
        }
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Level::Small(_, nulls) | Level::Large(_, nulls) | Level::Fixed(_, nulls) => nulls.as_ref(),
        }
    }
}

impl Feed {
    /// Takes numbers, booleans, texts and bytes, lists of them of any depth, or MLlib vectors, as they fit the input; anything else
    /// is kind `InvalidBatch`.
    pub(crate) fn try_new(port: &Port, column: &ArrayRef) -> Result<Feed> {
        let (column, misfits) = match column.data_type() {
            kind if is_vector(kind) && port.dtype != Dtype::String => dense(port, column.as_struct()),
            DataType::Binary | DataType::LargeBinary
                if port.dtype == Dtype::Uint8 && !port.shape.is_empty() =>
            {
                (bytes_as_list(port, column)?, Misfits::new())
            }
            _ => (column.clone(), Misfits::new()),
        };
        let length = column.len();
        let rows = column.logical_nulls();
        let (mut levels, mut array) = (Vec::new(), column.clone());
        while let Some((level, inner)) = list(&array) {
            levels.push(level);
            array = inner;
        }
        check_type(port, column.data_type(), array.data_type(), levels.len())?;
        let whole = levels.iter().fold(0..length, |lists, level| level.entries(&lists));
        // A batch may be a slice of a larger one: only its own numbers are converted.
        let given = array.slice(whole.start, whole.len());
        let numbers =
            converted(&given, port.dtype).map_err(|e| refused(port, column.data_type()).with_source(e))?;
        Ok(Feed { port: port.clone(), rows, levels, base: whole.start, numbers, given, misfits })
    }

    /// Where a row is, or why it cannot be used.
    pub(crate) fn place(&self, row: usize) -> std::result::Result<RowPlace, String> {
        let name = &self.port.name;
        if self.rows.as_ref().is_some_and(|rows| rows.is_null(row)) {
            return Err(format!("no value for the input {name} (null)"));
        }
        if let Some(size) = self.misfits.get(&row) {
            return Err(self.wrong_count(*size));
        }
        let mut dims = Vec::with_capacity(self.levels.len());
        let mut lists = row..row + 1;
        for (depth, level) in self.levels.iter().enumerate() {
            if depth > 0
                && level.nulls().is_some_and(|nulls| nulls.slice(lists.start, lists.len()).null_count() > 0)
            {
                return Err(format!("a null inside of the value for the input {name}"));
            }
            let entries = level.entries(&lists);
            let length = entries.len() / lists.len().max(1);
            if lists.clone().any(|list| level.entries(&(list..list + 1)).len() != length) {
                return Err(format!(
                    "the arrays inside of the value for the input {name} are not of one length"
                ));
            }
            dims.push(length);
            lists = entries;
        }
        let numbers = lists.start - self.base..lists.end - self.base;
        let dims = self.fitted(dims)?;
        self.check_nulls(&numbers)?;
        Ok(RowPlace { dims, numbers })
    }

    /// The shape of a row with these lengths, nested or flat.
    fn fitted(&self, found: Vec<usize>) -> std::result::Result<Vec<usize>, String> {
        let Port { name, shape, .. } = &self.port;
        if found.len() == shape.len() && shape.len() != 1 {
            let fits = found.iter().zip(shape).all(|(found, side)| side.is_none_or(|side| side == *found));
            let takes = self.port.shown_shape();
            let misfit = || format!("the shape {found:?}, but the input {name} takes the shape {takes}");
            return if fits { Ok(found) } else { Err(misfit()) };
        }
        let count = found.first().copied().unwrap_or(1);
        let known = self.port.least_values();
        let whole = match shape.iter().filter(|side| side.is_none()).count() {
            0 => (count == known).then_some(1),
            _ => (known > 0 && count.is_multiple_of(known)).then(|| count / known),
        };
        let missing = whole.ok_or_else(|| self.wrong_count(count))?;
        Ok(shape.iter().map(|side| side.unwrap_or(missing)).collect())
    }

    fn wrong_count(&self, count: usize) -> String {
        let Port { name, dtype, .. } = &self.port;
        let values = if *dtype == Dtype::String { "texts" } else { "numbers" };
        format!("{count} {values}, but the input {name} takes the shape {}", self.port.shown_shape())
    }

    fn check_nulls(&self, numbers: &Range<usize>) -> std::result::Result<(), String> {
        let has_nulls = |array: &ArrayRef| {
            array.nulls().is_some_and(|nulls| nulls.slice(numbers.start, numbers.len()).null_count() > 0)
        };
        let Port { name, dtype, .. } = &self.port;
        if !has_nulls(&self.numbers) {
            Ok(())
        } else if has_nulls(&self.given) {
            Err(format!("a null inside of the value for the input {name}"))
        } else {
            Err(format!("a number that {dtype} does not hold, for the input {name}"))
        }
    }

    /// A tensor of rows of one shape.
    pub(crate) fn tensor(&self, rows: &[&RowPlace]) -> Values {
        let dims = rows.first().map(|row| row.dims.as_slice()).unwrap_or_default();
        let dims: Vec<u64> =
            std::iter::once(rows.len()).chain(dims.iter().copied()).map(|side| side as u64).collect();
        let mut tensor = Values::new(self.port.dtype, &dims);
        self.fill(rows.iter().copied(), &mut tensor);
        tensor
    }

    /// Copies rows of one shape into a tensor of that shape.
    pub(crate) fn fill<'r>(&self, rows: impl Iterator<Item = &'r RowPlace>, tensor: &mut Values) {
        macro_rules! copy {
            ($tensor:expr, $kind:ty) => {{
                let numbers = self.numbers.as_primitive::<$kind>().values();
                let mut at = 0;
                for row in rows {
                    let count = row.numbers.len();
                    $tensor[at..at + count].copy_from_slice(&numbers[row.numbers.clone()]);
                    at += count;
                }
            }};
        }
        match tensor {
            Values::Float16(tensor) => copy!(tensor, Float16Type),
            Values::Int8(tensor) => copy!(tensor, Int8Type),
            Values::Int16(tensor) => copy!(tensor, Int16Type),
            Values::String(texts) => {
                let given = self.numbers.as_binary::<i64>();
                let indices = rows.flat_map(|row| row.numbers.clone());
                indices.enumerate().for_each(|(slot, index)| texts.set(slot, given.value(index)));
            }
            Values::Float32(tensor) => copy!(tensor, Float32Type),
            Values::Float64(tensor) => copy!(tensor, Float64Type),
            Values::Int32(tensor) => copy!(tensor, Int32Type),
            Values::Int64(tensor) => copy!(tensor, Int64Type),
            Values::Uint8(tensor) => copy!(tensor, UInt8Type),
            Values::Bool(tensor) => {
                let numbers = self.numbers.as_boolean().values();
                let flags = rows.flat_map(|row| row.numbers.clone()).map(|index| numbers.value(index));
                tensor.iter_mut().zip(flags).for_each(|(slot, flag)| *slot = flag);
            }
        }
    }
}

fn list(array: &ArrayRef) -> Option<(Level, ArrayRef)> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            Some((Level::Small(list.offsets().clone(), list.logical_nulls()), list.values().clone()))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            Some((Level::Large(list.offsets().clone(), list.logical_nulls()), list.values().clone()))
        }
        DataType::FixedSizeList(_, size) => {
            let list: &FixedSizeListArray = array.as_fixed_size_list();
            let size = usize::try_from(*size).unwrap_or_default();
            Some((Level::Fixed(size, list.logical_nulls()), list.values().clone()))
        }
        _ => None,
    }
}

/// Values of the input's type; what does not fit it is null.
fn converted(given: &ArrayRef, dtype: Dtype) -> std::result::Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let array = cast_with_options(given, &arrow_type(dtype), &options)?;
    if dtype != Dtype::Float16 {
        return Ok(array);
    }
    // A finite number that is infinite as a half does not fit.
    let half = |value: f64| Some(nearest_half(value)).filter(|half| half.is_finite() || !value.is_finite());
    let numbers = array.as_primitive::<Float64Type>().iter();
    Ok(Arc::new(numbers.map(|value| value.and_then(half)).collect::<PrimitiveArray<Float16Type>>()))
}

/// The nearest half, of two the even one. `f16::from_f64` may round twice, or leave out bits that decide, by the processor.
fn nearest_half(value: f64) -> f16 {
    let single = value as f32;
    let (bits, rounded) = (single.to_bits(), f64::from(single));
    if rounded == value || value.is_nan() || bits & 1 == 1 {
        return f16::from_f32(single);
    }
    // Of the two singles around the number the odd one: it lies on the same side of every half and of every middle of two.
    f16::from_f32(f32::from_bits(if rounded.abs() > value.abs() { bits - 1 } else { bits + 1 }))
}

/// A column of bytes as one of lists of numbers from 0 to 255.
fn bytes_as_list(port: &Port, column: &ArrayRef) -> Result<ArrayRef> {
    let large = cast_with_options(column, &DataType::LargeBinary, &CastOptions::default())
        .map_err(|e| refused(port, column.data_type()).with_source(e))?;
    let (offsets, bytes, nulls) = large.as_binary::<i64>().clone().into_parts();
    let numbers = Arc::new(UInt8Array::new(bytes.into(), None));
    let item = Arc::new(Field::new("item", DataType::UInt8, false));
    Ok(Arc::new(LargeListArray::new(item, offsets, numbers, nulls)))
}

/// What a column's values are cast to.
fn arrow_type(dtype: Dtype) -> DataType {
    match dtype {
        // On the way to halves.
        Dtype::Float16 => DataType::Float64,
        Dtype::Int8 => DataType::Int8,
        Dtype::Int16 => DataType::Int16,
        Dtype::String => DataType::LargeBinary,
        Dtype::Float32 => DataType::Float32,
        Dtype::Float64 => DataType::Float64,
        Dtype::Int32 => DataType::Int32,
        Dtype::Int64 => DataType::Int64,
        Dtype::Uint8 => DataType::UInt8,
        Dtype::Bool => DataType::Boolean,
    }
}

fn check_type(port: &Port, column: &DataType, number: &DataType, depth: usize) -> Result<()> {
    let number_fits = match port.dtype {
        Dtype::Bool => *number == DataType::Boolean,
        Dtype::Float16 | Dtype::Float32 | Dtype::Float64 => {
            number.is_numeric() || *number == DataType::Boolean
        }
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 | Dtype::Uint8 => {
            number.is_integer() || *number == DataType::Boolean
        }
        Dtype::String => {
            matches!(number, DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary)
        }
    };
    let depth_fits = match port.shape.as_slice() {
        [] | [None | Some(1)] => depth <= 1,
        shape => depth == 1 || depth == shape.len(),
    };
    if number_fits && depth_fits { Ok(()) } else { Err(refused(port, column)) }
}

fn refused(port: &Port, column: &DataType) -> Error {
    let Port { name, dtype, shape } = port;
    let (values, or_vectors) =
        if *dtype == Dtype::String { ("texts", "") } else { ("numbers", " or vectors") };
    let takes = match shape.len() {
        0 => format!("single {values}, or arrays of one"),
        1 => format!("arrays{or_vectors}"),
        rank => format!("arrays nested {rank} deep, or flat arrays{or_vectors}"),
    };
    let shape = port.shown_shape();
    Error::new(
        ErrorKind::InvalidBatch,
        format!(
            "The column for the input {name} is of type {column}, but the input is {dtype} of shape {shape}: it takes {takes} \
             of such {values}."
        ),
    )
}

/// MLlib's vector as it travels: `struct<type, size, indices, values>`.
fn is_vector(found: &DataType) -> bool {
    let DataType::Struct(fields) = found else { return false };
    let is_list = |field: &Field, of: &DataType| matches!(field.data_type(), DataType::List(item) if item.data_type() == of);
    match fields.iter().map(Arc::as_ref).collect::<Vec<&Field>>().as_slice() {
        [kind, size, indices, values] => {
            *kind.data_type() == DataType::Int8
                && *size.data_type() == DataType::Int32
                && is_list(indices, &DataType::Int32)
                && is_list(values, &DataType::Float64)
        }
        _ => false,
    }
}

/// A column of vectors as one of flat lists.
fn dense(port: &Port, vectors: &StructArray) -> (ArrayRef, Misfits) {
    let kinds: &Int8Array = vectors.column(0).as_primitive::<Int8Type>();
    let sizes: &Int32Array = vectors.column(1).as_primitive::<Int32Type>();
    let (indices, values): (&ListArray, &ListArray) =
        (vectors.column(2).as_list(), vectors.column(3).as_list());
    let is_null = |row: usize| vectors.is_null(row) || values.is_null(row);
    let is_dense = |row: usize| kinds.value(row) == 1;
    let nulls = NullBuffer::from_iter((0..vectors.len()).map(|row| !is_null(row)));
    let item = Arc::new(Field::new("item", DataType::Float64, true));
    if (0..vectors.len()).all(|row| is_null(row) || is_dense(row)) {
        let list = ListArray::new(item, values.offsets().clone(), values.values().clone(), Some(nulls));
        return (Arc::new(list), Misfits::new());
    }
    let takes = port.shape.iter().copied().collect::<Option<Vec<_>>>().map(|shape| shape.iter().product());
    let mut numbers: Vec<f64> = Vec::new();
    let mut lengths = Vec::with_capacity(vectors.len());
    let mut misfits = Misfits::new();
    for row in 0..vectors.len() {
        let start = numbers.len();
        if !is_null(row) {
            let values = values.value(row);
            let values = values.as_primitive::<Float64Type>().values();
            let size = usize::try_from(sizes.value(row)).unwrap_or_default();
            if is_dense(row) {
                numbers.extend_from_slice(values);
            } else if takes.is_some_and(|takes: usize| takes != size) || start + size > MAX_VALUES {
                misfits.insert(row, size);
            } else {
                numbers.resize(start + size, 0.0);
                let indices = indices.value(row);
                for (index, value) in indices.as_primitive::<Int32Type>().values().iter().zip(values) {
                    let slot = usize::try_from(*index).ok().and_then(|index| numbers.get_mut(start + index));
                    slot.into_iter().for_each(|slot| *slot = *value);
                }
            }
        }
        lengths.push(numbers.len() - start);
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    (Arc::new(ListArray::new(item, offsets, Arc::new(Float64Array::from(numbers)), Some(nulls))), misfits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_once_and_to_even() {
        let unit = 2_f64.powi(-10);
        // Middles of two halves, normal ones and others, and numbers so near to them that no single lies between.
        for (middle, below, above) in [
            (1.0 + unit / 2.0, 1.0, 1.0 + unit),
            (1.0 + unit * 1.5, 1.0 + unit, 1.0 + unit * 2.0),
            (2_f64.powi(-25), 0.0, 2_f64.powi(-24)),
            (3.0 * 2_f64.powi(-25), 2_f64.powi(-24), 2_f64.powi(-23)),
            (65520.0, 65504.0, f64::INFINITY),
        ] {
            let even = if f16::from_f64(below).to_bits() & 1 == 0 { below } else { above };
            let (before, after) =
                (f64::from_bits(middle.to_bits() - 1), f64::from_bits(middle.to_bits() + 1));
            for (value, half) in [(before, below), (middle, even), (after, above)] {
                assert_eq!(nearest_half(value).to_f64(), half, "{value:e}");
                assert_eq!(nearest_half(-value).to_f64(), -half, "-{value:e}");
            }
        }
    }

    #[test]
    fn halves_stay_what_they_are() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let found = nearest_half(half.to_f64());
            assert!(found == half || found.is_nan() && half.is_nan(), "{half}");
        }
        assert_eq!(nearest_half(f64::MAX), f16::INFINITY);
        assert_eq!(nearest_half(f64::MIN_POSITIVE).to_bits(), 0);
    }
}
