//! Pooling over windows, and over everything.

use super::convolution::spatial;
use crate::Result;
use crate::keras::ir::{Attr, Graph, Tensor};
use crate::keras::layer::Layer;

pub(super) fn windows(
    graph: &mut Graph,
    layer: &Layer,
    inputs: &[Tensor],
    op: &'static str,
) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    let window = layer.sizes("pool_size", 2)?;
    let strides = if layer.has("strides") { layer.sizes("strides", 2)? } else { window.clone() };
    if window.contains(&0) || strides.contains(&0) {
        return Err(layer.refused("a window or stride of 0 makes no sense"));
    }
    let padding = match layer.text("padding", "valid")? {
        "same" => "SAME",
        "valid" => "VALID",
        other => return Err(layer.refused(&format!("its padding is {other}"))),
    };
    let mut shape = input.shape.clone();
    for i in 0..2 {
        shape[1 + i] = spatial(input.shape[1 + i], window[i], strides[i], 1, padding == "SAME");
    }
    let four = |values: &[usize]| Attr::Ints(vec![1, values[0] as i64, values[1] as i64, 1]);
    let attrs = vec![
        ("ksize", four(&window)),
        ("strides", four(&strides)),
        ("padding", Attr::Text(padding)),
        ("data_format", Attr::Text("NHWC")),
    ];
    Ok(graph.op(op, &[input], attrs, shape))
}

pub(super) fn global(
    graph: &mut Graph,
    layer: &Layer,
    inputs: &[Tensor],
    op: &'static str,
) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    layer.rank(input, 4)?;
    Ok(graph.reduce(op, input, &[1, 2], layer.flag("keepdims", false)?))
}
