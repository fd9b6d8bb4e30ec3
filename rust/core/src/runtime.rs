//! Finds and loads TensorFlow once per process; until it has succeeded no TensorFlow call is reachable.

#![allow(unsafe_code)]

mod search;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use once_cell::sync::OnceCell;

use crate::options::RuntimeOptions;
use crate::{Error, ErrorKind, Options, Result};

/// The TensorFlow library in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// TensorFlow's version, as `2.21.0`.
    pub version: String,
    /// The file that was loaded.
    pub library: PathBuf,
}

struct Loaded {
    runtime: Runtime,
    pid: u32,
}

static LOADED: OnceCell<Loaded> = OnceCell::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The variable that the `tensorflow` crate reads the library's folder from.
const FOLDER_VARIABLE: &str = "TENSORFLOW_DIR";
const OLDEST: (u32, u32) = (2, 16);

/// Loads TensorFlow, or returns what is loaded already. Options: see `rust/ARCHITECTURE.md`.
///
/// A failure is not kept: the next call tries again.
pub fn load(options: &Options) -> Result<Runtime> {
    let options = RuntimeOptions::parse(options)?;
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if LOADED.get().is_some() {
        let runtime = loaded()?;
        search::refuse_second_copy(&options, &runtime.library)?;
        return Ok(runtime.clone());
    }
    let library = search::find(&options)?;
    let version = open(&library)?;
    let runtime = Runtime { version, library };
    log::info!(
        "TensorFlow {} on {} processor threads, loaded from {}",
        runtime.version,
        std::thread::available_parallelism().map_or(1, usize::from),
        runtime.library.display()
    );
    Ok(LOADED.get_or_init(|| Loaded { runtime, pid: std::process::id() }).runtime.clone())
}

/// The library in use, or why there is none in this process.
pub(crate) fn loaded() -> Result<&'static Runtime> {
    let loaded = LOADED.get().ok_or_else(|| {
        Error::new(
            ErrorKind::TensorFlowUnavailable,
            "TensorFlow is not loaded in this process: call runtime::load before a model is opened.",
        )
    })?;
    if loaded.pid != std::process::id() {
        return Err(forked(loaded.pid));
    }
    Ok(&loaded.runtime)
}

/// TensorFlow's threads and locks do not survive a fork.
pub(crate) fn forked(pid: u32) -> Error {
    let here = std::process::id();
    Error::new(
        ErrorKind::Closed,
        format!(
            "TensorFlow was loaded in process {pid} and cannot be used in its fork {here}: open the model there."
        ),
    )
}

/// Opens the library by its real path, so that every other user of that file shares it, and hands it to the crate.
fn open(library: &Path) -> Result<String> {
    let folder = search::LinkFolder::new(library)?;
    let before = std::env::var_os(FOLDER_VARIABLE);
    // SAFETY: the process' environment is changed for the length of one dlopen, under LOADING; TensorFlow and the JVM
    // read theirs at their own start.
    unsafe { std::env::set_var(FOLDER_VARIABLE, folder.path()) };
    let outcome = tensorflow::library::load();
    // SAFETY: as above.
    unsafe {
        match before {
            Some(value) => std::env::set_var(FOLDER_VARIABLE, value),
            None => std::env::remove_var(FOLDER_VARIABLE),
        }
    }
    outcome
        .map_err(|why| unavailable(format!("TensorFlow at {} cannot be loaded: {why}", library.display())))?;
    let version =
        tensorflow::version().map_err(|e| unavailable("TensorFlow's version is not text").with_source(e))?;
    check_version(&version, library)?;
    Ok(version)
}

fn check_version(version: &str, library: &Path) -> Result<()> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found.0 == OLDEST.0 && found >= OLDEST {
        return Ok(());
    }
    Err(unavailable(format!(
        "TensorFlow {version} at {} cannot be used: 2.16 or a later 2.x is needed. Run: pip install -U tensorflow-cpu",
        library.display()
    )))
}

fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::TensorFlowUnavailable, message)
}
