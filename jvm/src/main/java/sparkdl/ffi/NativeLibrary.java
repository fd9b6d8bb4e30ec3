package sparkdl.ffi;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Loads the native library, once per class loader.
 *
 * <p>The file named by the system property {@code sparkdl.native.path} comes first, then the copy in the jar. Nothing is
 * loaded by a static initialiser, and a failure is not kept: the next call tries again.
 */
public final class NativeLibrary {
  /** The system property that names the library file. */
  public static final String PATH_PROPERTY = "sparkdl.native.path";

  private static final String NAME = "libsparkdl_jni.so";

  private static boolean loaded;

  private NativeLibrary() {}

  /** Loads the library, unless it is loaded; it is unpacked below the user's cache folder. */
  public static void ensureLoaded() {
    ensureLoaded(null);
  }

  /**
   * Loads the library, unless it is loaded; it is unpacked below {@code cacheDir}. Where that is null, SPARKDL_CACHE_DIR
   * counts, then the user's cache folder, then a folder of the user's in the machine's temporary one.
   */
  public static synchronized void ensureLoaded(String cacheDir) {
    if (loaded) {
      return;
    }
    String path = System.getProperty(PATH_PROPERTY);
    if (path != null && !path.isEmpty()) {
      loadFile(new File(path).getAbsoluteFile(), PATH_PROPERTY + "=" + path);
    } else {
      unpackAndLoad(folders(cacheDir, "native"));
    }
    checkVersion();
    loaded = true;
  }

  /** The version of the jar. */
  public static String version() {
    return resourceText("/sparkdl/version");
  }

  private static void unpackAndLoad(List<File> folders) {
    String resource = "/native/" + platform() + "/" + NAME;
    String digest = resourceText(resource + ".sha256");
    List<String> tried = new ArrayList<>();
    IOException failure = null;
    for (File folder : folders) {
      try (Unpacked unpacked = Unpacked.of(resource, digest, folder)) {
        loadFile(unpacked.file(), "the library of the jar, unpacked to " + unpacked.file());
        return;
      } catch (IOException e) {
        tried.add(folder + " (" + e.getMessage() + ")");
        failure = e;
      }
    }
    throw ErrorKind.Io.exception(
        "Cannot unpack the native library to any of: " + String.join("; ", tried)
            + ". Set spark.sparkdl.cacheDir (or SPARKDL_CACHE_DIR) to a folder that this user can write.",
        failure);
  }

  private static void loadFile(File file, String what) {
    try {
      System.load(file.getPath());
    } catch (UnsatisfiedLinkError e) {
      throw ErrorKind.Io.exception(
          "Cannot load " + what + ": " + e.getMessage() + ". It needs Linux on " + platform()
              + " and a folder without noexec: set spark.sparkdl.cacheDir to such a folder, or the system property "
              + PATH_PROPERTY + " to a library that was built for this machine.",
          e);
    }
  }

  private static void checkVersion() {
    String library = NativeApi.version();
    if (!library.equals(version())) {
      throw ErrorKind.InvalidArgument.exception(
          "The native library has version " + library + " but the jar has " + version()
              + ": unset the system property " + PATH_PROPERTY + ", or point it at the library of this version.");
    }
  }

  /** A folder that was asked for is the only one tried; of the others the first that can be written. */
  static List<File> folders(String cacheDir, String name) {
    String asked = cacheDir == null || cacheDir.isEmpty() ? environment("SPARKDL_CACHE_DIR") : cacheDir;
    if (!asked.isEmpty()) {
      return List.of(new File(asked, name));
    }
    String base = environment("XDG_CACHE_HOME");
    if (base.isEmpty()) {
      base = System.getProperty("user.home", "") + "/.cache";
    }
    // A folder of the user's own, since others on the node may unpack another library.
    String user = "spark-deep-learning-" + System.getProperty("user.name", "user");
    return List.of(
        new File(base, "spark-deep-learning/" + name),
        new File(System.getProperty("java.io.tmpdir"), user + "/" + name));
  }

  private static String environment(String name) {
    String value = System.getenv(name);
    return value == null ? "" : value;
  }

  static String platform() {
    String arch = System.getProperty("os.arch");
    String name = arch.equals("amd64") ? "x86_64" : arch.equals("arm64") ? "aarch64" : arch;
    return System.getProperty("os.name").toLowerCase(java.util.Locale.ROOT) + "-" + name;
  }

  private static String resourceText(String resource) {
    try (InputStream stream = NativeLibrary.class.getResourceAsStream(resource)) {
      if (stream == null) {
        throw ErrorKind.Io.exception(
            "The jar holds no " + resource.substring(1) + ", so it was not built for this machine. Build it here with"
                + " make build, or set the system property " + PATH_PROPERTY + " to a library that was.");
      }
      return new String(stream.readAllBytes(), StandardCharsets.UTF_8).trim();
    } catch (IOException e) {
      throw ErrorKind.Io.exception("Cannot read " + resource.substring(1) + " of the jar", e);
    }
  }
}
