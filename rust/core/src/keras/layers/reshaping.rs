//! Layers that move values without changing them.

use super::picture::resized;
use super::window::dimensions;
use crate::Result;
use crate::keras::ir::{Attr, DT_INT32, Graph, Tensor};
use crate::keras::layer::Layer;

pub(super) fn zero_padding(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    let input = layer.one(inputs)?;
    layer.rank(input, spatial + 2)?;
    let margins = margins(layer, "padding", spatial)?;
    let mut shape = input.shape.clone();
    for (side, [before, after]) in shape[1..].iter_mut().zip(&margins) {
        *side = side.map(|side| side + before + after);
    }
    let all: Vec<[usize; 2]> = [[0, 0]].into_iter().chain(margins).chain([[0, 0]]).collect();
    let paddings = graph.margins(&all);
    Ok(graph.op("Pad", &[input, &paddings], vec![("Tpaddings", Attr::Type(DT_INT32))], shape))
}

/// Over one dimension a pair is what comes before and after it.
fn margins(layer: &Layer, key: &str, spatial: usize) -> Result<Vec<[usize; 2]>> {
    if spatial > 1 {
        return layer.margins(key, spatial);
    }
    let pair = layer.sizes(key, 2)?;
    Ok(vec![[pair[0], pair[1]]])
}

pub(super) fn cropping(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    let input = layer.one(inputs)?;
    layer.rank(input, spatial + 2)?;
    let margins = margins(layer, "cropping", spatial)?;
    let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
    let mut begin = vec![0];
    let mut size = vec![-1];
    let mut shape = vec![None];
    for (side, [before, after]) in inner.iter().zip(margins.iter().chain([&[0, 0]])) {
        let left = side.checked_sub(before + after).filter(|left| *left > 0);
        let left = left.ok_or_else(|| layer.refused("it cuts away all of its input"))?;
        begin.push(*before as i32);
        size.push(left as i32);
        shape.push(Some(left));
    }
    Ok(graph.slice(input, &begin, &size, shape))
}

pub(super) fn up_sampling(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    let input = layer.one(inputs)?;
    layer.rank(input, spatial + 2)?;
    let factors = layer.sizes("size", spatial)?;
    let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
    if spatial == 2 {
        let size = [inner[0] * factors[0], inner[1] * factors[1]];
        return resized(graph, layer, input, size, layer.text("interpolation", "nearest")?);
    }
    let mut output = input.clone();
    for (axis, factor) in factors.iter().enumerate() {
        output = repeated(graph, &output, axis + 1, *factor);
    }
    Ok(output)
}

/// Each entry of a dimension `times` times; all sizes but that of the batch are known.
fn repeated(graph: &mut Graph, input: &Tensor, axis: usize, times: usize) -> Tensor {
    let wide = graph.expand_dims(input, axis + 1);
    let mut multiples = vec![1; wide.rank()];
    multiples[axis + 1] = times as i32;
    let multiples = graph.ints(multiples);
    let mut shape = wide.shape.clone();
    shape[axis + 1] = Some(times);
    let tiled = graph.op("Tile", &[&wide, &multiples], vec![("Tmultiples", Attr::Type(DT_INT32))], shape);
    let inner: Vec<usize> = input
        .shape
        .iter()
        .enumerate()
        .skip(1)
        .map(|(place, side)| side.unwrap_or(0) * if place == axis { times } else { 1 })
        .collect();
    graph.reshape(&tiled, &inner)
}

/// `RepeatVector(n)`: `[batch, features]` to `[batch, n, features]`.
pub(super) fn repeat_vector(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 2)?;
    let times = layer.size("n")?;
    let wide = graph.expand_dims(input, 1);
    let multiples = graph.ints(vec![1, times as i32, 1]);
    let shape = vec![None, Some(times), input.shape[1]];
    Ok(graph.op("Tile", &[&wide, &multiples], vec![("Tmultiples", Attr::Type(DT_INT32))], shape))
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
    let target = layer.config.get("target_shape").and_then(serde_json::Value::as_array);
    let target: Option<Vec<i64>> =
        target.and_then(|sides| sides.iter().map(serde_json::Value::as_i64).collect());
    let target = target.ok_or_else(|| layer.wrong("target_shape"))?;
    let wrong = || layer.refused(&format!("{inner:?} cannot take the shape {target:?}"));
    let mut known = target.iter().filter(|side| **side >= 0);
    let known = known.try_fold(1_i64, |product, side| product.checked_mul(*side)).ok_or_else(wrong)?;
    let open = target.iter().filter(|side| **side < 0).count();
    let rest = if open == 1 && known > 0 { values as i64 / known } else { 1 };
    let sides = target.iter().map(|side| usize::try_from(if *side < 0 { rest } else { *side }));
    let sides: Vec<usize> = sides.collect::<std::result::Result<_, _>>().map_err(|_| wrong())?;
    let product = sides.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
    if open > 1 || product != Some(values) {
        return Err(wrong());
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
    Ok(graph.transpose(input, &order))
}
