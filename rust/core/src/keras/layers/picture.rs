//! Layers that change the size of pictures.

use crate::Result;
use crate::keras::ir::{Attr, DT_INT32, Graph, Tensor};
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

/// The same with a filter that is as wide as what becomes one pixel.
fn antialiased(
    graph: &mut Graph,
    input: &Tensor,
    [height, width]: [usize; 2],
    kernel: &'static str,
) -> Tensor {
    let sides = graph.ints(vec![height as i32, width as i32]);
    let share = |to: usize, from: Option<usize>| to as f32 / from.map_or(1.0, |from| from as f32);
    let scale = vec![share(height, input.shape[1]), share(width, input.shape[2])];
    let (scale, nowhere) = (graph.floats(scale, &[2]), graph.floats(vec![0.0; 2], &[2]));
    let attrs = vec![
        ("T", Attr::Type(input.dtype)),
        ("kernel_type", Attr::text(kernel)),
        ("antialias", Attr::Bool(true)),
    ];
    let shape = vec![None, Some(height), Some(width), input.shape[3]];
    graph.typed("ScaleAndTranslate", &[input, &sides, &scale, &nowhere], attrs, (shape, input.dtype))
}

/// What one side of a picture has where the other has `side` and both are as `to` is to `from`; rounded as Keras does.
fn in_proportion(side: usize, to: usize, from: usize) -> usize {
    ((side * to) as f32 / from as f32) as usize
}

/// The middle of a picture, as large as the proportions of `size` allow.
fn cropped(graph: &mut Graph, input: &Tensor, inner: &[usize], size: [usize; 2]) -> Tensor {
    let height = in_proportion(inner[1], size[0], size[1]).clamp(1, inner[0]);
    let width = in_proportion(inner[0], size[1], size[0]).clamp(1, inner[1]);
    let output = graph.cut(input, 1, (inner[0] - height) / 2, height);
    graph.cut(&output, 2, (inner[1] - width) / 2, width)
}

/// `Resizing(height, width, interpolation, crop_to_aspect_ratio, pad_to_aspect_ratio, antialias)`.
pub(super) fn resizing(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    let size = sides(layer)?;
    let (crops, pads) =
        (layer.flag("crop_to_aspect_ratio", false)?, layer.flag("pad_to_aspect_ratio", false)?);
    let antialias = layer.flag("antialias", false)?;
    let mut output = input.clone();
    if crops || pads || antialias {
        let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
        if crops {
            output = cropped(graph, input, &inner, size);
        } else if pads {
            let height = in_proportion(inner[1], size[0], size[1]).max(inner[0]);
            let width = in_proportion(inner[0], size[1], size[0]).max(inner[1]);
            let (above, before) = ((height - inner[0]) / 2, (width - inner[1]) / 2);
            let margins = graph.margins(&[[0, 0], [above, above], [before, before], [0, 0]]);
            let value = graph.scalar(layer.number("fill_value", 0.0)? as f32);
            let shape = vec![None, Some(inner[0] + 2 * above), Some(inner[1] + 2 * before), input.shape[3]];
            let attrs = vec![("Tpaddings", Attr::Type(DT_INT32))];
            output = graph.op("PadV2", &[input, &margins, &value], attrs, shape);
        }
    }
    match (layer.text("interpolation", "bilinear")?, antialias) {
        ("bilinear", true) => Ok(antialiased(graph, &output, size, "triangle")),
        ("bicubic", true) => Ok(antialiased(graph, &output, size, "keyscubic")),
        (interpolation, _) => resized(graph, layer, &output, size, interpolation),
    }
}

fn sides(layer: &Layer) -> Result<[usize; 2]> {
    let size = [layer.size("height")?, layer.size("width")?];
    if size.contains(&0) {
        return Err(layer.refused("pictures without height or width make no sense"));
    }
    Ok(size)
}

/// `CenterCrop(height, width)`; of smaller pictures what has these proportions, resized.
pub(super) fn center_crop(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
    let size = sides(layer)?;
    let start = |place: usize| inner[place].checked_sub(size[place]).map(|rest| rest / 2);
    let (Some(top), Some(left)) = (start(0), start(1)) else {
        let output = cropped(graph, input, &inner, size);
        return resized(graph, layer, &output, size, "bilinear");
    };
    let output = graph.cut(input, 1, top, size[0]);
    Ok(graph.cut(&output, 2, left, size[1]))
}
