//! Layers that shift and scale.

use crate::Result;
use crate::keras::ir::{Graph, Tensor};
use crate::keras::layer::Layer;

/// `input * scale + shift`, one of each for every channel.
fn scaled(graph: &mut Graph, input: &Tensor, scale: Vec<f32>, shift: Vec<f32>) -> Tensor {
    let sizes = [scale.len()];
    let (scale, shift) = (graph.floats(scale, &sizes), graph.floats(shift, &sizes));
    let product = graph.op("Mul", &[input, &scale], Vec::new(), input.shape.clone());
    graph.op("AddV2", &[&product, &shift], Vec::new(), input.shape.clone())
}

/// A single value counts for every channel.
fn spread(values: Vec<f32>, channels: usize) -> Vec<f32> {
    if values.len() == 1 { vec![values[0]; channels] } else { values }
}

/// `gamma * (x - mean) / sqrt(variance + epsilon) + beta` with the statistics of training.
pub(super) fn batch(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let axis = one_axis(layer, input)?;
    let last = input.rank() - 1;
    let moved = graph.moved(input, axis, last);
    let output = batch_of_last(graph, layer, &moved)?;
    Ok(graph.moved(&output, last, axis))
}

/// The layer's only axis.
fn one_axis(layer: &Layer, input: &Tensor) -> Result<usize> {
    match layer.axes("axis", input.rank())?.as_slice() {
        [axis] if *axis > 0 => Ok(*axis),
        axes => Err(layer.refused(&format!("the axes {axes:?} are not built from files"))),
    }
}

fn batch_of_last(graph: &mut Graph, layer: &Layer, input: &Tensor) -> Result<Tensor> {
    let channels = layer.channels(input)?;
    let mut index = 0;
    let mut next = |name: &str, wanted: bool, instead: f32| -> Result<Vec<f32>> {
        if !wanted {
            return Ok(vec![instead; channels]);
        }
        index += 1;
        Ok(layer.variable(index - 1, name, &[channels])?.values.to_vec())
    };
    let gamma = next("gamma", layer.flag("scale", true)?, 1.0)?;
    let beta = next("beta", layer.flag("center", true)?, 0.0)?;
    let mean = next("moving mean", true, 0.0)?;
    let variance = next("moving variance", true, 0.0)?;
    let epsilon = layer.number("epsilon", 1e-3)?;
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + epsilon).sqrt())
        .collect();
    let shift = beta
        .iter()
        .zip(mean.iter().zip(&scale))
        .map(|(beta, (mean, scale))| (f64::from(*beta) - f64::from(*mean) * scale) as f32)
        .collect();
    Ok(scaled(graph, input, scale.iter().map(|scale| *scale as f32).collect(), shift))
}

/// The sizes of some dimensions of an input.
fn sides(layer: &Layer, input: &Tensor, axes: &[usize]) -> Result<Vec<usize>> {
    let found = axes.iter().map(|axis| input.shape[*axis]).collect::<Option<_>>();
    found.ok_or_else(|| layer.refused("the size of what it normalizes is not known"))
}

/// A variable over `axes`, in a shape that is broadcast over the input.
fn over(
    graph: &mut Graph,
    layer: &Layer,
    input: &Tensor,
    axes: &[usize],
    (index, name): (usize, &str),
) -> Result<Tensor> {
    let mut array = layer.variable(index, name, &sides(layer, input, axes)?)?;
    if axes != [input.rank() - 1] {
        let side = |axis| if axes.contains(&axis) { input.shape[axis].unwrap_or(1) } else { 1 };
        array.shape = (0..input.rank()).map(side).collect();
    }
    Ok(graph.array(array))
}

/// Sorted, none of them the batch.
fn inner_axes(layer: &Layer, input: &Tensor) -> Result<Vec<usize>> {
    let mut axes = layer.axes("axis", input.rank())?;
    axes.sort_unstable();
    if axes.first().is_none_or(|first| *first == 0) {
        return Err(layer.refused(&format!("the axes {axes:?} are not built from files")));
    }
    Ok(axes)
}

/// `x - mean`, and `1 / sqrt(variance + epsilon)`, over `axes`.
fn centered(graph: &mut Graph, input: &Tensor, axes: &[usize], epsilon: f32) -> (Tensor, Tensor) {
    let mean = graph.reduce("Mean", input, axes, true);
    let difference = graph.op("Sub", &[input, &mean], Vec::new(), input.shape.clone());
    let square = graph.unary("Square", &difference);
    let variance = graph.reduce("Mean", &square, axes, true);
    let shifted = graph.with_scalar("AddV2", &variance, epsilon);
    (difference, graph.unary("Rsqrt", &shifted))
}

/// `LayerNormalization`: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with the statistics of each example.
pub(super) fn layer(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let axes = inner_axes(layer, input)?;
    let (difference, inverse) = centered(graph, input, &axes, layer.number("epsilon", 1e-3)? as f32);
    let squares = layer.flag("rms_scaling", false)?;
    let scales = squares || layer.flag("scale", true)?;
    let mut scale = inverse;
    if scales {
        // In this order TensorFlow makes one operation of it all.
        let gamma = over(graph, layer, input, &axes, (0, "gamma"))?;
        scale = graph.op("Mul", &[&scale, &gamma], Vec::new(), input.shape.clone());
    }
    // With rms_scaling Keras divides what is not centered.
    let from = if squares { input } else { &difference };
    let mut output = graph.op("Mul", &[from, &scale], Vec::new(), input.shape.clone());
    if !squares && layer.flag("center", true)? {
        let beta = over(graph, layer, input, &axes, (usize::from(scales), "beta"))?;
        output = graph.op("AddV2", &[&beta, &output], Vec::new(), input.shape.clone());
    }
    Ok(output)
}

/// `GroupNormalization(groups)`: the statistics of each example and group of channels; −1 is a group for each channel.
pub(super) fn group(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let (axis, last) = (one_axis(layer, input)?, input.rank() - 1);
    let moved = graph.moved(input, axis, last);
    let channels = layer.channels(&moved)?;
    let groups = match layer.config.get("groups").and_then(serde_json::Value::as_i64) {
        Some(-1) => channels,
        _ => layer.size("groups")?,
    };
    if groups == 0 || channels % groups != 0 {
        return Err(layer.refused(&format!("{channels} channels make no {groups} groups")));
    }
    let mut inner = moved.inner().ok_or_else(|| layer.refused("the shape of its input is not known"))?;
    let plain = inner.clone();
    inner.pop();
    inner.extend([groups, channels / groups]);
    let grouped = graph.reshape(&moved, &inner);
    let axes: Vec<usize> = (1..grouped.rank()).filter(|axis| *axis != grouped.rank() - 2).collect();
    let (difference, inverse) = centered(graph, &grouped, &axes, layer.number("epsilon", 1e-3)? as f32);
    let normal = graph.op("Mul", &[&difference, &inverse], Vec::new(), grouped.shape.clone());
    let mut output = graph.reshape(&normal, &plain);
    let scales = layer.flag("scale", true)?;
    if scales {
        let gamma = over(graph, layer, &moved, &[last], (0, "gamma"))?;
        output = graph.op("Mul", &[&output, &gamma], Vec::new(), output.shape.clone());
    }
    if layer.flag("center", true)? {
        let beta = over(graph, layer, &moved, &[last], (usize::from(scales), "beta"))?;
        output = graph.op("AddV2", &[&output, &beta], Vec::new(), output.shape.clone());
    }
    Ok(graph.moved(&output, last, axis))
}

/// `RMSNormalization`: `scale * x / sqrt(mean(x²) + epsilon)`.
pub(super) fn root_mean_square(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let axes = inner_axes(layer, input)?;
    let square = graph.unary("Square", input);
    let mean = graph.reduce("Mean", &square, &axes, true);
    let shifted = graph.with_scalar("AddV2", &mean, layer.number("epsilon", 1e-6)? as f32);
    let inverse = graph.unary("Rsqrt", &shifted);
    let normal = graph.op("Mul", &[input, &inverse], Vec::new(), input.shape.clone());
    let scale = over(graph, layer, input, &axes, (0, "scale"))?;
    Ok(graph.op("Mul", &[&normal, &scale], Vec::new(), input.shape.clone()))
}

/// `UnitNormalization`: vectors over the axes, divided by their length.
pub(super) fn unit(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let axes = inner_axes(layer, input)?;
    normalized(graph, layer, input, &axes)
}

/// Vectors over the axes, divided by their length, or by 1e-12 where they are shorter.
pub(super) fn normalized(graph: &mut Graph, layer: &Layer, input: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let square = graph.unary("Square", input);
    let sum = graph.reduce("Sum", &square, axes, true);
    let inverse = graph.unary("Rsqrt", &sum);
    let inverse = graph.with_scalar("Minimum", &inverse, 1e12);
    graph.binary("Mul", input, &inverse).ok_or_else(|| layer.refused("its axes do not fit its input"))
}

/// ConvNeXt's `LayerScale`: a factor for each channel.
pub(super) fn layer_scale(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let gamma = layer.variable(0, "gamma", &[layer.channels(input)?])?;
    let gamma = graph.array(gamma);
    Ok(graph.op("Mul", &[input, &gamma], Vec::new(), input.shape.clone()))
}

/// `(x - mean) / max(sqrt(variance), 1e-7)`, or with `invert` the way back; both are arguments, or variables with a
/// count behind them.
pub(super) fn normalization(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let channels = layer.channels(input)?;
    let each = layer.has("axis") && !layer.axes("axis", input.rank())?.is_empty();
    if each && layer.axes("axis", input.rank())? != [input.rank() - 1] {
        return Err(layer.refused("an axis other than the last is not built from files"));
    }
    let (mean, variance) = if layer.has("mean") {
        (layer.numbers("mean")?, layer.numbers("variance")?)
    } else {
        let shape = if each { &[channels][..] } else { &[] };
        let read = |index, name| layer.variable(index, name, shape).map(|array| array.values.to_vec());
        (read(0, "mean")?, read(1, "variance")?)
    };
    let (mean, variance) = (spread(mean, channels), spread(variance, channels));
    if mean.len() != channels || variance.len() != channels {
        return Err(layer.refused("its mean and variance are not one for each channel"));
    }
    let deviation: Vec<f64> = variance.iter().map(|variance| f64::from(*variance).sqrt().max(1e-7)).collect();
    if layer.flag("invert", false)? {
        return Ok(scaled(graph, input, deviation.iter().map(|d| *d as f32).collect(), mean));
    }
    let scale = deviation.iter().map(|deviation| (1.0 / deviation) as f32).collect();
    let shift = mean.iter().zip(&deviation).map(|(mean, d)| (-f64::from(*mean) / d) as f32).collect();
    Ok(scaled(graph, input, scale, shift))
}

/// `x * scale + offset`.
pub(super) fn rescaling(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let (scale, offset) = (layer.numbers("scale")?, layer.numbers("offset")?);
    match (scale.as_slice(), offset.as_slice()) {
        ([scale], [0.0]) => Ok(graph.with_scalar("Mul", input, *scale)),
        ([scale], [offset]) => {
            let product = graph.with_scalar("Mul", input, *scale);
            Ok(graph.with_scalar("AddV2", &product, *offset))
        }
        _ => {
            let channels = layer.channels(input)?;
            let (scale, offset) = (spread(scale, channels), spread(offset, channels));
            if scale.len() != channels || offset.len() != channels {
                return Err(layer.refused("its scale and offset are not one for each channel"));
            }
            Ok(scaled(graph, input, scale, offset))
        }
    }
}
