//! Keras files without Keras: from `.keras` or `.h5` to a bundle.

mod calls;
mod config;
mod emit;
mod family;
mod file;
mod fold;
mod guard;
mod hdf5;
mod ir;
mod layer;
mod layers;
mod model;
mod operations;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::bundle::{self, TENSORS_VERSION, digest_of};
use crate::named_models::imagenet_labels;
use crate::names::closest;
use crate::options::KerasOptions;
use crate::values::Dtype;
use crate::{Error, ErrorKind, Options, Result, pool, runtime};
use family::Row;
use file::KerasFile;
use ir::{Graph, Tensor};
use model::Wanted;

const INPUT: &str = "image";
/// Where Keras' EfficientNets normalize; behind it, the published weights want a factor more.
const NORMALIZATION: &str = "normalization";

/// What a file that cannot be used gives.
fn refused(shown: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidModel, format!("Cannot use the Keras file {shown}: {what}."))
}

/// One output of the manifest: its key, the tensor's name in the graph, where it is computed.
struct Output {
    key: &'static str,
    name: &'static str,
    tensor: Tensor,
}

/// Reads a Keras file and writes it as a bundle.
///
/// Options: `file` (`.keras`, `.h5` or weights alone), `output` (the bundle), `modelName` (a name of the table: the bundle
/// is that network for pictures, and weights alone are read into it; empty: the bundle is the whole model as a graph on
/// tensors, with its inputs and outputs by name), `published` (`true` where the file is the one that Keras publishes for
/// that network, else `false`), `featureLayer` (with `modelName`: the layer whose output are the features; empty: the
/// table's), `inputSize` (without `modelName`: `HEIGHTxWIDTH` of the pictures of a model that takes any, or empty). Nothing
/// that the file contains is executed. Errors name the file, the layer and the reason.
pub fn convert(options: &Options) -> Result<()> {
    let options = KerasOptions::parse(options)?;
    // Sizes that no network has may overflow where they are multiplied: that fails as a defect, it does not end the process.
    let converted = pool::guarded(|| {
        if options.model_name.is_empty() { convert_tensors(&options) } else { convert_named(&options) }
    });
    // The weights were here; the driver may live for days.
    runtime::return_freed_memory();
    converted
}

/// A model of any kind.
fn convert_tensors(options: &KerasOptions) -> Result<()> {
    let file = KerasFile::open(&options.file, &options.output)?;
    let shown = file.weights.shown().to_owned();
    let Some(model) = file.model.as_ref() else {
        return Err(refused(
            &shown,
            "it holds weights alone, without the model's configuration: give the whole model (model.save), or the name of \
             the network that the weights belong to",
        ));
    };
    let mut graph = Graph::default();
    let wanted = Wanted { outputs: true, size: options.input_size, ..Wanted::default() };
    let built = model::build(&mut graph, model, &file.weights, wanted)?;
    let used: Vec<usize> = built.outputs.iter().map(|(_, tensor)| tensor.node).collect();
    fold::simplify(&mut graph, &used);
    let names: Vec<String> = (0..built.outputs.len()).map(|index| format!("output_{index}")).collect();
    let spec = |(name, tensor): &(String, Tensor), node: &str| -> Result<Value> {
        let dtype = Dtype::numbered(tensor.dtype).map(Dtype::name).ok_or_else(|| {
            refused(&shown, &format!("the type number {} of {name} is not known", tensor.dtype))
        })?;
        let shape = tensor.shape.get(1..).unwrap_or_default();
        Ok(json!({"name": name, "tensor": format!("{node}:0"), "dtype": dtype, "shape": shape}))
    };
    let inputs = built.inputs.iter().map(|input| spec(input, &graph.nodes[input.1.node].name));
    let named = with_unique_names(&built.outputs);
    let outputs = named.iter().zip(&names).map(|(output, name)| spec(output, name));
    let name = model.pointer("/config/name").and_then(Value::as_str).unwrap_or("model");
    let manifest = json!({
        "format": "sparkdl-bundle",
        "version": TENSORS_VERSION,
        "name": name,
        "inputs": inputs.collect::<Result<Vec<_>>>()?,
        "outputs": outputs.collect::<Result<Vec<_>>>()?,
        "graph": {"file": "graph.pb", "sha256": ""},
        "source": source(options, &file)?,
        "license": "",
    });
    let outputs: Vec<(&str, &Tensor)> =
        names.iter().map(String::as_str).zip(built.outputs.iter().map(|(_, tensor)| tensor)).collect();
    bundle::write(&options.output, manifest, |into| emit::write(&graph, &outputs, into))
}

/// A layer may give several outputs: the second is `name_1`.
fn with_unique_names(outputs: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let mut taken = BTreeSet::new();
    let unique = |(name, tensor): &(String, Tensor)| {
        let numbered = (1..).map(|number| format!("{name}_{number}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name));
        let name = name.unwrap_or_default();
        taken.insert(name.clone());
        (name, tensor.clone())
    };
    outputs.iter().map(unique).collect()
}

/// Where a bundle comes from.
fn source(options: &KerasOptions, file: &KerasFile) -> Result<Value> {
    let sha256 = digest_of(&options.file)?;
    Ok(json!({
        "weights": if options.published { "imagenet" } else { "file" }, "sha256": sha256, "keras": file.keras_version, "sparkdl": env!("CARGO_PKG_VERSION"),
    }))
}

/// A network of the table.
fn convert_named(options: &KerasOptions) -> Result<()> {
    let row = Row::of(&options.model_name)?;
    let mut file = KerasFile::open(&options.file, &options.output)?;
    let shown = file.weights.shown().to_owned();
    let size = Some([row.height, row.width]);
    let own = file.model.take();
    let alone = own.is_none();
    let model = own.map_or_else(|| row.network(), Ok)?;
    let feature_layer = row.feature_layer_of(&model).ok_or_else(|| no_feature_map(&row, &shown))?;
    // By the table's name it is meant whatever name it has in the file.
    let named = Some(options.feature_layer.as_str()).filter(|name| !name.is_empty());
    let named = named.unwrap_or(&row.feature_layer);
    let chosen = if named == row.feature_layer { feature_layer.as_str() } else { named };
    let layers = [feature_layer.as_str(), chosen];
    let mut wanted = Wanted { size, layers: &layers, outputs: true, scaled: None };
    if alone {
        let (all, without_top) = config::owners(&model, &feature_layer);
        wanted.outputs = file.weights.match_layers(&all, &without_top, row.layers_behind_features())?;
    }
    if let (true, true, Some(factors)) = (alone, options.published, row.published_rescaling.as_deref()) {
        wanted.scaled = Some((NORMALIZATION, factors));
    }
    let mut graph = Graph::default();
    let built = model::build(&mut graph, &model, &file.weights, wanted)?;
    let [(_, input)] = built.inputs.as_slice() else {
        return Err(refused(&shown, &format!("it has {} inputs, not one picture", built.inputs.len())));
    };
    let [None, Some(height), Some(width), Some(3)] = input.shape[..] else {
        return Err(refused(
            &shown,
            &format!("its input has the shape {:?}, not that of a picture", input.shape),
        ));
    };
    if let Some(node) = graph.nodes.get_mut(input.node) {
        INPUT.clone_into(&mut node.name);
    }
    if built.layers.get(&feature_layer).is_none_or(|tensor| tensor.rank() != 4) {
        return Err(no_feature_map(&row, &shown));
    }
    // Behind the layers, of which one that is not built is the better reason.
    if let Some(difference) = row.difference(&model, &feature_layer) {
        return Err(refused(&shown, &difference));
    }
    let features = built.layers.get(chosen).filter(|tensor| tensor.rank() > 1);
    let features = features.ok_or_else(|| {
        let close = closest(chosen, built.layers.keys()).join(", ");
        refused(
            &shown,
            &format!("it has no layer {chosen} with features to take; the names nearest to it are {close}"),
        )
    })?;
    let mut outputs = Vec::new();
    // What is only pooled or flattened behind the features is no score.
    if let [(_, scores)] = built.outputs.as_slice()
        && scores.rank() == 2
        && graph.has_weights_between(features.node, scores.node)
    {
        outputs.push(Output { key: "predictions", name: "predictions", tensor: scores.clone() });
    }
    let places: Vec<usize> = (1..features.rank() - 1).collect();
    let mut pooled = |op| match places.as_slice() {
        [] => features.clone(),
        places => graph.reduce(op, features, places, false),
    };
    let (average, largest) = (pooled("Mean"), pooled("Max"));
    outputs.push(Output { key: "features", name: "features", tensor: features.clone() });
    outputs.push(Output { key: "featuresAvg", name: "features_avg", tensor: average });
    outputs.push(Output { key: "featuresMax", name: "features_max", tensor: largest });
    let used: Vec<usize> = outputs.iter().map(|output| output.tensor.node).collect();
    fold::simplify(&mut graph, &used);

    let mut described = serde_json::Map::new();
    let mut classes = 0;
    for output in &outputs {
        let shape = output.tensor.inner();
        let shape =
            shape.ok_or_else(|| refused(&shown, &format!("the shape of its {} is not known", output.key)))?;
        if output.key == "predictions" {
            classes = shape[0];
        }
        described
            .insert(output.key.to_owned(), json!({"tensor": format!("{}:0", output.name), "shape": shape}));
    }
    let labels: Value = serde_json::from_str(imagenet_labels()).unwrap_or(Value::Null);
    let labels =
        if labels.as_array().is_some_and(|labels| labels.len() == classes) { labels } else { Value::Null };
    let manifest = json!({
        "format": "sparkdl-bundle",
        "version": 1,
        "name": row.name,
        "input": {
            "tensor": format!("{INPUT}:0"), "height": height, "width": width, "channels": 3,
            "channelOrder": row.channel_order, "normalization": row.normalization,
        },
        "outputs": described,
        "featureLayer": named,
        "labels": labels,
        "graph": {"file": "graph.pb", "sha256": ""},
        "source": source(options, &file)?,
        "license": if options.published { row.license.as_str() } else { "" },
    });
    let outputs: Vec<(&str, &Tensor)> = outputs.iter().map(|output| (output.name, &output.tensor)).collect();
    bundle::write(&options.output, manifest, |into| emit::write(&graph, &outputs, into))
}

fn no_feature_map(row: &Row, shown: &str) -> Error {
    let (name, layer) = (&row.name, &row.feature_layer);
    refused(shown, &format!("it is no {name}: it has no feature map {layer}"))
}
