//! Parses string pairs into checked structs; refuses unknown and missing keys.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::image::PictureOptions;
use crate::{Error, ErrorKind, Options, Result};

/// More threads than this are a mistake, not a machine.
pub(crate) const MAX_THREADS: usize = 4096;

/// The longest side of a network's input.
pub(crate) const MAX_SIDE: usize = 16_384;

/// What a network of the table, or one like it, is asked for.
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
    /// 0: as many as the machine offers.
    pub(crate) threads: usize,
    pub(crate) asked: Asked,
}

/// What a bundle is asked for, and with what.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Network(NetworkOptions),
    Pictures(PicturesOptions),
    Tensors(TensorsOptions),
    Blocks(BlocksOptions),
    Images(ImageOptions),
}

/// Of a bundle that says how pictures are prepared.
#[derive(Debug, Clone)]
pub(crate) struct NetworkOptions {
    /// At least one.
    pub(crate) tasks: Vec<Task>,
    /// JSON as it was given; empty means the model's own.
    pub(crate) labels: String,
    pub(crate) pictures: PictureOptions,
}

/// Of a graph on tensors that takes pictures, prepared as these say.
#[derive(Debug, Clone)]
pub(crate) struct PicturesOptions {
    /// Empty: the only one.
    pub(crate) output: String,
    /// Whether the output is a picture too.
    pub(crate) image: bool,
    pub(crate) channel_order: String,
    pub(crate) normalization: String,
    /// Height and width; `None` is the model's own.
    pub(crate) size: Option<[usize; 2]>,
    pub(crate) pictures: PictureOptions,
}

/// Of a graph on tensors whose only input takes pictures, of any size where the graph does.
#[derive(Debug, Clone)]
pub(crate) struct ImageOptions {
    /// In the order of the columns.
    pub(crate) outputs: Vec<String>,
    /// Whether the outputs are pictures too.
    pub(crate) images: bool,
    pub(crate) channel_order: String,
    /// Height and width to resize to; `None`: the graph's, else each picture's own.
    pub(crate) size: Option<[usize; 2]>,
    pub(crate) pictures: PictureOptions,
    pub(crate) allow_unsafe_ops: bool,
}

/// Of a graph on tensors: names of its inputs and outputs, in the order of the columns.
#[derive(Debug, Clone)]
pub(crate) struct TensorsOptions {
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) allow_unsafe_ops: bool,
}

/// Of a graph on tensors that runs once for each block of rows.
#[derive(Debug, Clone)]
pub(crate) struct BlocksOptions {
    pub(crate) operation: Operation,
    pub(crate) tensors: TensorsOptions,
    /// Where rows do not stay rows: whether those that cannot be used are left out; else they are refused.
    pub(crate) skip_invalid: bool,
}

/// What a block of rows becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// A row for each row; the graph is one of a single row.
    MapRows,
    /// A row for each row.
    MapBlocks,
    /// Any number of rows.
    MapBlocksTrimmed,
    /// One row; outputs have no dimension of rows.
    ReduceBlocks,
}

/// The options of `runtime::load`; empty strings are places not to look at.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeOptions {
    pub(crate) tensorflow_path: String,
    pub(crate) tensorflow_classpath: String,
    pub(crate) python: String,
}

const TASKS: &str = "features, predictions, topK, pictures, tensors, blocks, images";

impl ModelOptions {
    pub(crate) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let model = pairs.take("model")?;
        if model.is_empty() {
            return Err(refused("model", model, "the path of a bundle file"));
        }
        let task = pairs.take("task")?;
        let threads = pairs.whole("threads", 0, MAX_THREADS)?;
        let asked = match task {
            tasks if is_of_network(tasks) => Asked::Network(NetworkOptions::parse(tasks, pairs)?),
            "pictures" => Asked::Pictures(PicturesOptions::parse(pairs)?),
            "tensors" => Asked::Tensors(TensorsOptions::parse(pairs)?),
            "blocks" => Asked::Blocks(BlocksOptions::parse(pairs)?),
            "images" => Asked::Images(ImageOptions::parse(pairs)?),
            other => return Err(refused("task", other, TASKS)),
        };
        Ok(ModelOptions { model: PathBuf::from(model), threads, asked })
    }
}

/// Whether these are tasks of a network, separated by commas.
fn is_of_network(tasks: &str) -> bool {
    tasks.split(',').all(|task| matches!(task, "features" | "predictions" | "topK"))
}

impl NetworkOptions {
    /// Several tasks are one run; `pooling` and `topK` have a value for each task that reads them, in their order.
    fn parse(tasks: &str, mut pairs: Pairs) -> Result<Self> {
        let (mut poolings, mut counts) = (Given::of("pooling", &mut pairs)?, Given::of("topK", &mut pairs)?);
        let task = |name: &str| match name {
            "features" => Ok(Task::Features(pooling_of(poolings.next()?)?)),
            "predictions" => Ok(Task::Predictions),
            _ => Ok(Task::TopK(whole("topK", counts.next()?, 1, usize::MAX)?)),
        };
        let tasks = tasks.split(',').map(task).collect::<Result<_>>()?;
        let labels = pairs.take("labels")?.to_owned();
        let pictures = PictureOptions::parse(&mut pairs)?;
        pairs.finish()?;
        Ok(NetworkOptions { tasks, labels, pictures })
    }
}

/// The values of an option, separated by commas.
struct Given<'a> {
    name: &'static str,
    whole: &'a str,
    left: std::str::Split<'a, char>,
}

impl<'a> Given<'a> {
    fn of(name: &'static str, pairs: &mut Pairs<'a>) -> Result<Self> {
        let whole = pairs.take(name)?;
        Ok(Given { name, whole, left: whole.split(',') })
    }

    fn next(&mut self) -> Result<&'a str> {
        self.left.next().ok_or_else(|| {
            refused(self.name, self.whole, "a value for each task that reads it, separated by commas")
        })
    }
}

impl PicturesOptions {
    fn parse(mut pairs: Pairs) -> Result<Self> {
        let image = is_image(&mut pairs)?;
        let size = pairs.size("height", "width", MAX_SIDE)?;
        let parsed = PicturesOptions {
            output: pairs.take("output")?.to_owned(),
            image,
            channel_order: pairs.take("channelOrder")?.to_owned(),
            normalization: pairs.take("normalization")?.to_owned(),
            size,
            pictures: PictureOptions::parse(&mut pairs)?,
        };
        pairs.finish()?;
        Ok(parsed)
    }
}

impl ImageOptions {
    fn parse(mut pairs: Pairs) -> Result<Self> {
        let images = is_image(&mut pairs)?;
        let channel_order = pairs.take("channelOrder")?;
        if !matches!(channel_order, "RGB" | "BGR" | "L") {
            return Err(refused("channelOrder", channel_order, "RGB, BGR, L"));
        }
        let parsed = ImageOptions {
            outputs: pairs.names("outputs")?,
            images,
            channel_order: channel_order.to_owned(),
            size: pairs.size("height", "width", MAX_SIDE)?,
            pictures: PictureOptions::parse(&mut pairs)?,
            allow_unsafe_ops: pairs.flag("allowUnsafeOps")?,
        };
        pairs.finish()?;
        Ok(parsed)
    }
}

impl TensorsOptions {
    fn parse(mut pairs: Pairs) -> Result<Self> {
        let parsed = TensorsOptions::take(&mut pairs)?;
        pairs.finish()?;
        Ok(parsed)
    }

    fn take(pairs: &mut Pairs) -> Result<Self> {
        Ok(TensorsOptions {
            inputs: pairs.names("inputs")?,
            outputs: pairs.names("outputs")?,
            allow_unsafe_ops: pairs.flag("allowUnsafeOps")?,
        })
    }
}

impl BlocksOptions {
    fn parse(mut pairs: Pairs) -> Result<Self> {
        let operation = match pairs.take("operation")? {
            "mapRows" => Operation::MapRows,
            "mapBlocks" => Operation::MapBlocks,
            "mapBlocksTrimmed" => Operation::MapBlocksTrimmed,
            "reduceBlocks" => Operation::ReduceBlocks,
            other => {
                return Err(refused(
                    "operation",
                    other,
                    "mapRows, mapBlocks, mapBlocksTrimmed, reduceBlocks",
                ));
            }
        };
        let tensors = TensorsOptions::take(&mut pairs)?;
        let skip_invalid = pairs.flag("skipInvalid")?;
        pairs.finish()?;
        Ok(BlocksOptions { operation, tensors, skip_invalid })
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
        pairs.finish()?;
        Ok(parsed)
    }
}

/// The options of `keras::convert`.
#[derive(Debug, Clone)]
pub(crate) struct KerasOptions {
    pub(crate) file: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) model_name: String,
    /// Whether the file is the one that Keras publishes for the model.
    pub(crate) published: bool,
    /// Empty: the table's.
    pub(crate) feature_layer: String,
    /// Height and width of pictures where the model leaves them open.
    pub(crate) input_size: Option<[usize; 2]>,
}

impl KerasOptions {
    pub(crate) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let (model_name, feature_layer) = (pairs.take("modelName")?, pairs.take("featureLayer")?);
        let input_size = pairs.take("inputSize")?;
        if model_name.is_empty() && !feature_layer.is_empty() {
            return Err(refused("featureLayer", feature_layer, "nothing without modelName"));
        }
        if !model_name.is_empty() && !input_size.is_empty() {
            return Err(refused("inputSize", input_size, "nothing with modelName: the table has its size"));
        }
        let parsed = KerasOptions {
            file: PathBuf::from(pairs.take("file")?),
            output: PathBuf::from(pairs.take("output")?),
            model_name: model_name.to_owned(),
            published: pairs.flag("published")?,
            feature_layer: feature_layer.to_owned(),
            input_size: size_of(input_size)?,
        };
        pairs.finish()?;
        Ok(parsed)
    }
}

/// The options of `graph::convert`.
#[derive(Debug, Clone)]
pub(crate) struct GraphOptions {
    pub(crate) file: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    /// Empty: `inputs` and `outputs` say it.
    pub(crate) signature: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) allow_unsafe_ops: bool,
}

impl GraphOptions {
    pub(crate) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let parsed = GraphOptions {
            file: PathBuf::from(pairs.take("file")?),
            output: PathBuf::from(pairs.take("output")?),
            name: pairs.take("name")?.to_owned(),
            tags: pairs.names("tags")?,
            signature: pairs.take("signature")?.to_owned(),
            inputs: pairs.names("inputs")?,
            outputs: pairs.names("outputs")?,
            allow_unsafe_ops: pairs.flag("allowUnsafeOps")?,
        };
        pairs.finish()?;
        Ok(parsed)
    }
}

/// The options of `download::fetch`.
#[derive(Debug, Clone)]
pub(crate) struct DownloadOptions {
    pub(crate) url: String,
    pub(crate) file: PathBuf,
    /// Hex in lower case; empty with an empty `hash_algorithm`.
    pub(crate) hash: String,
    pub(crate) hash_algorithm: String,
    pub(crate) max_bytes: u64,
    pub(crate) connect: Duration,
    pub(crate) stall: Duration,
    pub(crate) retries: usize,
    pub(crate) pause: Duration,
    pub(crate) advice: String,
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
}

impl DownloadOptions {
    pub(crate) fn parse(options: &Options) -> Result<Self> {
        let mut pairs = Pairs::new(options)?;
        let url = pairs.take("url")?;
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(refused("url", url, "addresses that begin with http:// or https://"));
        }
        let (hash, hash_algorithm) = (pairs.take("hash")?, pairs.take("hashAlgorithm")?);
        let digits = match hash_algorithm {
            "" => 0,
            "md5" => 32,
            "sha256" => 64,
            other => return Err(refused("hashAlgorithm", other, "md5, sha256, or nothing")),
        };
        if hash.len() != digits || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refused("hash", hash, &format!("{digits} digits in hex")));
        }
        let mut number = |key| pairs.whole(key, 0, usize::MAX).map(|number| number as u64);
        let (max_bytes, connect, stall) =
            (number("maxBytes")?, number("connectSeconds")?, number("stallSeconds")?);
        let (retries, pause) = (number("retries")?, number("pauseMillis")?);
        let parsed = DownloadOptions {
            url: url.to_owned(),
            file: PathBuf::from(pairs.take("file")?),
            hash: hash.to_ascii_lowercase(),
            hash_algorithm: hash_algorithm.to_owned(),
            max_bytes,
            connect: Duration::from_secs(connect.max(1)),
            stall: Duration::from_secs(stall.max(1)),
            retries: retries as usize,
            pause: Duration::from_millis(pause),
            advice: pairs.take("advice")?.to_owned(),
            http_proxy: pairs.take("httpProxy")?.to_owned(),
            https_proxy: pairs.take("httpsProxy")?.to_owned(),
            no_proxy: pairs.take("noProxy")?.to_owned(),
        };
        pairs.finish()?;
        Ok(parsed)
    }

    /// The proxy on the way to a host: as given, else the environment's.
    pub(crate) fn proxy(&self, secure: bool, host: &str) -> Option<String> {
        let environment = |name: &str| {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase()));
            value.unwrap_or_default()
        };
        let given =
            [&self.http_proxy, &self.https_proxy, &self.no_proxy].iter().any(|value| !value.is_empty());
        let (proxy, spared) = match (given, secure) {
            (true, true) => (self.https_proxy.clone(), self.no_proxy.clone()),
            (true, false) => (self.http_proxy.clone(), self.no_proxy.clone()),
            (false, true) => (environment("HTTPS_PROXY"), environment("NO_PROXY")),
            (false, false) => (environment("HTTP_PROXY"), environment("NO_PROXY")),
        };
        let mut spared = spared.split([',', '|']).map(str::trim).filter(|pattern| !pattern.is_empty());
        (!proxy.is_empty() && !spared.any(|pattern| is_spared(host, pattern))).then_some(proxy)
    }
}

/// Whether a host is one that a pattern keeps from the proxy: `*`, `10.*`, `*.example.org`, `.example.org`, `example.org`.
fn is_spared(host: &str, pattern: &str) -> bool {
    let (host, pattern) = (host.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    if let Some(start) = pattern.strip_suffix('*') {
        return host.starts_with(start);
    }
    let domain = pattern.trim_start_matches('*').trim_start_matches('.');
    host == domain || host.ends_with(&format!(".{domain}"))
}

/// The pairs not yet read, and the keys that were.
pub(crate) struct Pairs<'a> {
    left: HashMap<&'a str, &'a str>,
    known: Vec<&'static str>,
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(options: &'a Options) -> Result<Self> {
        let mut left = HashMap::with_capacity(options.len());
        for (key, value) in options {
            if left.insert(key.as_str(), value.as_str()).is_some() {
                return Err(invalid(format!("The option {key} was given twice.")));
            }
        }
        Ok(Pairs { left, known: Vec::new() })
    }

    pub(crate) fn take(&mut self, key: &'static str) -> Result<&'a str> {
        self.known.push(key);
        self.left.remove(key).ok_or_else(|| invalid(format!("The option {key} is missing.")))
    }

    pub(crate) fn flag(&mut self, key: &'static str) -> Result<bool> {
        match self.take(key)? {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(refused(key, other, "true, false")),
        }
    }

    pub(crate) fn whole(&mut self, key: &'static str, least: usize, most: usize) -> Result<usize> {
        whole(key, self.take(key)?, least, most)
    }

    /// A list, as JSON.
    fn names(&mut self, key: &'static str) -> Result<Vec<String>> {
        let given = self.take(key)?;
        serde_json::from_str(given).map_err(|e| refused(key, given, "a JSON array of names").with_source(e))
    }

    /// Two sides; both 0: `None`.
    pub(crate) fn size(
        &mut self,
        height: &'static str,
        width: &'static str,
        most: usize,
    ) -> Result<Option<[usize; 2]>> {
        match [self.whole(height, 0, most)?, self.whole(width, 0, most)?] {
            [0, 0] => Ok(None),
            [0, _] => Err(refused(
                height,
                "0",
                &format!("0 together with {width}, or whole numbers to {most} with it"),
            )),
            [_, 0] => Err(refused(
                width,
                "0",
                &format!("0 together with {height}, or whole numbers to {most} with it"),
            )),
            sides => Ok(Some(sides)),
        }
    }

    /// Refuses what is left.
    pub(crate) fn finish(self) -> Result<()> {
        match self.left.keys().min() {
            None => Ok(()),
            Some(key) => {
                Err(invalid(format!("Unknown option {key}. Known options: {}.", self.known.join(", "))))
            }
        }
    }
}

/// Whether outputs are to be pictures.
fn is_image(pairs: &mut Pairs) -> Result<bool> {
    match pairs.take("outputMode")? {
        "values" => Ok(false),
        "image" => Ok(true),
        other => Err(refused("outputMode", other, "values, image")),
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

/// `224x299`: height and width; nothing: `None`.
fn size_of(value: &str) -> Result<Option<[usize; 2]>> {
    if value.is_empty() {
        return Ok(None);
    }
    let side = |text: &str| usize::from_str(text).ok().filter(|side| (1..=MAX_SIDE).contains(side));
    let sides = value.split_once('x').and_then(|(height, width)| Some([side(height)?, side(width)?]));
    sides.map(Some).ok_or_else(|| {
        refused("inputSize", value, &format!("HEIGHTxWIDTH with sides from 1 to {MAX_SIDE}, as 224x299"))
    })
}

fn whole(key: &str, value: &str, least: usize, most: usize) -> Result<usize> {
    match usize::from_str(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ if most == usize::MAX => Err(refused(key, value, &format!("whole numbers from {least}"))),
        _ => Err(refused(key, value, &format!("whole numbers from {least} to {most}"))),
    }
}

pub(crate) fn refused(key: &str, value: &str, known: &str) -> Error {
    invalid(format!("The option {key} cannot be {value:?}; it takes {known}."))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}
