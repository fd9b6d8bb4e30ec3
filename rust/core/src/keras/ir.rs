//! A TensorFlow graph under construction: shapes are known as it grows, and weights stay outside of messages.

use std::sync::Arc;

use super::hdf5::Array;

/// One output of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) node: usize,
    /// With the batch dimension, which is open.
    pub(super) shape: Vec<Option<usize>>,
}

impl Tensor {
    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The size of the last dimension, which layers' weights depend on.
    pub(super) fn channels(&self) -> Option<usize> {
        self.shape.last().copied().flatten()
    }

    /// Shape without the batch dimension, if it is known.
    pub(super) fn inner(&self) -> Option<Vec<usize>> {
        self.shape.get(1..)?.iter().copied().collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attr {
    Type(i64),
    Int(i64),
    Float(f32),
    Bool(bool),
    Text(&'static str),
    Ints(Vec<i64>),
    Shape(Vec<Option<usize>>),
}

/// What a constant holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    Floats(Array),
    Ints(Vec<i32>),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Node {
    pub(super) op: &'static str,
    pub(super) inputs: Vec<usize>,
    pub(super) attrs: Vec<(&'static str, Attr)>,
    pub(super) constant: Option<Constant>,
    pub(super) shape: Vec<Option<usize>>,
}

pub(super) const DT_FLOAT: i64 = 1;
pub(super) const DT_INT32: i64 = 3;

/// Nodes in an order in which they can run.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
}

impl Graph {
    fn push(&mut self, node: Node) -> Tensor {
        let shape = node.shape.clone();
        self.nodes.push(node);
        Tensor { node: self.nodes.len() - 1, shape }
    }

    pub(super) fn placeholder(&mut self, shape: Vec<Option<usize>>) -> Tensor {
        let attrs = vec![("dtype", Attr::Type(DT_FLOAT)), ("shape", Attr::Shape(shape.clone()))];
        self.push(Node { op: "Placeholder", inputs: Vec::new(), attrs, constant: None, shape })
    }

    pub(super) fn array(&mut self, array: Array) -> Tensor {
        let shape = array.shape.iter().copied().map(Some).collect();
        let attrs = vec![("dtype", Attr::Type(DT_FLOAT))];
        self.push(Node {
            op: "Const",
            inputs: Vec::new(),
            attrs,
            constant: Some(Constant::Floats(array)),
            shape,
        })
    }

    pub(super) fn scalar(&mut self, value: f32) -> Tensor {
        self.array(Array { shape: Vec::new(), values: Arc::new(vec![value]) })
    }

    pub(super) fn ints(&mut self, values: Vec<i32>) -> Tensor {
        let shape = vec![Some(values.len())];
        let attrs = vec![("dtype", Attr::Type(DT_INT32))];
        self.push(Node {
            op: "Const",
            inputs: Vec::new(),
            attrs,
            constant: Some(Constant::Ints(values)),
            shape,
        })
    }

    pub(super) fn scalar_int(&mut self, value: i32) -> Tensor {
        let mut tensor = self.ints(vec![value]);
        tensor.shape.clear();
        self.nodes[tensor.node].shape.clear();
        tensor
    }

    /// Amounts before and after each dimension, as `Pad` takes them.
    pub(super) fn margins(&mut self, margins: &[[usize; 2]]) -> Tensor {
        let mut tensor = self.ints(margins.iter().flatten().map(|margin| *margin as i32).collect());
        tensor.shape = vec![Some(margins.len()), Some(2)];
        self.nodes[tensor.node].shape = tensor.shape.clone();
        tensor
    }

    /// Whether `to` is computed with arrays of floats that `from` does not depend on already.
    pub(super) fn has_weights_between(&self, from: usize, to: usize) -> bool {
        let mut seen = vec![false; self.nodes.len()];
        let mut open = vec![to];
        while let Some(index) = open.pop() {
            if index == from || std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let node = &self.nodes[index];
            if matches!(&node.constant, Some(Constant::Floats(array)) if !array.shape.is_empty()) {
                return true;
            }
            open.extend(&node.inputs);
        }
        false
    }

    /// An operation on float32 tensors, with its attribute `T`.
    pub(super) fn op(
        &mut self,
        op: &'static str,
        inputs: &[&Tensor],
        attrs: Vec<(&'static str, Attr)>,
        shape: Vec<Option<usize>>,
    ) -> Tensor {
        let mut all = vec![("T", Attr::Type(DT_FLOAT))];
        all.extend(attrs);
        let inputs = inputs.iter().map(|tensor| tensor.node).collect();
        self.push(Node { op, inputs, attrs: all, constant: None, shape })
    }

    /// An operation that changes each value by itself.
    pub(super) fn unary(&mut self, op: &'static str, input: &Tensor) -> Tensor {
        self.op(op, &[input], Vec::new(), input.shape.clone())
    }

    /// An operation on two tensors that are broadcast as numpy does; `None` where they do not fit.
    pub(super) fn binary(&mut self, op: &'static str, left: &Tensor, right: &Tensor) -> Option<Tensor> {
        let shape = broadcast(&left.shape, &right.shape)?;
        Some(self.op(op, &[left, right], Vec::new(), shape))
    }

    /// `op(input, value)`, which has the input's shape.
    pub(super) fn with_scalar(&mut self, op: &'static str, input: &Tensor, value: f32) -> Tensor {
        let value = self.scalar(value);
        self.op(op, &[input, &value], Vec::new(), input.shape.clone())
    }

    pub(super) fn reshape(&mut self, input: &Tensor, inner: &[usize]) -> Tensor {
        let dims: Vec<i32> = std::iter::once(-1).chain(inner.iter().map(|side| *side as i32)).collect();
        let dims = self.ints(dims);
        let shape = std::iter::once(None).chain(inner.iter().copied().map(Some)).collect();
        self.op("Reshape", &[input, &dims], vec![("Tshape", Attr::Type(DT_INT32))], shape)
    }

    /// Mean, Max … over the given dimensions.
    pub(super) fn reduce(&mut self, op: &'static str, input: &Tensor, axes: &[usize], keep: bool) -> Tensor {
        let indices = self.ints(axes.iter().map(|axis| *axis as i32).collect());
        let kept =
            input.shape.iter().enumerate().filter_map(|(axis, side)| match (axes.contains(&axis), keep) {
                (false, _) => Some(*side),
                (true, true) => Some(Some(1)),
                (true, false) => None,
            });
        let shape = kept.collect();
        let attrs = vec![("Tidx", Attr::Type(DT_INT32)), ("keep_dims", Attr::Bool(keep))];
        self.op(op, &[input, &indices], attrs, shape)
    }
}

fn broadcast(left: &[Option<usize>], right: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    let rank = left.len().max(right.len());
    let side = |shape: &[Option<usize>], index: usize| match (index + shape.len()).checked_sub(rank) {
        Some(index) => shape[index],
        None => Some(1),
    };
    (0..rank)
        .map(|index| match (side(left, index), side(right, index)) {
            (Some(1), other) | (other, Some(1)) => Some(other),
            (one, other) if one == other => Some(one),
            (None, Some(other)) | (Some(other), None) => Some(Some(other)),
            _ => None,
        })
        .collect()
}
