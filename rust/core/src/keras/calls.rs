//! How a configuration says with what a layer is called.

use serde_json::{Map, Value};

/// Where a tensor comes from: layer, number of its call, number of its output.
pub(super) type Origin = (String, usize, usize);

/// One argument of a call; `T` is where a tensor comes from, or the tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Argument<T> {
    Tensor(T),
    List(Vec<Argument<T>>),
    Value(Value),
}

/// One call of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call<T = Origin> {
    pub(super) positional: Vec<Argument<T>>,
    /// Those that are given by name and are not null.
    pub(super) named: Vec<(String, Argument<T>)>,
}

impl<T: Clone> Argument<T> {
    fn collect(&self, into: &mut Vec<T>) {
        match self {
            Argument::Tensor(tensor) => into.push(tensor.clone()),
            Argument::List(values) => values.iter().for_each(|value| value.collect(into)),
            Argument::Value(_) => {}
        }
    }

    /// Whether anything but tensors and nulls is in it.
    pub(super) fn has_values(&self) -> bool {
        match self {
            Argument::Tensor(_) | Argument::Value(Value::Null) => false,
            Argument::List(values) => values.iter().any(Argument::has_values),
            Argument::Value(_) => true,
        }
    }

    fn resolved<U>(&self, find: &impl Fn(&T) -> Option<U>) -> Option<Argument<U>> {
        Some(match self {
            Argument::Tensor(origin) => Argument::Tensor(find(origin)?),
            Argument::List(values) => {
                Argument::List(values.iter().map(|value| value.resolved(find)).collect::<Option<_>>()?)
            }
            Argument::Value(value) => Argument::Value(value.clone()),
        })
    }
}

impl<T: Clone> Call<T> {
    pub(super) fn of(positional: Vec<Argument<T>>) -> Call<T> {
        Call { positional, named: Vec::new() }
    }

    /// All tensors, in order, those by name last.
    pub(super) fn tensors(&self) -> Vec<T> {
        let mut found = Vec::new();
        self.positional.iter().for_each(|argument| argument.collect(&mut found));
        self.named.iter().for_each(|(_, argument)| argument.collect(&mut found));
        found
    }

    /// With each tensor in the place of its origin; `None` where one is not known yet.
    pub(super) fn resolved<U>(&self, find: &impl Fn(&T) -> Option<U>) -> Option<Call<U>> {
        let positional =
            self.positional.iter().map(|argument| argument.resolved(find)).collect::<Option<_>>()?;
        let named = self.named.iter().map(|(name, argument)| Some((name.clone(), argument.resolved(find)?)));
        Some(Call { positional, named: named.collect::<Option<_>>()? })
    }

    pub(super) fn named(&self, name: &str) -> Option<&Argument<T>> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, argument)| argument)
    }
}

/// The calls of a layer: as Keras 3 writes them, `{"args": …, "kwargs": …}`, or as Keras 2,
/// `[["name", 0, 0, {}], …]`.
pub(super) fn calls(nodes: &Value) -> Result<Vec<Call>, String> {
    let Some(nodes) = nodes.as_array() else { return Ok(Vec::new()) };
    nodes.iter().map(call).collect()
}

fn call(node: &Value) -> Result<Call, String> {
    let unreadable = || "its calls cannot be read".to_owned();
    if let Some(arguments) = node.get("args").and_then(Value::as_array) {
        let positional = arguments.iter().map(argument).collect::<Option<_>>().ok_or_else(unreadable)?;
        let named = match node.get("kwargs").and_then(Value::as_object) {
            Some(named) => by_name(named).ok_or_else(unreadable)?,
            None => Vec::new(),
        };
        return Ok(Call { positional, named });
    }
    let mut positional = Vec::new();
    let mut named = Vec::new();
    for listed in node.as_array().ok_or_else(unreadable)? {
        positional.push(Argument::Tensor(origin(listed).ok_or_else(unreadable)?));
        if let Some(Value::Object(given)) = listed.get(3) {
            named.extend(given.iter().filter(|(key, value)| counts(key, value)).map(|(key, value)| {
                let value = origin(value).map_or_else(|| Argument::Value(value.clone()), Argument::Tensor);
                (key.clone(), value)
            }));
        }
    }
    Ok(Call { positional, named })
}

fn by_name(named: &Map<String, Value>) -> Option<Vec<(String, Argument<Origin>)>> {
    let counted = named.iter().filter(|(key, value)| counts(key, value));
    counted.map(|(key, value)| Some((key.clone(), argument(value)?))).collect()
}

/// Inference is what is built: Keras puts its own `training` in the place of the one that a layer was called with.
fn counts(key: &str, value: &Value) -> bool {
    !value.is_null() && key != "training"
}

fn argument(value: &Value) -> Option<Argument<Origin>> {
    Some(match value {
        Value::Array(values) => Argument::List(values.iter().map(argument).collect::<Option<_>>()?),
        Value::Object(object)
            if object.get("class_name").and_then(Value::as_str) == Some("__keras_tensor__") =>
        {
            Argument::Tensor(value.pointer("/config/keras_history").and_then(origin)?)
        }
        value => Argument::Value(value.clone()),
    })
}

/// `["name", 0, 0]`.
fn origin(value: &Value) -> Option<Origin> {
    let number = |index| value.get(index)?.as_u64().and_then(|number| usize::try_from(number).ok());
    Some((value.get(0)?.as_str()?.to_owned(), number(1)?, number(2)?))
}

/// One origin, a list of them, or origins by name.
pub(super) fn origins(value: &Value) -> Option<Vec<Origin>> {
    match value {
        Value::Array(_) if origin(value).is_some() => Some(vec![origin(value)?]),
        Value::Array(values) => values.iter().map(origin).collect(),
        Value::Object(values) => values.values().map(origin).collect(),
        _ => None,
    }
}
