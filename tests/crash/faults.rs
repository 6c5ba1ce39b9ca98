//! Single failures.
