//! format
pub mod metainfo;
