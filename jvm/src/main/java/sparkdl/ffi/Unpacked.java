package sparkdl.ffi;

import java.io.Closeable;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/**
 * The native library as a file of this class loader.
 *
 * <p>The first class loader of a JVM takes the node's shared copy {@code <folder>/<digest>/<name>}. A JVM refuses to load
 * one file through two class loaders, so the others take a copy of their own, which goes when it has been loaded.
 * Bytes flow through java.io only: an interrupted thread closes NIO channels under us.
 */
final class Unpacked implements Closeable {
  private final File file;
  private final boolean shared;

  private Unpacked(File file, boolean shared) {
    this.file = file;
    this.shared = shared;
  }

  static Unpacked of(String resource, String digest, File folder) throws IOException {
    File digestFolder = new File(folder, digest.substring(0, 16));
    Files.createDirectories(
        digestFolder.toPath(),
        PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
    String name = resource.substring(resource.lastIndexOf('/') + 1);
    File common = new File(digestFolder, name);
    if (!digest.equals(digestOf(common))) {
      File part = extract(resource, digest, digestFolder);
      move(part.toPath(), common.toPath());
    }
    // System properties are the one table that all class loaders of a JVM share.
    boolean first = System.getProperties().putIfAbsent("sparkdl.native.loaded." + common, "true") == null;
    return first ? new Unpacked(common, true) : new Unpacked(extract(resource, digest, digestFolder), false);
  }

  File file() {
    return file;
  }

  /** Linux keeps a loaded file's pages when its name goes. */
  @Override
  public void close() throws IOException {
    if (!shared) {
      Files.deleteIfExists(file.toPath());
    }
  }

  private static File extract(String resource, String digest, File folder) throws IOException {
    File part = File.createTempFile("sparkdl-", ".so", folder);
    boolean done = false;
    try (InputStream in = Unpacked.class.getResourceAsStream(resource);
        OutputStream out = new FileOutputStream(part)) {
      if (in == null) {
        throw new IOException("the jar holds no " + resource);
      }
      in.transferTo(out);
      done = true;
    } finally {
      if (!done) {
        Files.deleteIfExists(part.toPath());
      }
    }
    if (!digest.equals(digestOf(part))) {
      Files.deleteIfExists(part.toPath());
      throw new IOException("the unpacked library differs from the jar's: is the disk full?");
    }
    return part;
  }

  private static void move(Path from, Path to) throws IOException {
    try {
      Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);
    } catch (AtomicMoveNotSupportedException e) {
      Files.move(from, to, StandardCopyOption.REPLACE_EXISTING);
    }
  }

  /** Empty where there is no such file. */
  private static String digestOf(File file) throws IOException {
    if (!file.isFile()) {
      return "";
    }
    MessageDigest sha256;
    try {
      sha256 = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException(e);
    }
    try (InputStream in = new DigestInputStream(new FileInputStream(file), sha256)) {
      in.transferTo(OutputStream.nullOutputStream());
    }
    return HexFormat.of().formatHex(sha256.digest());
  }
}
