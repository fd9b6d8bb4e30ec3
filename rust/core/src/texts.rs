//! Tensors of texts: TensorFlow keeps each as bytes of any content, in memory of its own.

#![allow(unsafe_code)]

use std::ffi::c_char;
use std::fmt;

use tensorflow::{Code, DataType, Status, Tensor, TensorDataCRepr, TensorType};
use tensorflow_sys_runtime as tf;

/// A text as TensorFlow lays it out (`TF_TString`); the default, all zeros, is an empty one.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Text(tf::TF_TString);

/// A tensor of texts that belong to it.
#[derive(Debug)]
pub(crate) struct Texts {
    tensor: Tensor<Text>,
}

impl Texts {
    /// Empty texts.
    pub(crate) fn new(dims: &[u64]) -> Texts {
        Texts { tensor: Tensor::new(dims) }
    }

    /// A copy, since the texts of a tensor that TensorFlow gave are TensorFlow's, and may be those of one that it was given.
    pub(crate) fn copy_of(tensor: &Tensor<Text>) -> Texts {
        let mut texts = Texts::new(tensor.dims());
        tensor.iter().enumerate().for_each(|(index, text)| texts.set(index, text.bytes()));
        texts
    }

    pub(crate) fn tensor(&self) -> &Tensor<Text> {
        &self.tensor
    }

    pub(crate) fn dims(&self) -> &[u64] {
        self.tensor.dims()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tensor.len()
    }

    pub(crate) fn get(&self, index: usize) -> &[u8] {
        self.tensor[index].bytes()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.tensor.iter().map(Text::bytes)
    }

    pub(crate) fn set(&mut self, index: usize, bytes: &[u8]) {
        let text = &mut self.tensor[index];
        // SAFETY: `text` is an initialised TF_TString, by `new` or an earlier copy, and lives in this tensor; TensorFlow copies the
        // bytes into memory that `drop` frees, and frees what the text held before.
        unsafe { tf::TF_StringCopy(&raw mut text.0, bytes.as_ptr().cast::<c_char>(), bytes.len()) }
    }
}

impl Drop for Texts {
    fn drop(&mut self) {
        for text in self.tensor.iter_mut() {
            // SAFETY: each text is initialised and owned by this tensor alone, whose memory TensorFlow frees without them.
            unsafe { tf::TF_StringDealloc(&raw mut text.0) }
        }
    }
}

impl Text {
    fn bytes(&self) -> &[u8] {
        // SAFETY: a Text is only seen inside of a tensor of strings, whose elements are initialised TF_TStrings; the bytes stay where
        // they are while the text is borrowed.
        unsafe {
            let (start, length) =
                (tf::TF_StringGetDataPointer(&raw const self.0), tf::TF_StringGetSize(&raw const self.0));
            if length == 0 { &[] } else { std::slice::from_raw_parts(start.cast::<u8>(), length) }
        }
    }
}

impl Default for Text {
    fn default() -> Text {
        // SAFETY: TensorFlow's own initialiser makes a text of zeros: a small one of no length.
        unsafe { std::mem::zeroed() }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.bytes()))
    }
}

impl TensorType for Text {
    type InnerType = TensorDataCRepr<Text>;

    fn data_type() -> DataType {
        DataType::String
    }

    fn zero() -> Text {
        Text::default()
    }

    fn one() -> Text {
        Text::default()
    }

    fn is_repr_c() -> bool {
        true
    }

    fn unpack(_: &[u8], _: usize) -> tensorflow::Result<Vec<Text>> {
        Err(laid_out_alike())
    }

    fn pack(_: &[Text], _: &[u64]) -> tensorflow::Result<*mut tf::TF_Tensor> {
        Err(laid_out_alike())
    }
}

fn laid_out_alike() -> Status {
    Status::new_set_lossy(Code::Unimplemented, "texts are laid out as TensorFlow has them")
}
