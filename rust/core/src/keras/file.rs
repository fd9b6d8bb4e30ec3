//! A Keras file: what the model is made of, and where its variables are.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::Value;
use zip::{CompressionMethod, ZipArchive};

use super::hdf5::{Array, Hdf5};
use super::refused;
use crate::bundle::{check_members, unreadable};
use crate::{Error, ErrorKind, Result};

const MAX_CONFIG: u64 = 64 << 20;
/// The largest published network has 3.5 GB.
const MAX_WEIGHTS: u64 = 16 << 30;
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";

/// A whole model: its configuration and its variables.
pub(super) struct KerasFile {
    /// `{"class_name": …, "config": …}` as Keras writes it.
    pub(super) model: Value,
    pub(super) weights: Weights,
    /// Version of Keras that wrote it, if it says so.
    pub(super) keras_version: String,
}

/// How a file names the variables of a layer.
pub(super) enum Weights {
    /// Keras 3: by a path of attributes and counters, `layers/conv2d_1/vars/0`.
    Paths(Hdf5),
    /// Keras' older layout: by the layer's name, in an order that the layer knows.
    Layers(Hdf5, &'static str),
}

impl KerasFile {
    /// Opens `.keras` or a whole model in `.h5`; what it is, its first bytes say.
    pub(super) fn open(path: &Path) -> Result<KerasFile> {
        let shown = path.display().to_string();
        let unreadable = |e| unreadable("Keras file", path, e);
        let mut file = File::open(path).map_err(unreadable)?;
        if file.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(refused(&shown, "it is a folder; a .keras or .h5 file is needed"));
        }
        let mut magic = [0; 8];
        let mut length = 0;
        while let Some(rest) = magic.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).map_err(unreadable)? {
                0 => break,
                count => length += count,
            }
        }
        match magic {
            [b'P', b'K', 3, 4, ..] => Self::from_zip(file, &shown),
            [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n'] => Self::from_hdf5(file, &shown),
            _ => Err(refused(&shown, "it is neither a .keras file (zip) nor an .h5 file (HDF5)")),
        }
    }

    fn from_zip(file: File, shown: &str) -> Result<KerasFile> {
        let region =
            file.try_clone().map_err(|e| refused(shown, "it cannot be opened twice").with_source(e))?;
        let broken = |e| refused(shown, "it is not a readable zip file").with_source(e);
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
        check_members(&mut zip, &|what| refused(shown, what))?;
        let model = json(&member(&mut zip, CONFIG, MAX_CONFIG, shown)?, CONFIG, shown)?;
        let version = member(&mut zip, "metadata.json", MAX_CONFIG, shown)
            .and_then(|bytes| json(&bytes, "metadata.json", shown))
            .ok()
            .and_then(|metadata| Some(metadata.get("keras_version")?.as_str()?.to_owned()));
        let inside = format!("{shown} ({WEIGHTS})");
        let (stored, start, length) = {
            let found = zip
                .by_name_raw(WEIGHTS.as_bytes())
                .map_err(|e| refused(shown, &format!("it has no readable {WEIGHTS}")).with_source(e))?;
            let stored = found.compression() == CompressionMethod::Stored && !found.encrypted();
            (stored, found.data_start(), found.size())
        };
        let hdf5 = match start {
            Some(start) if stored => {
                check_sum(&mut zip, shown)?;
                Hdf5::open(region, start, length, &inside)?
            }
            _ => Hdf5::from_bytes(member(&mut zip, WEIGHTS, MAX_WEIGHTS, shown)?, &inside)?,
        };
        Ok(KerasFile { model, weights: Weights::Paths(hdf5), keras_version: version.unwrap_or_default() })
    }

    fn from_hdf5(file: File, shown: &str) -> Result<KerasFile> {
        let length = file.metadata().map_err(|e| refused(shown, "its size is unknown").with_source(e))?.len();
        let hdf5 = Hdf5::open(file, 0, length, shown)?;
        let Some(config) = hdf5.strings("", "model_config")? else {
            return Err(refused(
                shown,
                "it holds weights alone, without the model's configuration: give the whole model (model.save), or the \
                 name of the network that the weights belong to",
            ));
        };
        let model = json(config.concat().as_bytes(), "model_config", shown)?;
        let version = hdf5.strings("", "keras_version")?.map(|version| version.concat()).unwrap_or_default();
        let folder = if hdf5.has_group("model_weights")? { "model_weights" } else { "" };
        Ok(KerasFile { model, weights: Weights::Layers(hdf5, folder), keras_version: version })
    }
}

fn json(bytes: &[u8], what: &str, shown: &str) -> Result<Value> {
    serde_json::from_slice(bytes)
        .map_err(|e| refused(shown, &format!("its {what} is not JSON")).with_source(e))
}

/// One whole member in memory; zip's checksum is verified on the way.
fn member(zip: &mut ZipArchive<BufReader<File>>, name: &str, most: u64, shown: &str) -> Result<Vec<u8>> {
    let broken = |what: &str| refused(shown, &format!("its {name} {what}"));
    let mut member =
        zip.by_name(name).map_err(|e| broken("is not there or cannot be read").with_source(e))?;
    let size = member.size();
    if size > most {
        return Err(broken(&format!("has {size} bytes, at most {most} are read")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    member
        .by_ref()
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|e| broken("cannot be read").with_source(e))?;
    Ok(bytes)
}

/// Reads the stored weights once, in pieces: zip compares their checksum at the end.
fn check_sum(zip: &mut ZipArchive<BufReader<File>>, shown: &str) -> Result<()> {
    let broken = |e: std::io::Error| refused(shown, &format!("its {WEIGHTS} is damaged")).with_source(e);
    let mut member = zip
        .by_name(WEIGHTS)
        .map_err(|e| refused(shown, &format!("its {WEIGHTS} cannot be read")).with_source(e))?;
    std::io::copy(&mut member, &mut std::io::sink()).map(|_| ()).map_err(broken)
}

/// The variables of one layer, wherever the file keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Keras 3: the path of the layer's group.
    pub(super) path: String,
    /// Older layout, and errors: the layer's name.
    pub(super) layer: String,
}

impl Weights {
    pub(super) fn shown(&self) -> &str {
        match self {
            Weights::Paths(hdf5) | Weights::Layers(hdf5, _) => hdf5.shown(),
        }
    }

    /// The variable number `index` of a layer, in the order in which the layer owns them; its shape is checked.
    pub(super) fn variable(&self, place: &Place, index: usize, name: &str, shape: &[usize]) -> Result<Array> {
        let found = match self {
            Weights::Paths(hdf5) => {
                let path = format!("{}/vars/{index}", place.path);
                hdf5.array(&path)?.ok_or_else(|| self.missing(place, name, &path))
            }
            Weights::Layers(hdf5, folder) => {
                let group = format!("{folder}/{}", place.layer);
                let names = hdf5.strings(&group, "weight_names")?.unwrap_or_default();
                let path = names.get(index).map(|name| format!("{group}/{name}"));
                let path = path.ok_or_else(|| self.missing(place, name, &group))?;
                hdf5.array(&path)?.ok_or_else(|| self.missing(place, name, &path))
            }
        }?;
        if found.shape == shape {
            return Ok(found);
        }
        Err(Error::new(
            ErrorKind::InvalidModel,
            format!(
                "Cannot use {}: {name} of the layer {} has the shape {:?} there, but the model's configuration needs \
                 {shape:?}. The weights belong to another model.",
                self.shown(),
                place.layer,
                found.shape
            ),
        ))
    }

    fn missing(&self, place: &Place, name: &str, path: &str) -> Error {
        refused(self.shown(), &format!("it has no {name} of the layer {} (looked at {path})", place.layer))
    }
}
