package sparkdl.ffi;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.slf4j.event.Level;

/** Where the library's log lines come out: SLF4J, under {@code sparkdl.native}. */
final class NativeLog {
  private NativeLog() {}

  /** Called by native code. Levels count from 1 (error) to 5 (trace); the target is a Rust module path. */
  static void log(int level, String target, String message) {
    Logger logger = LoggerFactory.getLogger("sparkdl.native." + target.replace("::", "."));
    logger.makeLoggingEventBuilder(level(level)).log(message);
  }

  private static Level level(int level) {
    switch (level) {
      case 1:
        return Level.ERROR;
      case 2:
        return Level.WARN;
      case 3:
        return Level.INFO;
      case 4:
        return Level.DEBUG;
      default:
        return Level.TRACE;
    }
  }
}
