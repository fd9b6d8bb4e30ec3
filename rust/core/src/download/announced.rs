//! What a server says of a file's content: `x-goog-hash: crc32c=…, md5=…`, as Google Cloud Storage does, in base64.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use md5::{Digest, Md5};
use ureq::Body;
use ureq::http::Response;

use super::CHUNK;

/// A hash of the whole file, whatever part of it a response has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Announced {
    Md5(String),
    Crc32c(String),
}

impl Announced {
    /// The strongest that a response has.
    pub(super) fn of(response: &Response<Body>) -> Option<Announced> {
        // Of what is stored packed the hash is that of the packed bytes.
        let packed = response.headers().get("x-goog-stored-content-encoding");
        if packed.is_some_and(|encoding| encoding != "identity") {
            return None;
        }
        let headers = response.headers().get_all("x-goog-hash");
        let texts: Vec<&str> = headers.iter().filter_map(|header| header.to_str().ok()).collect();
        let find = |name: &str| {
            let mut pairs = texts.iter().flat_map(|text| text.split(',')).filter_map(|p| p.split_once('='));
            pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        find("md5").map(Announced::Md5).or_else(|| find("crc32c").map(Announced::Crc32c))
    }

    /// What a file's hash is where it is not the announced one.
    pub(super) fn difference(&self, path: &Path) -> std::io::Result<Option<String>> {
        let (name, expected, found) = match self {
            Announced::Md5(expected) => {
                let mut hash = Md5::new();
                each_chunk(path, |chunk| hash.update(chunk))?;
                ("md5", expected, base64(&hash.finalize()))
            }
            Announced::Crc32c(expected) => {
                let mut sum = !0;
                each_chunk(path, |chunk| sum = crc32c(sum, chunk))?;
                ("crc32c", expected, base64(&(!sum).to_be_bytes()))
            }
        };
        let differs = found != *expected;
        Ok(differs.then(|| format!("its {name} is {found}, not {expected}, which the server announces")))
    }
}

fn each_chunk(path: &Path, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            count => take(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// Castagnoli's polynomial, its bits turned.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut value, mut bit) = (byte as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    bytes.iter().fold(sum, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{base64, crc32c};

    #[test]
    fn hashes_are_those_of_the_standards() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        for (bytes, text) in [(&b"f"[..], "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes), text);
        }
    }
}
