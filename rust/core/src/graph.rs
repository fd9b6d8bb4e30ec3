//! A frozen graph as data: what runs for its outputs, and whether that may run, before TensorFlow sees any of it.

mod convert;
mod deny;
pub(crate) mod each_row;
pub(crate) mod freeze;
pub(crate) mod keep;
pub(crate) mod proto;
mod tables;
pub(crate) mod wire;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

pub use convert::convert;

use crate::names::closest;
use crate::{Error, ErrorKind, Result};
use proto::{Function, GraphDef, NodeDef};

/// A parsed graph with its nodes by name.
pub(crate) struct GraphFile {
    def: GraphDef,
    by_name: HashMap<String, usize>,
    functions: HashMap<String, Function>,
    place: Place,
    allows_unsafe_ops: bool,
}

/// Where a graph comes from, as errors name it: `the bundle x.sparkdl`.
#[derive(Debug, Clone)]
pub(crate) struct Place(String);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Place {
    pub(crate) fn bundle(shown: &str) -> Place {
        Place(format!("the bundle {shown}"))
    }

    pub(crate) fn graph(shown: &str) -> Place {
        Place(format!("the graph {shown}"))
    }

    pub(crate) fn refused(&self, what: &str) -> Error {
        Error::new(ErrorKind::InvalidModel, format!("Cannot use {}: {what}.", self.0))
    }
}

/// The nodes that run for some outputs, checked.
pub(crate) struct Closure {
    pub(crate) def: GraphDef,
    pub(crate) feeds: Vec<TensorName>,
    pub(crate) fetches: Vec<TensorName>,
}

pub(crate) const NO_GRAPH: &str = "its graph is not a TensorFlow GraphDef";

/// `node:index`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TensorName {
    pub(crate) node: String,
    pub(crate) index: usize,
}

impl TensorName {
    /// Reads a manifest's tensor, or an input of a node (where `:0` may be left out).
    pub(crate) fn parse(text: &str) -> Option<TensorName> {
        let (node, index) = match text.split_once(':') {
            Some((node, index)) => (node, index.parse().ok()?),
            None => (text, 0),
        };
        let valid = !node.is_empty() && !node.starts_with('^') && !node.contains('\0');
        (valid && index < 1 << 16).then(|| TensorName { node: node.to_owned(), index })
    }
}

impl std::fmt::Display for TensorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.node, self.index)
    }
}

impl GraphFile {
    /// Parses a serialised `GraphDef`; weights stay where they are in `bytes`.
    pub(crate) fn parse(bytes: Vec<u8>, place: Place) -> Result<GraphFile> {
        match GraphDef::decode(&Bytes::from(bytes)) {
            Some(def) => GraphFile::new(def, place),
            None => Err(place.refused(NO_GRAPH)),
        }
    }

    pub(crate) fn new(def: GraphDef, place: Place) -> Result<GraphFile> {
        let broken = || place.refused(NO_GRAPH);
        let mut functions = HashMap::new();
        for function in def.functions().ok_or_else(broken)? {
            let name = function.name.clone();
            if functions.insert(name.clone(), function).is_some() {
                return Err(place.refused(&format!("its graph has two functions named {name}")));
            }
        }
        let mut by_name = HashMap::with_capacity(def.nodes.len());
        for (index, node) in def.nodes.iter().enumerate() {
            if by_name.insert(node.name.clone(), index).is_some() {
                return Err(place.refused(&format!("its graph has two nodes named {}", node.name)));
            }
        }
        Ok(GraphFile { def, by_name, functions, place, allows_unsafe_ops: false })
    }

    /// Whether what runs may reach beyond the graph, as whoever asks for it says.
    pub(crate) fn allowing_unsafe_ops(mut self, allowed: bool) -> GraphFile {
        self.allows_unsafe_ops = allowed;
        self
    }

    /// What runs when `feeds` are given and `fetches` asked for; refuses what must not run.
    pub(crate) fn closure(&self, feeds: &[String], fetches: &[String]) -> Result<Closure> {
        let (feeds, fetches) = (self.tensors(feeds)?, self.tensors(fetches)?);
        feeds.iter().try_for_each(|feed| self.check_feed(feed))?;
        let nodes = self.needed(&feeds, &fetches)?;
        let purpose =
            if nodes.iter().any(keep::fills) { deny::Purpose::RunFilled } else { deny::Purpose::Run };
        deny::check(&nodes, self, purpose)?;
        Ok(Closure { def: GraphDef { nodes, rest: self.def.rest.clone() }, feeds, fetches })
    }

    /// The same where the feeds are pictures: floats, on which the result depends.
    pub(crate) fn picture_closure(&self, feeds: &[String], fetches: &[String]) -> Result<Closure> {
        let closure = self.closure(feeds, fetches)?;
        for feed in &closure.feeds {
            if self.node(&feed.node).and_then(|node| node.data_type("dtype")) != Some(proto::DT_FLOAT) {
                return Err(self.refused(&format!("its input {feed} is not of type float32")));
            }
            if !closure.def.nodes.iter().any(|node| node.name == feed.node) {
                let asked = fetches.join(", ");
                return Err(self.refused(&format!("{asked} does not depend on the input {feed}")));
            }
        }
        Ok(closure)
    }

    /// The nodes behind `fetches`, up to `feeds`.
    fn needed(&self, feeds: &[TensorName], fetches: &[TensorName]) -> Result<Vec<NodeDef>> {
        let shown =
            |names: &[TensorName]| names.iter().map(TensorName::to_string).collect::<Vec<_>>().join(", ");
        let mut reached = HashSet::new();
        let mut open: Vec<&str> = fetches.iter().map(|fetch| fetch.node.as_str()).collect();
        while let Some(name) = open.pop().or_else(|| self.filling(&reached)) {
            let node = self.node(name).ok_or_else(|| {
                self.refused(&format!("its graph uses the node {name}, which is not there"))
            })?;
            if !reached.insert(name) || feeds.iter().any(|feed| feed.node == name) {
                continue;
            }
            if matches!(node.op.as_str(), "Placeholder" | "PlaceholderV2") {
                let (fed, asked) = (shown(feeds), shown(fetches));
                return Err(self.refused(&format!("{asked} needs a second input, {name}; only {fed} is fed")));
            }
            open.extend(node.inputs.iter().map(|input| input_node(input)));
        }
        let nodes = self.def.nodes.iter().filter(|node| reached.contains(node.name.as_str()));
        Ok(nodes.map(|node| fed(node, feeds)).collect())
    }

    /// An operation not reached yet that fills what is reached.
    fn filling<'a>(&'a self, reached: &HashSet<&str>) -> Option<&'a str> {
        let fills = |node: &&NodeDef| {
            let filled = node.inputs.first().map(|input| input_node(input));
            keep::fills(node)
                && !reached.contains(node.name.as_str())
                && filled.is_some_and(|filled| reached.contains(filled))
        };
        self.def.nodes.iter().find(fills).map(|node| node.name.as_str())
    }

    /// The nodes behind `fetches`, up to `feeds`, whatever they do.
    pub(crate) fn behind(&self, feeds: &[String], fetches: &[String]) -> Result<Vec<NodeDef>> {
        self.needed(&self.tensors(feeds)?, &self.tensors(fetches)?)
    }

    fn node(&self, name: &str) -> Option<&NodeDef> {
        self.def.nodes.get(*self.by_name.get(name)?)
    }

    fn tensors(&self, texts: &[String]) -> Result<Vec<TensorName>> {
        texts.iter().map(|text| self.tensor(text)).collect()
    }

    fn tensor(&self, text: &str) -> Result<TensorName> {
        let name = TensorName::parse(text)
            .ok_or_else(|| self.refused(&format!("the tensor \"{text}\" is not of the form name:0")))?;
        if self.node(&name.node).is_none() {
            let close = closest(&name.node, self.by_name.keys()).join(", ");
            return Err(
                self.refused(&format!("its graph has no tensor {text}; the names nearest to it are {close}"))
            );
        }
        Ok(name)
    }

    fn check_feed(&self, feed: &TensorName) -> Result<()> {
        let Some(node) = self.node(&feed.node) else { return Ok(()) };
        if !matches!(node.op.as_str(), "Placeholder" | "PlaceholderWithDefault") || feed.index != 0 {
            return Err(self.refused(&format!("its input {feed} is not a Placeholder but a {}", node.op)));
        }
        Ok(())
    }

    fn refused(&self, what: &str) -> Error {
        self.place.refused(what)
    }
}

/// A node as it is where these tensors are fed: a placeholder needs no default then.
fn fed(node: &NodeDef, feeds: &[TensorName]) -> NodeDef {
    let mut node = node.clone();
    if node.op == "PlaceholderWithDefault" && feeds.iter().any(|feed| feed.node == node.name) {
        "Placeholder".clone_into(&mut node.op);
        node.inputs.clear();
    }
    node
}

/// The node an input comes from: `^control`, `node`, `node:1`.
pub(crate) fn input_node(input: &str) -> &str {
    let name = input.strip_prefix('^').unwrap_or(input);
    name.split_once(':').map_or(name, |(node, _)| node)
}
