//! Large weights of a graph in memory once: in sealed memory files, which TensorFlow maps into variables.
//!
//! Of a constant TensorFlow keeps a copy in the graph, the session, the optimizer's result and the kernel: VGG16 (553 MB) takes
//! 4 GB and, while it is optimized, 9 GB. A variable's value is in none of them.

use std::collections::HashSet;
#[cfg(all(target_os = "linux", target_endian = "little"))]
use std::os::fd::OwnedFd;

use bytes::Bytes;

use crate::graph::input_node;
use crate::graph::proto::{DT_FLOAT, GraphDef, NodeDef, text_attr, type_attr};

/// The files that a graph's `ImmutableConst`s map; to be kept until `fill` has run.
#[derive(Debug, Default)]
pub(crate) struct MappedWeights {
    #[cfg(all(target_os = "linux", target_endian = "little"))]
    _files: Vec<OwnedFd>,
    /// Bytes of the matrices among them, which every run reads.
    pub(crate) matrices: usize,
}

#[cfg(not(all(target_os = "linux", target_endian = "little")))]
pub(crate) fn map(_: &mut GraphDef, _: bool) -> MappedWeights {
    MappedWeights::default()
}

#[cfg(all(target_os = "linux", target_endian = "little"))]
pub(crate) use linux::map;

/// Whether a node is a convolution, with its kernel as the second input.
fn is_convolution(node: &NodeDef) -> bool {
    matches!(node.op.as_str(), "Conv2D" | "Conv3D" | "DepthwiseConv2dNative")
        && node.data_type("T") == Some(DT_FLOAT)
}

/// What the kernels of the graph's convolutions take.
pub(crate) fn bytes_of_kernels(def: &GraphDef) -> usize {
    let kernels = second_inputs(def, is_convolution);
    let constants = def.nodes.iter().filter(|node| node.op == "Const" && kernels.contains(&node.name));
    constants.filter_map(|node| node.attrs.get("value")).map(Bytes::len).sum()
}

fn second_inputs(def: &GraphDef, of: impl Fn(&NodeDef) -> bool) -> HashSet<String> {
    let nodes = def.nodes.iter().filter(|node| of(node));
    nodes.filter_map(|node| node.inputs.get(1).map(|input| input_node(input).to_owned())).collect()
}

/// Puts variables in the places of the mapped constants, since an `ImmutableConst` maps its file anew in every run. Gives the
/// names of the operations that fill them, to be run once: a variable then keeps what its file held.
pub(crate) fn hold(def: &mut GraphDef) -> Vec<String> {
    let (mut added, mut fill) = (Vec::new(), Vec::new());
    for node in def.nodes.iter_mut().filter(|node| node.op == MAPPED) {
        let [variable, file, assign] =
            ["variable", "file", "assign"].map(|role| format!("mapped/{role}/{}", node.name));
        let shape = node.attrs.get("shape").cloned().unwrap_or_default();
        let float = type_attr(DT_FLOAT);
        added.push(NodeDef::new(
            &variable,
            "VarHandleOp",
            &[],
            [
                ("dtype", float.clone()),
                ("shape", shape),
                ("container", text_attr("")),
                ("shared_name", text_attr(&variable)),
            ],
        ));
        let read = NodeDef::new(&node.name, "ReadVariableOp", &[&variable], [("dtype", float.clone())]);
        let mapped = std::mem::replace(node, read);
        added.push(NodeDef { name: file.clone(), ..mapped });
        added.push(NodeDef::new(&assign, "AssignVariableOp", &[&variable, &file], [("dtype", float)]));
        fill.push(assign);
    }
    def.nodes.extend(added);
    fill
}

const MAPPED: &str = "ImmutableConst";

#[cfg(all(target_os = "linux", target_endian = "little"))]
mod linux {
    use std::collections::HashSet;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsRawFd, OwnedFd};

    use bytes::Bytes;
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::{MAPPED, MappedWeights, is_convolution, second_inputs};
    use crate::graph::proto::{DT_FLOAT, GraphDef, NodeDef, shape_attr, text_attr};

    /// Bytes from which a matrix or a kernel is worth a file, and how many files are open at a time.
    const MATRIX: usize = 1 << 20;
    const KERNEL: usize = 1 << 18;
    const MAX_FILES: usize = 256;

    /// Replaces the large constants by which the graph multiplies by `ImmutableConst`, and the kernels of convolutions where
    /// that is asked for; where the system gives no memory file, they stay.
    pub(crate) fn map(def: &mut GraphDef, kernels: bool) -> MappedWeights {
        let matrices = second_inputs(def, |node| node.op == "MatMul");
        let kernels = if kernels { second_inputs(def, is_convolution) } else { HashSet::new() };
        let mut found: Vec<(&mut NodeDef, Bytes, Bytes)> = def
            .nodes
            .iter_mut()
            .filter(|node| node.op == "Const")
            .filter_map(|node| {
                let is_matrix = matrices.contains(&node.name);
                let wanted = is_matrix || kernels.contains(&node.name);
                let (shape, content) = wanted.then(|| floats(node)).flatten()?;
                let least = if is_matrix { MATRIX } else { KERNEL };
                (content.len() >= least).then_some((node, shape, content))
            })
            .collect();
        found.sort_by_key(|(_, _, content)| std::cmp::Reverse(content.len()));
        let mut weights = MappedWeights::default();
        for (node, shape, content) in found.into_iter().take(MAX_FILES) {
            match memory_file(&content) {
                Ok((file, path)) => {
                    weights._files.push(file);
                    if matrices.contains(&node.name) {
                        weights.matrices += content.len();
                    }
                    MAPPED.clone_into(&mut node.op);
                    node.attrs.remove("value");
                    node.attrs.insert("shape".to_owned(), shape_attr(&shape));
                    node.attrs.insert("memory_region_name".to_owned(), text_attr(&path));
                }
                Err(error) => {
                    log::debug!("{} bytes of weights stay a constant: {error}", content.len());
                    break;
                }
            }
        }
        weights
    }

    /// Shape and content of a float32 constant that is stored as it lies in memory.
    fn floats(node: &NodeDef) -> Option<(Bytes, Bytes)> {
        let tensor = node.tensor("value")?;
        let values = tensor.dims()?.into_iter().try_fold(1_usize, |product, dim| product.checked_mul(dim))?;
        let whole = values.checked_mul(size_of::<f32>()) == Some(tensor.content.len());
        (tensor.dtype == DT_FLOAT && whole).then_some((tensor.shape, tensor.content))
    }

    /// A file of this content that nobody can change, and the path by which this process opens it.
    fn memory_file(content: &[u8]) -> std::io::Result<(OwnedFd, String)> {
        let file = memfd_create("sparkdl-weights", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(file);
        file.write_all(content)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // Where /proc is not what it should be, this fails here and not in a run.
        let found = File::open(&path)?.metadata()?.len();
        if found != content.len() as u64 {
            return Err(std::io::Error::other(format!("{path} has {found} bytes")));
        }
        Ok((file.into(), path))
    }
}
