//! Fewer and cheaper operations with the same results: scales and paddings move into the convolution beside them.

use std::sync::Arc;

use super::hdf5::Array;
use super::ir::{Attr, Constant, Graph, Node};

const CONVOLUTIONS: [&str; 2] = ["Conv2D", "DepthwiseConv2dNative"];

/// Simplifies a graph; `outputs` are the nodes that are read from outside.
pub(super) fn simplify(graph: &mut Graph, outputs: &[usize]) {
    merge_scales(graph, outputs);
    merge_padding(graph, outputs);
    keep_shared_sums(graph, outputs);
}

/// How often each node is used.
fn uses(graph: &Graph, outputs: &[usize]) -> Vec<usize> {
    let mut uses = vec![0; graph.nodes.len()];
    graph.nodes.iter().flat_map(|node| &node.inputs).chain(outputs).for_each(|node| uses[*node] += 1);
    uses
}

fn floats(graph: &Graph, node: usize) -> Option<&Array> {
    match &graph.nodes.get(node)?.constant {
        Some(Constant::Floats(array)) => Some(array),
        _ => None,
    }
}

/// Bytes of kernels that convolutions share and that get a copy for each.
const COPIES: usize = 16 << 20;

/// `convolution · scale + shift` becomes the convolution's own kernel and bias.
fn merge_scales(graph: &mut Graph, outputs: &[usize]) {
    let uses = uses(graph, outputs);
    let mut copied = 0;
    for sum in 0..graph.nodes.len() {
        let Some(found) = scaled_convolution(graph, &uses, sum) else { continue };
        let Scaled { kernel, bias, scale, shift, convolution } = found;
        let node = &mut graph.nodes[kernel];
        if let Some(Constant::Floats(array)) = &mut node.constant {
            if Arc::strong_count(&array.values) > 1 {
                copied += size_of_val(array.values.as_slice());
                if copied > COPIES {
                    continue;
                }
            }
            let channels = scale.len();
            let values = Arc::make_mut(&mut array.values);
            values.chunks_exact_mut(channels).for_each(|row| {
                row.iter_mut().zip(&scale).for_each(|(value, scale)| *value *= scale);
            });
        }
        let bias = match bias {
            Some(bias) => bias.iter().zip(scale.iter().zip(&shift)).map(|(b, (s, t))| b * s + t).collect(),
            None => shift,
        };
        let bias = graph.array(Array { shape: vec![bias.len()], values: Arc::new(bias) });
        let node = &mut graph.nodes[sum];
        node.op = "BiasAdd";
        node.inputs = vec![convolution, bias.node];
        node.attrs.push(("data_format", Attr::text("NHWC")));
    }
}

struct Scaled {
    convolution: usize,
    kernel: usize,
    bias: Option<Vec<f32>>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// What is added up at `sum`, if that is a convolution times a scale plus a shift, and used by nothing else.
fn scaled_convolution(graph: &Graph, uses: &[usize], sum: usize) -> Option<Scaled> {
    let nodes = &graph.nodes;
    let is = |node: usize, op: &str| nodes.get(node).is_some_and(|node| node.op == op);
    let only = |node: usize| uses.get(node) == Some(&1);
    let [product, shift] = nodes[sum].inputs[..] else { return None };
    if !is(sum, "AddV2") || !is(product, "Mul") || !only(product) {
        return None;
    }
    let [input, scale] = nodes[product].inputs[..] else { return None };
    let (biased, convolution) =
        if is(input, "BiasAdd") { (Some(input), nodes[input].inputs[0]) } else { (None, input) };
    let kernel = *nodes.get(convolution)?.inputs.get(1)?;
    let known = CONVOLUTIONS.contains(&nodes[convolution].op);
    if !known || !only(input) || !only(convolution) || !only(kernel) {
        return None;
    }
    let channels = nodes[convolution].shape.last().copied().flatten()?;
    let each = |node: usize| {
        floats(graph, node).filter(|array| array.shape == [channels]).map(|a| a.values.to_vec())
    };
    let (scale, shift) = (each(scale)?, each(shift)?);
    // The kernel's last dimensions are those of the result's channels: [.., in, out], or [.., in, multiplier].
    floats(graph, kernel).filter(|array| array.values.len() % channels == 0)?;
    let bias = match biased {
        Some(biased) => Some(each(nodes[biased].inputs[1])?),
        None => None,
    };
    Some(Scaled { convolution, kernel, bias, scale, shift })
}

/// Zero padding becomes the padding of the VALID convolution behind it; a depthwise one takes only what equals SAME:
/// with EXPLICIT padding TensorFlow ends the process.
fn merge_padding(graph: &mut Graph, outputs: &[usize]) {
    let uses = uses(graph, outputs);
    for index in 0..graph.nodes.len() {
        let Some((pad, padding)) = padded_convolution(graph, &uses, index) else { continue };
        let input = graph.nodes[pad].inputs[0];
        let node = &mut graph.nodes[index];
        node.inputs[0] = input;
        node.attrs.retain(|(name, _)| *name != "padding");
        match padding {
            Padding::Same => node.attrs.push(("padding", Attr::text("SAME"))),
            Padding::Explicit(margins) => {
                node.attrs.push(("padding", Attr::text("EXPLICIT")));
                node.attrs.push(("explicit_paddings", Attr::Ints(margins)));
            }
        }
    }
}

/// `Relu` of a sum with a convolution in it, where something else takes the sum too, becomes a maximum with zero: there
/// TensorFlow's own optimizer fuses all of it, misses the sum, logs an error and leaves the whole graph unfused.
fn keep_shared_sums(graph: &mut Graph, outputs: &[usize]) {
    let uses = uses(graph, outputs);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (true, [sum]) = (node.op == "Relu", node.inputs.as_slice()) else { continue };
        let (sum, shared) = (&graph.nodes[*sum], uses[*sum] > 1);
        if shared && sum.op == "AddV2" && sum.inputs.iter().any(|input| graph.nodes[*input].op == "BiasAdd") {
            let zero = graph.scalar(0.0);
            let node = &mut graph.nodes[index];
            node.op = "Maximum";
            node.inputs.push(zero.node);
        }
    }
}

enum Padding {
    Same,
    Explicit(Vec<i64>),
}

fn padded_convolution(graph: &Graph, uses: &[usize], index: usize) -> Option<(usize, Padding)> {
    let node = &graph.nodes[index];
    if !CONVOLUTIONS.contains(&node.op) || attr(node, "padding") != Some(&Attr::text("VALID")) {
        return None;
    }
    let pad = *node.inputs.first()?;
    let padding = graph.nodes.get(pad).filter(|found| found.op == "Pad" && uses.get(pad) == Some(&1))?;
    let Some(Constant::Ints(margins)) = &graph.nodes[padding.inputs[1]].constant else { return None };
    let (Attr::Ints(strides), Attr::Ints(dilations)) = (attr(node, "strides")?, attr(node, "dilations")?)
    else {
        return None;
    };
    let kernel = &floats(graph, node.inputs[1])?.shape;
    let size = &graph.nodes[padding.inputs[0]].shape;
    let equals_same = (0..2).all(|i| {
        let (Some(Some(size)), stride) = (size.get(1 + i), strides[1 + i]) else { return false };
        let (size, reach) = (*size as i64, (kernel[i] as i64 - 1) * dilations[1 + i] + 1);
        let total = ((size + stride - 1) / stride * stride - stride + reach - size).max(0);
        (i64::from(margins[2 + 2 * i]), i64::from(margins[3 + 2 * i])) == (total / 2, total - total / 2)
    });
    if equals_same {
        return Some((pad, Padding::Same));
    }
    let margins = margins.iter().copied().map(i64::from).collect();
    (node.op == "Conv2D").then_some((pad, Padding::Explicit(margins)))
}

fn attr<'a>(node: &'a Node, name: &str) -> Option<&'a Attr> {
    node.attrs.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}
