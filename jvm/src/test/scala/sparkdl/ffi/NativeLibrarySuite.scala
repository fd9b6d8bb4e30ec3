package sparkdl.ffi

import java.io.File
import java.net.{URL, URLClassLoader}
import java.nio.file.{Files, Path}
import java.nio.file.attribute.PosixFilePermissions

import org.scalatest.funsuite.AnyFunSuite

class NativeLibrarySuite extends AnyFunSuite {

  /** Loads our classes by itself, as Spark's loaders of --packages and of sessions do. */
  private final class OwnLoader(urls: Array[URL]) extends URLClassLoader(urls, getClass.getClassLoader) {
    override def loadClass(name: String, resolve: Boolean): Class[_] =
      if (!name.startsWith("sparkdl.ffi.")) super.loadClass(name, resolve)
      else getClassLoadingLock(name).synchronized(Option(findLoadedClass(name)).getOrElse(findClass(name)))

    def call(name: String, method: String, argument: Option[String] = None): Any = {
      val kinds = argument.map(_ => classOf[String]).toSeq
      try loadClass("sparkdl.ffi." + name).getMethod(method, kinds: _*).invoke(null, argument.toSeq: _*)
      catch { case e: java.lang.reflect.InvocationTargetException => throw e.getCause }
    }
  }

  private def newLoader(): OwnLoader = {
    val classes =
      System.getProperty("java.class.path").split(File.pathSeparator).filterNot(_.endsWith(".jar"))
    new OwnLoader(classes.map(new File(_).toURI.toURL))
  }

  private def newFolder(): Path = Files.createTempDirectory("sparkdl-native-")

  private def files(folder: Path): Seq[File] = {
    val entries = Option(folder.toFile.listFiles).toSeq.flatten
    entries.filter(_.isFile) ++ entries.filter(_.isDirectory).flatMap(entry => files(entry.toPath))
  }

  test("two class loaders of one JVM load the library, from one shared file and one that is gone") {
    val folder = newFolder()
    val loaders = Seq.fill(3)(newLoader())
    val versions = loaders.map { loader =>
      loader.call("NativeLibrary", "ensureLoaded", Some(folder.toString))
      loader.call("NativeApi", "version")
    }
    assert(versions.distinct == Seq(NativeLibrary.version()))
    assert(files(folder).map(_.getName) == Seq("libsparkdl_jni.so"))
  }

  test("the folder belongs to its user alone") {
    val folder = newFolder()
    newLoader().call("NativeLibrary", "ensureLoaded", Some(folder.toString))
    val unpacked = files(folder).head.getParentFile.toPath
    assert(PosixFilePermissions.toString(Files.getPosixFilePermissions(unpacked)) == "rwx------")
  }

  test("a half-written copy in the cache is replaced") {
    val folder = newFolder()
    newLoader().call("NativeLibrary", "ensureLoaded", Some(folder.toString))
    val shared = files(folder).head
    val length = shared.length
    assert(shared.delete())
    Files.write(shared.toPath, Array[Byte](1, 2, 3))
    newLoader().call("NativeLibrary", "ensureLoaded", Some(folder.toString))
    assert(shared.length == length)
  }

  test("a folder that cannot be written is one clear error, and the next try with another one works") {
    val file = Files.createTempFile("sparkdl-no-folder-", "")
    val loader = newLoader()
    def load(folder: Path) = loader.call("NativeLibrary", "ensureLoaded", Some(folder.toString))
    val error = intercept[RuntimeException](load(file))
    assert(
      error.getMessage.startsWith(s"Cannot unpack the native library to any of: $file/native"),
      error.getMessage
    )
    assert(error.getMessage.contains("Set spark.sparkdl.cacheDir (or SPARKDL_CACHE_DIR) to a folder"))
    load(newFolder())
    assert(loader.call("NativeApi", "version") == NativeLibrary.version())
  }

  test("an interrupted thread loads the library all the same") {
    val loader = newLoader()
    Thread.currentThread().interrupt()
    try loader.call("NativeLibrary", "ensureLoaded", Some(newFolder().toString))
    finally assert(Thread.interrupted())
    assert(loader.call("NativeApi", "version") == NativeLibrary.version())
  }

  test("a path that names no library is refused with the property that named it") {
    val loader = newLoader()
    System.setProperty(NativeLibrary.PATH_PROPERTY, "/no/such/library.so")
    try {
      val error = intercept[RuntimeException](loader.call("NativeLibrary", "ensureLoaded"))
      assert(
        error.getMessage.startsWith("Cannot load sparkdl.native.path=/no/such/library.so: "),
        error.getMessage
      )
    } finally System.clearProperty(NativeLibrary.PATH_PROPERTY)
  }
}
