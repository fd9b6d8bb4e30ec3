package sparkdl.engine

import java.io.{InputStream, IOException}
import java.nio.file.{FileAlreadyExistsException, Files, Path, StandardCopyOption}
import java.nio.file.attribute.PosixFilePermissions
import java.security.MessageDigest
import java.util.Comparator

import sparkdl.ffi.ErrorKind

/**
 * The folder of this machine where bundles are kept: `bundles/` as exported, by model and weights; `stages/` by digest,
 * the files that tasks run. A file appears under its name only when it is whole.
 */
private[sparkdl] final class CacheFolder(root: Path) {

  /** Where exported bundles lie. */
  def bundles: Path = root.resolve("bundles")

  /** Where a bundle of this digest lies once it was kept. */
  def stage(digest: String): Path = root.resolve("stages").resolve(digest + CacheFolder.extension)

  /** Keeps what a stream holds, under its digest; gives the digest. */
  def keep(stream: InputStream): String = withCopy("stages", stream) { (copy, digest) =>
    Files.move(copy, stage(digest), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
    digest
  }

  /** Keeps a bundle that `make` writes, under its digest. */
  def keepMade(make: Path => Unit): Path = writing {
    inOwnFolder("stages") { folder =>
      val file = folder.resolve("made" + CacheFolder.extension)
      make(file)
      val kept = stage(CacheFolder.hash(file, "sha256"))
      Files.move(file, kept, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
    }
  }

  /** A folder of its own for what is copied from elsewhere, gone afterwards. */
  def inOwnFolder[T](name: String)(use: Path => T): T = {
    val folder = writing(Files.createTempDirectory(ownFolder(name), "part-"))
    try use(folder)
    finally {
      val content = Files.walk(folder)
      try content.sorted(Comparator.reverseOrder[Path]()).forEach(Files.deleteIfExists(_): Unit)
      finally content.close()
    }
  }

  /** Keeps an exported bundle under its digest: a link where the disk can, as exported bundles are never changed in place. */
  def link(exported: Path, digest: String): Path = {
    val kept = stage(digest)
    if (!Files.exists(kept)) writing {
      ownFolder("stages")
      try Files.createLink(kept, exported)
      catch {
        case _: FileAlreadyExistsException => ()
        case _: IOException | _: UnsupportedOperationException => keep(Files.newInputStream(exported))
      }
    }
    kept
  }

  /**
   * Lets `make` write an exported bundle from a local copy of what a stream holds, and its digest; the copy is deleted
   * afterwards.
   */
  def making(stream: InputStream)(make: (Path, String) => Unit): Unit = withCopy("bundles", stream)(make)

  /** Keeps a weight file under its name, once `check` has passed its copy. */
  def keepWeights(name: String, stream: InputStream)(check: Path => Unit): Path =
    withCopy("weights", stream) { (copy, _) =>
      check(copy)
      Files.move(copy, weights(name), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
    }

  /** Where a published weight file lies. */
  def weights(name: String): Path = root.resolve("weights").resolve(name)

  /** A copy of what a stream holds, in a folder of the cache, and its digest; the copy is deleted unless it was moved. */
  private def withCopy[T](folder: String, stream: InputStream)(use: (Path, String) => T): T = writing {
    val copy = Files.createTempFile(ownFolder(folder), "part-", ".tmp")
    try use(copy, CacheFolder.copy(stream, copy))
    finally Files.deleteIfExists(copy)
  }

  private def ownFolder(name: String): Path = {
    val owner = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"))
    Files.createDirectories(root.resolve(name), owner)
  }

  private def writing[T](action: => T): T =
    try action
    catch {
      case error: IOException =>
        throw ErrorKind.Io.exception(
          s"Cannot write to the cache folder $root: ${CacheFolder.reason(error)}. Set ${EngineConf.CacheDir.key} (or the " +
            "environment variable SPARKDL_CACHE_DIR) to a folder that this user can write.",
          error
        )
    }
}

private[sparkdl] object CacheFolder {

  val extension: String = ".sparkdl"

  /** The SHA-256 of what a stream holds, hex; the stream is closed. */
  def digest(stream: InputStream): String = copyTo(stream, _ => ())

  /** The hash of a file, hex. */
  def hash(file: Path, algorithm: String): String = {
    val name = if (algorithm == "sha256") "SHA-256" else algorithm
    val digest = MessageDigest.getInstance(name)
    val stream = new java.security.DigestInputStream(Files.newInputStream(file), digest)
    try stream.transferTo(java.io.OutputStream.nullOutputStream())
    finally stream.close()
    hex(digest)
  }

  private def copy(stream: InputStream, file: Path): String = {
    val out = Files.newOutputStream(file)
    try copyTo(stream, buffer => out.write(buffer.array, 0, buffer.limit()))
    finally out.close()
  }

  private def copyTo(stream: InputStream, sink: java.nio.ByteBuffer => Unit): String = {
    val sha = MessageDigest.getInstance("SHA-256")
    val buffer = new Array[Byte](1 << 20)
    try Iterator.continually(stream.read(buffer)).takeWhile(_ >= 0).foreach { count =>
        sha.update(buffer, 0, count)
        sink(java.nio.ByteBuffer.wrap(buffer, 0, count))
      }
    finally stream.close()
    hex(sha)
  }

  private def hex(sha: MessageDigest): String = sha.digest().map(byte => f"$byte%02x").mkString

  /** `AccessDeniedException` and its kin say only the file: name the class as well. */
  private def reason(error: IOException): String = s"${error.getClass.getSimpleName}: ${error.getMessage}"
}
