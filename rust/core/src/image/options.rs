//! The options of reading pictures, as they cross the boundary.

use std::fmt::Display;
use std::str::FromStr;

use super::{PictureOptions, ResizeMode, ScaleHint};
use crate::{Error, ErrorKind, Options, Result};

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
    /// The keys that `parse` reads.
    pub const KEYS: [&'static str; 5] =
        ["scaleHint", "resizeMode", "maxPixels", "applyExifOrientation", "fastDecode"];

    /// Reads `KEYS` out of string pairs that may hold other keys too; a missing key or a bad value is refused by name.
    pub fn parse(options: &Options) -> Result<Self> {
        let max_pixels = number(options, "maxPixels", 1)?;
        Ok(PictureOptions {
            scale_hint: text(options, "scaleHint")?.parse()?,
            resize_mode: text(options, "resizeMode")?.parse()?,
            max_pixels,
            apply_exif_orientation: flag(options, "applyExifOrientation")?,
            fast_decode: flag(options, "fastDecode")?,
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
        let own = ["height", "width", "threads"];
        for (index, (key, _)) in options.iter().enumerate() {
            if !own.contains(&key.as_str()) && !PictureOptions::KEYS.contains(&key.as_str()) {
                return Err(invalid(format!("Unknown option {key} of decode_images.")));
            }
            if options[..index].iter().any(|(earlier, _)| earlier == key) {
                return Err(invalid(format!("The option {key} was given twice.")));
            }
        }
        let (height, width): (u32, u32) = (number(options, "height", 0)?, number(options, "width", 0)?);
        let size = match (width, height) {
            (0, 0) => None,
            (1..=Self::LONGEST, 1..=Self::LONGEST) => Some((width, height)),
            _ => {
                return Err(invalid(format!(
                    "height and width must both be 0 (keep the size) or both in 1 to {}, but are {height} and {width}.",
                    Self::LONGEST
                )));
            }
        };
        Ok(OutputOptions {
            picture: PictureOptions::parse(options)?,
            size,
            threads: number(options, "threads", 0)?,
        })
    }

    /// The longest side that a resized picture may have.
    const LONGEST: u32 = 16_384;
}

fn text<'a>(options: &'a Options, key: &str) -> Result<&'a str> {
    match options.iter().find(|(name, _)| name == key) {
        Some((_, value)) => Ok(value),
        None => Err(invalid(format!("The option {key} is missing."))),
    }
}

fn number<T: FromStr + PartialOrd + Display>(options: &Options, key: &str, least: T) -> Result<T> {
    let value = text(options, key)?;
    match value.parse::<T>() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(refused(key, value, &format!("whole numbers from {least}"))),
    }
}

fn flag(options: &Options, key: &str) -> Result<bool> {
    match text(options, key)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(refused(key, other, "true, false")),
    }
}

fn refused(key: &str, value: &str, known: &str) -> Error {
    invalid(format!("The option {key} cannot be {value:?}; it takes {known}."))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}
