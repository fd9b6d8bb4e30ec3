//! The project's vocabulary of failure.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything that can fail in this crate.
pub type Result<T> = std::result::Result<T, Error>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $kind:ident = $sql_state:literal, $condition:literal;)*) => {
        /// What went wrong, for programs. The message is for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            /// Every kind, in the order of its code.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind,)*];

            /// The name shared by Rust, Java and Python.
            pub fn name(self) -> &'static str {
                match self { $(ErrorKind::$kind => stringify!($kind),)* }
            }

            /// Spark's error condition (`SparkThrowable.getCondition`).
            pub fn condition(self) -> &'static str {
                match self { $(ErrorKind::$kind => $condition,)* }
            }

            /// The SQLSTATE of the condition (`SparkThrowable.getSqlState`).
            pub fn sql_state(self) -> &'static str {
                match self { $(ErrorKind::$kind => $sql_state,)* }
            }
        }
    };
}

error_kinds! {
    /// A parameter, option or column that the caller must change.
    InvalidArgument = "22023", "SPARKDL_INVALID_ARGUMENT";
    /// A bundle, graph or weight file that is damaged, of another model, or refused.
    InvalidModel = "22023", "SPARKDL_INVALID_MODEL";
    /// A batch whose columns are not what the model takes.
    InvalidBatch = "42K09", "SPARKDL_INVALID_BATCH";
    /// A row that cannot be used, where the caller asked for such a row to stop the job.
    InvalidRow = "22000", "SPARKDL_INVALID_ROW";
    /// The TensorFlow library is missing, too old, or there twice.
    TensorFlowUnavailable = "58000", "SPARKDL_TENSORFLOW_UNAVAILABLE";
    /// A file or folder that cannot be read or written.
    Io = "58030", "SPARKDL_IO";
    /// TensorFlow reported a failure while it ran a graph.
    Execution = "39000", "SPARKDL_EXECUTION";
    /// The caller asked for the work to stop.
    Cancelled = "57014", "SPARKDL_CANCELLED";
    /// A handle that was used after it was closed, or in a forked process.
    Closed = "55000", "SPARKDL_CLOSED";
    /// A defect of ours: please report it.
    Internal = "XX000", "SPARKDL_INTERNAL";
}

/// A failure: its kind for programs, its message for people, its cause for both.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// An error without a cause. The message names what was asked, what was found, and what to change.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), source: None }
    }

    /// Keeps the failure underneath as the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What went wrong, for people, without the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The message followed by every cause, as the faces show it.
    pub fn report(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let line = error.to_string();
            if !text.contains(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_names_every_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Io, "cannot read the bundle").with_source(io);
        assert_eq!(error.report(), "cannot read the bundle: disk on fire");
        assert_eq!(error.kind().condition(), "SPARKDL_IO");
    }

    #[test]
    fn kinds_have_distinct_names_and_conditions() {
        let mut names: Vec<_> = ErrorKind::ALL.iter().flat_map(|k| [k.name(), k.condition()]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 2 * ErrorKind::ALL.len());
    }
}
