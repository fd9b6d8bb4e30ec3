//! Every option that is missing, unknown, given twice or out of range is refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use sparkdl_core::{ErrorKind, Model, runtime};
use support::*;

fn refusal(options: &Pairs) -> String {
    let error = Model::open(options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    error.message().to_owned()
}

#[test]
fn every_missing_key_is_named() {
    let options = model_options(&tiny(), "topK");
    for (index, (key, _)) in options.iter().enumerate() {
        let mut fewer = options.clone();
        fewer.remove(index);
        assert_eq!(refusal(&fewer), format!("The option {key} is missing."));
    }
}

#[test]
fn unknown_and_doubled_keys_are_named() {
    let options = model_options(&tiny(), "topK");
    let mut doubled = options.clone();
    doubled.push(options[2].clone());
    assert_eq!(refusal(&doubled), "The option pooling was given twice.");
    let message = refusal(&with(options, "colour", "red"));
    assert!(message.starts_with("Unknown option colour. Known options: model, task,"), "{message}");
}

#[test]
fn every_bad_value_is_named_with_what_is_taken() {
    let cases = [
        ("model", "", "the path of a bundle file"),
        ("task", "Features", "features, predictions, topK, pictures, tensors, blocks, images"),
        ("topK", "0", "whole numbers from 1"),
        ("topK", "many", "whole numbers from 1"),
        ("resizeMode", "squash", "stretch, crop, pad"),
        ("maxPixels", "0", "whole numbers from 1"),
        ("applyExifOrientation", "yes", "true, false"),
        ("fastDecode", "", "true, false"),
        ("threads", "-1", "whole numbers from 0 to 4096"),
        ("threads", "100000", "whole numbers from 0 to 4096"),
    ];
    for (key, value, taken) in cases {
        let message = refusal(&with(model_options(&tiny(), "topK"), key, value));
        assert_eq!(message, format!("The option {key} cannot be {value:?}; it takes {taken}."));
    }
    let message = refusal(&with(model_options(&tiny(), "features"), "pooling", "sum"));
    assert_eq!(message, "The option pooling cannot be \"sum\"; it takes avg, max, none.");
    let message = refusal(&with(model_options(&tiny(), "features"), "scaleHint", "SCALE_BEST"));
    assert!(
        message.starts_with("The option scaleHint cannot be \"SCALE_BEST\"; it takes SCALE_AREA_"),
        "{message}"
    );
}

#[test]
fn no_model_opens_before_tensorflow_is_loaded() {
    let error = Model::open(&model_options(&tiny(), "features")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TensorFlowUnavailable);
    assert!(error.message().contains("call runtime::load before"), "{error}");
}

#[test]
fn a_missing_tensorflow_lists_every_place_and_the_remedy() {
    let folder = std::env::temp_dir();
    let mut options = runtime_options(folder.to_str().unwrap(), "/nowhere/python");
    options[1].1 = "/nowhere/unpacked".to_owned();
    let error = runtime::load(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TensorFlowUnavailable);
    let lines: Vec<&str> = error.message().lines().collect();
    assert_eq!(lines[0], "TensorFlow was not found. Looked at:");
    assert!(
        lines[1].contains("spark.sparkdl.tensorflow.path") && lines[1].contains("no libtensorflow_cc.so.2"),
        "{error}"
    );
    assert!(lines[2].contains("class path: /nowhere/unpacked: No such file"), "{error}");
    assert!(
        lines[3].contains("Python package of /nowhere/python: the interpreter does not start"),
        "{error}"
    );
    assert!(lines[4].contains("pip install tensorflow-cpu"), "{error}");
    assert!(lines[5].contains("--conf spark.sparkdl.tensorflow.path="), "{error}");
}

#[test]
fn a_file_that_is_no_library_is_named() {
    let error = runtime::load(&runtime_options(&tiny(), "")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TensorFlowUnavailable);
    assert!(error.message().contains("tiny.sparkdl cannot be loaded"), "{error}");
}
