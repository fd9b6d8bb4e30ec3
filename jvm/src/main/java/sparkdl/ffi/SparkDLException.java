package sparkdl.ffi;

import org.apache.spark.SparkThrowable;

/** A failure while working: of a run, a file, a library. Its kind is for programs, its message for people. */
public final class SparkDLException extends RuntimeException implements SparkThrowable {
  private static final long serialVersionUID = 1L;

  private final ErrorKind kind;

  /** The cause may be null. */
  public SparkDLException(ErrorKind kind, String message, Throwable cause) {
    super(message, cause);
    this.kind = kind;
  }

  /** What went wrong, for programs. */
  public ErrorKind kind() {
    return kind;
  }

  @Override
  public String getCondition() {
    return kind.condition();
  }

  @Override
  public String getSqlState() {
    return kind.sqlState();
  }
}
