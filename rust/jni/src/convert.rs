//! Strings, string pairs and numbers, between Java and Rust.

use jni::Env;
use jni::objects::{JLongArray, JObjectArray, JString};
use jni::sys::jlong;
use sparkdl_core::{Error, ErrorKind};

use crate::policy::Failure;

/// The text of a Java string; null is an argument error.
pub(crate) fn string(env: &Env<'_>, value: &JString<'_>) -> Result<String, Failure> {
    if value.is_null() {
        return Err(Error::new(ErrorKind::InvalidArgument, "null was given where a string is needed").into());
    }
    Ok(value.try_to_string(env)?)
}

/// Options, which Java lists as key, value, key, value.
pub(crate) fn pairs(
    env: &mut Env<'_>,
    array: &JObjectArray<'_, JString<'_>>,
) -> Result<Vec<(String, String)>, Failure> {
    let length = if array.is_null() { 0 } else { array.len(env)? };
    if length % 2 != 0 {
        let message = format!("options come in pairs of key and value, but {length} strings were given");
        return Err(Error::new(ErrorKind::InvalidArgument, message).into());
    }
    let mut pairs = Vec::with_capacity(length / 2);
    for index in (0..length).step_by(2) {
        pairs.push((element(env, array, index)?, element(env, array, index + 1)?));
    }
    Ok(pairs)
}

fn element(
    env: &mut Env<'_>,
    array: &JObjectArray<'_, JString<'_>>,
    index: usize,
) -> Result<String, Failure> {
    let value = array.get_element(env, index)?;
    let text = string(env, &value)?;
    env.delete_local_ref(value);
    Ok(text)
}

/// A Java array of strings.
pub(crate) fn strings<'local>(
    env: &mut Env<'local>,
    values: &[&str],
) -> Result<JObjectArray<'local, JString<'local>>, Failure> {
    let array = JObjectArray::<JString>::new(env, values.len(), JString::null())?;
    for (index, value) in values.iter().enumerate() {
        let value = env.new_string(value)?;
        array.set_element(env, index, &value)?;
        env.delete_local_ref(value);
    }
    Ok(array)
}

/// A Java array of longs; what does not fit is the greatest long.
pub(crate) fn longs<'local>(env: &mut Env<'local>, values: &[u64]) -> Result<JLongArray<'local>, Failure> {
    let values: Vec<jlong> = values.iter().map(|v| jlong::try_from(*v).unwrap_or(jlong::MAX)).collect();
    let array = env.new_long_array(values.len())?;
    array.set_region(env, 0, &values)?;
    Ok(array)
}
