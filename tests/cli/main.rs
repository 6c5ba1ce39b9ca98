//! The contract of the command line, held against the real program: what it prints, writes and exits with.

mod create;
mod events;
mod legacy;
mod refusals;
mod state;
mod support;
mod verify;
