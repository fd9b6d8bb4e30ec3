//! Pooling over windows, and over everything.

use super::window::{Window, all_dimensions, dimensions, lifted, lifted_shape, lowered};
use crate::Result;
use crate::keras::ir::{DT_FLOAT, Graph, Tensor};
use crate::keras::layer::Layer;

pub(super) fn windows(graph: &mut Graph, layer: &Layer, inputs: &[Tensor], max: bool) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    let input = layer.one(inputs)?;
    layer.rank(input, spatial + 2)?;
    let window = Window::of(layer, "pool_size", spatial)?;
    let op = match (max, spatial) {
        (true, 3) => "MaxPool3D",
        (true, _) => "MaxPool",
        (false, 3) => "AvgPool3D",
        (false, _) => "AvgPool",
    };
    let mut attrs = window.attrs();
    attrs.push(("ksize", all_dimensions(&window.size)));
    let shape = lifted_shape(window.shape(input, layer.channels(input)?));
    let pictures = lifted(graph, input);
    let output = graph.op(op, &[&pictures], attrs, shape);
    Ok(lowered(graph, &output, input.rank()))
}

pub(super) fn global(
    graph: &mut Graph,
    layer: &Layer,
    inputs: &[Tensor],
    op: &'static str,
) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    let input = layer.one(inputs)?;
    layer.rank(input, spatial + 2)?;
    let keep = layer.flag("keepdims", false)?;
    if let (Some(mask), "Mean", 1) = (&input.mask, op, spatial) {
        // The mean over the steps that count.
        let weights = graph.cast(mask, DT_FLOAT);
        let weights = graph.expand_dims(&weights, 2);
        let fits = || layer.refused("its mask does not fit its input");
        let weighted = graph.binary("Mul", input, &weights).ok_or_else(fits)?;
        let sum = graph.reduce("Sum", &weighted, &[1], keep);
        let count = graph.reduce("Sum", &weights, &[1], keep);
        return graph.binary("RealDiv", &sum, &count).ok_or_else(fits);
    }
    let axes: Vec<usize> = (1..=spatial).collect();
    Ok(graph.reduce(op, input, &axes, keep))
}
