//! The one way in from Java: a failure or a panic becomes the Java exception of its kind.

use std::any::Any;
use std::cell::RefCell;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

use jni::errors::ErrorPolicy;
use jni::objects::JThrowable;
use jni::strings::JNIString;
use jni::{Env, EnvUnowned, JValue, jni_sig, jni_str};
use once_cell::sync::Lazy;
use sparkdl_core::{Error, ErrorKind};

/// What can go wrong in a call: in the core, or in talking to the JVM.
#[derive(Debug)]
pub enum Failure {
    /// The core's error.
    Core(Error),
    /// A failed JNI call; a Java exception may be pending.
    Jni(jni::errors::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Core(error)
    }
}

impl From<jni::errors::Error> for Failure {
    fn from(error: jni::errors::Error) -> Self {
        Failure::Jni(error)
    }
}

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How many exported functions Java has called so far.
pub fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Runs the body of an exported function. On failure the exception is pending and Java gets null or zero.
pub fn enter<'local, T: Default>(
    mut env: EnvUnowned<'local>,
    body: impl FnOnce(&mut Env<'local>) -> Result<T, Failure>,
) -> T {
    Lazy::force(&HOOK);
    CALLS.fetch_add(1, Ordering::Relaxed);
    env.with_env(body).resolve::<Throw>()
}

/// Throws `SparkDLException` or `SparkDLArgumentException`; a Java exception that is already pending is kept.
#[derive(Debug)]
pub struct Throw;

impl<T: Default> ErrorPolicy<T, Failure> for Throw {
    type Captures<'unowned_env_local: 'native_method, 'native_method> = ();

    fn on_error<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        _captures: &mut (),
        failure: Failure,
    ) -> jni::errors::Result<T> {
        match failure {
            Failure::Core(error) => throw(env, error.kind(), &error.report()),
            Failure::Jni(error) => {
                throw(env, ErrorKind::Internal, &format!("a call into the JVM failed: {error}"))
            }
        }
        Ok(T::default())
    }

    fn on_panic<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        _captures: &mut (),
        payload: Box<dyn Any + Send + 'static>,
    ) -> jni::errors::Result<T> {
        let text = panic_text(payload.as_ref());
        // Dropping a foreign payload may panic again.
        std::mem::forget(payload);
        let place =
            LAST_PANIC.take().filter(|last| last.text == text).map(|last| format!(" at {}", last.place));
        let message =
            format!("a defect in the native library: {text}{}. Please report it.", place.unwrap_or_default());
        throw(env, ErrorKind::Internal, &message);
        Ok(T::default())
    }
}

fn throw(env: &mut Env<'_>, kind: ErrorKind, message: &str) {
    if env.exception_check() {
        return;
    }
    // Throwing reports the pending exception as an error; anything else means that our classes are out of reach.
    let _ = throw_kind(env, kind, message);
    if !env.exception_check() {
        let text = JNIString::from(format!("{}: {message}", kind.name()));
        let _ = env.throw_new(jni_str!("java/lang/InternalError"), text);
    }
}

fn throw_kind(env: &mut Env<'_>, kind: ErrorKind, message: &str) -> jni::errors::Result<()> {
    // Found through the class loader of the Java method that called us.
    let kinds = env.find_class(jni_str!("sparkdl/ffi/ErrorKind"))?;
    let kind = env.new_string(kind.name())?;
    let message = env.new_string(message)?;
    let exception = env
        .call_static_method(
            kinds,
            jni_str!("named"),
            jni_sig!((java.lang.String, java.lang.String) -> java.lang.RuntimeException),
            &[JValue::Object(&kind), JValue::Object(&message)],
        )?
        .l()?;
    let exception = env.cast_local::<JThrowable>(exception)?;
    env.throw(exception)
}

struct LastPanic {
    text: String,
    place: String,
}

thread_local! {
    static LAST_PANIC: RefCell<Option<LastPanic>> = const { RefCell::new(None) };
}

/// Keeps the place of a panic for the exception, instead of printing it on stderr.
static HOOK: Lazy<()> = Lazy::new(|| {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let last = LastPanic { text: panic_text(info.payload()), place };
        log::debug!("panic: {} at {}", last.text, last.place);
        LAST_PANIC.set(Some(last));
    }));
});

fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    }
}
