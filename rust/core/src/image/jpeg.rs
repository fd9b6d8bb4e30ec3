//! JPEG: our own look at its markers, then libjpeg-turbo.

use image::metadata::Orientation;

use super::PictureOptions;
use super::frame::{Frame, Reasoned, check_size, trim};

/// A progressive file that needs more passes than this over its pixels is refused.
const MAX_SCANS: usize = 500;

/// What the markers tell before any pixel is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Markers {
    width: u32,
    height: u32,
    components: u8,
    orientation: Orientation,
    scans: usize,
    progressive: bool,
    /// The end of the picture, just behind its EOI; `None` where the file ends before.
    end: Option<usize>,
}

impl Markers {
    fn read(file: &[u8], max_pixels: u64) -> Reasoned<Self> {
        // The end of the picture is where reading stops anyway.
        let found = Markers::up_to(file, |_| false, max_pixels)?;
        match found {
            Markers { width: 0, end: Some(_), .. } => Err("broken JPEG: no frame header".to_owned()),
            Markers { scans: 0, end: Some(_), .. } => Err("broken JPEG: no scan".to_owned()),
            Markers { scans: 0, .. } | Markers { width: 0, .. } => Err("truncated JPEG".to_owned()),
            _ => Ok(found),
        }
    }

    /// What the markers tell up to a last one, whose segment is read too.
    fn up_to(file: &[u8], is_last: impl Fn(u8) -> bool, max_pixels: u64) -> Reasoned<Self> {
        let mut found = Markers {
            width: 0,
            height: 0,
            components: 0,
            orientation: Orientation::NoTransforms,
            scans: 0,
            progressive: false,
            end: None,
        };
        let mut at = 2;
        while let Some((marker, behind)) = next_marker(file, at) {
            at = behind;
            match marker {
                0xD9 => {
                    found.end = Some(at);
                    break;
                }
                0x01 | 0xD0..=0xD8 => continue,
                _ => {}
            }
            let Some(segment) = segment(file, at) else { break };
            at += 2 + segment.len();
            match (marker, segment) {
                (0xC0..=0xCF, [_, h1, h2, w1, w2, components, ..])
                    if is_frame(marker) && found.width == 0 =>
                {
                    found.height = u32::from(u16::from_be_bytes([*h1, *h2]));
                    found.width = u32::from(u16::from_be_bytes([*w1, *w2]));
                    found.components = *components;
                    found.progressive = marker & 3 == 2;
                    check_size(found.width, found.height, max_pixels)?;
                }
                (0xE1, [b'E', b'x', b'i', b'f', 0, 0, exif @ ..]) => {
                    found.orientation = Orientation::from_exif_chunk(exif).unwrap_or(found.orientation);
                }
                (0xDA, _) => {
                    found.scans += 1;
                    if found.scans > MAX_SCANS {
                        return Err(format!("JPEG with more than {MAX_SCANS} scans"));
                    }
                }
                _ => {}
            }
            if is_last(marker) {
                break;
            }
        }
        Ok(found)
    }
}

/// Width, height and channels (1 or 3) by the frame header, behind which nothing is read.
pub(super) fn header(file: &[u8]) -> Reasoned<(u32, u32, usize)> {
    let found = Markers::up_to(file, |marker| matches!(marker, 0xC0..=0xCF) && is_frame(marker), u64::MAX)?;
    match found {
        Markers { width: 0, end: Some(_), .. } => Err("broken JPEG: no frame header".to_owned()),
        Markers { width: 0, .. } => Err("truncated JPEG".to_owned()),
        Markers { width, height, components, .. } => Ok((width, height, if components == 1 { 1 } else { 3 })),
    }
}

/// Whether the marker begins a frame, and not tables.
fn is_frame(marker: u8) -> bool {
    !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

/// The next marker's code and where it ends. Bytes before it, entropy-coded or stray, are passed over.
fn next_marker(file: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += memchr::memchr(0xFF, file.get(at..)?)? + 1;
        match *file.get(at)? {
            0xFF => {}
            0x00 => at += 1,
            code => return Some((code, at + 1)),
        }
    }
}

/// The body of a segment whose length field stands at `at`.
fn segment(file: &[u8], at: usize) -> Option<&[u8]> {
    let length = file.get(at..at + 2)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    file.get(at + 2..at + length.max(2))
}

/// libjpeg-turbo's state with the buffers around it.
#[derive(Debug, Default)]
pub(super) struct JpegDecoder {
    #[cfg(feature = "libjpeg-turbo")]
    turbo: Option<turbojpeg::Decompressor>,
    /// A mended copy of a file.
    copy: Vec<u8>,
}

impl JpegDecoder {
    /// Decodes to grey or RGB. `enough` tells for the full size which size the resizing needs at least.
    pub(super) fn decode(
        &mut self,
        file: &[u8],
        options: &PictureOptions,
        enough: impl Fn((u32, u32)) -> Option<(u32, u32)>,
        pixels: &mut Vec<u8>,
    ) -> Reasoned<(Frame, Orientation)> {
        let markers = Markers::read(file, options.max_pixels)?;
        let mut copy = std::mem::take(&mut self.copy);
        let whole = match markers.end {
            Some(end) => &file[..end],
            // Of a file in several scans every scan may be incomplete; of a single scan only the end may be missing.
            None if markers.progressive || markers.scans > 1 => return Err("truncated JPEG".to_owned()),
            None => {
                copy.clear();
                copy.extend_from_slice(file);
                copy.extend_from_slice(&[0xFF, 0xD9]);
                &copy
            }
        };
        let turned = options.apply_exif_orientation && super::orientation::swaps(markers.orientation);
        let flip = |(a, b): (u32, u32)| if turned { (b, a) } else { (a, b) };
        let least = enough(flip((markers.width, markers.height))).map(flip).filter(|_| options.fast_decode);
        let frame = self.decompress(whole, &markers, least, pixels);
        self.copy = copy;
        frame.map(|frame| (frame, markers.orientation))
    }

    pub(super) fn trim(&mut self, kept: usize) {
        trim(&mut self.copy, kept);
    }

    #[cfg(not(feature = "libjpeg-turbo"))]
    fn decompress(
        &mut self,
        file: &[u8],
        markers: &Markers,
        _least: Option<(u32, u32)>,
        pixels: &mut Vec<u8>,
    ) -> Reasoned<Frame> {
        let max_pixels = u64::from(markers.width) * u64::from(markers.height);
        super::decode::decode_jpeg(file, max_pixels, pixels)
    }

    #[cfg(feature = "libjpeg-turbo")]
    fn decompress(
        &mut self,
        file: &[u8],
        markers: &Markers,
        least: Option<(u32, u32)>,
        pixels: &mut Vec<u8>,
    ) -> Reasoned<Frame> {
        use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, ScalingFactor};
        let broken = |error: turbojpeg::Error| format!("broken JPEG: {}", text(&error));
        let turbo = match &mut self.turbo {
            Some(turbo) => turbo,
            none => none.insert(Decompressor::new().map_err(broken)?),
        };
        // The binding takes a mere complaint about the header for a failure, and would not go on to the pixels.
        let mended;
        let (file, header) = match turbo.read_header(file) {
            Err(error) if is_warning(&error) => {
                mended = mend(file, markers.components);
                (mended.as_slice(), turbo.read_header(&mended).map_err(broken)?)
            }
            header => (file, header.map_err(broken)?),
        };
        let (format, channels) = match header.colorspace {
            Colorspace::Gray => (PixelFormat::GRAY, 1),
            Colorspace::CMYK | Colorspace::YCCK => (PixelFormat::CMYK, 4),
            _ => (PixelFormat::RGB, 3),
        };
        let fits = |factor: &ScalingFactor| {
            let least = least.map(|(width, height)| (width as usize, height as usize));
            least.is_some_and(|least| {
                factor.scale(header.width) >= least.0 && factor.scale(header.height) >= least.1
            })
        };
        let reduced = [ScalingFactor::ONE_EIGHTH, ScalingFactor::ONE_QUARTER, ScalingFactor::ONE_HALF];
        let factor = reduced.into_iter().find(|factor| !header.is_lossless && fits(factor));
        let factor = factor.unwrap_or(ScalingFactor::ONE);
        turbo.set_scaling_factor(factor).map_err(broken)?;
        let (width, height) = (factor.scale(header.width), factor.scale(header.height));
        let samples = super::frame::sized(pixels, width * height * channels);
        let image = Image { pixels: samples, width, pitch: width * channels, height, format };
        match turbo.decompress(file, image) {
            Ok(()) => {}
            Err(error) if !is_warning(&error) => return Err(broken(error)),
            Err(_) if markers.end.is_none() => return Err("truncated JPEG".to_owned()),
            Err(_) => {}
        }
        if channels == 4 {
            cmyk_to_rgb(samples_of(pixels, width * height));
        }
        #[allow(clippy::cast_possible_truncation)] // not larger than the header's u16
        let (width, height) = (width as u32, height as u32);
        let channels = channels.min(3);
        Ok(Frame { width, height, channels, order: super::ChannelOrder::Rgb })
    }
}

#[cfg(feature = "libjpeg-turbo")]
fn samples_of(pixels: &mut [u8], count: usize) -> &mut [u8] {
    &mut pixels[..count * 4]
}

/// Whether libjpeg-turbo went on to the end in spite of the complaint. Its binding gives only the text for that; these are
/// the beginnings of all warnings in the library's message table.
#[cfg(feature = "libjpeg-turbo")]
fn is_warning(error: &turbojpeg::Error) -> bool {
    const WARNINGS: [&str; 7] = [
        "Corrupt JPEG data",
        "Premature end of JPEG file",
        "Inconsistent progression sequence",
        "Invalid SOS parameters for sequential JPEG",
        "Unknown Adobe color transform code",
        "Warning: unknown JFIF revision number",
        "Application transferred too many scanlines",
    ];
    WARNINGS.iter().any(|warning| text(error).starts_with(warning))
}

#[cfg(feature = "libjpeg-turbo")]
fn text(error: &turbojpeg::Error) -> String {
    match error {
        turbojpeg::Error::TurboJpegError(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A copy without the oddities before the first scan that libjpeg-turbo complains of: stray bytes between segments, JFIF
/// revisions and Adobe colour transforms that do not exist. It means to the library what the original means to it.
#[cfg(feature = "libjpeg-turbo")]
fn mend(file: &[u8], components: u8) -> Vec<u8> {
    let mut copy = vec![0xFF, 0xD8];
    let mut at = 2;
    while let Some((marker, behind)) = next_marker(file, at) {
        let Some(segment) = segment(file, behind).filter(|_| marker != 0xDA) else {
            copy.extend_from_slice(&file[behind - 2..]);
            break;
        };
        at = behind + 2 + segment.len();
        let begin = copy.len() + 4;
        copy.extend_from_slice(&[0xFF, marker]);
        copy.extend_from_slice(&file[behind..at]);
        match (marker, &mut copy[begin..]) {
            (0xE0, [b'J', b'F', b'I', b'F', 0, major, minor, ..]) => (*major, *minor) = (1, 1),
            (0xEE, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) if *transform != 0 => {
                *transform = if components == 4 { 2 } else { 1 };
            }
            _ => {}
        }
    }
    copy
}

/// Inverted CMYK, as every CMYK JPEG is taken to be (Adobe's way), to RGB at the front of the buffer, in Pillow's arithmetic.
#[cfg(feature = "libjpeg-turbo")]
fn cmyk_to_rgb(samples: &mut [u8]) {
    for pixel in 0..samples.len() / 4 {
        let [c, m, y, k] = [0, 1, 2, 3].map(|channel: usize| 255 - u32::from(samples[pixel * 4 + channel]));
        let light = 255 - k;
        for (channel, ink) in [c, m, y].into_iter().enumerate() {
            let product = ink * light + 128;
            let shade = (product + (product >> 8)) >> 8;
            samples[pixel * 3 + channel] = light.saturating_sub(shade) as u8;
        }
    }
}
