//! Which entries belong into an export, and how many there are of what.

use super::{
    manifest::{Manifest, Numbers},
    row::Row,
};
use crate::{output::Failure, times::Moment};
use record::UnixMillis;
use std::collections::BTreeMap;

/// Counts the rows of an export, and finds those that cannot be.
pub struct Tally {
    agents: Vec<String>,
    sources: Vec<String>,
    from: Option<UnixMillis>,
    to: Option<UnixMillis>,
    kinds: BTreeMap<String, u64>,
    records: BTreeMap<String, Numbers>,
}

impl Tally {
    /// For an export with these filters and times.
    ///
    /// # Errors
    /// A time of the manifest is none.
    pub fn new(manifest: &Manifest) -> Result<Self, Failure> {
        let (from, to) = times(manifest)?;
        Ok(Tally {
            agents: manifest.agents.clone(),
            sources: manifest.sources.clone(),
            from,
            to,
            kinds: BTreeMap::new(),
            records: BTreeMap::new(),
        })
    }

    /// Whether a row belongs into the export; it is counted then.
    ///
    /// # Errors
    /// What of it cannot be, if the range is what it is said to be.
    pub fn take(&mut self, row: &Row) -> Result<bool, String> {
        self.check_time(row)?;
        let of = |wanted: &[String], name: &str| {
            wanted.is_empty()
                || row.param(name).is_some_and(|value| wanted.iter().any(|known| known == value))
        };
        if !of(&self.agents, "agent") || !of(&self.sources, "source") {
            return Ok(false);
        }
        *self.kinds.entry(row.kind.to_owned()).or_default() += 1;
        if let (Some(n), Some(agent)) = (row.number(), row.param("agent")) {
            self.number(agent, n)?;
        }
        Ok(true)
    }

    /// An agent's records have no gaps, unless those of other sources are left out.
    fn number(&mut self, agent: &str, n: u64) -> Result<(), String> {
        let Some(numbers) = self.records.get_mut(agent) else {
            let numbers = Numbers { count: 1, first_n: n, last_n: n };
            self.records.insert(agent.to_owned(), numbers);
            return Ok(());
        };
        let expected = numbers.last_n.saturating_add(1);
        let follows = if self.sources.is_empty() { n == expected } else { n >= expected };
        if !follows {
            return Err(format!("record {n} of agent {agent} stands where {expected} should"));
        }
        numbers.count += 1;
        numbers.last_n = n;
        Ok(())
    }

    fn check_time(&self, row: &Row) -> Result<(), String> {
        if row.kind != "block" {
            return Ok(());
        }
        let time = row.param("time").and_then(|time| time.parse().ok()).map(UnixMillis);
        let time = time.ok_or_else(|| format!("the block entry {} has no time", row.index))?;
        let early = self.from.is_some_and(|from| time < from);
        if early || self.to.is_some_and(|to| time >= to) {
            return Err(format!("the block entry {} is of {time}", row.index));
        }
        Ok(())
    }

    /// What was counted: kinds, and records by agent.
    pub fn finish(self) -> (BTreeMap<String, u64>, BTreeMap<String, Numbers>) {
        (self.kinds, self.records)
    }
}

/// The times of a manifest.
///
/// # Errors
/// One is none.
pub fn times(manifest: &Manifest) -> Result<(Option<UnixMillis>, Option<UnixMillis>), Failure> {
    let moment = |text: &Option<String>| {
        let parsed = text.as_ref().map(|text| text.parse::<Moment>()).transpose();
        parsed.map(|moment| moment.map(|moment| moment.0))
    };
    let failed = |error: crate::times::NoMoment| Failure(format!("{}: {error}", super::MANIFEST));
    Ok((moment(&manifest.from).map_err(failed)?, moment(&manifest.to).map_err(failed)?))
}
