//! Layers that multiply by a kernel.

use std::sync::Arc;

use super::activated;
use super::window::{Window, all_dimensions, dimensions, lifted, lifted_shape, lowered};
use crate::Result;
use crate::keras::hdf5::Array;
use crate::keras::ir::{Attr, DT_INT32, Graph, Tensor};
use crate::keras::layer::Layer;

/// Values of a kernel with zeros in it: 32 MiB.
const MAX_DILATED: usize = 8 << 20;

fn with_bias(graph: &mut Graph, layer: &Layer, input: Tensor, index: usize) -> Result<Tensor> {
    let channels = layer.channels(&input)?;
    let biased = if layer.flag("use_bias", true)? {
        let bias = layer.variable(index, "bias", &[channels])?;
        let bias = graph.array(bias);
        graph.bias_add(&input, &bias)
    } else {
        input
    };
    activated(graph, layer, &biased)
}

/// A kernel of one dimension as one of two.
fn kernel(graph: &mut Graph, mut array: Array, spatial: usize) -> Tensor {
    if spatial == 1 {
        array.shape.insert(0, 1);
    }
    graph.array(array)
}

/// The input with zeros before its steps, for causal convolutions.
fn causal(graph: &mut Graph, layer: &Layer, input: &Tensor, window: &Window) -> Result<Tensor> {
    if layer.text("padding", "valid")? != "causal" {
        return Ok(input.clone());
    }
    if window.size.len() != 1 {
        return Err(layer.refused("causal padding is for one dimension"));
    }
    let before = (window.size[0] - 1) * window.dilation[0];
    let mut shape = input.shape.clone();
    shape[1] = shape[1].map(|steps| steps + before);
    let margins = graph.margins(&[[0, 0], [before, 0], [0, 0]]);
    Ok(graph.op("Pad", &[input, &margins], vec![("Tpaddings", Attr::Type(DT_INT32))], shape))
}

/// The same kernel with zeros between its entries, which does what a dilation does where TensorFlow has none.
fn dilated(graph: &mut Graph, layer: &Layer, array: &Array, window: &mut Window) -> Result<Array> {
    let spatial = window.size.len();
    let reach: Vec<usize> =
        window.size.iter().zip(&window.dilation).map(|(size, step)| (size - 1) * step + 1).collect();
    if reach == window.size {
        return Ok(array.clone());
    }
    let wide = reach.iter().chain(&array.shape[spatial..]);
    let values = wide.into_iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
    values.filter(|values| (1..=MAX_DILATED).contains(values)).ok_or_else(|| {
        let dilation = &window.dilation;
        layer.refused(&format!("a dilation of {dilation:?} makes its kernel too large for files"))
    })?;
    let inner: usize = array.shape[spatial..].iter().product();
    let mut values = vec![0.0; reach.iter().product::<usize>() * inner];
    for (from, row) in array.values.chunks_exact(inner).enumerate() {
        let (mut rest, mut to, mut scale) = (from, 0, 1);
        for axis in (0..spatial).rev() {
            to += rest % window.size[axis] * window.dilation[axis] * scale;
            rest /= window.size[axis];
            scale *= reach[axis];
        }
        if let Some(target) = values.get_mut(to * inner..(to + 1) * inner) {
            target.copy_from_slice(row);
        }
    }
    let shape = reach.iter().chain(&array.shape[spatial..]).copied().collect();
    window.size = reach;
    window.dilation = vec![1; spatial];
    graph.size += size_of_val(values.as_slice());
    Ok(Array { shape, values: Arc::new(values) })
}

/// `Conv1D`, `Conv2D`, `Conv3D`.
pub(super) fn convolution(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    let input = layer.one(inputs)?;
    layer.rank(input, spatial + 2)?;
    let mut window = Window::of(layer, "kernel_size", spatial)?;
    let (channels, filters) = (layer.channels(input)?, layer.size("filters")?);
    let groups = if layer.has("groups") { layer.size("groups")? } else { 1 };
    if groups == 0 || channels % groups != 0 || (spatial == 3 && groups != 1) {
        return Err(
            layer.refused(&format!("{groups} groups of {channels} channels are not built from files"))
        );
    }
    let shape: Vec<usize> = window.size.iter().copied().chain([channels / groups, filters]).collect();
    let mut array = layer.variable(0, "kernel", &shape)?;
    let input = causal(graph, layer, input, &window)?;
    if spatial == 3 {
        array = dilated(graph, layer, &array, &mut window)?;
    }
    let shape = lifted_shape(window.shape(&input, filters));
    let mut attrs = window.attrs();
    attrs.push(("dilations", all_dimensions(&window.dilation)));
    let (pictures, kernel) = (lifted(graph, &input), kernel(graph, array, spatial));
    let op = if spatial == 3 { "Conv3D" } else { "Conv2D" };
    let output = graph.op(op, &[&pictures, &kernel], attrs, shape);
    let output = with_bias(graph, layer, output, 1)?;
    Ok(lowered(graph, &output, input.rank()))
}

/// `Conv1DTranspose`, `Conv2DTranspose`, `Conv3DTranspose`: the gradient of a convolution.
pub(super) fn transposed(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    let input = layer.one(inputs)?;
    layer.rank(input, spatial + 2)?;
    let mut window = Window::of(layer, "kernel_size", spatial)?;
    let (channels, filters) = (layer.channels(input)?, layer.size("filters")?);
    let shape: Vec<usize> = window.size.iter().copied().chain([filters, channels]).collect();
    let array = layer.variable(0, "kernel", &shape)?;
    let array = dilated(graph, layer, &array, &mut window)?;
    let added =
        if layer.has("output_padding") { Some(layer.sizes("output_padding", spatial)?) } else { None };
    let inner = input.inner().ok_or_else(|| layer.refused("the size of its input is not known"))?;
    // keras.src.backend.common.backend_utils.compute_conv_transpose_output_shape
    let mut sizes: Vec<usize> = (0..spatial)
        .map(|i| {
            let (side, stride, reach) = (inner[i], window.strides[i], window.size[i]);
            let before = side.saturating_sub(1) * stride;
            match (window.padding, added.as_ref().map(|added| added[i])) {
                ("SAME", None) => side * stride,
                ("SAME", Some(added)) => before + reach % 2 + added,
                (_, None) => before + reach.max(stride),
                (_, Some(added)) => before + reach + added,
            }
        })
        .collect();
    sizes.push(filters);
    let shape = lifted_shape(std::iter::once(None).chain(sizes.iter().copied().map(Some)).collect());
    if spatial == 1 {
        sizes.insert(0, 1);
    }
    let sizes = graph.dims(input, 1, &sizes);
    let (pictures, kernel) = (lifted(graph, input), kernel(graph, array, spatial));
    let mut attrs = window.attrs();
    attrs.push(("dilations", all_dimensions(&window.dilation)));
    let op = if spatial == 3 {
        attrs.push(("Tshape", Attr::Type(DT_INT32)));
        "Conv3DBackpropInputV2"
    } else {
        "Conv2DBackpropInput"
    };
    attrs.push(("T", Attr::Type(input.dtype)));
    let output = graph.typed(op, &[&sizes, &kernel, &pictures], attrs, (shape, input.dtype));
    let output = with_bias(graph, layer, output, 1)?;
    Ok(lowered(graph, &output, input.rank()))
}

/// One kernel for each channel; the output is lifted.
fn depthwise_of(graph: &mut Graph, layer: &Layer, input: &Tensor) -> Result<Tensor> {
    let spatial = dimensions(layer)?;
    layer.rank(input, spatial + 2)?;
    let mut window = Window::of(layer, "kernel_size", spatial)?;
    let (channels, multiplier) = (layer.channels(input)?, layer.size("depth_multiplier")?);
    let shape: Vec<usize> = window.size.iter().copied().chain([channels, multiplier]).collect();
    let array = layer.variable(0, "depthwise kernel", &shape)?;
    let input = causal(graph, layer, input, &window)?;
    let array = dilated(graph, layer, &array, &mut window)?;
    let shape = lifted_shape(window.shape(&input, channels * multiplier));
    let mut attrs = window.attrs();
    if spatial == 1 {
        // Its strides must be equal; over a height of 1 any will do.
        let stride = window.strides[0];
        attrs.retain(|(name, _)| *name != "strides");
        attrs.push(("strides", all_dimensions(&[stride, stride])));
    }
    attrs.push(("dilations", all_dimensions(&window.dilation)));
    let (pictures, kernel) = (lifted(graph, &input), kernel(graph, array, spatial));
    Ok(graph.op("DepthwiseConv2dNative", &[&pictures, &kernel], attrs, shape))
}

pub(super) fn depthwise(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let output = depthwise_of(graph, layer, input)?;
    let output = with_bias(graph, layer, output, 1)?;
    Ok(lowered(graph, &output, input.rank()))
}

pub(super) fn separable(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let each = depthwise_of(graph, layer, input)?;
    let (channels, filters) = (layer.channels(&each)?, layer.size("filters")?);
    let spatial = input.rank() - 2;
    let shape: Vec<usize> = vec![1; spatial].into_iter().chain([channels, filters]).collect();
    let pointwise = layer.variable(1, "pointwise kernel", &shape)?;
    let kernel = kernel(graph, pointwise, spatial);
    let attrs = vec![
        ("strides", Attr::Ints(vec![1; 4])),
        ("dilations", Attr::Ints(vec![1; 4])),
        ("padding", Attr::text("VALID")),
        ("data_format", Attr::text("NHWC")),
    ];
    let mut shape = each.shape.clone();
    shape[3] = Some(filters);
    let output = graph.op("Conv2D", &[&each, &kernel], attrs, shape);
    let output = with_bias(graph, layer, output, 2)?;
    Ok(lowered(graph, &output, input.rank()))
}

/// What `work` makes of the input as rows [n, channels], with the input's other dimensions again. What belongs to a
/// product stays beside it, where TensorFlow makes one operation of them.
pub(super) fn on_rows(
    graph: &mut Graph,
    input: &Tensor,
    work: impl FnOnce(&mut Graph, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if input.rank() == 2 {
        return work(graph, input);
    }
    let rows = graph.reshape(input, &[input.channels().unwrap_or(0)]);
    let output = work(graph, &rows)?;
    let columns = output.channels();
    let mut shape = input.shape.clone();
    shape[input.rank() - 1] = columns;
    Ok(match shape.get(1..).and_then(|inner| inner.iter().copied().collect::<Option<Vec<usize>>>()) {
        Some(inner) => graph.reshape(&output, &inner),
        None => {
            let dims = graph.dims(input, input.rank() - 1, &[columns.unwrap_or(0)]);
            graph.reshape_to(&output, &dims, shape)
        }
    })
}

/// `Dense`, on the last dimension of an input of any rank.
pub(super) fn dense(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let (channels, units) = (layer.channels(input)?, layer.size("units")?);
    if input.rank() < 2 {
        return Err(layer.refused("its input has no features"));
    }
    let kernel = layer.variable(0, "kernel", &[channels, units])?;
    let kernel = graph.array(kernel);
    on_rows(graph, input, |graph, rows| {
        let product = graph.matmul(rows, &kernel);
        with_bias(graph, layer, product, 1)
    })
}

/// `EinsumDense`: an equation such as `abc,cd->abd` or `...x,xy->...y`.
pub(super) fn einsum_dense(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let equation = layer.text("equation", "")?.replace(' ', "");
    let wrong = || layer.refused(&format!("its equation is {equation:?}"));
    let (left, target) = equation.split_once("->").ok_or_else(wrong)?;
    let (source, kernel) = left.split_once(',').ok_or_else(wrong)?;
    // An ellipsis stands for dimensions that the kernel does not have: they get letters of their own.
    let elided = (input.rank() + 3).checked_sub(source.len()).filter(|_| source.contains("..."));
    let letters: String = ('A'..='Z').take(elided.unwrap_or(0)).collect();
    if source.contains("...") && (elided.is_none() || equation.chars().any(|c| letters.contains(c))) {
        return Err(wrong());
    }
    let (source, target) = (source.replace("...", &letters), target.replace("...", &letters));
    if source.len() != input.rank() || !source.starts_with(|first| target.starts_with(first)) {
        return Err(wrong());
    }
    let asked: Vec<Option<usize>> = match layer.config.get("output_shape") {
        Some(serde_json::Value::Array(sides)) => {
            sides.iter().map(|side| side.as_u64().and_then(|side| usize::try_from(side).ok())).collect()
        }
        Some(side) => vec![side.as_u64().and_then(|side| usize::try_from(side).ok())],
        None => return Err(wrong()),
    };
    let size = |letter: char| -> Option<usize> {
        if let Some(place) = source.find(letter) {
            return input.shape[place];
        }
        // `output_shape` says nothing of the batch dimension, nor of elided ones.
        let own: Vec<char> = target.chars().skip(1).filter(|c| !letters.contains(*c)).collect();
        let own =
            if letters.is_empty() { own } else { target.chars().filter(|c| !letters.contains(*c)).collect() };
        let place = own.iter().position(|own| *own == letter)?;
        asked.get(place + asked.len().checked_sub(own.len())?).copied().flatten()
    };
    let shape: Vec<usize> = kernel.chars().map(size).collect::<Option<_>>().ok_or_else(wrong)?;
    let kernel_array = layer.variable(0, "kernel", &shape)?;
    let kernel_tensor = graph.array(kernel_array);
    let sizes: Vec<Option<usize>> = target.chars().map(size).collect();
    let plain = format!("{source},{kernel}->{target}");
    let mut output = graph.einsum(&plain, &[input, &kernel_tensor], sizes.clone());
    if layer.has("bias_axes") {
        let axes = layer.text("bias_axes", "")?;
        let first = axes.chars().filter_map(|axis| target.find(axis)).min().ok_or_else(wrong)?;
        let shape: Option<Vec<usize>> = target
            .chars()
            .zip(&sizes)
            .skip(first)
            .map(|(letter, side)| if axes.contains(letter) { *side } else { Some(1) })
            .collect();
        let bias = layer.variable(1, "bias", &shape.ok_or_else(wrong)?)?;
        let bias = graph.array(bias);
        output = graph.binary("AddV2", &output, &bias).ok_or_else(wrong)?;
    }
    activated(graph, layer, &output)
}
