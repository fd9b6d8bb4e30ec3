//! The Python face: nothing but translation.
