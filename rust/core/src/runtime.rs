//! Finds and loads TensorFlow once per process; until it has succeeded no TensorFlow call is reachable.

use crate::{Error, ErrorKind, Options, Result};

/// The TensorFlow library in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// TensorFlow's version, as `2.21.0`.
    pub version: String,
    /// The file that was loaded.
    pub library: std::path::PathBuf,
}

/// Loads TensorFlow, or returns what is loaded already. Options: see `rust/ARCHITECTURE.md`.
pub fn load(_options: &Options) -> Result<Runtime> {
    Err(Error::new(ErrorKind::TensorFlowUnavailable, "not built yet"))
}
