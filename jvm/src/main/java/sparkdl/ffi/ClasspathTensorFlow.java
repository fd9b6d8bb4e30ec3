package sparkdl.ffi;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.RandomAccessFile;
import java.net.JarURLConnection;
import java.net.URL;
import java.net.URLConnection;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;

/**
 * TensorFlow's libraries where a jar on the class path carries them: TensorFlow Java's native artifact, or any jar that
 * has them under {@code native/<os>-<arch>/}.
 *
 * <p>They are unpacked once per node, to a folder below the user's cache that is named by their checksums; other JVMs of
 * the node wait for the one that unpacks.
 */
public final class ClasspathTensorFlow {
  /** The library itself comes first, then the one it needs. */
  private static final List<List<String>> LIBRARIES = List.of(
      List.of("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"),
      List.of("libtensorflow.so.2", "libtensorflow_framework.so.2"));

  private static String found;

  private ClasspathTensorFlow() {}

  /** The folder that holds the libraries of the class path; empty where no jar has them. It is looked for once. */
  public static synchronized String folder(String cacheDir) {
    if (found == null) {
      found = find(NativeLibrary.folders(cacheDir, "tensorflow"));
    }
    return found;
  }

  private static String find(List<File> caches) {
    String platform = NativeLibrary.platform();
    for (String place : List.of("native/" + platform + "/", "org/tensorflow/internal/c_api/" + platform + "/")) {
      for (List<String> names : LIBRARIES) {
        List<URL> libraries = new ArrayList<>();
        for (String name : names) {
          URL library = resource(place + name);
          if (library != null) {
            libraries.add(library);
          }
        }
        if (libraries.size() == names.size()) {
          return unpacked(libraries, caches);
        }
      }
    }
    return "";
  }

  /** Spark's own loaders hold what --packages and --jars bring; extraClassPath is our class's. */
  private static URL resource(String name) {
    ClassLoader context = Thread.currentThread().getContextClassLoader();
    URL url = context == null ? null : context.getResource(name);
    return url == null ? ClasspathTensorFlow.class.getClassLoader().getResource(name) : url;
  }

  private static String unpacked(List<URL> libraries, List<File> caches) {
    List<String> tried = new ArrayList<>();
    IOException failure = null;
    for (File cache : caches) {
      try {
        return unpack(libraries, cache);
      } catch (IOException e) {
        tried.add(cache + " (" + e.getMessage() + ")");
        failure = e;
      }
    }
    throw ErrorKind.Io.exception(
        "Cannot unpack TensorFlow of the class path (" + libraries.get(0) + ") to any of: " + String.join("; ", tried)
            + ". Set spark.sparkdl.cacheDir (or SPARKDL_CACHE_DIR) to a folder that this user can write and that has 1 GB.",
        failure);
  }

  private static String unpack(List<URL> libraries, File cache) throws IOException {
    StringBuilder key = new StringBuilder();
    for (URL library : libraries) {
      JarEntry entry = entry(library);
      if (entry == null) {
        // A folder on the class path: the files are there already.
        return new File(library.getPath()).getParent();
      }
      key.append(key.length() == 0 ? "" : "-").append(String.format("%08x%x", entry.getCrc(), entry.getSize()));
    }
    Files.createDirectories(
        cache.toPath(), PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
    Path folder = cache.toPath().resolve(key.toString());
    try (RandomAccessFile lockFile = new RandomAccessFile(new File(cache, key + ".lock"), "rw");
        FileLock lock = lockFile.getChannel().lock()) {
      if (lock.isValid() && !Files.isDirectory(folder)) {
        Path part = Files.createTempDirectory(cache.toPath(), "part-");
        try {
          for (URL library : libraries) {
            copy(library, part);
          }
          Files.move(part, folder, StandardCopyOption.ATOMIC_MOVE);
        } finally {
          delete(part.toFile());
        }
      }
    }
    return folder.toString();
  }

  private static void copy(URL library, Path folder) throws IOException {
    String path = library.getPath();
    File file = folder.resolve(path.substring(path.lastIndexOf('/') + 1)).toFile();
    CRC32 sum = new CRC32();
    try (InputStream in = new CheckedInputStream(open(library).getInputStream(), sum);
        OutputStream out = new FileOutputStream(file)) {
      in.transferTo(out);
    }
    if (sum.getValue() != entry(library).getCrc()) {
      throw new IOException(file.getName() + " differs from the jar's");
    }
  }

  private static JarEntry entry(URL library) throws IOException {
    return open(library) instanceof JarURLConnection jar ? jar.getJarEntry() : null;
  }

  private static URLConnection open(URL library) throws IOException {
    URLConnection connection = library.openConnection();
    // A cached one keeps the jar open for good.
    connection.setUseCaches(false);
    return connection;
  }

  private static void delete(File folder) throws IOException {
    File[] files = folder.listFiles();
    if (files != null) {
      for (File file : files) {
        Files.deleteIfExists(file.toPath());
      }
      Files.deleteIfExists(folder.toPath());
    }
  }
}
