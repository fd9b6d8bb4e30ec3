//! Blocks of rows through a graph on tensors: all usable rows of a block in one run, whatever comes out of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};

use crate::feed::{Feed, RowPlace};
use crate::lists::{self, Run};
use crate::model::Live;
use crate::options::Operation;
use crate::tensors::Tensors;
use crate::{Error, ErrorKind, Result};

/// A graph on tensors, and what it does with blocks of rows.
#[derive(Debug)]
pub(crate) struct Blocks {
    tensors: Tensors,
    operation: Operation,
    skips_invalid: bool,
}

impl Blocks {
    pub(crate) fn new(tensors: Tensors, operation: Operation, skips_invalid: bool) -> Blocks {
        Blocks { tensors, operation, skips_invalid }
    }
}

/// Runs a batch with a column for each input: a column for each output, and reasons.
///
/// The batch is one block, but for `ReduceBlocks`: there one more column of booleans says where one begins, and each becomes
/// a row, null where the block has no usable row.
pub(crate) fn run(live: &Arc<Live>, blocks: &Blocks, batch: &RecordBatch) -> Result<RecordBatch> {
    let is_reduction = blocks.operation == Operation::ReduceBlocks;
    let (inputs, rows) = (&blocks.tensors.inputs, batch.num_rows());
    let (columns, starts) = batch.columns().split_at(batch.num_columns().min(inputs.len()));
    if columns.len() != inputs.len() || starts.len() != usize::from(is_reduction) {
        return Err(invalid_batch(&format!(
            "must have {} columns, one for each input{}, but has {}",
            inputs.len() + usize::from(is_reduction),
            if is_reduction { " and one that says where blocks begin" } else { "" },
            batch.num_columns()
        )));
    }
    let feeds = inputs.iter().zip(columns).map(|(port, column)| Feed::try_new(port, column));
    let reader = Reader { live, blocks, feeds: feeds.collect::<Result<_>>()? };
    let mut errors: Vec<Option<String>> = vec![None; rows];
    let mut runs: Vec<Run> = Vec::new();
    let mut empty: Vec<Option<String>> = Vec::new();
    for block in ranges(starts.first(), rows)? {
        let found = reader.run(block, &mut errors)?;
        empty.push(found.is_none().then(|| "no usable row".to_owned()));
        runs.extend(found);
    }
    let invalid = errors.iter().flatten().count();
    let reasons = match blocks.operation {
        Operation::ReduceBlocks => empty,
        Operation::MapBlocksTrimmed => vec![None; same_rows(blocks, &runs)?],
        Operation::MapRows | Operation::MapBlocks => errors,
    };
    let known = reasons.iter().flatten().count();
    let result = lists::batch(&blocks.tensors.outputs, &runs, reasons)?;
    let found = result.columns().last().map_or(0, |reasons| reasons.len() - reasons.null_count());
    if blocks.operation != Operation::MapBlocks && found > known {
        return Err(refused("that the graph gives", "it holds a string that is not UTF-8", ""));
    }
    live.counters().called(rows, invalid);
    Ok(result)
}

/// The rows of each block.
fn ranges(starts: Option<&ArrayRef>, rows: usize) -> Result<Vec<Range<usize>>> {
    let mut first = vec![0];
    if let Some(column) = starts {
        let flags = column.as_boolean_opt().filter(|flags| flags.null_count() == 0);
        let flags =
            flags.ok_or_else(|| invalid_batch("must say of each row whether a block begins there"))?;
        first.extend((1..rows).filter(|row| flags.value(*row)));
    }
    let ends = first.iter().skip(1).copied().chain([rows]);
    Ok(first
        .iter()
        .copied()
        .zip(ends)
        .map(|(start, end)| start..end)
        .filter(|block| !block.is_empty())
        .collect())
}

/// How many rows came out.
fn same_rows(blocks: &Blocks, runs: &[Run]) -> Result<usize> {
    let Some(run) = runs.first() else { return Ok(0) };
    let rows: Vec<u64> = run.iter().map(|values| values.dims().first().copied().unwrap_or(0)).collect();
    if rows.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(rows.first().map_or(0, |rows| *rows as usize));
    }
    let names: Vec<&str> = blocks.tensors.outputs.iter().map(|port| port.name.as_str()).collect();
    Err(Error::new(
        ErrorKind::Execution,
        format!("The outputs {} have {rows:?} rows, but columns must have as many each.", names.join(", ")),
    ))
}

struct Reader<'a> {
    live: &'a Arc<Live>,
    blocks: &'a Blocks,
    feeds: Vec<Feed>,
}

impl Reader<'_> {
    /// What the graph gives for a block, and why which rows are not in it; `None` where there are no others.
    fn run(&self, block: Range<usize>, errors: &mut [Option<String>]) -> Result<Option<Run>> {
        self.live.check_cancelled()?;
        let began = Instant::now();
        let start = block.start;
        let mut valid: Vec<Vec<RowPlace>> = Vec::with_capacity(block.len());
        for row in block {
            match self.places(row, valid.first()) {
                Ok(places) => valid.push(places),
                Err(reason) => {
                    if self.blocks.operation != Operation::MapBlocks && !self.blocks.skips_invalid {
                        let which = format!("{} of a block", row - start);
                        return Err(refused(&which, &reason, SKIP));
                    }
                    errors[row] = Some(reason);
                }
            }
        }
        if valid.is_empty() {
            return Ok(None);
        }
        let tensor = |(index, feed): (usize, &Feed)| {
            feed.tensor(&valid.iter().filter_map(|row| row.get(index)).collect::<Vec<_>>())
        };
        let inputs: Vec<_> = self.feeds.iter().enumerate().map(tensor).collect();
        self.live.counters().decoded(began);
        let began = Instant::now();
        let outputs = self.live.session()?.run(&inputs)?;
        self.live.counters().ran(began);
        Ok(Some(outputs))
    }

    /// Where the values of a row are; the rows of a block have the shapes of its `first`.
    fn places(
        &self,
        row: usize,
        first: Option<&Vec<RowPlace>>,
    ) -> std::result::Result<Vec<RowPlace>, String> {
        let places =
            self.feeds.iter().map(|feed| feed.place(row)).collect::<std::result::Result<Vec<_>, _>>()?;
        let others = self.blocks.tensors.inputs.iter().zip(&places).zip(first.into_iter().flatten());
        for ((port, place), first) in others {
            if place.dims != first.dims {
                return Err(format!(
                    "the shape {:?} for the input {}, but the rows of its block have the shape {:?}",
                    place.dims, port.name, first.dims
                ));
            }
        }
        Ok(places)
    }
}

const SKIP: &str = " Set handleInvalid to \"skip\" to go on without such rows.";

fn refused(which: &str, reason: &str, advice: &str) -> Error {
    Error::new(ErrorKind::InvalidRow, format!("Cannot use the row {which}: {reason}.{advice}"))
}

fn invalid_batch(what: &str) -> Error {
    Error::new(ErrorKind::InvalidBatch, format!("A batch {what}."))
}
