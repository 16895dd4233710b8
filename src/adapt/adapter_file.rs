//! Adapter files.
