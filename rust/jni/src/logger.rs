//! The library's log lines, handed to SLF4J.

use std::str::FromStr;

use jni::objects::JClass;
use jni::refs::Global;
use jni::sys::jint;
use jni::{Env, JValue, JavaVM, jni_sig, jni_str};
use log::{Level, LevelFilter, Log, Metadata, Record};
use once_cell::sync::OnceCell;
use sparkdl_core::{Error, ErrorKind};

use crate::policy::Failure;

static BRIDGE: Bridge = Bridge { target: OnceCell::new() };

/// Sends lines from `level` on to Java; a later call changes the level only.
pub(crate) fn start(env: &mut Env<'_>, level: &str) -> Result<(), Failure> {
    let filter = LevelFilter::from_str(level).map_err(|e| {
        let message = format!("{level:?} is no log level: take error, warn, info, debug, trace or off");
        Error::new(ErrorKind::InvalidArgument, message).with_source(e)
    })?;
    // Found here, on the thread that loads the library: a thread of our own would ask the wrong class loader.
    let class = env.find_class(jni_str!("sparkdl/ffi/NativeLog"))?;
    let class = env.new_global_ref(class)?;
    if BRIDGE.target.set(class).is_ok() {
        let _ = log::set_logger(&BRIDGE);
    }
    log::set_max_level(filter);
    Ok(())
}

struct Bridge {
    target: OnceCell<Global<JClass<'static>>>,
}

impl Bridge {
    fn send(&self, record: &Record<'_>) -> jni::errors::Result<()> {
        let Some(class) = self.target.get() else { return Ok(()) };
        // For the scope only: a thread that stays attached would keep the JVM from ending.
        JavaVM::singleton()?.attach_current_thread_for_scope(|env| {
            let target = env.new_string(record.target())?;
            let message = env.new_string(record.args().to_string())?;
            env.call_static_method(
                class,
                jni_str!("log"),
                jni_sig!((jint, java.lang.String, java.lang.String) -> ()),
                &[JValue::Int(number(record.level())), JValue::Object(&target), JValue::Object(&message)],
            )?;
            Ok(())
        })
    }
}

fn number(level: Level) -> jint {
    match level {
        Level::Error => 1,
        Level::Warn => 2,
        Level::Info => 3,
        Level::Debug => 4,
        Level::Trace => 5,
    }
}

impl Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // jni logs of its own while it attaches: those lines would come back here without end.
        if self.enabled(record.metadata()) && !record.target().starts_with("jni") {
            // A line that cannot be written is lost; there is no better place to say so.
            let _ = self.send(record);
        }
    }

    fn flush(&self) {}
}
