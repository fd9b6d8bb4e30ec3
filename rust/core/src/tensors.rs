//! Columns of numbers, or a column of pictures, through a graph on tensors: rows in, rows of each output back.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};

use crate::bundle::damaged;
use crate::feed::{Feed, RowPlace};
use crate::image::{self, ChannelOrder, Picture, Scratch};
use crate::lists::{self, Run};
use crate::model::Live;
use crate::picture_feed::{PictureFeed, PictureInput, Pixels};
use crate::pictures::PICTURES_OF_A_RUN;
use crate::pieces::{self, Work};
use crate::values::{Dtype, Port, Values};
use crate::{Error, ErrorKind, Result, tensor};

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
    /// Where the only input takes pictures.
    images: Option<Images>,
}

/// Pictures that feed a graph's only input.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) input: PictureInput,
    /// Whether the outputs are pictures too: `[height, width, 1, 3 or 4]`, uint8 or float32, in the input's channel order.
    pub(crate) are_outputs: bool,
}

impl Tensors {
    /// The ports of these names; every input must be fed, once.
    pub(crate) fn choose(
        all: (&[Port], &[Port]),
        (inputs, outputs): (&[String], &[String]),
        images: Option<Images>,
        shown: &str,
    ) -> Result<Tensors> {
        let chosen = Tensors {
            inputs: named(all.0, inputs, "input", shown)?,
            outputs: named(all.1, outputs, "output", shown)?,
            images,
        };
        if chosen.images.as_ref().is_some_and(|images| images.are_outputs) {
            chosen.outputs.iter().try_for_each(|port| check_picture(port, shown))?;
        }
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
        if self.images.is_some() {
            return PICTURES_OF_A_RUN;
        }
        let bytes = |ports: &[Port]| -> usize {
            ports.iter().map(|port| port.least_values().saturating_mul(port.dtype.size())).sum()
        };
        let row = bytes(&self.inputs).max(bytes(&self.outputs)).max(1);
        (BYTES_OF_A_RUN / row).clamp(LEAST_ROWS_OF_A_RUN, MOST_ROWS_OF_A_RUN)
    }
}

/// Refuses an output that is no picture.
fn check_picture(port: &Port, shown: &str) -> Result<()> {
    let Port { name, dtype, shape } = port;
    let channels = matches!(shape.as_slice(), [_, _, Some(1 | 3 | 4) | None]);
    if channels && matches!(dtype, Dtype::Float32 | Dtype::Uint8) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "The output {name} of {shown} is of type {dtype} and shape {}, not a picture ([height, width, 1, 3 or 4] of uint8 \
             or float32): set outputMode to \"vector\" or \"array\".",
            port.shown_shape()
        ),
    ))
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
    let feeds = inputs.iter().zip(columns).map(|(port, column)| match &tensors.images {
        Some(_) => Ok(Source::Pictures(PictureFeed::try_new(column)?)),
        None => Ok(Source::Numbers(Feed::try_new(port, column)?)),
    });
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
    let result = match &tensors.images {
        Some(Images { input, are_outputs: true }) => {
            pictures_of(&tensors.outputs, &runs, errors, input.order)
        }
        _ => lists::batch(&tensors.outputs, &runs, errors),
    }?;
    // Some rows are invalid by what the graph gave for them. The last column has the reasons.
    let invalid = result.columns().last().map_or(0, |reasons| rows - reasons.null_count());
    live.counters().called(rows, invalid);
    Ok(result)
}

/// A column of Spark's image structs for each output, and the reasons.
fn pictures_of(
    outputs: &[Port],
    runs: &[Run],
    mut errors: Vec<Option<String>>,
    order: ChannelOrder,
) -> Result<RecordBatch> {
    let valid: Vec<bool> = errors.iter().map(Option::is_none).collect();
    let mut columns = Vec::with_capacity(outputs.len());
    for (index, port) in outputs.iter().enumerate() {
        let rows = runs.iter().filter_map(|run| run.get(index));
        let mut found = rows.flat_map(|values| Picture::of_tensor(values, order));
        let mut pictures: Vec<Option<Picture>> = Vec::with_capacity(valid.len());
        for (row, valid) in valid.iter().enumerate() {
            let picture = if *valid { found.next().flatten() } else { None };
            if *valid && picture.is_none() && errors[row].is_none() {
                errors[row] =
                    Some(format!("the output {} has no 1, 3 or 4 channels, or no pixels", port.name));
            }
            pictures.push(picture);
        }
        columns.push((format!("output_{index}"), pictures));
    }
    let origins = || StringArray::new_null(valid.len());
    let columns = columns
        .into_iter()
        .map(|(name, pictures)| Ok((name, Arc::new(image::images(origins(), &pictures)?) as ArrayRef)));
    tensor::batch(columns.collect::<Result<_>>()?, errors)
}

/// A column that feeds an input.
enum Source {
    Numbers(Feed),
    Pictures(PictureFeed),
}

/// A row's value for an input.
enum Place {
    Numbers(RowPlace),
    Pixels(Pixels),
}

impl Place {
    fn dims(&self) -> &[usize] {
        match self {
            Place::Numbers(place) => &place.dims,
            Place::Pixels(pixels) => &pixels.dims,
        }
    }
}

struct TensorWork {
    live: Arc<Live>,
    tensors: Arc<Tensors>,
    feeds: Vec<Source>,
    rows: usize,
    /// Rows of a piece.
    size: usize,
}

struct Outcome {
    runs: Vec<Run>,
    errors: Vec<Option<String>>,
}

/// A row that can run: its place in each column.
type Row = Vec<Place>;

impl Work for TensorWork {
    type Outcome = Outcome;
    type Workspace = Scratch;

    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.size)
    }

    fn begin(&self) -> Scratch {
        Scratch::default()
    }

    fn piece(&self, piece: usize, scratch: &mut Scratch) -> Result<Outcome> {
        self.live.check_cancelled()?;
        let began = Instant::now();
        let start = piece * self.size;
        let mut errors = Vec::with_capacity(self.size);
        let mut valid: Vec<Row> = Vec::with_capacity(self.size);
        for row in start..(start + self.size).min(self.rows) {
            let places: std::result::Result<Row, String> =
                self.feeds.iter().map(|feed| self.place(feed, row, scratch)).collect();
            match places {
                Ok(row) => {
                    valid.push(row);
                    errors.push(None);
                }
                Err(reason) => errors.push(Some(reason)),
            }
        }
        self.live.counters().decoded(began);
        let alike =
            |one: &Row, other: &Row| one.iter().zip(other).all(|(one, other)| one.dims() == other.dims());
        let runs = valid.chunk_by(alike).map(|rows| self.rows_of_one_shape(rows)).collect::<Result<_>>()?;
        Ok(Outcome { runs, errors })
    }

    fn end(&self, _: Scratch) {}
}

impl TensorWork {
    /// A row's value for an input, or why it has none.
    fn place(&self, feed: &Source, row: usize, scratch: &mut Scratch) -> std::result::Result<Place, String> {
        match (feed, &self.tensors.images) {
            (Source::Pictures(feed), Some(images)) => {
                Ok(Place::Pixels(feed.pixels(&images.input, row, scratch)?))
            }
            (Source::Numbers(feed), _) => Ok(Place::Numbers(feed.place(row)?)),
            (Source::Pictures(_), None) => Err("a picture for an input of numbers".to_owned()),
        }
    }

    fn rows_of_one_shape(&self, rows: &[Row]) -> Result<Run> {
        let began = Instant::now();
        let count = rows.len() as u64;
        let tensor = |(index, (port, feed)): (usize, (&Port, &Source))| {
            let places = rows.iter().filter_map(|row| row.get(index));
            let dims = places.clone().next().map(Place::dims).unwrap_or_default();
            let dims: Vec<u64> = std::iter::once(count).chain(dims.iter().map(|side| *side as u64)).collect();
            let mut tensor = Values::new(port.dtype, &dims);
            match feed {
                Source::Numbers(feed) => {
                    let places = places.filter_map(|place| match place {
                        Place::Numbers(place) => Some(place),
                        Place::Pixels(_) => None,
                    });
                    feed.fill(places, &mut tensor);
                }
                Source::Pictures(_) => {
                    let pictures = places.filter_map(|place| match place {
                        Place::Pixels(pixels) => Some(pixels),
                        Place::Numbers(_) => None,
                    });
                    PictureFeed::fill(pictures, &mut tensor);
                }
            }
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
