//! The JVM face: nothing but translation.

mod convert;
pub mod policy;

// The only files with unsafe code: memory that the JVM owns, and the attributes that name exports.
#[allow(unsafe_code)]
mod buffers;
#[allow(unsafe_code, unreachable_pub)]
mod exports;

mod handle;
mod logger;
