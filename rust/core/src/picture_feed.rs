//! A column of pictures, read as rows of an input of a graph on tensors: of the input's size, or of each picture's own.

use arrow::array::ArrayRef;

use crate::image::{ChannelOrder, InputSpec, Normalization, Packer, PictureColumn, Scratch};
use crate::options::ImageOptions;
use crate::values::{Dtype, Port, Values};
use crate::{Error, ErrorKind, Result};

/// How pictures become values of an input of shape `[height, width, channels]`, float32 or uint8.
#[derive(Debug)]
pub(crate) struct PictureInput {
    packer: Packer,
    /// Width and height; `None`: each picture keeps its own.
    size: Option<(u32, u32)>,
    is_uint8: bool,
    /// Of the channels of three.
    pub(crate) order: ChannelOrder,
}

/// A picture as the input takes it.
pub(crate) struct Pixels {
    pub(crate) dims: Vec<usize>,
    values: Vec<f32>,
}

/// One column of a batch.
pub(crate) struct PictureFeed {
    column: PictureColumn,
}

impl PictureInput {
    /// Refuses an input that is not one of pictures. `asked.size` fills in sides that the input leaves open.
    pub(crate) fn new(port: &Port, asked: &ImageOptions, shown: &str) -> Result<PictureInput> {
        let Port { name, dtype, shape } = port;
        let unfit = |what: &str| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("Cannot feed pictures to the input {name} of {shown}: {what}."),
            )
        };
        let (is_uint8, shown_shape) = (*dtype == Dtype::Uint8, port.shown_shape());
        let &[height, width, channels] = shape.as_slice() else {
            return Err(unfit(&format!("it has the shape {shown_shape}, not [height, width, channels]")));
        };
        if !is_uint8 && *dtype != Dtype::Float32 {
            return Err(unfit(&format!("it is of type {dtype}, not float32 or uint8")));
        }
        let own = if asked.channel_order == "L" { 1 } else { 3 };
        let channels = channels.unwrap_or(own);
        if channels != own {
            return Err(unfit(&format!(
                "it takes {channels} channels, but channelOrder is \"{}\" ({own})",
                asked.channel_order
            )));
        }
        let fits = |own: Option<usize>, asked: usize| own.is_none_or(|own| own == asked);
        let size = match (asked.size, height, width) {
            (Some([h, w]), ..) if !fits(height, h) || !fits(width, w) => {
                return Err(unfit(&format!("it has the shape {shown_shape}, but inputSize is {h} x {w}")));
            }
            (Some(size), ..) => Some(size),
            (None, Some(height), Some(width)) => Some([height, width]),
            (None, None, None) => None,
            (None, ..) => {
                return Err(unfit(&format!(
                    "it has the shape {shown_shape}, with one side open: set inputSize"
                )));
            }
        };
        let order = if asked.channel_order == "BGR" { ChannelOrder::Bgr } else { ChannelOrder::Rgb };
        let [height, width] = size.unwrap_or([1, 1]);
        let side = |side: usize| u32::try_from(side).map_err(|_| unfit("it is too large"));
        let spec =
            InputSpec { height, width, channels, channel_order: order, normalization: Normalization::None };
        Ok(PictureInput {
            packer: Packer::new(spec, asked.pictures),
            size: size.map(|[height, width]| Ok((side(width)?, side(height)?))).transpose()?,
            is_uint8,
            order,
        })
    }
}

impl PictureFeed {
    /// Takes encoded files (binary) or Spark's image structs.
    pub(crate) fn try_new(column: &ArrayRef) -> Result<PictureFeed> {
        Ok(PictureFeed { column: PictureColumn::try_new(column.clone())? })
    }

    /// The picture of a row, or why there is none.
    pub(crate) fn pixels(
        &self,
        input: &PictureInput,
        row: usize,
        scratch: &mut Scratch,
    ) -> std::result::Result<Pixels, String> {
        let (dims, values, is_float) = input.packer.pack_sized(scratch, &self.column, row, input.size)?;
        if is_float && input.is_uint8 {
            return Err("a picture of float samples, but the graph takes uint8".to_owned());
        }
        Ok(Pixels { dims: dims.to_vec(), values })
    }

    /// Copies pictures of one size into a tensor of that size.
    pub(crate) fn fill<'p>(pictures: impl Iterator<Item = &'p Pixels>, tensor: &mut Values) {
        let samples = pictures.flat_map(|picture| &picture.values);
        match tensor {
            Values::Float32(tensor) => {
                tensor.iter_mut().zip(samples).for_each(|(slot, sample)| *slot = *sample)
            }
            // Levels from 0 to 255, exactly.
            Values::Uint8(tensor) => {
                tensor.iter_mut().zip(samples).for_each(|(slot, sample)| *slot = *sample as u8);
            }
            _ => {}
        }
    }
}
