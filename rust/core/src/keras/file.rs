//! A Keras file: what the model is made of, and where its variables are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use serde_json::Value;
use zip::{CompressionMethod, ZipArchive};

use super::hdf5::{Array, Hdf5, MAX_TEXT};
use super::refused;
use crate::bundle::create_beside;
use crate::bundle::{check_members, unreadable};
use crate::{Error, ErrorKind, Result};

/// The largest published network has 3.5 GB.
const MAX_WEIGHTS: u64 = 16 << 30;
/// What packed weights may be larger than in the file: pruned ones shrink to a tenth.
const MAX_RATIO: u64 = 16;
/// What a configuration may take in memory once it is read; a layer takes about 14 KiB.
const MAX_CONFIG: usize = 32 << 20;
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";
const LAYER_NAMES: &str = "layer_names";
const WEIGHT_NAMES: &str = "weight_names";

/// A Keras file: variables, and in a whole model its configuration.
pub(super) struct KerasFile {
    /// `{"class_name": …, "config": …}` as Keras writes it; `None` in a file of weights alone.
    pub(super) model: Option<Value>,
    pub(super) weights: Weights,
    /// Version of Keras that wrote it, if it says so.
    pub(super) keras_version: String,
}

/// The variables of a file.
pub(super) struct Weights {
    hdf5: Hdf5,
    layout: Layout,
    /// `weight_names` of the groups that were asked for.
    names: RefCell<HashMap<String, Rc<Names>>>,
    /// Arrays that were read, by their paths: a layer that is called twice has one.
    arrays: RefCell<HashMap<String, Known>>,
}

/// An array as long as the graph has it.
struct Known {
    shape: Vec<usize>,
    values: Weak<Vec<f32>>,
}

/// The variables of a group of the older layout, in its order.
#[derive(Default)]
struct Names {
    all: Vec<String>,
    /// Places in `all`, by each part of the paths that the names are.
    by_part: HashMap<String, Vec<usize>>,
}

impl Names {
    fn new(all: Vec<String>) -> Names {
        let mut by_part: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, name) in all.iter().enumerate() {
            for part in name.split('/') {
                let places = by_part.entry(part.to_owned()).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        Names { all, by_part }
    }

    /// The variable of this number: of one layer of a model, or of all.
    fn get(&self, layer: Option<&str>, number: usize) -> Option<&String> {
        match layer {
            Some(layer) => self.all.get(*self.by_part.get(layer)?.get(number)?),
            None => self.all.get(number),
        }
    }
}

/// How a file names the variables of a layer.
enum Layout {
    /// Keras 3: by a path of attributes and counters, `layers/conv2d_1/vars/0`.
    Paths,
    /// Keras' older layout: by the layer's name below this group, in an order that the layer knows.
    Layers(&'static str),
    /// The same of a file whose names may be others: the groups by the names that the model's layers have.
    Groups(HashMap<String, String>),
}

impl KerasFile {
    /// Opens `.keras`, a whole model in `.h5`, or weights alone in `.h5`; what it is, its first bytes say. Packed weights
    /// are unpacked beside `output`.
    pub(super) fn open(path: &Path, output: &Path) -> Result<KerasFile> {
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
            [b'P', b'K', 3, 4, ..] => Self::from_zip(file, &shown, output),
            [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n'] => Self::from_hdf5(file, &shown),
            _ => Err(refused(&shown, "it is neither a .keras file (zip) nor an .h5 file (HDF5)")),
        }
    }

    fn from_zip(file: File, shown: &str, output: &Path) -> Result<KerasFile> {
        let region =
            file.try_clone().map_err(|e| refused(shown, "it cannot be opened twice").with_source(e))?;
        let broken = |e| refused(shown, "it is not a readable zip file").with_source(e);
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
        check_members(&mut zip, &|what| refused(shown, what))?;
        let model = json(&member(&mut zip, CONFIG, shown)?, CONFIG, shown)?;
        let version = member(&mut zip, "metadata.json", shown)
            .and_then(|bytes| json(&bytes, "metadata.json", shown))
            .ok()
            .and_then(|metadata| Some(metadata.get("keras_version")?.as_str()?.to_owned()));
        let (start, length) = {
            let found = zip
                .by_name_raw(WEIGHTS.as_bytes())
                .map_err(|e| refused(shown, &format!("it has no readable {WEIGHTS}")).with_source(e))?;
            let (size, packed) = (found.size(), found.compressed_size());
            if size > MAX_WEIGHTS || size / MAX_RATIO > packed {
                return Err(refused(
                    shown,
                    &format!(
                        "its {WEIGHTS} claims {size} bytes from {packed}; at most {MAX_WEIGHTS} are read, and {MAX_RATIO} \
                         from each"
                    ),
                ));
            }
            (found.data_start().filter(|_| found.compression() == CompressionMethod::Stored), size)
        };
        let inside = format!("{shown} ({WEIGHTS})");
        let hdf5 = if let Some(start) = start {
            unpack(&mut zip, &mut std::io::sink(), shown)?;
            Hdf5::open(region, start, length, &inside)?
        } else {
            let (mut unpacked, beside) = create_beside(output)?;
            // It has no name while it is used, so that nothing is left behind.
            let _ = std::fs::remove_file(&beside);
            unpack(&mut zip, &mut unpacked, shown)?;
            Hdf5::open(unpacked, 0, length, &inside)?
        };
        let weights = Weights::new(hdf5, Layout::Paths);
        Ok(KerasFile { model: Some(model), weights, keras_version: version.unwrap_or_default() })
    }

    fn from_hdf5(file: File, shown: &str) -> Result<KerasFile> {
        let length = file.metadata().map_err(|e| refused(shown, "its size is unknown").with_source(e))?.len();
        let hdf5 = Hdf5::open(file, 0, length, shown)?;
        let version = hdf5.strings("", "keras_version")?.map(|version| version.concat()).unwrap_or_default();
        let config = hdf5.strings("", "model_config")?;
        let model =
            config.map(|config| json(config.concat().as_bytes(), "model_config", shown)).transpose()?;
        let layout = if hdf5.has_group("model_weights")? {
            Layout::Layers("model_weights")
        } else if model.is_some() || hdf5.strings("", LAYER_NAMES)?.is_some() {
            Layout::Layers("")
        } else if hdf5.has_group("layers")? {
            Layout::Paths
        } else {
            return Err(refused(
                shown,
                "it is an HDF5 file, but not one that Keras writes: it has no model_config, no layer_names and no group \
                 layers",
            ));
        };
        Ok(KerasFile { model, weights: Weights::new(hdf5, layout), keras_version: version })
    }
}

fn json(bytes: &[u8], what: &str, shown: &str) -> Result<Value> {
    let size = size_as_values(bytes);
    if size > MAX_CONFIG {
        let (size, most) = (size >> 20, MAX_CONFIG >> 20);
        return Err(refused(
            shown,
            &format!(
                "its {what} is made of so many values that they take {size} MiB, at most {most} are read"
            ),
        ));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| refused(shown, &format!("its {what} is not JSON")).with_source(e))
}

/// About what a JSON text takes in memory once it is read: an object of one entry has room for eleven.
fn size_as_values(bytes: &[u8]) -> usize {
    let (mut size, mut in_text, mut escaped) = (bytes.len(), false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => {
                in_text = !in_text;
                size += 16;
            }
            _ if in_text => {}
            b'{' => size += 640,
            b'[' => size += 64,
            b',' => size += 110,
            _ => {}
        }
    }
    size
}

/// One whole member in memory; zip's checksum is verified on the way.
fn member(zip: &mut ZipArchive<BufReader<File>>, name: &str, shown: &str) -> Result<Vec<u8>> {
    let broken = |what: &str| refused(shown, &format!("its {name} {what}"));
    let mut member =
        zip.by_name(name).map_err(|e| broken("is not there or cannot be read").with_source(e))?;
    let size = member.size();
    if size > MAX_TEXT as u64 {
        return Err(broken(&format!("has {size} bytes, at most {MAX_TEXT} are read")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    let read = member.by_ref().take(size + 1).read_to_end(&mut bytes);
    read.map_err(|e| broken("cannot be read").with_source(e))?;
    if bytes.len() as u64 != size {
        return Err(broken(&format!("has other than the {size} bytes that it claims")));
    }
    Ok(bytes)
}

/// Reads the weights once, in pieces: zip compares their checksum at the end.
fn unpack(zip: &mut ZipArchive<BufReader<File>>, into: &mut dyn Write, shown: &str) -> Result<()> {
    let mut member = zip
        .by_name(WEIGHTS)
        .map_err(|e| refused(shown, &format!("its {WEIGHTS} cannot be read")).with_source(e))?;
    let size = member.size();
    let broken = || refused(shown, &format!("its {WEIGHTS} is damaged"));
    let found = std::io::copy(&mut member.by_ref().take(size + 1), into);
    let found = found.map_err(|e| broken().with_source(e))?;
    if found == size { Ok(()) } else { Err(broken()) }
}

/// The variables of one layer, wherever the file keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Keras 3: the path of the layer's group.
    pub(super) path: String,
    /// Older layout: the layer of the outermost model that it is part of, or itself.
    pub(super) top: String,
    pub(super) layer: String,
}

/// One variable of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variable<'a> {
    /// What errors call it.
    pub(super) name: &'a str,
    /// Keras 3: the path of its owner below the layer, empty where that is the layer itself; with the number it has there.
    pub(super) owner: &'a str,
    pub(super) index: usize,
    /// Older layout: its number among all variables of the layer.
    pub(super) flat: usize,
}

impl Weights {
    fn new(hdf5: Hdf5, layout: Layout) -> Weights {
        Weights { hdf5, layout, names: RefCell::default(), arrays: RefCell::default() }
    }

    pub(super) fn shown(&self) -> &str {
        self.hdf5.shown()
    }

    /// Bytes of the file that they are in.
    pub(super) fn size(&self) -> usize {
        self.hdf5.size()
    }

    /// For weights alone: matches the file's layers with those of a model that own variables, `all` of it or those
    /// `without_top`, behind which the file has `more` of its own. True where the file has them all.
    pub(super) fn match_layers(&mut self, all: &[Place], without_top: &[Place], more: usize) -> Result<bool> {
        if matches!(self.layout, Layout::Paths) {
            let classifier = all.iter().rfind(|place| !without_top.contains(place));
            return match classifier {
                Some(place) => self.hdf5.has_array(&format!("{}/vars/0", place.path)),
                None => Ok(true),
            };
        }
        let mut found = Vec::new();
        for name in self.hdf5.strings("", LAYER_NAMES)?.unwrap_or_default() {
            if !self.weight_names(&name)?.all.is_empty() {
                found.push(name);
            }
        }
        let fitting = [(all, 0), (without_top, more)];
        let owners = fitting.into_iter().find(|(owners, more)| owners.len() + more == found.len());
        let (owners, _) = owners.ok_or_else(|| {
            let (found, all, rest) = (found.len(), all.len(), without_top.len() + more);
            refused(
                self.shown(),
                &format!(
                    "it has the weights of {found} layers, but the model has {all} layers with weights, {rest} without its \
                     classifier"
                ),
            )
        })?;
        let whole = owners.len() == all.len();
        self.layout = Layout::Groups(owners.iter().map(|place| place.layer.clone()).zip(found).collect());
        Ok(whole)
    }

    /// A variable of a layer; its shape is checked.
    pub(super) fn variable(&self, place: &Place, variable: Variable, shape: &[usize]) -> Result<Array> {
        let name = variable.name;
        let path = match &self.layout {
            Layout::Paths => {
                let owner = if variable.owner.is_empty() { "" } else { "/" };
                format!("{}{owner}{}/vars/{}", place.path, variable.owner, variable.index)
            }
            Layout::Layers(_) | Layout::Groups(_) => {
                let group = match &self.layout {
                    Layout::Layers("") | Layout::Paths => place.top.clone(),
                    Layout::Layers(folder) => format!("{folder}/{}", place.top),
                    Layout::Groups(groups) => groups.get(&place.top).cloned().unwrap_or_default(),
                };
                let names = self.weight_names(&group)?;
                let inside = (place.top != place.layer).then_some(place.layer.as_str());
                let found = names.get(inside, variable.flat).map(|name| format!("{group}/{name}"));
                found.ok_or_else(|| self.missing(place, name, &group))?
            }
        };
        let found = self.array(&path)?.ok_or_else(|| self.missing(place, name, &path))?;
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

    fn array(&self, path: &str) -> Result<Option<Array>> {
        if let Some(known) = self.arrays.borrow().get(path)
            && let Some(values) = known.values.upgrade()
        {
            return Ok(Some(Array { shape: known.shape.clone(), values }));
        }
        let found = self.hdf5.array(path)?;
        if let Some(found) = &found {
            let known = Known { shape: found.shape.clone(), values: Arc::downgrade(&found.values) };
            self.arrays.borrow_mut().insert(path.to_owned(), known);
        }
        Ok(found)
    }

    fn weight_names(&self, group: &str) -> Result<Rc<Names>> {
        if let Some(names) = self.names.borrow().get(group) {
            return Ok(Rc::clone(names));
        }
        let names = Rc::new(Names::new(self.hdf5.strings(group, WEIGHT_NAMES)?.unwrap_or_default()));
        self.names.borrow_mut().insert(group.to_owned(), Rc::clone(&names));
        Ok(names)
    }

    fn missing(&self, place: &Place, name: &str, path: &str) -> Error {
        refused(self.shown(), &format!("it has no {name} of the layer {} (looked at {path})", place.layer))
    }
}
