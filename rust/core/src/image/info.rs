//! What the headers of encoded pictures tell.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::record_batch::RecordBatch;

use super::column::{Levels, Row};
use super::decode;
use super::frame::Reasoned;
use super::options::threads_alone;
use super::output::with_reasons;
use super::rows::{each_row, only_column};
use crate::{Options, Result};

/// A picture by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Info {
    /// `jpeg`, `png`, `gif`, `bmp`, `webp` or `tiff`.
    pub(super) format: &'static str,
    pub(super) height: u32,
    pub(super) width: u32,
    /// Of the picture that decoding gives: 1 (grey), 3 or 4.
    pub(super) channels: usize,
}

/// Reads the headers of a column of encoded pictures, whose pixels are not looked at: columns `info`
/// (`struct<format: utf8, height: int32, width: int32, nChannels: int32>`) and `error`. Option: `threads`.
///
/// A row that is no picture is null in `info`, with its reason in `error`. Sizes are those before EXIF's orientation.
pub fn image_info(batch: &RecordBatch, options: &Options) -> Result<RecordBatch> {
    let threads = threads_alone(options)?;
    let column = only_column(batch)?;
    let infos = each_row(&column, threads, |_, column, row| match column.row(row, u64::MAX)? {
        Row::Levels(Levels::File(file)) => decode::info(file),
        _ => Err("an image struct, not an encoded picture".to_owned()),
    })?;
    let (infos, reasons): (Vec<Option<Info>>, StringArray) = split(infos);
    let number = |of: fn(&Info) -> u32| -> ArrayRef {
        let number = |info: &Info| i32::try_from(of(info)).unwrap_or(i32::MAX);
        Arc::new(Int32Array::from_iter(infos.iter().map(|info| info.as_ref().map(number))))
    };
    let formats = infos.iter().map(|info| info.map(|info| info.format));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(formats)),
        number(|info| info.height),
        number(|info| info.width),
        number(|info| info.channels as u32),
    ];
    let names = ["format", "height", "width", "nChannels"];
    let kinds = [DataType::Utf8, DataType::Int32, DataType::Int32, DataType::Int32];
    let fields: Fields = names.iter().zip(kinds).map(|(name, kind)| Field::new(*name, kind, true)).collect();
    let valid = NullBuffer::from_iter(infos.iter().map(Option::is_some));
    let info = StructArray::new(fields, columns, Some(valid));
    with_reasons("info", Arc::new(info), reasons)
}

/// Values and reasons, each where the other is none.
pub(super) fn split<T>(rows: Vec<Reasoned<T>>) -> (Vec<Option<T>>, StringArray) {
    let reasons = rows.iter().map(|row| row.as_ref().err()).collect();
    (rows.into_iter().map(std::result::Result::ok).collect(), reasons)
}
