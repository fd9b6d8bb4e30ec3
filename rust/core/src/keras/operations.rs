//! Operations of `keras.ops` between layers, as a configuration keeps them: `x * 2`, `x[:, 0]`, `ops.mean(x, axis=1)`.

use serde_json::Value;

use super::calls::Argument;
use super::ir::{Attr, DT_BOOL, DT_FLOAT, DT_INT32, Graph, Tensor, broadcast};
use super::layer::Layer;
use super::layers::{by_name, softmax_over};
use crate::Result;

/// The outputs of one call of an operation.
pub(super) fn build(graph: &mut Graph, layer: &Layer) -> Result<Vec<Tensor>> {
    let op = Operation { layer };
    let built = op.build(graph)?;
    built.map(|output| vec![output]).ok_or_else(|| {
        layer.refused(&format!("this operation, called with {}, is not built from files", op.arguments()))
    })
}

struct Operation<'a> {
    layer: &'a Layer<'a>,
}

impl Operation<'_> {
    /// What it is called with, for errors.
    fn arguments(&self) -> String {
        let one = |argument: &Argument<Tensor>| match argument {
            Argument::Tensor(tensor) => format!("a tensor {:?}", tensor.shape),
            Argument::List(values) => format!("a list of {}", values.len()),
            Argument::Value(value) => value.to_string().chars().take(200).collect(),
        };
        let named = self.layer.call.named.iter().map(|(name, value)| format!("{name}={}", one(value)));
        self.layer.call.positional.iter().map(one).chain(named).collect::<Vec<_>>().join(", ")
    }

    /// An argument by place or name, else what the operation was made with.
    fn argument(&self, place: usize, name: &str) -> Option<Argument<Tensor>> {
        let call = self.layer.call;
        let given = call.positional.get(place).or_else(|| call.named(name)).cloned();
        given.or_else(|| self.layer.config.get(name).cloned().map(Argument::Value))
    }

    fn tensor(&self, place: usize, name: &str) -> Option<Tensor> {
        match self.argument(place, name)? {
            Argument::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The first argument.
    fn input(&self) -> Option<Tensor> {
        self.tensor(0, "x")
    }

    fn value(&self, place: usize, name: &str) -> Option<Value> {
        fn plain(argument: &Argument<Tensor>) -> Option<Value> {
            match argument {
                Argument::Value(value) => Some(value.clone()),
                Argument::List(values) => {
                    values.iter().map(plain).collect::<Option<Vec<_>>>().map(Value::Array)
                }
                Argument::Tensor(_) => None,
            }
        }
        plain(&self.argument(place, name)?).filter(|value| !value.is_null())
    }

    fn number(&self, place: usize, name: &str, default: f32) -> f32 {
        self.value(place, name).and_then(|value| value.as_f64()).map_or(default, |number| number as f32)
    }

    fn flag(&self, place: usize, name: &str) -> bool {
        self.value(place, name).and_then(|value| value.as_bool()).unwrap_or(false)
    }

    fn whole(&self, place: usize, name: &str) -> Option<Vec<i64>> {
        match self.value(place, name)? {
            Value::Array(values) => values.iter().map(Value::as_i64).collect(),
            value => Some(vec![value.as_i64()?]),
        }
    }

    /// Axes counted from the front, of a tensor of this rank; all where none is named.
    fn axes(&self, place: usize, rank: usize) -> Option<Vec<usize>> {
        let Some(found) = self.whole(place, "axis") else { return Some((0..rank).collect()) };
        let from_front = |axis: i64| {
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            usize::try_from(axis).ok().filter(|axis| *axis < rank)
        };
        found.into_iter().map(from_front).collect()
    }

    fn axis(&self, place: usize, rank: usize) -> Option<usize> {
        let axes = self.axes(place, rank)?;
        (axes.len() == 1).then(|| axes[0])
    }

    /// A tensor, or a number as one of the other's type.
    fn operand(&self, graph: &mut Graph, place: usize, name: &str, dtype: i64) -> Option<Tensor> {
        match self.argument(place, name)? {
            Argument::Tensor(tensor) => Some(tensor),
            Argument::Value(value) if dtype == DT_INT32 => {
                Some(graph.scalar_int(i32::try_from(value.as_i64()?).ok()?))
            }
            Argument::Value(Value::Bool(flag)) => Some(graph.scalar(if flag { 1.0 } else { 0.0 })),
            Argument::Value(value) => Some(graph.scalar(value.as_f64()? as f32)),
            Argument::List(_) => None,
        }
    }

    fn operands(&self, graph: &mut Graph) -> Option<(Tensor, Tensor)> {
        let names = [("x1", 0), ("x2", 1)];
        let dtype =
            names.iter().find_map(|(name, place)| self.tensor(*place, name)).map(|tensor| tensor.dtype)?;
        let left = self.operand(graph, 0, "x1", dtype)?;
        let right = self.operand(graph, 1, "x2", dtype)?;
        (left.dtype == right.dtype).then_some((left, right))
    }

    fn binary(&self, graph: &mut Graph, op: &'static str) -> Option<Tensor> {
        let (left, right) = self.operands(graph)?;
        graph.binary(op, &left, &right)
    }

    fn compare(&self, graph: &mut Graph, op: &'static str) -> Option<Tensor> {
        let (left, right) = self.operands(graph)?;
        graph.compare(op, &left, &right)
    }

    fn reduced(&self, graph: &mut Graph, op: &'static str) -> Option<Tensor> {
        let input = self.input().filter(|input| op != "Mean" || input.dtype == DT_FLOAT)?;
        let axes = self.axes(1, input.rank())?;
        // Over the batch rows would depend on their neighbours.
        (!axes.contains(&0)).then(|| graph.reduce(op, &input, &axes, self.flag(2, "keepdims")))
    }

    fn unary(&self, graph: &mut Graph, op: &'static str) -> Option<Tensor> {
        let input = self.input().filter(|input| input.dtype == DT_FLOAT)?;
        Some(graph.unary(op, &input))
    }

    fn activation(&self, graph: &mut Graph, name: &str) -> Option<Tensor> {
        by_name(graph, name, &self.input().filter(|input| input.dtype == DT_FLOAT)?)
    }

    /// `None` where it is not known.
    fn build(&self, graph: &mut Graph) -> Result<Option<Tensor>> {
        self.layer.check_policy()?;
        Ok(self.built(graph))
    }

    fn built(&self, graph: &mut Graph) -> Option<Tensor> {
        match self.layer.class {
            "Add" => self.binary(graph, "AddV2"),
            "Subtract" => self.binary(graph, "Sub"),
            "Multiply" => self.binary(graph, "Mul"),
            "Divide" | "TrueDivide" => {
                self.binary(graph, "RealDiv").filter(|output| output.dtype == DT_FLOAT)
            }
            "Power" => self.binary(graph, "Pow"),
            "Maximum" => self.binary(graph, "Maximum"),
            "Minimum" => self.binary(graph, "Minimum"),
            "Equal" => self.compare(graph, "Equal"),
            "NotEqual" => self.compare(graph, "NotEqual"),
            "Greater" => self.compare(graph, "Greater"),
            "GreaterEqual" => self.compare(graph, "GreaterEqual"),
            "Less" => self.compare(graph, "Less"),
            "LessEqual" => self.compare(graph, "LessEqual"),
            "LogicalAnd" => {
                let (left, right) = self.operands(graph)?;
                graph.both(&left, &right).filter(|_| left.dtype == DT_BOOL)
            }
            "LogicalOr" => {
                let (left, right) = self.operands(graph).filter(|(left, _)| left.dtype == DT_BOOL)?;
                let shape = broadcast(&left.shape, &right.shape)?;
                Some(graph.typed("LogicalOr", &[&left, &right], Vec::new(), (shape, DT_BOOL)))
            }
            "LogicalNot" => {
                let input = self.input().filter(|input| input.dtype == DT_BOOL)?;
                Some(graph.typed("LogicalNot", &[&input], Vec::new(), (input.shape.clone(), DT_BOOL)))
            }
            "Negative" => self.unary(graph, "Neg"),
            "Absolute" | "Abs" => self.unary(graph, "Abs"),
            "Sqrt" => self.unary(graph, "Sqrt"),
            "Rsqrt" => self.unary(graph, "Rsqrt"),
            "Square" => self.unary(graph, "Square"),
            "Exp" => self.unary(graph, "Exp"),
            "Expm1" => self.unary(graph, "Expm1"),
            "Log" => self.unary(graph, "Log"),
            "Log1p" => self.unary(graph, "Log1p"),
            "Sin" => self.unary(graph, "Sin"),
            "Cos" => self.unary(graph, "Cos"),
            "Floor" => self.unary(graph, "Floor"),
            "Ceil" => self.unary(graph, "Ceil"),
            "Round" => self.unary(graph, "Round"),
            "Sign" => self.unary(graph, "Sign"),
            "Erf" => self.unary(graph, "Erf"),
            "Relu" => self.activation(graph, "relu"),
            "Relu6" => self.activation(graph, "relu6"),
            "Sigmoid" => self.activation(graph, "sigmoid"),
            "Tanh" => self.activation(graph, "tanh"),
            "Softplus" => self.activation(graph, "softplus"),
            "Softsign" => self.activation(graph, "softsign"),
            "Silu" => self.activation(graph, "silu"),
            "Selu" => self.activation(graph, "selu"),
            "HardSigmoid" => self.activation(graph, "hard_sigmoid"),
            "HardSilu" => self.activation(graph, "hard_silu"),
            "LogSigmoid" => self.activation(graph, "log_sigmoid"),
            "Gelu" => {
                // `keras.ops.gelu` approximates unless it is told not to.
                let exact = self.value(1, "approximate") == Some(Value::Bool(false));
                self.activation(graph, if exact { "gelu" } else { "gelu_tanh" })
            }
            "Elu" => self.activation(graph, "elu").filter(|_| self.number(1, "alpha", 1.0) == 1.0),
            "LeakyRelu" => {
                let input = self.input()?;
                let slope = self.number(1, "negative_slope", 0.2);
                Some(graph.op(
                    "LeakyRelu",
                    &[&input],
                    vec![("alpha", Attr::Float(slope))],
                    input.shape.clone(),
                ))
            }
            "Softmax" => {
                let input = self.input()?;
                let axis = self.axis(1, input.rank()).filter(|axis| *axis > 0)?;
                Some(softmax_over(graph, &input, axis))
            }
            "Clip" => {
                let input = self.input().filter(|input| input.dtype == DT_FLOAT)?;
                let (least, most) = (self.value(1, "x_min")?, self.value(2, "x_max")?);
                let below = graph.with_scalar("Minimum", &input, most.as_f64()? as f32);
                Some(graph.with_scalar("Maximum", &below, least.as_f64()? as f32))
            }
            "Mean" => self.reduced(graph, "Mean"),
            "Sum" => self.reduced(graph, "Sum"),
            "Max" => self.reduced(graph, "Max"),
            "Min" => self.reduced(graph, "Min"),
            "Prod" => self.reduced(graph, "Prod"),
            "Any" => self.reduced(graph, "Any").filter(|output| output.dtype == DT_BOOL),
            "All" => self.reduced(graph, "All").filter(|output| output.dtype == DT_BOOL),
            "Cast" => {
                let dtype = match self.value(1, "dtype")?.as_str()? {
                    "float32" => DT_FLOAT,
                    "int32" => DT_INT32,
                    "bool" => DT_BOOL,
                    _ => return None,
                };
                Some(graph.cast(&self.input()?, dtype))
            }
            "Concatenate" => self.concatenate(graph),
            "Reshape" => self.reshape(graph),
            "Transpose" => {
                let input = self.input()?;
                let axes = self.whole(1, "axes")?;
                let order: Vec<usize> =
                    axes.iter().map(|axis| usize::try_from(*axis).ok()).collect::<Option<_>>()?;
                let mut sorted = order.clone();
                sorted.sort_unstable();
                let valid = sorted.iter().copied().eq(0..input.rank()) && order.first() == Some(&0);
                valid.then(|| graph.transpose(&input, &order))
            }
            "ExpandDims" => {
                let input = self.input()?;
                let axis = self.axis(1, input.rank() + 1).filter(|axis| *axis > 0)?;
                Some(graph.expand_dims(&input, axis))
            }
            "Squeeze" => {
                let input = self.input()?;
                let axis = self.axis(1, input.rank())?;
                (input.shape[axis] == Some(1)).then(|| graph.squeeze(&input, axis))
            }
            "Where" => {
                let mask = self.tensor(0, "condition").filter(|mask| mask.dtype == DT_BOOL)?;
                let (yes, no) =
                    (self.operand(graph, 1, "x1", DT_FLOAT)?, self.operand(graph, 2, "x2", DT_FLOAT)?);
                graph.select(&mask, &yes, &no)
            }
            "Matmul" => {
                let (left, right) = (self.tensor(0, "x1")?, self.tensor(1, "x2")?);
                if left.rank() != 3 || right.rank() != 3 {
                    return None;
                }
                Some(graph.batch_matmul(&left, &right, false))
            }
            "GetItem" => self.get_item(graph),
            _ => None,
        }
    }

    fn concatenate(&self, graph: &mut Graph) -> Option<Tensor> {
        let Some(Argument::List(list)) = self.argument(0, "xs") else { return None };
        let tensors: Vec<Tensor> = list
            .iter()
            .map(|item| match item {
                Argument::Tensor(tensor) => Some(tensor.clone()),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let first = tensors.first()?;
        let axis = self.axis(1, first.rank()).filter(|axis| *axis > 0)?;
        if tensors.iter().any(|other| other.rank() != first.rank() || other.dtype != first.dtype) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[axis] = tensors.iter().map(|tensor| tensor.shape[axis]).sum();
        Some(graph.concat(&tensors.iter().collect::<Vec<_>>(), axis, shape))
    }

    fn reshape(&self, graph: &mut Graph) -> Option<Tensor> {
        let input = self.input()?;
        let target = self.whole(1, "newshape").or_else(|| self.whole(1, "shape"))?;
        // The batch stays what it is.
        let [-1, inner @ ..] = target.as_slice() else { return None };
        let inner: Vec<usize> =
            inner.iter().map(|side| usize::try_from(*side).ok()).collect::<Option<_>>()?;
        let values: usize = input.inner()?.iter().product();
        let product = inner.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
        (product == Some(values)).then(|| graph.reshape(&input, &inner))
    }

    /// `x[:, 0, 1:3]`; the batch dimension stays whole.
    fn get_item(&self, graph: &mut Graph) -> Option<Tensor> {
        let input = self.input()?;
        let keys = match self.value(1, "key")? {
            Value::Array(keys) => keys,
            key => vec![key],
        };
        let mut output = input;
        let mut axis = 0;
        for key in &keys {
            let size = *output.shape.get(axis)?;
            if let Some(place) = key.as_i64() {
                let size = size.filter(|_| axis > 0)? as i64;
                let place = if place < 0 { place + size } else { place };
                let place = usize::try_from(place).ok().filter(|place| (*place as i64) < size)?;
                let one = graph.cut(&output, axis, place, 1);
                output = graph.squeeze(&one, axis);
                continue;
            }
            if key.get("class_name").and_then(Value::as_str) != Some("__slice__") {
                return None;
            }
            let part = |name: &str| key.pointer(&format!("/config/{name}")).filter(|value| !value.is_null());
            if part("step").is_some_and(|step| step != 1) {
                return None;
            }
            if part("start").is_some() || part("stop").is_some() {
                let size = size.filter(|_| axis > 0)? as i64;
                let place = |name: &str, default: i64| {
                    let found = part(name).map_or(Some(default), Value::as_i64)?;
                    Some((if found < 0 { found + size } else { found }).clamp(0, size))
                };
                let (start, stop) = (place("start", 0)?, place("stop", size)?);
                let count = usize::try_from(stop - start).ok().filter(|count| *count > 0)?;
                output = graph.cut(&output, axis, usize::try_from(start).ok()?, count);
            }
            axis += 1;
        }
        Some(output)
    }
}
