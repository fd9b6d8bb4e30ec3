//! A column of encoded files or of Spark's image structs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, LargeBinaryArray, StructArray};
use arrow::datatypes::{DataType, Int32Type};

use super::ChannelOrder;
use super::frame::{Frame, Reasoned, check_size};
use crate::{Error, ErrorKind, Result};

/// A column of encoded files or of Spark's image structs, checked once, read by row; a clone shares its memory.
#[derive(Debug, Clone)]
pub struct PictureColumn {
    rows: Rows,
}

#[derive(Debug, Clone)]
enum Rows {
    Files(Bytes),
    Images(Box<Images>),
}

#[derive(Debug, Clone)]
enum Bytes {
    Small(BinaryArray),
    Large(LargeBinaryArray),
}

#[derive(Debug, Clone)]
struct Images {
    whole: StructArray,
    origin: ArrayRef,
    height: Int32Array,
    width: Int32Array,
    channels: Int32Array,
    mode: Int32Array,
    data: Bytes,
}

/// One row as it lies in the column.
#[derive(Debug)]
pub(super) enum Row<'a> {
    /// Samples of one byte, or a file that holds such.
    Levels(Levels<'a>),
    /// Samples of four bytes: float32, little-endian.
    Floats(Frame, &'a [u8]),
}

/// A picture of one byte a sample.
#[derive(Debug)]
pub(super) enum Levels<'a> {
    /// An encoded file.
    File(&'a [u8]),
    Pixels(Frame, &'a [u8]),
}

impl PictureColumn {
    /// Takes `binary`, `large_binary` or Spark's image struct; anything else is kind `InvalidBatch`.
    pub fn try_new(array: ArrayRef) -> Result<Self> {
        let rows = match array.data_type() {
            DataType::Struct(_) => {
                Images::try_new(array.as_struct()).map(|images| Rows::Images(Box::new(images)))
            }
            _ => Bytes::try_new(&array).map(Rows::Files),
        };
        let rows = rows.ok_or_else(|| {
            let message = format!(
                "The input column must be binary or Spark's image struct<origin,height,width,nChannels,mode,data>, \
                 but is {}.",
                array.data_type()
            );
            Error::new(ErrorKind::InvalidBatch, message)
        })?;
        Ok(PictureColumn { rows })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::Files(bytes) => bytes.array().len(),
            Rows::Images(images) => images.whole.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where an image struct says that it comes from; empty for a file.
    pub(super) fn origin(&self, row: usize) -> &str {
        match &self.rows {
            Rows::Files(_) => "",
            Rows::Images(images) => match images.origin.data_type() {
                _ if images.origin.is_null(row) => "",
                DataType::Utf8 => images.origin.as_string::<i32>().value(row),
                _ => images.origin.as_string::<i64>().value(row),
            },
        }
    }

    pub(super) fn row(&self, row: usize, max_pixels: u64) -> Reasoned<Row<'_>> {
        if row >= self.len() {
            return Err(format!("row {row} of {}", self.len()));
        }
        match &self.rows {
            Rows::Files(bytes) => match bytes.get(row) {
                None => Err("null".to_owned()),
                Some([]) => Err("empty value".to_owned()),
                Some(file) => Ok(Row::Levels(Levels::File(file))),
            },
            Rows::Images(images) => images.row(row, max_pixels),
        }
    }
}

impl Bytes {
    fn try_new(array: &ArrayRef) -> Option<Self> {
        match array.data_type() {
            DataType::Binary => Some(Bytes::Small(array.as_binary::<i32>().clone())),
            DataType::LargeBinary => Some(Bytes::Large(array.as_binary::<i64>().clone())),
            _ => None,
        }
    }

    fn array(&self) -> &dyn Array {
        match self {
            Bytes::Small(array) => array,
            Bytes::Large(array) => array,
        }
    }

    fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Bytes::Small(array) => array.is_valid(row).then(|| array.value(row)),
            Bytes::Large(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

impl Images {
    const FIELDS: [&'static str; 6] = ["origin", "height", "width", "nChannels", "mode", "data"];

    fn try_new(array: &StructArray) -> Option<Self> {
        if array.column_names() != Self::FIELDS {
            return None;
        }
        let origin = array.column(0).data_type();
        if !matches!(origin, DataType::Utf8 | DataType::LargeUtf8) {
            return None;
        }
        let int = |index: usize| array.column(index).as_primitive_opt::<Int32Type>().cloned();
        Some(Images {
            whole: array.clone(),
            origin: Arc::clone(array.column(0)),
            height: int(1)?,
            width: int(2)?,
            channels: int(3)?,
            mode: int(4)?,
            data: Bytes::try_new(array.column(5))?,
        })
    }

    fn row(&self, row: usize, max_pixels: u64) -> Reasoned<Row<'_>> {
        if self.whole.is_null(row) {
            return Err("null".to_owned());
        }
        let field = |array: &Int32Array, name: &str| {
            array
                .is_valid(row)
                .then(|| array.value(row))
                .ok_or_else(|| format!("null in the image's field {name}"))
        };
        let mode = field(&self.mode, "mode")?;
        let (height, width) = (field(&self.height, "height")?, field(&self.width, "width")?);
        let channels = field(&self.channels, "nChannels")?;
        let data = self.data.get(row).ok_or("null in the image's field data")?;
        if mode == -1 || height < 0 || width < 0 {
            return Err("Spark's invalid-image row".to_owned());
        }
        check_size(width.unsigned_abs(), height.unsigned_abs(), max_pixels)?;
        let (count, depth) = match mode {
            0 => (1, 1),
            16 => (3, 1),
            24 => (4, 1),
            5 => (1, 4),
            21 => (3, 4),
            29 => (4, 4),
            _ => {
                return Err(format!(
                    "image mode {mode}; known are 0, 16, 24 (uint8) and 5, 21, 29 (float32)"
                ));
            }
        };
        if i64::from(channels) != count as i64 {
            return Err(format!("image mode {mode} has {count} channels, but nChannels is {channels}"));
        }
        let frame = Frame {
            width: width.unsigned_abs(),
            height: height.unsigned_abs(),
            channels: count,
            order: ChannelOrder::Bgr,
        };
        if data.len() != frame.len() * depth {
            return Err(format!(
                "{} bytes of data, but {width} x {height} pixels of mode {mode} need {}",
                data.len(),
                frame.len() * depth
            ));
        }
        Ok(if depth == 1 { Row::Levels(Levels::Pixels(frame, data)) } else { Row::Floats(frame, data) })
    }
}
