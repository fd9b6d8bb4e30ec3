//! Recurrent layers, one step after the other: the number of steps must be known.

use serde_json::Value;

use super::by_name;
use super::convolution::on_rows;
use crate::Result;
use crate::keras::calls::Call;
use crate::keras::file::Variable;
use crate::keras::ir::{Attr, Graph, Tensor};
use crate::keras::layer::Layer;

/// More steps would make a graph that takes long to load.
const MAX_STEPS: usize = 1024;

/// The weights of a cell.
struct Cell<'a> {
    layer: &'a Layer<'a>,
    units: usize,
    recurrent: Tensor,
    /// Of `SimpleRNN` and `LSTM` it is in the inputs already; of `GRU` with `reset_after` the recurrent one.
    bias: Option<Tensor>,
}

/// `SimpleRNN`, `LSTM`, `GRU`.
pub(super) fn recurrent(graph: &mut Graph, layer: &Layer) -> Result<Vec<Tensor>> {
    let mut inputs = layer.inputs(&["mask", "initial_state"])?;
    if let (Some(mask), Some(first)) = (layer.argument("mask", None)?, inputs.first_mut()) {
        first.mask = Some(Box::new(mask));
    }
    let mut states: Vec<Tensor> = inputs.split_off(inputs.len().min(1));
    if let Some(given) = layer.call.named("initial_state") {
        states = Call::of(vec![given.clone()]).tensors();
    }
    let input = layer.one(&inputs)?;
    run(
        graph,
        layer,
        &Part { class: layer.class, config: layer.config, owner: "cell", flat: 0 },
        input,
        states,
    )
}

/// A recurrent layer, which may be inside of another.
struct Part<'a> {
    class: &'a str,
    config: &'a Value,
    /// Where its variables are below the outer layer, and the number of the first among all of that one's.
    owner: &'a str,
    flat: usize,
}

fn run(
    graph: &mut Graph,
    outer: &Layer,
    part: &Part,
    input: &Tensor,
    states: Vec<Tensor>,
) -> Result<Vec<Tensor>> {
    let Part { class, config, owner, flat } = *part;
    let layer = &Layer { class, config, place: outer.place.clone(), ..*outer };
    layer.rank(input, 3)?;
    if layer.flag("stateful", false)? {
        return Err(layer.refused("a state that is kept from batch to batch is not built from files"));
    }
    if layer.flag("time_major", false)? {
        return Err(layer.refused("time_major is not built from files"));
    }
    let steps = input.shape[1].filter(|steps| (1..=MAX_STEPS).contains(steps)).ok_or_else(|| {
        let found = input.shape[1].map_or("an open number of".to_owned(), |steps| steps.to_string());
        layer.refused(&format!("its input has {found} steps; from 1 to {MAX_STEPS} are built from files"))
    })?;
    let (features, units) = (layer.channels(input)?, layer.size("units")?);
    let gates = match layer.class {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let wide = gates * units;
    let variable = |name, index| Variable { name, owner, index, flat: flat + index };
    let kernel = layer.variable_of(variable("kernel", 0), &[features, wide])?;
    let recurrent = layer.variable_of(variable("recurrent kernel", 1), &[units, wide])?;
    let (kernel, recurrent) = (graph.array(kernel), graph.array(recurrent));
    let two = layer.class == "GRU" && layer.flag("reset_after", true)?;
    let mut bias = None;
    let mut first = None;
    if layer.flag("use_bias", true)? {
        let shape = if two { vec![2, wide] } else { vec![wide] };
        let values = layer.variable_of(variable("bias", 2), &shape)?.values;
        let (one, other) = values.split_at(wide);
        first = Some(graph.floats(one.to_vec(), &[wide]));
        bias = two.then(|| graph.floats(other.to_vec(), &[wide]));
    }
    // Steps first, so that each lies in one piece.
    let turned = graph.transpose(input, &[1, 0, 2]);
    let projected = on_rows(graph, &turned, |graph, rows| {
        let product = graph.matmul(rows, &kernel);
        Ok(first.map_or(product.clone(), |first| graph.bias_add(&product, &first)))
    })?;
    let projected = graph.unpack(&projected, steps);
    let cell = Cell { layer, units, recurrent, bias };
    let needed = if layer.class == "LSTM" { 2 } else { 1 };
    let mut states = match states.len() {
        0 => {
            let dims = graph.dims(input, 1, &[units]);
            let zero = graph.scalar(0.0);
            let fill = vec![("T", Attr::Type(input.dtype)), ("index_type", Attr::Type(dims.dtype))];
            let zeros = graph.typed("Fill", &[&dims, &zero], fill, (vec![None, Some(units)], input.dtype));
            vec![zeros; needed]
        }
        found if found == needed => states,
        found => return Err(layer.refused(&format!("it is called with {found} states, not {needed}"))),
    };
    let mut order: Vec<usize> = (0..steps).collect();
    if layer.flag("go_backwards", false)? {
        order.reverse();
    }
    let zero = graph.scalar(0.0);
    let fits = || layer.refused("its mask does not fit its input");
    let mut outputs: Vec<Tensor> = Vec::with_capacity(steps);
    for step in order {
        let found = cell.step(graph, projected.get(step).ok_or_else(fits)?, &states)?;
        let mut output = found.first().cloned().ok_or_else(fits)?;
        let Some(mask) = &input.mask else {
            states = found;
            outputs.push(output);
            continue;
        };
        // Where a step does not count, states and output stay.
        let counts = graph.cut(mask, 1, step, 1);
        let before = match outputs.last() {
            Some(before) => before.clone(),
            None => graph.op("ZerosLike", &[&output], Vec::new(), output.shape.clone()),
        };
        output = graph.select(&counts, &output, &before).ok_or_else(fits)?;
        states = found
            .iter()
            .zip(&states)
            .map(|(new, old)| graph.select(&counts, new, old))
            .collect::<Option<_>>()
            .ok_or_else(fits)?;
        outputs.push(output);
    }
    if let (Some(mask), true) = (&input.mask, layer.flag("zero_output_for_mask", false)?) {
        let mut order: Vec<usize> = (0..steps).collect();
        if layer.flag("go_backwards", false)? {
            order.reverse();
        }
        for (output, step) in outputs.iter_mut().zip(order) {
            let counts = graph.cut(mask, 1, step, 1);
            *output = graph.select(&counts, output, &zero).ok_or_else(fits)?;
        }
    }
    let mut result = if layer.flag("return_sequences", false)? {
        let whole = graph.pack(&outputs);
        vec![whole.with_mask(input.mask.clone())]
    } else {
        outputs.pop().into_iter().collect()
    };
    if layer.flag("return_state", false)? {
        result.extend(states);
    }
    Ok(result)
}

impl Cell<'_> {
    /// The states behind one step, the output first.
    fn step(&self, graph: &mut Graph, input: &Tensor, states: &[Tensor]) -> Result<Vec<Tensor>> {
        let [hidden, ..] = states else { return Ok(Vec::new()) };
        match self.layer.class {
            "LSTM" => {
                let inner = graph.matmul(hidden, &self.recurrent);
                let all = self.sum(graph, input, &inner);
                let gates = graph.split(&all, 4);
                let [i, f, c, o] = gates.as_slice() else { return Ok(Vec::new()) };
                let i = self.recurrent_activation(graph, i)?;
                let f = self.recurrent_activation(graph, f)?;
                let o = self.recurrent_activation(graph, o)?;
                let c = self.activation(graph, c)?;
                let new = self.times(graph, &i, &c);
                let kept = self.times(graph, &f, states.get(1).unwrap_or(hidden));
                let carry = self.sum(graph, &kept, &new);
                let shown = self.activation(graph, &carry)?;
                Ok(vec![self.times(graph, &o, &shown), carry])
            }
            "GRU" => self.gated(graph, input, hidden),
            _ => {
                let inner = graph.matmul(hidden, &self.recurrent);
                let all = self.sum(graph, input, &inner);
                Ok(vec![self.activation(graph, &all)?])
            }
        }
    }

    fn gated(&self, graph: &mut Graph, input: &Tensor, hidden: &Tensor) -> Result<Vec<Tensor>> {
        let units = self.units;
        let after = self.layer.flag("reset_after", true)?;
        let mut inner = if after {
            graph.matmul(hidden, &self.recurrent)
        } else {
            let first = graph.cut(&self.recurrent, 1, 0, 2 * units);
            graph.matmul(hidden, &first)
        };
        if let Some(bias) = &self.bias {
            inner = graph.op("AddV2", &[&inner, bias], Vec::new(), inner.shape.clone());
        }
        let given = graph.split(input, 3);
        let recalled = graph.split(&inner, if after { 3 } else { 2 });
        let ([given_update, given_reset, given], [inner_update, inner_reset, ..]) =
            (given.as_slice(), recalled.as_slice())
        else {
            return Ok(Vec::new());
        };
        let both = |graph: &mut Graph, left: &Tensor, right: &Tensor| {
            let sum = self.sum(graph, left, right);
            self.recurrent_activation(graph, &sum)
        };
        let update = both(graph, given_update, inner_update)?;
        let reset = both(graph, given_reset, inner_reset)?;
        let recalled = match recalled.get(2) {
            Some(inner) => self.times(graph, &reset, inner),
            None => {
                let kept = self.times(graph, &reset, hidden);
                let last = graph.cut(&self.recurrent, 1, 2 * units, units);
                graph.matmul(&kept, &last)
            }
        };
        let candidate = self.sum(graph, given, &recalled);
        let candidate = self.activation(graph, &candidate)?;
        // update * hidden + (1 - update) * candidate
        let difference = graph.op("Sub", &[hidden, &candidate], Vec::new(), candidate.shape.clone());
        let kept = self.times(graph, &update, &difference);
        Ok(vec![self.sum(graph, &candidate, &kept)])
    }

    fn sum(&self, graph: &mut Graph, left: &Tensor, right: &Tensor) -> Tensor {
        graph.op("AddV2", &[left, right], Vec::new(), left.shape.clone())
    }

    fn times(&self, graph: &mut Graph, left: &Tensor, right: &Tensor) -> Tensor {
        graph.op("Mul", &[left, right], Vec::new(), left.shape.clone())
    }

    fn activation(&self, graph: &mut Graph, input: &Tensor) -> Result<Tensor> {
        self.named(graph, "activation", input)
    }

    fn recurrent_activation(&self, graph: &mut Graph, input: &Tensor) -> Result<Tensor> {
        self.named(graph, "recurrent_activation", input)
    }

    fn named(&self, graph: &mut Graph, key: &str, input: &Tensor) -> Result<Tensor> {
        let name = self.layer.function(key)?;
        by_name(graph, name, input)
            .ok_or_else(|| self.layer.refused(&format!("its {key} {name} is not built from files")))
    }
}

/// `Bidirectional(layer, merge_mode)`.
pub(super) fn bidirectional(graph: &mut Graph, layer: &Layer) -> Result<Vec<Tensor>> {
    let mut inputs = layer.inputs(&["mask", "initial_state"])?;
    if let (Some(mask), Some(first)) = (layer.argument("mask", None)?, inputs.first_mut()) {
        first.mask = Some(Box::new(mask));
    }
    let mut states: Vec<Tensor> = inputs.split_off(inputs.len().min(1));
    if let Some(given) = layer.call.named("initial_state") {
        states = Call::of(vec![given.clone()]).tensors();
    }
    let input = layer.one(&inputs)?;
    let wrapped = |key: &str| -> Result<Option<(&str, Value)>> {
        let Some(found) = layer.config.get(key).filter(|found| !found.is_null()) else { return Ok(None) };
        let class = found.get("class_name").and_then(Value::as_str);
        let class = class.filter(|class| matches!(*class, "LSTM" | "GRU" | "SimpleRNN"));
        let class = class.ok_or_else(|| layer.refused("the layer inside of it is not built from files"))?;
        Ok(Some((class, found.get("config").cloned().unwrap_or(Value::Null))))
    };
    let (class, forward) = wrapped("layer")?.ok_or_else(|| layer.refused("it has no layer"))?;
    let (other, backward) = wrapped("backward_layer")?.unwrap_or_else(|| {
        let mut turned = forward.clone();
        let before = forward.get("go_backwards").and_then(Value::as_bool).unwrap_or(false);
        turned["go_backwards"] = Value::Bool(!before);
        (class, turned)
    });
    let later = states.split_off(states.len() / 2);
    let count = if forward.get("use_bias").and_then(Value::as_bool).unwrap_or(true) { 3 } else { 2 };
    let ahead = Part { class, config: &forward, owner: "forward_layer/cell", flat: 0 };
    let back = Part { class: other, config: &backward, owner: "backward_layer/cell", flat: count };
    let mut left = run(graph, layer, &ahead, input, states)?;
    let mut right = run(graph, layer, &back, input, later)?;
    let (states, more) = (left.split_off(1), right.split_off(1));
    let (left, mut right) = (left.swap_remove(0), right.swap_remove(0));
    let sequences = forward.get("return_sequences").and_then(Value::as_bool).unwrap_or(false);
    if sequences {
        let axis = graph.ints(vec![1]);
        let attrs = vec![("Tidx", Attr::Type(axis.dtype))];
        right = graph.op("ReverseV2", &[&right, &axis], attrs, right.shape.clone());
    }
    let fits = || layer.refused("its two directions do not fit each other");
    let mask = left.mask.clone();
    let mut outputs = match layer.config.get("merge_mode") {
        Some(Value::Null) => vec![left, right],
        mode => {
            let merged = match mode.and_then(Value::as_str).unwrap_or("concat") {
                "concat" => {
                    let axis = left.rank() - 1;
                    let mut shape = left.shape.clone();
                    shape[axis] = Some(layer.channels(&left)? + layer.channels(&right)?);
                    graph.concat(&[&left, &right], axis, shape)
                }
                "sum" => graph.binary("AddV2", &left, &right).ok_or_else(fits)?,
                "mul" => graph.binary("Mul", &left, &right).ok_or_else(fits)?,
                "ave" => {
                    let sum = graph.binary("AddV2", &left, &right).ok_or_else(fits)?;
                    graph.with_scalar("Mul", &sum, 0.5)
                }
                other => return Err(layer.refused(&format!("its merge_mode is {other}"))),
            };
            vec![merged.with_mask(mask)]
        }
    };
    outputs.extend(states);
    outputs.extend(more);
    Ok(outputs)
}
