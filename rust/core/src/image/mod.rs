//! Pictures: bytes or Spark's image struct to pixels, pixels to a slot of the tensor that TensorFlow reads.

mod column;
mod decode;
mod encode;
mod float;
mod frame;
mod info;
mod jpeg;
mod options;
mod orientation;
mod output;
mod pack;
mod resize;
mod rows;
mod windows;

use image::metadata::Orientation;

use column::Levels;
pub use column::PictureColumn;
pub use encode::encode_images;
use frame::{Frame, Reasoned};
pub use info::image_info;
pub use output::decode_images;
pub(crate) use output::{Depth, Picture, images};
pub use pack::Packer;
use resize::Plan;

/// The resizing filters by the names of `scaleHint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleHint {
    /// `SCALE_AREA_AVERAGING`, `SCALE_SMOOTH`: Pillow's BOX.
    AreaAveraging,
    /// `SCALE_DEFAULT`, `SCALE_FAST`, `SCALE_REPLICATE`: Pillow's NEAREST.
    Nearest,
    /// `SCALE_BILINEAR`: Pillow's BILINEAR.
    Bilinear,
    /// `SCALE_BICUBIC`: Pillow's BICUBIC.
    Bicubic,
    /// `SCALE_TF_BILINEAR`: `tf.image.resize(method="bilinear", antialias=False)`, rounded to uint8, halves to even.
    TfBilinear,
}

/// How a picture meets a size of another aspect ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeMode {
    /// Both sides to the size.
    Stretch,
    /// The short side to the size, the centre cut out.
    Crop,
    /// The long side to the size, black bars.
    Pad,
}

/// What a user may set about reading pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureOptions {
    /// The resizing filter.
    pub scale_hint: ScaleHint,
    /// What happens to another aspect ratio.
    pub resize_mode: ResizeMode,
    /// Pictures with more pixels are refused from their header.
    pub max_pixels: u64,
    /// Whether EXIF's orientation turns the picture.
    pub apply_exif_orientation: bool,
    /// Whether JPEG may be decoded at 1/2, 1/4 or 1/8 of its size.
    pub fast_decode: bool,
}

/// The order of a network's input channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// From uint8 levels to what the network was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// x / 127.5 − 1.
    Tf,
    /// Minus ImageNet's mean, (103.939, 116.779, 123.68) for B, G, R.
    Caffe,
    /// x / 255, minus ImageNet's mean (0.485, 0.456, 0.406) over its deviation (0.229, 0.224, 0.225) for R, G, B.
    Torch,
    /// 0…255 as they are.
    None,
}

/// One picture of a network's input: float32, row-major, `height × width × channels`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputSpec {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (grey) or 3.
    pub channels: usize,
    /// Read when `channels` is 3.
    pub channel_order: ChannelOrder,
    /// Applied after resizing.
    pub normalization: Normalization,
}

/// Buffers of one thread, kept from picture to picture.
#[derive(Debug, Default)]
pub struct Scratch {
    decoder: decode::Decoder,
    turned: Vec<u8>,
    grey: Vec<u8>,
    resizer: resize::Resizer,
}

/// A picture of one byte a sample, resized, and how it lies in its target.
type Fitted<'a> = (Frame, &'a [u8], Plan);

impl Scratch {
    /// Memory kept between pictures; what one large picture needed beyond it is given back after that picture.
    const KEPT_BYTES: usize = 32 << 20;

    /// Decodes, turns, converts to grey where asked, and resizes. Without a target the picture keeps its size.
    fn fit<'a>(
        &'a mut self,
        row: Levels<'a>,
        options: &PictureOptions,
        target: Option<(u32, u32)>,
        grey: bool,
    ) -> Reasoned<Fitted<'a>> {
        let (mut frame, mut pixels) = match row {
            Levels::File(file) => {
                let (frame, orientation) = self.decoder.decode(file, options, target)?;
                if options.apply_exif_orientation && orientation != Orientation::NoTransforms {
                    let frame =
                        orientation::turn(frame, self.decoder.pixels(), orientation, &mut self.turned);
                    (frame, self.turned.as_slice())
                } else {
                    (frame, self.decoder.pixels())
                }
            }
            Levels::Pixels(frame, pixels) => (frame, pixels),
        };
        if grey && frame.channels > 1 {
            frame = frame::make_grey(frame, pixels, &mut self.grey);
            pixels = &self.grey;
        }
        let plan = Plan::new(options.resize_mode, frame.size(), target.unwrap_or(frame.size()));
        let pixels = self.resizer.resize(options.scale_hint, frame, pixels, &plan)?;
        Ok((Frame { width: plan.visible.0, height: plan.visible.1, ..frame }, pixels, plan))
    }

    fn trim(&mut self) {
        self.decoder.trim(Self::KEPT_BYTES);
        frame::trim(&mut self.turned, Self::KEPT_BYTES);
        frame::trim(&mut self.grey, Self::KEPT_BYTES);
        self.resizer.trim(Self::KEPT_BYTES);
    }
}
