//! Columns of numbers through a graph on tensors: rows in, rows of each output back.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;

use crate::bundle::damaged;
use crate::feed::{Feed, RowPlace};
use crate::lists::{self, Run};
use crate::model::Live;
use crate::pieces::{self, Work};
use crate::values::{Port, Values};
use crate::{Error, ErrorKind, Result};

/// What the rows of one run hold, at most: some of a core's second cache.
const BYTES_OF_A_RUN: usize = 1 << 20;
const MOST_ROWS_OF_A_RUN: usize = 256;
const LEAST_ROWS_OF_A_RUN: usize = 2;

/// A graph on tensors with the inputs that a batch's columns feed and the outputs that are asked for.
#[derive(Debug)]
pub(crate) struct Tensors {
    /// In the order of the columns.
    pub(crate) inputs: Vec<Port>,
    /// In the order of the columns that go back.
    pub(crate) outputs: Vec<Port>,
}

impl Tensors {
    /// The ports of these names; every input must be fed, once.
    pub(crate) fn choose(
        all: (&[Port], &[Port]),
        inputs: &[String],
        outputs: &[String],
        shown: &str,
    ) -> Result<Tensors> {
        let chosen = Tensors {
            inputs: named(all.0, inputs, "input", shown)?,
            outputs: named(all.1, outputs, "output", shown)?,
        };
        if let Some(missing) = all.0.iter().find(|port| !inputs.contains(&port.name)) {
            let name = &missing.name;
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("Nothing feeds the input {name} of {shown}: name every input once in inputs."),
            ));
        }
        if chosen.outputs.is_empty() {
            return Err(damaged(shown, "no output was asked for"));
        }
        Ok(chosen)
    }

    /// How many rows of a batch make one run, unless the session wants more.
    pub(crate) fn usual_rows(&self) -> usize {
        let bytes = |ports: &[Port]| -> usize {
            ports.iter().map(|port| port.least_values().saturating_mul(port.dtype.size())).sum()
        };
        let row = bytes(&self.inputs).max(bytes(&self.outputs)).max(1);
        (BYTES_OF_A_RUN / row).clamp(LEAST_ROWS_OF_A_RUN, MOST_ROWS_OF_A_RUN)
    }
}

fn named(all: &[Port], names: &[String], kind: &str, shown: &str) -> Result<Vec<Port>> {
    let invalid = |text: String| Error::new(ErrorKind::InvalidArgument, text);
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            if names[..index].contains(name) {
                return Err(invalid(format!("The {kind} {name} of {shown} is named twice in {kind}s.")));
            }
            all.iter().find(|port| port.name == *name).cloned().ok_or_else(|| {
                let known: Vec<&str> = all.iter().map(|port| port.name.as_str()).collect();
                invalid(format!("{shown} has no {kind} {name}; it has {}.", known.join(", ")))
            })
        })
        .collect()
}

/// Runs a batch with a column for each input: a column for each output, and the reasons.
pub(crate) fn run(
    live: &Arc<Live>,
    tensors: &Arc<Tensors>,
    batch: &RecordBatch,
    threads: usize,
) -> Result<RecordBatch> {
    let (columns, inputs) = (batch.columns(), &tensors.inputs);
    if columns.len() != inputs.len() {
        return Err(Error::new(
            ErrorKind::InvalidBatch,
            format!(
                "A batch must have {} columns, one for each input, but has {}.",
                inputs.len(),
                columns.len()
            ),
        ));
    }
    let feeds = inputs.iter().zip(columns).map(|(port, column)| Feed::try_new(port, column));
    let rows = batch.num_rows();
    let work = TensorWork {
        live: live.clone(),
        tensors: tensors.clone(),
        feeds: feeds.collect::<Result<_>>()?,
        rows,
        size: live.session()?.rows_of_a_run(tensors.usual_rows()),
    };
    let (mut runs, mut errors) = (Vec::new(), Vec::with_capacity(rows));
    for outcome in pieces::run(work, threads)? {
        runs.extend(outcome.runs);
        errors.extend(outcome.errors);
    }
    let invalid = errors.iter().filter(|error| error.is_some()).count();
    live.counters().called(rows, invalid);
    lists::batch(&tensors.outputs, &runs, errors)
}

struct TensorWork {
    live: Arc<Live>,
    tensors: Arc<Tensors>,
    feeds: Vec<Feed>,
    rows: usize,
    /// Rows of a piece.
    size: usize,
}

struct Outcome {
    runs: Vec<Run>,
    errors: Vec<Option<String>>,
}

/// A row that can run: its place in each column.
type Row = Vec<RowPlace>;

impl Work for TensorWork {
    type Outcome = Outcome;
    type Workspace = ();

    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.size)
    }

    fn begin(&self) {}

    fn piece(&self, piece: usize, (): &mut ()) -> Result<Outcome> {
        self.live.check_cancelled()?;
        let began = Instant::now();
        let start = piece * self.size;
        let mut errors = Vec::with_capacity(self.size);
        let mut valid: Vec<Row> = Vec::with_capacity(self.size);
        for row in start..(start + self.size).min(self.rows) {
            let places: std::result::Result<Row, String> =
                self.feeds.iter().map(|feed| feed.place(row)).collect();
            match places {
                Ok(row) => {
                    valid.push(row);
                    errors.push(None);
                }
                Err(reason) => errors.push(Some(reason)),
            }
        }
        self.live.counters().decoded(began);
        let alike = |one: &Row, other: &Row| one.iter().zip(other).all(|(one, other)| one.dims == other.dims);
        let runs = valid.chunk_by(alike).map(|rows| self.rows_of_one_shape(rows)).collect::<Result<_>>()?;
        Ok(Outcome { runs, errors })
    }

    fn end(&self, (): ()) {}
}

impl TensorWork {
    fn rows_of_one_shape(&self, rows: &[Row]) -> Result<Run> {
        let began = Instant::now();
        let count = rows.len() as u64;
        let tensor = |(index, (port, feed)): (usize, (&Port, &Feed))| {
            let places = rows.iter().filter_map(|row| row.get(index));
            let dims = places.clone().next().map(|place| place.dims.as_slice()).unwrap_or_default();
            let dims: Vec<u64> = std::iter::once(count).chain(dims.iter().map(|side| *side as u64)).collect();
            let mut tensor = Values::new(port.dtype, &dims);
            feed.fill(places, &mut tensor);
            tensor
        };
        let inputs: Vec<Values> =
            self.tensors.inputs.iter().zip(&self.feeds).enumerate().map(tensor).collect();
        self.live.counters().decoded(began);
        let began = Instant::now();
        let outputs = self.live.session()?.run(&inputs)?;
        self.live.counters().ran(began);
        Ok(outputs)
    }
}
