//! What inputs and outputs of a graph are, and tensors of the types that they may have.

use std::fmt;

use bytes::Bytes;
use half::f16;
use serde::{Deserialize, Deserializer, de};
use tensorflow::{DataType, FetchToken, Operation, SessionRunArgs, Tensor, TensorType};

use crate::graph::proto::{
    DT_BOOL, DT_DOUBLE, DT_FLOAT, DT_HALF, DT_INT8, DT_INT16, DT_INT32, DT_INT64, DT_STRING, DT_UINT8,
};
use crate::texts::{Text, Texts};

/// The type of a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dtype {
    Float16,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Bool,
    String,
}

impl Dtype {
    pub(crate) const ALL: [Dtype; 10] = [
        Dtype::Bool,
        Dtype::Float16,
        Dtype::Float32,
        Dtype::Float64,
        Dtype::Int8,
        Dtype::Int16,
        Dtype::Int32,
        Dtype::Int64,
        Dtype::String,
        Dtype::Uint8,
    ];

    /// As Keras and TensorFlow spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Dtype::Float16 => "float16",
            Dtype::Float32 => "float32",
            Dtype::Float64 => "float64",
            Dtype::Int8 => "int8",
            Dtype::Int16 => "int16",
            Dtype::Int32 => "int32",
            Dtype::Int64 => "int64",
            Dtype::Uint8 => "uint8",
            Dtype::Bool => "bool",
            Dtype::String => "string",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Dtype> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// The number of a `DataType` in a graph.
    pub(crate) fn number(self) -> i64 {
        match self {
            Dtype::Float16 => DT_HALF,
            Dtype::Float32 => DT_FLOAT,
            Dtype::Float64 => DT_DOUBLE,
            Dtype::Int8 => DT_INT8,
            Dtype::Int16 => DT_INT16,
            Dtype::Int32 => DT_INT32,
            Dtype::Uint8 => DT_UINT8,
            Dtype::Int64 => DT_INT64,
            Dtype::Bool => DT_BOOL,
            Dtype::String => DT_STRING,
        }
    }

    pub(crate) fn numbered(number: i64) -> Option<Dtype> {
        Self::ALL.into_iter().find(|dtype| dtype.number() == number)
    }

    pub(crate) fn tensorflow(self) -> DataType {
        match self {
            Dtype::Float16 => DataType::Half,
            Dtype::Float32 => DataType::Float,
            Dtype::Float64 => DataType::Double,
            Dtype::Int8 => DataType::Int8,
            Dtype::Int16 => DataType::Int16,
            Dtype::Int32 => DataType::Int32,
            Dtype::Int64 => DataType::Int64,
            Dtype::Uint8 => DataType::UInt8,
            Dtype::Bool => DataType::Bool,
            Dtype::String => DataType::String,
        }
    }

    /// Bytes of one value; of a text, those besides its content.
    pub(crate) fn size(self) -> usize {
        match self {
            Dtype::String => size_of::<Text>(),
            Dtype::Float64 | Dtype::Int64 => 8,
            Dtype::Float32 | Dtype::Int32 => 4,
            Dtype::Float16 | Dtype::Int16 => 2,
            Dtype::Int8 | Dtype::Uint8 | Dtype::Bool => 1,
        }
    }
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Dtype, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = || Dtype::ALL.map(Dtype::name).join(", ");
        Dtype::named(&name)
            .ok_or_else(|| de::Error::custom(format!("the type {name} is none of {}", known())))
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Numbers of one row, at most: keeps every product far from overflow.
pub(crate) const MAX_VALUES: usize = 1 << 28;

/// An input or output of a graph on tensors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    /// What the model calls it.
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    /// Without the batch dimension; `None` is any size.
    pub(crate) shape: Vec<Option<usize>>,
}

impl Port {
    /// `[3, any]`
    pub(crate) fn shown_shape(&self) -> String {
        shown_sides(&self.shape)
    }

    /// Numbers of one row; sides of any size count once.
    pub(crate) fn least_values(&self) -> usize {
        self.shape.iter().flatten().product()
    }
}

/// `[3, any]`
pub(crate) fn shown_sides(sides: &[Option<usize>]) -> String {
    let sides: Vec<String> =
        sides.iter().map(|side| side.map_or("any".to_owned(), |side| side.to_string())).collect();
    format!("[{}]", sides.join(", "))
}

/// By how much numbers may differ, beside the largest, that were summed in another order.
const ROUNDING: f32 = 1e-4;

/// A tensor, by the type of its values.
#[derive(Debug)]
pub(crate) enum Values {
    Float16(Tensor<f16>),
    Float32(Tensor<f32>),
    Float64(Tensor<f64>),
    Int8(Tensor<i8>),
    Int16(Tensor<i16>),
    Int32(Tensor<i32>),
    Int64(Tensor<i64>),
    Uint8(Tensor<u8>),
    Bool(Tensor<bool>),
    String(Texts),
}

/// The same for a tensor of any type.
macro_rules! each {
    ($values:expr, $tensor:ident => $body:expr) => {
        match $values {
            Values::Float16($tensor) => $body,
            Values::Int8($tensor) => $body,
            Values::Int16($tensor) => $body,
            Values::String(texts) => {
                let $tensor = texts.tensor();
                $body
            }
            Values::Float32($tensor) => $body,
            Values::Float64($tensor) => $body,
            Values::Int32($tensor) => $body,
            Values::Int64($tensor) => $body,
            Values::Uint8($tensor) => $body,
            Values::Bool($tensor) => $body,
        }
    };
}

impl Values {
    /// Zeros, or empty texts.
    pub(crate) fn new(dtype: Dtype, dims: &[u64]) -> Values {
        match dtype {
            Dtype::Float16 => Values::Float16(Tensor::new(dims)),
            Dtype::Int8 => Values::Int8(Tensor::new(dims)),
            Dtype::Int16 => Values::Int16(Tensor::new(dims)),
            Dtype::String => Values::String(Texts::new(dims)),
            Dtype::Float32 => Values::Float32(Tensor::new(dims)),
            Dtype::Float64 => Values::Float64(Tensor::new(dims)),
            Dtype::Int32 => Values::Int32(Tensor::new(dims)),
            Dtype::Int64 => Values::Int64(Tensor::new(dims)),
            Dtype::Uint8 => Values::Uint8(Tensor::new(dims)),
            Dtype::Bool => Values::Bool(Tensor::new(dims)),
        }
    }

    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Values::Float16(_) => Dtype::Float16,
            Values::Int8(_) => Dtype::Int8,
            Values::Int16(_) => Dtype::Int16,
            Values::String(_) => Dtype::String,
            Values::Float32(_) => Dtype::Float32,
            Values::Float64(_) => Dtype::Float64,
            Values::Int32(_) => Dtype::Int32,
            Values::Int64(_) => Dtype::Int64,
            Values::Uint8(_) => Dtype::Uint8,
            Values::Bool(_) => Dtype::Bool,
        }
    }

    /// As a graph has them: little-endian. A graph has no texts so.
    pub(crate) fn bytes(&self) -> Bytes {
        let bytes: Vec<u8> = match self {
            Values::Float16(tensor) => tensor.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Int8(tensor) => tensor.iter().map(|value| value.cast_unsigned()).collect(),
            Values::Int16(tensor) => tensor.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::String(_) => Vec::new(),
            Values::Float32(tensor) => tensor.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Float64(tensor) => tensor.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Int32(tensor) => tensor.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Int64(tensor) => tensor.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Uint8(tensor) => tensor.to_vec(),
            Values::Bool(tensor) => tensor.iter().map(|value| u8::from(*value)).collect(),
        };
        bytes.into()
    }

    pub(crate) fn dims(&self) -> &[u64] {
        each!(self, tensor => tensor.dims())
    }

    /// Whether each row is that of `row`, a tensor of one row, but for rounding.
    pub(crate) fn repeats(&self, row: &Values) -> bool {
        fn same<T: TensorType>(rows: &Tensor<T>, row: &Tensor<T>, equal: impl Fn(&T, &T) -> bool) -> bool {
            rows.dims().get(1..) == row.dims().get(1..)
                && (row.is_empty()
                    || rows.chunks(row.len()).all(|each| each.iter().zip(&**row).all(|(a, b)| equal(a, b))))
        }
        match (self, row) {
            (Values::Float32(rows), Values::Float32(row)) => {
                let largest = row.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                same(rows, row, |a, b| (a - b).abs() <= ROUNDING * largest)
            }
            (Values::Float64(rows), Values::Float64(row)) => {
                let largest = row.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
                same(rows, row, |a, b| (a - b).abs() <= f64::from(ROUNDING) * largest)
            }
            (Values::Float16(rows), Values::Float16(row)) => {
                let float = |value: &f16| value.to_f32();
                let largest = row.iter().map(float).fold(0.0_f32, |most, value| most.max(value.abs()));
                // Of 11 bits.
                same(rows, row, |a, b| (float(a) - float(b)).abs() <= largest / 512.0)
            }
            (Values::Int8(rows), Values::Int8(row)) => same(rows, row, i8::eq),
            (Values::Int16(rows), Values::Int16(row)) => same(rows, row, i16::eq),
            (Values::String(rows), Values::String(row)) => {
                let count = row.len();
                rows.dims().get(1..) == row.dims().get(1..)
                    && rows.iter().enumerate().all(|(index, text)| text == row.get(index % count))
            }
            (Values::Int32(rows), Values::Int32(row)) => same(rows, row, i32::eq),
            (Values::Int64(rows), Values::Int64(row)) => same(rows, row, i64::eq),
            (Values::Uint8(rows), Values::Uint8(row)) => same(rows, row, u8::eq),
            (Values::Bool(rows), Values::Bool(row)) => same(rows, row, bool::eq),
            _ => false,
        }
    }

    /// Gives the tensor to a run as the value of one of the graph's outputs.
    pub(crate) fn feed<'a>(&'a self, run: &mut SessionRunArgs<'a>, operation: &Operation, index: i32) {
        each!(self, tensor => run.add_feed(operation, index, tensor));
    }

    /// Takes a result out of a run.
    pub(crate) fn fetch(
        run: &mut SessionRunArgs<'_>,
        token: FetchToken,
        dtype: Dtype,
    ) -> tensorflow::Result<Values> {
        Ok(match dtype {
            Dtype::Float16 => Values::Float16(run.fetch(token)?),
            Dtype::Int8 => Values::Int8(run.fetch(token)?),
            Dtype::Int16 => Values::Int16(run.fetch(token)?),
            Dtype::String => Values::String(Texts::copy_of(&run.fetch::<Text>(token)?)),
            Dtype::Float32 => Values::Float32(run.fetch(token)?),
            Dtype::Float64 => Values::Float64(run.fetch(token)?),
            Dtype::Int32 => Values::Int32(run.fetch(token)?),
            Dtype::Int64 => Values::Int64(run.fetch(token)?),
            Dtype::Uint8 => Values::Uint8(run.fetch(token)?),
            Dtype::Bool => Values::Bool(run.fetch(token)?),
        })
    }
}
