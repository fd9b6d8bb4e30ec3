//! A TensorFlow graph under construction: shapes are known as it grows, and weights stay outside of messages.

use std::borrow::Cow;
use std::sync::Arc;

use super::hdf5::Array;
pub(super) use crate::graph::proto::{DT_BOOL, DT_DOUBLE, DT_FLOAT, DT_INT32};

pub(super) type Shape = Vec<Option<usize>>;

/// One output of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) node: usize,
    /// With the batch dimension, which is open.
    pub(super) shape: Shape,
    /// TensorFlow's number of the type.
    pub(super) dtype: i64,
    /// Which steps count, as Keras hands it on beside a tensor: bool [batch, steps].
    pub(super) mask: Option<Box<Tensor>>,
}

impl Tensor {
    pub(super) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(super) fn with_mask(mut self, mask: Option<Box<Tensor>>) -> Tensor {
        self.mask = mask;
        self
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
    Text(Cow<'static, str>),
    Ints(Vec<i64>),
    Shape(Shape),
}

impl Attr {
    pub(super) const fn text(text: &'static str) -> Attr {
        Attr::Text(Cow::Borrowed(text))
    }
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
    pub(super) shape: Shape,
    /// Of a placeholder: its name in the graph.
    pub(super) name: String,
}

/// Stands for one of the outputs of its input, which its attribute numbers.
pub(super) const OUTPUT: &str = "";

/// About what a node takes in memory, without the values of a constant.
const NODE: usize = 400;

/// Nodes in an order in which they can run.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    /// What it takes in memory beside the arrays of the file.
    pub(super) size: usize,
}

impl Graph {
    fn push(&mut self, node: Node, dtype: i64) -> Tensor {
        let shape = node.shape.clone();
        self.size += NODE;
        self.nodes.push(node);
        Tensor { node: self.nodes.len() - 1, shape, dtype, mask: None }
    }

    pub(super) fn placeholder(&mut self, name: &str, dtype: i64, shape: Shape) -> Tensor {
        let attrs = vec![("dtype", Attr::Type(dtype)), ("shape", Attr::Shape(shape.clone()))];
        let name = name.to_owned();
        self.push(Node { op: "Placeholder", attrs, shape, name, ..Node::default() }, dtype)
    }

    pub(super) fn constant(&mut self, constant: Constant, shape: &[usize]) -> Tensor {
        let dtype = match &constant {
            Constant::Floats(_) => DT_FLOAT,
            Constant::Ints(values) => {
                self.size += size_of_val(values.as_slice());
                DT_INT32
            }
        };
        let shape = shape.iter().copied().map(Some).collect();
        let attrs = vec![("dtype", Attr::Type(dtype))];
        self.push(Node { op: "Const", attrs, constant: Some(constant), shape, ..Node::default() }, dtype)
    }

    pub(super) fn array(&mut self, array: Array) -> Tensor {
        let shape = array.shape.clone();
        self.constant(Constant::Floats(array), &shape)
    }

    pub(super) fn floats(&mut self, values: Vec<f32>, shape: &[usize]) -> Tensor {
        self.size += size_of_val(values.as_slice());
        self.array(Array { shape: shape.to_vec(), values: Arc::new(values) })
    }

    pub(super) fn scalar(&mut self, value: f32) -> Tensor {
        self.floats(vec![value], &[])
    }

    pub(super) fn ints(&mut self, values: Vec<i32>) -> Tensor {
        let shape = [values.len()];
        self.constant(Constant::Ints(values), &shape)
    }

    pub(super) fn scalar_int(&mut self, value: i32) -> Tensor {
        self.constant(Constant::Ints(vec![value]), &[])
    }

    /// Amounts before and after each dimension, as `Pad` takes them.
    pub(super) fn margins(&mut self, margins: &[[usize; 2]]) -> Tensor {
        let values = margins.iter().flatten().map(|margin| *margin as i32).collect();
        self.constant(Constant::Ints(values), &[margins.len(), 2])
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

    /// An operation with its attribute `T`, the type of its first input and of its result.
    pub(super) fn op(
        &mut self,
        op: &'static str,
        inputs: &[&Tensor],
        attrs: Vec<(&'static str, Attr)>,
        shape: Shape,
    ) -> Tensor {
        let dtype = inputs.first().map_or(DT_FLOAT, |input| input.dtype);
        let mut all = vec![("T", Attr::Type(dtype))];
        all.extend(attrs);
        self.typed(op, inputs, all, (shape, dtype))
    }

    /// An operation with just the attributes given, and a result of type `dtype`.
    pub(super) fn typed(
        &mut self,
        op: &'static str,
        inputs: &[&Tensor],
        attrs: Vec<(&'static str, Attr)>,
        (shape, dtype): (Shape, i64),
    ) -> Tensor {
        let inputs = inputs.iter().map(|tensor| tensor.node).collect();
        self.push(Node { op, inputs, attrs, shape, ..Node::default() }, dtype)
    }

    /// The outputs of an operation with several, all of one shape.
    fn outputs(&mut self, node: Node, count: usize, dtype: i64) -> Vec<Tensor> {
        let whole = self.push(node, dtype);
        let output = |number: usize| {
            let attrs = vec![("output", Attr::Int(number as i64))];
            Node {
                op: OUTPUT,
                inputs: vec![whole.node],
                attrs,
                shape: whole.shape.clone(),
                ..Node::default()
            }
        };
        (0..count).map(|number| self.push(output(number), dtype)).collect()
    }

    /// The last dimension cut into `count` equal parts.
    pub(super) fn split(&mut self, input: &Tensor, count: usize) -> Vec<Tensor> {
        let axis = self.scalar_int(input.rank() as i32 - 1);
        let mut shape = input.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = last.map(|side| side / count);
        }
        let attrs = vec![("T", Attr::Type(input.dtype)), ("num_split", Attr::Int(count as i64))];
        let inputs = vec![axis.node, input.node];
        self.outputs(Node { op: "Split", inputs, attrs, shape, ..Node::default() }, count, input.dtype)
    }

    /// Each entry of the first dimension, of which there are `count`.
    pub(super) fn unpack(&mut self, input: &Tensor, count: usize) -> Vec<Tensor> {
        let attrs =
            vec![("T", Attr::Type(input.dtype)), ("num", Attr::Int(count as i64)), ("axis", Attr::Int(0))];
        let shape = input.shape.get(1..).unwrap_or_default().to_vec();
        let inputs = vec![input.node];
        self.outputs(Node { op: "Unpack", inputs, attrs, shape, ..Node::default() }, count, input.dtype)
    }

    /// Tensors of one shape beside each other, in a new second dimension.
    pub(super) fn pack(&mut self, tensors: &[Tensor]) -> Tensor {
        let attrs = vec![("N", Attr::Int(tensors.len() as i64)), ("axis", Attr::Int(1))];
        let mut shape = tensors.first().map(|first| first.shape.clone()).unwrap_or_default();
        shape.insert(shape.len().min(1), Some(tensors.len()));
        self.op("Pack", &tensors.iter().collect::<Vec<_>>(), attrs, shape)
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

    /// A new shape behind the batch dimension.
    pub(super) fn reshape(&mut self, input: &Tensor, inner: &[usize]) -> Tensor {
        let dims: Vec<i32> = std::iter::once(-1).chain(inner.iter().map(|side| *side as i32)).collect();
        let dims = self.ints(dims);
        let shape = std::iter::once(None).chain(inner.iter().copied().map(Some)).collect();
        self.reshape_to(input, &dims, shape)
    }

    /// A shape that is a tensor of int32; `shape` is what is known of it.
    pub(super) fn reshape_to(&mut self, input: &Tensor, dims: &Tensor, shape: Shape) -> Tensor {
        self.op("Reshape", &[input, dims], vec![("Tshape", Attr::Type(DT_INT32))], shape)
    }

    /// The sizes of the first `count` dimensions, followed by `rest`.
    pub(super) fn dims(&mut self, input: &Tensor, count: usize, rest: &[usize]) -> Tensor {
        let attrs = vec![("T", Attr::Type(input.dtype)), ("out_type", Attr::Type(DT_INT32))];
        let all = self.typed("Shape", &[input], attrs, (vec![Some(input.rank())], DT_INT32));
        let first = self.slice(&all, &[0], &[count as i32], vec![Some(count)]);
        if rest.is_empty() {
            return first;
        }
        let rest_count = rest.len();
        let rest = self.ints(rest.iter().map(|side| *side as i32).collect());
        self.concat(&[&first, &rest], 0, vec![Some(count + rest_count)])
    }

    /// `size` −1 is everything from `begin` on.
    pub(super) fn slice(&mut self, input: &Tensor, begin: &[i32], size: &[i32], shape: Shape) -> Tensor {
        let (begin, size) = (self.ints(begin.to_vec()), self.ints(size.to_vec()));
        self.op("Slice", &[input, &begin, &size], vec![("Index", Attr::Type(DT_INT32))], shape)
    }

    /// `count` entries of one dimension from `start` on.
    pub(super) fn cut(&mut self, input: &Tensor, axis: usize, start: usize, count: usize) -> Tensor {
        let mut begin = vec![0; input.rank()];
        let mut size = vec![-1; input.rank()];
        let mut shape = input.shape.clone();
        (begin[axis], size[axis], shape[axis]) = (start as i32, count as i32, Some(count));
        self.slice(input, &begin, &size, shape)
    }

    pub(super) fn concat(&mut self, tensors: &[&Tensor], axis: usize, shape: Shape) -> Tensor {
        let place = self.scalar_int(axis as i32);
        let attrs = vec![("N", Attr::Int(tensors.len() as i64)), ("Tidx", Attr::Type(DT_INT32))];
        let inputs: Vec<&Tensor> = tensors.iter().copied().chain([&place]).collect();
        self.op("ConcatV2", &inputs, attrs, shape)
    }

    pub(super) fn transpose(&mut self, input: &Tensor, order: &[usize]) -> Tensor {
        let shape = order.iter().map(|axis| input.shape[*axis]).collect();
        let places = self.ints(order.iter().map(|axis| *axis as i32).collect());
        self.op("Transpose", &[input, &places], vec![("Tperm", Attr::Type(DT_INT32))], shape)
    }

    /// One dimension moved to another place.
    pub(super) fn moved(&mut self, input: &Tensor, from: usize, to: usize) -> Tensor {
        if from == to {
            return input.clone();
        }
        let mut order: Vec<usize> = (0..input.rank()).filter(|axis| *axis != from).collect();
        order.insert(to, from);
        self.transpose(input, &order)
    }

    pub(super) fn expand_dims(&mut self, input: &Tensor, axis: usize) -> Tensor {
        let mut shape = input.shape.clone();
        shape.insert(axis, Some(1));
        let place = self.scalar_int(axis as i32);
        self.op("ExpandDims", &[input, &place], vec![("Tdim", Attr::Type(DT_INT32))], shape)
    }

    pub(super) fn squeeze(&mut self, input: &Tensor, axis: usize) -> Tensor {
        let mut shape = input.shape.clone();
        shape.remove(axis);
        self.op("Squeeze", &[input], vec![("squeeze_dims", Attr::Ints(vec![axis as i64]))], shape)
    }

    pub(super) fn einsum(&mut self, equation: &str, inputs: &[&Tensor], shape: Shape) -> Tensor {
        let equation = Attr::Text(Cow::Owned(equation.to_owned()));
        self.op("Einsum", inputs, vec![("N", Attr::Int(inputs.len() as i64)), ("equation", equation)], shape)
    }

    /// Rows [n, k] times a matrix [k, m].
    pub(super) fn matmul(&mut self, rows: &Tensor, matrix: &Tensor) -> Tensor {
        let attrs = vec![("transpose_a", Attr::Bool(false)), ("transpose_b", Attr::Bool(false))];
        self.op("MatMul", &[rows, matrix], attrs, vec![rows.shape[0], matrix.shape[1]])
    }

    /// A value for each of the last dimension's.
    pub(super) fn bias_add(&mut self, input: &Tensor, bias: &Tensor) -> Tensor {
        self.op("BiasAdd", &[input, bias], vec![("data_format", Attr::text("NHWC"))], input.shape.clone())
    }

    /// Products of the matrices in the last two dimensions, of which the second may be turned; the others are the left's.
    pub(super) fn batch_matmul(&mut self, left: &Tensor, right: &Tensor, turned: bool) -> Tensor {
        let attrs = vec![("adj_x", Attr::Bool(false)), ("adj_y", Attr::Bool(turned))];
        let last = right.rank() - if turned { 2 } else { 1 };
        let mut shape = left.shape.clone();
        if let Some(columns) = shape.last_mut() {
            *columns = right.shape.get(last).copied().flatten();
        }
        self.op("BatchMatMulV2", &[left, right], attrs, shape)
    }

    pub(super) fn cast(&mut self, input: &Tensor, dtype: i64) -> Tensor {
        if input.dtype == dtype {
            return input.clone();
        }
        let attrs = vec![("SrcT", Attr::Type(input.dtype)), ("DstT", Attr::Type(dtype))];
        self.typed("Cast", &[input], attrs, (input.shape.clone(), dtype))
    }

    /// Equal, NotEqual, Greater …; `None` where the shapes do not fit.
    pub(super) fn compare(&mut self, op: &'static str, left: &Tensor, right: &Tensor) -> Option<Tensor> {
        let shape = broadcast(&left.shape, &right.shape)?;
        let attrs = vec![("T", Attr::Type(left.dtype))];
        Some(self.typed(op, &[left, right], attrs, (shape, DT_BOOL)))
    }

    pub(super) fn compare_scalar(&mut self, op: &'static str, input: &Tensor, value: f32) -> Tensor {
        let value = if input.dtype == DT_INT32 { self.scalar_int(value as i32) } else { self.scalar(value) };
        let attrs = vec![("T", Attr::Type(input.dtype))];
        self.typed(op, &[input, &value], attrs, (input.shape.clone(), DT_BOOL))
    }

    /// Both of two bools.
    pub(super) fn both(&mut self, left: &Tensor, right: &Tensor) -> Option<Tensor> {
        let shape = broadcast(&left.shape, &right.shape)?;
        Some(self.typed("LogicalAnd", &[left, right], Vec::new(), (shape, DT_BOOL)))
    }

    /// `yes` where `mask` is true, else `no`; `None` where the shapes do not fit.
    pub(super) fn select(&mut self, mask: &Tensor, yes: &Tensor, no: &Tensor) -> Option<Tensor> {
        let shape = broadcast(&broadcast(&mask.shape, &yes.shape)?, &no.shape)?;
        let attrs = vec![("T", Attr::Type(yes.dtype))];
        Some(self.typed("SelectV2", &[mask, yes, no], attrs, (shape, yes.dtype)))
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
        let mut attrs = vec![("Tidx", Attr::Type(DT_INT32)), ("keep_dims", Attr::Bool(keep))];
        if input.dtype != DT_BOOL {
            attrs.push(("T", Attr::Type(input.dtype)));
        }
        self.typed(op, &[input, &indices], attrs, (shape, input.dtype))
    }
}

pub(super) fn broadcast(left: &[Option<usize>], right: &[Option<usize>]) -> Option<Shape> {
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
