//! One TensorFlow session; the only caller of the C run.

use std::collections::HashSet;
use std::sync::Once;

use once_cell::sync::Lazy;
use tensorflow::{
    FetchToken, Graph, ImportGraphDefOptions, Operation, SessionOptions, SessionRunArgs, Tensor,
};

use crate::graph::proto::GraphDef;
use crate::graph::{Closure, TensorName, input_node, keep};
use crate::optimized;
use crate::values::{Dtype, Port, Values};
use crate::weights::{self, MappedWeights};
use crate::{Error, ErrorKind, Result, runtime, summands};

/// `ConfigProto { intra_op_parallelism_threads: 1, inter_op_parallelism_threads: -1 }`: a run stays on the thread that asks
/// for it, so runs side by side scale and a lone run never waits for a pool.
pub(crate) const THREADS: [u8; 13] =
    [0x10, 1, 0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

/// `experimental { disable_output_partition_graphs: true }`: one copy fewer of the graph with its weights.
pub(crate) const UNTRACED: [u8; 5] = [0x82, 0x01, 2, 0x70, 1];

/// `graph_options { rewrite_options { memory_optimization: NO_MEM_OPT, disable_tfg_optimizer: true, layout_optimizer: OFF } }`:
/// passes that copy the graph with its weights once more and change nothing where all runs on the CPU. InceptionV3 takes a
/// third of the time to its first run without them and 340 MB less at its peak; six networks ran as fast as with them.
const CPU_OPTIMIZERS: [u8; 11] = [0x52, 9, 0x52, 7, 0x20, 1, 0x80, 0x02, 1, 0x08, 2];

/// `RunOptions { output_partition_graphs: true }`.
const WITH_GRAPHS: [u8; 2] = [0x28, 1];

/// Rows of one run, at least, where every run reads large matrices from memory (VGG16: 8 gives a quarter more than 2).
const LEAST_ROWS_OF_MATRICES: usize = 8;
const LARGE_MATRICES: usize = 32 << 20;

pub(crate) const MAX_GRAPH_BYTES: usize = i32::MAX as usize;

/// Bytes of kernels from which `optimized` is worth its second session.
const LARGE_KERNELS: usize = 8 << 20;

/// The tensors that are fed, and those that are fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports<'a> {
    pub(crate) feeds: &'a [Port],
    pub(crate) fetches: &'a [Port],
    /// How many rows usually go in and come out; `None`: others come out than go in.
    pub(crate) usual_rows: Option<usize>,
}

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
    /// Whether outputs have as many rows as inputs.
    keeps_rows: bool,
}

/// Where a tensor that is fed or fetched is in the graph; `None` for an input that nothing asked for needs.
#[derive(Debug)]
struct Place {
    port: Port,
    output: Option<(Operation, i32)>,
}

impl Session {
    /// Gives the graph to TensorFlow. `ports` say what each of the tensors holds that the closure is fed and asked for. `read` may be called twice, so that nothing need be kept in case it is.
    pub(crate) fn new(
        read: &mut dyn FnMut() -> Result<Closure>,
        ports: Ports<'_>,
        shown: &str,
    ) -> Result<Session> {
        let mut closure = read()?;
        let fills: Vec<String> =
            closure.def.nodes.iter().filter(|node| keep::fills(node)).map(|node| node.name.clone()).collect();
        // For a GPU weights would cross over in every run.
        if !runs_on_cpu_only() {
            return Session::over(closure, ports, &[&THREADS[..], &UNTRACED].concat(), &fills, shown);
        }
        let has_sums = summands::may_be_fused(&closure.def);
        let is_worth_it = has_sums || weights::bytes_of_kernels(&closure.def) >= LARGE_KERNELS;
        // What is filled is not in the graph that comes out of the optimizer.
        if let Some(usual_rows) = ports.usual_rows
            && is_worth_it
            && fills.is_empty()
        {
            match optimized::session(closure, ports, usual_rows, shown) {
                Ok(session) => return Ok(session),
                Err(error) => log::info!("{shown} runs as TensorFlow optimizes it: {}", error.report()),
            }
            closure = read()?;
        }
        let Closure { mut def, feeds, fetches } = closure;
        summands::protect(&mut def);
        summands::protect_functions(&mut def);
        let weights = weights::map(&mut def, false);
        let mut fill = weights::hold(&mut def);
        fill.extend(fills);
        let config = [&THREADS[..], &UNTRACED, &CPU_OPTIMIZERS].concat();
        let session = Session::over(Closure { def, feeds, fetches }, ports, &config, &fill, shown)?;
        Ok(session.reading(&weights))
    }

    /// Every run reads the matrices among these weights.
    pub(crate) fn reading(mut self, weights: &MappedWeights) -> Session {
        self.matrices = weights.matrices;
        self
    }

    /// What a graph gives once, after some operations have run.
    pub(crate) fn once(
        def: &GraphDef,
        before: &[String],
        feeds: &[(TensorName, Values)],
        fetches: &[TensorName],
        dtypes: &[Dtype],
    ) -> std::result::Result<Vec<Values>, tensorflow::Status> {
        let mut graph = Graph::new();
        graph.import_graph_def(&def.encode(), &ImportGraphDefOptions::new())?;
        let session = open(&graph, &THREADS)?;
        if !before.is_empty() {
            let mut run = SessionRunArgs::new();
            for (tensor, values) in feeds {
                let operation = graph.operation_by_name_required(&tensor.node)?;
                values.feed(&mut run, &operation, i32::try_from(tensor.index).unwrap_or(0));
            }
            for name in before {
                run.add_target(&graph.operation_by_name_required(input_node(name))?);
            }
            session.run(&mut run)?;
        }
        let mut run = SessionRunArgs::new();
        let request = |fetch: &TensorName| {
            let operation = graph.operation_by_name_required(&fetch.node)?;
            Ok(run.request_fetch(&operation, i32::try_from(fetch.index).unwrap_or(0)))
        };
        let tokens: Vec<FetchToken> =
            fetches.iter().map(request).collect::<std::result::Result<_, tensorflow::Status>>()?;
        session.run(&mut run)?;
        tokens.into_iter().zip(dtypes).map(|(token, dtype)| Values::fetch(&mut run, token, *dtype)).collect()
    }

    /// A run, and its serialised `RunMetadata` with the graph that ran.
    pub(crate) fn traced(&self, inputs: &[Values]) -> Result<(Vec<Values>, Vec<u8>)> {
        let mut run = SessionRunArgs::new();
        run.set_run_options(&WITH_GRAPHS);
        run.set_request_metadata(true);
        let outputs = self.run_with(&mut run, inputs)?;
        let metadata = run.get_metadata().map(<[u8]>::to_vec);
        Ok((outputs, metadata.ok_or_else(|| self.failed("it gave no metadata."))?))
    }

    /// A session over a graph as it is, in which the operations of the names in `fill` have run.
    pub(crate) fn over(
        closure: Closure,
        ports: Ports<'_>,
        config: &[u8],
        fill: &[String],
        shown: &str,
    ) -> Result<Session> {
        let refused = |what: &str| {
            Error::new(ErrorKind::InvalidModel, format!("Cannot use the bundle {shown}: {what}"))
        };
        let Closure { def, feeds: feed_names, fetches: fetch_names } = closure;
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
        let keeps_rows = ports.usual_rows.is_some();
        let places = |names: &[TensorName], ports: &[Port], is_open: bool| {
            let found = names.iter().zip(ports).map(|(name, port)| {
                let output =
                    needed.contains(&name.node).then(|| find(&graph, name, port, is_open)).transpose();
                Ok(Place { port: port.clone(), output: output.map_err(|what| refused(&what))? })
            });
            found.collect::<Result<Vec<_>>>()
        };
        let feeds = places(&feed_names, ports.feeds, true)?;
        let fetches = places(&fetch_names, ports.fetches, keeps_rows)?;
        let session =
            open(&graph, config).map_err(|e| refused("TensorFlow cannot open a session.").with_source(e))?;
        if !fill.is_empty() {
            let mut run = SessionRunArgs::new();
            for name in fill {
                let operation = graph.operation_by_name_required(name);
                run.add_target(&operation.map_err(|e| refused("a variable is missing.").with_source(e))?);
            }
            session.run(&mut run).map_err(|e| refused("its weights cannot be read.").with_source(e))?;
        }
        let (shown, settled) = (shown.to_owned(), Once::new());
        Ok(Session { session, feeds, fetches, shown, matrices: 0, settled, keeps_rows })
    }

    /// How many rows a run has at least: `usual`, and more where each run reads large matrices.
    pub(crate) fn rows_of_a_run(&self, usual: usize) -> usize {
        if self.matrices > LARGE_MATRICES { usual.max(LEAST_ROWS_OF_MATRICES) } else { usual }
    }

    /// Runs the graph on pictures, which come back in order: one input, a tensor for each output.
    pub(crate) fn run_pictures(&self, input: &Tensor<f32>) -> Result<Vec<Tensor<f32>>> {
        let Some(feed) = self.feeds.first() else {
            return Err(self.failed("it has no input."));
        };
        let rows = self.check_input(&feed.port, input.dims())?;
        let mut run = SessionRunArgs::new();
        if let Some((operation, index)) = &feed.output {
            run.add_feed(operation, *index, input);
        }
        let tokens =
            self.fetches.iter().map(|fetch| self.request(&mut run, fetch)).collect::<Result<Vec<_>>>()?;
        self.run_once(&mut run)?;
        let fetched = tokens.into_iter().zip(&self.fetches).map(|(token, fetch)| {
            let output = run.fetch::<f32>(token).map_err(|e| self.unread(&fetch.port, e))?;
            self.check_output(&fetch.port, output.dims(), rows)?;
            Ok(output)
        });
        fetched.collect()
    }

    /// Runs the graph on a tensor for each input: a tensor for each output. The first dimension of all is the rows.
    pub(crate) fn run(&self, inputs: &[Values]) -> Result<Vec<Values>> {
        self.run_with(&mut SessionRunArgs::new(), inputs)
    }

    fn run_with<'a>(&self, run: &mut SessionRunArgs<'a>, inputs: &'a [Values]) -> Result<Vec<Values>> {
        if inputs.len() != self.feeds.len() {
            return Err(self.failed(&format!("{} tensors were offered.", inputs.len())));
        }
        let mut rows = 0;
        for (place, input) in self.feeds.iter().zip(inputs) {
            rows = self.check_input(&place.port, input.dims())?;
            if let Some((operation, index)) = &place.output {
                input.feed(run, operation, *index);
            }
        }
        let tokens: Vec<_> =
            self.fetches.iter().map(|place| self.request(run, place)).collect::<Result<_>>()?;
        self.run_once(run)?;
        let taken = self.fetches.iter().zip(tokens).map(|(Place { port, .. }, token)| {
            let output = Values::fetch(run, token, port.dtype).map_err(|e| self.unread(port, e))?;
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
            [found, rest @ ..] if (*found == rows || !self.keeps_rows) && has_shape(rest, &port.shape) => {
                Ok(())
            }
            _ => {
                let (needed, others) = (port.shown_shape(), dims.first() != Some(&rows));
                let advice = if others {
                    " A graph that gives other rows than it takes runs through mapBlocks with trim."
                } else {
                    ""
                };
                Err(self.failed(&format!(
                    "its output {} has the shape {dims:?} for {rows} rows, the manifest says {needed} for each.{advice}",
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

/// A tensor of the graph, if it is there and holds what `port` says; `is_open`: for any number of rows.
fn find(
    graph: &Graph,
    name: &TensorName,
    port: &Port,
    is_open: bool,
) -> std::result::Result<(Operation, i32), String> {
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
    if !fits(&shape, &port.shape, is_open) {
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

fn runs_on_cpu_only() -> bool {
    device() == "CPU"
}

/// What runs use in this process: `CPU`, or the accelerators that TensorFlow found, as `GPU` or `2 GPU`. TensorFlow must be
/// loaded.
pub(crate) fn device() -> &'static str {
    static DEVICE: Lazy<String> = Lazy::new(|| {
        let devices = open(&Graph::new(), &THREADS).and_then(|session| session.device_list());
        let kinds = devices.map(|devices| devices.into_iter().map(|device| device.device_type));
        let others: Vec<String> = kinds.into_iter().flatten().filter(|kind| kind != "CPU").collect();
        match others.as_slice() {
            [] => "CPU".to_owned(),
            [one] => one.clone(),
            [first, ..] => format!("{} {first}", others.len()),
        }
    });
    &DEVICE
}

/// The sides of a shape, `None` where one is open; `None` where their number is.
pub(crate) fn sides(shape: &tensorflow::Shape) -> Option<Vec<Option<usize>>> {
    let rank = shape.dims()?;
    Some((0..rank).map(|index| shape[index].and_then(|side| usize::try_from(side).ok())).collect())
}

/// Whether a graph's static shape allows rows of this shape; `is_open`: any number of them.
fn fits(found: &tensorflow::Shape, shape: &[Option<usize>], is_open: bool) -> bool {
    let Some(rank) = found.dims() else { return true };
    let open_batch = rank == 0 || found[0].is_none() || !is_open;
    let side_fits = |(index, side): (usize, &Option<usize>)| match (found[index + 1], side) {
        (Some(found), Some(side)) => usize::try_from(found) == Ok(*side),
        _ => true,
    };
    rank == shape.len() + 1 && open_batch && shape.iter().enumerate().all(side_fits)
}
