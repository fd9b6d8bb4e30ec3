//! A column of pictures to a column of encoded files.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::BinaryArray;
use arrow::record_batch::RecordBatch;
use image::codecs::{bmp, png, tiff, webp};
use image::{ExtendedColorType, ImageEncoder, ImageResult};

use super::column::{PictureColumn, Row};
use super::frame::{Frame, Reasoned};
use super::info::split;
use super::options::EncodeOptions;
use super::output::with_reasons;
use super::rows::{each_row, only_column};
use super::{ChannelOrder, Scratch};
use crate::{Error, ErrorKind, Options, Result};

/// The formats that pictures are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Without alpha, which JPEG does not know; of this quality, 1 to 100.
    Jpeg(u8),
    Png,
    Bmp,
    /// Lossless.
    WebP,
    Tiff,
}

/// Encodes a column of pictures: columns `file` (binary) and `error`. Options: see `rust/ARCHITECTURE.md`.
///
/// A row that cannot be encoded is null in `file`, with its reason in `error`; so is one of float samples, for which these
/// formats have no common form. Encoded pictures are decoded first, to become of the other format.
pub fn encode_images(batch: &RecordBatch, options: &Options) -> Result<RecordBatch> {
    let EncodeOptions { format, picture, threads } = EncodeOptions::parse(options)?;
    let column = only_column(batch)?;
    let encode = move |scratch: &mut Scratch, column: &PictureColumn, row| {
        let Row::Levels(levels) = column.row(row, picture.max_pixels)? else {
            return Err("a picture of float samples cannot be encoded".to_owned());
        };
        let (frame, pixels, _) = scratch.fit(levels, &picture, None, false)?;
        written(format, frame, &pixels[..frame.len()])
    };
    let (files, reasons) = split(each_row(&column, threads, encode)?);
    let total: usize = files.iter().flatten().map(Vec::len).sum();
    if i32::try_from(total).is_err() {
        let message = format!(
            "The files of this batch have {total} bytes, more than one batch can hold: send fewer rows."
        );
        return Err(Error::new(ErrorKind::InvalidBatch, message));
    }
    with_reasons("file", Arc::new(BinaryArray::from_iter(files)), reasons)
}

fn written(format: Format, frame: Frame, pixels: &[u8]) -> Reasoned<Vec<u8>> {
    if let Format::Jpeg(quality) = format {
        return jpeg(frame, pixels, quality);
    }
    let colour = match frame.channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => ExtendedColorType::Rgba8,
    };
    let swapped;
    let pixels = if frame.order == ChannelOrder::Bgr && frame.channels > 1 {
        swapped = red_first(pixels, frame.channels);
        &swapped
    } else {
        pixels
    };
    let (width, height) = frame.size();
    let mut file = Cursor::new(Vec::new());
    let done: ImageResult<()> = match format {
        Format::Png => png::PngEncoder::new(&mut file).write_image(pixels, width, height, colour),
        Format::Bmp => bmp::BmpEncoder::new(&mut file).write_image(pixels, width, height, colour),
        Format::WebP => webp::WebPEncoder::new_lossless(&mut file).write_image(pixels, width, height, colour),
        _ => tiff::TiffEncoder::new(&mut file).write_image(pixels, width, height, colour),
    };
    done.map_err(|error| format!("cannot be encoded: {error}"))?;
    Ok(file.into_inner())
}

/// Samples with blue and red exchanged.
fn red_first(pixels: &[u8], channels: usize) -> Vec<u8> {
    let mut pixels = pixels.to_vec();
    pixels.chunks_exact_mut(channels).for_each(|pixel| pixel.swap(0, 2));
    pixels
}

/// Baseline JPEG, its colours at half of the size in both directions (4:2:0), as Pillow, OpenCV and TensorFlow write it.
#[cfg(feature = "libjpeg-turbo")]
fn jpeg(frame: Frame, pixels: &[u8], quality: u8) -> Reasoned<Vec<u8>> {
    use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};
    let refused = |error: turbojpeg::Error| format!("cannot be encoded: {error}");
    let (format, subsampling) = match (frame.channels, frame.order) {
        (1, _) => (PixelFormat::GRAY, Subsamp::Gray),
        (3, ChannelOrder::Rgb) => (PixelFormat::RGB, Subsamp::Sub2x2),
        (3, ChannelOrder::Bgr) => (PixelFormat::BGR, Subsamp::Sub2x2),
        (_, ChannelOrder::Rgb) => (PixelFormat::RGBA, Subsamp::Sub2x2),
        (_, ChannelOrder::Bgr) => (PixelFormat::BGRA, Subsamp::Sub2x2),
    };
    let (width, height) = (frame.width as usize, frame.height as usize);
    let mut compressor = Compressor::new().map_err(refused)?;
    compressor.set_quality(i32::from(quality)).map_err(refused)?;
    compressor.set_subsamp(subsampling).map_err(refused)?;
    let image = Image { pixels, width, pitch: width * frame.channels, height, format };
    compressor.compress_to_vec(image).map_err(refused)
}

/// Where libjpeg-turbo is not built in.
#[cfg(not(feature = "libjpeg-turbo"))]
fn jpeg(frame: Frame, pixels: &[u8], quality: u8) -> Reasoned<Vec<u8>> {
    let (width, height) = frame.size();
    let mut file = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, quality);
    let done = if frame.channels == 1 {
        encoder.write_image(pixels, width, height, ExtendedColorType::L8)
    } else {
        let is_bgr = frame.order == ChannelOrder::Bgr;
        let colours = pixels.chunks_exact(frame.channels).flat_map(|pixel| match is_bgr {
            true => [pixel[2], pixel[1], pixel[0]],
            false => [pixel[0], pixel[1], pixel[2]],
        });
        let colours: Vec<u8> = colours.collect();
        encoder.write_image(&colours, width, height, ExtendedColorType::Rgb8)
    };
    done.map_err(|error| format!("cannot be encoded: {error}"))?;
    Ok(file)
}
