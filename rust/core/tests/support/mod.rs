//! What the tests of the public surface share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

pub type Pairs = Vec<(String, String)>;

/// Loads the TensorFlow of the project's Python.
pub fn load_tensorflow() -> sparkdl_core::runtime::Runtime {
    sparkdl_core::runtime::load(&runtime_options("", &python())).unwrap_or_else(|e| panic!("{}", e.report()))
}

pub fn python() -> String {
    ["SPARKDL_PYTHON", "PYO3_PYTHON", "PYSPARK_PYTHON"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "python3".to_owned())
}

pub fn runtime_options(path: &str, python: &str) -> Pairs {
    pairs(&[("tensorflowPath", path), ("tensorflowClasspath", ""), ("python", python)])
}

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

pub fn tiny() -> String {
    fixture("bundles/tiny.sparkdl").to_str().unwrap().to_owned()
}

/// Options of `Model::open` at the stages' defaults.
pub fn model_options(model: &str, task: &str) -> Pairs {
    pairs(&[
        ("model", model),
        ("task", task),
        ("pooling", "avg"),
        ("topK", "3"),
        ("labels", ""),
        ("scaleHint", "SCALE_AREA_AVERAGING"),
        ("resizeMode", "stretch"),
        ("maxPixels", "89478485"),
        ("applyExifOrientation", "false"),
        ("fastDecode", "false"),
        ("threads", "0"),
    ])
}

pub fn with(mut options: Pairs, key: &str, value: &str) -> Pairs {
    match options.iter_mut().find(|(name, _)| name == key) {
        Some(pair) => pair.1 = value.to_owned(),
        None => options.push((key.to_owned(), value.to_owned())),
    }
    options
}

pub fn pairs(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A batch of encoded files.
pub fn files(files: &[Option<&[u8]>]) -> RecordBatch {
    let column: ArrayRef = Arc::new(BinaryArray::from(files.to_vec()));
    let schema = Schema::new(vec![Field::new("content", DataType::Binary, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap()
}
