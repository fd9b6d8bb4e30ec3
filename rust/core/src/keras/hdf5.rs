//! HDF5 files within bounds: the attributes and arrays that they hold themselves, never what lies outside of them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hdf5_reader::group::Group;
use hdf5_reader::{BlockCacheStorage, Datatype, Hdf5File, OpenOptions, RangeRequestStorage};

use super::refused;
use crate::{Error, ErrorKind, Result};

/// Attributes are small; `model_config` of the largest network has 2 MB.
const MAX_ATTRIBUTES: usize = 64 << 20;
const MAX_RANK: usize = 8;
/// What is kept of a file between reads: enough for its structure; each array is read once.
const BLOCK: usize = 256 << 10;
const BLOCKS: usize = 32;

/// Values of a variable in the order of memory, with their shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Arc<Vec<f32>>,
}

/// An open HDF5 file, or one inside of another file.
pub(super) struct Hdf5 {
    file: Hdf5File,
    shown: String,
    bytes: u64,
}

impl Hdf5 {
    /// Opens the part of a file that starts at `start` and has `length` bytes.
    pub(super) fn open(file: File, start: u64, length: u64, shown: &str) -> Result<Hdf5> {
        let read = move |offset: u64, count: usize| {
            let mut bytes = vec![0; count];
            file.read_exact_at(&mut bytes, start + offset)?;
            Ok(bytes)
        };
        let storage = Arc::new(RangeRequestStorage::new(length, read));
        let storage = BlockCacheStorage::new(storage, BLOCK, BLOCKS);
        let file = Hdf5File::from_storage_with_options(Arc::new(storage), bounds(length))
            .map_err(|e| refused(shown, "it is not a readable HDF5 file").with_source(e))?;
        Ok(Hdf5 { file, shown: shown.to_owned(), bytes: length })
    }

    /// The same of bytes in memory.
    pub(super) fn from_bytes(bytes: Vec<u8>, shown: &str) -> Result<Hdf5> {
        let length = bytes.len() as u64;
        let file = Hdf5File::from_vec_with_options(bytes, bounds(length))
            .map_err(|e| refused(shown, "it is not a readable HDF5 file").with_source(e))?;
        Ok(Hdf5 { file, shown: shown.to_owned(), bytes: length })
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    fn group(&self, path: &str) -> Result<Option<Group>> {
        let mut group = self.file.root_group().map_err(|e| self.broken("its root group", e))?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            group = match group.group(name) {
                Ok(group) => group,
                Err(e) if is_missing(&e) => return Ok(None),
                Err(e) => return Err(self.broken(&format!("its group {path}"), e)),
            };
        }
        Ok(Some(group))
    }

    pub(super) fn has_group(&self, path: &str) -> Result<bool> {
        Ok(self.group(path)?.is_some())
    }

    pub(super) fn has_array(&self, path: &str) -> Result<bool> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(group) = self.group(folder)? else { return Ok(false) };
        match group.dataset(name) {
            Ok(_) => Ok(true),
            Err(e) if is_missing(&e) => Ok(false),
            Err(e) => Err(self.broken(&format!("its array {path}"), e)),
        }
    }

    /// Strings of a group's attribute, which Keras cuts into `name0`, `name1`, … where it is long.
    pub(super) fn strings(&self, group: &str, name: &str) -> Result<Option<Vec<String>>> {
        let Some(group) = self.group(group)? else { return Ok(None) };
        let broken = |e| self.broken(&format!("its attribute {name}"), e);
        let attributes = group.attributes().map_err(broken)?;
        let one = |name: &str| {
            let found = attributes.iter().find(|attribute| attribute.name == name);
            // h5py writes an empty list as an array of floats.
            found.map(|found| if found.shape == [0] { Ok(Vec::new()) } else { found.read_strings() })
        };
        if let Some(strings) = one(name) {
            return strings.map(Some).map_err(broken);
        }
        let mut whole = None;
        for number in 0.. {
            let Some(part) = one(&format!("{name}{number}")) else { break };
            whole.get_or_insert_with(Vec::new).extend(part.map_err(broken)?);
        }
        Ok(whole)
    }

    /// The array at a path, as float32; `None` where there is none.
    pub(super) fn array(&self, path: &str) -> Result<Option<Array>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(group) = self.group(folder)? else { return Ok(None) };
        let what = || format!("its array {path}");
        let dataset = match group.dataset(name) {
            Ok(dataset) => dataset,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(self.broken(&what(), e)),
        };
        let shape: Vec<usize> =
            dataset.shape().iter().map(|side| usize::try_from(*side).unwrap_or(usize::MAX)).collect();
        let values = shape.iter().try_fold(1_usize, |product, side| product.checked_mul(*side));
        // Deflate shrinks by 1,000 at most; weights do not shrink by 16.
        let most = usize::try_from(self.bytes).unwrap_or(usize::MAX).saturating_mul(16);
        let values = values
            .filter(|values| {
                shape.len() <= MAX_RANK
                    && values.checked_mul(8).is_some_and(|bytes| bytes <= most.max(1 << 20))
            })
            .ok_or_else(|| refused(&self.shown, &format!("{} claims the shape {shape:?}", what())))?;
        if matches!(dataset.dtype(), Datatype::FloatingPoint { size: 4, .. }) {
            // The usual case, without a copy of its bytes beside it.
            let mut floats = vec![0.0_f32; values];
            dataset.read_into(&mut floats).map_err(|e| self.broken(&what(), e))?;
            return Ok(Some(Array { shape, values: Arc::new(floats) }));
        }
        let bytes = dataset.read_native_bytes().map_err(|e| self.broken(&what(), e))?;
        let floats =
            floats(dataset.dtype(), &bytes).filter(|floats| floats.len() == values).ok_or_else(|| {
                refused(&self.shown, &format!("{} holds {:?}, not numbers", what(), dataset.dtype()))
            })?;
        Ok(Some(Array { shape, values: Arc::new(floats) }))
    }

    fn broken(&self, what: &str, cause: hdf5_reader::error::Error) -> Error {
        Error::new(ErrorKind::InvalidModel, format!("Cannot read {}: {what} is damaged.", self.shown))
            .with_source(cause)
    }
}

fn bounds(length: u64) -> OpenOptions {
    let most = usize::try_from(length).unwrap_or(usize::MAX).saturating_mul(16).max(MAX_ATTRIBUTES);
    // Neither external files nor external links are followed unless a resolver is given.
    OpenOptions::default().with_chunk_cache_bytes(0).with_max_read_bytes(most)
}

fn is_missing(error: &hdf5_reader::error::Error) -> bool {
    use hdf5_reader::error::Error as E;
    match error {
        E::GroupNotFound(_) | E::DatasetNotFound(_) => true,
        E::Context { source, .. } => is_missing(source),
        _ => false,
    }
}

/// Numbers in the machine's byte order as float32; of float64 and integers the nearest.
fn floats(dtype: &Datatype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.chunks_exact(N).map(|chunk| convert(chunk.try_into().unwrap_or([0; N]))).collect()
    }
    match dtype {
        Datatype::FloatingPoint { size: 2, .. } => Some(each(bytes, |b| half(u16::from_ne_bytes(b)))),
        Datatype::FloatingPoint { size: 4, .. } => Some(each(bytes, f32::from_ne_bytes)),
        Datatype::FloatingPoint { size: 8, .. } => Some(each(bytes, |b| f64::from_ne_bytes(b) as f32)),
        Datatype::FixedPoint { size: 1, signed: true, .. } => {
            Some(each(bytes, |b| f32::from(i8::from_ne_bytes(b))))
        }
        Datatype::FixedPoint { size: 1, .. } => Some(each(bytes, |b: [u8; 1]| f32::from(b[0]))),
        Datatype::FixedPoint { size: 4, signed: true, .. } => {
            Some(each(bytes, |b| i32::from_ne_bytes(b) as f32))
        }
        Datatype::FixedPoint { size: 4, .. } => Some(each(bytes, |b| u32::from_ne_bytes(b) as f32)),
        Datatype::FixedPoint { size: 8, signed: true, .. } => {
            Some(each(bytes, |b| i64::from_ne_bytes(b) as f32))
        }
        Datatype::FixedPoint { size: 8, .. } => Some(each(bytes, |b| u64::from_ne_bytes(b) as f32)),
        _ => None,
    }
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        0 => f32::from_bits(sign | (fraction as f32 * 2.0_f32.powi(-24)).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}
