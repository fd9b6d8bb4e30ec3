"""The stages, one class per file."""
