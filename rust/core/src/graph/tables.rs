//! Lookup tables of a SavedModel: filled once by the model's own initialisers, when it is converted, and kept as constants.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::proto::{DT_STRING, Function, NodeDef, Tensor, tensor_attr, type_attr};
use super::{GraphFile, deny, input_node, keep};
use crate::session::Session;
use crate::texts::Texts;
use crate::values::{Dtype, Values};
use crate::{Result, graph::TensorName};

/// How a model fills its tables.
#[derive(Debug, Default)]
pub(super) struct Initialisers {
    /// Operations.
    pub(super) operations: Vec<String>,
    /// Tensors that hold the path of a file inside of the SavedModel, and that path.
    pub(super) assets: Vec<(String, PathBuf)>,
}

/// A table whose content never changes after it was filled.
pub(super) fn is_table(node: &NodeDef) -> bool {
    node.op == "HashTableV2"
}

/// Whether a node is a table that is filled while the graph runs.
pub(super) fn is_mutable(node: &NodeDef) -> bool {
    let op = node.op.as_str();
    op == "HashTable" || op.starts_with("MutableHashTable") || op.starts_with("MutableDenseHashTable")
}

const FROM_FILE: &str = "InitializeTableFromTextFile";

/// The chain from a table's file back to its name, at most: a crafted graph must not go round in it.
const FARTHEST: usize = 16;

/// Operations that fill these tables with what the model's initialisers put there, and the constants for it.
pub(super) fn fills(
    whole: &GraphFile,
    tables: &[NodeDef],
    initialisers: &Initialisers,
) -> Result<Vec<NodeDef>> {
    let Some(first) = tables.first() else { return Ok(Vec::new()) };
    if initialisers.operations.is_empty() {
        let what = format!("nothing fills its table {} ({}): give a SavedModel", first.name, first.op);
        return Err(whole.refused(&what));
    }
    // TensorFlow 1 may list an asset more than once.
    let assets: BTreeMap<&String, &PathBuf> =
        initialisers.assets.iter().map(|(tensor, path)| (tensor, path)).collect();
    let there: Vec<String> = assets
        .keys()
        .filter(|tensor| whole.node(input_node(tensor)).is_some())
        .map(|tensor| (*tensor).clone())
        .collect();
    let mut nodes = whole.behind(&there, &initialisers.operations)?;
    deny::check(&nodes, whole, deny::Purpose::Initialise)?;
    if !whole.allows_unsafe_ops {
        check_files(whole, &nodes, &there)?;
    }
    let names: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
    nodes.extend(
        tables
            .iter()
            .filter(|table| nodes.iter().all(|node| node.name != table.name))
            .cloned()
            .collect::<Vec<_>>(),
    );
    let (mut fetches, mut dtypes) = (Vec::new(), Vec::new());
    for table in tables {
        let kinds = ["key_dtype", "value_dtype"].map(|attr| table.data_type(attr).and_then(Dtype::numbered));
        let [Some(key), Some(value)] = kinds else {
            return Err(whole.refused(&format!("its table {} is of types that are not built", table.name)));
        };
        let name = format!("{}/exported", table.name);
        let attrs = [("Tkeys", type_attr(key.number())), ("Tvalues", type_attr(value.number()))];
        nodes.push(NodeDef::new(&name, "LookupTableExportV2", &[&table.name], attrs));
        for (index, dtype) in [key, value].into_iter().enumerate() {
            fetches.push(TensorName { node: name.clone(), index });
            dtypes.push(dtype);
        }
    }
    let paths = assets.into_iter().filter(|(tensor, _)| there.contains(tensor));
    let fed: Vec<(TensorName, Values)> = paths
        .filter_map(|(tensor, path)| {
            let mut text = Texts::new(&[]);
            text.set(0, path.to_str()?.as_bytes());
            Some((TensorName::parse(tensor)?, Values::String(text)))
        })
        .collect();
    let def = super::proto::GraphDef { nodes, rest: whole.def.rest.clone() };
    let contents = Session::once(&def, &initialisers.operations, &fed, &fetches, &dtypes)
        .map_err(|e| whole.refused("its tables cannot be filled").with_source(e))?;
    Ok(names.iter().zip(contents.chunks(2)).flat_map(|(name, content)| fill(name, content)).collect())
}

/// The constants of a table, and the operation that puts them into it.
fn fill(table: &str, content: &[Values]) -> Vec<NodeDef> {
    let mut nodes = Vec::new();
    let mut inputs = vec![table.to_owned()];
    let mut types = Vec::new();
    for (role, values) in ["keys", "values"].iter().zip(content) {
        let name = format!("{table}/{role}");
        nodes.push(constant(&name, values));
        inputs.push(name);
        types.push(type_attr(values.dtype().number()));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let mut import = NodeDef::new(&format!("{table}/filled"), "LookupTableImportV2", &inputs, []);
    import.attrs.extend(["Tin", "Tout"].iter().map(|attr| (*attr).to_owned()).zip(types));
    keep::mark(&mut import);
    nodes.push(import);
    nodes
}

/// A constant of a list of values of any type.
fn constant(name: &str, values: &Values) -> NodeDef {
    if let Values::String(texts) = values {
        return NodeDef::texts_constant(name, &texts.iter().collect::<Vec<_>>(), true);
    }
    let dtype = values.dtype().number();
    debug_assert_ne!(dtype, DT_STRING);
    let tensor = Tensor::new(dtype, values.dims(), values.bytes());
    NodeDef::new(name, "Const", &[], [("dtype", type_attr(dtype)), ("value", tensor_attr(&tensor))])
}

/// Refuses a table that is filled from a file that is not the model's own.
fn check_files(whole: &GraphFile, nodes: &[NodeDef], assets: &[String]) -> Result<()> {
    let trace = Trace { whole, assets };
    let refused = |node: &NodeDef| {
        whole.refused(&format!(
            "{} (node {}) reads a file that is none of its assets; set allowUnsafeOps where you trust it",
            node.op, node.name
        ))
    };
    for node in nodes.iter().filter(|node| node.op.starts_with(FROM_FILE)) {
        let file = node.inputs.get(1);
        if !file.is_some_and(|file| trace.is_asset(file, FARTHEST)) {
            return Err(refused(node));
        }
    }
    for function in whole.functions.values() {
        for node in function.nodes.iter().filter(|node| node.op.starts_with(FROM_FILE)) {
            let file = node.inputs.get(1);
            if !file.is_some_and(|file| trace.is_asset_in(function, file, FARTHEST)) {
                return Err(refused(node));
            }
        }
    }
    Ok(())
}

/// From the name of a file back to where it comes from.
struct Trace<'a> {
    whole: &'a GraphFile,
    assets: &'a [String],
}

impl Trace<'_> {
    fn is_asset(&self, input: &str, left: usize) -> bool {
        let Some(name) = TensorName::parse(input).filter(|_| left > 0) else { return false };
        if self.assets.iter().any(|asset| TensorName::parse(asset).as_ref() == Some(&name)) {
            return true;
        }
        let Some(node) = self.whole.node(&name.node) else { return false };
        let source = node.inputs.first();
        match node.op.as_str() {
            "Identity" => source.is_some_and(|source| self.is_asset(source, left - 1)),
            "ReadVariableOp" => source.is_some_and(|handle| {
                let nodes = &self.whole.def.nodes;
                let mut assigned = nodes
                    .iter()
                    .filter(|node| node.op == "AssignVariableOp" && node.inputs.first() == Some(handle))
                    .peekable();
                assigned.peek().is_some()
                    && assigned
                        .all(|node| node.inputs.get(1).is_some_and(|value| self.is_asset(value, left - 1)))
            }),
            _ => false,
        }
    }

    /// The same in a function: of an argument, at every place that calls it.
    fn is_asset_in(&self, function: &Function, input: &str, left: usize) -> bool {
        if left == 0 {
            return false;
        }
        if let Some(place) = function.inputs.iter().position(|argument| argument.name == input) {
            let calls =
                |node: &&NodeDef| node.functions().is_some_and(|called| called.contains(&function.name));
            let inside =
                self.whole.functions.values().any(|other| other.nodes.iter().any(|node| calls(&node)));
            let mut callers = self.whole.def.nodes.iter().filter(calls).peekable();
            return !inside
                && callers.peek().is_some()
                && callers
                    .all(|node| node.inputs.get(place).is_some_and(|value| self.is_asset(value, left - 1)));
        }
        let source = function.nodes.iter().find(|node| node.name == input_node(input));
        source.is_some_and(|node| {
            node.op == "Identity"
                && node.inputs.first().is_some_and(|input| self.is_asset_in(function, input, left - 1))
        })
    }
}
