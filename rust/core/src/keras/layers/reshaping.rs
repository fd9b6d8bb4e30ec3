//! Layers that move values without changing them.

use crate::Result;
use crate::keras::ir::{Attr, DT_INT32, Graph, Tensor};
use crate::keras::layer::Layer;

pub(super) fn zero_padding(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    let margins = layer.margins("padding", 2)?;
    let mut shape = input.shape.clone();
    for (side, [before, after]) in shape[1..3].iter_mut().zip(&margins) {
        *side = side.map(|side| side + before + after);
    }
    let paddings = graph.margins(&[[0, 0], margins[0], margins[1], [0, 0]]);
    Ok(graph.op("Pad", &[input, &paddings], vec![("Tpaddings", Attr::Type(DT_INT32))], shape))
}

pub(super) fn cropping(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    let margins = layer.margins("cropping", 2)?;
    let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
    let mut size = vec![-1];
    let mut shape = vec![None];
    for (side, [before, after]) in inner.iter().zip(margins.iter().chain([&[0, 0]])) {
        let left = side.checked_sub(before + after).filter(|left| *left > 0);
        let left = left.ok_or_else(|| layer.refused("it cuts away all of its input"))?;
        size.push(left as i32);
        shape.push(Some(left));
    }
    let begin = graph.ints(vec![0, margins[0][0] as i32, margins[1][0] as i32, 0]);
    let size = graph.ints(size);
    Ok(graph.op("Slice", &[input, &begin, &size], vec![("Index", Attr::Type(DT_INT32))], shape))
}

pub(super) fn up_sampling(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    let factors = layer.sizes("size", 2)?;
    let op = match layer.text("interpolation", "nearest")? {
        "nearest" => "ResizeNearestNeighbor",
        "bilinear" => "ResizeBilinear",
        other => return Err(layer.refused(&format!("the interpolation {other} is not built from files"))),
    };
    let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
    let (height, width) = (inner[0] * factors[0], inner[1] * factors[1]);
    let size = graph.ints(vec![height as i32, width as i32]);
    let attrs = vec![("align_corners", Attr::Bool(false)), ("half_pixel_centers", Attr::Bool(true))];
    Ok(graph.op(op, &[input, &size], attrs, vec![None, Some(height), Some(width), input.shape[3]]))
}

pub(super) fn flatten(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let inner = input.inner().ok_or_else(|| layer.refused("the shape of its input is not known"))?;
    Ok(graph.reshape(input, &[inner.iter().product()]))
}

/// `Reshape(target_shape)`, where one dimension may be −1.
pub(super) fn reshape(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let inner = input.inner().ok_or_else(|| layer.refused("the shape of its input is not known"))?;
    let values: usize = inner.iter().product();
    let target: Vec<i64> = layer.numbers("target_shape")?.iter().map(|side| *side as i64).collect();
    let known: i64 = target.iter().filter(|side| **side >= 0).product();
    let open = target.iter().filter(|side| **side < 0).count();
    let rest = if open == 1 && known > 0 { values as i64 / known } else { 1 };
    let sides: Vec<usize> = target.iter().map(|side| if *side < 0 { rest } else { *side } as usize).collect();
    if open > 1 || sides.iter().product::<usize>() != values {
        return Err(layer.refused(&format!("{inner:?} cannot take the shape {target:?}")));
    }
    Ok(graph.reshape(input, &sides))
}

pub(super) fn permute(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let dims = layer.sizes("dims", input.rank() - 1)?;
    let mut sorted = dims.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().ne(1..input.rank()) {
        return Err(layer.refused(&format!("its dims {dims:?} are no permutation")));
    }
    let order: Vec<usize> = std::iter::once(0).chain(dims).collect();
    let shape = order.iter().map(|axis| input.shape[*axis]).collect();
    let places = graph.ints(order.iter().map(|axis| *axis as i32).collect());
    Ok(graph.op("Transpose", &[input, &places], vec![("Tperm", Attr::Type(DT_INT32))], shape))
}
