import java.security.MessageDigest

import scala.sys.process.{Process, ProcessLogger}

import sbt.*
import sbt.util.{FileFunction, FilesInfo, Logger}

/** Builds rust/jni by cargo when one of its sources has changed, never while sbt loads. */
object NativeBuild {

  private val library = "libsparkdl_jni.so"

  /** Returns the stripped library and its SHA-256, as they lie in the jar. */
  def apply(base: File, folder: File, cache: File, log: Logger): Seq[File] = {
    val build = FileFunction.cached(cache, FilesInfo.hash, FilesInfo.exists) { _ =>
      val built = cargo(base, log)
      val copy = folder / platform / library
      IO.createDirectory(copy.getParentFile)
      strip(built, copy, log)
      val digest = file(copy.getPath + ".sha256")
      IO.write(digest, sha256(copy))
      Set(copy, digest)
    }
    build(inputs(base)).toSeq
  }

  private def inputs(base: File): Set[File] = {
    val crates = Seq("core", "jni").map(base / "rust" / _)
    val sources = crates.flatMap(crate =>
      ((crate / "src") ** "*").get() ++ (crate * ("*.toml" || "*.json" || "*.rs")).get())
    (sources.filter(_.isFile) ++ Seq(base / "Cargo.toml", base / "Cargo.lock")).toSet
  }

  private def cargo(base: File, log: Logger): File = {
    // With the other face, so that both share one compilation of the core. The Makefile leaves libjpeg-turbo out
    // where there is no nasm.
    val flags = sys.env.getOrElse("CARGO_FLAGS", "--locked").trim.split(" ").toSeq
    val command = Seq("cargo", "build", "--release", "-p", "sparkdl-jni", "-p", "sparkdl-python") ++ flags
    log.info(command.mkString(" "))
    val output = ProcessLogger(line => log.info(line), line => log.info(line))
    if (Process(command, base).!(output) != 0)
      sys.error(s"${command.mkString(" ")} failed: see its messages above")
    sys.env.get("CARGO_TARGET_DIR").map(dir => base.toPath.resolve(dir).toFile).getOrElse(base / "target") /
      "release" / library
  }

  /** Without the line tables of debugging; symbols stay, so that a crash report names functions. */
  private def strip(from: File, to: File, log: Logger): Unit = {
    val command = Seq("objcopy", "--strip-debug", from.getPath, to.getPath)
    val stripped = scala.util.Try(Process(command).!(ProcessLogger(_ => ()))).getOrElse(-1) == 0
    if (!stripped) {
      log.warn("no objcopy: the jar holds the library with its debugging tables")
      IO.copyFile(from, to)
    }
  }

  private def sha256(file: File): String =
    MessageDigest.getInstance("SHA-256").digest(IO.readBytes(file)).map(b => f"$b%02x").mkString

  /** As `NativeLibrary` of the jar spells it. */
  private def platform: String = {
    val arch = sys.props("os.arch") match {
      case "amd64" | "x86_64" => "x86_64"
      case "aarch64" | "arm64" => "aarch64"
      case other => other
    }
    s"${sys.props("os.name").toLowerCase}-$arch"
  }
}
