//! A configuration of layers and how they are connected, walked into a graph.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::file::{Place, Weights};
use super::ir::{Graph, Tensor};
use super::layer::{Layer, refused_layer};
use super::{layers, refused};
use crate::{Error, Result};

/// Models inside of models, at most.
const MAX_DEPTH: usize = 16;
const MAX_CALLS: usize = 100_000;

/// A model that was built.
pub(super) struct Built {
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    /// The output of each layer's first call, by the layer's name.
    pub(super) layers: HashMap<String, Tensor>,
}

/// Where a tensor comes from: layer, number of its call, number of its output.
type Origin = (String, usize, usize);

/// Builds a whole model with placeholders for its inputs; `size` (height, width) is that of pictures where the model
/// leaves it open.
pub(super) fn build(graph: &mut Graph, model: &Value, weights: &Weights, size: &[usize; 2]) -> Result<Built> {
    let place = Place { path: String::new(), layer: String::new() };
    Walk { graph, weights, size, depth: 0 }.model(model, &place, None)
}

struct Walk<'a> {
    graph: &'a mut Graph,
    weights: &'a Weights,
    size: &'a [usize; 2],
    depth: usize,
}

/// One entry of a configuration's list of layers.
struct Entry<'a> {
    name: &'a str,
    class: &'a str,
    config: &'a Value,
    place: Place,
    /// The tensors of each call.
    calls: Vec<Vec<Origin>>,
}

impl Walk<'_> {
    fn refused(&self, what: &str) -> Error {
        refused(self.weights.shown(), what)
    }

    fn model(&mut self, model: &Value, place: &Place, inputs: Option<&[Tensor]>) -> Result<Built> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.refused(&format!("its models are nested more than {MAX_DEPTH} deep")));
        }
        let class = model.get("class_name").and_then(Value::as_str).unwrap_or("nothing");
        let config = model.get("config").ok_or_else(|| self.refused("its configuration has no config"))?;
        let built = match class {
            "Functional" | "Model" => self.functional(config, place, inputs),
            "Sequential" => self.sequential(model, config, place, inputs),
            other => Err(self.refused(&format!(
                "it is a {other}, a class of its own; only Functional and Sequential models say how they are built"
            ))),
        }?;
        self.depth -= 1;
        Ok(built)
    }

    fn placeholder(&mut self, mut shape: Vec<Option<usize>>) -> Tensor {
        if let [_, height, width, _] = shape.as_mut_slice() {
            *height = height.or(Some(self.size[0]));
            *width = width.or(Some(self.size[1]));
        }
        self.graph.placeholder(shape)
    }

    fn entries<'v>(&self, config: &'v Value, place: &Place) -> Result<Vec<Entry<'v>>> {
        let broken = || self.refused("its configuration has no list of layers");
        let listed = config.get("layers").and_then(Value::as_array).ok_or_else(broken)?;
        let mut counted: HashMap<String, usize> = HashMap::new();
        let mut entries = Vec::with_capacity(listed.len());
        for value in listed {
            let class = value.get("class_name").and_then(Value::as_str).ok_or_else(broken)?;
            let config = value.get("config").ok_or_else(broken)?;
            let named = value.get("name").or_else(|| config.get("name")).and_then(Value::as_str);
            let name = named.ok_or_else(broken)?;
            if let Some(module) = value.get("module").and_then(Value::as_str)
                && !(module.starts_with("keras.layers")
                    || module.starts_with("keras.src.layers")
                    || is_model(class))
            {
                let why = format!("it comes from {module}, not from keras.layers");
                return Err(refused_layer(self.weights.shown(), name, class, &why));
            }
            let snake = snake_case(class);
            let count = counted.entry(snake.clone()).or_default();
            let suffix = if *count == 0 { String::new() } else { format!("_{count}") };
            *count += 1;
            let separator = if place.path.is_empty() { "" } else { "/" };
            let path = format!("{}{separator}layers/{snake}{suffix}", place.path);
            let calls = calls(value.get("inbound_nodes").unwrap_or(&Value::Null))
                .map_err(|why| refused_layer(self.weights.shown(), name, class, &why))?;
            entries.push(Entry { name, class, config, place: Place { path, layer: name.to_owned() }, calls });
        }
        Ok(entries)
    }

    fn functional(&mut self, config: &Value, place: &Place, given: Option<&[Tensor]>) -> Result<Built> {
        let entries = self.entries(config, place)?;
        let listed = |key: &str| {
            let found = config.get(key).and_then(origins).filter(|found| !found.is_empty());
            found.ok_or_else(|| self.refused(&format!("its configuration has no {key}")))
        };
        let (wanted, outputs) = (listed("input_layers")?, listed("output_layers")?);
        let mut known: HashMap<(&str, usize), Vec<Tensor>> = HashMap::new();
        let mut inputs = Vec::new();
        for (index, (name, _, _)) in wanted.iter().enumerate() {
            let entry = entries.iter().find(|entry| entry.name == name && entry.class == "InputLayer");
            let entry = entry.ok_or_else(|| self.refused(&format!("its input {name} is no layer of it")))?;
            let tensor = match given {
                Some(given) => given.get(index).cloned(),
                None => input_shape(entry.config).map(|shape| self.placeholder(shape)),
            };
            let tensor = tensor.ok_or_else(|| self.refused(&format!("its input {name} has no shape")))?;
            known.insert((entry.name, 0), vec![tensor.clone()]);
            inputs.push(tensor);
        }
        let mut open: Vec<(&Entry, usize)> = entries
            .iter()
            .flat_map(|entry| (0..entry.calls.len()).map(move |call| (entry, call)))
            .filter(|(entry, _)| entry.class != "InputLayer")
            .collect();
        if open.len() > MAX_CALLS {
            return Err(self.refused(&format!("it calls its layers more than {MAX_CALLS} times")));
        }
        let mut layers = HashMap::new();
        while !open.is_empty() {
            let before = open.len();
            let mut waiting = Vec::new();
            for (entry, call) in open {
                let ready: Option<Vec<Tensor>> =
                    entry.calls[call].iter().map(|origin| find(&known, origin)).collect();
                let Some(ready) = ready else {
                    waiting.push((entry, call));
                    continue;
                };
                let found = self.call(entry, &ready)?;
                if let (0, Some(first)) = (call, found.first()) {
                    layers.insert(entry.name.to_owned(), first.clone());
                }
                known.insert((entry.name, call), found);
            }
            if waiting.len() == before {
                let names: Vec<&str> = waiting.iter().take(3).map(|(entry, _)| entry.name).collect();
                return Err(self.refused(&format!("its layers {names:?} have inputs that nothing computes")));
            }
            open = waiting;
        }
        let outputs = outputs
            .iter()
            .map(|origin| {
                find(&known, origin)
                    .ok_or_else(|| self.refused(&format!("its output {} is not computed", origin.0)))
            })
            .collect::<Result<_>>()?;
        Ok(Built { inputs, outputs, layers })
    }

    fn sequential(
        &mut self,
        model: &Value,
        config: &Value,
        place: &Place,
        given: Option<&[Tensor]>,
    ) -> Result<Built> {
        let entries = self.entries(config, place)?;
        let shape = entries.first().and_then(|entry| input_shape(entry.config));
        let shape = shape.or_else(|| shape_of(config.get("build_input_shape")?));
        let shape = shape.or_else(|| shape_of(model.pointer("/build_config/input_shape")?));
        let input = match given {
            Some([input]) => Some(input.clone()),
            Some(_) => None,
            None => shape.map(|shape| self.placeholder(shape)),
        };
        let input = input.ok_or_else(|| self.refused("it is a Sequential model whose input has no shape"))?;
        let mut layers = HashMap::new();
        let mut last = input.clone();
        for entry in entries.iter().filter(|entry| entry.class != "InputLayer") {
            let mut found = self.call(entry, &[last])?;
            if found.len() != 1 {
                return Err(self.refused(&format!("its layer {} has several outputs", entry.name)));
            }
            last = found.swap_remove(0);
            layers.insert(entry.name.to_owned(), last.clone());
        }
        Ok(Built { inputs: vec![input], outputs: vec![last], layers })
    }

    fn call(&mut self, entry: &Entry, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        if is_model(entry.class) {
            if matches!(self.weights, Weights::Layers(..)) {
                let why = "a model inside of a model is built from .keras files, not from .h5";
                return Err(refused_layer(self.weights.shown(), entry.name, entry.class, why));
            }
            let whole = serde_json::json!({"class_name": entry.class, "config": entry.config});
            return Ok(self.model(&whole, &entry.place, Some(inputs))?.outputs);
        }
        let layer = Layer {
            name: entry.name,
            class: entry.class,
            config: entry.config,
            place: entry.place.clone(),
            weights: self.weights,
        };
        Ok(vec![layers::build(self.graph, &layer, inputs)?])
    }
}

/// How many layers of each class the output of `layer` depends on; of a Sequential model, those up to it. Layers that
/// compute nothing at inference do not count.
pub(super) fn classes_before(model: &Value, layer: &str) -> BTreeMap<String, usize> {
    let listed = model.pointer("/config/layers").and_then(Value::as_array);
    let text =
        |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let entries: Vec<(String, String, &Value)> = listed
        .into_iter()
        .flatten()
        .map(|entry| {
            let name = entry.get("name").or_else(|| entry.pointer("/config/name"));
            let name = name.and_then(Value::as_str).unwrap_or_default().to_owned();
            (name, text(entry, "class_name"), entry.get("inbound_nodes").unwrap_or(&Value::Null))
        })
        .collect();
    let mut open = vec![layer.to_owned()];
    if text(model, "class_name") == "Sequential" {
        let end = entries.iter().position(|(name, _, _)| name == layer).map_or(0, |end| end + 1);
        open = entries.iter().take(end).map(|(name, _, _)| name.clone()).collect();
    }
    let mut seen = HashSet::new();
    let mut counts = BTreeMap::new();
    while let Some(name) = open.pop() {
        let Some((_, class, nodes)) = entries.iter().find(|(known, _, _)| *known == name) else { continue };
        if !seen.insert(name) {
            continue;
        }
        open.extend(calls(nodes).unwrap_or_default().into_iter().flatten().map(|origin| origin.0));
        if class != "InputLayer" && !layers::is_idle(class) {
            *counts.entry(class.clone()).or_default() += 1;
        }
    }
    counts
}

fn is_model(class: &str) -> bool {
    matches!(class, "Functional" | "Model" | "Sequential")
}

fn find(known: &HashMap<(&str, usize), Vec<Tensor>>, origin: &Origin) -> Option<Tensor> {
    known.get(&(origin.0.as_str(), origin.1))?.get(origin.2).cloned()
}

/// The inputs of each call of a layer: as Keras 3 writes them, `{"args": …, "kwargs": …}`, or as Keras 2,
/// `[["name", 0, 0, {}], …]`.
fn calls(nodes: &Value) -> std::result::Result<Vec<Vec<Origin>>, String> {
    let Some(nodes) = nodes.as_array() else { return Ok(Vec::new()) };
    nodes.iter().map(call).collect()
}

fn call(node: &Value) -> std::result::Result<Vec<Origin>, String> {
    let mut found = Vec::new();
    if let Some(arguments) = node.get("args") {
        if !tensors(arguments, &mut found) {
            return Err("it is called with values that are no tensors".to_owned());
        }
        for (key, value) in node.get("kwargs").and_then(Value::as_object).into_iter().flatten() {
            let harmless = value.is_null() || (key == "training" && value == false);
            if !harmless {
                return Err(format!("it is called with {key}={value}, which is not built from files"));
            }
        }
        return Ok(found);
    }
    let old = |origin: &Value| {
        let plain = origin.get(3).is_none_or(|kwargs| {
            kwargs.as_object().is_none_or(|kwargs| {
                kwargs.iter().all(|(key, value)| value.is_null() || (key == "training" && value == false))
            })
        });
        self::origin(origin).filter(|_| plain)
    };
    let listed = node.as_array().and_then(|origins| origins.iter().map(old).collect());
    listed.ok_or_else(|| "its calls cannot be read".to_owned())
}

/// Collects tensors from arguments; false where there is anything else.
fn tensors(value: &Value, into: &mut Vec<Origin>) -> bool {
    match value {
        Value::Array(values) => values.iter().all(|value| tensors(value, into)),
        Value::Object(object)
            if object.get("class_name").and_then(Value::as_str) == Some("__keras_tensor__") =>
        {
            let found = value.pointer("/config/keras_history").and_then(origin);
            into.extend(found.clone());
            found.is_some()
        }
        Value::Null => true,
        _ => false,
    }
}

/// `["name", 0, 0]`.
fn origin(value: &Value) -> Option<Origin> {
    let number = |index| value.get(index)?.as_u64().and_then(|number| usize::try_from(number).ok());
    Some((value.get(0)?.as_str()?.to_owned(), number(1)?, number(2)?))
}

/// One origin, a list of them, or origins by name.
fn origins(value: &Value) -> Option<Vec<Origin>> {
    match value {
        Value::Array(_) if origin(value).is_some() => Some(vec![origin(value)?]),
        Value::Array(values) => values.iter().map(origin).collect(),
        Value::Object(values) => values.values().map(origin).collect(),
        _ => None,
    }
}

/// The shape of an input, batch first: `batch_shape`, or Keras 2's `batch_input_shape`.
fn input_shape(config: &Value) -> Option<Vec<Option<usize>>> {
    shape_of(config.get("batch_shape").or_else(|| config.get("batch_input_shape"))?)
}

fn shape_of(value: &Value) -> Option<Vec<Option<usize>>> {
    let mut shape = value
        .as_array()?
        .iter()
        .map(|side| match side {
            Value::Null => Some(None),
            side => Some(Some(usize::try_from(side.as_u64()?).ok()?)),
        })
        .collect::<Option<Vec<_>>>()?;
    // Batches of any size, whatever the one of training was.
    *shape.first_mut()? = None;
    Some(shape)
}

/// Keras' own rule: `MobileNetV2` → `mobile_net_v2`, `Conv2D` → `conv2d`.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut words = String::new();
    for (index, letter) in letters.iter().enumerate() {
        let next_is_lower = letters.get(index + 1).is_some_and(char::is_ascii_lowercase);
        let after_lower = index > 0 && letters[index - 1].is_ascii_lowercase();
        if index > 0 && letter.is_ascii_uppercase() && (next_is_lower || after_lower) && !words.ends_with('_')
        {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn classes_are_named_as_keras_names_them() {
        for (class, expected) in [
            ("Conv2D", "conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("BatchNormalization", "batch_normalization"),
            ("ReLU", "re_lu"),
            ("PReLU", "p_re_lu"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("LSTM", "lstm"),
            ("GRU", "gru"),
            ("SimpleRNN", "simple_rnn"),
            ("ZeroPadding2D", "zero_padding2d"),
            ("TFSMLayer", "tfsm_layer"),
            ("MultiHeadAttention", "multi_head_attention"),
        ] {
            assert_eq!(snake_case(class), expected);
        }
    }
}
