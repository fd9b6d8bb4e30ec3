//! Layers that change the size of pictures.

use crate::Result;
use crate::keras::ir::{Attr, Graph, Tensor};
use crate::keras::layer::Layer;

/// Pictures `[batch, height, width, channels]` at another height and width.
pub(super) fn resized(
    graph: &mut Graph,
    layer: &Layer,
    input: &Tensor,
    size: [usize; 2],
    interpolation: &str,
) -> Result<Tensor> {
    let op = match interpolation {
        "nearest" => "ResizeNearestNeighbor",
        "bilinear" => "ResizeBilinear",
        "bicubic" => "ResizeBicubic",
        other => return Err(layer.refused(&format!("the interpolation {other} is not built from files"))),
    };
    let sides = graph.ints(size.iter().map(|side| *side as i32).collect());
    let attrs = vec![("align_corners", Attr::Bool(false)), ("half_pixel_centers", Attr::Bool(true))];
    let shape = vec![None, Some(size[0]), Some(size[1]), input.shape[3]];
    Ok(graph.op(op, &[input, &sides], attrs, shape))
}

/// `Resizing(height, width, interpolation)`.
pub(super) fn resizing(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    for key in ["crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"] {
        if layer.flag(key, false)? {
            return Err(layer.refused(&format!("{key} is not built from files")));
        }
    }
    let size = [layer.size("height")?, layer.size("width")?];
    resized(graph, layer, input, size, layer.text("interpolation", "bilinear")?)
}

/// `CenterCrop(height, width)` of pictures that are not smaller.
pub(super) fn center_crop(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
    let size = [layer.size("height")?, layer.size("width")?];
    let start = |place: usize| inner[place].checked_sub(size[place]).map(|rest| rest / 2);
    let (Some(top), Some(left)) = (start(0), start(1)) else {
        return Err(layer.refused("pictures smaller than what it cuts out are not built from files"));
    };
    let output = graph.cut(input, 1, top, size[0]);
    Ok(graph.cut(&output, 2, left, size[1]))
}
