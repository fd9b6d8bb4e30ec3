//! Graphs and SavedModels to bundles.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use tensorflow::{Graph, ImportGraphDefOptions};

use super::freeze::{self, Variables};
use super::keep;
use super::proto::{GraphDef, NodeDef, Tensor};
use super::tables::{self, Initialisers};
use super::{GraphFile, NO_GRAPH, Place, TensorName};
use crate::bundle::{self, TENSORS_VERSION, hex_sha256};
use crate::options::GraphOptions;
use crate::saved_model::{self, MetaGraph, Stored};
use crate::session::{MAX_GRAPH_BYTES, Session, sides};
use crate::values::Dtype;
use crate::{Error, Options, Result, runtime};

/// A SavedModel's file and the start of the names of its checkpoint.
const SAVED_MODEL: &str = "saved_model.pb";
const VARIABLES: &str = "variables/variables";
const ASSETS: &str = "assets";

/// Of a folder of checkpoints: the file that names the latest, and the end of the name of a checkpoint's graph.
const CHECKPOINTS: &str = "checkpoint";
const META_GRAPH: &str = ".meta";

/// The name by which a user knows a tensor, and the tensor.
type Named = Vec<(String, String)>;

/// Reads a graph and writes what runs of it as a bundle, with its variables as constants. Needs TensorFlow.
///
/// Options: `file` (a serialised `GraphDef`, the folder of a SavedModel, a folder of checkpoints of TensorFlow 1 or the `.meta` file
/// of one), `output` (the bundle), `name` (of the bundle), `tags`
/// (of a SavedModel, as a JSON array), `signature` (of a SavedModel or checkpoint; empty: `inputs` and `outputs` say it), `inputs`, `outputs`
/// (JSON arrays of tensors, `name:0`; empty with `signature`), `allowUnsafeOps` (whether what runs may reach beyond the graph).
pub fn convert(options: &Options) -> Result<()> {
    let options = GraphOptions::parse(options)?;
    runtime::loaded()?;
    let source = Source::open(&options)?;
    let Source { def, inputs, outputs, .. } = &source;
    let tensors = |named: &Named| named.iter().map(|(_, tensor)| tensor.clone()).collect::<Vec<_>>();
    let (feeds, fetches) = (tensors(inputs), tensors(outputs));
    let whole = source.graph(def.clone())?;
    let nodes = whole.behind(&feeds, &fetches)?;
    if let Some(table) = nodes.iter().find(|node| tables::is_mutable(node)) {
        let what =
            format!("its table {} ({}) is filled while it runs, which is not built", table.name, table.op);
        return Err(source.refused(&what));
    }
    let found: Vec<NodeDef> = nodes.iter().filter(|node| tables::is_table(node)).cloned().collect();
    let fills = tables::fills(&whole, &found, &source.initialisers)?;
    let variables = source.variables(&nodes)?;
    let needed = GraphDef { nodes, rest: def.rest.clone() };
    let mut frozen = freeze::freeze(needed.clone(), variables.clone()).unwrap_or_else(|kept| {
        let place = &source.place;
        log::warn!(
            "The variables of {place} stay variables, of each process that runs it: {kept} has to change one."
        );
        keep::variables(needed, &variables)
    });
    frozen.nodes.extend(fills);
    let frozen = source.graph(frozen)?;
    let closure = frozen.closure(&feeds, &fetches)?;
    let has_unsafe_ops = frozen.allowing_unsafe_ops(false).closure(&feeds, &fetches).is_err();
    let bytes = closure.def.encode();
    if bytes.len() > MAX_GRAPH_BYTES {
        return Err(source.refused("what runs of it is larger than 2 GiB, TensorFlow's limit"));
    }
    let mut graph = Graph::new();
    graph
        .import_graph_def(&bytes, &ImportGraphDefOptions::new())
        .map_err(|e| source.refused("TensorFlow does not take its graph").with_source(e))?;
    let described = |named: &Named, names: &[TensorName]| -> Result<Vec<Value>> {
        named
            .iter()
            .zip(names)
            .map(|((name, tensor), place)| source.described(&graph, name, tensor, place))
            .collect()
    };
    let mut manifest = json!({
        "format": "sparkdl-bundle",
        "version": TENSORS_VERSION,
        "name": options.name,
        "inputs": described(inputs, &closure.feeds)?,
        "outputs": described(outputs, &closure.fetches)?,
        "graph": {"file": "graph.pb", "sha256": ""},
        "source": {"sha256": source.digest, "sparkdl": env!("CARGO_PKG_VERSION")},
        "license": "",
    });
    if has_unsafe_ops {
        manifest["unsafeOps"] = Value::Bool(true);
    }
    bundle::write(&options.output, manifest, |into| into.write_all(&bytes))
}

/// What a graph lies in.
enum Format {
    Graph,
    SavedModel,
    /// A checkpoint of TensorFlow 1: the start of the names of its files.
    Checkpoint(String),
}

impl Format {
    /// The file with the graph of what a user names, and what it is.
    fn of(given: &Path, place: &Place) -> Result<(PathBuf, Format)> {
        let of_checkpoint = |prefix: &str| {
            let file = PathBuf::from(format!("{prefix}{META_GRAPH}"));
            (file, Format::Checkpoint(prefix.to_owned()))
        };
        if !given.is_dir() {
            let text = given.display().to_string();
            let prefix = text.strip_suffix(META_GRAPH);
            return Ok(prefix.map_or_else(|| (given.to_owned(), Format::Graph), of_checkpoint));
        }
        let saved_model = given.join(SAVED_MODEL);
        if saved_model.exists() {
            return Ok((saved_model, Format::SavedModel));
        }
        let Ok(state) = std::fs::read_to_string(given.join(CHECKPOINTS)) else {
            return Err(place.refused(&format!("the folder holds neither {SAVED_MODEL} nor {CHECKPOINTS}")));
        };
        let latest = state.lines().find_map(|line| line.strip_prefix("model_checkpoint_path: \""));
        let latest = latest.and_then(|rest| rest.strip_suffix('"'));
        // The folder may have moved since it was written.
        let name = latest.and_then(|latest| Path::new(latest).file_name());
        let name = name.ok_or_else(|| place.refused(&format!("its file {CHECKPOINTS} names none")))?;
        let (file, format) = of_checkpoint(&given.join(name).display().to_string());
        if file.exists() {
            return Ok((file, format));
        }
        Err(place.refused(&format!(
            "its latest checkpoint has no graph ({} is missing), as those of TensorFlow 2: give a SavedModel",
            file.display()
        )))
    }
}

/// What is converted.
struct Source {
    def: GraphDef,
    inputs: Named,
    outputs: Named,
    /// The start of the names of the checkpoint's files, and the operation that restores it.
    checkpoint: Option<(String, String)>,
    initialisers: Initialisers,
    digest: String,
    place: Place,
    allows_unsafe_ops: bool,
}

impl Source {
    fn open(options: &GraphOptions) -> Result<Source> {
        let place = Place::graph(&options.file.display().to_string());
        let (file, format) = Format::of(&options.file, &place)?;
        let unreadable = |e| bundle::unreadable("graph", &file, e);
        let size = std::fs::metadata(&file).map_err(unreadable)?.len();
        if size > MAX_GRAPH_BYTES as u64 {
            return Err(place.refused("its graph is larger than 2 GiB, TensorFlow's limit"));
        }
        let bytes = Bytes::from(std::fs::read(&file).map_err(unreadable)?);
        let same =
            |names: &[String]| names.iter().map(|name| (name.clone(), name.clone())).collect::<Named>();
        let mut source = Source {
            def: GraphDef { nodes: Vec::new(), rest: Vec::new() },
            inputs: same(&options.inputs),
            outputs: same(&options.outputs),
            checkpoint: None,
            initialisers: Initialisers::default(),
            digest: hex_sha256(&bytes),
            place,
            allows_unsafe_ops: options.allow_unsafe_ops,
        };
        let meta = match &format {
            Format::Graph => None,
            Format::SavedModel => {
                let graphs = saved_model::decode(&bytes)
                    .ok_or_else(|| source.refused(&format!("its {SAVED_MODEL} is not a SavedModel")))?;
                Some((source.tagged(graphs, options)?, options.file.join(VARIABLES).display().to_string()))
            }
            Format::Checkpoint(prefix) => {
                let meta = MetaGraph::decode(&bytes);
                Some((meta.ok_or_else(|| source.refused("its graph is not a MetaGraphDef"))?, prefix.clone()))
            }
        };
        let mut graph = bytes;
        if let Some((meta, prefix)) = meta {
            graph = meta.graph.clone();
            if !options.signature.is_empty() {
                source.sign(&meta, &options.signature)?;
            }
            // A name that leads out of the folder is none of an asset.
            let is_inside =
                |file: &str| Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
            let asset = |(tensor, file): (String, String)| {
                is_inside(&file).then(|| (tensor, options.file.join(ASSETS).join(file)))
            };
            source.initialisers = Initialisers {
                operations: meta.initialisers.into_iter().collect(),
                assets: meta.assets.into_iter().filter_map(asset).collect(),
            };
            source.checkpoint = Some((prefix, meta.restore));
        }
        source.def = GraphDef::decode(&graph).ok_or_else(|| source.refused(NO_GRAPH))?;
        Ok(source)
    }

    /// What of it runs, or is to run.
    fn graph(&self, def: GraphDef) -> Result<GraphFile> {
        Ok(GraphFile::new(def, self.place.clone())?.allowing_unsafe_ops(self.allows_unsafe_ops))
    }

    fn tagged(&self, graphs: Vec<MetaGraph>, options: &GraphOptions) -> Result<MetaGraph> {
        let tags = options.tags.iter().cloned().collect();
        let shown = |graph: &MetaGraph| format!("{:?}", graph.tags.iter().collect::<Vec<_>>());
        let there: Vec<String> = graphs.iter().map(shown).collect();
        graphs.into_iter().find(|graph| graph.tags == tags).ok_or_else(|| {
            self.refused(&format!(
                "it has no graph with the tags {:?}, but {}",
                options.tags,
                there.join(", ")
            ))
        })
    }

    fn sign(&mut self, meta: &MetaGraph, name: &str) -> Result<()> {
        let signature = meta.signatures.get(name).ok_or_else(|| {
            let there: Vec<&str> = meta.signatures.keys().map(String::as_str).collect();
            self.refused(&format!("it has no signature {name}, but {}", there.join(", ")))
        })?;
        self.inputs = signature.inputs.clone().into_iter().collect();
        self.outputs = signature.outputs.clone().into_iter().collect();
        Ok(())
    }

    /// The values of the variables among these nodes.
    fn variables(&self, nodes: &[NodeDef]) -> Result<Variables> {
        let is_variable =
            |node: &&NodeDef| matches!(node.op.as_str(), "VarHandleOp" | "VariableV2" | "Variable");
        let needed: Vec<&NodeDef> = nodes.iter().filter(is_variable).collect();
        if needed.is_empty() {
            return Ok(Variables::new());
        }
        let (prefix, restore) = self.checkpoint.as_ref().ok_or_else(|| {
            self.refused(&format!(
                "{} is a variable: freeze the graph, or give a SavedModel or checkpoint",
                needed[0].name
            ))
        })?;
        let stored = saved_model::stored(&self.def, restore);
        let wanted = needed.iter().map(|node| -> Result<(Stored, Dtype)> {
            let name = &node.name;
            let stored = stored.get(name).ok_or_else(|| {
                self.refused(&format!("its variable {name} is not restored from the checkpoint"))
            })?;
            let dtype =
                node.data_type("dtype").and_then(Dtype::numbered).filter(|dtype| *dtype != Dtype::String);
            let dtype = dtype.ok_or_else(|| {
                self.refused(&format!("its variable {name} is of a type that is not built"))
            })?;
            Ok((stored.clone(), dtype))
        });
        let wanted: Vec<(Stored, Dtype)> = wanted.collect::<Result<_>>()?;
        let values = self.read(prefix, &wanted)?;
        Ok(needed.iter().map(|node| node.name.clone()).zip(values).collect())
    }

    /// Lets TensorFlow read tensors of the checkpoint.
    fn read(&self, prefix: &str, wanted: &[(Stored, Dtype)]) -> Result<Vec<Tensor>> {
        let numbered: Vec<(Stored, i64)> =
            wanted.iter().map(|(stored, dtype)| (stored.clone(), dtype.number())).collect();
        let (def, tensors) = saved_model::reader(prefix, &numbered);
        let dtypes: Vec<Dtype> = wanted.iter().map(|(_, dtype)| *dtype).collect();
        let values = Session::once(&def, &[], &[], &tensors, &dtypes)
            .map_err(|e| self.refused("its variables cannot be read").with_source(e))?;
        Ok(values
            .iter()
            .map(|value| Tensor::new(value.dtype().number(), value.dims(), value.bytes()))
            .collect())
    }

    fn described(&self, graph: &Graph, name: &str, tensor: &str, place: &TensorName) -> Result<Value> {
        let missing = || self.refused(&format!("it has no tensor {tensor}"));
        let operation = graph.operation_by_name(&place.node).ok().flatten().ok_or_else(missing)?;
        if place.index >= operation.num_outputs() {
            return Err(missing());
        }
        let found = operation.output_type(place.index);
        let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.tensorflow() == found);
        let dtype = dtype.ok_or_else(|| self.refused(&format!("its tensor {tensor} is of type {found}")))?;
        let index = i32::try_from(place.index).map_err(|_| missing())?;
        let shape = graph.tensor_shape(tensorflow::Output { operation, index }).map_err(|_| missing())?;
        let dims =
            sides(&shape).ok_or_else(|| self.refused(&format!("the rank of its tensor {tensor} is open")))?;
        let (rows, shape) = match dims.split_first() {
            Some((None, row)) => (true, row),
            _ => (false, &dims[..]),
        };
        let mut described =
            json!({"name": name, "tensor": place.to_string(), "dtype": dtype.name(), "shape": shape});
        if !rows {
            described["rows"] = Value::Bool(false);
        }
        Ok(described)
    }

    fn refused(&self, what: &str) -> Error {
        self.place.refused(what)
    }
}
