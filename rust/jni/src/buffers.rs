//! Arrow batches in direct buffers: Java's memory read in place, a result of ours shown to Java.

use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use jni::Env;
use jni::objects::JByteBuffer;
use jni::sys::{jint, jlong};
use sparkdl_core::{Error, ErrorKind};

use crate::handle::RESULTS;
use crate::policy::Failure;

/// Reads Java's batch in place, works on it, and keeps the result for Java under the number returned.
pub(crate) fn through(
    env: &Env<'_>,
    memory: &JByteBuffer<'_>,
    length: jint,
    work: impl FnOnce(&RecordBatch) -> sparkdl_core::Result<RecordBatch>,
) -> Result<jlong, Failure> {
    let (lease, bytes) = lend(env, memory, length)?;
    let written = {
        let batch = read(bytes)?;
        write(&work(&batch)?)?
    };
    drop(lease);
    Ok(RESULTS.open(written))
}

/// A result as a direct buffer, valid until Java releases it.
pub(crate) fn show<'local>(env: &mut Env<'local>, result: jlong) -> Result<JByteBuffer<'local>, Failure> {
    let bytes = RESULTS.get(result)?;
    let address = bytes.as_ptr().cast_mut();
    // SAFETY: the bytes belong to the table of results, which neither moves nor frees nor changes them before Java calls
    // `releaseResult`; Java reads them between these two calls only (`ArrowBridge.read`).
    let buffer = unsafe { env.new_direct_byte_buffer(address, bytes.len()) }?;
    Ok(buffer)
}

/// Ends when nothing reads Java's memory any more, also on the way of a panic.
struct Lease(Receiver<()>);

impl Drop for Lease {
    fn drop(&mut self) {
        // The sender lies in the buffer's owner: waiting for a message ends when the last array of the batch is gone.
        let _ = self.0.recv();
    }
}

fn lend(env: &Env<'_>, memory: &JByteBuffer<'_>, length: jint) -> Result<(Lease, Buffer), Failure> {
    if memory.is_null() {
        return Err(invalid("null was given where a direct buffer is needed").into());
    }
    let capacity = env.get_direct_buffer_capacity(memory).unwrap_or(0);
    let address = env.get_direct_buffer_address(memory).ok().and_then(NonNull::new);
    let (Some(address), Ok(length)) = (address, usize::try_from(length)) else {
        return Err(invalid("the batch is not in a direct buffer, or its length is negative").into());
    };
    if length > capacity {
        return Err(invalid(format!("a batch of {length} bytes cannot lie in a buffer of {capacity}")).into());
    }
    let (sender, receiver): (Sender<()>, _) = channel();
    // SAFETY: Java's caller keeps the direct buffer alive and unchanged during the call, and the lease keeps the call from
    // returning while an array over this memory is alive. `length` was checked against the buffer's capacity.
    let buffer =
        unsafe { Buffer::from_custom_allocation(address, length, Arc::new(AssertUnwindSafe(sender))) };
    Ok((Lease(receiver), buffer))
}

fn read(mut bytes: Buffer) -> Result<RecordBatch, Error> {
    let mut decoder = StreamDecoder::new();
    match decoder.decode(&mut bytes) {
        Ok(Some(batch)) => Ok(batch),
        Ok(None) => Err(invalid("the buffer holds no complete Arrow batch")),
        Err(error) => Err(invalid("the buffer holds no readable Arrow stream").with_source(error)),
    }
}

fn write(batch: &RecordBatch) -> Result<Vec<u8>, Error> {
    let stream = || -> Result<Vec<u8>, ArrowError> {
        let mut writer =
            StreamWriter::try_new(Vec::with_capacity(batch.get_array_memory_size() + 4096), &batch.schema())?;
        writer.write(batch)?;
        writer.into_inner()
    };
    stream().map_err(|e| {
        Error::new(ErrorKind::Internal, "cannot write the result as an Arrow stream").with_source(e)
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidBatch, message)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray};

    use super::*;

    fn batch() -> RecordBatch {
        let column: ArrayRef = Arc::new(BinaryArray::from_opt_vec(vec![Some(b"one"), None, Some(b"three")]));
        RecordBatch::try_from_iter_with_nullable([("image", column, true)]).unwrap()
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let bytes = write(&batch()).unwrap();
        assert_eq!(read(Buffer::from_vec(bytes)).unwrap(), batch());
    }

    #[test]
    fn a_stream_that_ends_early_is_an_invalid_batch() {
        let mut bytes = write(&batch()).unwrap();
        bytes.truncate(bytes.len() / 2);
        let error = read(Buffer::from_vec(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBatch);
        assert_eq!(error.message(), "the buffer holds no complete Arrow batch");
    }

    #[test]
    fn bytes_that_are_no_stream_are_an_invalid_batch() {
        let error = read(Buffer::from_vec(vec![0x7f_u8; 64])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidBatch);
    }
}
