//! One TensorFlow session; the only caller of the C run.

use std::collections::HashSet;
use std::sync::Once;

use once_cell::sync::Lazy;
use tensorflow::{
    FetchToken, Graph, ImportGraphDefOptions, Operation, SessionOptions, SessionRunArgs, Tensor,
};

use crate::graph::{Closure, TensorName};
use crate::values::{Port, Values};
use crate::weights::{self, MappedWeights};
use crate::{Error, ErrorKind, Result, runtime};

/// `ConfigProto { intra_op_parallelism_threads: 1, inter_op_parallelism_threads: -1, experimental {
/// disable_output_partition_graphs: true } }`: a run stays on the thread that asks for it, so runs side by side scale
/// and a lone run never waits for a pool; one copy fewer of the graph with its weights.
const CONFIG: [u8; 18] =
    [0x10, 1, 0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x82, 0x01, 2, 0x70, 1];

/// `graph_options { rewrite_options { memory_optimization: NO_MEM_OPT, disable_tfg_optimizer: true, layout_optimizer: OFF } }`:
/// passes that copy the graph with its weights once more and change nothing where all runs on the CPU. InceptionV3 takes a
/// third of the time to its first run without them and 340 MB less at its peak; six networks ran as fast as with them.
const CPU_OPTIMIZERS: [u8; 11] = [0x52, 9, 0x52, 7, 0x20, 1, 0x80, 0x02, 1, 0x08, 2];

/// Rows of one run, at least, where every run reads large matrices from memory (VGG16: 8 gives a quarter more than 2).
const LEAST_ROWS_OF_MATRICES: usize = 8;
const LARGE_MATRICES: usize = 32 << 20;

const MAX_GRAPH_BYTES: usize = i32::MAX as usize;

/// A loaded graph; runs may go side by side.
#[derive(Debug)]
pub(crate) struct Session {
    session: tensorflow::Session,
    feeds: Vec<Place>,
    fetches: Vec<Place>,
    shown: String,
    /// Bytes that every run reads from memory.
    matrices: usize,
    /// Whether the first run, in which TensorFlow optimizes the graph, is over.
    settled: Once,
    /// After `session`: it is closed first.
    _weights: Option<MappedWeights>,
}

/// Where a tensor that is fed or fetched is in the graph; `None` for an input that nothing asked for needs.
#[derive(Debug)]
struct Place {
    port: Port,
    output: Option<(Operation, i32)>,
}

impl Session {
    /// Gives the graph to TensorFlow. `feeds` and `fetches` say what each of the closure's tensors holds.
    pub(crate) fn new(closure: Closure, feeds: &[Port], fetches: &[Port], shown: &str) -> Result<Session> {
        let refused = |what: &str| {
            Error::new(ErrorKind::InvalidModel, format!("Cannot use the bundle {shown}: {what}"))
        };
        let Closure { mut def, feeds: feed_names, fetches: fetch_names } = closure;
        // For a GPU they would cross over in every run.
        let weights = runs_on_cpu_only().then(|| weights::map(&mut def));
        let matrices = weights.as_ref().map_or(0, MappedWeights::bytes);
        let bytes = def.encode();
        let needed: HashSet<String> = def.nodes.into_iter().map(|node| node.name).collect();
        if bytes.len() > MAX_GRAPH_BYTES {
            return Err(refused("its graph is larger than 2 GiB, TensorFlow's limit."));
        }
        let mut graph = Graph::new();
        graph
            .import_graph_def(&bytes, &ImportGraphDefOptions::new())
            .map_err(|e| refused("TensorFlow does not take its graph.").with_source(e))?;
        drop(bytes);
        let places = |names: &[TensorName], ports: &[Port]| {
            let found = names.iter().zip(ports).map(|(name, port)| {
                let output = needed.contains(&name.node).then(|| find(&graph, name, port)).transpose();
                Ok(Place { port: port.clone(), output: output.map_err(|what| refused(&what))? })
            });
            found.collect::<Result<Vec<_>>>()
        };
        let (feeds, fetches) = (places(&feed_names, feeds)?, places(&fetch_names, fetches)?);
        let session = open(&graph, &config())
            .map_err(|e| refused("TensorFlow cannot open a session.").with_source(e))?;
        let settled = Once::new();
        Ok(Session { session, feeds, fetches, shown: shown.to_owned(), matrices, settled, _weights: weights })
    }

    /// How many rows a run has at least: `usual`, and more where each run reads large matrices.
    pub(crate) fn least_rows(&self, usual: usize) -> usize {
        if self.matrices > LARGE_MATRICES { usual.max(LEAST_ROWS_OF_MATRICES) } else { usual }
    }

    /// Runs the graph on pictures, which come back in order: one input, one output.
    pub(crate) fn run_pictures(&self, input: &Tensor<f32>) -> Result<Tensor<f32>> {
        let (Some(feed), Some(fetch)) = (self.feeds.first(), self.fetches.first()) else {
            return Err(self.failed("it has no input or no output."));
        };
        let rows = self.check_input(&feed.port, input.dims())?;
        let mut run = SessionRunArgs::new();
        if let Some((operation, index)) = &feed.output {
            run.add_feed(operation, *index, input);
        }
        let token = self.request(&mut run, fetch)?;
        self.run_once(&mut run)?;
        let output = run.fetch::<f32>(token).map_err(|e| self.unread(&fetch.port, e))?;
        self.check_output(&fetch.port, output.dims(), rows)?;
        Ok(output)
    }

    /// Runs the graph on a tensor for each input: a tensor for each output. The first dimension of all is the rows.
    pub(crate) fn run(&self, inputs: &[Values]) -> Result<Vec<Values>> {
        if inputs.len() != self.feeds.len() {
            return Err(self.failed(&format!("{} tensors were offered.", inputs.len())));
        }
        let mut rows = 0;
        let mut run = SessionRunArgs::new();
        for (place, input) in self.feeds.iter().zip(inputs) {
            rows = self.check_input(&place.port, input.dims())?;
            if let Some((operation, index)) = &place.output {
                input.feed(&mut run, operation, *index);
            }
        }
        let tokens: Vec<_> =
            self.fetches.iter().map(|place| self.request(&mut run, place)).collect::<Result<_>>()?;
        self.run_once(&mut run)?;
        let taken = self.fetches.iter().zip(tokens).map(|(Place { port, .. }, token)| {
            let output = Values::fetch(&mut run, token, port.dtype).map_err(|e| self.unread(port, e))?;
            self.check_output(port, output.dims(), rows)?;
            Ok(output)
        });
        taken.collect()
    }

    fn request(&self, run: &mut SessionRunArgs<'_>, place: &Place) -> Result<FetchToken> {
        let (operation, index) =
            place.output.as_ref().ok_or_else(|| self.failed("an output is not in its graph."))?;
        Ok(run.request_fetch(operation, *index))
    }

    fn run_once(&self, run: &mut SessionRunArgs<'_>) -> Result<()> {
        self.session.run(run).map_err(|e| self.failed("TensorFlow reports an error.").with_source(e))?;
        // What the optimizer took and gave back stays with malloc otherwise, a multiple of the weights.
        self.settled.call_once(runtime::return_freed_memory);
        Ok(())
    }

    /// TensorFlow itself does not check what it is fed. Gives the number of rows.
    fn check_input(&self, port: &Port, dims: &[u64]) -> Result<u64> {
        match dims {
            [rows, rest @ ..] if *rows > 0 && has_shape(rest, &port.shape) => Ok(*rows),
            _ => Err(self.failed(&format!("a tensor of shape {dims:?} was offered for {}.", port.name))),
        }
    }

    fn check_output(&self, port: &Port, dims: &[u64], rows: u64) -> Result<()> {
        match dims {
            [found, rest @ ..] if *found == rows && has_shape(rest, &port.shape) => Ok(()),
            _ => {
                let needed = port.shown_shape();
                Err(self.failed(&format!(
                    "its output {} has the shape {dims:?} for {rows} rows, the manifest says {needed} for each.",
                    port.name
                )))
            }
        }
    }

    fn failed(&self, what: &str) -> Error {
        Error::new(ErrorKind::Execution, format!("Running {} failed: {what}", self.shown))
    }

    fn unread(&self, port: &Port, cause: tensorflow::Status) -> Error {
        self.failed(&format!("its output {} cannot be read.", port.name)).with_source(cause)
    }
}

/// A tensor of the graph, if it is there and holds what `port` says.
fn find(graph: &Graph, name: &TensorName, port: &Port) -> std::result::Result<(Operation, i32), String> {
    let operation = graph.operation_by_name(&name.node).ok().flatten();
    let operation = operation.filter(|operation| name.index < operation.num_outputs());
    let operation = operation.ok_or_else(|| format!("its graph has no tensor {name}."))?;
    let (found, needed) = (operation.output_type(name.index), port.dtype);
    if found != needed.tensorflow() {
        return Err(format!("its tensor {name} must be of type {needed} but is {found}."));
    }
    let index = i32::try_from(name.index).unwrap_or(0);
    let shape = graph
        .tensor_shape(tensorflow::Output { operation: operation.clone(), index })
        .map_err(|_| format!("the shape of {name} is unknown."))?;
    if !fits(&shape, &port.shape) {
        let needed = port.shown_shape();
        return Err(format!("the manifest gives {name} the shape {needed} for each row, its graph {shape}."));
    }
    Ok((operation, index))
}

fn has_shape(dims: &[u64], shape: &[Option<usize>]) -> bool {
    dims.len() == shape.len()
        && dims.iter().zip(shape).all(|(dim, side)| side.is_none_or(|side| usize::try_from(*dim) == Ok(side)))
}

fn open(graph: &Graph, config: &[u8]) -> std::result::Result<tensorflow::Session, tensorflow::Status> {
    let mut options = SessionOptions::new();
    options.set_config(config)?;
    tensorflow::Session::new(&options, graph)
}

fn config() -> Vec<u8> {
    let optimizers = if runs_on_cpu_only() { &CPU_OPTIMIZERS[..] } else { &[] };
    [&CONFIG, optimizers].concat()
}

fn runs_on_cpu_only() -> bool {
    static CPU_ONLY: Lazy<bool> = Lazy::new(|| {
        let devices = open(&Graph::new(), &CONFIG).and_then(|session| session.device_list());
        devices.is_ok_and(|devices| devices.iter().all(|device| device.device_type == "CPU"))
    });
    *CPU_ONLY
}

/// Whether a graph's static shape allows any number of rows of this shape.
fn fits(found: &tensorflow::Shape, shape: &[Option<usize>]) -> bool {
    let Some(rank) = found.dims() else { return true };
    let open_batch = rank == 0 || found[0].is_none();
    let side_fits = |(index, side): (usize, &Option<usize>)| match (found[index + 1], side) {
        (Some(found), Some(side)) => usize::try_from(found) == Ok(*side),
        _ => true,
    };
    rank == shape.len() + 1 && open_batch && shape.iter().enumerate().all(side_fits)
}
