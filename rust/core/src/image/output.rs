//! A column of pictures to a column of Spark's image structs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use arrow::array::{Array, ArrayRef, BinaryArray, Int32Array, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::record_batch::RecordBatch;

use super::column::{PictureColumn, Row};
use super::float::FloatPicture;
use super::frame::{Frame, Reasoned};
use super::options::OutputOptions;
use super::pack::guarded;
use super::{ChannelOrder, Scratch};
use crate::{Error, ErrorKind, Options, Result};

/// A picture of the output: BGR(A) or grey, one byte a sample or four.
struct Picture {
    frame: Frame,
    mode: i32,
    data: Vec<u8>,
}

/// Decodes a column of pictures, and resizes it where asked: columns `image` and `error`. Options: see `rust/ARCHITECTURE.md`.
///
/// An invalid row is null in `image`, with its reason in `error`. `origin` is kept from an image struct and empty for a file.
/// Alpha is kept (mode 24), and resized like a colour. Float images stay float.
pub fn decode_images(batch: &RecordBatch, options: &Options) -> Result<RecordBatch> {
    let options = OutputOptions::parse(options)?;
    let [array] = batch.columns() else {
        let message = format!("decode_images takes one column, but got {}.", batch.num_columns());
        return Err(Error::new(ErrorKind::InvalidBatch, message));
    };
    let column = PictureColumn::try_new(Arc::clone(array))?;
    let pictures = read_all(&column, &options)?;
    let reasons: StringArray = pictures.iter().map(|picture| picture.as_ref().err()).collect();
    let images = images(&column, pictures)?;
    let schema = Schema::new(vec![
        Field::new("image", images.data_type().clone(), true),
        Field::new("error", DataType::Utf8, true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(images), Arc::new(reasons)]).map_err(defect)
}

/// Every row, in order, by as many threads as allowed, this one included.
fn read_all(column: &PictureColumn, options: &OutputOptions) -> Result<Vec<Reasoned<Picture>>> {
    let offered = thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { offered } else { options.threads }.min(column.len()).max(1);
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    let work = || {
        let mut scratch = Scratch::default();
        loop {
            let row = next.fetch_add(1, Ordering::Relaxed);
            if row >= column.len() {
                return;
            }
            let picture = guarded(&mut scratch, |scratch| read(scratch, column, row, options));
            // The receiver outlives the threads.
            let _ = send.send((row, picture));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that the system refuses is work that the others do.
            let _ = thread::Builder::new().name("sparkdl-decode".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    drop(send);
    let mut pictures: Vec<_> = receive.into_iter().collect();
    pictures.sort_unstable_by_key(|(row, _)| *row);
    if pictures.len() != column.len() {
        return Err(Error::new(ErrorKind::Internal, "a thread that decoded pictures was lost"));
    }
    Ok(pictures.into_iter().map(|(_, picture)| picture).collect())
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
            Ok(Picture { frame, mode: mode(frame, 5), data })
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
            Ok(Picture { frame, mode: mode(frame, 0), data })
        }
    }
}

/// OpenCV's code of a type: its depth (0 for uint8, 5 for float32) and 8 for each further channel.
fn mode(frame: Frame, depth: i32) -> i32 {
    match frame.channels {
        1 => depth,
        3 => depth + 16,
        _ => depth + 24,
    }
}

fn images(column: &PictureColumn, pictures: Vec<Reasoned<Picture>>) -> Result<StructArray> {
    let valid = |picture: &Reasoned<Picture>| picture.is_ok();
    let total: usize = pictures.iter().flatten().map(|picture| picture.data.len()).sum();
    if i32::try_from(total).is_err() {
        let message = format!(
            "The pictures of this batch have {total} bytes, more than one batch can hold: send fewer rows."
        );
        return Err(Error::new(ErrorKind::InvalidBatch, message));
    }
    let nulls = NullBuffer::from_iter(pictures.iter().map(valid));
    let number = |of: &dyn Fn(&Picture) -> i32| -> ArrayRef {
        Arc::new(Int32Array::from_iter(pictures.iter().map(|picture| picture.as_ref().ok().map(of))))
    };
    let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
    let channels = |picture: &Picture| i32::try_from(picture.frame.channels).unwrap_or_default();
    let origins =
        pictures.iter().enumerate().map(|(row, picture)| picture.is_ok().then(|| column.origin(row)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(origins)),
        number(&|picture| side(picture.frame.height)),
        number(&|picture| side(picture.frame.width)),
        number(&channels),
        number(&|picture| picture.mode),
        Arc::new(BinaryArray::from_iter(
            pictures.iter().map(|picture| picture.as_ref().ok().map(|p| p.data.as_slice())),
        )),
    ];
    let names = ["origin", "height", "width", "nChannels", "mode", "data"];
    let fields: Fields = names
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    StructArray::try_new(fields, columns, Some(nulls)).map_err(defect)
}

fn defect(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "the decoded pictures make no batch").with_source(error)
}
