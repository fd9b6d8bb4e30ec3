//! Finds and loads TensorFlow once per process; until it has succeeded no TensorFlow call is reachable.

#![allow(unsafe_code)]

mod search;

use std::ffi::{CStr, c_char, c_int};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libloading::{Library, Symbol};
use once_cell::sync::OnceCell;

use crate::options::RuntimeOptions;
use crate::{Error, ErrorKind, Options, Result, session};

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

/// Whether TensorFlow uses oneDNN. On x86-64 it does so by itself on some processors alone.
const ONEDNN_VARIABLE: &str = "TF_ENABLE_ONEDNN_OPTS";

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

/// What runs use here: `CPU`, or accelerators, as `GPU` or `2 GPU`. TensorFlow must be loaded.
pub fn device() -> Result<&'static str> {
    loaded().map(|_| session::device())
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
    if search::mapped().is_some() {
        // Somebody else's TensorFlow: how it logs is theirs to say.
        return open_quietly(library, &folder, false);
    }
    if cfg!(target_arch = "x86_64") && std::env::var_os(ONEDNN_VARIABLE).is_none() {
        // Without it TensorFlow fuses grouped convolutions with what follows and then has no kernel for them
        // ("Fused conv implementation does not support grouped convolutions": ConvNeXt).
        // SAFETY: nothing of TensorFlow, which alone reads this variable, is in the process yet.
        unsafe { std::env::set_var(ONEDNN_VARIABLE, "1") };
    }
    let quiet = !std::env::var("TF_CPP_MIN_LOG_LEVEL").is_ok_and(|level| level == "0" || level == "1");
    let capture = if quiet { Capture::begin(folder.path()) } else { None };
    let outcome = open_quietly(library, &folder, quiet);
    if let Some(capture) = capture {
        capture.end();
    }
    outcome
}

fn open_quietly(library: &Path, folder: &search::LinkFolder, quiet: bool) -> Result<String> {
    let framework = dlopen(folder.framework().unwrap_or(library))?;
    if quiet {
        lower_log_level(framework);
    }
    let version = {
        let opened = dlopen(library)?;
        // SAFETY: TensorFlow's C API declares `const char* TF_Version(void)`, a constant of the library.
        unsafe {
            let version: Symbol<unsafe extern "C" fn() -> *const c_char> =
                opened.get(b"TF_Version\0").map_err(|e| {
                    unavailable(format!("{} is not TensorFlow", library.display())).with_source(e)
                })?;
            CStr::from_ptr(version()).to_string_lossy().into_owned()
        }
    };
    check_version(&version, library)?;
    hand_over(library, folder)?;
    Ok(version)
}

/// Opens a library for good: closing one of TensorFlow's two and opening it again ends the process.
fn dlopen(path: &Path) -> Result<&'static Library> {
    // SAFETY: the initialisers that run are TensorFlow's own; the file was named by the user or by their Python.
    let opened = unsafe { Library::new(path) }.map_err(|e| {
        let text = format!(
            "TensorFlow at {} cannot be loaded: check that it was built for this machine, or run: \
             pip install --force-reinstall tensorflow-cpu",
            path.display()
        );
        unavailable(text).with_source(e)
    })?;
    Ok(Box::leak(Box::new(opened)))
}

/// Makes the `tensorflow` crate use the library: its finder takes one file name, from one variable.
fn hand_over(library: &Path, folder: &search::LinkFolder) -> Result<()> {
    let before = std::env::var_os(FOLDER_VARIABLE);
    // SAFETY: the process' environment is changed for the length of one dlopen of a library that is open already,
    // under LOADING.
    unsafe { std::env::set_var(FOLDER_VARIABLE, folder.path()) };
    let outcome = tensorflow::library::load();
    // SAFETY: as above.
    unsafe {
        match before {
            Some(value) => std::env::set_var(FOLDER_VARIABLE, value),
            None => std::env::remove_var(FOLDER_VARIABLE),
        }
    }
    outcome.map_err(|why| unavailable(format!("TensorFlow at {} cannot be loaded: {why}", library.display())))
}

/// Errors only, through absl's own switch; its C++ name carries absl's version, and where none fits, nothing changes.
fn lower_log_level(framework: &Library) {
    const ERROR: i32 = 2;
    for release in ["20250814", "20250512", "20250127", "20240722", "20240116", "20230802"] {
        let name = format!("_ZN4absl12lts_{release}14SetMinLogLevelENS0_18LogSeverityAtLeastE\0");
        // SAFETY: absl declares `void SetMinLogLevel(absl::LogSeverityAtLeast)`, an enum of type int.
        unsafe {
            if let Ok(set) = framework.get::<unsafe extern "C" fn(i32)>(name.as_bytes()) {
                return set(ERROR);
            }
        }
    }
}

/// Asks the C library to give memory that is free back to the system.
pub(crate) fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> c_int;
        }
        // SAFETY: glibc's function may be called at any time, from any thread.
        unsafe { malloc_trim(0) };
    }
}

unsafe extern "C" {
    fn dup2(from: c_int, to: c_int) -> c_int;
}

/// The process' stderr in a file while TensorFlow's initialisers run: they print a banner before any switch can be
/// reached. What is not TensorFlow's is printed afterwards.
struct Capture {
    stderr: OwnedFd,
    file: File,
}

impl Capture {
    const STDERR: c_int = 2;

    fn begin(folder: &Path) -> Option<Capture> {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().ok()?;
        let path = folder.join("stderr");
        let file = File::options().read(true).append(true).create_new(true).open(path).ok()?;
        // SAFETY: both descriptors are open; dup2 replaces stderr in one step.
        (unsafe { dup2(file.as_raw_fd(), Self::STDERR) } >= 0).then_some(Capture { stderr, file })
    }

    fn end(mut self) {
        // SAFETY: as above.
        unsafe { dup2(self.stderr.as_raw_fd(), Self::STDERR) };
        let mut text = Vec::new();
        let _ = self.file.rewind();
        let _ = self.file.read_to_end(&mut text);
        for line in String::from_utf8_lossy(&text).split_inclusive('\n') {
            if line.contains("absl::InitializeLog()") || line.contains("oneDNN custom operations") {
                log::debug!("TensorFlow: {}", line.trim_end());
            } else {
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
    }
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
