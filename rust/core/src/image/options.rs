//! The options of reading pictures, as they cross the boundary.

use std::str::FromStr;

use super::encode::Format;
use super::{PictureOptions, ResizeMode, ScaleHint};
use crate::options::{MAX_SIDE, MAX_THREADS, Pairs, refused};
use crate::{Error, Options, Result};

impl FromStr for ScaleHint {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "SCALE_AREA_AVERAGING" | "SCALE_SMOOTH" => Ok(ScaleHint::AreaAveraging),
            "SCALE_DEFAULT" | "SCALE_FAST" | "SCALE_REPLICATE" => Ok(ScaleHint::Nearest),
            "SCALE_BILINEAR" => Ok(ScaleHint::Bilinear),
            "SCALE_BICUBIC" => Ok(ScaleHint::Bicubic),
            "SCALE_TF_BILINEAR" => Ok(ScaleHint::TfBilinear),
            _ => Err(refused(
                "scaleHint",
                name,
                "SCALE_AREA_AVERAGING, SCALE_SMOOTH, SCALE_DEFAULT, SCALE_FAST, SCALE_REPLICATE, SCALE_BILINEAR, \
                 SCALE_BICUBIC, SCALE_TF_BILINEAR",
            )),
        }
    }
}

impl FromStr for ResizeMode {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "stretch" => Ok(ResizeMode::Stretch),
            "crop" => Ok(ResizeMode::Crop),
            "pad" => Ok(ResizeMode::Pad),
            _ => Err(refused("resizeMode", name, "stretch, crop, pad")),
        }
    }
}

impl PictureOptions {
    pub(crate) fn parse(pairs: &mut Pairs<'_>) -> Result<Self> {
        Ok(PictureOptions {
            scale_hint: pairs.take("scaleHint")?.parse()?,
            resize_mode: pairs.take("resizeMode")?.parse()?,
            max_pixels: pairs.whole("maxPixels", 1, usize::MAX)? as u64,
            apply_exif_orientation: pairs.flag("applyExifOrientation")?,
            fast_decode: pairs.flag("fastDecode")?,
        })
    }
}

/// What `decode_images` is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputOptions {
    pub(super) picture: PictureOptions,
    /// Width and height; `None` keeps the picture's own.
    pub(super) size: Option<(u32, u32)>,
    /// 0: as many as the machine offers.
    pub(super) threads: usize,
}

impl OutputOptions {
    pub(super) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let parsed = OutputOptions {
            picture: PictureOptions::parse(&mut pairs)?,
            size: pairs
                .size("height", "width", MAX_SIDE)?
                .map(|[height, width]| (width as u32, height as u32)),
            threads: pairs.whole("threads", 0, MAX_THREADS)?,
        };
        pairs.finish()?;
        Ok(parsed)
    }
}

/// What `encode_images` is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncodeOptions {
    pub(super) format: Format,
    pub(super) picture: PictureOptions,
    /// 0: as many as the machine offers.
    pub(super) threads: usize,
}

impl EncodeOptions {
    pub(super) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let quality = pairs.whole("quality", 1, 100)? as u8;
        let format = match pairs.take("format")? {
            "jpeg" => Format::Jpeg(quality),
            "png" => Format::Png,
            "bmp" => Format::Bmp,
            "webp" => Format::WebP,
            "tiff" => Format::Tiff,
            other => return Err(refused("format", other, "jpeg, png, bmp, webp, tiff")),
        };
        let picture = PictureOptions {
            // Nothing is resized.
            scale_hint: ScaleHint::Nearest,
            resize_mode: ResizeMode::Stretch,
            max_pixels: pairs.whole("maxPixels", 1, usize::MAX)? as u64,
            apply_exif_orientation: pairs.flag("applyExifOrientation")?,
            fast_decode: false,
        };
        let parsed = EncodeOptions { format, picture, threads: pairs.whole("threads", 0, MAX_THREADS)? };
        pairs.finish()?;
        Ok(parsed)
    }
}

/// The option `threads`, where there is no other.
pub(super) fn threads_alone(options: &Options) -> Result<usize> {
    let mut pairs = Pairs::new(options)?;
    let threads = pairs.whole("threads", 0, MAX_THREADS)?;
    pairs.finish()?;
    Ok(threads)
}
