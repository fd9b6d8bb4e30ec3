//! One TensorFlow session with one input and one output; the only caller of the C run.

use std::sync::Once;

use once_cell::sync::Lazy;
use tensorflow::{Graph, ImportGraphDefOptions, Operation, SessionOptions, SessionRunArgs, Tensor};

use crate::graph::Closure;
use crate::weights::{self, MappedWeights};
use crate::{Error, ErrorKind, Result, runtime};

/// `ConfigProto { intra_op_parallelism_threads: 1, inter_op_parallelism_threads: -1, experimental {
/// disable_output_partition_graphs: true } }`: a run stays on the thread that asks for it, so runs side by side scale
/// and a lone run never waits for a pool; one copy fewer of the graph with its weights.
const CONFIG: [u8; 18] =
    [0x10, 1, 0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x82, 0x01, 2, 0x70, 1];

/// Pictures of one run: two callers, each with few pictures, are fastest where the values between two layers stay in
/// the caches (MobileNetV2: 2 gives a tenth more than 4 or 1, a seventh more than 8; ResNet50, InceptionV3: 1 to 8
/// differ by less than 5 %).
const MICRO_BATCH: usize = 2;

/// … and more of them where every run reads large matrices from memory (VGG16: 8 gives a quarter more than 2).
const MICRO_BATCH_OF_MATRICES: usize = 8;
const LARGE_MATRICES: usize = 32 << 20;

const MAX_GRAPH_BYTES: usize = i32::MAX as usize;

/// A loaded graph; runs may go side by side.
#[derive(Debug)]
pub(crate) struct Session {
    session: tensorflow::Session,
    feed: (Operation, i32),
    fetch: (Operation, i32),
    /// Of one picture.
    input: Vec<u64>,
    /// Of one picture.
    output: Vec<u64>,
    shown: String,
    micro_batch: usize,
    /// Whether the first run, in which TensorFlow optimizes the graph, is over.
    settled: Once,
    /// After `session`: it is closed first.
    _weights: Option<MappedWeights>,
}

impl Session {
    /// Gives the graph to TensorFlow. `input` and `output` are shapes without the batch dimension.
    pub(crate) fn new(closure: Closure, input: &[usize], output: &[usize], shown: &str) -> Result<Session> {
        let refused = |what: &str| {
            Error::new(ErrorKind::InvalidModel, format!("Cannot use the bundle {shown}: {what}"))
        };
        let Closure { mut def, feed: feed_name, fetch: fetch_name } = closure;
        // For a GPU they would cross over in every run.
        let weights = runs_on_cpu_only().then(|| weights::map(&mut def));
        let matrices = weights.as_ref().map_or(0, MappedWeights::bytes);
        let bytes = def.encode();
        drop(def);
        if bytes.len() > MAX_GRAPH_BYTES {
            return Err(refused("its graph is larger than 2 GiB, TensorFlow's limit."));
        }
        let mut graph = Graph::new();
        graph
            .import_graph_def(&bytes, &ImportGraphDefOptions::new())
            .map_err(|e| refused("TensorFlow does not take its graph.").with_source(e))?;
        drop(bytes);
        let operation = |name: &crate::graph::TensorName| -> Result<(Operation, i32)> {
            let found = graph
                .operation_by_name(&name.node)
                .ok()
                .flatten()
                .filter(|operation| name.index < operation.num_outputs())
                .ok_or_else(|| refused(&format!("its graph has no tensor {name}.")))?;
            if found.output_type(name.index) != tensorflow::DataType::Float {
                let dtype = found.output_type(name.index);
                return Err(refused(&format!("its tensor {name} must be of type float32 but is {dtype}.")));
            }
            Ok((found, i32::try_from(name.index).unwrap_or(0)))
        };
        let (feed, fetch) = (operation(&feed_name)?, operation(&fetch_name)?);
        for (name, tensor, shape) in [(&feed_name, &feed, input), (&fetch_name, &fetch, output)] {
            let found = graph
                .tensor_shape(tensorflow::Output { operation: tensor.0.clone(), index: tensor.1 })
                .map_err(|e| refused(&format!("the shape of {name} is unknown.")).with_source(e))?;
            if !fits(&found, shape) {
                return Err(refused(&format!(
                    "the manifest gives {name} the shape {shape:?} for each picture, its graph {found}."
                )));
            }
        }
        let session =
            open(&graph).map_err(|e| refused("TensorFlow cannot open a session.").with_source(e))?;
        let wide = |shape: &[usize]| shape.iter().map(|side| *side as u64).collect();
        Ok(Session {
            session,
            feed,
            fetch,
            input: wide(input),
            output: wide(output),
            shown: shown.to_owned(),
            micro_batch: if matrices > LARGE_MATRICES { MICRO_BATCH_OF_MATRICES } else { MICRO_BATCH },
            settled: Once::new(),
            _weights: weights,
        })
    }

    /// How many pictures of a batch make one run.
    pub(crate) fn micro_batch(&self) -> usize {
        self.micro_batch
    }

    /// A tensor of zeros for this many pictures.
    pub(crate) fn input(&self, pictures: usize) -> Tensor<f32> {
        Tensor::new(&with_batch(pictures, &self.input))
    }

    /// Runs the graph on `input`, whose pictures come back in order.
    pub(crate) fn run(&self, input: &Tensor<f32>) -> Result<Tensor<f32>> {
        let failed =
            |what: &str| Error::new(ErrorKind::Execution, format!("Running {} failed: {what}", self.shown));
        let pictures = match input.dims() {
            [pictures, rest @ ..] if rest == self.input && *pictures > 0 => *pictures as usize,
            dims => return Err(failed(&format!("a tensor of shape {dims:?} was offered."))),
        };
        let mut run = SessionRunArgs::new();
        run.add_feed(&self.feed.0, self.feed.1, input);
        let fetch = run.request_fetch(&self.fetch.0, self.fetch.1);
        self.session.run(&mut run).map_err(|e| failed("TensorFlow reports an error.").with_source(e))?;
        // What the optimizer took and gave back stays with malloc otherwise, a multiple of the weights.
        self.settled.call_once(runtime::return_freed_memory);
        let output =
            run.fetch::<f32>(fetch).map_err(|e| failed("its output cannot be read.").with_source(e))?;
        if output.dims() != with_batch(pictures, &self.output) {
            let (dims, needed) = (output.dims(), &self.output);
            return Err(failed(&format!(
                "its output has the shape {dims:?}, the manifest says {needed:?} a picture."
            )));
        }
        Ok(output)
    }
}

fn open(graph: &Graph) -> std::result::Result<tensorflow::Session, tensorflow::Status> {
    let mut options = SessionOptions::new();
    options.set_config(&CONFIG)?;
    tensorflow::Session::new(&options, graph)
}

fn runs_on_cpu_only() -> bool {
    static CPU_ONLY: Lazy<bool> = Lazy::new(|| {
        let devices = open(&Graph::new()).and_then(|session| session.device_list());
        devices.is_ok_and(|devices| devices.iter().all(|device| device.device_type == "CPU"))
    });
    *CPU_ONLY
}

fn with_batch(pictures: usize, shape: &[u64]) -> Vec<u64> {
    let mut dims = Vec::with_capacity(shape.len() + 1);
    dims.push(pictures as u64);
    dims.extend_from_slice(shape);
    dims
}

/// Whether a graph's static shape allows any number of pictures of this shape.
fn fits(found: &tensorflow::Shape, shape: &[usize]) -> bool {
    let Some(rank) = found.dims() else { return true };
    let open_batch = rank == 0 || found[0].is_none();
    rank == shape.len() + 1
        && open_batch
        && shape
            .iter()
            .enumerate()
            .all(|(i, side)| found[i + 1].is_none_or(|s| usize::try_from(s) == Ok(*side)))
}
