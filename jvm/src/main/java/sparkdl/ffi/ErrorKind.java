package sparkdl.ffi;

/** What went wrong, for programs: the mirror of the enum in {@code rust/core/src/error.rs}. */
public enum ErrorKind {
  /** A parameter, option or column that the caller must change. */
  InvalidArgument("SPARKDL_INVALID_ARGUMENT", "22023", true),
  /** A bundle, graph or weight file that is damaged, of another model, or refused. */
  InvalidModel("SPARKDL_INVALID_MODEL", "22023", true),
  /** A batch whose columns are not what the model takes. */
  InvalidBatch("SPARKDL_INVALID_BATCH", "42K09", true),
  /** A row that cannot be used, where the caller asked for such a row to stop the job. */
  InvalidRow("SPARKDL_INVALID_ROW", "22000", false),
  /** The TensorFlow library is missing, too old, or there twice. */
  TensorFlowUnavailable("SPARKDL_TENSORFLOW_UNAVAILABLE", "58000", false),
  /** A file or folder that cannot be read or written. */
  Io("SPARKDL_IO", "58030", false),
  /** TensorFlow reported a failure while it ran a graph. */
  Execution("SPARKDL_EXECUTION", "39000", false),
  /** The caller asked for the work to stop. */
  Cancelled("SPARKDL_CANCELLED", "57014", false),
  /** A handle that was used after it was closed. */
  Closed("SPARKDL_CLOSED", "55000", false),
  /** A defect of ours: please report it. */
  Internal("SPARKDL_INTERNAL", "XX000", false);

  private final String condition;
  private final String sqlState;
  private final boolean argument;

  ErrorKind(String condition, String sqlState, boolean argument) {
    this.condition = condition;
    this.sqlState = sqlState;
    this.argument = argument;
  }

  /** Spark's error condition. */
  public String condition() {
    return condition;
  }

  /** The SQLSTATE of the condition. */
  public String sqlState() {
    return sqlState;
  }

  /** The exception of this kind: an {@link IllegalArgumentException} where the caller must change what they gave. */
  public RuntimeException exception(String message, Throwable cause) {
    return argument
        ? new SparkDLArgumentException(this, message, cause)
        : new SparkDLException(this, message, cause);
  }

  /** The exception of this kind, without a cause. */
  public RuntimeException exception(String message) {
    return exception(message, null);
  }

  /** Called by native code, which knows kinds by name; a name of a newer library counts as {@link #Internal}. */
  static RuntimeException named(String kind, String message) {
    for (ErrorKind known : values()) {
      if (known.name().equals(kind)) {
        return known.exception(message);
      }
    }
    return Internal.exception(kind + ": " + message);
  }
}
