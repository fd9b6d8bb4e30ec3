//! Pictures: bytes or Spark's image struct to pixels, pixels to a slot of the tensor that TensorFlow reads.

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;

use crate::{Error, ErrorKind, Options, Result};

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
    /// `SCALE_TF_BILINEAR`: `tf.image.resize(method="bilinear", antialias=False)`, rounded to uint8.
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

/// A column of encoded files or of Spark's image structs, checked once, read by row.
#[derive(Debug)]
pub struct PictureColumn {
    _array: ArrayRef,
}

impl PictureColumn {
    /// Takes `binary`, `large_binary` or Spark's image struct; anything else is kind `InvalidBatch`.
    pub fn try_new(array: ArrayRef) -> Result<Self> {
        Ok(PictureColumn { _array: array })
    }
}

/// Buffers of one thread, kept from picture to picture.
#[derive(Debug, Default)]
pub struct Scratch {}

/// Decodes, converts, resizes, normalises and writes one row into its slot.
#[derive(Debug, Clone)]
pub struct Packer {
    _spec: InputSpec,
    _options: PictureOptions,
}

impl Packer {
    /// A packer for one network.
    pub fn new(spec: InputSpec, options: PictureOptions) -> Self {
        Packer { _spec: spec, _options: options }
    }

    /// Fills `slot` (`height × width × channels` floats) from a row, or says why it cannot. On `Err` the slot is undefined.
    pub fn pack(
        &self,
        _scratch: &mut Scratch,
        _column: &PictureColumn,
        _row: usize,
        _slot: &mut [f32],
    ) -> std::result::Result<(), String> {
        Err("not built yet".to_owned())
    }
}

/// Decodes a column of pictures, and resizes it where asked: columns `image` and `error`. Options: see `rust/ARCHITECTURE.md`.
pub fn decode_images(_batch: &RecordBatch, _options: &Options) -> Result<RecordBatch> {
    Err(Error::new(ErrorKind::Internal, "not built yet"))
}
