//! metainfo
/// Placeholder.
#[derive(Clone, Debug)]
pub struct Metainfo;
