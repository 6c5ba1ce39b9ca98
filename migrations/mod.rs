//! The history of the database's schema: one numbered file for each step, and this table, in order.
//!
//! A step that was released is never edited. It holds its own copies of the layouts it touches, so that a change of
//! today's code cannot change what it reads or writes. To change the schema: add a file, add a line, raise
//! `SCHEMA_VERSION`, and add a database of the version before to `tests/migrations.rs`.

#[path = "0001_initial.rs"]
mod initial;
#[path = "0002_node_addresses.rs"]
mod node_addresses;
#[path = "0003_piece_digests.rs"]
mod piece_digests;

use super::Step;

/// Every step, oldest first.
pub(super) const ALL: &[Step] = &[
    Step {
        from: 0,
        to: 1,
        name: "initial",
        run: initial::run,
    },
    Step {
        from: 1,
        to: 2,
        name: "node addresses",
        run: node_addresses::run,
    },
    Step {
        from: 2,
        to: 3,
        name: "piece digests",
        run: piece_digests::run,
    },
];
