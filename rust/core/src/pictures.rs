//! A column of pictures through a graph: packed into its input, run, and made into one column of answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch};
use tensorflow::Tensor;

use crate::bundle::Output;
use crate::image::{ChannelOrder, Packer, PictureColumn, Scratch};
use crate::model::Live;
use crate::pieces::{self, Work};
use crate::pool;
use crate::task::Fetch;
use crate::tensor::{self, Label};
use crate::{Error, ErrorKind, Result};

/// Pictures of one run: two callers, each with few pictures, are fastest where the values between two layers stay in
/// the caches (MobileNetV2: 2 gives a tenth more than 4 or 1, a seventh more than 8; ResNet50, InceptionV3: 1 to 8
/// differ by less than 5 %).
pub(crate) const PICTURES_OF_A_RUN: usize = 2;

/// How pictures get into a graph, and what is made of what comes out.
#[derive(Debug)]
pub(crate) struct Pictures {
    packer: Packer,
    /// Height, width and channels of the input.
    input: [u64; 3],
    answers: Vec<Answer>,
    workspaces: Mutex<Vec<Workspace>>,
}

/// A column of the result: the tensor that it comes from, and what becomes of its numbers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) fetch: Fetch,
    pub(crate) form: Form,
}

/// What becomes of the numbers of a picture.
#[derive(Debug)]
pub(crate) enum Form {
    /// A vector of them.
    Values,
    /// The best classes.
    TopK(usize, Vec<Label>),
    /// A picture of floats, of this height, width and channels, in this order.
    Image([usize; 3], ChannelOrder),
}

/// What a thread keeps from one run to the next.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    scratch: Scratch,
    input: Option<Tensor<f32>>,
}

impl Pictures {
    pub(crate) fn new(packer: Packer, input: [usize; 3], answers: Vec<Answer>) -> Pictures {
        let input = input.map(|side| side as u64);
        Pictures { packer, input, answers, workspaces: Mutex::default() }
    }

    /// What a session is asked for: the tensor of each answer, in their order.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.answers.iter().map(|answer| &answer.fetch.output)
    }

    /// A tensor of zeros for this many pictures.
    fn tensor(&self, pictures: usize) -> Tensor<f32> {
        let [height, width, channels] = self.input;
        Tensor::new(&[pictures as u64, height, width, channels])
    }
}

/// Runs a batch of one column of pictures: a column for each answer, and the reasons.
pub(crate) fn run(
    live: &Arc<Live>,
    pictures: &Arc<Pictures>,
    batch: &RecordBatch,
    threads: usize,
) -> Result<RecordBatch> {
    let [column] = batch.columns() else {
        return Err(Error::new(
            ErrorKind::InvalidBatch,
            format!("A batch must have one column, of pictures, but has {}.", batch.num_columns()),
        ));
    };
    let rows = batch.num_rows();
    let room = |answer: &Answer| {
        let width = answer.fetch.width;
        let size = rows.checked_mul(width).filter(|size| *size <= i32::MAX as usize).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidBatch,
                format!("{rows} rows of {width} values do not fit into one column: lower batchSize."),
            )
        })?;
        Ok(Vec::with_capacity(size))
    };
    let mut values = pictures.answers.iter().map(room).collect::<Result<Vec<Vec<f32>>>>()?;
    let work = PictureWork {
        live: live.clone(),
        pictures: pictures.clone(),
        column: PictureColumn::try_new(column.clone())?,
        rows,
        size: live.session()?.rows_of_a_run(PICTURES_OF_A_RUN),
    };
    let mut errors = Vec::with_capacity(rows);
    for piece in pieces::run(work, threads)? {
        values.iter_mut().zip(&piece.values).for_each(|(all, some)| all.extend_from_slice(some));
        errors.extend(piece.errors);
    }
    let valid: Vec<bool> = errors.iter().map(Option::is_none).collect();
    live.counters().called(rows, valid.iter().filter(|valid| !**valid).count());
    let column = |(index, (answer, values)): (usize, (&Answer, Vec<f32>))| {
        let column: ArrayRef = match &answer.form {
            Form::Values => tensor::vectors(values, answer.fetch.width, valid.clone())?,
            Form::TopK(k, labels) => tensor::top_k(&values, labels, *k, valid.clone())?,
            Form::Image(shape, order) => tensor::images(values, *shape, *order, &valid)?,
        };
        Ok((if index == 0 { "output".to_owned() } else { format!("output_{index}") }, column))
    };
    let columns = pictures.answers.iter().zip(values).enumerate().map(column).collect::<Result<_>>()?;
    tensor::batch(columns, errors)
}

/// One batch.
struct PictureWork {
    live: Arc<Live>,
    pictures: Arc<Pictures>,
    column: PictureColumn,
    rows: usize,
    /// Pictures of a piece.
    size: usize,
}

/// For each answer the values of every row, in order (zeros where there is a reason), and the reasons.
struct Outcome {
    values: Vec<Vec<f32>>,
    errors: Vec<Option<String>>,
}

impl Work for PictureWork {
    type Outcome = Outcome;
    type Workspace = Workspace;

    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.size)
    }

    /// Buffers left by an earlier call, or new ones.
    fn begin(&self) -> Workspace {
        let mut kept = self.pictures.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop().unwrap_or_default()
    }

    /// Keeps buffers for the next call, one set for each processor.
    fn end(&self, workspace: Workspace) {
        let mut kept = self.pictures.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < pool::processors() {
            kept.push(workspace);
        }
    }

    fn piece(&self, piece: usize, workspace: &mut Workspace) -> Result<Outcome> {
        self.live.check_cancelled()?;
        let (session, answers) = (self.live.session()?, &self.pictures.answers);
        let start = piece * self.size;
        let rows = start..(start + self.size).min(self.rows);
        let count = rows.len();
        let began = Instant::now();
        let mut input = match workspace.input.take() {
            Some(input) if input.dims().first() == Some(&(count as u64)) => input,
            _ => self.pictures.tensor(count),
        };
        let slot = input.len() / count;
        let values = answers.iter().map(|answer| vec![0.0; count * answer.fetch.width]).collect();
        let mut outcome = Outcome { values, errors: Vec::with_capacity(count) };
        let mut valid = Vec::with_capacity(count);
        for (index, row) in rows.enumerate() {
            let place = valid.len() * slot..(valid.len() + 1) * slot;
            let packed =
                self.pictures.packer.pack(&mut workspace.scratch, &self.column, row, &mut input[place]);
            valid.extend(packed.is_ok().then_some(index));
            outcome.errors.push(packed.err());
        }
        self.live.counters().decoded(began);
        if valid.is_empty() {
            workspace.input = Some(input);
            return Ok(outcome);
        }
        let began = Instant::now();
        let outputs = if valid.len() == count {
            session.run_pictures(&input)?
        } else {
            // The tensor's size is the batch's: the few that are left move to one of their own.
            let mut fewer = self.pictures.tensor(valid.len());
            fewer.copy_from_slice(&input[..valid.len() * slot]);
            session.run_pictures(&fewer)?
        };
        self.live.counters().ran(began);
        for ((output, answer), slots) in outputs.iter().zip(answers).zip(&mut outcome.values) {
            let width = answer.fetch.width;
            for (index, values) in valid.iter().zip(output.chunks_exact(output.len() / valid.len())) {
                answer.fetch.reduce(values, &mut slots[index * width..(index + 1) * width]);
            }
        }
        workspace.input = Some(input);
        Ok(outcome)
    }
}
