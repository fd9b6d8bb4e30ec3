//! What an HDF5 file makes its reader read, counted: a few bytes that stand for many are noticed before they fill the memory.

use std::sync::{Mutex, PoisonError};

use hdf5_reader::error::{Error, Result};
use hdf5_reader::{BlockCacheStorage, Storage, StorageBuffer};

/// What groups, headers and attributes may need beside what the file has.
const STRUCTURE: u64 = 16 << 20;
/// Bytes of the names in groups.
const NAMES: usize = 24 << 20;
/// What the reader keeps of a name beside its letters, which it keeps twice.
const NAME: usize = 128;
/// A local heap's header: signature, version, size of its names, free list, where they are.
const HEAP: usize = 32;

/// Bytes of a file as the reader asks for them.
pub(super) struct Guard {
    inner: BlockCacheStorage,
    spent: Mutex<Spent>,
}

/// What was read so far.
#[derive(Default)]
struct Spent {
    in_array: bool,
    structure: u64,
    arrays: u64,
    names: usize,
    /// Size of the names of the group that is being read, their longest once that is known, and how many there are until then.
    heap: usize,
    longest: Option<usize>,
    waiting: usize,
}

impl Guard {
    pub(super) fn new(inner: BlockCacheStorage) -> Guard {
        Guard { inner, spent: Mutex::default() }
    }

    /// Whether what is read from now on is an array's values.
    pub(super) fn set_in_array(&self, in_array: bool) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).in_array = in_array;
    }
}

impl Storage for Guard {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_range(&self, offset: u64, length: usize) -> Result<StorageBuffer> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.count(length as u64, self.inner.len())?;
        let bytes = self.inner.read_range(offset, length)?;
        if !spent.in_array {
            spent.look_at(&bytes)?;
        }
        Ok(bytes)
    }
}

impl Spent {
    fn count(&mut self, length: u64, file: u64) -> Result<()> {
        let (count, most) = if self.in_array {
            (&mut self.arrays, file.saturating_mul(4).saturating_add(STRUCTURE))
        } else {
            (&mut self.structure, file.saturating_add(STRUCTURE))
        };
        *count = count.saturating_add(length);
        if *count > most {
            return Err(Error::ResourceLimit("the same bytes are read over and over".to_owned()));
        }
        Ok(())
    }

    /// Names of a group: symbols of 40 bytes each, which point into a heap where one long name may serve for all of them.
    fn look_at(&mut self, bytes: &[u8]) -> Result<()> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if bytes.starts_with(b"FRHP") {
            return Err(Error::UnsupportedEncoding("groups or attributes in a fractal heap".to_owned()));
        }
        if bytes.starts_with(b"HEAP") && bytes.len() == HEAP {
            self.heap = number(8).and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
            (self.longest, self.waiting) = (None, 0);
        } else if bytes.starts_with(b"SNOD") {
            self.waiting += bytes.len() / 40;
        } else if self.longest.is_none() && self.heap > 0 && bytes.len() == self.heap {
            self.longest = bytes.split(|byte| *byte == 0).map(<[u8]>::len).max();
        }
        if let Some(longest) = self.longest {
            let each = longest.saturating_mul(2).saturating_add(NAME);
            self.names = self.names.saturating_add(std::mem::take(&mut self.waiting).saturating_mul(each));
        }
        if self.names > NAMES {
            return Err(Error::ResourceLimit("its groups claim more names than it has room for".to_owned()));
        }
        Ok(())
    }
}
