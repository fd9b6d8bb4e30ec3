//! Writes a bundle.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::hex;
use crate::{Error, ErrorKind, Result};

/// Writes the graph that `graph` gives and then the manifest, which gets the graph's digest; whole or not at all.
pub(crate) fn write(
    target: &Path,
    mut manifest: Value,
    graph: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let (file, temporary) = create_beside(target)?;
    let write = || -> std::io::Result<()> {
        let mut zip = ZipWriter::new(BufWriter::new(file));
        let stored = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default());
        zip.start_file("graph.pb", stored)?;
        let mut hashed = Hashed { into: &mut zip, hash: Sha256::new() };
        graph(&mut hashed)?;
        let digest = hex(&hashed.hash.finalize());
        if let Some(member) = manifest.pointer_mut("/graph/sha256") {
            *member = Value::String(digest);
        }
        zip.start_file("manifest.json", stored)?;
        zip.write_all(serde_json::to_string_pretty(&manifest)?.as_bytes())?;
        zip.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, target)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        unwritable(target, e)
    })
}

/// A new file beside `target`, under a name that nobody else takes: processes of two containers may share folder and number.
pub(crate) fn create_beside(target: &Path) -> Result<(File, PathBuf)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let random = RandomState::new().build_hasher().finish();
    let path = target.with_file_name(format!(".{name}.{random:016x}"));
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    file.map(|file| (file, path)).map_err(|e| unwritable(target, e))
}

fn unwritable(target: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("Cannot write the bundle {}.", target.display())).with_source(cause)
}

/// Hashes what passes.
struct Hashed<'a, W: Write + Seek> {
    into: &'a mut ZipWriter<W>,
    hash: Sha256,
}

impl<W: Write + Seek> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.into.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.into.flush()
    }
}
