//! Sums that runs side by side do not spoil for each other.
//!
//! TensorFlow fuses an addition into the convolution before it, and oneDNN adds in place: into the other summand's memory, or
//! into a copy where somebody else still reads that. The operation (`MklConvOp`) keeps where it copies from and to in members,
//! without a lock: two runs of one session at a time copy each other's numbers, or into memory that is gone. So every such
//! summand becomes a `Snapshot`, which copies under the same condition, and safely; then it belongs to the sum alone.

use std::collections::{HashMap, HashSet};

use crate::graph::input_node;
use crate::graph::proto::{DT_BFLOAT16, DT_FLOAT, DT_HALF, GraphDef, NodeDef, text_attr, type_attr};

const CONVOLUTIONS: [&str; 3] = ["Conv2D", "Conv3D", "DepthwiseConv2dNative"];

/// Operations that TensorFlow may fold into the convolution before them, or drop, before it fuses the addition after them.
const FOLDED: [&str; 17] = [
    "Add",
    "AddN",
    "AddV2",
    "BiasAdd",
    "Cast",
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
    "Identity",
    "Mul",
    "PreventGradient",
    "RealDiv",
    "Reshape",
    "Squeeze",
    "StopGradient",
    "Sub",
    "Transpose",
];

/// So many operations lie between a convolution and an addition that is fused into it, at most.
const FARTHEST: usize = 8;

/// Of the fused operation: what follows the convolution.
const FUSED: &str = "fused_ops";

/// How an input names the only output of a node that is called `output`: in a graph, in a function.
type Output = fn(&str) -> String;
const OF_GRAPH: Output = |node| node.to_owned();
const OF_FUNCTION: Output = |node| format!("{node}:output:0");

/// Whether there is an addition that TensorFlow may fuse.
pub(crate) fn may_be_fused(def: &GraphDef) -> bool {
    !Sums::new(&def.nodes).summands().is_empty()
}

/// Makes a snapshot of one summand of each addition that TensorFlow may fuse, in a graph that it has not optimized yet. Copies
/// more often than `protect_fused`, since the snapshot does not wait for other readers.
pub(crate) fn protect(def: &mut GraphDef) {
    let summands = Sums::new(&def.nodes).summands();
    add_snapshots(&mut def.nodes, summands, OF_GRAPH);
}

/// The same in the graph's functions, of which `protect_fused` sees nothing.
pub(crate) fn protect_functions(def: &mut GraphDef) {
    let mut functions = def.functions().unwrap_or_default();
    let mut changed = false;
    for function in &mut functions {
        let summands = Sums::new(&function.nodes).summands();
        changed |= !summands.is_empty();
        add_snapshots(&mut function.nodes, summands, OF_FUNCTION);
    }
    if changed {
        def.set_functions(&functions);
    }
}

/// Makes a snapshot of the summand of each fused operation, in a graph that TensorFlow has optimized: as late as possible, so
/// that nobody else reads the summand any more.
pub(crate) fn protect_fused(def: &mut GraphDef) {
    let fused = |node: &NodeDef| node.text_list(FUSED).is_some_and(|ops| ops.iter().any(|op| op == "Add"));
    let summand = |node: &NodeDef| {
        let place = node.inputs.iter().rposition(|input| !input.starts_with('^'))?;
        (place > 1).then_some(place)
    };
    let summands: Vec<Summand> = def
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| fused(node))
        .filter_map(|(index, node)| {
            let (place, source) = (summand(node)?, node.inputs.first()?);
            Some(Summand { node: index, place, after: Some(format!("^{}", input_node(source))) })
        })
        .collect();
    add_snapshots(&mut def.nodes, summands, OF_GRAPH);
}

/// An input of a node that is to be a snapshot, taken after another node has run.
struct Summand {
    node: usize,
    place: usize,
    after: Option<String>,
}

fn add_snapshots(nodes: &mut Vec<NodeDef>, summands: Vec<Summand>, output: Output) {
    for (number, Summand { node, place, after }) in summands.into_iter().enumerate() {
        let Some(dtype) = nodes[node].data_type("T") else { continue };
        let name = format!("summand_{number}/{}", nodes[node].name);
        let input = std::mem::replace(&mut nodes[node].inputs[place], output(&name));
        // Alike snapshots of one tensor would be made one again.
        let attrs = [("T", type_attr(dtype)), ("_of", text_attr(&name))];
        let mut snapshot = NodeDef::new(&name, "Snapshot", &[&input], attrs);
        snapshot.inputs.extend(after);
        nodes.push(snapshot);
    }
}

/// The nodes of a graph, seen from its additions.
struct Sums<'a> {
    nodes: &'a [NodeDef],
    by_name: HashMap<&'a str, &'a NodeDef>,
    /// Nodes with more readers than one.
    shared: HashSet<&'a str>,
}

impl<'a> Sums<'a> {
    fn new(nodes: &'a [NodeDef]) -> Sums<'a> {
        let by_name = nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        let (mut read, mut shared) = (HashSet::new(), HashSet::new());
        for input in nodes.iter().flat_map(|node| &node.inputs) {
            if !read.insert(input_node(input)) {
                shared.insert(input_node(input));
            }
        }
        Sums { nodes, by_name, shared }
    }

    /// Of each addition with a convolution near one side, the summand that is the less likely to be the convolution.
    fn summands(&self) -> Vec<Summand> {
        let mut distances = HashMap::new();
        let mut summand = |(index, node): (usize, &'a NodeDef)| {
            let places: Vec<usize> =
                (0..node.inputs.len()).filter(|place| !node.inputs[*place].starts_with('^')).collect();
            let &[left, right] = places.as_slice() else { return None };
            let mut distance = |place: usize| self.distance(&node.inputs[place], FARTHEST, &mut distances);
            let (before, behind) = (distance(left), distance(right));
            before.or(behind)?;
            // Where several read the sum before the addition, it is not fused.
            let unlikely = |place: usize, distance: Option<usize>| {
                let shared = self.shared.contains(input_node(&node.inputs[place]));
                (shared || distance.is_none(), distance)
            };
            let place = if unlikely(left, before) > unlikely(right, behind) { left } else { right };
            let is_weight = [left, right].iter().any(|place| self.is_weight(&node.inputs[*place]));
            (!is_weight).then_some(Summand { node: index, place, after: None })
        };
        let sums = self.nodes.iter().enumerate().filter(|(_, node)| {
            matches!(node.op.as_str(), "Add" | "AddV2" | "AddN")
                && matches!(node.data_type("T"), Some(DT_FLOAT | DT_HALF | DT_BFLOAT16))
        });
        sums.filter_map(&mut summand).collect()
    }

    fn node(&self, input: &str) -> Option<&'a NodeDef> {
        self.by_name.get(input_node(input)).copied()
    }

    /// Whether no run owns the tensor, as a bias: nothing is added into it.
    fn is_weight(&self, input: &str) -> bool {
        self.node(input).is_some_and(|node| matches!(node.op.as_str(), "Const" | "ReadVariableOp"))
    }

    /// Operations between an input and the convolution that is nearest behind it.
    fn distance(
        &self,
        input: &str,
        farthest: usize,
        known: &mut HashMap<(&'a str, usize), Option<usize>>,
    ) -> Option<usize> {
        let node = self.node(input)?;
        if CONVOLUTIONS.contains(&node.op.as_str()) {
            return Some(0);
        }
        if farthest == 0 || !FOLDED.contains(&node.op.as_str()) {
            return None;
        }
        let key = (node.name.as_str(), farthest);
        if let Some(distance) = known.get(&key) {
            return *distance;
        }
        let behind = node.inputs.iter().filter_map(|input| self.distance(input, farthest - 1, known)).min();
        let distance = behind.map(|distance| distance + 1);
        known.insert(key, distance);
        distance
    }
}
