//! What each layer of Keras computes at inference, as TensorFlow operations.

mod activation;
mod attention;
mod convolution;
mod merge;
mod normalization;
mod picture;
mod pooling;
mod recurrent;
mod reshaping;
mod sequence;
mod window;

use serde_json::Value;

use super::ir::{DT_FLOAT, Graph, Tensor};
use super::layer::Layer;
use crate::Result;

pub(super) use activation::{activated, by_name, softmax_over};

/// Whether a layer gives its input at inference.
pub(super) fn is_idle(class: &str) -> bool {
    matches!(
        class,
        "ActivityRegularization"
            | "AlphaDropout"
            | "Dropout"
            | "GaussianDropout"
            | "GaussianNoise"
            | "Identity"
            | "SpatialDropout1D"
            | "SpatialDropout2D"
            | "SpatialDropout3D"
            | "RandomBrightness"
            | "RandomColorDegeneration"
            | "RandomColorJitter"
            | "RandomContrast"
            | "RandomFlip"
            | "RandomHue"
            | "RandomRotation"
            | "RandomSaturation"
            | "RandomSharpness"
            | "RandomShear"
            | "RandomTranslation"
            | "RandomZoom"
            | "StochasticDepth"
    )
}

/// Layers that are part of `keras.applications`, not of `keras.layers`.
pub(super) fn is_of_applications(class: &str) -> bool {
    matches!(class, "CustomScaleLayer" | "LayerScale" | "StochasticDepth")
}

/// Whether a layer of the networks of `keras.applications` has variables, its own or those of the layers inside of it.
pub(super) fn owns_variables(class: &str, config: &Value) -> bool {
    match class {
        "BatchNormalization" | "Conv2D" | "Dense" | "DepthwiseConv2D" | "LayerNormalization"
        | "LayerScale" | "SeparableConv2D" => true,
        "Functional" | "Model" | "Sequential" => {
            let inner = config.get("layers").and_then(Value::as_array);
            inner.into_iter().flatten().any(|layer| {
                let class = layer.get("class_name").and_then(Value::as_str).unwrap_or_default();
                owns_variables(class, layer.get("config").unwrap_or(&Value::Null))
            })
        }
        // What it adapted to; a mean that is an argument is none.
        "Normalization" => config.get("mean").is_none_or(Value::is_null),
        _ => false,
    }
}

/// Whether a layer hands the mask of its input on to its output.
fn keeps_mask(class: &str) -> bool {
    let normalizes = class.ends_with("Normalization") && class != "RMSNormalization";
    normalizes
        || matches!(
            class,
            "Activation"
                | "ActivityRegularization"
                | "Add"
                | "AlphaDropout"
                | "Average"
                | "Dense"
                | "Dropout"
                | "ELU"
                | "GaussianDropout"
                | "GaussianNoise"
                | "Identity"
                | "LeakyReLU"
                | "Maximum"
                | "Minimum"
                | "Multiply"
                | "PReLU"
                | "ReLU"
                | "Rescaling"
                | "Softmax"
                | "SpatialDropout1D"
                | "Subtract"
        )
}

/// Whether a layer moves values of any type; the others compute in float32.
fn takes_any_type(class: &str) -> bool {
    let moves = ["Concatenate", "Embedding", "Flatten", "Identity", "Permute", "RepeatVector", "Reshape"];
    moves.contains(&class) || class.starts_with("Cropping") || class.starts_with("ZeroPadding")
}

/// The outputs of a layer for the inputs of its call.
pub(super) fn build(graph: &mut Graph, layer: &Layer) -> Result<Vec<Tensor>> {
    layer.check_policy()?;
    match layer.class {
        "Attention" | "AdditiveAttention" => return attention::scored(graph, layer),
        "MultiHeadAttention" | "GroupQueryAttention" | "GroupedQueryAttention" => {
            return attention::multi_head(graph, layer);
        }
        "LSTM" | "GRU" | "SimpleRNN" => return recurrent::recurrent(graph, layer),
        "Bidirectional" => return recurrent::bidirectional(graph, layer),
        _ => {}
    }
    let mut inputs = layer.inputs(&["mask"])?;
    if let (Some(mask), Some(first)) = (layer.argument("mask", None)?, inputs.first_mut()) {
        first.mask = Some(Box::new(mask));
    }
    if !takes_any_type(layer.class) {
        inputs =
            inputs.iter().map(|input| graph.cast(input, DT_FLOAT).with_mask(input.mask.clone())).collect();
    }
    let mask = match inputs.as_slice() {
        [first, rest @ ..] if keeps_mask(layer.class) => {
            if rest.iter().any(|other| other.mask != first.mask) {
                return Err(layer.refused("its inputs have different masks, which is not built from files"));
            }
            first.mask.clone()
        }
        _ => None,
    };
    let first = layer.is_channels_first()? && inputs.iter().all(|input| input.rank() > 2);
    if first && inputs.iter().any(|input| input.mask.is_some()) {
        return Err(layer.refused("a mask with channels_first is not built from files"));
    }
    if first {
        inputs = inputs.iter().map(|input| graph.moved(input, 1, input.rank() - 1)).collect();
    }
    let rank = inputs.first().map_or(0, Tensor::rank);
    let mut output = one(graph, layer, &inputs)?;
    if first && output.rank() == rank {
        output = graph.moved(&output, rank - 1, 1);
    }
    // Masking and Embedding make masks of their own.
    let mask = output.mask.take().filter(|_| !is_idle(layer.class)).or(mask);
    Ok(vec![output.with_mask(mask)])
}

fn one(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    match layer.class {
        "Activation" => activation::activation(graph, layer, inputs),
        "ReLU" => activation::relu(graph, layer, inputs),
        "LeakyReLU" | "ELU" => activation::sloped(graph, layer, inputs),
        "PReLU" => activation::parametric(graph, layer, inputs),
        "Softmax" => activation::softmax(graph, layer, inputs),
        class if is_idle(class) => Ok(layer.one(inputs)?.clone()),
        "Conv1D" | "Conv2D" | "Conv3D" => convolution::convolution(graph, layer, inputs),
        "Conv1DTranspose" | "Conv2DTranspose" | "Conv3DTranspose" => {
            convolution::transposed(graph, layer, inputs)
        }
        "DepthwiseConv1D" | "DepthwiseConv2D" => convolution::depthwise(graph, layer, inputs),
        "SeparableConv1D" | "SeparableConv2D" => convolution::separable(graph, layer, inputs),
        "Dense" => convolution::dense(graph, layer, inputs),
        "EinsumDense" => convolution::einsum_dense(graph, layer, inputs),
        "BatchNormalization" => normalization::batch(graph, layer, inputs),
        "LayerNormalization" => normalization::layer(graph, layer, inputs),
        "GroupNormalization" => normalization::group(graph, layer, inputs),
        "RMSNormalization" => normalization::root_mean_square(graph, layer, inputs),
        "UnitNormalization" => normalization::unit(graph, layer, inputs),
        "Normalization" => normalization::normalization(graph, layer, inputs),
        "Rescaling" => normalization::rescaling(graph, layer, inputs),
        "LayerScale" => normalization::layer_scale(graph, layer, inputs),
        "Add" => merge::merged(graph, layer, inputs, "AddV2"),
        "Subtract" => merge::merged(graph, layer, inputs, "Sub"),
        "Multiply" => merge::merged(graph, layer, inputs, "Mul"),
        "Maximum" => merge::merged(graph, layer, inputs, "Maximum"),
        "Minimum" => merge::merged(graph, layer, inputs, "Minimum"),
        "Average" => merge::average(graph, layer, inputs),
        "Concatenate" => merge::concatenate(graph, layer, inputs),
        "Dot" => merge::dot(graph, layer, inputs),
        "CustomScaleLayer" => merge::scaled_sum(graph, layer, inputs),
        "MaxPooling1D" | "MaxPooling2D" | "MaxPooling3D" => pooling::windows(graph, layer, inputs, true),
        "AveragePooling1D" | "AveragePooling2D" | "AveragePooling3D" => {
            pooling::windows(graph, layer, inputs, false)
        }
        "GlobalAveragePooling1D" | "GlobalAveragePooling2D" | "GlobalAveragePooling3D" => {
            pooling::global(graph, layer, inputs, "Mean")
        }
        "GlobalMaxPooling1D" | "GlobalMaxPooling2D" | "GlobalMaxPooling3D" => {
            pooling::global(graph, layer, inputs, "Max")
        }
        "ZeroPadding1D" | "ZeroPadding2D" | "ZeroPadding3D" => reshaping::zero_padding(graph, layer, inputs),
        "Cropping1D" | "Cropping2D" | "Cropping3D" => reshaping::cropping(graph, layer, inputs),
        "UpSampling1D" | "UpSampling2D" | "UpSampling3D" => reshaping::up_sampling(graph, layer, inputs),
        "Flatten" => reshaping::flatten(graph, layer, inputs),
        "Reshape" => reshaping::reshape(graph, layer, inputs),
        "Permute" => reshaping::permute(graph, layer, inputs),
        "RepeatVector" => reshaping::repeat_vector(graph, layer, inputs),
        "Embedding" => sequence::embedding(graph, layer, inputs),
        "Masking" => sequence::masking(graph, layer, inputs),
        "Resizing" => picture::resizing(graph, layer, inputs),
        "CenterCrop" => picture::center_crop(graph, layer, inputs),
        _ => Err(layer.refused("layers of this class are not built from files")),
    }
}
