//! A JVM in this process, with the classes of `sparkdl.ffi` compiled and the library loaded through them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use jni::objects::{JClass, JString};
use jni::strings::JNIStr;
use jni::{Env, EnvUnowned, InitArgsBuilder, JValue, JavaVM, NativeMethod, jni_sig, jni_str};
use sparkdl_core::{Error, ErrorKind};
use sparkdl_jni::policy::enter;

/// The JVM, or why there is none.
pub(crate) fn jvm() -> Result<&'static JavaVM, &'static str> {
    static JVM: OnceLock<Result<JavaVM, String>> = OnceLock::new();
    JVM.get_or_init(start).as_ref().map_err(String::as_str)
}

/// What `Faults.outcome` says of a call.
pub(crate) fn outcome(vm: &JavaVM, call: &str, argument: &str) -> String {
    vm.attach_current_thread(|env| -> jni::errors::Result<String> {
        let (call, argument) = (env.new_string(call)?, env.new_string(argument)?);
        let faults = env.find_class(jni_str!("sparkdl/ffi/Faults"))?;
        let text = env
            .call_static_method(
                faults,
                jni_str!("outcome"),
                jni_sig!((java.lang.String, java.lang.String) -> java.lang.String),
                &[JValue::Object(&call), JValue::Object(&argument)],
            )?
            .l()?;
        env.cast_local::<JString>(text)?.try_to_string(env)
    })
    .unwrap()
}

fn start() -> Result<JavaVM, String> {
    let jars = spark_jars()?;
    let classes = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("classes");
    compile(&jars, &classes);
    let class_path = format!("{}:{}", classes.display(), jars);
    let args = InitArgsBuilder::new()
        .option("-Xcheck:jni")
        .option(format!("-Djava.class.path={class_path}"))
        .option(format!("-Dsparkdl.native.path={}", library().display()))
        .build()
        .unwrap();
    let vm = JavaVM::new(args).map_err(|e| e.to_string())?;
    vm.attach_current_thread(|env| -> jni::errors::Result<()> {
        let library = env.find_class(jni_str!("sparkdl/ffi/NativeLibrary"))?;
        env.call_static_method(library, jni_str!("ensureLoaded"), jni_sig!(() -> ()), &[])?;
        register(env)
    })
    .unwrap();
    Ok(vm)
}

/// The interfaces that our exceptions and log lines meet are Spark's and SLF4J's own.
fn spark_jars() -> Result<String, String> {
    let python = ["PYO3_PYTHON", "PYSPARK_PYTHON"].iter().find_map(|name| env::var(name).ok());
    let script = "import os, pyspark; print(os.path.join(os.path.dirname(pyspark.__file__), 'jars'))";
    let output = Command::new(python.as_deref().unwrap_or("python3")).args(["-c", script]).output();
    let folder = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => {
            return Err(
                "skipped: no Python with pyspark, whose jars the exceptions need (PYO3_PYTHON)".to_owned()
            );
        }
    };
    let wanted = ["spark-common-utils", "scala-library", "slf4j-api"];
    let jars = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        wanted.iter().any(|w| name.starts_with(w))
    });
    Ok(jars.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":"))
}

fn compile(jars: &str, classes: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [here.join("../../jvm/src/main/java/sparkdl/ffi"), here.join("tests/java/sparkdl/ffi")];
    let files =
        sources.iter().flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    fs::create_dir_all(classes.join("sparkdl")).unwrap();
    fs::write(classes.join("sparkdl/version"), env!("CARGO_PKG_VERSION")).unwrap();
    let javac = env::var("JAVA_HOME").map_or("javac".into(), |home| Path::new(&home).join("bin/javac"));
    let status =
        Command::new(javac).args(["--release", "17", "-cp", jars, "-d"]).arg(classes).args(files).status();
    assert!(status.unwrap().success(), "javac failed");
}

/// Cargo puts the library beside the tests.
fn library() -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().join("libsparkdl_jni.so")
}

fn register(env: &mut Env<'_>) -> jni::errors::Result<()> {
    let faults = env.find_class(jni_str!("sparkdl/ffi/Faults"))?;
    let two: &JNIStr = jni_str!("(Ljava/lang/String;Ljava/lang/String;)V");
    let one: &JNIStr = jni_str!("(Ljava/lang/String;)V");
    // SAFETY: the functions below have these signatures, with the class as second parameter.
    unsafe {
        let methods = [
            NativeMethod::from_raw_parts(jni_str!("fail"), two, fail as *mut _),
            NativeMethod::from_raw_parts(jni_str!("panic"), one, panic_with as *mut _),
            NativeMethod::from_raw_parts(
                jni_str!("failWhilePending"),
                jni_str!("()V"),
                fail_while_pending as *mut _,
            ),
        ];
        env.register_native_methods(faults, &methods)
    }
}

extern "system" fn fail<'l>(env: EnvUnowned<'l>, _: JClass<'l>, kind: JString<'l>, message: JString<'l>) {
    enter(env, |env| {
        let (kind, message) = (kind.try_to_string(env)?, message.try_to_string(env)?);
        let kind = ErrorKind::ALL.iter().find(|k| k.name() == kind).unwrap();
        let error = Error::new(*kind, message).with_source(std::io::Error::other("the cause"));
        Err::<(), _>(error.into())
    })
}

extern "system" fn panic_with<'l>(env: EnvUnowned<'l>, _: JClass<'l>, message: JString<'l>) {
    enter(env, |env| {
        let message = message.try_to_string(env)?;
        panic!("{message}")
    })
}

extern "system" fn fail_while_pending<'l>(env: EnvUnowned<'l>, class: JClass<'l>) {
    enter(env, |env| {
        env.call_static_method(class, jni_str!("throwFirst"), jni_sig!(() -> ()), &[])?;
        Ok(())
    })
}
