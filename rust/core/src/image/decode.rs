//! Encoded files to levels: which format it is, how large it may be, who decodes it.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Limits};

use super::frame::{Frame, Reasoned, check_size, sized, trim};
use super::info::Info;
use super::jpeg::{self, JpegDecoder};
use super::resize::Plan;
use super::{ChannelOrder, PictureOptions};

/// Memory that a decoder may take beside the pixels: palettes, text chunks, tables.
const SPARE_BYTES: u64 = 32 << 20;

const UNKNOWN: &str = "not a picture in a known format (JPEG, PNG, GIF, BMP, WebP, TIFF)";

/// The decoded picture, in a buffer that is kept.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    pixels: Vec<u8>,
    jpeg: JpegDecoder,
}

impl Decoder {
    /// The samples of the last picture; what lies behind them is left from earlier ones.
    pub(super) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Decodes a file: 1 channel for grey, 3 or 4 in the order RGB(A) else. A target lets `fastDecode` skip detail.
    pub(super) fn decode(
        &mut self,
        file: &[u8],
        options: &PictureOptions,
        target: Option<(u32, u32)>,
    ) -> Reasoned<(Frame, Orientation)> {
        match format(file) {
            Some(ImageFormat::Jpeg) => {
                let enough = |size| Some(Plan::new(options.resize_mode, size, target?).resized);
                self.jpeg.decode(file, options, enough, &mut self.pixels)
            }
            Some(format) => decode_other(file, format, options.max_pixels, &mut self.pixels),
            None => Err(UNKNOWN.to_owned()),
        }
    }

    pub(super) fn trim(&mut self, kept: usize) {
        trim(&mut self.pixels, kept);
        self.jpeg.trim(kept);
    }
}

fn format(file: &[u8]) -> Option<ImageFormat> {
    match file {
        [0xFF, 0xD8, 0xFF, ..] => Some(ImageFormat::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(ImageFormat::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(ImageFormat::Gif),
        [b'B', b'M', ..] => Some(ImageFormat::Bmp),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some(ImageFormat::Tiff),
        _ => None,
    }
}

/// What a file's header tells; of pixels nothing is read.
pub(super) fn info(file: &[u8]) -> Reasoned<Info> {
    let format = format(file).ok_or_else(|| UNKNOWN.to_owned())?;
    if format == ImageFormat::Jpeg {
        let (width, height, channels) = jpeg::header(file)?;
        return Ok(Info { format: "jpeg", height, width, channels });
    }
    let decoder = opened(file, format).map_err(|error| reason(format, &error))?;
    let (width, height) = decoder.dimensions();
    let colour = decoder.color_type();
    let channels = match Layout::of(colour) {
        _ if format == ImageFormat::Gif && is_opaque_gif(file) => 3,
        Some(layout) => layout.kept,
        None => usize::from(colour.channel_count()),
    };
    let format = match format {
        ImageFormat::Png => "png",
        ImageFormat::Gif => "gif",
        ImageFormat::Bmp => "bmp",
        ImageFormat::WebP => "webp",
        _ => "tiff",
    };
    Ok(Info { format, height, width, channels })
}

/// A decoder that has read the header, and nothing large.
fn opened(file: &[u8], format: ImageFormat) -> ImageResult<impl ImageDecoder> {
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(SPARE_BYTES);
    reader.limits(limits);
    reader.into_decoder()
}

fn decode_other(
    file: &[u8],
    format: ImageFormat,
    max_pixels: u64,
    pixels: &mut Vec<u8>,
) -> Reasoned<(Frame, Orientation)> {
    let reason = |error: ImageError| reason(format, &error);
    let mut decoder = opened(file, format).map_err(reason)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, max_pixels)?;
    let bytes = decoder.total_bytes();
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(SPARE_BYTES + 4 * bytes);
    decoder.set_limits(limits).map_err(reason)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let colour = decoder.color_type();
    let mut layout =
        Layout::of(colour).ok_or_else(|| format!("{} samples are not read", float_name(colour)))?;
    if format == ImageFormat::Gif && is_opaque_gif(file) {
        layout.kept = 3;
    }
    let len = usize::try_from(bytes).map_err(|_| "too large for this machine".to_owned())?;
    let raw = sized(pixels, len);
    decoder.read_image(raw).map_err(reason)?;
    layout.compact(raw);
    Ok((Frame { width, height, channels: layout.kept, order: ChannelOrder::Rgb }, orientation))
}

/// The `image` crate's decoder of JPEG, where libjpeg-turbo is not built in.
#[cfg(not(feature = "libjpeg-turbo"))]
pub(super) fn decode_jpeg(file: &[u8], max_pixels: u64, pixels: &mut Vec<u8>) -> Reasoned<Frame> {
    decode_other(file, ImageFormat::Jpeg, max_pixels, pixels).map(|(frame, _)| frame)
}

/// Whether the first frame names no transparent colour and fills the screen; the `image` crate gives every GIF an alpha.
fn is_opaque_gif(file: &[u8]) -> bool {
    let mut options = gif::DecodeOptions::new();
    options.skip_frame_decoding(true);
    let Ok(mut decoder) = options.read_info(file) else { return false };
    let screen = (decoder.width(), decoder.height());
    let Ok(Some(frame)) = decoder.next_frame_info() else { return false };
    frame.transparent.is_none()
        && (frame.left, frame.top, frame.width, frame.height) == (0, 0, screen.0, screen.1)
}

fn reason(format: ImageFormat, error: &ImageError) -> String {
    let name = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::WebP => "WebP",
        ImageFormat::Tiff => "TIFF",
        _ => "JPEG",
    };
    match error {
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            format!("truncated {name}")
        }
        _ => format!("broken {name}: {error}"),
    }
}

fn float_name(colour: ColorType) -> String {
    format!("{colour:?}")
}

/// Samples as the `image` crate gives them, and how many of each pixel are kept.
struct Layout {
    channels: usize,
    kept: usize,
    /// Two bytes a sample, in the machine's order.
    wide: bool,
}

impl Layout {
    /// `None` for float samples, whose range no file states.
    fn of(colour: ColorType) -> Option<Self> {
        let (channels, kept, wide) = match colour {
            ColorType::L8 => (1, 1, false),
            ColorType::La8 => (2, 1, false),
            ColorType::Rgb8 => (3, 3, false),
            ColorType::Rgba8 => (4, 4, false),
            ColorType::L16 => (1, 1, true),
            ColorType::La16 => (2, 1, true),
            ColorType::Rgb16 => (3, 3, true),
            ColorType::Rgba16 => (4, 4, true),
            _ => return None,
        };
        Some(Layout { channels, kept, wide })
    }

    /// Moves the kept samples to the front, each in one byte: of 16 bits the upper eight.
    fn compact(&self, raw: &mut [u8]) {
        let depth = if self.wide { 2 } else { 1 };
        if depth == 1 && self.channels == self.kept {
            return;
        }
        let upper = if self.wide && cfg!(target_endian = "little") { 1 } else { 0 };
        let step = self.channels * depth;
        for pixel in 0..raw.len() / step {
            for channel in 0..self.kept {
                raw[pixel * self.kept + channel] = raw[pixel * step + channel * depth + upper];
            }
        }
    }
}
