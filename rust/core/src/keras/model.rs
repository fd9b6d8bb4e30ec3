//! A configuration of layers and how they are connected, walked into a graph.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use serde_json::Value;

use super::calls::{Argument, Call, Origin, calls, origins};
use super::config::{input_name, input_shape, is_model, name_of, places, shape_of, text};
use super::file::{Place, Weights};
use super::ir::{DT_BOOL, DT_DOUBLE, DT_FLOAT, DT_INT32, Graph, Shape, Tensor};
use super::layer::{Layer, refused_layer};
use super::{layers, operations, refused};
use crate::values::Dtype;
use crate::{Error, Result};

/// Models inside of models, at most.
const MAX_DEPTH: usize = 16;
/// Calls of layers, those in models that are called several times each time.
const MAX_CALLS: usize = 100_000;
/// What a graph may take in memory beside the arrays of the file: 140,000 operations.
const MAX_GRAPH: usize = 56 << 20;
const MAX_RANK: usize = 8;
/// Values of one example, and so the sides of its shape: TensorFlow counts in 32 bits.
const MAX_VALUES: usize = i32::MAX as usize;
/// A longer name is none that a person gave.
const MAX_NAME: usize = 1024;

/// What is built of a model: no more than what is asked for, so that other weights need not be there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// Height and width of pictures where the model leaves them open.
    pub(super) size: Option<[usize; 2]>,
    /// Layers whose output is asked for, as far as they are there.
    pub(super) layers: &'a [&'a str],
    /// Whether the model's own outputs are.
    pub(super) outputs: bool,
    /// A layer whose output is multiplied, one factor for each channel.
    pub(super) scaled: Option<(&'a str, &'a [f32])>,
}

/// A model that was built.
#[derive(Debug)]
pub(super) struct Built {
    /// By the names of their layers.
    pub(super) inputs: Vec<(String, Tensor)>,
    pub(super) outputs: Vec<(String, Tensor)>,
    /// The output of each layer's first call, by the layer's name.
    pub(super) layers: HashMap<String, Tensor>,
}

/// Builds a whole model with placeholders for its inputs.
pub(super) fn build(graph: &mut Graph, model: &Value, weights: &Weights, wanted: Wanted) -> Result<Built> {
    Walk { graph, weights, wanted, depth: 0, calls: 0, inputs: 0 }.model(model, &Place::default(), None)
}

struct Walk<'a> {
    graph: &'a mut Graph,
    weights: &'a Weights,
    wanted: Wanted<'a>,
    depth: usize,
    /// How many calls and inputs there were.
    calls: usize,
    inputs: usize,
}

/// One entry of a configuration's list of layers.
struct Entry<'a> {
    name: &'a str,
    class: &'a str,
    config: &'a Value,
    /// Whether it is one of `keras.ops`, not a layer.
    operation: bool,
    place: Place,
    calls: Vec<Call>,
}

impl Walk<'_> {
    fn refused(&self, what: &str) -> Error {
        refused(self.weights.shown(), what)
    }

    fn model(&mut self, model: &Value, place: &Place, inputs: Option<&[Tensor]>) -> Result<Built> {
        let class = model.get("class_name").and_then(Value::as_str).unwrap_or("nothing");
        let config = model.get("config").ok_or_else(|| self.refused("its configuration has no config"))?;
        let input = model.pointer("/build_config/input_shape");
        self.nested(class, config, place, inputs.ok_or(input))
    }

    /// A model with the tensors that it is called with, or else what is known of the shape of its only input.
    fn nested(
        &mut self,
        class: &str,
        config: &Value,
        place: &Place,
        inputs: std::result::Result<&[Tensor], Option<&Value>>,
    ) -> Result<Built> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.refused(&format!("its models are nested more than {MAX_DEPTH} deep")));
        }
        let built = match class {
            "Functional" | "Model" => self.functional(config, place, inputs.ok()),
            "Sequential" => self.sequential(config, place, inputs),
            other => Err(self.refused(&format!(
                "it is a {other}, a class of its own; only Functional and Sequential models say how they are built"
            ))),
        }?;
        self.depth -= 1;
        Ok(built)
    }

    fn placeholder(&mut self, config: &Value, mut shape: Shape) -> Result<Tensor> {
        if let ([_, height, width, _], Some(size)) = (shape.as_mut_slice(), self.wanted.size) {
            *height = height.or(Some(size[0]));
            *width = width.or(Some(size[1]));
        }
        let dtype = match config.get("dtype").and_then(Value::as_str).unwrap_or("float32") {
            // What is computed in fewer bits when it was trained is computed in float32 here.
            "float16" | "bfloat16" => "float32",
            other => other,
        };
        // Layers compute with numbers.
        let dtype = Dtype::named(dtype).filter(|dtype| *dtype != Dtype::String);
        let dtype = dtype.map(Dtype::number).ok_or_else(|| {
            let found = config.get("dtype").unwrap_or(&Value::Null);
            self.refused(&format!("its input is of type {found}, which is not built"))
        })?;
        if let Some(why) = senseless(&shape) {
            return Err(self.refused(&format!("its input {why}")));
        }
        let count = self.inputs;
        self.inputs += 1;
        Ok(self.graph.placeholder(&format!("input_{count}"), dtype, shape))
    }

    /// What layers take of an input: float32, int32 or bool.
    fn taken(&mut self, input: &Tensor) -> Tensor {
        match input.dtype {
            DT_FLOAT | DT_INT32 | DT_BOOL => input.clone(),
            DT_DOUBLE => self.graph.cast(input, DT_FLOAT),
            _ => self.graph.cast(input, DT_INT32),
        }
    }

    fn entries<'v>(&self, config: &'v Value, place: &Place) -> Result<Vec<Entry<'v>>> {
        let broken = || self.refused("its configuration has no list of layers");
        let listed = config.get("layers").and_then(Value::as_array).ok_or_else(broken)?;
        let places = places(listed, place);
        let mut entries = Vec::with_capacity(listed.len());
        for (value, place) in listed.iter().zip(places) {
            let class = value.get("class_name").and_then(Value::as_str).ok_or_else(broken)?;
            let config = value.get("config").ok_or_else(broken)?;
            let name = Some(name_of(value)).filter(|name| !name.is_empty()).ok_or_else(broken)?;
            if let Some(text) = [name, class].into_iter().find(|text| !is_plain(text)) {
                let shown: String = text.chars().take(40).collect();
                return Err(self.refused(&format!("{shown:?} is no name of a layer")));
            }
            let module = value.get("module").and_then(Value::as_str).unwrap_or("keras.layers");
            let named = module.starts_with("keras.src.ops") || module.starts_with("keras.ops");
            // HDF5 files do not say the module: there it is layers that can be trained or have a type.
            let of_layer = ["trainable", "dtype"].iter().any(|key| config.get(key).is_some());
            let bare = value.get("module").is_none() && !of_layer;
            let operation = named || (bare && class != "InputLayer" && !is_model(class));
            let layer = module.starts_with("keras.layers") || module.starts_with("keras.src.layers");
            let application =
                module.starts_with("keras.src.applications") && layers::is_of_applications(class);
            if !(operation || layer || application || is_model(class)) {
                let why = format!("it comes from {module}, not from keras.layers");
                return Err(refused_layer(self.weights.shown(), name, class, &why));
            }
            let calls = calls(value.get("inbound_nodes").unwrap_or(&Value::Null))
                .map_err(|why| refused_layer(self.weights.shown(), name, class, &why))?;
            entries.push(Entry { name, class, config, operation, place, calls });
        }
        Ok(entries)
    }

    fn functional(&mut self, config: &Value, place: &Place, given: Option<&[Tensor]>) -> Result<Built> {
        let entries = self.entries(config, place)?;
        let listed = |key: &str| {
            let found = config.get(key).and_then(origins).filter(|found| !found.is_empty());
            found.ok_or_else(|| self.refused(&format!("its configuration has no {key}")))
        };
        let (inputs, outputs) = (listed("input_layers")?, listed("output_layers")?);
        let whole = self.depth > 1 || self.wanted.outputs;
        let mut roots = if whole { outputs.clone() } else { Vec::new() };
        if self.depth == 1 {
            let known = |name: &&&str| entries.iter().any(|entry| entry.name == **name);
            roots.extend(self.wanted.layers.iter().filter(known).map(|name| ((*name).to_owned(), 0, 0)));
        }
        let needed = needed(&entries, &roots);
        let by_name: HashMap<&str, &Entry> = entries.iter().rev().map(|entry| (entry.name, entry)).collect();
        let mut known: HashMap<(&str, usize), Vec<Tensor>> = HashMap::new();
        let mut fed = Vec::new();
        for (index, (name, _, _)) in inputs.iter().enumerate() {
            let entry = by_name.get(name.as_str()).filter(|entry| entry.class == "InputLayer");
            let entry = entry.ok_or_else(|| self.refused(&format!("its input {name} is no layer of it")))?;
            let tensor = match given {
                Some(given) => given.get(index).cloned(),
                None => input_shape(entry.config)
                    .map(|shape| self.placeholder(entry.config, shape))
                    .transpose()?,
            };
            let tensor = tensor.ok_or_else(|| self.refused(&format!("its input {name} has no shape")))?;
            known.insert((entry.name, 0), vec![self.taken(&tensor)]);
            fed.push((name.clone(), tensor));
        }
        let calls = entries.iter().flat_map(|entry| (0..entry.calls.len()).map(move |call| (entry, call)));
        let calls = calls
            .filter(|(entry, call)| entry.class != "InputLayer" && needed.contains(&(entry.name, *call)));
        let ordered = ordered(&calls.collect::<Vec<_>>(), &known).map_err(|names| {
            self.refused(&format!(
                "its layers {names:?} have inputs that nothing computes, or wait for each other"
            ))
        })?;
        let mut layers = HashMap::new();
        for (entry, call) in ordered {
            let ready = entry.calls.get(call).and_then(|call| call.resolved(&|origin| find(&known, origin)));
            let ready = ready.ok_or_else(|| {
                self.refused(&format!("its layer {} takes an output that is none", entry.name))
            })?;
            let found = self.call(entry, &ready)?;
            if let (0, Some(first)) = (call, found.first()) {
                layers.insert(entry.name.to_owned(), first.clone());
            }
            known.insert((entry.name, call), found);
        }
        let mut found = Vec::new();
        for origin in outputs.iter().filter(|_| whole) {
            let tensor = find(&known, origin);
            let tensor =
                tensor.ok_or_else(|| self.refused(&format!("its output {} is not computed", origin.0)))?;
            found.push((origin.0.clone(), tensor));
        }
        Ok(Built { inputs: fed, outputs: found, layers })
    }

    fn sequential(
        &mut self,
        config: &Value,
        place: &Place,
        given: std::result::Result<&[Tensor], Option<&Value>>,
    ) -> Result<Built> {
        let entries = self.entries(config, place)?;
        let first = entries.first();
        let shape = first.and_then(|entry| input_shape(entry.config));
        let shape = shape.or_else(|| shape_of(config.get("build_input_shape")?));
        let shape = shape.or_else(|| shape_of(given.err().flatten()?));
        let own = first.filter(|entry| entry.class == "InputLayer");
        let input = match given {
            Ok([input]) => Some(input.clone()),
            Ok(_) => None,
            Err(_) => shape
                .map(|shape| self.placeholder(own.map_or(&Value::Null, |entry| entry.config), shape))
                .transpose()?,
        };
        let input = input.ok_or_else(|| self.refused("it is a Sequential model whose input has no shape"))?;
        let end = |name: &&str| entries.iter().position(|entry| &entry.name == name);
        let end = if self.depth > 1 || self.wanted.outputs {
            entries.len()
        } else {
            self.wanted.layers.iter().filter_map(end).max().map_or(0, |last| last + 1)
        };
        let mut layers = HashMap::new();
        let mut last = self.taken(&input);
        for entry in entries.iter().take(end).filter(|entry| entry.class != "InputLayer") {
            let mut found = self.call(entry, &Call::of(vec![Argument::Tensor(last)]))?;
            if found.len() != 1 {
                return Err(self.refused(&format!("its layer {} has several outputs", entry.name)));
            }
            last = found.swap_remove(0);
            layers.insert(entry.name.to_owned(), last.clone());
        }
        let outputs = if end == entries.len() {
            let name = entries.last().map_or("", |entry| entry.name);
            vec![(name.to_owned(), last)]
        } else {
            Vec::new()
        };
        let name = own.map_or(input_name(config), |entry| entry.name);
        Ok(Built { inputs: vec![(name.to_owned(), input)], outputs, layers })
    }

    /// What a layer gives for the tensors of one call, within bounds.
    fn call(&mut self, entry: &Entry, call: &Call<Tensor>) -> Result<Vec<Tensor>> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return Err(self.refused(&format!("it calls its layers more than {MAX_CALLS} times")));
        }
        let found = self.outputs(entry, call)?;
        let refused = |why: &str| refused_layer(self.weights.shown(), entry.name, entry.class, why);
        if let Some(why) = found.iter().find_map(|output| senseless(&output.shape)) {
            return Err(refused(&format!("its output {why}")));
        }
        if self.graph.size > MAX_GRAPH.saturating_add(self.weights.size()) {
            let most = MAX_GRAPH >> 20;
            return Err(refused(&format!(
                "up to it the graph takes {most} MiB beside its weights, at most that is built"
            )));
        }
        Ok(found)
    }

    fn outputs(&mut self, entry: &Entry, call: &Call<Tensor>) -> Result<Vec<Tensor>> {
        if is_model(entry.class) {
            let built = self.nested(entry.class, entry.config, &entry.place, Ok(&call.tensors()))?;
            return Ok(built.outputs.into_iter().map(|(_, tensor)| tensor).collect());
        }
        if entry.class == "TimeDistributed" {
            return self.time_distributed(entry, call);
        }
        if entry.class == "SpectralNormalization" {
            // It normalizes the kernel when it is trained; what is saved is normal.
            return self.wrapped(entry, call);
        }
        let layer = Layer {
            name: entry.name,
            class: entry.class,
            config: entry.config,
            place: entry.place.clone(),
            weights: self.weights,
            call,
        };
        if entry.operation {
            return operations::build(self.graph, &layer);
        }
        let mut found = layers::build(self.graph, &layer)?;
        if let (Some((name, factors)), 1, Some(output)) = (self.wanted.scaled, self.depth, found.first_mut())
            && name == entry.name
        {
            let factors = self.graph.floats(factors.to_vec(), &[factors.len()]);
            *output = self.graph.op("Mul", &[output, &factors], Vec::new(), output.shape.clone());
        }
        Ok(found)
    }
}

impl Walk<'_> {
    /// What the layer inside of another gives.
    fn wrapped(&mut self, entry: &Entry, call: &Call<Tensor>) -> Result<Vec<Tensor>> {
        let inner = entry.config.get("layer").filter(|inner| inner.get("config").is_some());
        let inner = inner
            .ok_or_else(|| refused_layer(self.weights.shown(), entry.name, entry.class, "it has no layer"))?;
        let (class, config) = (text(inner, "class_name"), &inner["config"]);
        let place = Place {
            path: format!("{}/layer", entry.place.path),
            top: entry.place.top.clone(),
            layer: text(config, "name").to_owned(),
        };
        let wrapped = Entry { name: entry.name, class, config, operation: false, place, calls: Vec::new() };
        self.depth += 1;
        let outputs = self.call(&wrapped, call)?;
        self.depth -= 1;
        Ok(outputs)
    }

    /// `TimeDistributed(layer)`: the steps of all examples are one batch.
    fn time_distributed(&mut self, entry: &Entry, call: &Call<Tensor>) -> Result<Vec<Tensor>> {
        let refused = |why: &str| refused_layer(self.weights.shown(), entry.name, entry.class, why);
        let tensors = call.tensors();
        let input = tensors.first().ok_or_else(|| refused("it is called without inputs"))?;
        let mask = match call.named("mask") {
            Some(Argument::Tensor(mask)) => Some(Box::new(mask.clone())),
            _ => input.mask.clone(),
        };
        let class = entry.config.get("layer").map_or("", |inner| text(inner, "class_name"));
        let shape: Option<Vec<usize>> = input.shape.iter().skip(2).copied().collect();
        let shape = shape.ok_or_else(|| refused("the size of its steps is not known"))?;
        if mask.is_some() && matches!(class, "LSTM" | "GRU" | "SimpleRNN" | "Bidirectional" | "Softmax") {
            return Err(refused("a mask for the layer inside of it is not built from files"));
        }
        let flat = self.graph.reshape(input, &shape);
        let outputs = self.wrapped(entry, &Call::of(vec![Argument::Tensor(flat)]))?;
        let refused = |why: &str| refused_layer(self.weights.shown(), entry.name, entry.class, why);
        let [output] = outputs.as_slice() else { return Err(refused("its layer has several outputs")) };
        let inner = output.inner().ok_or_else(|| refused("the size of its output is not known"))?;
        let mut shape = vec![None, input.shape[1]];
        shape.extend(inner.iter().copied().map(Some));
        let output = match input.shape[1] {
            Some(steps) => {
                let whole: Vec<usize> = std::iter::once(steps).chain(inner).collect();
                self.graph.reshape(output, &whole)
            }
            None => {
                let dims = self.graph.dims(input, 2, &inner);
                self.graph.reshape_to(output, &dims, shape)
            }
        };
        Ok(vec![output.with_mask(mask)])
    }
}

/// Calls in an order in which each finds what it takes, else that of the configuration. An error has the names of some
/// that never do.
fn ordered<'e, 'v>(
    calls: &[(&'e Entry<'v>, usize)],
    known: &HashMap<(&str, usize), Vec<Tensor>>,
) -> std::result::Result<Vec<(&'e Entry<'v>, usize)>, Vec<&'v str>> {
    let mut takers: HashMap<(String, usize), Vec<usize>> = HashMap::new();
    let mut missing = Vec::with_capacity(calls.len());
    for (place, (entry, call)) in calls.iter().enumerate() {
        let taken = entry.calls.get(*call).map(Call::tensors).unwrap_or_default();
        let taken: HashSet<(String, usize)> = taken.into_iter().map(|(name, call, _)| (name, call)).collect();
        let mut count = 0;
        for origin in taken.into_iter().filter(|(name, call)| !known.contains_key(&(name.as_str(), *call))) {
            count += 1;
            takers.entry(origin).or_default().push(place);
        }
        missing.push(count);
    }
    let ready = missing.iter().enumerate().filter(|(_, count)| **count == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(place, _)| Reverse(place)).collect();
    let mut ordered = Vec::with_capacity(calls.len());
    while let Some(Reverse(place)) = ready.pop() {
        let Some((entry, call)) = calls.get(place) else { continue };
        ordered.push((*entry, *call));
        for taker in takers.remove(&(entry.name.to_owned(), *call)).unwrap_or_default() {
            if let Some(count) = missing.get_mut(taker) {
                *count -= 1;
                if *count == 0 {
                    ready.push(Reverse(taker));
                }
            }
        }
    }
    if ordered.len() == calls.len() {
        return Ok(ordered);
    }
    let waiting = calls.iter().zip(&missing).filter(|(_, count)| **count > 0);
    Err(waiting.map(|((entry, _), _)| entry.name).take(3).collect())
}

/// What is wrong with a shape that no network has.
fn senseless(shape: &Shape) -> Option<String> {
    if shape.len() > MAX_RANK {
        return Some(format!("has {} dimensions, at most {MAX_RANK} are built", shape.len()));
    }
    if shape.contains(&Some(0)) {
        return Some(format!("has the shape {}, which has no values", shown(shape)));
    }
    let values = shape.iter().flatten().try_fold(1_usize, |values, side| values.checked_mul(*side));
    let fits = values.is_some_and(|values| values <= MAX_VALUES);
    (!fits).then(|| format!("has the shape {}, more than {MAX_VALUES} values", shown(shape)))
}

/// As Python shows it.
fn shown(shape: &Shape) -> String {
    let sides: Vec<String> =
        shape.iter().map(|side| side.map_or("None".to_owned(), |side| side.to_string())).collect();
    format!("[{}]", sides.join(", "))
}

/// Whether a name can be shown and stand in a path.
fn is_plain(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

/// The calls that `roots` depend on.
fn needed<'v>(entries: &[Entry<'v>], roots: &[Origin]) -> HashSet<(&'v str, usize)> {
    let by_name: HashMap<&str, &Entry<'v>> = entries.iter().map(|entry| (entry.name, entry)).collect();
    let mut open = roots.to_vec();
    let mut seen = HashSet::new();
    while let Some((name, call, _)) = open.pop() {
        let Some(entry) = by_name.get(name.as_str()) else { continue };
        if seen.insert((entry.name, call)) {
            open.extend(entry.calls.get(call).into_iter().flat_map(Call::tensors));
        }
    }
    seen
}

fn find(known: &HashMap<(&str, usize), Vec<Tensor>>, origin: &Origin) -> Option<Tensor> {
    known.get(&(origin.0.as_str(), origin.1))?.get(origin.2).cloned()
}
