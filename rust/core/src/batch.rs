//! A column of pictures in, values and reasons out: micro-batches are packed and run side by side.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::image::{Packer, PictureColumn, Scratch};
use crate::model::Counters;
use crate::session::Session;
use crate::{Error, ErrorKind, Result};

/// What all micro-batches of one call share.
pub(crate) struct Work<'a> {
    pub(crate) session: &'a Session,
    pub(crate) packer: &'a Packer,
    pub(crate) column: &'a PictureColumn,
    pub(crate) rows: usize,
    pub(crate) cancelled: &'a AtomicBool,
    pub(crate) counters: &'a Counters,
}

/// Values of every row (undefined where there is a reason) and the reasons.
pub(crate) struct Outcome {
    pub(crate) values: Vec<f32>,
    pub(crate) errors: Vec<Option<String>>,
}

const MICRO_BATCH: usize = 4;

impl Work<'_> {
    /// Runs every row; `width` is the number of values of one picture after `reduce`.
    pub(crate) fn run(&self, width: usize, reduce: &dyn Fn(&[f32], &mut [f32])) -> Result<Outcome> {
        let size = self.rows.checked_mul(width).ok_or_else(|| {
            Error::new(ErrorKind::InvalidBatch, format!("{} rows of {width} values are too many.", self.rows))
        })?;
        let mut outcome = Outcome { values: vec![0.0; size], errors: vec![None; self.rows] };
        let mut scratch = Scratch::default();
        for start in (0..self.rows).step_by(MICRO_BATCH) {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Cancelled, "The run was cancelled."));
            }
            let end = (start + MICRO_BATCH).min(self.rows);
            let began = Instant::now();
            let mut input = self.session.input(end - start);
            let slot = input.len() / (end - start);
            let mut valid = Vec::new();
            for row in start..end {
                let at = valid.len() * slot;
                match self.packer.pack(&mut scratch, self.column, row, &mut input[at..at + slot]) {
                    Ok(()) => valid.push(row),
                    Err(why) => outcome.errors[row] = Some(why),
                }
            }
            self.counters.decoded(began);
            if valid.is_empty() {
                continue;
            }
            if valid.len() < end - start {
                let mut fewer = self.session.input(valid.len());
                fewer.copy_from_slice(&input[..valid.len() * slot]);
                input = fewer;
            }
            let began = Instant::now();
            let output = self.session.run(&input)?;
            self.counters.ran(began);
            let picture = output.len() / valid.len();
            for (row, values) in valid.iter().zip(output.chunks_exact(picture)) {
                reduce(values, &mut outcome.values[row * width..(row + 1) * width]);
            }
        }
        Ok(outcome)
    }
}
