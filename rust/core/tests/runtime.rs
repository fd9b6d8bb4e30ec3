//! One TensorFlow for the process: found, loaded once, never twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use sparkdl_core::{ErrorKind, runtime};
use support::*;

#[test]
fn the_first_failure_is_not_kept_and_a_second_copy_is_refused() {
    assert!(runtime::load(&runtime_options("/nowhere", "")).is_err());
    let loaded: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(load_tensorflow)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let first = &loaded[0];
    assert!(loaded.iter().all(|other| other == first));
    assert!(first.library.is_absolute() && first.library.is_file(), "{first:?}");
    assert!(first.version.starts_with("2."), "{first:?}");

    // The same file by another name is no second copy.
    let folder = std::env::temp_dir().join(format!("sparkdl-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let link = folder.join("libtensorflow_cc.so.2");
    std::os::unix::fs::symlink(&first.library, &link).unwrap();
    assert_eq!(&runtime::load(&runtime_options(folder.to_str().unwrap(), "")).unwrap(), first);

    std::fs::remove_file(&link).unwrap();
    std::fs::write(&link, b"another library").unwrap();
    let error = runtime::load(&runtime_options(folder.to_str().unwrap(), "")).unwrap_err();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(error.kind(), ErrorKind::TensorFlowUnavailable);
    assert!(error.message().contains("asks for a second copy"), "{error}");
    assert!(error.message().contains(first.library.to_str().unwrap()), "{error}");
    assert!(std::env::var_os("TENSORFLOW_DIR").is_none(), "the environment must be as before");
}
