package sparkdl.ffi;

import org.apache.spark.SparkThrowable;

/** A parameter, model or column that the caller must change. Its kind is for programs, its message for people. */
public final class SparkDLArgumentException extends IllegalArgumentException implements SparkThrowable {
  private static final long serialVersionUID = 1L;

  private final ErrorKind kind;

  /** The cause may be null. */
  public SparkDLArgumentException(ErrorKind kind, String message, Throwable cause) {
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
