//! A graph of one row as a graph of rows: a function of its own that TensorFlow maps over them.

use bytes::Bytes;
use tensorflow::{FunctionOptions, Graph, ImportGraphDefOptions, Output};

use super::proto::{
    DT_INT32, Function, GraphDef, NodeDef, Tensor, function_attr, shapes_attr, tensor_attr, type_attr,
    types_attr,
};
use super::{Closure, Place, TensorName, keep};
use crate::Result;
use crate::session::sides;
use crate::values::{Port, shown_sides};

/// The function, and the node that maps it.
const FUNCTION: &str = "sparkdl_row";
const MAP: &str = "sparkdl_rows";
/// The place of a dimension before all others.
const FIRST: &str = "sparkdl_first";

/// What runs for rows, where `closure` runs for one. `ports` are a row's inputs and outputs.
pub(crate) fn mapped(closure: Closure, ports: (&[Port], &[Port]), place: &Place) -> Result<Closure> {
    let Closure { def, feeds, fetches } = closure;
    if let Some(filled) = def.nodes.iter().find(|node| keep::fills(node)) {
        let what = format!(
            "a graph of one row cannot have tables, or variables that it changes ({}): run one of rows through mapBlocks",
            filled.name
        );
        return Err(place.refused(&what));
    }
    let refused =
        |cause| place.refused("TensorFlow cannot make a function of the graph of one row").with_source(cause);
    let mut graph = Graph::new();
    graph.import_graph_def(&def.encode(), &ImportGraphDefOptions::new()).map_err(refused)?;
    // What is fed and not needed is not in the graph.
    let there: Vec<(&TensorName, &Port)> = feeds
        .iter()
        .zip(ports.0)
        .filter(|(feed, _)| def.nodes.iter().any(|node| node.name == feed.node))
        .collect();
    if there.is_empty() {
        return Err(place.refused("what is asked of it depends on none of its inputs"));
    }
    let output = |name: &TensorName| -> Result<Output> {
        let operation = graph.operation_by_name_required(&name.node).map_err(refused)?;
        Ok(Output { operation, index: i32::try_from(name.index).unwrap_or(0) })
    };
    let inputs: Vec<Output> = there.iter().map(|(feed, _)| output(feed)).collect::<Result<_>>()?;
    let outputs: Vec<Output> = fetches.iter().map(output).collect::<Result<_>>()?;
    // The function itself takes rows of any shape.
    for ((feed, port), input) in there.iter().zip(&inputs) {
        let shape = sides(&graph.tensor_shape(input.clone()).map_err(refused)?);
        let fits = |found: &Vec<Option<usize>>| {
            found.len() == port.shape.len()
                && found.iter().zip(&port.shape).all(|pair| !matches!(pair, (Some(a), Some(b)) if a != b))
        };
        if let Some(found) = shape.filter(|found| !fits(found)) {
            let (needed, found) = (port.shown_shape(), shown_sides(&found));
            return Err(
                place.refused(&format!("the manifest gives {feed} the shape {needed}, its graph {found}"))
            );
        }
    }
    let function = graph
        .to_function::<&str>(FUNCTION, false, None, &inputs, &outputs, None, &FunctionOptions::new(), None)
        .and_then(|function| function.to_function_def())
        .map_err(refused)?;
    let function = Function::decode(&Bytes::from(function));
    let function = function.ok_or_else(|| place.refused("the function of one row cannot be read"))?;
    let mut functions = def.functions().unwrap_or_default();
    functions.push(function);
    let types =
        |ports: &[&Port]| types_attr(&ports.iter().map(|port| port.dtype.number()).collect::<Vec<_>>());
    let mut nodes: Vec<NodeDef> = there
        .iter()
        .map(|(feed, port)| {
            NodeDef::new(&feed.node, "Placeholder", &[], [("dtype", type_attr(port.dtype.number()))])
        })
        .collect();
    let names: Vec<&str> = there.iter().map(|(feed, _)| feed.node.as_str()).collect();
    let given: Vec<&Port> = there.iter().map(|(_, port)| *port).collect();
    let taken: Vec<&Port> = ports.1.iter().collect();
    let attrs = [
        ("f", function_attr(FUNCTION)),
        ("Targuments", types(&given)),
        ("Tcaptured", types(&[])),
        ("output_types", types(&taken)),
        ("output_shapes", shapes_attr(taken.iter().map(|port| port.shape.as_slice()))),
    ];
    nodes.push(NodeDef::new(MAP, "MapDefun", &names, attrs));
    let mut def = GraphDef { nodes, rest: def.rest };
    def.set_functions(&functions);
    let fetches = (0..fetches.len()).map(|index| TensorName { node: MAP.to_owned(), index }).collect();
    Ok(Closure { def, feeds, fetches })
}

/// The same graph with a dimension before those of each output: its one row.
pub(crate) fn as_one_row(closure: Closure, outputs: &[Port]) -> Closure {
    let Closure { mut def, feeds, fetches } = closure;
    let zero = Tensor::new(DT_INT32, &[], Bytes::from_static(&[0; 4]));
    let attrs = [("dtype", type_attr(DT_INT32)), ("value", tensor_attr(&zero))];
    def.nodes.push(NodeDef::new(FIRST, "Const", &[], attrs));
    let expanded = |(index, (fetch, port)): (usize, (TensorName, &Port))| {
        let tensor = TensorName { node: format!("sparkdl_output_{index}"), index: 0 };
        let attrs = [("T", type_attr(port.dtype.number())), ("Tdim", type_attr(DT_INT32))];
        def.nodes.push(NodeDef::new(&tensor.node, "ExpandDims", &[&fetch.to_string(), FIRST], attrs));
        tensor
    };
    let fetches = fetches.into_iter().zip(outputs).enumerate().map(expanded).collect();
    Closure { def, feeds, fetches }
}
