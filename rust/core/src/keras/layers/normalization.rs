//! Layers that shift and scale.

use std::sync::Arc;

use crate::Result;
use crate::keras::hdf5::Array;
use crate::keras::ir::{Graph, Tensor};
use crate::keras::layer::Layer;

/// `input * scale + shift`, one of each for every channel.
fn scaled(graph: &mut Graph, input: &Tensor, scale: Vec<f32>, shift: Vec<f32>) -> Tensor {
    let array = |values: Vec<f32>| Array { shape: vec![values.len()], values: Arc::new(values) };
    let scale = graph.array(array(scale));
    let shift = graph.array(array(shift));
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
    if layer.axes("axis", input.rank())? != [input.rank() - 1] {
        return Err(layer.refused("an axis other than the last is not built from files"));
    }
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

/// `(x - mean) / max(sqrt(variance), 1e-7)`; both are arguments, or variables with a count behind them.
pub(super) fn normalization(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let channels = layer.channels(input)?;
    if layer.has("axis") && layer.axes("axis", input.rank())? != [input.rank() - 1] {
        return Err(layer.refused("an axis other than the last is not built from files"));
    }
    if layer.flag("invert", false)? {
        return Err(layer.refused("invert is not built from files"));
    }
    let (mean, variance) = if layer.has("mean") {
        (spread(layer.numbers("mean")?, channels), spread(layer.numbers("variance")?, channels))
    } else {
        let read = |index, name| layer.variable(index, name, &[channels]).map(|array| array.values.to_vec());
        (read(0, "mean")?, read(1, "variance")?)
    };
    if mean.len() != channels || variance.len() != channels {
        return Err(layer.refused("its mean and variance are not one for each channel"));
    }
    let deviation: Vec<f64> = variance.iter().map(|variance| f64::from(*variance).sqrt().max(1e-7)).collect();
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
