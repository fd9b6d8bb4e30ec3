//! SavedModels of TensorFlow 1 and 2 as data: their graphs, signatures, and where the values of their variables lie.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::graph::proto::{Function, GraphDef, NodeDef, pair, types_attr};
use crate::graph::wire::{Field, fields};
use crate::graph::{TensorName, input_node};

/// A graph of a SavedModel, or that of a checkpoint of TensorFlow 1 (`MetaGraphDef`).
#[derive(Debug, Default)]
pub(crate) struct MetaGraph {
    pub(crate) tags: BTreeSet<String>,
    pub(crate) graph: Bytes,
    pub(crate) signatures: BTreeMap<String, Signature>,
    /// The operation that restores variables (`SaverDef.restore_op_name`); empty where there are none.
    pub(crate) restore: String,
    /// Operations that fill tables.
    pub(crate) initialisers: BTreeSet<String>,
    /// Tensors that hold the path of an asset, and the asset's name.
    pub(crate) assets: Vec<(String, String)>,
}

/// Names of tensors by the names that users know (`SignatureDef`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) inputs: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
}

/// A tensor of a checkpoint: its key, and the part of it that is meant (empty: all).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) key: String,
    pub(crate) slice: String,
}

/// The graphs in a `saved_model.pb`; `None` where the bytes are none.
pub(crate) fn decode(bytes: &Bytes) -> Option<Vec<MetaGraph>> {
    let graphs = fields(bytes)?.into_iter().filter(|field| field.number == 2);
    graphs.map(|field| MetaGraph::decode(field.value.bytes()?)).collect()
}

impl MetaGraph {
    pub(crate) fn decode(bytes: &Bytes) -> Option<MetaGraph> {
        let mut graph = MetaGraph::default();
        for field in fields(bytes)? {
            match field.number {
                1 => {
                    let info = fields(field.value.bytes()?)?;
                    let tags = info.iter().filter(|field| field.number == 4);
                    graph.tags.extend(tags.map(|tag| tag.value.text()).collect::<Option<Vec<_>>>()?);
                }
                2 => graph.graph = field.value.bytes()?.clone(),
                3 => {
                    let saver = fields(field.value.bytes()?)?;
                    if let Some(restore) = last(&saver, 3) {
                        graph.restore = restore.value.text()?;
                    }
                }
                4 => {
                    let (key, collection) = pair(field.value.bytes()?)?;
                    if INITIALISERS.contains(&key.as_str()) {
                        graph.initialisers.extend(node_list(&collection)?);
                    } else if key == ASSETS {
                        graph.assets.extend(listed_assets(&collection)?);
                    }
                }
                6 => graph.assets.extend(asset(field.value.bytes()?)?),
                5 => {
                    let (key, signature) = pair(field.value.bytes()?)?;
                    graph.signatures.insert(key, Signature::decode(&signature)?);
                }
                _ => {}
            }
        }
        Some(graph)
    }
}

/// Collections (`MetaGraphDef.collection_def`) that name operations to run before the model is used.
const INITIALISERS: [&str; 3] = ["saved_model_main_op", "legacy_init_op", "table_initializer"];

/// The collection of assets of TensorFlow 1.
const ASSETS: &str = "saved_model_assets";

/// The `AssetFileDef`s in a `CollectionDef.any_list`.
fn listed_assets(collection: &Bytes) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    for list in fields(collection)?.iter().filter(|field| field.number == 5) {
        for any in fields(list.value.bytes()?)?.iter().filter(|field| field.number == 1) {
            if let Some(value) = last(&fields(any.value.bytes()?)?, 2) {
                found.extend(asset(value.value.bytes()?)?);
            }
        }
    }
    Some(found)
}

/// The tensor of an `AssetFileDef`, and the file's name; nothing where it says neither.
fn asset(bytes: &Bytes) -> Option<Option<(String, String)>> {
    let asset = fields(bytes)?;
    let info = last(&asset, 1).map_or(Some(Vec::new()), |info| fields(info.value.bytes()?))?;
    Some(match (last(&info, 1), last(&asset, 2)) {
        (Some(tensor), Some(file)) => Some((tensor.value.text()?, file.value.text()?)),
        _ => None,
    })
}

/// The names in a `CollectionDef.node_list`.
fn node_list(collection: &Bytes) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for list in fields(collection)?.iter().filter(|field| field.number == 1) {
        for name in fields(list.value.bytes()?)?.iter().filter(|field| field.number == 1) {
            names.push(name.value.text()?);
        }
    }
    Some(names)
}

impl Signature {
    fn decode(bytes: &Bytes) -> Option<Signature> {
        let mut signature = Signature::default();
        for field in fields(bytes)? {
            let side = match field.number {
                1 => &mut signature.inputs,
                2 => &mut signature.outputs,
                _ => continue,
            };
            let (key, info) = pair(field.value.bytes()?)?;
            // A sparse or composite tensor has no name.
            let name = last(&fields(&info)?, 1).map_or(Some(String::new()), |name| name.value.text())?;
            side.insert(key, name);
        }
        Some(signature)
    }
}

fn last(fields: &[Field], number: u32) -> Option<&Field> {
    fields.iter().rev().find(|field| field.number == number)
}

/// What each variable is restored from, by the node of its handle: read off the operations that restore them, since names in
/// a checkpoint of TensorFlow 2 are those of objects.
pub(crate) fn stored(def: &GraphDef, restore: &str) -> HashMap<String, Stored> {
    let functions = def.functions().unwrap_or_default();
    let mut found = restored(&def.nodes, |input| Some(input_node(input).to_owned()));
    let calls = def.nodes.iter().filter(|node| node.name == input_node(restore));
    for call in calls {
        let named = call.functions().unwrap_or_default();
        for function in functions.iter().filter(|function| named.contains(&function.name)) {
            found.extend(restored(&function.nodes, |input| handle_of(function, call, input)));
        }
    }
    found
}

/// The node whose handle the caller gives to a function as this argument.
fn handle_of(function: &Function, call: &NodeDef, argument: &str) -> Option<String> {
    let place = function.inputs.iter().position(|input| input.name == argument)?;
    call.inputs.get(place).map(|input| input_node(input).to_owned())
}

fn restored(nodes: &[NodeDef], handle: impl Fn(&str) -> Option<String>) -> HashMap<String, Stored> {
    let by_name: HashMap<&str, &NodeDef> = nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let texts =
        |input: Option<&String>| -> Option<Vec<String>> { by_name.get(input_node(input?))?.texts("value") };
    let restore = |node: &NodeDef| -> Option<Vec<Stored>> {
        let (keys, slices) = (texts(node.inputs.get(1))?, texts(node.inputs.get(2))?);
        Some(keys.into_iter().zip(slices).map(|(key, slice)| Stored { key, slice }).collect())
    };
    let restores: HashMap<&str, Vec<Stored>> = nodes
        .iter()
        .filter(|node| node.op == "RestoreV2")
        .filter_map(|node| Some((node.name.as_str(), restore(node)?)))
        .collect();
    let stored = |node: &NodeDef| -> Option<(String, Stored)> {
        let variable = handle(node.inputs.first()?)?;
        let mut value = node.inputs.get(1)?;
        // No chain is longer than there are nodes, unless it is a ring.
        for _ in nodes {
            let node = by_name.get(input_node(value))?;
            if node.op != "Identity" {
                break;
            }
            value = node.inputs.first()?;
        }
        let index = value.rsplit(':').next().and_then(|index| index.parse().ok()).unwrap_or(0_usize);
        Some((variable, restores.get(input_node(value))?.get(index)?.clone()))
    };
    let assigns = nodes.iter().filter(|node| matches!(node.op.as_str(), "AssignVariableOp" | "Assign"));
    assigns.filter_map(stored).collect()
}

/// A graph that reads these out of the checkpoint with a prefix, and the tensors that they are.
pub(crate) fn reader(prefix: &str, wanted: &[(Stored, i64)]) -> (GraphDef, Vec<TensorName>) {
    let keys: Vec<&str> = wanted.iter().map(|(stored, _)| stored.key.as_str()).collect();
    let slices: Vec<&str> = wanted.iter().map(|(stored, _)| stored.slice.as_str()).collect();
    let dtypes: Vec<i64> = wanted.iter().map(|(_, dtype)| *dtype).collect();
    let constants = [("prefix", vec![prefix], false), ("keys", keys, true), ("slices", slices, true)];
    let mut nodes: Vec<NodeDef> =
        constants.iter().map(|(name, texts, list)| NodeDef::texts_constant(name, texts, *list)).collect();
    let inputs = constants.each_ref().map(|(name, ..)| *name);
    nodes.push(NodeDef::new("restore", "RestoreV2", &inputs, [("dtypes", types_attr(&dtypes))]));
    let tensors = (0..wanted.len()).map(|index| TensorName { node: "restore".to_owned(), index });
    (GraphDef { nodes, rest: Vec::new() }, tensors.collect())
}
