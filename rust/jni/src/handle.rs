//! What the JVM holds: a number that stands for an `Arc` of ours.
//!
//! The number is looked up at every call and never a pointer, so a number that was closed is an error and not a crash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jni::sys::jlong;
use once_cell::sync::Lazy;
use sparkdl_core::{Error, ErrorKind, Model, Result};

/// The models that Java has open.
pub(crate) static MODELS: Lazy<Handles<Model>> = Lazy::new(|| Handles::new("model"));

/// The results that Java has not released.
pub(crate) static RESULTS: Lazy<Handles<Vec<u8>>> = Lazy::new(|| Handles::new("result"));

/// The open handles of one type.
pub(crate) struct Handles<T> {
    what: &'static str,
    open: Mutex<Open<T>>,
}

struct Open<T> {
    last: jlong,
    values: HashMap<jlong, Arc<T>>,
}

impl<T> Handles<T> {
    fn new(what: &'static str) -> Self {
        Handles { what, open: Mutex::new(Open { last: 0, values: HashMap::new() }) }
    }

    /// Hands a value out; numbers are never used again.
    pub(crate) fn open(&self, value: T) -> jlong {
        let mut open = self.lock();
        open.last += 1;
        let handle = open.last;
        open.values.insert(handle, Arc::new(value));
        handle
    }

    /// The value, which lives on while the caller holds it, even when it is closed meanwhile.
    pub(crate) fn get(&self, handle: jlong) -> Result<Arc<T>> {
        self.lock().values.get(&handle).cloned().ok_or_else(|| {
            let what = self.what;
            Error::new(ErrorKind::Closed, format!("This {what} (number {handle}) was closed: open it again."))
        })
    }

    /// Gives the value up; nothing where it was closed before.
    pub(crate) fn close(&self, handle: jlong) {
        let value = self.lock().values.remove(&handle);
        // Dropped outside the lock: freeing a model may take a while.
        drop(value);
    }

    /// How many are open.
    pub(crate) fn live(&self) -> usize {
        self.lock().values.len()
    }

    fn lock(&self) -> MutexGuard<'_, Open<T>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_handle_is_an_error_and_its_number_is_not_used_again() {
        let handles = Handles::new("result");
        let first = handles.open(1);
        handles.close(first);
        handles.close(first);
        let second = handles.open(2);
        assert_ne!(first, second);
        assert_eq!(handles.live(), 1);
        assert_eq!(*handles.get(second).unwrap(), 2);
        let error = handles.get(first).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert_eq!(error.message(), format!("This result (number {first}) was closed: open it again."));
    }
}
