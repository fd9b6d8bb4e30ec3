//! Layers of several inputs.

use crate::Result;
use crate::keras::ir::{Graph, Tensor};
use crate::keras::layer::Layer;

/// `op` on the first two inputs, then on that and the next, …
pub(super) fn merged(
    graph: &mut Graph,
    layer: &Layer,
    inputs: &[Tensor],
    op: &'static str,
) -> Result<Tensor> {
    let [first, rest @ ..] = inputs else { return Err(layer.refused("it is called without inputs")) };
    if rest.is_empty() || (op == "Sub" && rest.len() != 1) {
        return Err(layer.refused(&format!("it is called with {} inputs", inputs.len())));
    }
    rest.iter().try_fold(first.clone(), |so_far, next| {
        graph.binary(op, &so_far, next).ok_or_else(|| {
            layer.refused(&format!("shapes {:?} and {:?} do not fit", so_far.shape, next.shape))
        })
    })
}

pub(super) fn average(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let sum = merged(graph, layer, inputs, "AddV2")?;
    Ok(graph.with_scalar("RealDiv", &sum, inputs.len() as f32))
}

pub(super) fn concatenate(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let [first, ..] = inputs else { return Err(layer.refused("it is called without inputs")) };
    let axes = layer.axes("axis", first.rank())?;
    let [axis] = axes.as_slice() else { return Err(layer.refused("its axis is not one number")) };
    let fits = |other: &Tensor| {
        other.rank() == first.rank()
            && (0..first.rank()).all(|i| i == *axis || other.shape[i] == first.shape[i])
    };
    if *axis == 0 || !inputs.iter().all(fits) {
        return Err(layer.refused("the shapes of its inputs do not fit"));
    }
    let mut shape = first.shape.clone();
    shape[*axis] = inputs.iter().map(|input| input.shape[*axis]).sum();
    let tensors: Vec<&Tensor> = inputs.iter().collect();
    Ok(graph.concat(&tensors, *axis, shape))
}

/// `Dot(axes, normalize)`: sums over one dimension of each of two inputs.
pub(super) fn dot(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let [left, right] = inputs else {
        return Err(layer.refused(&format!("it is called with {} inputs, not two", inputs.len())));
    };
    let wrong = || layer.refused("its axes do not fit its inputs");
    let axis = |tensor: &Tensor, place: usize| {
        let axes = layer.axes("axes", tensor.rank())?;
        axes.get(place).or(axes.first()).copied().filter(|axis| *axis > 0).ok_or_else(wrong)
    };
    let (first, second) = (axis(left, 0)?, axis(right, 1)?);
    let (mut left, mut right) = (left.clone(), right.clone());
    if layer.flag("normalize", false)? {
        left = super::normalization::normalized(graph, layer, &left, &[first])?;
        right = super::normalization::normalized(graph, layer, &right, &[second])?;
    }
    // a is the batch dimension, z the one that is summed over.
    let name = |axis: usize, summed: usize, from: u8| match axis {
        0 => 'a',
        axis if axis == summed => 'z',
        axis => char::from(from + axis as u8),
    };
    let one: String = (0..left.rank()).map(|axis| name(axis, first, b'a')).collect();
    let other: String = (0..right.rank()).map(|axis| name(axis, second, b'k')).collect();
    let target: String = one.chars().chain(other.chars().skip(1)).filter(|letter| *letter != 'z').collect();
    let rest = |tensor: &Tensor, summed: usize| -> Vec<Option<usize>> {
        (1..tensor.rank()).filter(|axis| *axis != summed).map(|axis| tensor.shape[axis]).collect()
    };
    let shape = [vec![None], rest(&left, first), rest(&right, second)].concat();
    let output = graph.einsum(&format!("{one},{other}->{target}"), &[&left, &right], shape);
    Ok(if output.rank() == 1 { graph.expand_dims(&output, 1) } else { output })
}

/// InceptionResNetV2's `CustomScaleLayer`: the first input plus the second times `scale`.
pub(super) fn scaled_sum(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let [left, right] = inputs else {
        return Err(layer.refused(&format!("it is called with {} inputs, not two", inputs.len())));
    };
    let scaled = graph.with_scalar("Mul", right, layer.number("scale", 1.0)? as f32);
    graph.binary("AddV2", left, &scaled).ok_or_else(|| layer.refused("the shapes of its inputs do not fit"))
}
