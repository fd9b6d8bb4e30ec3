//! Attention: sums of values, weighted by how queries and keys fit.

use super::convolution::on_rows;
use super::softmax_over;
use crate::Result;
use crate::keras::calls::Argument;
use crate::keras::file::Variable;
use crate::keras::hdf5::Array;
use crate::keras::ir::{Attr, DT_INT32, Graph, Tensor};
use crate::keras::layer::Layer;

/// What masked scores count as before the softmax.
const MASKED: f32 = -1e30;

/// Which scores `[…, queries, keys]` count, if not all.
struct Masks {
    query: Option<Tensor>,
    value: Option<Tensor>,
    key: Option<Tensor>,
    given: Option<Tensor>,
    causal: bool,
    /// Keys at most this far from the query, less one.
    window: Option<usize>,
}

impl Masks {
    /// All of them as one bool mask `[batch or 1, queries or 1, keys]`.
    fn joined(
        &self,
        graph: &mut Graph,
        layer: &Layer,
        queries: &Tensor,
        keys: &Tensor,
    ) -> Result<Option<Tensor>> {
        let mut found: Vec<Tensor> = Vec::new();
        if let Some(mask) = &self.query {
            found.push(graph.expand_dims(mask, 2));
        }
        for mask in [&self.value, &self.key].into_iter().flatten() {
            found.push(graph.expand_dims(mask, 1));
        }
        if self.causal || self.window.is_some() {
            let (Some(rows), Some(columns)) = (queries.shape[1], keys.shape[1]) else {
                return Err(layer.refused("the number of its steps is not known"));
            };
            found.extend(self.near(graph, rows, columns));
        }
        found.extend(self.given.clone());
        let mut found = found.into_iter();
        let Some(first) = found.next() else { return Ok(None) };
        let joined = found.try_fold(first, |so_far, mask| graph.both(&so_far, &mask));
        joined.map(Some).ok_or_else(|| layer.refused("its masks do not fit each other"))
    }

    /// Masks [1, queries, keys] by how far the key is from the query: computed, for they have the square of the steps.
    fn near(&self, graph: &mut Graph, rows: usize, columns: usize) -> Vec<Tensor> {
        let mut range = |count: usize, shape: Vec<Option<usize>>| {
            let (start, end) = (graph.scalar_int(0), graph.scalar_int(count as i32));
            let step = graph.scalar_int(1);
            let attrs = vec![("Tidx", Attr::Type(DT_INT32))];
            let range = graph.typed("Range", &[&start, &end, &step], attrs, (vec![Some(count)], DT_INT32));
            let dims = graph.ints(shape.iter().map(|side| side.map_or(1, |side| side as i32)).collect());
            graph.reshape_to(&range, &dims, shape)
        };
        let row = range(rows, vec![Some(1), Some(rows), Some(1)]);
        let column = range(columns, vec![Some(1), Some(1), Some(columns)]);
        let shape = vec![Some(1), Some(rows), Some(columns)];
        let ahead = graph.op("Sub", &[&column, &row], Vec::new(), shape);
        let mut found = Vec::new();
        if self.causal {
            found.push(graph.compare_scalar("LessEqual", &ahead, 0.0));
        }
        if let Some(most) = self.window {
            let far = graph.unary("Abs", &ahead);
            found.push(graph.compare_scalar("Less", &far, most as f32));
        }
        found
    }
}

/// `Attention` and `AdditiveAttention`, called with `[query, value]` or `[query, value, key]`.
pub(super) fn scored(graph: &mut Graph, layer: &Layer) -> Result<Vec<Tensor>> {
    let inputs = layer.inputs(&["mask", "return_attention_scores", "use_causal_mask"])?;
    let (query, value, key) = match inputs.as_slice() {
        [query, value] => (query, value, value),
        [query, value, key] => (query, value, key),
        _ => {
            return Err(
                layer.refused(&format!("it is called with {} inputs, not two or three", inputs.len()))
            );
        }
    };
    for input in &inputs {
        layer.rank(input, 3)?;
    }
    let fits = || layer.refused("the shapes of its inputs do not fit");
    let mut masks = [query.mask.as_deref().cloned(), value.mask.as_deref().cloned()];
    if let Some(Argument::List(given)) = layer.call.named("mask") {
        for (mask, given) in masks.iter_mut().zip(given) {
            *mask = match given {
                Argument::Tensor(tensor) => Some(tensor.clone()),
                _ => None,
            };
        }
    }
    let [query_mask, value_mask] = masks;
    let use_scale = layer.flag("use_scale", layer.class == "AdditiveAttention")?;
    let additive = layer.class == "AdditiveAttention";
    let scores = if additive || layer.text("score_mode", "dot")? == "concat" {
        let (rows, columns) = (graph.expand_dims(query, 2), graph.expand_dims(key, 1));
        let mut sum = graph.binary("AddV2", &rows, &columns).ok_or_else(fits)?;
        let scale = match (use_scale, additive) {
            (false, _) => None,
            (true, true) => Some(layer.variable(0, "scale", &[layer.channels(query)?])?),
            (true, false) => Some(layer.variable(0, "scale", &[])?),
        };
        let scale = scale.map(|scale| graph.array(scale));
        if let (Some(scale), false) = (&scale, additive) {
            sum = graph.binary("Mul", &sum, scale).ok_or_else(fits)?;
        }
        let mut bent = graph.unary("Tanh", &sum);
        if let (Some(scale), true) = (&scale, additive) {
            bent = graph.binary("Mul", &bent, scale).ok_or_else(fits)?;
        }
        let scores = graph.reduce("Sum", &bent, &[3], false);
        if additive {
            scores
        } else {
            let weight = layer.variable(usize::from(use_scale), "concat_score_weight", &[])?;
            let weight = graph.array(weight);
            graph.binary("Mul", &scores, &weight).ok_or_else(fits)?
        }
    } else {
        let scores = graph.batch_matmul(query, key, true);
        if use_scale {
            let scale = layer.variable(0, "scale", &[])?;
            let scale = graph.array(scale);
            graph.binary("Mul", &scores, &scale).ok_or_else(fits)?
        } else {
            scores
        }
    };
    let causal = layer.called_with("use_causal_mask");
    let masks = Masks { query: None, value: value_mask, key: None, given: None, causal, window: None };
    let mut kept = scores.clone();
    if let Some(mask) = masks.joined(graph, layer, query, key)? {
        // As Keras does: what is masked is a billion less, so that a row with nothing else keeps its order.
        let less = graph.with_scalar("Sub", &scores, 1e9);
        kept = graph.select(&mask, &scores, &less).ok_or_else(fits)?;
    }
    let weights = softmax_over(graph, &kept, 2);
    let mut output = graph.batch_matmul(&weights, value, false);
    if let Some(mask) = &query_mask {
        let (wide, zero) = (graph.expand_dims(mask, 2), graph.scalar(0.0));
        output = graph.select(&wide, &output, &zero).ok_or_else(fits)?;
    }
    let output = output.with_mask(query_mask.map(Box::new));
    Ok(if layer.called_with("return_attention_scores") { vec![output, weights] } else { vec![output] })
}

/// One of the projections, `input · kernel + bias`: its place among the layer's variables, and the shapes that Keras gives
/// them, of which the last dimensions are the result's.
struct Projection<'a> {
    owner: &'a str,
    flat: usize,
    kernel: &'a [usize],
    bias: &'a [usize],
}

/// A projection of [batch, steps, features] to [batch, steps, features].
fn projected(graph: &mut Graph, layer: &Layer, input: &Tensor, projection: &Projection) -> Result<Tensor> {
    let Projection { owner, flat, kernel, bias } = *projection;
    let variable = |name, index| Variable { name, owner, index, flat: flat + index };
    let columns = bias.iter().product();
    let flattened = |array: Array, shape: &[usize]| Array { shape: shape.to_vec(), ..array };
    let weights =
        flattened(layer.variable_of(variable("kernel", 0), kernel)?, &[layer.channels(input)?, columns]);
    let weights = graph.array(weights);
    let added = if layer.flag("use_bias", true)? {
        Some(flattened(layer.variable_of(variable("bias", 1), bias)?, &[columns]))
    } else {
        None
    };
    on_rows(graph, input, |graph, rows| {
        let product = graph.matmul(rows, &weights);
        Ok(match added {
            Some(added) => {
                let added = graph.array(added);
                graph.bias_add(&product, &added)
            }
            None => product,
        })
    })
}

/// `[batch, steps, heads · size]` as `[batch, heads, steps, size]`.
fn split(graph: &mut Graph, input: &Tensor, heads: usize, size: usize) -> Tensor {
    let shape = vec![None, input.shape[1], Some(heads), Some(size)];
    let heads = match input.shape[1] {
        Some(steps) => graph.reshape(input, &[steps, heads, size]),
        None => {
            let dims = graph.dims(input, 2, &[heads, size]);
            graph.reshape_to(input, &dims, shape)
        }
    };
    graph.transpose(&heads, &[0, 2, 1, 3])
}

/// And back.
fn joined(graph: &mut Graph, input: &Tensor, width: usize) -> Tensor {
    let turned = graph.transpose(input, &[0, 2, 1, 3]);
    match turned.shape[1] {
        Some(steps) => graph.reshape(&turned, &[steps, width]),
        None => {
            let dims = graph.dims(&turned, 2, &[width]);
            graph.reshape_to(&turned, &dims, vec![None, None, Some(width)])
        }
    }
}

/// `MultiHeadAttention` and `GroupQueryAttention`, over the steps of `[batch, steps, features]`.
pub(super) fn multi_head(graph: &mut Graph, layer: &Layer) -> Result<Vec<Tensor>> {
    let names = ["query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask"];
    layer.inputs(&[&names[..], &["return_attention_scores", "use_causal_mask"]].concat())?;
    let needed = |name: &str, place| {
        let found = layer.argument(name, Some(place))?;
        found.ok_or_else(|| layer.refused(&format!("it is called without a {name}")))
    };
    let (query, value) = (needed("query", 0)?, needed("value", 1)?);
    let key = layer.argument("key", Some(2))?;
    for input in [Some(&query), Some(&value), key.as_ref()].into_iter().flatten() {
        layer.rank(input, 3)?;
    }
    if layer.flag("use_gate", false)? {
        return Err(layer.refused("use_gate is not built from files"));
    }
    if layer.has("attention_axes") && layer.axes("attention_axes", 3)? != [1] {
        return Err(layer.refused("attention over other axes than the steps is not built from files"));
    }
    let grouped = layer.class != "MultiHeadAttention";
    let (heads, shared, size) = if grouped {
        (layer.size("num_query_heads")?, layer.size("num_key_value_heads")?, layer.size("head_dim")?)
    } else {
        (layer.size("num_heads")?, layer.size("num_heads")?, layer.size("key_dim")?)
    };
    let value_size = if layer.has("value_dim") { layer.size("value_dim")? } else { size };
    if shared == 0 || heads % shared != 0 {
        return Err(layer.refused(&format!("{heads} heads of queries do not share {shared} of keys")));
    }
    let features = layer.channels(&query)?;
    let target = match layer.config.get("output_shape") {
        None | Some(serde_json::Value::Null) => features,
        Some(_) => layer.sizes("output_shape", 1)?[0],
    };
    let prefix = if grouped { "_" } else { "" };
    let owner = |name: &str| format!("{prefix}{name}_dense");
    let step = if layer.flag("use_bias", true)? { 2 } else { 1 };
    let keys = key.clone().unwrap_or_else(|| value.clone());
    let mut part = |input: &Tensor, name: &str, place: usize, heads: usize, size: usize| {
        let (kernel, bias) = ([layer.channels(input)?, heads, size], [heads, size]);
        let owner = owner(name);
        let projection = Projection { owner: &owner, flat: place * step, kernel: &kernel, bias: &bias };
        let wide = projected(graph, layer, input, &projection)?;
        Ok(split(graph, &wide, heads, size))
    };
    let queries = part(&query, "query", 0, heads, size)?;
    let mut projected_keys = part(&keys, "key", 1, shared, size)?;
    let mut values = part(&value, "value", 2, shared, value_size)?;
    if shared != heads {
        for tensor in [&mut projected_keys, &mut values] {
            // Each head of the keys once for each head of queries that it serves.
            let parts: Vec<Tensor> =
                (0..heads).map(|head| graph.cut(tensor, 1, head * shared / heads, 1)).collect();
            let mut shape = tensor.shape.clone();
            shape[1] = Some(heads);
            *tensor = graph.concat(&parts.iter().collect::<Vec<_>>(), 1, shape);
        }
    }
    let mask = |name: &str, implicit: Option<&Tensor>| -> Result<Option<Tensor>> {
        Ok(layer.argument(name, None)?.or_else(|| implicit?.mask.as_deref().cloned()))
    };
    let given = layer.argument("attention_mask", None)?;
    let given = given.map(|given| match given.dtype {
        crate::keras::ir::DT_BOOL => given,
        _ => graph.compare_scalar("NotEqual", &given, 0.0),
    });
    let window = if layer.has("sliding_window") { Some(layer.size("sliding_window")?) } else { None };
    let query_mask = mask("query_mask", Some(&query))?;
    let masks = Masks {
        query: query_mask.clone(),
        value: mask("value_mask", Some(&value))?,
        key: mask("key_mask", key.as_ref())?,
        given,
        causal: layer.called_with("use_causal_mask"),
        window,
    };
    let scaled = graph.with_scalar("Mul", &queries, 1.0 / (size as f32).sqrt());
    let mut scores = graph.batch_matmul(&scaled, &projected_keys, true);
    let fits = || layer.refused("its masks do not fit its inputs");
    let mask = masks.joined(graph, layer, &query, &keys)?;
    let mask = mask.map(|mask| if mask.rank() == 3 { graph.expand_dims(&mask, 1) } else { mask });
    if let Some(mask) = &mask {
        let least = graph.scalar(MASKED);
        scores = graph.select(mask, &scores, &least).ok_or_else(fits)?;
    }
    let mut weights = softmax_over(graph, &scores, 3);
    let with_scores = layer.called_with("return_attention_scores");
    if let (Some(mask), true) = (&mask, with_scores || layer.number("dropout", 0.0)? > 0.0) {
        // The path that Keras takes then gives 0 to a query for which nothing counts, the other one the mean.
        let zero = graph.scalar(0.0);
        weights = graph.select(mask, &weights, &zero).ok_or_else(fits)?;
    }
    let heard = graph.batch_matmul(&weights, &values, false);
    let heard = joined(graph, &heard, heads * value_size);
    let (kernel, bias) = ([heads, value_size, target], [target]);
    let owner = owner("output");
    let projection = Projection { owner: &owner, flat: 3 * step, kernel: &kernel, bias: &bias };
    let output = projected(graph, layer, &heard, &projection)?.with_mask(query_mask.map(Box::new));
    Ok(if with_scores { vec![output, weights] } else { vec![output] })
}
