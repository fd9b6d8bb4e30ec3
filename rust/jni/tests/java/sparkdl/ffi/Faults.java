package sparkdl.ffi;

import java.nio.ByteBuffer;
import java.util.Arrays;

/** What Java sees of each call: the value, or the exception. Its own native methods live in boundary.rs. */
final class Faults {
  private static final String[] DECODE = {
    "height", "4", "width", "4", "scaleHint", "SCALE_DEFAULT", "resizeMode", "stretch", "maxPixels", "1000000",
    "applyExifOrientation", "false", "fastDecode", "false", "threads", "1",
  };

  private Faults() {}

  static native void fail(String kind, String message);

  static native void panic(String message);

  static native void failWhilePending();

  /** Called by failWhilePending. */
  static void throwFirst() {
    throw new UnsupportedOperationException("the first exception");
  }

  static String outcome(String call, String argument) {
    try {
      return "returned " + call(call, argument);
    } catch (SparkDLException e) {
      return "SparkDLException " + e.kind() + " " + e.getCondition() + " " + e.getSqlState() + ": " + e.getMessage();
    } catch (SparkDLArgumentException e) {
      return "SparkDLArgumentException " + e.kind() + " " + e.getCondition() + " " + e.getSqlState() + ": "
          + e.getMessage();
    } catch (Throwable e) {
      return e.getClass().getSimpleName() + ": " + e.getMessage();
    }
  }

  private static Object call(String call, String argument) {
    switch (call) {
      case "fail":
        fail(argument, "the words of " + argument);
        return "";
      case "panic":
        panic(argument);
        return "";
      case "failWhilePending":
        failWhilePending();
        return "";
      case "version":
        return NativeApi.version();
      case "errorKinds":
        return String.join(" ", NativeApi.errorKinds());
      case "metrics":
        return NativeApi.metrics(Long.parseLong(argument));
      case "cancelModel":
        NativeApi.cancelModel(Long.parseLong(argument));
        return "";
      case "closeModel":
        NativeApi.closeModel(Long.parseLong(argument));
        return "";
      case "resultBuffer":
        return NativeApi.resultBuffer(Long.parseLong(argument));
      case "releaseResult":
        NativeApi.releaseResult(Long.parseLong(argument));
        return "";
      case "startLogging":
        NativeApi.startLogging(argument);
        return "";
      case "describeBundle":
        return NativeApi.describeBundle(argument)[1];
      case "openModel":
        return NativeApi.openModel(argument.split(","));
      case "decodeHeapBuffer":
        return NativeApi.decodeImages(DECODE, ByteBuffer.allocate(8), 8);
      case "decodeNull":
        return NativeApi.decodeImages(DECODE, null, 8);
      case "decodeDirectBuffer":
        return NativeApi.decodeImages(DECODE, ByteBuffer.allocateDirect(8), Integer.parseInt(argument));
      case "liveHandles":
        return Arrays.toString(NativeApi.liveHandles());
      default:
        throw new IllegalArgumentException(call);
    }
  }

  /** Decodes a batch and copies the result before it is released. */
  static byte[] decode(ByteBuffer batch, int length) {
    long result = NativeApi.decodeImages(DECODE, batch, length);
    try {
      ByteBuffer memory = NativeApi.resultBuffer(result);
      byte[] copy = new byte[memory.remaining()];
      memory.get(copy);
      return copy;
    } finally {
      NativeApi.releaseResult(result);
    }
  }
}
