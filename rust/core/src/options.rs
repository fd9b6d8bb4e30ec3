//! Parses string pairs into checked structs; refuses unknown and missing keys.
