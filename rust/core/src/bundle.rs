//! The bundle: one zip file with a frozen graph and a manifest that says how to feed it.

mod archive;
mod manifest;
mod write;

use std::path::Path;

pub(crate) use archive::{check_members, digest_of, hex, hex_sha256, unreadable};
use manifest::AnyManifest;
pub(crate) use manifest::TensorSpec;
pub(crate) use manifest::{Input, Manifest, Output, TENSORS_VERSION, TensorManifest};
pub(crate) use write::{create_beside, write};

use crate::graph::{GraphFile, Place};
use crate::{Error, Result};

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
/// The graph is checked too: its digest, its operations (those that reach beyond the graph may be there where the manifest
/// says so), and that the tensors the manifest names are there.
pub fn describe(path: &Path) -> Result<Description> {
    let mut bundle = Bundle::open(path)?;
    let graph = GraphFile::parse(bundle.graph()?, Place::bundle(&bundle.shown))?;
    match &bundle.manifest {
        AnyManifest::Pictures(manifest) => {
            for output in manifest.outputs.all() {
                let (feed, fetch) = (manifest.input.tensor.clone(), output.tensor.clone());
                graph.picture_closure(&[feed], &[fetch])?;
            }
        }
        AnyManifest::Tensors(manifest) => {
            let names = |specs: &[TensorSpec]| -> Vec<String> {
                specs.iter().map(|spec| spec.tensor.clone()).collect()
            };
            let graph = graph.allowing_unsafe_ops(manifest.unsafe_ops);
            graph.closure(&names(&manifest.inputs), &names(&manifest.outputs))?;
        }
    }
    Ok(Description { manifest: bundle.json, digest: digest_of(path)? })
}

/// An open bundle: manifest checked, graph not read yet.
pub(crate) struct Bundle {
    archive: archive::Archive,
    manifest: AnyManifest,
    json: String,
    shown: String,
}

impl Bundle {
    pub(crate) fn open(path: &Path) -> Result<Bundle> {
        let mut archive = archive::Archive::open(path)?;
        let shown = archive.shown().to_owned();
        let bytes = archive.member(manifest::FILE, manifest::MAX_BYTES)?;
        let json = String::from_utf8(bytes)
            .map_err(|e| damaged(&shown, "manifest.json is not UTF-8").with_source(e))?;
        let manifest = AnyManifest::parse(&json, &shown)?;
        Ok(Bundle { archive, manifest, json, shown })
    }

    /// What it says of a network for pictures; another one is refused.
    pub(crate) fn manifest(&self) -> Result<&Manifest> {
        match &self.manifest {
            AnyManifest::Pictures(manifest) => Ok(manifest),
            AnyManifest::Tensors(_) => Err(damaged(
                &self.shown,
                "it takes tensors, but a network for pictures is needed: give modelName when converting",
            )),
        }
    }

    /// What it says of a graph on tensors; a network for pictures is refused.
    pub(crate) fn tensors(&self) -> Result<&TensorManifest> {
        match &self.manifest {
            AnyManifest::Tensors(manifest) => Ok(manifest),
            AnyManifest::Pictures(_) => Err(damaged(
                &self.shown,
                "it is a network for pictures with preprocessing of its own, but a graph on tensors is needed: use \
                 DeepImageFeaturizer or DeepImagePredictor for it, or convert the model without modelName",
            )),
        }
    }

    /// How errors name the file.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The serialised graph; its digest is the manifest's.
    pub(crate) fn graph(&mut self) -> Result<Vec<u8>> {
        let member = self.manifest.graph();
        let graph = self.archive.member(&member.file, archive::MAX_GRAPH_BYTES)?;
        let found = archive::hex_sha256(&graph);
        if found == member.sha256 {
            return Ok(graph);
        }
        let (file, expected) = (&member.file, &member.sha256);
        Err(damaged(
            &self.shown,
            &format!(
                "{file} has SHA-256 {found}, the manifest says {expected}: export or copy the bundle again"
            ),
        ))
    }
}

/// An error about the contents of a bundle.
pub(crate) fn damaged(shown: &str, what: &str) -> Error {
    Place::bundle(shown).refused(what)
}
