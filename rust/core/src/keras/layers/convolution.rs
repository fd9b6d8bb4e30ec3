//! Layers that multiply by a kernel.

use super::activated;
use crate::Result;
use crate::keras::ir::{Attr, Graph, Tensor};
use crate::keras::layer::Layer;

/// Strides, dilation and padding of a convolution, and the size of what it gives.
struct Window {
    kernel: Vec<usize>,
    attrs: Vec<(&'static str, Attr)>,
    size: Vec<Option<usize>>,
}

fn window(layer: &Layer, input: &Tensor) -> Result<Window> {
    layer.rank(input, 4)?;
    let kernel = layer.sizes("kernel_size", 2)?;
    let strides = layer.sizes("strides", 2)?;
    let dilation = layer.sizes("dilation_rate", 2)?;
    if strides.contains(&0) || dilation.contains(&0) || kernel.contains(&0) {
        return Err(layer.refused("a kernel, stride or dilation of 0 makes no sense"));
    }
    let padding = layer.text("padding", "valid")?;
    let size =
        (0..2).map(|i| spatial(input.shape[1 + i], kernel[i], strides[i], dilation[i], padding == "same"));
    let size = size.collect();
    let four = |values: &[usize]| Attr::Ints(vec![1, values[0] as i64, values[1] as i64, 1]);
    let padding = match padding {
        "same" => "SAME",
        "valid" => "VALID",
        other => return Err(layer.refused(&format!("its padding is {other}"))),
    };
    let attrs = vec![
        ("strides", four(&strides)),
        ("dilations", four(&dilation)),
        ("padding", Attr::Text(padding)),
        ("data_format", Attr::Text("NHWC")),
    ];
    Ok(Window { kernel, attrs, size })
}

/// The size of a dimension behind a window that moves over it.
pub(super) fn spatial(
    size: Option<usize>,
    kernel: usize,
    stride: usize,
    dilation: usize,
    same: bool,
) -> Option<usize> {
    let reach = (kernel - 1) * dilation + 1;
    size.map(|size| if same { size.div_ceil(stride) } else { (size + stride).saturating_sub(reach) / stride })
}

fn shape(size: &[Option<usize>], channels: usize) -> Vec<Option<usize>> {
    std::iter::once(None).chain(size.iter().copied()).chain([Some(channels)]).collect()
}

fn with_bias(graph: &mut Graph, layer: &Layer, input: Tensor, index: usize) -> Result<Tensor> {
    let channels = layer.channels(&input)?;
    let biased = if layer.flag("use_bias", true)? {
        let bias = layer.variable(index, "bias", &[channels])?;
        let bias = graph.array(bias);
        let attrs = vec![("data_format", Attr::Text("NHWC"))];
        graph.op("BiasAdd", &[&input, &bias], attrs, input.shape.clone())
    } else {
        input
    };
    activated(graph, layer, &biased)
}

pub(super) fn conv2d(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let window = window(layer, input)?;
    if layer.number("groups", 1.0)? != 1.0 {
        return Err(layer.refused("grouped convolutions are not built from files"));
    }
    let (channels, filters) = (layer.channels(input)?, layer.size("filters")?);
    let kernel = layer.variable(0, "kernel", &[window.kernel[0], window.kernel[1], channels, filters])?;
    let kernel = graph.array(kernel);
    let output = graph.op("Conv2D", &[input, &kernel], window.attrs, shape(&window.size, filters));
    with_bias(graph, layer, output, 1)
}

fn depthwise_of(graph: &mut Graph, layer: &Layer, input: &Tensor, name: &str) -> Result<Tensor> {
    let window = window(layer, input)?;
    let (channels, multiplier) = (layer.channels(input)?, layer.size("depth_multiplier")?);
    let kernel = layer.variable(0, name, &[window.kernel[0], window.kernel[1], channels, multiplier])?;
    let kernel = graph.array(kernel);
    let output = shape(&window.size, channels * multiplier);
    Ok(graph.op("DepthwiseConv2dNative", &[input, &kernel], window.attrs, output))
}

pub(super) fn depthwise(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let output = depthwise_of(graph, layer, layer.one(inputs)?, "depthwise kernel")?;
    with_bias(graph, layer, output, 1)
}

pub(super) fn separable(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let each = depthwise_of(graph, layer, layer.one(inputs)?, "depthwise kernel")?;
    let (channels, filters) = (layer.channels(&each)?, layer.size("filters")?);
    let kernel = layer.variable(1, "pointwise kernel", &[1, 1, channels, filters])?;
    let kernel = graph.array(kernel);
    let attrs = vec![
        ("strides", Attr::Ints(vec![1; 4])),
        ("dilations", Attr::Ints(vec![1; 4])),
        ("padding", Attr::Text("VALID")),
        ("data_format", Attr::Text("NHWC")),
    ];
    let output = graph.op("Conv2D", &[&each, &kernel], attrs, shape(&each.shape[1..3], filters));
    with_bias(graph, layer, output, 2)
}

/// `Dense`, on the last dimension of an input of any rank.
pub(super) fn dense(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let (channels, units) = (layer.channels(input)?, layer.size("units")?);
    if input.rank() < 2 {
        return Err(layer.refused("its input has no features"));
    }
    let inner = input.inner().ok_or_else(|| layer.refused("the shape of its input is not known"))?;
    let kernel = layer.variable(0, "kernel", &[channels, units])?;
    let kernel = graph.array(kernel);
    let rows = if input.rank() == 2 { input.clone() } else { graph.reshape(input, &[channels]) };
    let attrs = vec![("transpose_a", Attr::Bool(false)), ("transpose_b", Attr::Bool(false))];
    let product = graph.op("MatMul", &[&rows, &kernel], attrs, vec![None, Some(units)]);
    let output = with_bias(graph, layer, product, 1)?;
    if input.rank() == 2 {
        return Ok(output);
    }
    let inner: Vec<usize> = inner.iter().copied().take(inner.len() - 1).chain([units]).collect();
    Ok(graph.reshape(&output, &inner))
}
