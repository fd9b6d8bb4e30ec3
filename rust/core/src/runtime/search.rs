//! Where the TensorFlow library is looked for, in which order, and what to say when it is nowhere.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::options::RuntimeOptions;
use crate::{Error, ErrorKind, Result};

/// Names of the one library that holds the C API, the wheel's first.
const LIBRARY_NAMES: [&str; 4] =
    ["libtensorflow_cc.so.2", "libtensorflow_cc.so", "libtensorflow.so.2", "libtensorflow.so"];
const FRAMEWORK_NAMES: [&str; 2] = ["libtensorflow_framework.so.2", "libtensorflow_framework.so"];

/// Prints the folders of the package without importing it; the working folder does not count.
const FIND_PACKAGE: &str = "\
import sys, importlib.util
sys.path = [p for p in sys.path if p]
for name in ('tensorflow', 'tensorflow_cpu'):
    spec = importlib.util.find_spec(name)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        print('folder=' + folder)
";

/// The library to load: the one this process has mapped already, else the first found in the order of the options.
pub(super) fn find(options: &RuntimeOptions) -> Result<PathBuf> {
    if let Some(library) = mapped() {
        refuse_second_copy(options, &library)?;
        return Ok(library);
    }
    let mut looked = Vec::new();
    for place in places(options) {
        match place {
            Ok(library) => return Ok(library),
            Err(why) => looked.push(why),
        }
    }
    Err(missing(&looked))
}

/// A path that the user named must be the copy in use: one process can hold one TensorFlow.
pub(super) fn refuse_second_copy(options: &RuntimeOptions, in_use: &Path) -> Result<()> {
    if options.tensorflow_path.is_empty() {
        return Ok(());
    }
    let asked = at(&options.tensorflow_path)
        .map_err(|why| missing(&[format!("spark.sparkdl.tensorflow.path: {why}")]))?;
    let id = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino())).ok();
    if asked == in_use || (id(&asked).is_some() && id(&asked) == id(in_use)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TensorFlowUnavailable,
        format!(
            "This process uses TensorFlow from {} already, but spark.sparkdl.tensorflow.path asks for a second copy, {}. \
             One process can hold one TensorFlow: name the same file, or leave the setting out.",
            in_use.display(),
            asked.display()
        ),
    ))
}

/// Each place in order, looked at only when it is reached.
fn places(options: &RuntimeOptions) -> impl Iterator<Item = std::result::Result<PathBuf, String>> + '_ {
    let path = move || match options.tensorflow_path.as_str() {
        "" => Err("spark.sparkdl.tensorflow.path [SPARKDL_TENSORFLOW_PATH]: not set".to_owned()),
        path => at(path).map_err(|why| format!("spark.sparkdl.tensorflow.path: {why}")),
    };
    let classpath = move || match options.tensorflow_classpath.as_str() {
        "" => Err("class path: no jar with TensorFlow's libraries".to_owned()),
        path => at(path).map_err(|why| format!("class path: {why}")),
    };
    let python = move || match options.python.as_str() {
        "" => Err("Python package: no interpreter given (spark.sparkdl.python [SPARKDL_PYTHON])".to_owned()),
        python => python_package(python).map_err(|why| format!("Python package of {python}: {why}")),
    };
    let steps: [Box<dyn Fn() -> std::result::Result<PathBuf, String> + '_>; 3] =
        [Box::new(path), Box::new(classpath), Box::new(python)];
    steps.into_iter().map(|step| step())
}

fn missing(looked: &[String]) -> Error {
    let mut message = "TensorFlow was not found. Looked at:".to_owned();
    for (number, line) in looked.iter().enumerate() {
        message.push_str(&format!("\n  {}. {line}", number + 1));
    }
    message.push_str(
        "\nTo mend it, run: pip install tensorflow-cpu\n\
         or name the folder of libtensorflow_cc.so.2: --conf spark.sparkdl.tensorflow.path=/path/to/folder",
    );
    Error::new(ErrorKind::TensorFlowUnavailable, message)
}

/// The real path of the library at a file, in a folder, or in a `tensorflow` or `lib` folder inside it.
fn at(given: &str) -> std::result::Result<PathBuf, String> {
    let path = Path::new(given);
    let found = path.metadata().map_err(|e| format!("{given}: {e}"))?;
    if found.is_file() {
        return path.canonicalize().map_err(|e| format!("{given}: {e}"));
    }
    for folder in [path.to_owned(), path.join("tensorflow"), path.join("lib")] {
        for name in LIBRARY_NAMES {
            if let Ok(library) = folder.join(name).canonicalize() {
                return Ok(library);
            }
        }
    }
    Err(format!("{given}: no {} in this folder", LIBRARY_NAMES[0]))
}

fn python_package(python: &str) -> std::result::Result<PathBuf, String> {
    let output = Command::new(python)
        .args(["-c", FIND_PACKAGE])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("the interpreter does not start: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().last().unwrap_or_default().trim().to_owned();
        return Err(format!("the interpreter failed ({}): {last}", output.status));
    }
    let mut why = "no package tensorflow or tensorflow-cpu".to_owned();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Some(folder) = line.strip_prefix(b"folder=") else { continue };
        let folder = PathBuf::from(OsString::from_vec(folder.to_vec()));
        match at(&folder.to_string_lossy()) {
            Ok(library) => return Ok(library),
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

/// The TensorFlow that this process has loaded by other means, such as Python's `import tensorflow`.
pub(super) fn mapped() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').and_then(|start| line.get(start..)))
        .map(Path::new)
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("libtensorflow_cc.so") || name.starts_with("libtensorflow.so")
        })
        .map(Path::to_path_buf)
}

/// A private folder, gone when dropped, where the library has the one name the `tensorflow` crate looks for.
pub(super) struct LinkFolder {
    path: PathBuf,
    framework: Option<PathBuf>,
}

impl LinkFolder {
    pub(super) fn new(library: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::temp_dir();
        let name = format!("sparkdl-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        let failed = |e: std::io::Error| {
            Error::new(
                ErrorKind::Io,
                format!(
                    "Cannot make the folder of links {}: set TMPDIR (java.io.tmpdir) to a folder that can be written.",
                    path.display()
                ),
            )
            .with_source(e)
        };
        let _ = std::fs::remove_dir_all(&path);
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let mut folder = LinkFolder { path: path.clone(), framework: None };
        symlink(library, path.join("libtensorflow.so")).map_err(failed)?;
        for name in FRAMEWORK_NAMES {
            let framework = library.with_file_name(name);
            if framework.exists() {
                symlink(&framework, path.join(name)).map_err(failed)?;
                folder.framework.get_or_insert(framework);
            }
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The second library, where TensorFlow comes in two: logging lives there.
    pub(super) fn framework(&self) -> Option<&Path> {
        self.framework.as_deref()
    }
}

impl Drop for LinkFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
