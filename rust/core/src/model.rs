//! The one type the faces hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::record_batch::RecordBatch;

use crate::bundle::{Bundle, TensorManifest, TensorSpec, damaged};
use crate::cache::{self, Key, Lease};
use crate::graph::{Closure, GraphFile, Place};
use crate::image::Packer;
use crate::metrics::{Counters, Metrics};
use crate::options::{Asked, ImageOptions, ModelOptions, NetworkOptions, PicturesOptions, Task};
use crate::picture_feed::PictureInput;
use crate::pictures::{self, Answer, PICTURES_OF_A_RUN, Pictures};
use crate::pool;
use crate::session::Session;
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
            Asked::Tensors(asked) => tensors(bundle, digest, &asked.inputs, &asked.outputs, None)?,
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
    let fetch = Fetch::of(manifest, asked.task, shown)?;
    let answer = match asked.task {
        Task::TopK(k) => Answer::TopK(k, task::labels(&asked.labels, manifest, fetch.width, shown)?),
        Task::Features(_) | Task::Predictions => Answer::Values,
    };
    let spec = manifest.input.spec().map_err(|(field, what)| damaged(shown, &format!("{field} {what}")))?;
    let (packer, input) = (Packer::new(spec, asked.pictures), [spec.height, spec.width, spec.channels]);
    let feeds = vec![picture_port(&manifest.input.tensor, &input)];
    let fetches = vec![picture_port(&fetch.output.tensor, &fetch.output.shape)];
    let lease = lease(bundle, Key { digest, feeds, fetches }, GraphFile::picture_closure, PICTURES_OF_A_RUN)?;
    Ok((lease, Kind::Pictures(Arc::new(Pictures::new(packer, input, fetch, answer)))))
}

/// A graph on tensors whose only input is a picture.
fn pictures(bundle: Bundle, digest: String, asked: &PicturesOptions) -> Result<(Lease, Kind)> {
    let (manifest, shown) = (bundle.tensors()?, bundle.shown());
    let input = task::picture_input(manifest, asked, shown)?;
    let spec = input.spec().map_err(|(field, what)| {
        Error::new(ErrorKind::InvalidArgument, format!("Cannot feed pictures to {shown}: {field} {what}."))
    })?;
    let fetch = Fetch::of_tensors(manifest, &asked.output, shown)?;
    let answer = if asked.image { task::image(&fetch.output, &spec, shown)? } else { Answer::Values };
    let (packer, sides) = (Packer::new(spec, asked.pictures), [spec.height, spec.width, spec.channels]);
    let feeds = vec![picture_port(&input.tensor, &sides)];
    let fetches = vec![picture_port(&fetch.output.tensor, &fetch.output.shape)];
    let lease = lease(bundle, Key { digest, feeds, fetches }, GraphFile::picture_closure, PICTURES_OF_A_RUN)?;
    Ok((lease, Kind::Pictures(Arc::new(Pictures::new(packer, sides, fetch, answer)))))
}

/// A graph on tensors whose only input is a picture, of any size where the graph takes any.
fn images(bundle: Bundle, digest: String, asked: &ImageOptions) -> Result<(Lease, Kind)> {
    let (manifest, shown) = (bundle.tensors()?, bundle.shown());
    let spec = task::only_input(manifest, shown)?;
    let pictures = PictureInput::new(&spec.port(), asked, shown)?;
    let inputs = [spec.name.clone()];
    tensors(
        bundle,
        digest,
        &inputs,
        &asked.outputs,
        Some(Images { input: pictures, are_outputs: asked.images }),
    )
}

fn tensors(
    bundle: Bundle,
    digest: String,
    inputs: &[String],
    outputs: &[String],
    images: Option<Images>,
) -> Result<(Lease, Kind)> {
    let (names, wanted) = (inputs, outputs);
    let (manifest, shown) = (bundle.tensors()?, bundle.shown());
    let TensorManifest { inputs, outputs, .. } = manifest;
    let ports = |specs: &[TensorSpec]| specs.iter().map(TensorSpec::port).collect::<Vec<_>>();
    let chosen = Tensors::choose((&ports(inputs), &ports(outputs)), (names, wanted), images, shown)?;
    let tensors = |specs: &[TensorSpec], ports: &[Port]| -> Vec<(String, Port)> {
        let spec = |port: &Port| specs.iter().find(|spec| spec.name == port.name);
        ports.iter().filter_map(|port| Some((spec(port)?.tensor.clone(), port.clone()))).collect()
    };
    let (feeds, fetches) = (tensors(inputs, &chosen.inputs), tensors(outputs, &chosen.outputs));
    let lease = lease(bundle, Key { digest, feeds, fetches }, GraphFile::closure, chosen.usual_rows())?;
    Ok((lease, Kind::Tensors(Arc::new(chosen))))
}

/// A tensor of pictures, named as errors name it.
fn picture_port(tensor: &str, shape: &[usize]) -> (String, Port) {
    let shape = shape.iter().copied().map(Some).collect();
    (tensor.to_owned(), Port { name: tensor.to_owned(), dtype: Dtype::Float32, shape })
}

/// What runs of a graph for given tensors to feed and to fetch.
type Close = fn(&GraphFile, &[String], &[String]) -> Result<Closure>;

/// The session that feeds and fetches these tensors, loaded where it is not yet; its runs usually have so many rows.
fn lease(mut bundle: Bundle, key: Key, close: Close, usual_rows: usize) -> Result<Lease> {
    let (feeds, feed_ports): (Vec<String>, Vec<Port>) = key.feeds.iter().cloned().unzip();
    let (fetches, fetch_ports): (Vec<String>, Vec<Port>) = key.fetches.iter().cloned().unzip();
    cache::lease(key, move || {
        let shown = bundle.shown().to_owned();
        let mut read = || {
            let graph = GraphFile::parse(bundle.graph()?, Place::bundle(&shown))?;
            close(&graph, &feeds, &fetches)
        };
        Session::new(&mut read, (&feed_ports, &fetch_ports), usual_rows, &shown)
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
