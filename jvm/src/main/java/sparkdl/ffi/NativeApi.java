package sparkdl.ffi;

import java.nio.ByteBuffer;

/**
 * Every native function, the mirror of {@code rust/jni/src/exports.rs}. Call {@link NativeLibrary#ensureLoaded()} first.
 *
 * <p>Options are pairs in one array: key, value, key, value. A model or result is a number that stands for it until it is
 * closed; after that every call with the number fails with {@link ErrorKind#Closed}. Batches and results are Arrow IPC
 * streams of one record batch. All failures are {@link SparkDLException} or {@link SparkDLArgumentException}.
 */
public final class NativeApi {
  private NativeApi() {}

  /** The version of the library, which must be the jar's. */
  public static native String version();

  /** Name, condition and SQLSTATE of every error kind, one after the other. */
  public static native String[] errorKinds();

  /** Sends the library's log to {@link NativeLog}, from {@code level} on: error, warn, info, debug, trace or off. */
  public static native void startLogging(String level);

  /** The table of built-in models, as JSON. */
  public static native String namedModels();

  /** Synset and label of ImageNet's 1,000 classes in class order, as JSON. */
  public static native String imagenetLabels();

  /** Loads TensorFlow, or finds it loaded: its version and its file. */
  public static native String[] loadTensorFlow(String[] options);

  /** What runs use in this process: CPU, or accelerators, as GPU or 2 GPU. TensorFlow must be loaded. */
  public static native String device();

  /** Reads and checks a bundle without TensorFlow: its manifest as JSON and its SHA-256. */
  public static native String[] describeBundle(String path);

  /** Writes a whole Keras file as a bundle. Needs neither Keras nor TensorFlow. */
  public static native void convertKeras(String[] options);

  /** Writes what runs of a TensorFlow graph or SavedModel as a bundle. TensorFlow must be loaded. */
  public static native void convertGraph(String[] options);

  /** Fetches a file over HTTP, resumed and checked; it appears under its name only when it is whole. */
  public static native void download(String[] options);

  /** Opens a bundle. TensorFlow must be loaded. */
  public static native long openModel(String[] options);

  /** Runs the batch in the first {@code length} bytes of a direct buffer, which is read during the call only. */
  public static native long runModel(long model, ByteBuffer batch, int length);

  /** Makes runs in flight and later ones fail with {@link ErrorKind#Cancelled}. */
  public static native void cancelModel(long model);

  /** Rows, invalid rows, native calls, session runs, decode nanoseconds, run nanoseconds. */
  public static native long[] metrics(long model);

  /** Gives the model up; runs in flight end first by themselves. Closing twice is no error. */
  public static native void closeModel(long model);

  /** Decodes a column of pictures, as {@link #runModel} takes its batch. */
  public static native long decodeImages(String[] options, ByteBuffer batch, int length);

  /** Encodes a column of pictures, as {@link #runModel} takes its batch. */
  public static native long encodeImages(String[] options, ByteBuffer batch, int length);

  /** Reads the headers of a column of encoded pictures, as {@link #runModel} takes its batch. */
  public static native long imageInfo(String[] options, ByteBuffer batch, int length);

  /** The bytes of a result: native memory, readable until {@link #releaseResult} and not a moment longer. */
  public static native ByteBuffer resultBuffer(long result);

  /** Frees a result. Releasing twice is no error. */
  public static native void releaseResult(long result);

  /** How many models and how many results are open. */
  public static native long[] liveHandles();

  /** How many of these functions have been called so far, this one included. */
  public static native long calls();
}
