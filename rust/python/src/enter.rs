//! The one way into the core: without the interpreter lock, with panics caught and errors mapped.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use sparkdl_core::{Error, ErrorKind, Result};

use crate::error::to_python;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work` with the interpreter lock released. An error or a panic becomes a Python exception.
pub(crate) fn enter<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| {
        // Nothing that `work` borrows is read after a panic: the caller only gets the exception.
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(panic_error(&*payload)))
    })
    .map_err(|error| to_python(py, &error))
}

/// Notes a panic's text and place on its thread instead of printing them. The hook is this library's own: Rust code of
/// other extension modules has another one.
pub(crate) fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let text = format!("{} at {place}", payload_text(info.payload()));
        // The thread may be at its end already: then nobody can ask for the text either.
        let _ = PANIC.try_with(|panic| panic.replace(Some(text)));
    }));
}

fn panic_error(payload: &(dyn Any + Send)) -> Error {
    let noted = PANIC.with(|panic| panic.borrow_mut().take());
    let text = noted.unwrap_or_else(|| payload_text(payload).to_owned());
    Error::new(ErrorKind::Internal, format!("a defect of sparkdl, please report it: {text}"))
}

fn payload_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}
