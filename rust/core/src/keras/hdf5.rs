//! HDF5 files within bounds: the attributes and arrays that they hold themselves, never what lies outside of them.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hdf5_reader::global_heap::GlobalHeapCollection;
use hdf5_reader::group::Group;
use hdf5_reader::messages::attribute::AttributeMessage;
use hdf5_reader::{
    BlockCacheStorage, Dataset, Datatype, Hdf5File, OpenOptions, RangeRequestStorage, SliceInfo,
    SliceInfoElem, StringSize, VarLenKind,
};

use super::guard::Guard;
use super::refused;
use crate::{Error, ErrorKind, Result};

/// All strings of one attribute; `model_config` of the largest network has 2 MB.
pub(super) const MAX_TEXT: usize = 8 << 20;
/// HDF5 itself keeps an attribute below 64 KiB; a header has those of one group.
const MAX_HEADER: usize = 2 << 20;
const MAX_STRINGS: usize = 1 << 16;
const MAX_RANK: usize = 8;
/// Decoded chunks of a file smaller than this.
const MAX_CHUNK: usize = 16 << 20;
/// Deflate shrinks by 1,000 at most; weights do not shrink by 16.
const MAX_RATIO: u64 = 16;
/// Arrays of a few values may take more than the file that they come from.
const SMALL: u64 = 1 << 20;
/// What is kept of a file between reads: enough for its structure; each array is read once.
const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 32;
/// An array is read in pieces of about this many values: the reader has each in memory twice.
const PIECE: u64 = 1 << 20;

/// Values of a variable in the order of memory, with their shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Arc<Vec<f32>>,
}

/// An open HDF5 file, or one inside of another file.
pub(super) struct Hdf5 {
    file: Hdf5File,
    guard: Arc<Guard>,
    shown: String,
    /// Of the file on disk.
    bytes: u64,
    /// Bytes of the arrays that were read: as they are stored, and of those that are packed.
    plain: Cell<u64>,
    packed: Cell<u64>,
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
        let guard = Arc::new(Guard::new(BlockCacheStorage::new(storage, BLOCK, BLOCKS)));
        let chunk = usize::try_from(length).unwrap_or(usize::MAX).max(MAX_CHUNK);
        // Neither external files nor external links are followed unless a resolver is given.
        let bounds = OpenOptions::default()
            .with_chunk_cache_bytes(0)
            .with_max_chunk_bytes(chunk)
            .with_max_object_header_bytes(MAX_HEADER);
        let file = Hdf5File::from_storage_with_options(guard.clone(), bounds)
            .map_err(|e| refused(shown, "it is not a readable HDF5 file").with_source(e))?;
        let (plain, packed) = (Cell::new(0), Cell::new(0));
        Ok(Hdf5 { file, guard, shown: shown.to_owned(), bytes: length, plain, packed })
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn size(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
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
        let what = format!("its attribute {name}");
        // What the reader makes of references to long texts is not bounded: they are followed here.
        let attributes = group.raw_attributes().map_err(|e| self.broken(&what, e))?;
        let attributes: HashMap<&str, &AttributeMessage> =
            attributes.iter().map(|attribute| (attribute.name(), attribute.message())).collect();
        let mut texts = Texts::default();
        if let Some(whole) = attributes.get(name) {
            self.add(whole, &mut texts).map_err(|e| self.broken(&what, e))?;
            return Ok(Some(texts.found));
        }
        let parts = (0..).map_while(|number| attributes.get(format!("{name}{number}").as_str()));
        let mut any = false;
        for part in parts {
            self.add(part, &mut texts).map_err(|e| self.broken(&what, e))?;
            any = true;
        }
        Ok(any.then_some(texts.found))
    }

    fn add(&self, attribute: &AttributeMessage, to: &mut Texts) -> hdf5_reader::error::Result<()> {
        let count = usize::try_from(attribute.dataspace.num_elements()?).unwrap_or(usize::MAX);
        let values = &attribute.raw_data;
        match &attribute.datatype {
            // h5py writes an empty list as an array of floats.
            _ if count == 0 => Ok(()),
            Datatype::String { size: StringSize::Fixed(size), .. } if *size > 0 => {
                values.chunks_exact(*size as usize).take(count).try_for_each(|text| to.add(text))
            }
            Datatype::String { size: StringSize::Variable, .. }
            | Datatype::VarLen { kind: VarLenKind::String, .. } => self.follow(values, count, to),
            other => {
                let expected = "strings".to_owned();
                Err(hdf5_reader::error::Error::TypeMismatch { expected, actual: format!("{other:?}") })
            }
        }
    }

    /// References to texts elsewhere in the file: length, address of a heap, number of the text in it.
    fn follow(&self, references: &[u8], count: usize, to: &mut Texts) -> hdf5_reader::error::Result<()> {
        let sizes = self.file.superblock();
        let (offset, length) = (sizes.offset_size, sizes.length_size);
        let mut heap: Option<(u64, GlobalHeapCollection)> = None;
        for reference in references.chunks_exact(8 + usize::from(offset)).take(count) {
            let mut cursor = hdf5_reader::io::Cursor::new(reference);
            cursor.skip(4)?;
            let (address, index) = (cursor.read_offset(offset)?, cursor.read_u32_le()?);
            if index == 0 {
                to.add(&[])?;
                continue;
            }
            let known = match heap.take().filter(|known| known.0 == address) {
                Some(known) => known.1,
                None => GlobalHeapCollection::parse_at_storage(self.file.storage(), address, offset, length)?,
            };
            let text = u16::try_from(index).ok().and_then(|index| known.get_object(index));
            let text = text.ok_or(hdf5_reader::error::Error::OffsetOutOfBounds(address))?;
            to.add(&text.data)?;
            heap = Some((address, known));
        }
        Ok(())
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
        let values = values.filter(|values| shape.len() <= MAX_RANK && self.has_room(&dataset, *values));
        let values = values.ok_or_else(|| {
            let bytes = self.bytes;
            refused(
                &self.shown,
                &format!("{} claims the shape {shape:?}, more than its {bytes} bytes have room for", what()),
            )
        })?;
        self.guard.set_in_array(true);
        let found = values_of(&dataset, values);
        self.guard.set_in_array(false);
        let floats = found.map_err(|e| self.broken(&what(), e))?;
        let floats = floats.filter(|floats| floats.len() == values).ok_or_else(|| {
            refused(&self.shown, &format!("{} holds {:?}, not numbers", what(), dataset.dtype()))
        })?;
        Ok(Some(Array { shape, values: Arc::new(floats) }))
    }

    /// Whether an array of so many values may come from this file, beside those that it gave already: no more bytes than
    /// it has, or some times that where they are packed.
    fn has_room(&self, dataset: &Dataset, values: usize) -> bool {
        let packed = dataset.chunks().is_some();
        let Ok(size) = hdf5_reader::dtype_element_size(dataset.dtype()) else { return false };
        let (sum, most) = match packed {
            true => (&self.packed, self.bytes.saturating_mul(MAX_RATIO)),
            false => (&self.plain, self.bytes),
        };
        let bytes = (size as u64).checked_mul(values as u64);
        let bytes = bytes.and_then(|bytes| bytes.checked_add(sum.get()));
        let fits = bytes.filter(|bytes| *bytes <= most.max(SMALL));
        fits.inspect(|bytes| sum.set(*bytes)).is_some()
    }

    fn broken(&self, what: &str, cause: hdf5_reader::error::Error) -> Error {
        Error::new(ErrorKind::InvalidModel, format!("Cannot read {}: {what} is damaged.", self.shown))
            .with_source(cause)
    }
}

/// Strings within bounds.
#[derive(Default)]
struct Texts {
    found: Vec<String>,
    bytes: usize,
}

impl Texts {
    /// One more, which ends where a NUL is.
    fn add(&mut self, text: &[u8]) -> hdf5_reader::error::Result<()> {
        use hdf5_reader::error::Error as E;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        self.bytes += text.len();
        if self.bytes > MAX_TEXT || self.found.len() >= MAX_STRINGS {
            let limits = format!("at most {MAX_TEXT} bytes in {MAX_STRINGS} strings are read");
            return Err(E::ResourceLimit(limits));
        }
        let text = str::from_utf8(text).map_err(|e| E::InvalidData(e.to_string()))?;
        self.found.push(text.to_owned());
        Ok(())
    }
}

/// All values as float32; `None` where they are no numbers.
fn values_of(dataset: &Dataset, values: usize) -> hdf5_reader::error::Result<Option<Vec<f32>>> {
    if !matches!(dataset.dtype(), Datatype::FloatingPoint { size: 4, .. }) {
        return Ok(floats(dataset.dtype(), &dataset.read_native_bytes()?));
    }
    // The usual case, without a copy of all of its bytes beside it.
    let mut floats = vec![0.0_f32; values];
    let sides = dataset.shape();
    let axis = sides.iter().position(|side| *side > 1).unwrap_or(0);
    let row: u64 = sides.iter().skip(axis + 1).product();
    if dataset.chunks().is_some() || values as u64 <= PIECE {
        dataset.read_into(&mut floats)?;
        return Ok(Some(floats));
    }
    let rows = (PIECE / row.max(1)).max(1);
    let mut selection = SliceInfo::all(sides.len());
    for (piece, into) in floats.chunks_mut(usize::try_from(rows * row).unwrap_or(usize::MAX)).enumerate() {
        let start = piece as u64 * rows;
        let end = sides.get(axis).map_or(0, |side| (start + rows).min(*side));
        if let Some(rows) = selection.selections.get_mut(axis) {
            *rows = SliceInfoElem::Slice { start, end, step: 1 };
        }
        let found = dataset.read_slice::<f32>(&selection)?;
        into.iter_mut().zip(&found).for_each(|(into, value)| *into = *value);
    }
    Ok(Some(floats))
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
