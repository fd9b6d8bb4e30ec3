//! One layer of a configuration: its arguments, read and checked, and its variables.

use serde_json::Value;

use super::calls::{Argument, Call};
use super::file::{Place, Variable, Weights};
use super::hdf5::Array;
use super::ir::Tensor;
use crate::{Error, ErrorKind, Result};

/// Sizes of kernels, strides, channels …; keeps products of two far from overflow.
const MAX_SIZE: usize = 1 << 24;

/// What Keras wrote of a layer, where its variables are, and with what it is called.
pub(super) struct Layer<'a> {
    pub(super) name: &'a str,
    pub(super) class: &'a str,
    pub(super) config: &'a Value,
    pub(super) place: Place,
    pub(super) weights: &'a Weights,
    pub(super) call: &'a Call<Tensor>,
}

impl Layer<'_> {
    /// An error that names the layer, why it cannot be built, and the way out.
    pub(super) fn refused(&self, why: &str) -> Error {
        refused_layer(self.weights.shown(), self.name, self.class, why)
    }

    pub(super) fn variable(&self, index: usize, name: &str, shape: &[usize]) -> Result<Array> {
        self.weights.variable(&self.place, Variable { name, owner: "", index, flat: index }, shape)
    }

    /// A variable of a part of the layer: `flat` is its number among all of the layer's.
    pub(super) fn variable_of(&self, variable: Variable, shape: &[usize]) -> Result<Array> {
        self.weights.variable(&self.place, variable, shape)
    }

    /// All tensors of the call that are given by position; named ones must be among `known`.
    pub(super) fn inputs(&self, known: &[&str]) -> Result<Vec<Tensor>> {
        if self.call.positional.iter().any(Argument::has_values) {
            return Err(self.refused("it is called with values that are no tensors"));
        }
        if let Some((name, _)) = self.call.named.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(self.refused(&format!("it is called with {name}, which is not built from files")));
        }
        Ok(Call::of(self.call.positional.clone()).tensors())
    }

    /// A tensor that is given by name, or at this place.
    pub(super) fn argument(&self, name: &str, place: Option<usize>) -> Result<Option<Tensor>> {
        let found = self.call.named(name).or_else(|| self.call.positional.get(place?));
        match found {
            None | Some(Argument::Value(Value::Null)) => Ok(None),
            Some(Argument::Tensor(tensor)) => Ok(Some(tensor.clone())),
            Some(_) => Err(self.refused(&format!("its {name} is no tensor"))),
        }
    }

    /// A flag that is given by name in the call.
    pub(super) fn called_with(&self, name: &str) -> bool {
        matches!(self.call.named(name), Some(Argument::Value(Value::Bool(true))))
    }

    pub(super) fn wrong(&self, key: &str) -> Error {
        let found: String =
            self.config.get(key).unwrap_or(&Value::Null).to_string().chars().take(200).collect();
        self.refused(&format!("its argument {key} is {found}"))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.config.get(key).is_some_and(|value| !value.is_null())
    }

    pub(super) fn size(&self, key: &str) -> Result<usize> {
        self.config.get(key).and_then(number).ok_or_else(|| self.wrong(key))
    }

    /// A number; `default` where the argument is missing or null.
    pub(super) fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key)),
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key)),
        }
    }

    pub(super) fn text(&self, key: &str, default: &'static str) -> Result<&str> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_str().ok_or_else(|| self.wrong(key)),
        }
    }

    /// Whole numbers, one for each of `count` dimensions; a single one counts for all.
    pub(super) fn sizes(&self, key: &str, count: usize) -> Result<Vec<usize>> {
        let found = match self.config.get(key) {
            Some(Value::Array(values)) => values.iter().map(number).collect::<Option<Vec<_>>>(),
            Some(value) => number(value).map(|size| vec![size; count]),
            None => None,
        };
        found.filter(|sizes| sizes.len() == count).ok_or_else(|| self.wrong(key))
    }

    /// Amounts before and after each of `count` dimensions: `2`, `[1, 2]` or `[[0, 1], [0, 1]]`.
    pub(super) fn margins(&self, key: &str, count: usize) -> Result<Vec<[usize; 2]>> {
        let margin = |value: &Value| match value {
            Value::Array(pair) => match pair.as_slice() {
                [before, after] => Some([number(before)?, number(after)?]),
                _ => None,
            },
            value => number(value).map(|size| [size, size]),
        };
        let found = match self.config.get(key) {
            Some(Value::Array(values)) if values.len() == count => values.iter().map(margin).collect(),
            Some(value) => margin(value).map(|margin| vec![margin; count]),
            None => None,
        };
        found.ok_or_else(|| self.wrong(key))
    }

    /// A list of numbers, such as a mean for each channel; a single one is a list of one.
    pub(super) fn numbers(&self, key: &str) -> Result<Vec<f32>> {
        fn flat(value: &Value, into: &mut Vec<f32>) -> Option<()> {
            match value {
                Value::Array(values) => values.iter().try_for_each(|value| flat(value, into)),
                value => value.as_f64().map(|number| into.push(number as f32)),
            }
        }
        let mut found = Vec::new();
        self.config.get(key).and_then(|value| flat(value, &mut found)).ok_or_else(|| self.wrong(key))?;
        Ok(found)
    }

    /// Axes counted from the front, of an input of this rank.
    pub(super) fn axes(&self, key: &str, rank: usize) -> Result<Vec<usize>> {
        let axis = |value: &Value| {
            let axis = value.as_i64()?;
            let axis = if axis < 0 { axis + rank as i64 } else { axis };
            usize::try_from(axis).ok().filter(|axis| *axis < rank)
        };
        match self.config.get(key) {
            Some(Value::Array(values)) => values.iter().map(axis).collect::<Option<Vec<_>>>(),
            Some(value) => axis(value).map(|axis| vec![axis]),
            None => None,
        }
        .ok_or_else(|| self.wrong(key))
    }

    /// The name of an argument that is a function: a string, or a serialised function of Keras' own.
    pub(super) fn function(&self, key: &str) -> Result<&str> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok("linear"),
            Some(Value::String(name)) => Ok(name),
            Some(Value::Object(object))
                if object.get("class_name").and_then(Value::as_str) == Some("function") =>
            {
                object.get("config").and_then(Value::as_str).ok_or_else(|| self.wrong(key))
            }
            Some(_) => Err(self.wrong(key)),
        }
    }

    /// Refuses what computes in a type that float32 does not hold. Half precision is computed in float32, which is more exact.
    pub(super) fn check_policy(&self) -> Result<()> {
        let policy = match self.config.get("dtype") {
            None | Some(Value::Null) => "float32",
            Some(Value::String(name)) => name,
            Some(object) => object.pointer("/config/name").and_then(Value::as_str).unwrap_or("unknown"),
        };
        match policy {
            "float32" | "mixed_float16" | "mixed_bfloat16" | "float16" | "bfloat16" => Ok(()),
            other => Err(self.refused(&format!("it computes in {other}, which is not built from files"))),
        }
    }

    /// Whether its input has the channels before height and width.
    pub(super) fn is_channels_first(&self) -> Result<bool> {
        match self.text("data_format", "channels_last")? {
            "channels_last" => Ok(false),
            "channels_first" => Ok(true),
            other => Err(self.refused(&format!("its data_format is {other}"))),
        }
    }

    /// The only input.
    pub(super) fn one<'t>(&self, inputs: &'t [Tensor]) -> Result<&'t Tensor> {
        match inputs {
            [input] => Ok(input),
            _ => Err(self.refused(&format!("it is called with {} inputs, not one", inputs.len()))),
        }
    }

    pub(super) fn rank(&self, input: &Tensor, rank: usize) -> Result<()> {
        if input.rank() == rank {
            return Ok(());
        }
        Err(self.refused(&format!("its input has {} dimensions, not {rank}", input.rank())))
    }

    pub(super) fn channels(&self, input: &Tensor) -> Result<usize> {
        input.channels().ok_or_else(|| self.refused("the size of its input's last dimension is unknown"))
    }
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size <= MAX_SIZE)
}

pub(super) fn refused_layer(shown: &str, name: &str, class: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidModel,
        format!(
            "Cannot build the layer {name} ({class}) of {shown}: {why}. Convert the model where Keras is installed: python \
             -m sparkdl export, or sparkdl.export(model)."
        ),
    )
}
