//! The zip file around a bundle, read within bounds: nothing is ever written, nothing larger than stated is allocated.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive};

use super::damaged;
use crate::{Error, ErrorKind, Result};

/// Protocol buffers end at 2 GiB.
pub(super) const MAX_GRAPH_BYTES: u64 = i32::MAX as u64;
const MAX_MEMBERS: usize = 64;
/// Uncompressed bytes for each compressed one: weights do not shrink like this, bombs do.
const MAX_RATIO: u64 = 100;

pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    shown: String,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let file = open_file(path)?;
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|e| damaged(&shown, "it is not a readable zip file").with_source(e))?;
        let mut archive = Archive { zip, shown };
        check_members(&mut archive.zip, &|what| damaged(&archive.shown, what))?;
        Ok(archive)
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// One whole member; zip's own checksum is verified on the way.
    pub(super) fn member(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let shown = self.shown.as_str();
        let mut member = self
            .zip
            .by_name(name)
            .map_err(|e| damaged(shown, &format!("it has no readable {name}")).with_source(e))?;
        let size = member.size();
        if size > most {
            return Err(damaged(shown, &format!("its {name} has {size} bytes, at most {most} are read")));
        }
        let capacity = usize::try_from(size).map_err(|e| damaged(shown, "it is too large").with_source(e))?;
        let mut bytes = Vec::with_capacity(capacity);
        member
            .by_ref()
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| damaged(shown, &format!("its {name} cannot be read")).with_source(e))?;
        if bytes.len() as u64 != size {
            let found = bytes.len();
            return Err(damaged(shown, &format!("its {name} has {found} bytes instead of {size}")));
        }
        Ok(bytes)
    }
}

/// Refuses members that no honest writer makes: doubled or outside names, links, encryption, bombs. `wrong` makes the
/// error of what is wrong with the file.
pub(crate) fn check_members(
    zip: &mut ZipArchive<BufReader<File>>,
    wrong: &dyn Fn(&str) -> Error,
) -> Result<()> {
    if zip.has_duplicate_names() {
        return Err(wrong("it has two members of one name"));
    }
    if zip.len() > MAX_MEMBERS {
        return Err(wrong(&format!("it has {} members, at most {MAX_MEMBERS}", zip.len())));
    }
    for index in 0..zip.len() {
        let member = zip
            .by_index_raw(index)
            .map_err(|e| wrong(&format!("its member {index} cannot be read")).with_source(e))?;
        let name = member.name().map_err(|e| wrong("a member's name is not text").with_source(e))?;
        let inside = member.enclosed_name().is_some_and(|path| path.as_os_str() == name.as_ref());
        if !inside || name.contains('\\') || member.is_symlink() {
            return Err(wrong(&format!("its member {name:?} is not a plain file inside it")));
        }
        if member.encrypted() {
            return Err(wrong(&format!("its member {name} is encrypted")));
        }
        if member.compression() == CompressionMethod::Stored && member.size() != member.compressed_size() {
            let (size, stored) = (member.size(), member.compressed_size());
            return Err(wrong(&format!("its member {name} claims {size} bytes, but {stored} are stored")));
        }
        if member.size() / MAX_RATIO > member.compressed_size() {
            let (size, compressed) = (member.size(), member.compressed_size());
            return Err(wrong(&format!(
                "its member {name} claims {size} bytes from {compressed}, more than {MAX_RATIO} to 1"
            )));
        }
    }
    Ok(())
}

/// SHA-256 of a whole file, in lower-case hex.
pub(crate) fn digest_of(path: &Path) -> Result<String> {
    let mut file = open_file(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable("bundle", path, e)),
        }
    }
}

pub(crate) fn hex_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open_file(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(|e| unreadable("bundle", path, e))?;
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(damaged(
            &path.display().to_string(),
            "it is a folder; a bundle is one file that ends in .sparkdl",
        ));
    }
    Ok(file)
}

/// An error about a file that cannot be opened or read; `what` it should be.
pub(crate) fn unreadable(what: &str, path: &Path, cause: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("Cannot read the {what} {}: check that the file is there and readable.", path.display()),
    )
    .with_source(cause)
}
