//! Variables of a graph to constants, in its functions too.
//!
//! A SavedModel of TensorFlow 2 hands the handles of its variables to functions, which read them. Such a function gets a copy that
//! takes the value itself; whoever calls it calls the copy. What becomes of a handle otherwise cannot be frozen.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::TensorName;
use super::proto::{
    DT_INT32, DT_RESOURCE, Function, GraphDef, NodeDef, Tensor, functions_of, tensor_attr, type_attr,
    with_functions, with_types,
};

/// The values of variables, by the node of their handle.
pub(crate) type Variables = HashMap<String, Tensor>;

/// A node because of which a variable has to stay one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) node: String,
    pub(crate) op: String,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (node {})", self.op, self.node)
    }
}

/// Puts constants in the places of `variables`; what nothing calls any more leaves the library.
pub(crate) fn freeze(mut def: GraphDef, variables: Variables) -> Result<GraphDef, Kept> {
    let functions = def.functions().unwrap_or_default();
    let functions = functions.into_iter().map(|function| (function.name.clone(), function)).collect();
    let mut freezer = Freezer { functions, copies: HashMap::new(), depth: 0 };
    let mut handles = Handles::new();
    for node in &mut def.nodes {
        // Where to put it: beside a node that may be gone.
        node.attrs.remove("_class");
        let Some(value) = variables.get(&node.name) else { continue };
        if node.op == "VarHandleOp" {
            handles.insert(format!("{}:0", node.name), value.dtype);
        }
        // The reference to a variable of TensorFlow 1 is read like its value.
        *node = constant(&node.name, value);
    }
    freezer.rewrite(&mut def.nodes, &mut handles, Scope::Graph)?;
    let called = freezer.called(&def.nodes);
    let called: Vec<Function> = called.iter().filter_map(|name| freezer.functions.remove(name)).collect();
    def.set_functions(&called);
    Ok(def)
}

const READ: &str = "ReadVariableOp";

/// The types of the variables behind tensors that are handles.
type Handles = HashMap<String, i64>;

/// Where nodes are: it decides how an input names the output that it takes.
#[derive(Debug, Clone, Copy)]
enum Scope {
    /// `node`, `node:1`
    Graph,
    /// `argument`, `node:output:1`
    Function,
}

impl Scope {
    fn key(self, input: &str) -> String {
        match self {
            Scope::Graph => TensorName::parse(input).map_or_else(String::new, |name| name.to_string()),
            Scope::Function => input.to_owned(),
        }
    }

    /// The key of an output of a node that passes handles on: all of them call their only list or tensor `output`.
    fn output(self, node: &NodeDef, place: usize) -> String {
        match self {
            Scope::Graph => format!("{}:{place}", node.name),
            Scope::Function => format!("{}:output:{place}", node.name),
        }
    }

    /// How an input names the only output of a constant.
    fn constant(self, name: &str) -> String {
        match self {
            Scope::Graph => name.to_owned(),
            Scope::Function => format!("{name}:output:0"),
        }
    }
}

/// An operation that calls functions: the attributes that name them and their arguments' types, and the input that is their
/// first argument.
struct Caller {
    functions: &'static [&'static str],
    types: &'static str,
    first: usize,
}

const CALL: Caller = Caller { functions: &["f"], types: "Tin", first: 0 };
const IF: Caller = Caller { functions: &["then_branch", "else_branch"], types: "Tin", first: 1 };
const CASE: Caller = Caller { functions: &["branches"], types: "Tin", first: 1 };
const WHILE: Caller = Caller { functions: &["cond", "body"], types: "T", first: 0 };

struct Freezer {
    functions: HashMap<String, Function>,
    /// By the function and the types of the variables in the places of its arguments.
    copies: HashMap<(String, BTreeMap<usize, i64>), Variant>,
    /// Functions that are being copied, each because the one before it calls it.
    depth: usize,
}

/// Functions inside of functions: a crafted graph must not use up the stack.
const DEEPEST: usize = 64;

#[derive(Clone)]
struct Variant {
    name: String,
    /// Outputs that were handles and are values, with their types.
    outputs: BTreeMap<usize, i64>,
}

impl Freezer {
    /// Lets every node take values where it took handles.
    fn rewrite(&mut self, nodes: &mut Vec<NodeDef>, handles: &mut Handles, scope: Scope) -> Result<(), Kept> {
        let mut done = HashSet::new();
        let mut added = Vec::new();
        loop {
            let before = done.len();
            for (index, node) in nodes.iter_mut().enumerate() {
                let taken =
                    |(place, input): (usize, &String)| Some((place, *handles.get(&scope.key(input))?));
                let taken: BTreeMap<usize, i64> = node.inputs.iter().enumerate().filter_map(taken).collect();
                // A node may take handles from several others, of which the last is met later.
                if taken.is_empty() || !done.insert((index, taken.len())) {
                    continue;
                }
                for (place, dtype) in self.take(node, &taken, scope, &mut added)? {
                    handles.insert(scope.output(node, place), dtype);
                }
            }
            if done.len() == before {
                nodes.append(&mut added);
                return Ok(());
            }
        }
    }

    /// Lets a node take values in some places. Gives the outputs that were handles.
    fn take(
        &mut self,
        node: &mut NodeDef,
        taken: &BTreeMap<usize, i64>,
        scope: Scope,
        added: &mut Vec<NodeDef>,
    ) -> Result<BTreeMap<usize, i64>, Kept> {
        let kept = || Kept { node: node.name.clone(), op: node.op.clone() };
        let first = taken.get(&0).copied();
        match (node.op.as_str(), first) {
            (READ, Some(dtype)) => {
                "Identity".clone_into(&mut node.op);
                node.attrs = [("T".to_owned(), type_attr(dtype))].into();
                Ok(BTreeMap::new())
            }
            ("Identity", Some(dtype)) => {
                node.attrs.insert("T".to_owned(), type_attr(dtype));
                Ok([(0, dtype)].into())
            }
            ("ResourceGather", Some(dtype)) => {
                let axis = format!("{}/axis", node.name);
                added.push(constant(&axis, &Tensor::new(DT_INT32, &[], Bytes::from_static(&[0; 4]))));
                node.inputs.insert(2, scope.constant(&axis));
                "GatherV2".clone_into(&mut node.op);
                let kept = |name: &str| node.attrs.get(name).cloned();
                let mut attrs: BTreeMap<String, Bytes> =
                    [("Tparams".to_owned(), type_attr(dtype)), ("Taxis".to_owned(), type_attr(DT_INT32))]
                        .into();
                attrs.extend(
                    ["Tindices", "batch_dims"]
                        .iter()
                        .filter_map(|&name| Some((name.to_owned(), kept(name)?))),
                );
                node.attrs = attrs;
                Ok(BTreeMap::new())
            }
            ("PartitionedCall" | "StatefulPartitionedCall", _) => self.call(node, &CALL, taken),
            ("If" | "StatelessIf", _) => self.call(node, &IF, taken),
            ("Case" | "StatelessCase", _) => self.call(node, &CASE, taken),
            ("While" | "StatelessWhile", _) => {
                self.call(node, &WHILE, taken)?;
                Ok(taken.clone())
            }
            _ => Err(kept()),
        }
    }

    /// Lets a node call copies of its functions.
    fn call(
        &mut self,
        node: &mut NodeDef,
        kind: &Caller,
        taken: &BTreeMap<usize, i64>,
    ) -> Result<BTreeMap<usize, i64>, Kept> {
        let kept = || Kept { node: node.name.clone(), op: node.op.clone() };
        let arguments: BTreeMap<usize, i64> = taken
            .iter()
            .map(|(place, dtype)| Some((place.checked_sub(kind.first)?, *dtype)))
            .collect::<Option<_>>()
            .ok_or_else(kept)?;
        let mut outputs = BTreeMap::new();
        for attr in kind.functions {
            let value = node.attrs.get(*attr).ok_or_else(kept)?;
            let named = functions_of(value).ok_or_else(kept)?;
            let mut copies = HashMap::new();
            for name in named {
                let copy = self.copy(&name, &arguments).ok_or_else(kept)??;
                outputs.extend(copy.outputs);
                copies.insert(name, copy.name);
            }
            let value = with_functions(value, &copies).ok_or_else(kept)?;
            node.attrs.insert((*attr).to_owned(), value);
        }
        for (attr, changed) in [(kind.types, &arguments), ("Tout", &outputs)] {
            if let Some(value) = node.attrs.get(attr) {
                let value = with_types(value, changed).ok_or_else(kept)?;
                node.attrs.insert(attr.to_owned(), value);
            }
        }
        // Both number arguments that are handles.
        node.attrs.remove("_read_only_resource_inputs");
        node.attrs.remove("_output_shapes");
        Ok(outputs)
    }

    /// A copy of a function that takes values in some places; `None` if there is no such function or place, or it lies too deep.
    fn copy(&mut self, name: &str, arguments: &BTreeMap<usize, i64>) -> Option<Result<Variant, Kept>> {
        let sought = (name.to_owned(), arguments.clone());
        if let Some(copy) = self.copies.get(&sought) {
            return Some(Ok(copy.clone()));
        }
        if self.depth >= DEEPEST {
            return None;
        }
        let mut function = self.functions.get(name)?.clone();
        let mut numbered = (0..).map(|number| format!("{name}_frozen_{number}"));
        function.name = numbered.find(|name| !self.functions.contains_key(name))?;
        let mut handles = Handles::new();
        for (place, dtype) in arguments {
            let argument = function.inputs.get_mut(*place)?;
            if argument.dtype == DT_RESOURCE {
                argument.dtype = *dtype;
                handles.insert(argument.name.clone(), *dtype);
            }
        }
        // Says of handles what no longer holds.
        function.forget_arguments();
        // A function may call itself.
        let mut copy = Variant { name: function.name.clone(), outputs: BTreeMap::new() };
        self.copies.insert(sought.clone(), copy.clone());
        self.functions.insert(copy.name.clone(), function.clone());
        let reads: HashSet<String> =
            function.nodes.iter().filter(|node| node.op == READ).map(|node| node.name.clone()).collect();
        self.depth += 1;
        let rewritten = self.rewrite(&mut function.nodes, &mut handles, Scope::Function);
        self.depth -= 1;
        if let Err(kept) = rewritten {
            return Some(Err(kept));
        }
        // What was read is called `value` in a function, what an Identity gives is called `output`.
        let identities = function.nodes.iter().filter(|node| node.op != READ && reads.contains(&node.name));
        let renamed: HashMap<String, String> = identities
            .map(|node| (format!("{}:value:0", node.name), format!("{}:output:0", node.name)))
            .collect();
        let inputs = function.nodes.iter_mut().flat_map(|node| &mut node.inputs);
        for input in inputs.chain(function.returns.values_mut()) {
            if let Some(name) = renamed.get(input) {
                input.clone_from(name);
            }
        }
        for (place, output) in function.outputs.iter_mut().enumerate() {
            let value = function.returns.get(&output.name);
            if let Some(dtype) = value.and_then(|value| handles.get(value)) {
                output.dtype = *dtype;
                copy.outputs.insert(place, *dtype);
            }
        }
        self.copies.insert(sought, copy.clone());
        self.functions.insert(copy.name.clone(), function);
        Some(Ok(copy))
    }

    /// The functions that nodes call, and those that these call.
    fn called(&self, nodes: &[NodeDef]) -> Vec<String> {
        let calls = |nodes: &[NodeDef]| -> Vec<String> {
            let named = nodes.iter().flat_map(|node| node.functions().unwrap_or_default());
            named.chain(nodes.iter().map(|node| node.op.clone())).collect()
        };
        let (mut open, mut reached, mut order) = (calls(nodes), HashSet::new(), Vec::new());
        while let Some(name) = open.pop() {
            if let Some(function) = self.functions.get(&name)
                && reached.insert(name.clone())
            {
                open.extend(calls(&function.nodes));
                order.push(name);
            }
        }
        order
    }
}

pub(super) fn constant(name: &str, value: &Tensor) -> NodeDef {
    NodeDef::new(name, "Const", &[], [("dtype", type_attr(value.dtype)), ("value", tensor_attr(value))])
}
