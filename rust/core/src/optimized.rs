//! A graph as TensorFlow leaves it for running, read back as data: with kernels of convolutions in memory files, and with sums
//! that may run side by side (`summands`).
//!
//! TensorFlow brings a convolution's kernel into oneDNN's order once where it is a constant, and in every run where it comes
//! from a file. But constants are copied from pass to pass. So the graph is optimized with its kernels in files; the operations
//! that come out are told that their kernels never change, which is so, and run without being optimized again.

use std::collections::HashSet;

use bytes::Bytes;

use crate::graph::proto::{GraphDef, NodeDef, true_attr};
use crate::graph::wire::fields;
use crate::graph::{Closure, TensorName, input_node};
use crate::session::{Ports, Session, THREADS, UNTRACED};
use crate::values::{Port, Values};
use crate::{Error, ErrorKind, Result, summands, weights};

/// `graph_options`: as `session::CPU_OPTIMIZERS`, and constants from files are not folded (`optimizer_options {
/// max_folded_constant_in_bytes: 1024 }`).
const TRACED: [u8; 16] = [0x52, 14, 0x1a, 3, 0x30, 0x80, 0x08, 0x52, 7, 0x20, 1, 0x80, 0x02, 1, 0x08, 2];

/// `graph_options`: for a graph that is optimized, `rewrite_options { disable_meta_optimizer: true }`.
const OPTIMIZED: [u8; 12] = [0x52, 10, 0x1a, 3, 0x30, 0x80, 0x08, 0x52, 3, 0x98, 0x01, 1];

/// A session in which kernels of convolutions are mapped and sums protected; an error where something is unusual about the graph.
pub(crate) fn session(
    mut closure: Closure,
    ports: Ports<'_>,
    usual_rows: usize,
    shown: &str,
) -> Result<Session> {
    let unusual = |what: &str| Error::new(ErrorKind::Internal, what);
    let samples =
        |rows: usize| ports.feeds.iter().map(|port| sample(port, rows)).collect::<Option<Vec<Values>>>();
    let one = samples(1).ok_or_else(|| unusual("a side of an input is open"))?;
    let (feeds, fetches) = (closure.feeds.clone(), closure.fetches.clone());
    summands::protect_functions(&mut closure.def);
    let weights = weights::map(&mut closure.def, true);
    let config = [&THREADS[..], &TRACED].concat();
    let (expected, metadata) = Session::over(closure, ports, &config, &[], shown)?.traced(&one)?;
    let optimized = read(&metadata, &feeds, &fetches);
    let mut optimized = optimized.ok_or_else(|| unusual("the optimized graph is not as expected"))?;
    drop(metadata);
    summands::protect_fused(&mut optimized.def);
    let fill = weights::hold(&mut optimized.def);
    let config = [&THREADS[..], &UNTRACED, &OPTIMIZED].concat();
    let session = Session::over(optimized, ports, &config, &fill, shown)?.reading(&weights);
    // As many rows as runs will have: the first one settles how oneDNN orders its kernels.
    let several = samples(session.rows_of_a_run(usual_rows)).unwrap_or(one);
    let found = session.run(&several)?;
    if expected.iter().zip(&found).all(|(row, rows)| rows.repeats(row)) {
        Ok(session)
    } else {
        Err(unusual("the optimized graph gives other numbers"))
    }
}

/// So many equal rows to try a graph with; `None` where a side is open.
fn sample(port: &Port, rows: usize) -> Option<Values> {
    let sides = port.shape.iter().map(|side| side.map(|side| side as u64)).collect::<Option<Vec<_>>>()?;
    let dims: Vec<u64> = std::iter::once(rows as u64).chain(sides).collect();
    let mut values = Values::new(port.dtype, &dims);
    if let Values::Float32(tensor) = &mut values {
        let row = tensor.len() / rows;
        tensor.iter_mut().enumerate().for_each(|(i, value)| *value = (i % row * 37 % 255) as f32 / 255.0);
    }
    Some(values)
}

/// `RunMetadata.partition_graphs`.
const PARTITION_GRAPHS: u32 = 3;
/// `NodeDef.device`.
const DEVICE: u32 = 4;
/// Of oneDNN's convolutions: whether the kernel, their second input, is always the same.
const ASSURANCE: &str = "is_filter_const";

/// The graph in a serialised `RunMetadata` of a run that was fed `feeds` and asked for `fetches`; `None` where it is not as
/// expected.
fn read(metadata: &[u8], feeds: &[TensorName], fetches: &[TensorName]) -> Option<Closure> {
    let metadata = fields(&Bytes::copy_from_slice(metadata))?;
    let mut graphs = metadata.iter().filter(|field| field.number == PARTITION_GRAPHS);
    let (Some(graph), None) = (graphs.next(), graphs.next()) else { return None };
    let mut def = GraphDef::decode(graph.value.bytes()?)?;
    let found: Vec<TensorName> = fetches.iter().map(|fetch| fetched(&def, fetch)).collect::<Option<_>>()?;
    def.nodes.retain(|node| node.op != "_Retval");
    let mut fed = Vec::with_capacity(feeds.len());
    for (number, feed) in feeds.iter().enumerate() {
        let name = format!("fed_{number}");
        let start = format!("_arg_{}_{}_", feed.node, feed.index);
        if let Some(node) =
            def.nodes.iter_mut().find(|node| node.op == "_Arg" && node.name.starts_with(&start))
        {
            let old = std::mem::replace(&mut node.name, name.clone());
            let dtype = node.attrs.remove("T")?;
            "Placeholder".clone_into(&mut node.op);
            node.attrs = [("dtype".to_owned(), dtype)].into();
            rename(&mut def.nodes, &old, &name);
        }
        fed.push(TensorName { node: name, index: 0 });
    }
    let sound = |node: &NodeDef| {
        !node.name.starts_with('_') && !matches!(node.op.as_str(), "_Arg" | "_Send" | "_Recv")
    };
    if !def.nodes.iter().all(sound) {
        return None;
    }
    let constants: HashSet<String> = def
        .nodes
        .iter()
        .filter(|node| matches!(node.op.as_str(), "Const" | "ImmutableConst"))
        .map(|node| node.name.clone())
        .collect();
    for node in &mut def.nodes {
        node.rest.retain(|field| field.number != DEVICE);
        let kernel = node.inputs.get(1).map(|input| input_node(input));
        if kernel.is_some_and(|kernel| constants.contains(kernel))
            && let Some(value) = node.attrs.get_mut(ASSURANCE)
        {
            *value = true_attr();
        }
    }
    Some(Closure { def, feeds: fed, fetches: found })
}

/// The tensor that a fetch is now.
fn fetched(def: &GraphDef, fetch: &TensorName) -> Option<TensorName> {
    let start = format!("_retval_{}_{}_", fetch.node, fetch.index);
    let node = def.nodes.iter().find(|node| node.op == "_Retval" && node.name.starts_with(&start))?;
    TensorName::parse(node.inputs.first()?)
}

fn rename(nodes: &mut [NodeDef], old: &str, new: &str) {
    for input in nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        let (caret, name) = input.strip_prefix('^').map_or(("", input.as_str()), |name| ("^", name));
        let (node, index) = name.split_once(':').map_or((name, ""), |(node, index)| (node, index));
        if node == old {
            let colon = if index.is_empty() { "" } else { ":" };
            *input = format!("{caret}{new}{colon}{index}");
        }
    }
}
