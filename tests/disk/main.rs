//! The disk layer as its users see it: opening, writing, checking and syncing whole payloads on a real filesystem.

mod errors;
mod hashing;
mod locks;
mod payload;
mod rig;
