//! Large matrices of a graph in sealed memory files, which TensorFlow maps whenever it multiplies by them.
//!
//! Of a constant it keeps a copy in the graph, the session, the optimizer's result and the kernel: VGG16 (553 MB) takes
//! 4 GB and, while it is optimized, 9 GB. Mapped, its matrices are in memory once. Kernels of convolutions stay
//! constants: oneDNN brings those into its own order once, but anew in every run if they come from a file.

use crate::graph::proto::GraphDef;

/// Keeps the files open; to be dropped after the session.
#[derive(Debug, Default)]
pub(crate) struct MappedWeights {
    #[cfg(target_os = "linux")]
    _files: Vec<std::os::fd::OwnedFd>,
    bytes: usize,
}

impl MappedWeights {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(not(all(target_os = "linux", target_endian = "little")))]
pub(crate) fn map(_: &mut GraphDef) -> MappedWeights {
    MappedWeights::default()
}

#[cfg(all(target_os = "linux", target_endian = "little"))]
pub(crate) use linux::map;

#[cfg(all(target_os = "linux", target_endian = "little"))]
mod linux {
    use std::collections::HashSet;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsRawFd, OwnedFd};

    use bytes::Bytes;
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::{GraphDef, MappedWeights};
    use crate::graph::input_node;
    use crate::graph::proto::{DT_FLOAT, NodeDef, shape_attr, text_attr};

    /// Bytes from which a matrix is worth a file, and how many files a session may hold open.
    const WORTH_A_FILE: usize = 1 << 20;
    const MAX_FILES: usize = 128;

    /// Replaces the large constants by which the graph multiplies by `ImmutableConst`; where the system gives no
    /// memory file, they stay.
    pub(crate) fn map(def: &mut GraphDef) -> MappedWeights {
        let factors: HashSet<String> = def
            .nodes
            .iter()
            .filter(|node| node.op == "MatMul")
            .filter_map(|node| node.inputs.get(1).map(|input| input_node(input).to_owned()))
            .collect();
        let mut found: Vec<(&mut NodeDef, Bytes, Bytes)> = def
            .nodes
            .iter_mut()
            .filter(|node| node.op == "Const" && factors.contains(&node.name))
            .filter_map(|node| matrix(node).map(|(shape, content)| (node, shape, content)))
            .collect();
        found.sort_by_key(|(_, _, content)| std::cmp::Reverse(content.len()));
        let (mut files, mut bytes) = (Vec::new(), 0);
        for (node, shape, content) in found.into_iter().take(MAX_FILES) {
            match memory_file(&content) {
                Ok((file, path)) => {
                    files.push(file);
                    bytes += content.len();
                    node.op = "ImmutableConst".to_owned();
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
        MappedWeights { _files: files, bytes }
    }

    /// Shape and content of a large float32 constant that is stored as it lies in memory.
    fn matrix(node: &NodeDef) -> Option<(Bytes, Bytes)> {
        let tensor = node.tensor("value")?;
        let values = tensor.dims()?.into_iter().try_fold(1_usize, |product, dim| product.checked_mul(dim))?;
        let whole = values.checked_mul(size_of::<f32>()) == Some(tensor.content.len());
        (tensor.dtype == DT_FLOAT && whole && tensor.content.len() >= WORTH_A_FILE)
            .then_some((tensor.shape, tensor.content))
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
