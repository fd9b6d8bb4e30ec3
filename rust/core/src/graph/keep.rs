//! What a graph holds besides constants, and the operations that fill it once, when a session opens: variables that its runs
//! change, and lookup tables.

use super::freeze::{Variables, constant};
use super::proto::{GraphDef, NodeDef, true_attr, type_attr};

/// The attribute of an operation that runs once, when a session opens.
const FILLS: &str = "_sparkdl_fills";

/// Says of an operation that it is run once, when a session opens.
pub(super) fn mark(node: &mut NodeDef) {
    node.attrs.insert(FILLS.to_owned(), true_attr());
}

/// Whether it is such an operation; its first input is what it fills.
pub(crate) fn fills(node: &NodeDef) -> bool {
    matches!(node.op.as_str(), "Assign" | "AssignVariableOp" | "LookupTableImportV2")
        && node.attrs.contains_key(FILLS)
}

/// A graph with variables as they are, and operations that give them these values.
pub(super) fn variables(mut def: GraphDef, variables: &Variables) -> GraphDef {
    let mut added = Vec::new();
    for node in &mut def.nodes {
        // Where to put it: beside a node that may be gone.
        node.attrs.remove("_class");
        let Some(value) = variables.get(&node.name) else { continue };
        let name = format!("{}/kept", node.name);
        let (op, attr) = match node.op.as_str() {
            "VarHandleOp" => ("AssignVariableOp", "dtype"),
            _ => ("Assign", "T"),
        };
        let inputs = [node.name.as_str(), name.as_str()];
        let mut assign =
            NodeDef::new(&format!("{}/filled", node.name), op, &inputs, [(attr, type_attr(value.dtype))]);
        mark(&mut assign);
        added.extend([constant(&name, value), assign]);
    }
    def.nodes.extend(added);
    def
}
