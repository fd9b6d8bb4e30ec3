//! What the tests of the public surface share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray, StructArray};
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

/// BGR levels of one 32 × 24 picture, by the rule that `expected_tiny.py` uses too.
pub fn picture(seed: usize) -> Vec<u8> {
    (0..32 * 24 * 3)
        .map(|i| ((i * (seed * 13 + 7) + (i * i / 97) * (seed + 1) + seed * 41) % 256) as u8)
        .collect()
}

/// A batch of Spark's image structs of 32 × 24 levels.
pub fn structs(pictures: &[Vec<u8>]) -> RecordBatch {
    let number = |value: i32| Arc::new(Int32Array::from(vec![value; pictures.len()])) as ArrayRef;
    let origin = Arc::new(StringArray::from(vec!["test"; pictures.len()])) as ArrayRef;
    let data = Arc::new(BinaryArray::from_iter_values(pictures)) as ArrayRef;
    let field = |name: &str, column: &ArrayRef| Arc::new(Field::new(name, column.data_type().clone(), true));
    let columns = [
        ("origin", origin),
        ("height", number(32)),
        ("width", number(24)),
        ("nChannels", number(3)),
        ("mode", number(16)),
        ("data", data),
    ];
    let pairs: Vec<_> = columns.into_iter().map(|(name, column)| (field(name, &column), column)).collect();
    let column: ArrayRef = Arc::new(StructArray::from(pairs));
    RecordBatch::try_from_iter([("image", column)]).unwrap()
}

/// What TensorFlow itself answers for `picture(0..4)`: see `tests/fixtures/expected_tiny.py`.
pub fn expected() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(fixture("bundles/tiny_expected.json")).unwrap()).unwrap()
}

pub fn numbers(values: &serde_json::Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}
