//! From any past version of the database to this one, step by step. The steps themselves are in `migrations/`.

#[path = "../../migrations/mod.rs"]
mod steps;

use super::database::{Batch, Database};
use super::error::StoreError;
use super::schema;

/// One step of the schema's history.
pub(super) struct Step {
    /// The version it starts from.
    from: u32,
    /// The version it ends at.
    to: u32,
    /// What it does, in a word or two.
    name: &'static str,
    /// Says what changes. It reads rows as they are stored, seals and all, and names the new ones the same way.
    run: fn(&dyn Rows, &mut Changes) -> Result<(), StoreError>,
}

/// A key and its value, sealed, or why it cannot be read.
pub(super) type SealedRow = Result<(Vec<u8>, Vec<u8>), StoreError>;

/// The rows of a database as a step sees them.
pub(super) trait Rows {
    /// Keys and values, sealed, of the rows whose keys start with `prefix`, in order.
    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = SealedRow> + 'a>;
}

impl Rows for Database {
    fn scan<'a>(&'a self, prefix: &[u8]) -> Box<dyn Iterator<Item = SealedRow> + 'a> {
        Box::new(self.sealed_rows(prefix))
    }
}

/// What a step changes; all of it happens, together with the new version, or nothing.
#[derive(Default)]
pub(super) struct Changes(Batch);

impl Changes {
    /// Stores `value`, sealed by the step, under `key`.
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.put_sealed(key, value);
    }

    /// Removes what is under `key`.
    fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

/// Takes the database from version `found` to the one of this program. After a crash it goes on where it was.
pub(super) fn run(database: &mut Database, found: u32) -> Result<(), StoreError> {
    let mut version = found;
    for step in steps::ALL {
        if step.from != version {
            continue;
        }
        tracing::debug!(
            from = step.from,
            to = step.to,
            name = step.name,
            "migrating"
        );
        let mut changes = Changes::default();
        (step.run)(database, &mut changes)?;
        changes.0.put(schema::VERSION, &step.to.to_be_bytes());
        database.commit(changes.0)?;
        version = step.to;
    }
    assert_eq!(
        version,
        schema::SCHEMA_VERSION,
        "the steps lead from every version to this one"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_lead_from_nothing_to_this_version_one_by_one() {
        let versions: Vec<_> = steps::ALL.iter().map(|step| (step.from, step.to)).collect();
        let expected: Vec<_> = (0..schema::SCHEMA_VERSION).map(|v| (v, v + 1)).collect();
        assert_eq!(versions, expected);
    }
}
