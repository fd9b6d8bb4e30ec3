//! The one type the faces hold.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arrow::record_batch::RecordBatch;

use crate::batch::Work;
use crate::bundle::{Bundle, Manifest, Output, damaged};
use crate::cache::{self, Key, Lease};
use crate::graph::GraphFile;
use crate::image::{Packer, PictureColumn};
use crate::options::{ModelOptions, Pooling, Task};
use crate::session::Session;
use crate::tensor::{self, Label};
use crate::{Error, ErrorKind, Options, Result, runtime};

/// A handle on a model that is loaded once per process and shared by every handle on it.
#[derive(Debug)]
pub struct Model {
    lease: Lease,
    packer: Packer,
    task: Task,
    fetch: Fetch,
    labels: Vec<Label>,
    #[allow(dead_code)]
    threads: usize,
    cancelled: AtomicBool,
    counters: Counters,
    pid: u32,
}

/// What a handle has done so far, since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Rows given to `run`.
    pub rows: u64,
    /// Rows that came back with a reason instead of a value.
    pub invalid_rows: u64,
    /// Calls of `run`.
    pub native_calls: u64,
    /// Calls of TensorFlow.
    pub session_runs: u64,
    /// Time spent decoding, resizing and packing, in nanoseconds, summed over threads.
    pub decode_nanos: u64,
    /// Time spent in TensorFlow, in nanoseconds, summed over threads.
    pub run_nanos: u64,
}

impl Model {
    /// Opens a bundle. `runtime::load` must have succeeded in this process.
    pub fn open(options: &Options) -> Result<Model> {
        let options = ModelOptions::parse(options)?;
        runtime::loaded()?;
        let digest = cache::digest(&options.model)?;
        let bundle = Bundle::read(&options.model)?;
        let fetch = Fetch::of(&bundle.manifest, options.task, &bundle.shown)?;
        let labels = match options.task {
            Task::TopK(_) => labels_of(&options.labels, &bundle.manifest, fetch.width, &bundle.shown)?,
            _ => Vec::new(),
        };
        let spec = bundle
            .manifest
            .input
            .spec()
            .map_err(|(field, what)| damaged(&bundle.shown, &format!("{field} {what}")))?;
        let key = Key { digest, fetch: fetch.output.tensor.clone() };
        let lease = cache::lease(key, || {
            let graph = GraphFile::parse(bundle.graph, &bundle.shown)?;
            let closure = graph.closure(&bundle.manifest.input.tensor, &fetch.output.tensor)?;
            let input = [spec.height, spec.width, spec.channels];
            Session::new(&closure, &input, &fetch.output.shape, &bundle.shown)
        })?;
        Ok(Model {
            lease,
            packer: Packer::new(spec, options.pictures),
            task: options.task,
            fetch,
            labels,
            threads: options.threads,
            cancelled: AtomicBool::new(false),
            counters: Counters::default(),
            pid: std::process::id(),
        })
    }

    /// Runs a batch: the same number of rows in the same order, a reason for each invalid one.
    pub fn run(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.pid != std::process::id() {
            return Err(runtime::forked(self.pid));
        }
        let [column] = batch.columns() else {
            return Err(Error::new(
                ErrorKind::InvalidBatch,
                format!("A batch must have one column, of pictures, but has {}.", batch.num_columns()),
            ));
        };
        let work = Work {
            session: self.lease.session()?,
            packer: &self.packer,
            column: &PictureColumn::try_new(column.clone())?,
            rows: batch.num_rows(),
            cancelled: &self.cancelled,
            counters: &self.counters,
        };
        let pooling = self.fetch.pooling;
        let outcome = work.run(self.fetch.width, &|values, slot| pool(pooling, values, slot))?;
        let valid: Vec<bool> = outcome.errors.iter().map(Option::is_none).collect();
        self.counters.called(&valid);
        let output = match self.task {
            Task::TopK(k) => tensor::top_k(&outcome.values, &self.labels, k, valid)?,
            Task::Features(_) | Task::Predictions => {
                tensor::vectors(outcome.values, self.fetch.width, valid)?
            }
        };
        tensor::batch(output, outcome.errors)
    }

    /// Makes runs in flight and later ones of this handle fail with kind `Cancelled`, between two micro-batches.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// What this handle has done so far.
    pub fn metrics(&self) -> Metrics {
        self.counters.read()
    }
}

/// The tensor that answers a task, and what is left to do with it here.
#[derive(Debug)]
struct Fetch {
    output: Output,
    /// `None` where the graph's values are the answer.
    pooling: Pooling,
    /// Values of one picture in the answer.
    width: usize,
}

impl Fetch {
    fn of(manifest: &Manifest, task: Task, shown: &str) -> Result<Fetch> {
        let outputs = &manifest.outputs;
        let Task::Features(pooling) = task else {
            return outputs.predictions.as_ref().map(Fetch::whole).ok_or_else(|| lacks(shown, "predictions"));
        };
        let pooled = match pooling {
            Pooling::Avg => outputs.features_avg.as_ref(),
            Pooling::Max => outputs.features_max.as_ref(),
            Pooling::None => outputs.features.as_ref(),
        };
        if let Some(output) = pooled {
            return Ok(Fetch::whole(output));
        }
        let features = outputs.features.as_ref().ok_or_else(|| lacks(shown, "features"))?;
        match features.shape.as_slice() {
            [_, _, channels] => Ok(Fetch { output: features.clone(), pooling, width: *channels }),
            shape => {
                Err(damaged(shown, &format!("its features have the shape {shape:?} and cannot be pooled")))
            }
        }
    }

    fn whole(output: &Output) -> Fetch {
        Fetch { output: output.clone(), pooling: Pooling::None, width: output.values() }
    }
}

fn lacks(shown: &str, output: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "The bundle {shown} has no output {output}: use the other stage, or export the model with it."
        ),
    )
}

/// Positions of one feature map (rows × columns, channels innermost) into one vector.
fn pool(pooling: Pooling, values: &[f32], slot: &mut [f32]) {
    match pooling {
        Pooling::None => slot.copy_from_slice(values),
        Pooling::Avg => {
            let positions = (values.len() / slot.len()) as f32;
            for (channel, sum) in slot.iter_mut().enumerate() {
                *sum = 0.0;
                let _ = channel;
            }
            for position in values.chunks_exact(slot.len()) {
                slot.iter_mut().zip(position).for_each(|(sum, value)| *sum += value);
            }
            slot.iter_mut().for_each(|sum| *sum /= positions);
        }
        Pooling::Max => {
            slot.fill(f32::NEG_INFINITY);
            for position in values.chunks_exact(slot.len()) {
                slot.iter_mut().zip(position).for_each(|(most, value)| *most = most.max(*value));
            }
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Labels {
    Names(Vec<String>),
    Pairs(Vec<(String, String)>),
}

fn labels_of(given: &str, manifest: &Manifest, outputs: usize, shown: &str) -> Result<Vec<Label>> {
    let invalid = |text: String| Error::new(ErrorKind::InvalidArgument, text);
    let labels = if given.is_empty() {
        manifest.labels.clone().map(Labels::Pairs).ok_or_else(|| {
            invalid(format!("The bundle {shown} has no labels: set the param labels, one for each of its {outputs} classes."))
        })?
    } else {
        serde_json::from_str(given).map_err(|e| {
            invalid(
                "Option labels must be a JSON array of strings or of [class, description] pairs.".to_owned(),
            )
            .with_source(e)
        })?
    };
    let labels: Vec<Label> = match labels {
        Labels::Names(names) => {
            names.into_iter().map(|name| Label { class: name.clone(), description: name }).collect()
        }
        Labels::Pairs(pairs) => {
            pairs.into_iter().map(|(class, description)| Label { class, description }).collect()
        }
    };
    if labels.len() != outputs {
        let count = labels.len();
        return Err(invalid(format!(
            "{count} labels were given for the {outputs} classes of {shown}: give one for each."
        )));
    }
    Ok(labels)
}

/// The counters behind `Metrics`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    rows: AtomicU64,
    invalid_rows: AtomicU64,
    native_calls: AtomicU64,
    session_runs: AtomicU64,
    decode_nanos: AtomicU64,
    run_nanos: AtomicU64,
}

impl Counters {
    pub(crate) fn decoded(&self, since: Instant) {
        self.decode_nanos.fetch_add(nanos(since), Ordering::Relaxed);
    }

    pub(crate) fn ran(&self, since: Instant) {
        self.session_runs.fetch_add(1, Ordering::Relaxed);
        self.run_nanos.fetch_add(nanos(since), Ordering::Relaxed);
    }

    fn called(&self, valid: &[bool]) {
        let invalid = valid.iter().filter(|valid| !**valid).count();
        self.native_calls.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(valid.len() as u64, Ordering::Relaxed);
        self.invalid_rows.fetch_add(invalid as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Metrics {
        Metrics {
            rows: self.rows.load(Ordering::Relaxed),
            invalid_rows: self.invalid_rows.load(Ordering::Relaxed),
            native_calls: self.native_calls.load(Ordering::Relaxed),
            session_runs: self.session_runs.load(Ordering::Relaxed),
            decode_nanos: self.decode_nanos.load(Ordering::Relaxed),
            run_nanos: self.run_nanos.load(Ordering::Relaxed),
        }
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
