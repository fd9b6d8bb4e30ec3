//! Activations, as `keras.activations` defines them.

use crate::Result;
use crate::keras::ir::{Attr, Graph, Tensor};
use crate::keras::layer::Layer;

/// The layer `Activation`.
pub(super) fn activation(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    activated(graph, layer, layer.one(inputs)?)
}

/// `input` behind the function that the layer's argument `activation` names.
pub(in crate::keras) fn activated(graph: &mut Graph, layer: &Layer, input: &Tensor) -> Result<Tensor> {
    let g = graph;
    Ok(match layer.function("activation")? {
        "linear" => input.clone(),
        "relu" => g.unary("Relu", input),
        "relu6" => g.unary("Relu6", input),
        "leaky_relu" => leaky(g, input, 0.2),
        "elu" => g.unary("Elu", input),
        "selu" => g.unary("Selu", input),
        "sigmoid" => g.unary("Sigmoid", input),
        "tanh" => g.unary("Tanh", input),
        "softplus" => g.unary("Softplus", input),
        "softsign" => g.unary("Softsign", input),
        "exponential" => g.unary("Exp", input),
        "softmax" => g.unary("Softmax", input),
        "log_softmax" => g.unary("LogSoftmax", input),
        "swish" | "silu" => times(g, input, |g| g.unary("Sigmoid", input)),
        "hard_sigmoid" => hard_sigmoid(g, input),
        "hard_swish" | "hard_silu" => times(g, input, |g| hard_sigmoid(g, input)),
        "mish" => times(g, input, |g| {
            let softplus = g.unary("Softplus", input);
            g.unary("Tanh", &softplus)
        }),
        "gelu" => gelu(g, input),
        other => return Err(layer.refused(&format!("its activation {other} is not built from files"))),
    })
}

/// `input * factor(input)`.
fn times(graph: &mut Graph, input: &Tensor, factor: impl Fn(&mut Graph) -> Tensor) -> Tensor {
    let factor = factor(graph);
    graph.op("Mul", &[input, &factor], Vec::new(), input.shape.clone())
}

/// `relu6(x + 3) / 6`.
fn hard_sigmoid(graph: &mut Graph, input: &Tensor) -> Tensor {
    let shifted = graph.with_scalar("AddV2", input, 3.0);
    let clipped = graph.unary("Relu6", &shifted);
    graph.with_scalar("Mul", &clipped, 1.0 / 6.0)
}

/// `x * (1 + erf(x / sqrt(2))) / 2`, Keras' default.
fn gelu(graph: &mut Graph, input: &Tensor) -> Tensor {
    let scaled = graph.with_scalar("Mul", input, std::f32::consts::FRAC_1_SQRT_2);
    let erf = graph.unary("Erf", &scaled);
    let shifted = graph.with_scalar("AddV2", &erf, 1.0);
    let half = graph.with_scalar("Mul", input, 0.5);
    graph.op("Mul", &[&half, &shifted], Vec::new(), input.shape.clone())
}

fn leaky(graph: &mut Graph, input: &Tensor, slope: f32) -> Tensor {
    graph.op("LeakyRelu", &[input], vec![("alpha", Attr::Float(slope))], input.shape.clone())
}

/// `ReLU(max_value, negative_slope, threshold)`.
pub(super) fn relu(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let slope = layer.number("negative_slope", 0.0)? as f32;
    let threshold = layer.number("threshold", 0.0)?;
    let most = if layer.has("max_value") { Some(layer.number("max_value", 0.0)? as f32) } else { None };
    if threshold != 0.0 {
        return Err(layer.refused("a threshold other than 0 is not built from files"));
    }
    Ok(match (slope, most) {
        (0.0, None) => graph.unary("Relu", input),
        (0.0, Some(6.0)) => graph.unary("Relu6", input),
        (0.0, Some(most)) => {
            let positive = graph.unary("Relu", input);
            graph.with_scalar("Minimum", &positive, most)
        }
        (slope, None) => leaky(graph, input, slope),
        (slope, Some(most)) => {
            let leaky = leaky(graph, input, slope);
            graph.with_scalar("Minimum", &leaky, most)
        }
    })
}

/// `LeakyReLU` (Keras 2 names its slope `alpha`) and `ELU`.
pub(super) fn sloped(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    if layer.class == "ELU" {
        if layer.number("alpha", 1.0)? != 1.0 {
            return Err(layer.refused("an alpha other than 1 is not built from files"));
        }
        return Ok(graph.unary("Elu", input));
    }
    let slope = layer.number("negative_slope", layer.number("alpha", 0.3)?)?;
    Ok(leaky(graph, input, slope as f32))
}

pub(super) fn softmax(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    if layer.axes("axis", input.rank())? != [input.rank() - 1] {
        return Err(layer.refused("a softmax over another dimension than the last is not built from files"));
    }
    Ok(graph.unary("Softmax", input))
}
