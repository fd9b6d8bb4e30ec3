//! A batch cut into pieces that several threads work at, so that one thread reads its rows while another is in TensorFlow.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pool::{self, Job};
use crate::{Error, ErrorKind, Result};

/// What is done with one batch. Pieces are cut by row number, so the same batch always runs in the same pieces,
/// whoever runs them.
pub(crate) trait Work: Send + Sync + 'static {
    /// What becomes of a piece.
    type Outcome: Send;
    /// What a thread keeps from one piece to the next.
    type Workspace;

    fn pieces(&self) -> usize;
    fn begin(&self) -> Self::Workspace;
    fn piece(&self, piece: usize, workspace: &mut Self::Workspace) -> Result<Self::Outcome>;
    fn end(&self, workspace: Self::Workspace);
}

struct Batch<W: Work> {
    work: W,
    progress: Mutex<Progress<W::Outcome>>,
}

struct Progress<O> {
    done: Vec<Option<O>>,
    /// The next piece to take up.
    next: usize,
    failure: Option<Error>,
}

/// What became of each piece, in order; on at most `threads` threads, this one included.
pub(crate) fn run<W: Work>(work: W, threads: usize) -> Result<Vec<W::Outcome>> {
    let pieces = work.pieces();
    let done = (0..pieces).map(|_| None).collect();
    let batch = Batch { work, progress: Mutex::new(Progress { done, next: 0, failure: None }) };
    pool::share(Arc::new(batch), threads.min(pieces)).finish()
}

impl<W: Work> Batch<W> {
    fn lock(&self) -> MutexGuard<'_, Progress<W::Outcome>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The helpers are gone.
    fn finish(&self) -> Result<Vec<W::Outcome>> {
        let mut progress = self.lock();
        if let Some(failure) = progress.failure.take() {
            return Err(failure);
        }
        let lost = || Error::new(ErrorKind::Internal, "A part of a batch was lost.");
        progress.done.drain(..).map(|piece| piece.ok_or_else(lost)).collect()
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

    fn put(&self, piece: usize, outcome: Result<W::Outcome>) {
        let mut progress = self.lock();
        match outcome {
            Ok(outcome) => progress.done[piece] = Some(outcome),
            Err(error) => progress.failure = Some(progress.failure.take().unwrap_or(error)),
        }
    }
}

impl<W: Work> Job for Batch<W> {
    fn work(&self) {
        let mut workspace = self.work.begin();
        while let Some(piece) = self.take() {
            let outcome = pool::guarded(|| self.work.piece(piece, &mut workspace));
            self.put(piece, outcome);
        }
        self.work.end(workspace);
    }
}
