//! Every exported function, the mirror of `sparkdl.ffi.NativeApi`; what each does is told there.

use std::path::Path;

use arrow::record_batch::RecordBatch;
use jni::objects::{JByteBuffer, JClass, JLongArray, JObjectArray, JString};
use jni::sys::{jint, jlong};
use jni::{Env, EnvUnowned, jni_mangle};
use sparkdl_core::{
    ErrorKind, Model, Options, bundle, download, graph, image, imagenet_labels, keras, named_models, runtime,
};

use crate::handle::{MODELS, RESULTS};
use crate::policy::{self, Failure, enter};
use crate::{buffers, convert, logger};

pub(crate) type Strings<'local> = JObjectArray<'local, JString<'local>>;

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn version<'local>(env: EnvUnowned<'local>, _: JClass<'local>) -> JString<'local> {
    enter(env, |env| Ok(env.new_string(env!("CARGO_PKG_VERSION"))?))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn error_kinds<'local>(env: EnvUnowned<'local>, _: JClass<'local>) -> Strings<'local> {
    enter(env, |env| {
        let kinds: Vec<_> =
            ErrorKind::ALL.iter().flat_map(|k| [k.name(), k.condition(), k.sql_state()]).collect();
        convert::strings(env, &kinds)
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn start_logging<'local>(env: EnvUnowned<'local>, _: JClass<'local>, level: JString<'local>) {
    enter(env, |env| {
        let level = convert::string(env, &level)?;
        logger::start(env, &level)
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi", "namedModels")]
pub fn models<'local>(env: EnvUnowned<'local>, _: JClass<'local>) -> JString<'local> {
    enter(env, |env| Ok(env.new_string(named_models())?))
}

#[jni_mangle("sparkdl.ffi.NativeApi", "imagenetLabels")]
pub fn labels<'local>(env: EnvUnowned<'local>, _: JClass<'local>) -> JString<'local> {
    enter(env, |env| Ok(env.new_string(imagenet_labels())?))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn load_tensor_flow<'local>(
    env: EnvUnowned<'local>,
    _: JClass<'local>,
    options: Strings<'local>,
) -> Strings<'local> {
    enter(env, |env| {
        let runtime = runtime::load(&convert::pairs(env, &options)?)?;
        convert::strings(env, &[&runtime.version, &runtime.library.to_string_lossy()])
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn device<'local>(env: EnvUnowned<'local>, _: JClass<'local>) -> JString<'local> {
    enter(env, |env| Ok(env.new_string(runtime::device()?)?))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn describe_bundle<'local>(
    env: EnvUnowned<'local>,
    _: JClass<'local>,
    path: JString<'local>,
) -> Strings<'local> {
    enter(env, |env| {
        let description = bundle::describe(Path::new(&convert::string(env, &path)?))?;
        convert::strings(env, &[&description.manifest, &description.digest])
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn convert_keras<'local>(env: EnvUnowned<'local>, _: JClass<'local>, options: Strings<'local>) {
    enter(env, |env| Ok(keras::convert(&convert::pairs(env, &options)?)?))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn convert_graph<'local>(env: EnvUnowned<'local>, _: JClass<'local>, options: Strings<'local>) {
    enter(env, |env| Ok(graph::convert(&convert::pairs(env, &options)?)?))
}

#[jni_mangle("sparkdl.ffi.NativeApi", "download")]
pub fn fetch<'local>(env: EnvUnowned<'local>, _: JClass<'local>, options: Strings<'local>) {
    enter(env, |env| Ok(download::fetch(&convert::pairs(env, &options)?, &mut || Ok(()))?))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn open_model<'local>(env: EnvUnowned<'local>, _: JClass<'local>, options: Strings<'local>) -> jlong {
    enter(env, |env| Ok(MODELS.open(Model::open(&convert::pairs(env, &options)?)?)))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn run_model<'local>(
    env: EnvUnowned<'local>,
    _: JClass<'local>,
    model: jlong,
    batch: JByteBuffer<'local>,
    length: jint,
) -> jlong {
    enter(env, |env| {
        let model = MODELS.get(model)?;
        buffers::through(env, &batch, length, |batch| model.run(batch))
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn cancel_model<'local>(env: EnvUnowned<'local>, _: JClass<'local>, model: jlong) {
    enter(env, |_| {
        MODELS.get(model)?.cancel();
        Ok(())
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn metrics<'local>(env: EnvUnowned<'local>, _: JClass<'local>, model: jlong) -> JLongArray<'local> {
    enter(env, |env| {
        let m = MODELS.get(model)?.metrics();
        let values = [m.rows, m.invalid_rows, m.native_calls, m.session_runs, m.decode_nanos, m.run_nanos];
        convert::longs(env, &values)
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn close_model<'local>(env: EnvUnowned<'local>, _: JClass<'local>, model: jlong) {
    enter(env, |_| {
        MODELS.close(model);
        Ok(())
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn decode_images<'local>(
    env: EnvUnowned<'local>,
    _: JClass<'local>,
    options: Strings<'local>,
    batch: JByteBuffer<'local>,
    length: jint,
) -> jlong {
    enter(env, |env| pictures(env, &options, &batch, length, image::decode_images))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn encode_images<'local>(
    env: EnvUnowned<'local>,
    _: JClass<'local>,
    options: Strings<'local>,
    batch: JByteBuffer<'local>,
    length: jint,
) -> jlong {
    enter(env, |env| pictures(env, &options, &batch, length, image::encode_images))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn image_info<'local>(
    env: EnvUnowned<'local>,
    _: JClass<'local>,
    options: Strings<'local>,
    batch: JByteBuffer<'local>,
    length: jint,
) -> jlong {
    enter(env, |env| pictures(env, &options, &batch, length, image::image_info))
}

/// A function of a column of pictures.
fn pictures<'local>(
    env: &mut Env<'local>,
    options: &Strings<'local>,
    batch: &JByteBuffer<'local>,
    length: jint,
    run: impl FnOnce(&RecordBatch, &Options) -> sparkdl_core::Result<RecordBatch>,
) -> Result<jlong, Failure> {
    let options = convert::pairs(env, options)?;
    buffers::through(env, batch, length, |batch| run(batch, &options))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn result_buffer<'local>(
    env: EnvUnowned<'local>,
    _: JClass<'local>,
    result: jlong,
) -> JByteBuffer<'local> {
    enter(env, |env| buffers::show(env, result))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn release_result<'local>(env: EnvUnowned<'local>, _: JClass<'local>, result: jlong) {
    enter(env, |_| {
        RESULTS.close(result);
        Ok(())
    })
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn live_handles<'local>(env: EnvUnowned<'local>, _: JClass<'local>) -> JLongArray<'local> {
    enter(env, |env| convert::longs(env, &[MODELS.live() as u64, RESULTS.live() as u64]))
}

#[jni_mangle("sparkdl.ffi.NativeApi")]
pub fn calls(env: EnvUnowned<'_>, _: JClass<'_>) -> jlong {
    enter(env, |_| Ok(jlong::try_from(policy::calls()).unwrap_or(jlong::MAX)))
}
