//! From a task to the tensor that answers it, and what is left to do with that tensor's values.

use crate::bundle::{Input, Manifest, Output, TensorManifest, TensorSpec, damaged};
use crate::image::InputSpec;
use crate::options::{PicturesOptions, Pooling, Task};
use crate::pictures::Form;
use crate::tensor::Label;
use crate::values::{Dtype, Port};
use crate::{Error, ErrorKind, Result};

/// The tensor that answers a task, and what is left to do with it here.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) output: Output,
    /// `None` where the graph's values are the answer.
    pooling: Pooling,
    /// Values of one picture in the answer.
    pub(crate) width: usize,
}

impl Fetch {
    /// Pooled features come from the graph where it has them, else from its feature map.
    pub(crate) fn of(manifest: &Manifest, task: Task, shown: &str) -> Result<Fetch> {
        let outputs = &manifest.outputs;
        let Task::Features(pooling) = task else {
            let predictions =
                outputs.predictions.as_ref().ok_or_else(|| lacks(manifest, shown, "predictions"))?;
            if matches!(task, Task::TopK(_)) && predictions.shape.len() != 1 {
                let shape = &predictions.shape;
                return Err(damaged(
                    shown,
                    &format!("its predictions have the shape {shape:?}, not one score a class"),
                ));
            }
            return Ok(Fetch::whole(predictions));
        };
        let pooled = match pooling {
            Pooling::Avg => outputs.features_avg.as_ref(),
            Pooling::Max => outputs.features_max.as_ref(),
            Pooling::None => outputs.features.as_ref(),
        };
        if let Some(output) = pooled {
            return Ok(Fetch::whole(output));
        }
        let features = outputs.features.as_ref().ok_or_else(|| lacks(manifest, shown, "features"))?;
        match features.shape.as_slice() {
            [_, _, channels] => Ok(Fetch { output: features.clone(), pooling, width: *channels }),
            shape => {
                Err(damaged(shown, &format!("its features have the shape {shape:?} and cannot be pooled")))
            }
        }
    }

    /// An output of a graph on tensors, by name or the only one.
    pub(crate) fn of_tensors(manifest: &TensorManifest, name: &str, shown: &str) -> Result<Fetch> {
        let outputs = &manifest.outputs;
        let found = match (name, outputs.as_slice()) {
            ("", [only]) => Some(only),
            (name, outputs) => outputs.iter().find(|spec| spec.name == name),
        };
        let spec = found.ok_or_else(|| {
            let known: Vec<&str> = outputs.iter().map(|spec| spec.name.as_str()).collect();
            let known = known.join(", ");
            unfit(shown, &format!("it has {} outputs ({known}), of which one must be named", outputs.len()))
        })?;
        spec.check_rows(shown)?;
        let port = spec.port();
        let Port { name, dtype, .. } = &port;
        if *dtype != Dtype::Float32 {
            return Err(unfit(shown, &format!("its output {name} is of type {dtype}, not float32")));
        }
        let shape = port.shape.iter().copied().collect::<Option<Vec<_>>>().ok_or_else(|| {
            let shape = port.shown_shape();
            unfit(shown, &format!("the size of its output {name} is open ({shape}): set inputSize"))
        })?;
        Ok(Fetch::whole(&Output { tensor: spec.tensor.clone(), shape }))
    }

    fn whole(output: &Output) -> Fetch {
        Fetch { output: output.clone(), pooling: Pooling::None, width: output.values() }
    }

    /// One picture's values of the tensor into one slot of the answer.
    pub(crate) fn reduce(&self, values: &[f32], slot: &mut [f32]) {
        match self.pooling {
            Pooling::None => slot.copy_from_slice(values),
            Pooling::Avg => {
                let positions = (values.len() / slot.len()) as f32;
                slot.fill(0.0);
                for position in values.chunks_exact(slot.len()) {
                    slot.iter_mut().zip(position).for_each(|(sum, value)| *sum += value);
                }
                slot.iter_mut().for_each(|sum| *sum /= positions);
            }
            Pooling::Max => {
                slot.fill(f32::NEG_INFINITY);
                for position in values.chunks_exact(slot.len()) {
                    // NaN stays, as in TensorFlow.
                    let larger =
                        |most: f32, value: f32| if value > most || value.is_nan() { value } else { most };
                    slot.iter_mut().zip(position).for_each(|(most, value)| *most = larger(*most, *value));
                }
            }
        }
    }
}

/// The input of a graph that pictures can feed.
pub(crate) fn only_input<'m>(manifest: &'m TensorManifest, shown: &str) -> Result<&'m TensorSpec> {
    let [spec] = manifest.inputs.as_slice() else {
        let names: Vec<&str> = manifest.inputs.iter().map(|spec| spec.name.as_str()).collect();
        let (count, names) = (names.len(), names.join(", "));
        return Err(unfit(
            shown,
            &format!("it has {count} inputs ({names}), not one: feed it columns of numbers"),
        ));
    };
    spec.check_rows(shown)?;
    Ok(spec)
}

/// How pictures are prepared for a graph on tensors.
pub(crate) fn picture_input(
    manifest: &TensorManifest,
    asked: &PicturesOptions,
    shown: &str,
) -> Result<Input> {
    let spec = only_input(manifest, shown)?;
    let port = spec.port();
    let Port { name, dtype, shape } = &port;
    let [height, width, channels] = shape.as_slice() else {
        let shape = port.shown_shape();
        return Err(unfit(shown, &format!("its input {name} has the shape {shape}, not that of a picture")));
    };
    if *dtype != Dtype::Float32 {
        return Err(unfit(shown, &format!("its input {name} is of type {dtype}, not float32")));
    }
    let order = asked.channel_order.as_str();
    let channels = channels.unwrap_or(if order == "L" { 1 } else { 3 });
    if (order == "L") != (channels == 1) {
        let needed = if channels == 1 { "\"L\"" } else { "\"RGB\" or \"BGR\"" };
        return Err(unfit(
            shown,
            &format!(
                "its input {name} has {channels} channels, so channelOrder must be {needed}, not \"{order}\""
            ),
        ));
    }
    let side = |index: usize, own: &Option<usize>, what: &str| match (own, asked.size.map(|size| size[index]))
    {
        (Some(own), Some(asked)) if *own != asked => Err(unfit(
            shown,
            &format!("its input {name} has the {what} {own}, so inputSize cannot have {asked}"),
        )),
        (Some(own), _) => Ok(*own),
        (None, Some(asked)) => Ok(asked),
        (None, None) => {
            Err(unfit(shown, &format!("its input {name} takes pictures of any {what}: set inputSize")))
        }
    };
    Ok(Input {
        tensor: spec.tensor.clone(),
        height: side(0, height, "height")?,
        width: side(1, width, "width")?,
        channels,
        // Not read for one channel.
        channel_order: if order == "L" { "RGB" } else { order }.to_owned(),
        normalization: asked.normalization.clone(),
    })
}

/// An answer that is a picture itself.
pub(crate) fn image(output: &Output, input: &InputSpec, shown: &str) -> Result<Form> {
    match output.shape.as_slice() {
        [height, width, channels @ (1 | 3 | 4)] => {
            Ok(Form::Image([*height, *width, *channels], input.channel_order))
        }
        shape => Err(unfit(
            shown,
            &format!("its output has the shape {shape:?}, not that of a picture of 1, 3 or 4 channels"),
        )),
    }
}

fn unfit(shown: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("Cannot run pictures through {shown}: {what}."))
}

fn lacks(manifest: &Manifest, shown: &str, output: &str) -> Error {
    let name = &manifest.name;
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "The bundle {shown} ({name}) has no output {output}: export the model with it, or use the other stage."
        ),
    )
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Given {
    Names(Vec<String>),
    Pairs(Vec<(String, String)>),
}

/// The labels of a network's `outputs` classes: those given as JSON, else the bundle's own.
pub(crate) fn labels(given: &str, manifest: &Manifest, outputs: usize, shown: &str) -> Result<Vec<Label>> {
    let invalid = |text: String| Error::new(ErrorKind::InvalidArgument, text);
    let whose;
    let labels = if given.is_empty() {
        whose = "The bundle's own labels";
        Given::Pairs(manifest.labels.clone().ok_or_else(|| {
            let name = &manifest.name;
            invalid(format!(
                "The bundle {shown} ({name}) has no labels of its own: set the param labels, one for each of its \
                 {outputs} classes, or leave decodePredictions out."
            ))
        })?)
    } else {
        whose = "The param labels";
        serde_json::from_str(given).map_err(|e| {
            let expected = "a JSON array of strings or of [class, description] pairs";
            invalid(format!("The option labels is not {expected}.")).with_source(e)
        })?
    };
    let labels: Vec<Label> = match labels {
        Given::Names(names) => {
            names.into_iter().map(|name| Label { class: name.clone(), description: name }).collect()
        }
        Given::Pairs(pairs) => {
            pairs.into_iter().map(|(class, description)| Label { class, description }).collect()
        }
    };
    if labels.len() != outputs {
        let count = labels.len();
        return Err(invalid(format!(
            "{whose} are {count} but the bundle {shown} has {outputs} classes: give one for each."
        )));
    }
    Ok(labels)
}
