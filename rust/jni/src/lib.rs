//! The JVM face: nothing but translation.
