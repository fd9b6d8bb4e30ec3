//! Parses string pairs into checked structs; refuses unknown and missing keys.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::image::PictureOptions;
use crate::{Error, ErrorKind, Options, Result};

/// More threads than this are a mistake, not a machine.
const MAX_THREADS: usize = 4096;

/// What a model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Features(Pooling),
    Predictions,
    TopK(usize),
}

/// How the last feature map becomes one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    Avg,
    Max,
    None,
}

/// The options of `Model::open`.
#[derive(Debug, Clone)]
pub(crate) struct ModelOptions {
    pub(crate) model: PathBuf,
    pub(crate) task: Task,
    /// JSON as it was given; empty means the model's own.
    pub(crate) labels: String,
    pub(crate) pictures: PictureOptions,
    /// 0: as many as the machine offers.
    pub(crate) threads: usize,
}

/// The options of `runtime::load`; empty strings are places not to look at.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeOptions {
    pub(crate) tensorflow_path: String,
    pub(crate) tensorflow_classpath: String,
    pub(crate) python: String,
}

impl ModelOptions {
    pub(crate) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let model = pairs.take("model")?;
        if model.is_empty() {
            return Err(refused("model", model, "the path of a bundle file"));
        }
        let (task, pooling, top_k) = (pairs.take("task")?, pairs.take("pooling")?, pairs.take("topK")?);
        let task = match task {
            "features" => Task::Features(pooling_of(pooling)?),
            "predictions" => Task::Predictions,
            "topK" => Task::TopK(whole("topK", top_k, 1, usize::MAX)?),
            other => return Err(refused("task", other, "features, predictions, topK")),
        };
        let labels = pairs.take("labels")?.to_owned();
        let threads = whole("threads", pairs.take("threads")?, 0, MAX_THREADS)?;
        pairs.finish(&PictureOptions::KEYS)?;
        let pictures = PictureOptions::parse(options)?;
        Ok(ModelOptions { model: PathBuf::from(model), task, labels, pictures, threads })
    }
}

impl RuntimeOptions {
    pub(crate) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let parsed = RuntimeOptions {
            tensorflow_path: pairs.take("tensorflowPath")?.to_owned(),
            tensorflow_classpath: pairs.take("tensorflowClasspath")?.to_owned(),
            python: pairs.take("python")?.to_owned(),
        };
        pairs.finish(&[])?;
        Ok(parsed)
    }
}

/// The options of `keras::convert`.
#[derive(Debug, Clone)]
pub(crate) struct KerasOptions {
    pub(crate) file: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) model_name: String,
}

impl KerasOptions {
    pub(crate) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let parsed = KerasOptions {
            file: PathBuf::from(pairs.take("file")?),
            output: PathBuf::from(pairs.take("output")?),
            model_name: pairs.take("modelName")?.to_owned(),
        };
        pairs.finish(&[])?;
        Ok(parsed)
    }
}

/// The pairs not yet read, and the keys that were.
struct Pairs<'a> {
    left: HashMap<&'a str, &'a str>,
    known: Vec<&'static str>,
}

impl<'a> Pairs<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let mut left = HashMap::with_capacity(options.len());
        for (key, value) in options {
            if left.insert(key.as_str(), value.as_str()).is_some() {
                return Err(invalid(format!("The option {key} was given twice.")));
            }
        }
        Ok(Pairs { left, known: Vec::new() })
    }

    fn take(&mut self, key: &'static str) -> Result<&'a str> {
        self.known.push(key);
        self.left.remove(key).ok_or_else(|| invalid(format!("The option {key} is missing.")))
    }

    /// Refuses what is left, except for keys that somebody else reads.
    fn finish(mut self, others: &[&'static str]) -> Result<()> {
        self.known.extend_from_slice(others);
        let mut unknown: Vec<_> = self.left.keys().copied().filter(|key| !others.contains(key)).collect();
        unknown.sort_unstable();
        match unknown.first() {
            None => Ok(()),
            Some(key) => {
                Err(invalid(format!("Unknown option {key}. Known options: {}.", self.known.join(", "))))
            }
        }
    }
}

fn pooling_of(value: &str) -> Result<Pooling> {
    match value {
        "avg" => Ok(Pooling::Avg),
        "max" => Ok(Pooling::Max),
        "none" => Ok(Pooling::None),
        other => Err(refused("pooling", other, "avg, max, none")),
    }
}

fn whole(key: &str, value: &str, least: usize, most: usize) -> Result<usize> {
    match usize::from_str(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ if most == usize::MAX => Err(refused(key, value, &format!("whole numbers from {least}"))),
        _ => Err(refused(key, value, &format!("whole numbers from {least} to {most}"))),
    }
}

fn refused(key: &str, value: &str, known: &str) -> Error {
    invalid(format!("The option {key} cannot be {value:?}; it takes {known}."))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}
