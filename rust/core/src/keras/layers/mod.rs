//! What each layer of Keras computes at inference, as TensorFlow operations.

mod activation;
mod convolution;
mod merge;
mod normalization;
mod pooling;
mod reshaping;

use super::ir::{Graph, Tensor};
use super::layer::Layer;
use crate::Result;

pub(super) use activation::activated;

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
            | "SpatialDropout2D"
            | "RandomBrightness"
            | "RandomContrast"
            | "RandomFlip"
            | "RandomRotation"
            | "RandomTranslation"
            | "RandomZoom"
    )
}

/// The output of a layer for its inputs.
pub(super) fn build(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    layer.check_common()?;
    match layer.class {
        "Activation" => activation::activation(graph, layer, inputs),
        "ReLU" => activation::relu(graph, layer, inputs),
        "LeakyReLU" | "ELU" => activation::sloped(graph, layer, inputs),
        "Softmax" => activation::softmax(graph, layer, inputs),
        class if is_idle(class) => Ok(layer.one(inputs)?.clone()),
        "Conv2D" => convolution::conv2d(graph, layer, inputs),
        "DepthwiseConv2D" => convolution::depthwise(graph, layer, inputs),
        "SeparableConv2D" => convolution::separable(graph, layer, inputs),
        "Dense" => convolution::dense(graph, layer, inputs),
        "BatchNormalization" => normalization::batch(graph, layer, inputs),
        "Normalization" => normalization::normalization(graph, layer, inputs),
        "Rescaling" => normalization::rescaling(graph, layer, inputs),
        "Add" => merge::merged(graph, layer, inputs, "AddV2"),
        "Subtract" => merge::merged(graph, layer, inputs, "Sub"),
        "Multiply" => merge::merged(graph, layer, inputs, "Mul"),
        "Maximum" => merge::merged(graph, layer, inputs, "Maximum"),
        "Minimum" => merge::merged(graph, layer, inputs, "Minimum"),
        "Average" => merge::average(graph, layer, inputs),
        "Concatenate" => merge::concatenate(graph, layer, inputs),
        "MaxPooling2D" => pooling::windows(graph, layer, inputs, "MaxPool"),
        "AveragePooling2D" => pooling::windows(graph, layer, inputs, "AvgPool"),
        "GlobalAveragePooling2D" => pooling::global(graph, layer, inputs, "Mean"),
        "GlobalMaxPooling2D" => pooling::global(graph, layer, inputs, "Max"),
        "ZeroPadding2D" => reshaping::zero_padding(graph, layer, inputs),
        "Cropping2D" => reshaping::cropping(graph, layer, inputs),
        "UpSampling2D" => reshaping::up_sampling(graph, layer, inputs),
        "Flatten" => reshaping::flatten(graph, layer, inputs),
        "Reshape" => reshaping::reshape(graph, layer, inputs),
        "Permute" => reshaping::permute(graph, layer, inputs),
        _ => Err(layer.refused("layers of this class are not built from files")),
    }
}
