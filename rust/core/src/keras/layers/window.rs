//! Windows that move over one, two or three dimensions: those of convolutions and of pooling.

use crate::Result;
use crate::keras::ir::{Attr, Graph, Shape, Tensor};
use crate::keras::layer::Layer;

/// A window over the dimensions between batch and channels.
pub(super) struct Window {
    pub(super) size: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilation: Vec<usize>,
    /// SAME or VALID.
    pub(super) padding: &'static str,
}

/// The number that ends a class' name before its "D", as in `Conv2D` and `Conv2DTranspose`.
pub(super) fn dimensions(layer: &Layer) -> Result<usize> {
    let name = layer.class.strip_suffix("Transpose").unwrap_or(layer.class);
    let digit =
        name.strip_suffix('D').and_then(|name| name.chars().last()).and_then(|digit| digit.to_digit(10));
    digit.map(|digit| digit as usize).ok_or_else(|| layer.refused("its class has no dimensions"))
}

impl Window {
    /// Read from the layer's arguments; `size` is the name of the one for the window's size.
    pub(super) fn of(layer: &Layer, size: &str, count: usize) -> Result<Window> {
        let size = layer.sizes(size, count)?;
        let strides = if layer.has("strides") { layer.sizes("strides", count)? } else { size.clone() };
        let dilation =
            if layer.has("dilation_rate") { layer.sizes("dilation_rate", count)? } else { vec![1; count] };
        if [&size, &strides, &dilation].iter().any(|values| values.contains(&0)) {
            return Err(layer.refused("a window, stride or dilation of 0 makes no sense"));
        }
        let padding = match layer.text("padding", "valid")? {
            "same" => "SAME",
            // Causal padding is put before the input by itself.
            "valid" | "causal" => "VALID",
            other => return Err(layer.refused(&format!("its padding is {other}"))),
        };
        Ok(Window { size, strides, dilation, padding })
    }

    /// Batch, what the window leaves of each dimension, channels.
    pub(super) fn shape(&self, input: &Tensor, channels: usize) -> Shape {
        let left = (0..self.size.len()).map(|i| {
            let (stride, reach) = (self.strides[i], (self.size[i] - 1) * self.dilation[i] + 1);
            input.shape[1 + i].map(|side| match self.padding {
                "SAME" => side.div_ceil(stride),
                _ => (side + stride).saturating_sub(reach) / stride,
            })
        });
        std::iter::once(None).chain(left).chain([Some(channels)]).collect()
    }

    pub(super) fn attrs(&self) -> Vec<(&'static str, Attr)> {
        vec![
            ("strides", all_dimensions(&self.strides)),
            ("padding", Attr::text(self.padding)),
            ("data_format", Attr::text(if self.size.len() == 3 { "NDHWC" } else { "NHWC" })),
        ]
    }
}

/// One value for each dimension of the input; TensorFlow has no operations on one dimension, so that is the second of two.
pub(super) fn all_dimensions(values: &[usize]) -> Attr {
    let lifted = if values.len() == 1 { &[1][..] } else { &[] };
    Attr::Ints([1].iter().chain(lifted).chain(values).chain(&[1]).map(|value| *value as i64).collect())
}

/// `[batch, steps, channels]` as a picture of height 1.
pub(super) fn lifted(graph: &mut Graph, input: &Tensor) -> Tensor {
    if input.rank() == 3 { graph.expand_dims(input, 1) } else { input.clone() }
}

/// Back again, where the input had `rank`.
pub(super) fn lowered(graph: &mut Graph, output: &Tensor, rank: usize) -> Tensor {
    if rank == 3 { graph.squeeze(output, 1) } else { output.clone() }
}

/// The shape of what is lifted.
pub(super) fn lifted_shape(mut shape: Shape) -> Shape {
    if shape.len() == 3 {
        shape.insert(1, Some(1));
    }
    shape
}
