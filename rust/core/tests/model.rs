//! Opening and running the tiny bundle with the real TensorFlow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use sparkdl_core::Model;
use support::*;

#[test]
fn a_batch_comes_back_with_as_many_rows() {
    let runtime = load_tensorflow();
    assert!(runtime.version.starts_with("2."), "{runtime:?}");
    let model = Model::open(&model_options(&tiny(), "predictions")).unwrap();
    let back = model.run(&files(&[Some(b"no picture"), None])).unwrap();
    assert_eq!((back.num_rows(), back.num_columns()), (2, 2));
    assert_eq!(back.column(0).null_count(), 2);
    assert_eq!(model.metrics().invalid_rows, 2);
}
