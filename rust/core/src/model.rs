//! The one type the faces hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::record_batch::RecordBatch;

use crate::blocks::{self, Blocks};
use crate::bundle::{Bundle, TensorManifest, TensorSpec, damaged};
use crate::cache::{self, Key, Lease};
use crate::graph::{Closure, GraphFile, Place, each_row};
use crate::image::Packer;
use crate::metrics::{Counters, Metrics};
use crate::options::{
    Asked, BlocksOptions, ImageOptions, ModelOptions, NetworkOptions, Operation, PicturesOptions, Task,
    TensorsOptions,
};
use crate::picture_feed::PictureInput;
use crate::pictures::{self, Answer, Form, PICTURES_OF_A_RUN, Pictures};
use crate::pool;
use crate::session::{Ports, Session};
use crate::task::{self, Fetch};
use crate::tensors::{self, Images, Tensors};
use crate::values::{Dtype, Port};
use crate::{Error, ErrorKind, Options, Result, runtime};

/// A handle on a model that is loaded once per process and shared by every handle on it.
#[derive(Debug)]
pub struct Model {
    live: Arc<Live>,
    kind: Kind,
    threads: usize,
    pid: u32,
}

#[derive(Debug)]
enum Kind {
    Pictures(Arc<Pictures>),
    Tensors(Arc<Tensors>),
    Blocks(Blocks),
}

/// What the threads of a call share with the handle; it outlives a handle that is dropped while a helper is at work.
#[derive(Debug)]
pub(crate) struct Live {
    lease: Lease,
    cancelled: AtomicBool,
    counters: Counters,
}

impl Model {
    /// Opens a bundle. `runtime::load` must have succeeded in this process.
    pub fn open(options: &Options) -> Result<Model> {
        let options = ModelOptions::parse(options)?;
        runtime::loaded()?;
        let digest = cache::digest(&options.model)?;
        let bundle = Bundle::open(&options.model)?;
        let (lease, kind) = match options.asked {
            Asked::Network(asked) => network(bundle, digest, &asked)?,
            Asked::Pictures(asked) => pictures(bundle, digest, &asked)?,
            Asked::Tensors(asked) => tensors(bundle, digest, &asked, None)?,
            Asked::Blocks(asked) => blocks(bundle, digest, &asked)?,
            Asked::Images(asked) => images(bundle, digest, &asked)?,
        };
        let live = Arc::new(Live { lease, cancelled: AtomicBool::new(false), counters: Counters::default() });
        let threads = if options.threads == 0 { pool::processors() } else { options.threads };
        Ok(Model { live, kind, threads, pid: std::process::id() })
    }

    /// Runs a batch: the same number of rows in the same order, a reason for each invalid one.
    pub fn run(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.pid != std::process::id() {
            return Err(runtime::forked(self.pid));
        }
        self.live.check_cancelled()?;
        match &self.kind {
            Kind::Pictures(pictures) => pictures::run(&self.live, pictures, batch, self.threads),
            Kind::Tensors(tensors) => tensors::run(&self.live, tensors, batch, self.threads),
            Kind::Blocks(blocks) => blocks::run(&self.live, blocks, batch),
        }
    }

    /// Makes runs in flight and later ones of this handle fail with kind `Cancelled`, between two micro-batches.
    pub fn cancel(&self) {
        self.live.cancelled.store(true, Ordering::Relaxed);
    }

    /// What this handle has done so far.
    pub fn metrics(&self) -> Metrics {
        self.live.counters.read()
    }
}

/// A bundle that says how pictures are prepared.
fn network(bundle: Bundle, digest: String, asked: &NetworkOptions) -> Result<(Lease, Kind)> {
    let (manifest, shown) = (bundle.manifest()?, bundle.shown());
    let answer = |task: &Task| {
        let fetch = Fetch::of(manifest, *task, shown)?;
        let form = match task {
            Task::TopK(k) => Form::TopK(*k, task::labels(&asked.labels, manifest, fetch.width, shown)?),
            Task::Features(_) | Task::Predictions => Form::Values,
        };
        Ok(Answer { fetch, form })
    };
    let answers = asked.tasks.iter().map(answer).collect::<Result<Vec<_>>>()?;
    let spec = manifest.input.spec().map_err(|(field, what)| damaged(shown, &format!("{field} {what}")))?;
    let (packer, input) = (Packer::new(spec, asked.pictures), [spec.height, spec.width, spec.channels]);
    let feed = picture_port(&manifest.input.tensor, &input);
    answering(bundle, digest, feed, Pictures::new(packer, input, answers))
}

/// A graph on tensors whose only input is a picture.
fn pictures(bundle: Bundle, digest: String, asked: &PicturesOptions) -> Result<(Lease, Kind)> {
    let (manifest, shown) = (bundle.tensors()?, bundle.shown());
    let input = task::picture_input(manifest, asked, shown)?;
    let spec = input.spec().map_err(|(field, what)| {
        Error::new(ErrorKind::InvalidArgument, format!("Cannot feed pictures to {shown}: {field} {what}."))
    })?;
    let fetch = Fetch::of_tensors(manifest, &asked.output, shown)?;
    let form = if asked.image { task::image(&fetch.output, &spec, shown)? } else { Form::Values };
    let (packer, sides) = (Packer::new(spec, asked.pictures), [spec.height, spec.width, spec.channels]);
    let feed = picture_port(&input.tensor, &sides);
    answering(bundle, digest, feed, Pictures::new(packer, sides, vec![Answer { fetch, form }]))
}

/// Pictures fed through this tensor, and all their answers from one session.
fn answering(
    bundle: Bundle,
    digest: String,
    feed: (String, Port),
    pictures: Pictures,
) -> Result<(Lease, Kind)> {
    let fetches = pictures.outputs().map(|output| picture_port(&output.tensor, &output.shape)).collect();
    let key = Key { digest, feeds: vec![feed], fetches, operation: None, allow_unsafe_ops: false };
    let lease = lease(bundle, key, GraphFile::picture_closure, Some(PICTURES_OF_A_RUN))?;
    Ok((lease, Kind::Pictures(Arc::new(pictures))))
}

/// A graph on tensors whose only input is a picture, of any size where the graph takes any.
fn images(bundle: Bundle, digest: String, asked: &ImageOptions) -> Result<(Lease, Kind)> {
    let (manifest, shown) = (bundle.tensors()?, bundle.shown());
    let spec = task::only_input(manifest, shown)?;
    let (pictures, are_outputs) = (PictureInput::new(&spec.port(), asked, shown)?, asked.images);
    let asked = TensorsOptions {
        inputs: vec![spec.name.clone()],
        outputs: asked.outputs.clone(),
        allow_unsafe_ops: asked.allow_unsafe_ops,
    };
    tensors(bundle, digest, &asked, Some(Images { input: pictures, are_outputs }))
}

fn tensors(
    bundle: Bundle,
    digest: String,
    asked: &TensorsOptions,
    images: Option<Images>,
) -> Result<(Lease, Kind)> {
    let (manifest, shown) = (bundle.tensors()?, bundle.shown());
    let TensorManifest { inputs, outputs, .. } = manifest;
    let all = inputs.iter().chain(outputs.iter().filter(|spec| asked.outputs.contains(&spec.name)));
    all.into_iter().try_for_each(|spec| spec.check_rows(shown))?;
    let ports = |specs: &[TensorSpec]| specs.iter().map(TensorSpec::port).collect::<Vec<_>>();
    let chosen =
        Tensors::choose((&ports(inputs), &ports(outputs)), (&asked.inputs, &asked.outputs), images, shown)?;
    let (feeds, fetches) = (named(inputs, &chosen.inputs), named(outputs, &chosen.outputs));
    let key = Key { digest, feeds, fetches, operation: None, allow_unsafe_ops: asked.allow_unsafe_ops };
    let lease = lease(bundle, key, GraphFile::closure, Some(chosen.usual_rows()))?;
    Ok((lease, Kind::Tensors(Arc::new(chosen))))
}

/// A graph on tensors that runs for each row, or for blocks of rows.
fn blocks(bundle: Bundle, digest: String, asked: &BlocksOptions) -> Result<(Lease, Kind)> {
    let (manifest, shown) = (bundle.tensors()?, bundle.shown());
    let TensorManifest { inputs, outputs, .. } = manifest;
    let operation = asked.operation;
    let BlocksOptions { tensors: wanted, .. } = asked;
    if operation != Operation::MapRows {
        inputs.iter().try_for_each(|spec| spec.check_rows(shown))?;
    }
    let given = |spec: &TensorSpec| match operation {
        Operation::MapRows => spec.whole(),
        _ => spec.port(),
    };
    let taken = |spec: &TensorSpec| -> Result<Port> {
        match operation {
            Operation::MapRows | Operation::ReduceBlocks => Ok(spec.whole()),
            Operation::MapBlocks => spec.check_rows(shown).map(|()| spec.port()),
            Operation::MapBlocksTrimmed => spec.any_rows(shown),
        }
    };
    let ports = |specs: &[TensorSpec]| specs.iter().map(given).collect::<Vec<_>>();
    let asked_for = outputs.iter().filter(|spec| wanted.outputs.contains(&spec.name));
    let all = (ports(inputs), asked_for.map(taken).collect::<Result<Vec<_>>>()?);
    let chosen = Tensors::choose((&all.0, &all.1), (&wanted.inputs, &wanted.outputs), None, shown)?;
    let (feeds, fetches) = (named(inputs, &chosen.inputs), named(outputs, &chosen.outputs));
    let key =
        Key { digest, feeds, fetches, operation: Some(operation), allow_unsafe_ops: wanted.allow_unsafe_ops };
    if operation == Operation::MapRows {
        let lease = lease(bundle, key, GraphFile::closure, Some(chosen.usual_rows()))?;
        return Ok((lease, Kind::Tensors(Arc::new(chosen))));
    }
    let usual_rows = (operation == Operation::MapBlocks).then(|| chosen.usual_rows());
    let lease = lease(bundle, key, GraphFile::closure, usual_rows)?;
    Ok((lease, Kind::Blocks(Blocks::new(chosen, operation, asked.skip_invalid))))
}

/// The tensors of these ports.
fn named(specs: &[TensorSpec], ports: &[Port]) -> Vec<(String, Port)> {
    let spec = |port: &Port| specs.iter().find(|spec| spec.name == port.name);
    ports.iter().filter_map(|port| Some((spec(port)?.tensor.clone(), port.clone()))).collect()
}

/// A tensor of pictures, named as errors name it.
fn picture_port(tensor: &str, shape: &[usize]) -> (String, Port) {
    let shape = shape.iter().copied().map(Some).collect();
    (tensor.to_owned(), Port { name: tensor.to_owned(), dtype: Dtype::Float32, shape })
}

/// What runs of a graph for given tensors to feed and to fetch.
type Close = fn(&GraphFile, &[String], &[String]) -> Result<Closure>;

/// The session that feeds and fetches these tensors, loaded where it is not yet; `usual_rows` as in `Ports`.
fn lease(mut bundle: Bundle, key: Key, close: Close, usual_rows: Option<usize>) -> Result<Lease> {
    let (feeds, feed_ports): (Vec<String>, Vec<Port>) = key.feeds.iter().cloned().unzip();
    let (fetches, fetch_ports): (Vec<String>, Vec<Port>) = key.fetches.iter().cloned().unzip();
    let (operation, allow_unsafe_ops) = (key.operation, key.allow_unsafe_ops);
    cache::lease(key, move || {
        let shown = bundle.shown().to_owned();
        let place = Place::bundle(&shown);
        let mut read = || {
            let graph =
                GraphFile::parse(bundle.graph()?, place.clone())?.allowing_unsafe_ops(allow_unsafe_ops);
            let closure = close(&graph, &feeds, &fetches)?;
            match operation {
                Some(Operation::MapRows) => each_row::mapped(closure, (&feed_ports, &fetch_ports), &place),
                Some(Operation::ReduceBlocks) => Ok(each_row::as_one_row(closure, &fetch_ports)),
                _ => Ok(closure),
            }
        };
        let ports = Ports { feeds: &feed_ports, fetches: &fetch_ports, usual_rows };
        Session::new(&mut read, ports, &shown)
    })
}

impl Live {
    pub(crate) fn session(&self) -> Result<&Session> {
        self.lease.session()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "The run was cancelled: the handle cannot run again.",
            ));
        }
        Ok(())
    }
}
