//! Batched picture decoding and TensorFlow graph execution. Knows nothing of Spark, Java or Python.

mod blocks;
pub mod bundle;
mod cache;
pub mod download;
mod error;
mod feed;
pub mod graph;
pub mod image;
pub mod keras;
mod lists;
mod metrics;
mod model;
mod named_models;
mod names;
mod optimized;
mod options;
mod picture_feed;
mod pictures;
mod pieces;
mod pool;
pub mod runtime;
mod saved_model;
mod session;
mod summands;
mod task;
mod tensor;
mod tensors;
mod texts;
mod values;
mod weights;

pub use error::{Error, ErrorKind, Result};
pub use metrics::Metrics;
pub use model::Model;
pub use named_models::{imagenet_labels, named_models};

/// String pairs as they cross the boundary: every key always sent, unknown and missing ones refused.
pub type Options = [(String, String)];
