//! Work on each row of a column of pictures, without a model.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use super::Scratch;
use super::column::PictureColumn;
use super::frame::Reasoned;
use super::pack::guarded;
use crate::pieces::{self, Work};
use crate::{Error, ErrorKind, Result, pool};

/// What becomes of every row, in order; on at most this many threads (0: as many as the machine offers).
pub(super) fn each_row<T, F>(column: &PictureColumn, threads: usize, work: F) -> Result<Vec<Reasoned<T>>>
where
    T: Send + 'static,
    F: Fn(&mut Scratch, &PictureColumn, usize) -> Reasoned<T> + Send + Sync + 'static,
{
    let threads = if threads == 0 { pool::processors() } else { threads };
    pieces::run(Rows { column: column.clone(), work }, threads)
}

struct Rows<F> {
    column: PictureColumn,
    work: F,
}

impl<T, F> Work for Rows<F>
where
    T: Send + 'static,
    F: Fn(&mut Scratch, &PictureColumn, usize) -> Reasoned<T> + Send + Sync + 'static,
{
    type Outcome = Reasoned<T>;
    type Workspace = Scratch;

    fn pieces(&self) -> usize {
        self.column.len()
    }

    fn begin(&self) -> Scratch {
        Scratch::default()
    }

    fn piece(&self, row: usize, scratch: &mut Scratch) -> Result<Reasoned<T>> {
        Ok(guarded(scratch, |scratch| (self.work)(scratch, &self.column, row)))
    }

    fn end(&self, _: Scratch) {}
}

/// The only column of a batch, of pictures.
pub(super) fn only_column(batch: &RecordBatch) -> Result<PictureColumn> {
    let [array] = batch.columns() else {
        let message = format!("A batch must have one column, of pictures, but has {}.", batch.num_columns());
        return Err(Error::new(ErrorKind::InvalidBatch, message));
    };
    PictureColumn::try_new(Arc::clone(array))
}
