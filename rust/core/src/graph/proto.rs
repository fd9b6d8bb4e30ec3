//! The few messages of `tensorflow/core/framework/*.proto` that the core reads; the rest is carried along untouched.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wire::{Field, Value, Writer, fields};

/// Of TensorFlow's `DataType`.
pub(crate) const DT_FLOAT: i64 = 1;
pub(crate) const DT_DOUBLE: i64 = 2;
pub(crate) const DT_INT32: i64 = 3;
pub(crate) const DT_UINT8: i64 = 4;
pub(crate) const DT_INT64: i64 = 9;
pub(crate) const DT_BOOL: i64 = 10;

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

/// A function of the graph's library: its name and what it runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) nodes: Vec<NodeDef>,
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

/// An `AttrValue` that holds a serialised `TensorShapeProto` (`shape`).
pub(crate) fn shape_attr(shape: &Bytes) -> Bytes {
    let mut value = Writer::default();
    value.bytes(7, shape);
    value.finish().into()
}

impl Tensor {
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
}

impl Function {
    fn decode(bytes: &Bytes) -> Option<Function> {
        let mut function = Function { name: String::new(), nodes: Vec::new() };
        for field in fields(bytes)? {
            match field.number {
                1 => {
                    let signature = fields(field.value.bytes()?)?;
                    if let Some(name) = signature.iter().rev().find(|field| field.number == 1) {
                        function.name = name.value.text()?;
                    }
                }
                3 => function.nodes.push(NodeDef::decode(field.value.bytes()?)?),
                _ => {}
            }
        }
        Some(function)
    }
}

impl NodeDef {
    pub(crate) fn decode(bytes: &Bytes) -> Option<NodeDef> {
        let mut node = NodeDef::default();
        for field in fields(bytes)? {
            match field.number {
                1 => node.name = field.value.text()?,
                2 => node.op = field.value.text()?,
                3 => node.inputs.push(field.value.text()?),
                5 => {
                    let pair = fields(field.value.bytes()?)?;
                    let last = |number| pair.iter().rev().find(|field: &&Field| field.number == number);
                    let name = last(1).map_or(Some(String::new()), |field| field.value.text())?;
                    let value = last(2).map_or(Some(Bytes::new()), |field| field.value.bytes().cloned())?;
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

    /// A `DataType` (`type`).
    pub(crate) fn data_type(&self, name: &str) -> Option<i64> {
        self.attr(name, 6)?.int()
    }

    /// A constant's value (`tensor`).
    pub(crate) fn tensor(&self, name: &str) -> Option<Tensor> {
        Tensor::decode(self.attr(name, 8)?.bytes()?)
    }

    /// Names of the functions in all attributes (`func` and `list.func`); `None` where one cannot be read.
    pub(crate) fn functions(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for value in self.attrs.values() {
            for field in fields(value)? {
                match field.number {
                    10 => names.extend(function_name(field.value.bytes()?)?),
                    1 => {
                        for item in fields(field.value.bytes()?)?.iter().filter(|item| item.number == 9) {
                            names.extend(function_name(item.value.bytes()?)?);
                        }
                    }
                    _ => {}
                }
            }
        }
        Some(names)
    }
}

/// Every name a `NameAttrList` could be read to have; one, unless it is crafted.
fn function_name(bytes: &Bytes) -> Option<Vec<String>> {
    fields(bytes)?.iter().filter(|field| field.number == 1).map(|field| field.value.text()).collect()
}
