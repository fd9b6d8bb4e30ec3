//! A configuration as Keras writes it, read without building anything: names, classes, shapes, what depends on what.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::calls::{Call, calls};
use super::file::Place;
use super::ir::Shape;
use super::layers;

pub(super) fn input_name(config: &Value) -> &str {
    config.get("name").and_then(Value::as_str).unwrap_or("input")
}

/// Where the variables of each entry of a list of layers are: Keras 3 counts the layers of each class.
pub(super) fn places(listed: &[Value], parent: &Place) -> Vec<Place> {
    let separator = if parent.path.is_empty() { "" } else { "/" };
    let mut counted: HashMap<String, usize> = HashMap::new();
    listed
        .iter()
        .map(|entry| {
            let snake = snake_case(text(entry, "class_name"));
            let count = counted.entry(snake.clone()).or_default();
            let suffix = if *count == 0 { String::new() } else { format!("_{count}") };
            *count += 1;
            let layer = name_of(entry).to_owned();
            let top = if parent.top.is_empty() { &layer } else { &parent.top }.clone();
            Place { path: format!("{}{separator}layers/{snake}{suffix}", parent.path), top, layer }
        })
        .collect()
}

/// The layers of a model that own variables, in the order of the configuration: all of them, and those that the output
/// of the layer `before` depends on.
pub(super) fn owners(model: &Value, before: &str) -> (Vec<Place>, Vec<Place>) {
    let needed = ancestors(model, before);
    let listed = model.pointer("/config/layers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let owning =
        listed.iter().map(|entry| layers::owns_variables(text(entry, "class_name"), &entry["config"]));
    let all: Vec<Place> = places(listed, &Place::default())
        .into_iter()
        .zip(owning)
        .filter(|(_, owns)| *owns)
        .map(|(place, _)| place)
        .collect();
    let without_top = all.iter().filter(|place| needed.contains(place.layer.as_str())).cloned().collect();
    (all, without_top)
}

/// Name and class of every layer, in the order of the configuration.
pub(super) fn layers(model: &Value) -> impl Iterator<Item = (&str, &str)> {
    let listed = model.pointer("/config/layers").and_then(Value::as_array);
    listed.into_iter().flatten().map(|entry| (name_of(entry), text(entry, "class_name")))
}

pub(super) fn text<'v>(entry: &'v Value, key: &str) -> &'v str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn name_of(entry: &Value) -> &str {
    entry.get("name").or_else(|| entry.pointer("/config/name")).and_then(Value::as_str).unwrap_or_default()
}

/// The layers that the output of `layer` depends on, itself included; of a Sequential model, those up to it.
fn ancestors<'v>(model: &'v Value, layer: &str) -> HashSet<&'v str> {
    let listed = model.pointer("/config/layers").and_then(Value::as_array);
    let entries: Vec<&Value> = listed.into_iter().flatten().collect();
    if text(model, "class_name") == "Sequential" {
        let end = entries.iter().position(|entry| name_of(entry) == layer).map_or(0, |end| end + 1);
        return entries.iter().take(end).map(|entry| name_of(entry)).collect();
    }
    let by_name: HashMap<&str, &Value> = entries.iter().map(|entry| (name_of(entry), *entry)).collect();
    let mut open = vec![layer.to_owned()];
    let mut seen = HashSet::new();
    while let Some(name) = open.pop() {
        let Some(entry) = by_name.get(name.as_str()) else { continue };
        if seen.insert(name_of(entry)) {
            let nodes = calls(entry.get("inbound_nodes").unwrap_or(&Value::Null)).unwrap_or_default();
            open.extend(nodes.iter().flat_map(Call::tensors).map(|origin| origin.0));
        }
    }
    seen
}

/// How many layers of each class the output of `layer` depends on. Layers that compute nothing at inference do not
/// count.
pub(super) fn classes_before(model: &Value, layer: &str) -> BTreeMap<String, usize> {
    let needed = ancestors(model, layer);
    let listed = model.pointer("/config/layers").and_then(Value::as_array);
    let mut counts = BTreeMap::new();
    for entry in listed.into_iter().flatten().filter(|entry| needed.contains(name_of(entry))) {
        let class = text(entry, "class_name");
        if class != "InputLayer" && !layers::is_idle(class) {
            *counts.entry(class.to_owned()).or_default() += 1;
        }
    }
    counts
}

pub(super) fn is_model(class: &str) -> bool {
    matches!(class, "Functional" | "Model" | "Sequential")
}

/// The shape of an input, batch first: `batch_shape`, or Keras 2's `batch_input_shape`.
pub(super) fn input_shape(config: &Value) -> Option<Shape> {
    shape_of(config.get("batch_shape").or_else(|| config.get("batch_input_shape"))?)
}

pub(super) fn shape_of(value: &Value) -> Option<Shape> {
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
pub(super) fn snake_case(class: &str) -> String {
    // Keras names this class otherwise where it saves it than where it has its variables.
    let class = if class == "GroupQueryAttention" { "GroupedQueryAttention" } else { class };
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
