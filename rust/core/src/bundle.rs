//! The bundle: one zip file with a frozen graph and a manifest that says how to feed it.

mod archive;
mod manifest;

use std::path::Path;

pub(crate) use archive::digest_of;
pub(crate) use manifest::{Manifest, Output};

use crate::graph::GraphFile;
use crate::{Error, ErrorKind, Result};

/// What a face needs to know of a bundle on the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The manifest, as JSON.
    pub manifest: String,
    /// SHA-256 of the file, in lower-case hex.
    pub digest: String,
}

/// Reads and checks a bundle without loading TensorFlow.
///
/// The graph is checked too: its digest, its operations, and that the tensors the manifest names are there.
pub fn describe(path: &Path) -> Result<Description> {
    let bundle = Bundle::read(path)?;
    let graph = GraphFile::parse(bundle.graph, &bundle.shown)?;
    for output in bundle.manifest.outputs.all() {
        graph.closure(&bundle.manifest.input.tensor, &output.tensor)?;
    }
    Ok(Description { manifest: bundle.json, digest: digest_of(path)? })
}

/// A bundle in memory: manifest checked, digest of the graph checked, graph not looked into.
pub(crate) struct Bundle {
    pub(crate) manifest: Manifest,
    pub(crate) json: String,
    pub(crate) graph: Vec<u8>,
    /// How errors name the file.
    pub(crate) shown: String,
}

impl Bundle {
    pub(crate) fn read(path: &Path) -> Result<Bundle> {
        let mut archive = archive::Archive::open(path)?;
        let shown = archive.shown().to_owned();
        let bytes = archive.member(manifest::FILE, manifest::MAX_BYTES)?;
        let json = String::from_utf8(bytes)
            .map_err(|e| damaged(&shown, "manifest.json is not UTF-8").with_source(e))?;
        let manifest = Manifest::parse(&json, &shown)?;
        let graph = archive.member(&manifest.graph.file, archive::MAX_GRAPH_BYTES)?;
        let found = archive::hex_sha256(&graph);
        if found != manifest.graph.sha256 {
            return Err(damaged(
                &shown,
                &format!(
                    "{} has SHA-256 {found}, the manifest says {}: the file is damaged, export or copy it again",
                    manifest.graph.file, manifest.graph.sha256
                ),
            ));
        }
        Ok(Bundle { manifest, json, graph, shown })
    }
}

/// An error about the contents of a bundle.
pub(crate) fn damaged(shown: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidModel, format!("Cannot use the bundle {shown}: {what}."))
}
