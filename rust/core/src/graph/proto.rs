//! The few messages of `tensorflow/core/framework/*.proto` that the core reads; the rest is carried along untouched.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::wire::{Field, Value, Writer, fields, varints};

/// Of TensorFlow's `DataType`.
pub(crate) const DT_FLOAT: i64 = 1;
pub(crate) const DT_DOUBLE: i64 = 2;
pub(crate) const DT_INT32: i64 = 3;
pub(crate) const DT_UINT8: i64 = 4;
pub(crate) const DT_INT16: i64 = 5;
pub(crate) const DT_INT8: i64 = 6;
pub(crate) const DT_STRING: i64 = 7;
pub(crate) const DT_INT64: i64 = 9;
pub(crate) const DT_BOOL: i64 = 10;
pub(crate) const DT_BFLOAT16: i64 = 14;
pub(crate) const DT_HALF: i64 = 19;
pub(crate) const DT_RESOURCE: i64 = 20;

/// A `GraphDef`: its nodes, and every other field as it was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GraphDef {
    pub(crate) nodes: Vec<NodeDef>,
    pub(crate) rest: Vec<Field>,
}

/// A `NodeDef`: what the core looks at, and every other field as it was.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct NodeDef {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) inputs: Vec<String>,
    /// Serialised `AttrValue`s.
    pub(crate) attrs: BTreeMap<String, Bytes>,
    pub(crate) rest: Vec<Field>,
}

/// A function of the graph's library (`FunctionDef`): what it takes, gives and runs, and every other field as it was.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) inputs: Vec<Argument>,
    pub(crate) outputs: Vec<Argument>,
    pub(crate) nodes: Vec<NodeDef>,
    /// The tensor that is each output, by the output's name.
    pub(crate) returns: BTreeMap<String, String>,
    /// Of the signature (`OpDef`), and of the function.
    signature: Vec<Field>,
    rest: Vec<Field>,
}

/// An input or output of a function (`ArgDef`).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Argument {
    pub(crate) name: String,
    pub(crate) dtype: i64,
    rest: Vec<Field>,
}

/// A `TensorProto` whose values are stored as they lie in memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dtype: i64,
    /// A serialised `TensorShapeProto`.
    pub(crate) shape: Bytes,
    pub(crate) content: Bytes,
}

/// An `AttrValue` that holds text (`s`).
pub(crate) fn text_attr(text: &str) -> Bytes {
    let mut value = Writer::default();
    value.bytes(2, text.as_bytes());
    value.finish().into()
}

/// An `AttrValue` that holds a `DataType` (`type`).
pub(crate) fn type_attr(data_type: i64) -> Bytes {
    let mut value = Writer::default();
    value.int(6, data_type);
    value.finish().into()
}

/// An `AttrValue` that is true (`b`).
pub(crate) fn true_attr() -> Bytes {
    let mut value = Writer::default();
    value.int(5, 1);
    value.finish().into()
}

/// An `AttrValue` that holds a function of the library (`func`).
pub(crate) fn function_attr(name: &str) -> Bytes {
    let (mut function, mut value) = (Writer::default(), Writer::default());
    function.bytes(1, name.as_bytes());
    value.bytes(FUNC, &function.finish());
    value.finish().into()
}

/// An `AttrValue` that lists shapes (`list.shape`); an open side is -1.
pub(crate) fn shapes_attr<'a>(shapes: impl Iterator<Item = &'a [Option<usize>]>) -> Bytes {
    let (mut list, mut value) = (Writer::default(), Writer::default());
    for shape in shapes {
        let dims: Vec<u64> = shape.iter().map(|side| side.map_or(u64::MAX, |side| side as u64)).collect();
        list.bytes(SHAPE_OF_LIST, &shape_of(&dims));
    }
    value.bytes(LIST, &list.finish());
    value.finish().into()
}

/// An `AttrValue` that holds a serialised `TensorShapeProto` (`shape`).
pub(crate) fn shape_attr(shape: &Bytes) -> Bytes {
    let mut value = Writer::default();
    value.bytes(7, shape);
    value.finish().into()
}

/// An `AttrValue` that holds a `TensorProto` (`tensor`).
pub(crate) fn tensor_attr(tensor: &Tensor) -> Bytes {
    let mut message = Writer::with_capacity(tensor.content.len() + 64);
    message.int(1, tensor.dtype);
    message.bytes(2, &tensor.shape);
    message.bytes(4, &tensor.content);
    let mut value = Writer::with_capacity(tensor.content.len() + 80);
    value.bytes(8, &message.finish());
    value.finish().into()
}

/// A serialised `TensorShapeProto`.
fn shape_of(dims: &[u64]) -> Bytes {
    let mut shape = Writer::default();
    for dim in dims {
        let mut size = Writer::default();
        size.int(1, dim.cast_signed());
        shape.bytes(2, &size.finish());
    }
    shape.finish().into()
}

impl Tensor {
    /// Of this shape; `content` as it lies in memory.
    pub(crate) fn new(dtype: i64, dims: &[u64], content: Bytes) -> Tensor {
        Tensor { dtype, shape: shape_of(dims), content }
    }

    fn decode(bytes: &Bytes) -> Option<Tensor> {
        let mut tensor = Tensor { dtype: 0, shape: Bytes::new(), content: Bytes::new() };
        for field in fields(bytes)? {
            match field.number {
                1 => tensor.dtype = field.value.int()?,
                2 => tensor.shape = field.value.bytes()?.clone(),
                4 => tensor.content = field.value.bytes()?.clone(),
                _ => {}
            }
        }
        Some(tensor)
    }

    /// `None` where a dimension is open or cannot be read.
    pub(crate) fn dims(&self) -> Option<Vec<usize>> {
        let dims = fields(&self.shape)?;
        let size = |dim: &Field| {
            let size = fields(dim.value.bytes()?)?.into_iter().rev().find(|field| field.number == 1);
            size.map_or(Some(0), |size| usize::try_from(size.value.int()?).ok())
        };
        dims.iter().map(|field| if field.number == 2 { size(field) } else { None }).collect()
    }
}

impl GraphDef {
    const NODE: u32 = 1;
    const LIBRARY: u32 = 2;
    const DEBUG_INFO: u32 = 5;

    pub(crate) fn decode(bytes: &Bytes) -> Option<GraphDef> {
        let (nodes, rest) =
            fields(bytes)?.into_iter().partition::<Vec<_>, _>(|field| field.number == Self::NODE);
        let nodes = nodes.iter().map(|field| NodeDef::decode(field.value.bytes()?)).collect::<Option<_>>()?;
        Some(GraphDef {
            nodes,
            rest: rest.into_iter().filter(|field| field.number != Self::DEBUG_INFO).collect(),
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let nodes: usize = self.nodes.iter().map(NodeDef::size_hint).sum();
        let rest: usize = self.rest.iter().filter_map(|field| field.value.bytes()).map(Bytes::len).sum();
        let mut message = Writer::with_capacity(nodes + rest + 1024);
        self.nodes.iter().for_each(|node| message.bytes(Self::NODE, &node.encode()));
        self.rest.iter().for_each(|field| message.field(field));
        message.finish()
    }

    /// The functions that nodes may call; `None` where the library cannot be read.
    pub(crate) fn functions(&self) -> Option<Vec<Function>> {
        let mut functions = Vec::new();
        for library in self.rest.iter().filter(|field| field.number == Self::LIBRARY) {
            for field in fields(library.value.bytes()?)? {
                if field.number == 1 {
                    functions.push(Function::decode(field.value.bytes()?)?);
                }
            }
        }
        Some(functions)
    }

    /// Puts these in the place of the library's functions; its gradients stay.
    pub(crate) fn set_functions(&mut self, functions: &[Function]) {
        let mut library = Writer::default();
        functions.iter().for_each(|function| library.bytes(1, &function.encode()));
        for old in self.rest.iter().filter(|field| field.number == Self::LIBRARY) {
            let fields = old.value.bytes().and_then(fields).unwrap_or_default();
            fields.iter().filter(|field| field.number != 1).for_each(|field| library.field(field));
        }
        self.rest.retain(|field| field.number != Self::LIBRARY);
        self.rest.push(Field { number: Self::LIBRARY, value: Value::Bytes(library.finish().into()) });
    }
}

impl Function {
    const ARGUMENT_ATTRS: u32 = 7;
    const RESOURCE_ARGUMENTS: u32 = 8;

    pub(crate) fn decode(bytes: &Bytes) -> Option<Function> {
        let mut function = Function::default();
        for field in fields(bytes)? {
            match field.number {
                1 => function.decode_signature(field.value.bytes()?)?,
                3 => function.nodes.push(NodeDef::decode(field.value.bytes()?)?),
                4 => {
                    let (name, value) = pair(field.value.bytes()?)?;
                    function.returns.insert(name, String::from_utf8(value.to_vec()).ok()?);
                }
                _ => function.rest.push(field),
            }
        }
        Some(function)
    }

    fn decode_signature(&mut self, bytes: &Bytes) -> Option<()> {
        for field in fields(bytes)? {
            match field.number {
                1 => self.name = field.value.text()?,
                2 => self.inputs.push(Argument::decode(field.value.bytes()?)?),
                3 => self.outputs.push(Argument::decode(field.value.bytes()?)?),
                _ => self.signature.push(field),
            }
        }
        Some(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut signature = Writer::default();
        signature.bytes(1, self.name.as_bytes());
        self.inputs.iter().for_each(|input| signature.bytes(2, &input.encode()));
        self.outputs.iter().for_each(|output| signature.bytes(3, &output.encode()));
        self.signature.iter().for_each(|field| signature.field(field));
        let mut message = Writer::default();
        message.bytes(1, &signature.finish());
        self.nodes.iter().for_each(|node| message.bytes(3, &node.encode()));
        for (name, value) in &self.returns {
            let mut pair = Writer::default();
            pair.bytes(1, name.as_bytes());
            pair.bytes(2, value.as_bytes());
            message.bytes(4, &pair.finish());
        }
        self.rest.iter().for_each(|field| message.field(field));
        message.finish()
    }

    /// Drops what is said of arguments by their number: their shapes, and which handles are the same.
    pub(crate) fn forget_arguments(&mut self) {
        self.rest.retain(|field| !matches!(field.number, Self::ARGUMENT_ATTRS | Self::RESOURCE_ARGUMENTS));
        for argument in self.inputs.iter_mut().chain(&mut self.outputs) {
            argument.forget_handle();
        }
    }
}

impl Argument {
    const HANDLE_DATA: u32 = 7;

    fn decode(bytes: &Bytes) -> Option<Argument> {
        let mut argument = Argument::default();
        for field in fields(bytes)? {
            match field.number {
                1 => argument.name = field.value.text()?,
                3 => argument.dtype = field.value.int()?,
                _ => argument.rest.push(field),
            }
        }
        Some(argument)
    }

    fn encode(&self) -> Vec<u8> {
        let mut message = Writer::default();
        message.bytes(1, self.name.as_bytes());
        message.int(3, self.dtype);
        self.rest.iter().for_each(|field| message.field(field));
        message.finish()
    }

    fn forget_handle(&mut self) {
        self.rest.retain(|field| field.number != Self::HANDLE_DATA);
    }
}

/// An entry of a map with text as keys.
pub(crate) fn pair(bytes: &Bytes) -> Option<(String, Bytes)> {
    let fields = fields(bytes)?;
    let last = |number| fields.iter().rev().find(|field: &&Field| field.number == number);
    let key = last(1).map_or(Some(String::new()), |field| field.value.text())?;
    let value = last(2).map_or(Some(Bytes::new()), |field| field.value.bytes().cloned())?;
    Some((key, value))
}

impl NodeDef {
    pub(crate) fn new<const N: usize>(
        name: &str,
        op: &str,
        inputs: &[&str],
        attrs: [(&str, Bytes); N],
    ) -> NodeDef {
        NodeDef {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            attrs: attrs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            rest: Vec::new(),
        }
    }

    pub(crate) fn decode(bytes: &Bytes) -> Option<NodeDef> {
        let mut node = NodeDef::default();
        for field in fields(bytes)? {
            match field.number {
                1 => node.name = field.value.text()?,
                2 => node.op = field.value.text()?,
                3 => node.inputs.push(field.value.text()?),
                5 => {
                    let (name, value) = pair(field.value.bytes()?)?;
                    node.attrs.insert(name, value);
                }
                _ => node.rest.push(field),
            }
        }
        Some(node)
    }

    fn size_hint(&self) -> usize {
        let attrs: usize = self.attrs.iter().map(|(name, value)| name.len() + value.len() + 24).sum();
        let inputs: usize = self.inputs.iter().map(|input| input.len() + 4).sum();
        self.name.len() + self.op.len() + attrs + inputs + 64
    }

    fn encode(&self) -> Vec<u8> {
        let mut message = Writer::with_capacity(self.size_hint());
        message.bytes(1, self.name.as_bytes());
        message.bytes(2, self.op.as_bytes());
        self.inputs.iter().for_each(|input| message.bytes(3, input.as_bytes()));
        for (name, value) in &self.attrs {
            let mut pair = Writer::with_capacity(name.len() + value.len() + 16);
            pair.bytes(1, name.as_bytes());
            pair.bytes(2, value);
            message.bytes(5, &pair.finish());
        }
        self.rest.iter().for_each(|field| message.field(field));
        message.finish()
    }

    fn attr(&self, name: &str, kind: u32) -> Option<Value> {
        let value = fields(self.attrs.get(name)?)?;
        value.into_iter().rev().find(|field| field.number == kind).map(|field| field.value)
    }

    /// Text (`s`), such as a padding or a data format.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.attr(name, 2)?.text()
    }

    /// A list of texts (`list.s`).
    pub(crate) fn text_list(&self, name: &str) -> Option<Vec<String>> {
        let list = self.attr(name, LIST)?;
        let items = fields(list.bytes()?)?;
        items.iter().filter(|item| item.number == TEXT_OF_LIST).map(|item| item.value.text()).collect()
    }

    /// A `DataType` (`type`).
    pub(crate) fn data_type(&self, name: &str) -> Option<i64> {
        self.attr(name, 6)?.int()
    }

    /// A constant's value (`tensor`).
    pub(crate) fn tensor(&self, name: &str) -> Option<Tensor> {
        Tensor::decode(self.attr(name, 8)?.bytes()?)
    }

    /// A constant's value, where it is text (`tensor.string_val`).
    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let tensor = fields(self.attr(name, 8)?.bytes()?)?;
        tensor.iter().filter(|field| field.number == STRINGS).map(|field| field.value.text()).collect()
    }

    /// A constant of text: one, or a list.
    pub(crate) fn texts_constant<T: AsRef<[u8]>>(name: &str, texts: &[T], is_list: bool) -> NodeDef {
        let dims = if is_list { vec![texts.len() as u64] } else { Vec::new() };
        let shape = Tensor::new(DT_STRING, &dims, Bytes::new()).shape;
        let mut tensor = Writer::default();
        tensor.int(1, DT_STRING);
        tensor.bytes(2, &shape);
        texts.iter().for_each(|text| tensor.bytes(STRINGS, text.as_ref()));
        let mut value = Writer::default();
        value.bytes(8, &tensor.finish());
        NodeDef::new(name, "Const", &[], [("dtype", type_attr(DT_STRING)), ("value", value.finish().into())])
    }

    /// Names of the functions in all attributes (`func` and `list.func`); `None` where one cannot be read.
    pub(crate) fn functions(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for value in self.attrs.values() {
            names.extend(functions_of(value)?);
        }
        Some(names)
    }
}

/// Of a `TensorProto`: `string_val`.
const STRINGS: u32 = 8;

const FUNC: u32 = 10;
const LIST: u32 = 1;
const FUNC_OF_LIST: u32 = 9;
const TYPE_OF_LIST: u32 = 6;
const SHAPE_OF_LIST: u32 = 7;
const TEXT_OF_LIST: u32 = 2;

/// Names of the functions in an attribute.
pub(crate) fn functions_of(value: &Bytes) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for field in fields(value)? {
        match field.number {
            FUNC => names.extend(function_name(field.value.bytes()?)?),
            LIST => {
                for item in fields(field.value.bytes()?)?.iter().filter(|item| item.number == FUNC_OF_LIST) {
                    names.extend(function_name(item.value.bytes()?)?);
                }
            }
            _ => {}
        }
    }
    Some(names)
}

/// Every name a `NameAttrList` could be read to have; one, unless it is crafted.
fn function_name(bytes: &Bytes) -> Option<Vec<String>> {
    fields(bytes)?.iter().filter(|field| field.number == 1).map(|field| field.value.text()).collect()
}

/// The attribute with its functions renamed.
pub(crate) fn with_functions(value: &Bytes, renamed: &HashMap<String, String>) -> Option<Bytes> {
    let name = |bytes: &Bytes| -> Option<Vec<u8>> {
        with_fields(bytes, 1, |field| Some(renamed.get(&field.text()?)?.clone().into_bytes()))
    };
    let list = |bytes: &Bytes| with_fields(bytes, FUNC_OF_LIST, |field| name(field.bytes()?));
    let value = Bytes::from(with_fields(value, FUNC, |field| name(field.bytes()?))?);
    Some(with_fields(&value, LIST, |field| list(field.bytes()?))?.into())
}

/// The message with the fields of a number changed.
fn with_fields(bytes: &Bytes, number: u32, change: impl Fn(&Value) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut message = Writer::default();
    for field in fields(bytes)? {
        if field.number == number {
            message.bytes(number, &change(&field.value)?);
        } else {
            message.field(&field);
        }
    }
    Some(message.finish())
}

/// An attribute that lists types, with those in some places changed; `None` where there is no such place.
pub(crate) fn with_types(value: &Bytes, changed: &BTreeMap<usize, i64>) -> Option<Bytes> {
    let mut types = Vec::new();
    for list in fields(value)?.iter().filter(|field| field.number == LIST) {
        for item in fields(list.value.bytes()?)?.iter().filter(|item| item.number == TYPE_OF_LIST) {
            match &item.value {
                Value::Varint(_) => types.push(item.value.int()?),
                packed => types.extend(varints(packed.bytes()?)?),
            }
        }
    }
    for (place, dtype) in changed {
        *types.get_mut(*place)? = *dtype;
    }
    Some(types_attr(&types))
}

/// An `AttrValue` that lists types (`list.type`).
pub(crate) fn types_attr(types: &[i64]) -> Bytes {
    let (mut list, mut message) = (Writer::default(), Writer::default());
    types.iter().for_each(|dtype| list.int(TYPE_OF_LIST, *dtype));
    message.bytes(LIST, &list.finish());
    message.finish().into()
}
