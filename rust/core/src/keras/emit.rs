//! A graph as a serialised `GraphDef`, written piece by piece: weights are not copied into a message.

use std::collections::HashMap;
use std::io::{Result, Write};
use std::sync::Arc;

use super::hdf5::Array;
use super::ir::{Attr, Constant, DT_FLOAT, DT_INT32, Graph, Node, OUTPUT, Tensor};
use crate::graph::wire::Writer;

/// `GraphDef.versions.producer` of TensorFlow 2.16, the oldest that is used: with it `ResizeBilinear` and others have
/// the meaning they have today.
const PRODUCER: i64 = 1766;

/// Writes the nodes that `outputs` (name, tensor) need, and an `Identity` of each name for them.
pub(super) fn write(graph: &Graph, outputs: &[(&str, &Tensor)], into: &mut dyn Write) -> Result<()> {
    // An input that nothing needs is still one.
    let mut needed: Vec<bool> = graph.nodes.iter().map(|node| node.op == "Placeholder").collect();
    let mut open: Vec<usize> = outputs.iter().map(|(_, tensor)| tensor.node).collect();
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut needed[index], true) {
            open.extend(&graph.nodes[index].inputs);
        }
    }
    let same = same_constants(graph, &needed);
    let own = |index: usize| match graph.nodes[index].op {
        "Placeholder" => graph.nodes[index].name.clone(),
        op => format!("{op}_{}", same.get(&index).unwrap_or(&index)),
    };
    let name = |index: usize| match graph.nodes[index].attrs.as_slice() {
        [(_, Attr::Int(number)), ..] if graph.nodes[index].op == OUTPUT => {
            format!("{}:{number}", own(graph.nodes[index].inputs[0]))
        }
        _ => own(index),
    };
    let written =
        |index: &usize| needed[*index] && !same.contains_key(index) && graph.nodes[*index].op != OUTPUT;
    for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| written(index)) {
        let inputs: Vec<String> = node.inputs.iter().map(|input| name(*input)).collect();
        write_node(&own(index), &inputs, node, into)?;
    }
    for (output, tensor) in outputs {
        let attrs = vec![("T", Attr::Type(tensor.dtype))];
        let identity = Node { op: "Identity", attrs, ..Node::default() };
        write_node(output, &[name(tensor.node)], &identity, into)?;
    }
    let mut versions = Writer::default();
    versions.int(1, PRODUCER);
    let mut message = Writer::default();
    message.bytes(4, &versions.finish());
    into.write_all(&message.finish())
}

/// Constants that an earlier one equals: arrays of a layer that is called twice, and small whole numbers.
fn same_constants(graph: &Graph, needed: &[bool]) -> HashMap<usize, usize> {
    let mut arrays = HashMap::new();
    let mut numbers = HashMap::new();
    let mut same = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| needed[*index]) {
        let first = match &node.constant {
            Some(Constant::Floats(array)) => {
                *arrays.entry((Arc::as_ptr(&array.values), &array.shape)).or_insert(index)
            }
            Some(Constant::Ints(values)) => *numbers.entry((values, &node.shape)).or_insert(index),
            None => index,
        };
        if first != index {
            same.insert(index, first);
        }
    }
    same
}

fn write_node(name: &str, inputs: &[String], node: &Node, into: &mut dyn Write) -> Result<()> {
    let mut body = Writer::default();
    body.bytes(1, name.as_bytes());
    body.bytes(2, node.op.as_bytes());
    inputs.iter().for_each(|input| body.bytes(3, input.as_bytes()));
    for (key, value) in &node.attrs {
        let mut pair = Writer::default();
        pair.bytes(1, key.as_bytes());
        pair.bytes(2, &encoded(value));
        body.bytes(5, &pair.finish());
    }
    let head = body.finish();
    let value = node.constant.as_ref().map(|constant| value_attr(constant, &node.shape));
    let (tail, content) = value.unwrap_or_default();
    let length = content.map_or(0, |array| size_of_val(array.values.as_slice()));
    let mut start = Writer::default();
    start.header(1, head.len() + tail.len() + length);
    into.write_all(&start.finish())?;
    into.write_all(&head)?;
    into.write_all(&tail)?;
    let Some(array) = content else { return Ok(()) };
    let mut bytes = Vec::with_capacity(1 << 16);
    for values in array.values.chunks(1 << 14) {
        bytes.clear();
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        into.write_all(&bytes)?;
    }
    Ok(())
}

/// The entry `value` of a constant's attributes, up to where its floats follow.
fn value_attr<'a>(constant: &'a Constant, shape: &[Option<usize>]) -> (Vec<u8>, Option<&'a Array>) {
    let mut tensor = Writer::default();
    tensor.int(1, if matches!(constant, Constant::Floats(_)) { DT_FLOAT } else { DT_INT32 });
    tensor.bytes(2, &shape_proto(shape));
    let (length, content) = match constant {
        Constant::Floats(array) => (size_of_val(array.values.as_slice()), Some(array)),
        Constant::Ints(values) => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensor.bytes(4, &bytes);
            (0, None)
        }
    };
    if content.is_some() {
        tensor.header(4, length);
    }
    let tensor = tensor.finish();
    let mut value = Writer::default();
    value.header(8, tensor.len() + length);
    let value = value.finish();
    let mut pair = Writer::default();
    pair.bytes(1, b"value");
    pair.header(2, value.len() + tensor.len() + length);
    let pair = pair.finish();
    let mut entry = Writer::default();
    entry.header(5, pair.len() + value.len() + tensor.len() + length);
    ([entry.finish(), pair, value, tensor].concat(), content)
}

fn shape_proto(shape: &[Option<usize>]) -> Vec<u8> {
    let mut message = Writer::default();
    for side in shape {
        let mut dim = Writer::default();
        dim.int(1, side.map_or(-1, |side| side as i64));
        message.bytes(2, &dim.finish());
    }
    message.finish()
}

/// An `AttrValue`.
fn encoded(attr: &Attr) -> Vec<u8> {
    let mut value = Writer::default();
    match attr {
        Attr::Text(text) => value.bytes(2, text.as_bytes()),
        Attr::Int(number) => value.int(3, *number),
        Attr::Float(number) => value.float(4, *number),
        Attr::Bool(flag) => value.int(5, i64::from(*flag)),
        Attr::Type(dtype) => value.int(6, *dtype),
        Attr::Shape(shape) => value.bytes(7, &shape_proto(shape)),
        Attr::Ints(numbers) => {
            let mut packed = Writer::default();
            let mut list = Writer::default();
            numbers.iter().for_each(|number| packed.varint(number.cast_unsigned()));
            list.bytes(3, &packed.finish());
            value.bytes(1, &list.finish());
        }
    }
    value.finish()
}
