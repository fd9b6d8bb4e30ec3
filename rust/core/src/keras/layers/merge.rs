//! Layers of several inputs.

use crate::Result;
use crate::keras::ir::{Attr, DT_INT32, Graph, Tensor};
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
    let place = graph.scalar_int(*axis as i32);
    let tensors: Vec<&Tensor> = inputs.iter().chain([&place]).collect();
    let attrs = vec![("N", Attr::Int(inputs.len() as i64)), ("Tidx", Attr::Type(DT_INT32))];
    Ok(graph.op("ConcatV2", &tensors, attrs, shape))
}
