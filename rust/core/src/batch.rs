//! A column of pictures in, values and reasons out: micro-batches are packed and run by several threads at once, so
//! that one thread decodes while another is in TensorFlow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tensorflow::Tensor;

use crate::image::{PictureColumn, Scratch};
use crate::model::Shared;
use crate::pool::{self, Job};
use crate::{Error, ErrorKind, Result};

/// Values of every row, in order (zeros where there is a reason), and the reasons.
pub(crate) struct Outcome {
    pub(crate) values: Vec<f32>,
    pub(crate) errors: Vec<Option<String>>,
}

/// What a thread keeps from one micro-batch to the next.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    scratch: Scratch,
    input: Option<Tensor<f32>>,
}

/// One call of `Model::run`.
struct Run {
    model: Arc<Shared>,
    column: PictureColumn,
    rows: usize,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// By micro-batch.
    done: Vec<Option<Outcome>>,
    /// The next micro-batch to take up.
    next: usize,
    failure: Option<Error>,
}

/// Runs a column of `rows` pictures on at most `threads` threads. Micro-batches are cut by row number, so the same
/// batch always runs in the same pieces, whoever runs them.
pub(crate) fn run(
    model: &Arc<Shared>,
    column: PictureColumn,
    rows: usize,
    threads: usize,
) -> Result<Outcome> {
    let size =
        rows.checked_mul(model.width()).filter(|size| *size <= i32::MAX as usize).ok_or_else(|| {
            let width = model.width();
            Error::new(
                ErrorKind::InvalidBatch,
                format!("{rows} rows of {width} values do not fit into one column: lower batchSize."),
            )
        })?;
    let pieces = rows.div_ceil(model.session()?.micro_batch());
    let run = Arc::new(Run {
        model: model.clone(),
        column,
        rows,
        progress: Mutex::new(Progress { done: (0..pieces).map(|_| None).collect(), ..Progress::default() }),
    });
    pool::share(run, threads.min(pieces)).finish(size)
}

impl Run {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the pieces; the helpers are gone.
    fn finish(&self, size: usize) -> Result<Outcome> {
        let mut progress = self.lock();
        if let Some(failure) = progress.failure.take() {
            return Err(failure);
        }
        let mut whole = Outcome { values: Vec::with_capacity(size), errors: Vec::with_capacity(self.rows) };
        for piece in progress.done.drain(..) {
            let piece =
                piece.ok_or_else(|| Error::new(ErrorKind::Internal, "A part of a batch was lost."))?;
            whole.values.extend_from_slice(&piece.values);
            whole.errors.extend(piece.errors);
        }
        Ok(whole)
    }

    /// The next piece, or `None` when all are taken up or one has failed.
    fn take(&self) -> Option<usize> {
        let mut progress = self.lock();
        let piece = progress.next;
        if progress.failure.is_some() || piece >= progress.done.len() {
            return None;
        }
        progress.next += 1;
        Some(piece)
    }

    fn put(&self, piece: usize, outcome: Result<Outcome>) {
        let mut progress = self.lock();
        match outcome {
            Ok(outcome) => progress.done[piece] = Some(outcome),
            Err(error) => progress.failure = Some(progress.failure.take().unwrap_or(error)),
        }
    }

    fn piece(&self, piece: usize, workspace: &mut Workspace) -> Result<Outcome> {
        self.model.check_cancelled()?;
        let (session, width) = (self.model.session()?, self.model.width());
        let start = piece * session.micro_batch();
        let rows = start..(start + session.micro_batch()).min(self.rows);
        let count = rows.len();
        let began = Instant::now();
        let mut input = match workspace.input.take() {
            Some(input) if input.dims().first() == Some(&(count as u64)) => input,
            _ => session.input(count),
        };
        let slot = input.len() / count;
        let mut outcome = Outcome { values: vec![0.0; count * width], errors: Vec::with_capacity(count) };
        let mut valid = Vec::with_capacity(count);
        for (index, row) in rows.enumerate() {
            let place = valid.len() * slot..(valid.len() + 1) * slot;
            let packed =
                self.model.packer().pack(&mut workspace.scratch, &self.column, row, &mut input[place]);
            valid.extend(packed.is_ok().then_some(index));
            outcome.errors.push(packed.err());
        }
        self.model.counters().decoded(began);
        if valid.is_empty() {
            workspace.input = Some(input);
            return Ok(outcome);
        }
        let began = Instant::now();
        let output = if valid.len() == count {
            session.run(&input)?
        } else {
            // The tensor's size is the batch's: the few that are left move to one of their own.
            let mut fewer = session.input(valid.len());
            fewer.copy_from_slice(&input[..valid.len() * slot]);
            session.run(&fewer)?
        };
        self.model.counters().ran(began);
        let picture = output.len() / valid.len();
        for (index, values) in valid.iter().zip(output.chunks_exact(picture)) {
            self.model.reduce(values, &mut outcome.values[index * width..(index + 1) * width]);
        }
        workspace.input = Some(input);
        Ok(outcome)
    }
}

impl Job for Run {
    fn work(&self) {
        let mut workspace = self.model.take_workspace();
        while let Some(piece) = self.take() {
            let outcome = pool::guarded(|| self.piece(piece, &mut workspace));
            self.put(piece, outcome);
        }
        self.model.keep_workspace(workspace);
    }
}
