//! The one type the faces hold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;

use crate::batch::{self, Workspace};
use crate::bundle::{Bundle, damaged};
use crate::cache::{self, Key, Lease};
use crate::graph::GraphFile;
use crate::image::{InputSpec, Packer, PictureColumn};
use crate::metrics::{Counters, Metrics};
use crate::options::{ModelOptions, Task};
use crate::pool;
use crate::session::Session;
use crate::task::{self, Fetch};
use crate::tensor::{self, Label};
use crate::{Error, ErrorKind, Options, Result, runtime};

/// A handle on a model that is loaded once per process and shared by every handle on it.
#[derive(Debug)]
pub struct Model {
    shared: Arc<Shared>,
    task: Task,
    labels: Vec<Label>,
    threads: usize,
    pid: u32,
}

/// What the threads of a call share with the handle; it outlives a handle that is dropped while a helper is at work.
#[derive(Debug)]
pub(crate) struct Shared {
    lease: Lease,
    packer: Packer,
    fetch: Fetch,
    workspaces: Mutex<Vec<Workspace>>,
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
        let (manifest, shown) = (bundle.manifest()?, bundle.shown());
        let fetch = Fetch::of(manifest, options.task, shown)?;
        let labels = match options.task {
            Task::TopK(_) => task::labels(&options.labels, manifest, fetch.width, shown)?,
            Task::Features(_) | Task::Predictions => Vec::new(),
        };
        let spec =
            manifest.input.spec().map_err(|(field, what)| damaged(shown, &format!("{field} {what}")))?;
        let packer = Packer::new(spec, options.pictures);
        let key = Key { digest, fetch: fetch.output.tensor.clone() };
        let lease = cache::lease(key, || load(bundle, spec, &fetch))?;
        let shared = Arc::new(Shared {
            lease,
            packer,
            fetch,
            workspaces: Mutex::default(),
            cancelled: AtomicBool::new(false),
            counters: Counters::default(),
        });
        let threads = if options.threads == 0 { pool::processors() } else { options.threads };
        Ok(Model { shared, task: options.task, labels, threads, pid: std::process::id() })
    }

    /// Runs a batch: the same number of rows in the same order, a reason for each invalid one.
    pub fn run(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.pid != std::process::id() {
            return Err(runtime::forked(self.pid));
        }
        self.shared.check_cancelled()?;
        let [column] = batch.columns() else {
            return Err(Error::new(
                ErrorKind::InvalidBatch,
                format!("A batch must have one column, of pictures, but has {}.", batch.num_columns()),
            ));
        };
        let column = PictureColumn::try_new(column.clone())?;
        let outcome = batch::run(&self.shared, column, batch.num_rows(), self.threads)?;
        let valid: Vec<bool> = outcome.errors.iter().map(Option::is_none).collect();
        let invalid = valid.iter().filter(|valid| !**valid).count();
        self.shared.counters.called(valid.len(), invalid);
        let output = match self.task {
            Task::TopK(k) => tensor::top_k(&outcome.values, &self.labels, k, valid)?,
            Task::Features(_) | Task::Predictions => {
                tensor::vectors(outcome.values, self.shared.fetch.width, valid)?
            }
        };
        tensor::batch(output, outcome.errors)
    }

    /// Makes runs in flight and later ones of this handle fail with kind `Cancelled`, between two micro-batches.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// What this handle has done so far.
    pub fn metrics(&self) -> Metrics {
        self.shared.counters.read()
    }
}

/// From a bundle to a session that computes one output.
fn load(mut bundle: Bundle, spec: InputSpec, fetch: &Fetch) -> Result<Session> {
    let graph = GraphFile::parse(bundle.graph()?, bundle.shown())?;
    let closure = graph.closure(&bundle.manifest()?.input.tensor, &fetch.output.tensor)?;
    drop(graph);
    let input = [spec.height, spec.width, spec.channels];
    Session::new(closure, &input, &fetch.output.shape, bundle.shown())
}

impl Shared {
    pub(crate) fn session(&self) -> Result<&Session> {
        self.lease.session()
    }

    pub(crate) fn packer(&self) -> &Packer {
        &self.packer
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Values of one picture in the answer.
    pub(crate) fn width(&self) -> usize {
        self.fetch.width
    }

    pub(crate) fn reduce(&self, values: &[f32], slot: &mut [f32]) {
        self.fetch.reduce(values, slot);
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

    /// Buffers left by an earlier micro-batch, or new ones.
    pub(crate) fn take_workspace(&self) -> Workspace {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps buffers for the next call, one set for each processor.
    pub(crate) fn keep_workspace(&self, workspace: Workspace) {
        let mut workspaces = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        if workspaces.len() < pool::processors() {
            workspaces.push(workspace);
        }
    }
}
