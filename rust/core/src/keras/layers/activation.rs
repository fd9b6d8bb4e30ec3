//! Activations, as `keras.activations` defines them.

use crate::Result;
use crate::keras::ir::{Attr, DT_FLOAT, Graph, Tensor};
use crate::keras::layer::Layer;

/// The layer `Activation`.
pub(super) fn activation(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    activated(graph, layer, layer.one(inputs)?)
}

/// `input` behind the function that the layer's argument `activation` names.
pub(in crate::keras) fn activated(graph: &mut Graph, layer: &Layer, input: &Tensor) -> Result<Tensor> {
    let name = layer.function("activation")?;
    by_name(graph, name, input)
        .ok_or_else(|| layer.refused(&format!("its activation {name} is not built from files")))
}

/// `input` behind a function of `keras.activations`, with the arguments that are its defaults.
pub(in crate::keras) fn by_name(graph: &mut Graph, name: &str, input: &Tensor) -> Option<Tensor> {
    let g = graph;
    Some(match name {
        "linear" => input.clone(),
        "relu" => g.unary("Relu", input),
        "relu6" => g.unary("Relu6", input),
        "leaky_relu" => leaky(g, input, 0.2),
        "elu" => g.unary("Elu", input),
        "selu" => g.unary("Selu", input),
        "celu" => {
            // max(x, 0) + expm1(min(x, 0))
            let (positive, negative) = (g.unary("Relu", input), g.with_scalar("Minimum", input, 0.0));
            let negative = g.unary("Expm1", &negative);
            g.binary("AddV2", &positive, &negative)?
        }
        "sigmoid" => g.unary("Sigmoid", input),
        "tanh" => g.unary("Tanh", input),
        "softplus" => g.unary("Softplus", input),
        "softsign" => g.unary("Softsign", input),
        "exponential" => g.unary("Exp", input),
        "softmax" => softmax_over(g, input, input.rank().checked_sub(1)?),
        "log_softmax" => g.unary("LogSoftmax", input),
        "log_sigmoid" => {
            let turned = g.unary("Neg", input);
            let softplus = g.unary("Softplus", &turned);
            g.unary("Neg", &softplus)
        }
        "swish" | "silu" => times(g, input, |g| g.unary("Sigmoid", input)),
        "hard_sigmoid" => hard_sigmoid(g, input),
        "hard_swish" | "hard_silu" => times(g, input, |g| hard_sigmoid(g, input)),
        "hard_tanh" => clipped(g, input, -1.0, 1.0),
        "hard_shrink" => {
            let size = g.unary("Abs", input);
            let kept = g.compare_scalar("Greater", &size, 0.5);
            masked(g, input, &kept)
        }
        "soft_shrink" => {
            // x less what of it lies within ±0.5
            let within = clipped(g, input, -0.5, 0.5);
            g.binary("Sub", input, &within)?
        }
        "tanh_shrink" => {
            let tanh = g.unary("Tanh", input);
            g.binary("Sub", input, &tanh)?
        }
        "sparse_sigmoid" => {
            let shifted = g.with_scalar("AddV2", input, 1.0);
            let half = g.with_scalar("Mul", &shifted, 0.5);
            clipped(g, &half, 0.0, 1.0)
        }
        "sparse_plus" => {
            // 0 up to -1, (x + 1)² / 4 up to 1, then x: with c = x clipped to ±1, (c + 1)² / 4 + (max(x, 1) - 1)
            let within = clipped(g, input, -1.0, 1.0);
            let shifted = g.with_scalar("AddV2", &within, 1.0);
            let square = g.unary("Square", &shifted);
            let quarter = g.with_scalar("Mul", &square, 0.25);
            let above = g.with_scalar("Maximum", input, 1.0);
            let above = g.with_scalar("AddV2", &above, -1.0);
            g.binary("AddV2", &quarter, &above)?
        }
        "squareplus" => {
            // (x + sqrt(x² + 4)) / 2
            let square = g.unary("Square", input);
            let shifted = g.with_scalar("AddV2", &square, 4.0);
            let root = g.unary("Sqrt", &shifted);
            let sum = g.binary("AddV2", input, &root)?;
            g.with_scalar("Mul", &sum, 0.5)
        }
        "glu" => {
            let axis = input.rank().checked_sub(1)?;
            let half = input.channels().filter(|channels| channels % 2 == 0)? / 2;
            let (left, right) = (g.cut(input, axis, 0, half), g.cut(input, axis, half, half));
            let gate = g.unary("Sigmoid", &right);
            g.binary("Mul", &left, &gate)?
        }
        "mish" => times(g, input, |g| {
            let softplus = g.unary("Softplus", input);
            g.unary("Tanh", &softplus)
        }),
        "gelu" => gelu(g, input),
        "gelu_tanh" => gelu_tanh(g, input),
        _ => return None,
    })
}

/// Softmax over one dimension.
pub(in crate::keras) fn softmax_over(graph: &mut Graph, input: &Tensor, axis: usize) -> Tensor {
    let last = input.rank() - 1;
    let moved = graph.moved(input, axis, last);
    let softmax = graph.unary("Softmax", &moved);
    graph.moved(&softmax, last, axis)
}

/// `input` where the mask is true, else 0.
fn masked(graph: &mut Graph, input: &Tensor, mask: &Tensor) -> Tensor {
    let kept = graph.cast(mask, DT_FLOAT);
    graph.op("Mul", &[input, &kept], Vec::new(), input.shape.clone())
}

fn clipped(graph: &mut Graph, input: &Tensor, least: f32, most: f32) -> Tensor {
    let below = graph.with_scalar("Minimum", input, most);
    graph.with_scalar("Maximum", &below, least)
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
    // In this order TensorFlow makes one operation of it and the product before it.
    let half = graph.with_scalar("Mul", &shifted, 0.5);
    graph.op("Mul", &[&half, input], Vec::new(), input.shape.clone())
}

/// `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³))) / 2`, the approximation.
fn gelu_tanh(graph: &mut Graph, input: &Tensor) -> Tensor {
    let same = |graph: &mut Graph, op, left: &Tensor, right: &Tensor| {
        graph.op(op, &[left, right], Vec::new(), input.shape.clone())
    };
    let square = graph.unary("Square", input);
    let cube = same(graph, "Mul", &square, input);
    let scaled = graph.with_scalar("Mul", &cube, 0.044_715);
    let sum = same(graph, "AddV2", input, &scaled);
    let inner = graph.with_scalar("Mul", &sum, (2.0 / std::f32::consts::PI).sqrt());
    let tanh = graph.unary("Tanh", &inner);
    let shifted = graph.with_scalar("AddV2", &tanh, 1.0);
    let half = graph.with_scalar("Mul", input, 0.5);
    same(graph, "Mul", &half, &shifted)
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
        // x where it is above the threshold, else negative_slope * (x - threshold), at most max_value.
        let above = graph.compare_scalar("Greater", input, threshold as f32);
        let kept = masked(graph, input, &above);
        let shifted = graph.with_scalar("Sub", input, threshold as f32);
        let below = graph.with_scalar("Minimum", &shifted, 0.0);
        let sloped = graph.with_scalar("Mul", &below, slope);
        let kept = most.map_or(kept.clone(), |most| graph.with_scalar("Minimum", &kept, most));
        return Ok(graph.op("AddV2", &[&kept, &sloped], Vec::new(), input.shape.clone()));
    }
    let capped = |graph: &mut Graph, tensor: &Tensor| match most {
        Some(most) => graph.with_scalar("Minimum", tensor, most),
        None => tensor.clone(),
    };
    Ok(match (slope, most) {
        (0.0, Some(6.0)) => graph.unary("Relu6", input),
        (0.0, _) => {
            let positive = graph.unary("Relu", input);
            capped(graph, &positive)
        }
        _ => {
            let leaky = leaky(graph, input, slope);
            capped(graph, &leaky)
        }
    })
}

/// `LeakyReLU` (Keras 2 names its slope `alpha`) and `ELU`.
pub(super) fn sloped(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    if layer.class == "ELU" {
        // max(x, 0) + alpha * (exp(min(x, 0)) - 1)
        let alpha = layer.number("alpha", 1.0)? as f32;
        if alpha == 1.0 {
            return Ok(graph.unary("Elu", input));
        }
        let (positive, negative) = (graph.unary("Relu", input), graph.with_scalar("Minimum", input, 0.0));
        let negative = graph.unary("Expm1", &negative);
        let negative = graph.with_scalar("Mul", &negative, alpha);
        return Ok(graph.op("AddV2", &[&positive, &negative], Vec::new(), input.shape.clone()));
    }
    let slope = layer.number("negative_slope", layer.number("alpha", 0.3)?)?;
    Ok(leaky(graph, input, slope as f32))
}

/// `PReLU(shared_axes)`: `max(x, 0) + alpha * min(x, 0)`.
pub(super) fn parametric(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let mut inner = input.inner();
    if layer.has("shared_axes") {
        let shared = layer.axes("shared_axes", input.rank())?;
        let side = |axis: usize| if shared.contains(&axis) { Some(1) } else { input.shape[axis] };
        inner = (1..input.rank()).map(side).collect();
    }
    let shape = inner.ok_or_else(|| layer.refused("the shape of its input is not known"))?;
    let alpha = layer.variable(0, "alpha", &shape)?;
    let alpha = graph.array(alpha);
    let (positive, negative) = (graph.unary("Relu", input), graph.with_scalar("Minimum", input, 0.0));
    let negative = graph.op("Mul", &[&negative, &alpha], Vec::new(), input.shape.clone());
    Ok(graph.op("AddV2", &[&positive, &negative], Vec::new(), input.shape.clone()))
}

/// `Softmax(axis)`; masked places become 0.
pub(super) fn softmax(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let axes = layer.axes("axis", input.rank())?;
    let [axis] = axes.as_slice() else {
        return Err(layer.refused("a softmax over several dimensions is not built from files"));
    };
    let Some(mask) = &input.mask else { return Ok(softmax_over(graph, input, *axis)) };
    let fits = || layer.refused("its mask does not fit its input");
    let least = graph.scalar(MASKED);
    let kept = graph.select(mask, input, &least).ok_or_else(fits)?;
    let softmax = softmax_over(graph, &kept, *axis);
    let zero = graph.scalar(0.0);
    graph.select(mask, &softmax, &zero).ok_or_else(fits)
}

/// What masked places count as before a softmax.
const MASKED: f32 = -1e30;
