//! `manifest.json` of a bundle, validated field by field.

use serde::Deserialize;

use super::damaged;
use crate::image::{ChannelOrder, InputSpec, Normalization};
use crate::options::MAX_SIDE;
use crate::values::{Dtype, MAX_VALUES, Port};
use crate::{Error, ErrorKind, Result};

pub(super) const FILE: &str = "manifest.json";
pub(super) const MAX_BYTES: u64 = 16 << 20;
const FORMAT: &str = "sparkdl-bundle";
const VERSION: u32 = 1;
pub(crate) const TENSORS_VERSION: u32 = 2;

/// What a bundle says of itself, of which there are two versions.
#[derive(Debug, Clone)]
pub(crate) enum AnyManifest {
    /// Version 1: a network for pictures.
    Pictures(Box<Manifest>),
    /// Version 2: a graph on tensors.
    Tensors(TensorManifest),
}

/// What a bundle says of a graph on tensors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorManifest {
    format: String,
    #[allow(dead_code, reason = "read before the rest")]
    version: u32,
    name: String,
    /// In the order of the model.
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
    pub(crate) graph: GraphMember,
    /// Whether the graph was read with operations that reach beyond it, which only run where they are asked for.
    #[serde(default, rename = "unsafeOps")]
    pub(crate) unsafe_ops: bool,
    #[allow(dead_code, reason = "part of the format")]
    source: serde_json::Value,
    #[allow(dead_code, reason = "part of the format")]
    license: Option<String>,
}

/// An input or output of a graph on tensors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorSpec {
    /// What the model calls it.
    pub(crate) name: String,
    pub(crate) tensor: String,
    dtype: Dtype,
    /// Without the batch dimension; null is any size.
    shape: Vec<Option<usize>>,
    /// Whether there is a batch dimension, open: else `shape` is the whole.
    #[serde(default = "yes")]
    rows: bool,
}

fn yes() -> bool {
    true
}

impl TensorSpec {
    /// A row of it.
    pub(crate) fn port(&self) -> Port {
        Port { name: self.name.clone(), dtype: self.dtype, shape: self.shape.clone() }
    }

    /// All of it.
    pub(crate) fn whole(&self) -> Port {
        let rows = self.rows.then_some(None);
        Port { shape: rows.into_iter().chain(self.shape.iter().copied()).collect(), ..self.port() }
    }

    /// Each of its rows, of which there may be any number, or always the same.
    pub(crate) fn any_rows(&self, shown: &str) -> Result<Port> {
        let whole = self.whole();
        match whole.shape.split_first() {
            Some((_, row)) => Ok(Port { shape: row.to_vec(), ..whole }),
            None => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "The output {} of {shown} is a single value and has no rows: ask for it through reduceBlocks.",
                    self.name
                ),
            )),
        }
    }

    /// Refuses a tensor whose first dimension is not the rows.
    pub(crate) fn check_rows(&self, shown: &str) -> Result<()> {
        if self.rows {
            return Ok(());
        }
        let shape = self.port().shown_shape();
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "The tensor {} of {shown} has the shape {shape}, but the first dimension must be open, for the rows. A graph of \
                 one row runs through mapRows.",
                self.tensor
            ),
        ))
    }
}

/// What a bundle says of a network for pictures.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    version: u32,
    pub(crate) name: String,
    pub(crate) input: Input,
    pub(crate) outputs: Outputs,
    /// Where the features come from; the native converter says it.
    #[allow(dead_code, reason = "for the faces")]
    feature_layer: Option<String>,
    pub(crate) labels: Option<Vec<(String, String)>>,
    pub(crate) graph: GraphMember,
    #[allow(dead_code, reason = "part of the format")]
    source: serde_json::Value,
    #[allow(dead_code, reason = "part of the format")]
    license: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphMember {
    pub(crate) file: String,
    pub(crate) sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Input {
    pub(crate) tensor: String,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) channel_order: String,
    pub(crate) normalization: String,
}

/// The tensors that may be fetched; at least one is there.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Outputs {
    pub(crate) predictions: Option<Output>,
    pub(crate) features: Option<Output>,
    pub(crate) features_avg: Option<Output>,
    pub(crate) features_max: Option<Output>,
}

/// One tensor, with its shape without the batch dimension.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    pub(crate) tensor: String,
    pub(crate) shape: Vec<usize>,
}

impl AnyManifest {
    pub(super) fn parse(json: &str, shown: &str) -> Result<AnyManifest> {
        #[derive(Deserialize)]
        struct Version {
            version: Option<u32>,
        }
        let wrong = |field: &str, what: String| damaged(shown, &format!("manifest.json: {field} {what}"));
        let unknown = |e| damaged(shown, "manifest.json is not what this version reads").with_source(e);
        let version: Version = serde_json::from_str(json).map_err(unknown)?;
        if version.version == Some(TENSORS_VERSION) {
            let manifest: TensorManifest = serde_json::from_str(json).map_err(unknown)?;
            manifest.check(&wrong)?;
            return Ok(AnyManifest::Tensors(manifest));
        }
        let manifest: Manifest = serde_json::from_str(json).map_err(unknown)?;
        manifest.check(&wrong)?;
        Ok(AnyManifest::Pictures(Box::new(manifest)))
    }

    pub(super) fn graph(&self) -> &GraphMember {
        match self {
            AnyManifest::Pictures(manifest) => &manifest.graph,
            AnyManifest::Tensors(manifest) => &manifest.graph,
        }
    }
}

/// What both versions have.
fn check_common(
    format: &str,
    name: &str,
    graph: &GraphMember,
    wrong: &dyn Fn(&str, String) -> Error,
) -> Result<()> {
    if format != FORMAT {
        return Err(wrong("format", format!("must be \"{FORMAT}\" but is \"{format}\"")));
    }
    if name.is_empty() {
        return Err(wrong("name", "is empty".to_owned()));
    }
    let digest = graph.sha256.as_str();
    if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(wrong("graph.sha256", "must be 64 lower-case hex digits".to_owned()));
    }
    Ok(())
}

impl TensorManifest {
    fn check(&self, wrong: &dyn Fn(&str, String) -> Error) -> Result<()> {
        check_common(&self.format, &self.name, &self.graph, wrong)?;
        for (field, specs) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            if specs.is_empty() {
                return Err(wrong(field, "names no tensor".to_owned()));
            }
            for spec in specs {
                let TensorSpec { name, shape, .. } = spec;
                let values =
                    shape.iter().flatten().try_fold(1_usize, |product, side| product.checked_mul(*side));
                if values.is_none_or(|values| values > MAX_VALUES) {
                    return Err(wrong(
                        field,
                        format!("gives {name} the shape {shape:?}, which is too large"),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Manifest {
    fn check(&self, wrong: &dyn Fn(&str, String) -> Error) -> Result<()> {
        if self.version != VERSION {
            let found = self.version;
            return Err(wrong("version", format!("must be {VERSION} but is {found}: update this package")));
        }
        check_common(&self.format, &self.name, &self.graph, wrong)?;
        self.input.spec().map_err(|(field, what)| wrong(field, what))?;
        if self.outputs.all().next().is_none() {
            return Err(wrong("outputs", "names no tensor".to_owned()));
        }
        for output in self.outputs.all() {
            if values_of(&output.shape).is_none() {
                let (tensor, shape) = (&output.tensor, &output.shape);
                return Err(wrong(
                    "outputs",
                    format!("gives {tensor} the shape {shape:?}, which is empty or too large"),
                ));
            }
        }
        Ok(())
    }
}

impl Input {
    /// How the core packs a picture; an `Err` names the field and what is wrong with it.
    pub(crate) fn spec(&self) -> std::result::Result<InputSpec, (&'static str, String)> {
        let side = |field, value: usize| match value {
            1..=MAX_SIDE => Ok(value),
            _ => Err((field, format!("must be from 1 to {MAX_SIDE} but is {value}"))),
        };
        let choice = |field, value: &str, allowed: &str| {
            (field, format!("must be one of {allowed} but is \"{value}\""))
        };
        let spec = InputSpec {
            height: side("input.height", self.height)?,
            width: side("input.width", self.width)?,
            channels: match self.channels {
                1 | 3 => self.channels,
                other => return Err(("input.channels", format!("must be 1 or 3 but is {other}"))),
            },
            channel_order: match self.channel_order.as_str() {
                "RGB" => ChannelOrder::Rgb,
                "BGR" => ChannelOrder::Bgr,
                other => return Err(choice("input.channelOrder", other, "RGB, BGR")),
            },
            normalization: match self.normalization.as_str() {
                "tf" => Normalization::Tf,
                "caffe" => Normalization::Caffe,
                "torch" => Normalization::Torch,
                "none" => Normalization::None,
                other => return Err(choice("input.normalization", other, "tf, caffe, torch, none")),
            },
        };
        if values_of(&[spec.height, spec.width, spec.channels]).is_none() {
            return Err(("input", format!("has more than {MAX_VALUES} values")));
        }
        Ok(spec)
    }
}

impl Outputs {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Output> {
        [&self.predictions, &self.features, &self.features_avg, &self.features_max].into_iter().flatten()
    }
}

impl Output {
    /// Values of one picture.
    pub(crate) fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

fn values_of(shape: &[usize]) -> Option<usize> {
    let values = shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side))?;
    (!shape.is_empty() && values > 0 && values <= MAX_VALUES).then_some(values)
}
