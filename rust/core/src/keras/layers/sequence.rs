//! Layers that make sequences of vectors, and say which steps count.

use crate::Result;
use crate::keras::ir::{Attr, DT_FLOAT, DT_INT32, Graph, Tensor};
use crate::keras::layer::Layer;

/// `Embedding(input_dim, output_dim, mask_zero)`: a row of a table for each whole number.
pub(super) fn embedding(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    let (rows, columns) = (layer.size("input_dim")?, layer.size("output_dim")?);
    let table = layer.variable(0, "embeddings", &[rows, columns])?;
    let table = graph.array(table);
    let indices = graph.cast(input, DT_INT32);
    let axis = graph.scalar_int(0);
    let attrs = vec![
        ("Tparams", Attr::Type(DT_FLOAT)),
        ("Tindices", Attr::Type(DT_INT32)),
        ("Taxis", Attr::Type(DT_INT32)),
        ("batch_dims", Attr::Int(0)),
    ];
    let shape = input.shape.iter().copied().chain([Some(columns)]).collect();
    let output = graph.typed("GatherV2", &[&table, &indices, &axis], attrs, (shape, DT_FLOAT));
    let mask =
        layer.flag("mask_zero", false)?.then(|| Box::new(graph.compare_scalar("NotEqual", input, 0.0)));
    Ok(output.with_mask(mask))
}

/// `Masking(mask_value)`: steps whose values all equal it do not count, and become 0.
pub(super) fn masking(graph: &mut Graph, layer: &Layer, inputs: &[Tensor]) -> Result<Tensor> {
    let input = layer.one(inputs)?;
    if input.rank() < 3 {
        return Err(layer.refused("its input has no steps"));
    }
    let last = input.rank() - 1;
    let counts = graph.compare_scalar("NotEqual", input, layer.number("mask_value", 0.0)? as f32);
    let mask = graph.reduce("Any", &counts, &[last], false);
    let kept = graph.expand_dims(&mask, last);
    let kept = graph.cast(&kept, DT_FLOAT);
    let output = graph.op("Mul", &[input, &kept], Vec::new(), input.shape.clone());
    Ok(output.with_mask(Some(Box::new(mask))))
}
