//! The boundary as Java sees it, in a real JVM under `-Xcheck:jni`.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod jvm;

use std::process::Command;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use jni::objects::JByteArray;
use jni::sys::jint;
use jni::{JValue, JavaVM, jni_sig, jni_str};
use sparkdl_core::ErrorKind;

use jvm::{jvm, outcome};

/// The smallest picture there is: one red point, as BMP.
const RED: &[u8] = &[
    b'B', b'M', 58, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 24, 0, 0, 0,
    0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0,
];

macro_rules! need_jvm {
    () => {
        match jvm() {
            Ok(vm) => vm,
            Err(reason) => {
                eprintln!("{reason}");
                return;
            }
        }
    };
}

#[test]
fn every_kind_arrives_as_its_exception_with_its_words_and_cause() {
    let vm = need_jvm!();
    for kind in ErrorKind::ALL {
        let argument =
            [ErrorKind::InvalidArgument, ErrorKind::InvalidModel, ErrorKind::InvalidBatch].contains(kind);
        let class = if argument { "SparkDLArgumentException" } else { "SparkDLException" };
        let (name, condition, state) = (kind.name(), kind.condition(), kind.sql_state());
        assert_eq!(
            outcome(vm, "fail", name),
            format!("{class} {name} {condition} {state}: the words of {name}: the cause")
        );
    }
}

#[test]
fn a_panic_becomes_an_internal_error_with_its_place_and_the_jvm_goes_on() {
    let vm = need_jvm!();
    for text in ["out of cheese", "with ünicode 🦀"] {
        let seen = outcome(vm, "panic", text);
        let head = format!(
            "SparkDLException Internal SPARKDL_INTERNAL XX000: a defect in the native library: {text} at "
        );
        assert!(seen.starts_with(&head), "{seen}");
        assert!(seen.contains("tests/jvm/mod.rs:"), "{seen}");
        assert_eq!(outcome(vm, "version", ""), format!("returned {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_java_exception_that_is_pending_is_kept() {
    let vm = need_jvm!();
    assert_eq!(outcome(vm, "failWhilePending", ""), "UnsupportedOperationException: the first exception");
}

#[test]
fn a_number_that_was_closed_or_never_given_is_an_error_and_closing_again_is_none() {
    let vm = need_jvm!();
    let closed = "SparkDLException Closed SPARKDL_CLOSED 55000: This";
    for call in ["metrics", "cancelModel"] {
        assert_eq!(
            outcome(vm, call, "4711"),
            format!("{closed} model (number 4711) was closed: open it again.")
        );
    }
    assert_eq!(
        outcome(vm, "resultBuffer", "-1"),
        format!("{closed} result (number -1) was closed: open it again.")
    );
    for call in ["closeModel", "closeModel", "releaseResult", "releaseResult"] {
        assert_eq!(outcome(vm, call, "4711"), "returned ");
    }
}

#[test]
fn arguments_that_java_gets_wrong_are_refused_by_name() {
    let vm = need_jvm!();
    let argument = "SparkDLArgumentException InvalidArgument SPARKDL_INVALID_ARGUMENT 22023: ";
    let batch = "SparkDLArgumentException InvalidBatch SPARKDL_INVALID_BATCH 42K09: ";
    let cases = [
        (
            "openModel",
            "model",
            format!("{argument}options come in pairs of key and value, but 1 strings were given"),
        ),
        ("decodeNull", "", format!("{batch}null was given where a direct buffer is needed")),
        (
            "decodeHeapBuffer",
            "",
            format!("{batch}the batch is not in a direct buffer, or its length is negative"),
        ),
        (
            "decodeDirectBuffer",
            "-1",
            format!("{batch}the batch is not in a direct buffer, or its length is negative"),
        ),
        ("decodeDirectBuffer", "9", format!("{batch}a batch of 9 bytes cannot lie in a buffer of 8")),
        ("decodeDirectBuffer", "0", format!("{batch}the buffer holds no complete Arrow batch")),
    ];
    for (call, given, expected) in cases {
        assert_eq!(outcome(vm, call, given), expected);
    }
    let level = outcome(vm, "startLogging", "loud");
    assert!(level.starts_with(&format!("{argument}\"loud\" is no log level: take error, warn,")), "{level}");
}

#[test]
fn a_batch_goes_in_and_comes_out_with_a_reason_for_the_bad_row() {
    let vm = need_jvm!();
    let column: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(RED), Some(b"no picture"), None]));
    let given = RecordBatch::try_from_iter_with_nullable([("picture", column, true)]).unwrap();
    let result = decode(vm, &given);
    assert_eq!(result.num_rows(), 3);
    let image = result.column_by_name("image").unwrap();
    let image: &StructArray = image.as_any().downcast_ref().unwrap();
    let data: &BinaryArray = image.column_by_name("data").unwrap().as_any().downcast_ref().unwrap();
    assert_eq!(data.value(0), [0, 0, 255].repeat(16));
    let error: &StringArray = result.column_by_name("error").unwrap().as_any().downcast_ref().unwrap();
    assert!(error.is_null(0) && error.is_valid(1) && error.is_valid(2));
    assert_eq!(outcome(vm, "liveHandles", ""), "returned [0, 0]");
}

#[test]
fn checked_jni_finds_nothing() {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let output = tests.args(["--skip", "checked_jni", "--nocapture", "--test-threads=2"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("in native method"), "{text}");
}

fn decode(vm: &JavaVM, batch: &RecordBatch) -> RecordBatch {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    let mut bytes = writer.into_inner().unwrap();
    let copy = vm
        .attach_current_thread(|env| -> jni::errors::Result<Vec<u8>> {
            // SAFETY: the bytes outlive the call, and Java forgets the buffer.
            let buffer = unsafe { env.new_direct_byte_buffer(bytes.as_mut_ptr(), bytes.len()) }?;
            let faults = env.find_class(jni_str!("sparkdl/ffi/Faults"))?;
            let length = jint::try_from(bytes.len()).unwrap();
            let copy = env
                .call_static_method(
                    faults,
                    jni_str!("decode"),
                    jni_sig!((java.nio.ByteBuffer, jint) -> [jbyte]),
                    &[JValue::Object(&buffer), JValue::Int(length)],
                )?
                .l()?;
            let copy = env.cast_local::<JByteArray>(copy)?;
            env.convert_byte_array(copy)
        })
        .unwrap();
    StreamReader::try_new(copy.as_slice(), None).unwrap().next().unwrap().unwrap()
}
