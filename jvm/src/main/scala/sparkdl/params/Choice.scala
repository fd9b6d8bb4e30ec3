package sparkdl.params

import sparkdl.ffi.ErrorKind

/** Validators that say which values a param takes, where MLlib's own only say that the value is wrong. */
private[params] object Choice {

  /** One of these words, as spelled. */
  def of(param: String, words: Array[String]): String => Boolean = value =>
    words.contains(value) ||
      refuse(s"$param must be one of ${words.map(quoted).mkString(", ")} but was ${quoted(value)}.")

  /** A number from `least` on. */
  def atLeast[T](param: String, least: T)(implicit order: Ordering[T]): T => Boolean = value =>
    order.gteq(value, least) || refuse(s"$param must be at least $least but was $value.")

  /** Any text but the empty one. */
  def notEmpty(param: String): String => Boolean = value =>
    (value != null && value.nonEmpty) || refuse(s"$param must not be empty.")

  /** The digest of a file: 64 hex digits of any case. */
  def sha256(param: String): String => Boolean = value =>
    (value != null && value.matches("[0-9A-Fa-f]{64}")) ||
      refuse(s"$param must be 64 hex digits but was ${quoted(value)}.")

  /** Height and width of pictures. */
  def size(param: String): Array[Int] => Boolean = value =>
    (value != null && value.length == 2 && value.forall(_ >= 1)) ||
      refuse(s"$param must be two numbers of at least 1, height and width, but was ${shown(value)}.")

  private def shown(value: Array[Int]): String = if (value == null) "null" else value.mkString("[", ", ", "]")

  private def quoted(value: String): String = if (value == null) "null" else "\"" + value + "\""

  private def refuse(message: String): Boolean = throw ErrorKind.InvalidArgument.exception(message)
}
