//! The results, as Markdown.

use std::collections::BTreeMap;
use std::fmt;

use crate::common::payload::MIB;
use crate::download::Setup;
use crate::promise::Damage;

/// What came of a number of cuts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) cuts: usize,
    /// Bits of durable pieces that were held against their bytes, over all cuts.
    pub(crate) bits: usize,
    pub(crate) damage: Damage,
    /// The most bytes that were hashed at a start after a cut.
    pub(crate) rehashed: u64,
    /// Bytes that the seeder sent beyond the payloads.
    pub(crate) fetched_twice: u64,
}

impl Row {
    fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.bits += other.bits;
        self.damage.add(other.damage);
        self.rehashed = self.rehashed.max(other.rehashed);
        self.fetched_twice += other.fetched_twice;
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        write!(
            f,
            "{} | {} | {} | {} | {:.1} MiB | {:.1} MiB |",
            self.cuts,
            self.bits,
            self.damage.false_bits,
            self.damage.lost_torrents,
            mib(self.rehashed),
            mib(self.fetched_twice) / self.cuts.max(1) as f64,
        )
    }
}

/// Rows by what was cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(BTreeMap<Setup, Row>);

impl Table {
    /// Adds what came of cuts of `setup`.
    pub(crate) fn add(&mut self, setup: Setup, row: Row) {
        self.0.entry(setup).or_default().add(row);
    }

    /// Adds the rows of `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        for (setup, row) in other.0 {
            self.add(setup, row);
        }
    }

    /// All that went wrong.
    pub(crate) fn damage(&self) -> Damage {
        let mut damage = Damage::default();
        for row in self.0.values() {
            damage.add(row.damage.clone());
        }
        damage
    }

    /// Rows summed up by `name`, in the order of the first of each.
    fn by(&self, name: impl Fn(&Setup) -> String) -> Vec<(String, Row)> {
        let mut rows: Vec<(String, Row)> = Vec::new();
        for (setup, row) in &self.0 {
            let name = name(setup);
            match rows.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => sum.add(row.clone()),
                None => rows.push((name, row.clone())),
            }
        }
        rows
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = "cuts | bits checked | false bits | lost torrents | most re-hashed | fetched twice a cut |";
        let rule = "---:|---:|---:|---:|---:|---:|";
        writeln!(
            f,
            "| filesystem | write path | data and state | {head}\n|---|---|---|{rule}"
        )?;
        for (setup, row) in &self.0 {
            writeln!(
                f,
                "| {} | {} | {} | {row}",
                setup.kind, setup.io, setup.places
            )?;
        }
        writeln!(
            f,
            "\n| filesystem | data and state | {head}\n|---|---|{rule}"
        )?;
        for (name, row) in self.by(|setup| format!("{} | {}", setup.kind, setup.places)) {
            writeln!(f, "| {name} | {row}")?;
        }
        writeln!(f, "\n| filesystem | {head}\n|---|{rule}")?;
        for (name, row) in self.by(|setup| setup.kind.to_string()) {
            writeln!(f, "| {name} | {row}")?;
        }
        Ok(())
    }
}
