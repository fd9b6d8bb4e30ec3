//! A column of pictures to a column of Spark's image structs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int32Array, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::record_batch::RecordBatch;

use super::column::{PictureColumn, Row};
use super::float::FloatPicture;
use super::frame::{Frame, Reasoned};
use super::info::split;
use super::options::OutputOptions;
use super::rows::{each_row, only_column};
use super::{ChannelOrder, Scratch};
use crate::values::Values;
use crate::{Error, ErrorKind, Options, Result};

/// A picture as Spark's image struct has it: BGR(A) or grey, row by row, of samples of one `depth`.
pub(crate) struct Picture {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) depth: Depth,
    pub(crate) data: Vec<u8>,
}

/// OpenCV's code of a type of samples.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Depth {
    Uint8 = 0,
    Float32 = 5,
}

impl Picture {
    /// The pictures of a tensor `[rows, height, width, channels]` whose channels are in this order; `None` for those that Spark's
    /// struct does not hold.
    pub(crate) fn of_tensor(values: &Values, order: ChannelOrder) -> Vec<Option<Picture>> {
        let &[rows, height, width, channels] = values.dims() else { return Vec::new() };
        let [rows, height, width, channels] = [rows, height, width, channels].map(|side| side as usize);
        let pixels = height * width * channels;
        let swap = order == ChannelOrder::Rgb && channels >= 3;
        let picture = |row: usize| {
            let range = row * pixels..(row + 1) * pixels;
            let (depth, data) = match values {
                Values::Uint8(tensor) => (Depth::Uint8, swapped(&tensor[range], channels, swap)),
                Values::Float32(tensor) => {
                    let floats = swapped(&tensor[range], channels, swap);
                    (Depth::Float32, floats.iter().flat_map(|value| value.to_le_bytes()).collect())
                }
                _ => return None,
            };
            Some(Picture { height, width, channels, depth, data })
        };
        let is_picture = pixels > 0 && matches!(channels, 1 | 3 | 4);
        (0..rows).map(|row| if is_picture { picture(row) } else { None }).collect()
    }

    fn new(frame: Frame, depth: Depth, data: Vec<u8>) -> Picture {
        let (height, width) = (frame.height as usize, frame.width as usize);
        Picture { height, width, channels: frame.channels, depth, data }
    }

    /// OpenCV's code of a picture: its depth, and 8 for each further channel.
    fn mode(&self) -> usize {
        self.depth as usize + 8 * (self.channels - 1)
    }
}

/// Decodes a column of pictures, and resizes it where asked: columns `image` and `error`. Options: see `rust/ARCHITECTURE.md`.
///
/// An invalid row is null in `image`, with its reason in `error`. `origin` is kept from an image struct and empty for a file.
/// Alpha is kept (mode 24), and resized like a colour. Float images stay float.
pub fn decode_images(batch: &RecordBatch, options: &Options) -> Result<RecordBatch> {
    let options = OutputOptions::parse(options)?;
    let column = only_column(batch)?;
    let pictures =
        each_row(&column, options.threads, move |scratch, column, row| read(scratch, column, row, &options))?;
    let origins =
        pictures.iter().enumerate().map(|(row, picture)| picture.is_ok().then(|| column.origin(row)));
    let origins = StringArray::from_iter(origins);
    let (pictures, reasons) = split(pictures);
    with_reasons("image", Arc::new(images(origins, &pictures)?), reasons)
}

/// A batch of values and, where there are none, reasons.
pub(super) fn with_reasons(name: &str, values: ArrayRef, reasons: StringArray) -> Result<RecordBatch> {
    let schema = Schema::new(vec![
        Field::new(name, values.data_type().clone(), true),
        Field::new("error", DataType::Utf8, true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![values, Arc::new(reasons)]).map_err(defect)
}

fn read(
    scratch: &mut Scratch,
    column: &PictureColumn,
    row: usize,
    options: &OutputOptions,
) -> Reasoned<Picture> {
    match column.row(row, options.picture.max_pixels)? {
        Row::Floats(frame, data) => {
            let picture = FloatPicture::read(frame, data)?;
            let (frame, data) = match options.size {
                Some(size) => picture.resized(&options.picture, size)?,
                None => (frame, data.to_vec()),
            };
            Ok(Picture::new(frame, Depth::Float32, data))
        }
        Row::Levels(row) => {
            let (seen, pixels, plan) = scratch.fit(row, &options.picture, options.size, false)?;
            let (width, height) = options.size.unwrap_or(seen.size());
            let frame = Frame { width, height, order: ChannelOrder::Bgr, ..seen };
            let mut data = vec![0; frame.len()];
            let (left, top) = (plan.place.0 as usize * seen.channels, plan.place.1 as usize);
            let length = seen.width as usize * seen.channels;
            let lines = data.chunks_exact_mut(width as usize * seen.channels).skip(top);
            for (line, source) in lines.zip(pixels[..seen.len()].chunks_exact(length)) {
                line[left..left + length].copy_from_slice(source);
            }
            if seen.order == ChannelOrder::Rgb && seen.channels > 1 {
                data.chunks_exact_mut(seen.channels).for_each(|pixel| pixel.swap(0, 2));
            }
            Ok(Picture::new(frame, Depth::Uint8, data))
        }
    }
}

/// A column of Spark's image structs; null where there is no picture.
pub(crate) fn images(origins: StringArray, pictures: &[Option<Picture>]) -> Result<StructArray> {
    let total: usize = pictures.iter().flatten().map(|picture| picture.data.len()).sum();
    if i32::try_from(total).is_err() {
        let message = format!(
            "The pictures of this batch have {total} bytes, more than one batch can hold: send fewer rows."
        );
        return Err(Error::new(ErrorKind::InvalidBatch, message));
    }
    let number = |of: &dyn Fn(&Picture) -> usize| -> ArrayRef {
        let number = |picture: &Picture| i32::try_from(of(picture)).unwrap_or(i32::MAX);
        Arc::new(Int32Array::from_iter(pictures.iter().map(|picture| picture.as_ref().map(number))))
    };
    let data = pictures.iter().map(|picture| picture.as_ref().map(|picture| picture.data.as_slice()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(origins),
        number(&|picture| picture.height),
        number(&|picture| picture.width),
        number(&|picture| picture.channels),
        number(&Picture::mode),
        Arc::new(BinaryArray::from_iter(data)),
    ];
    let names = ["origin", "height", "width", "nChannels", "mode", "data"];
    let fields: Fields = names
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let valid = NullBuffer::from_iter(pictures.iter().map(Option::is_some));
    StructArray::try_new(fields, columns, Some(valid)).map_err(defect)
}

/// Samples with the first and third channel of each pixel exchanged, where that is asked for.
fn swapped<T: Copy>(samples: &[T], channels: usize, swap: bool) -> Vec<T> {
    let mut samples = samples.to_vec();
    if swap {
        samples.chunks_exact_mut(channels).for_each(|pixel| pixel.swap(0, 2));
    }
    samples
}

fn defect(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "the decoded pictures make no batch").with_source(error)
}
