//! Receipts for lines of periods whose reports are stored already.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::folder::{Folder, FolderError};

/// How often a report is written again for them.
const REWRITE: Duration = Duration::from_secs(5);

/// Lines that have got their receipts, by period.
#[derive(Debug, Default)]
pub(super) struct Late {
    lines: BTreeMap<u64, u64>,
    written: Option<Instant>,
}

impl Late {
    pub(super) fn add(&mut self, (start_s, lines): (u64, u64)) {
        *self.lines.entry(start_s).or_default() += lines;
    }

    /// Writes the reports again, unless that was done a moment ago.
    pub(super) fn write(&mut self, folder: &Folder) -> Result<(), FolderError> {
        if self.lines.is_empty() || self.written.is_some_and(|at| at.elapsed() < REWRITE) {
            return Ok(());
        }
        self.written = Some(Instant::now());
        while let Some((start_s, lines)) = self.lines.first_key_value() {
            // A report that was removed meanwhile needs nothing.
            if let Some(mut report) = folder.load(*start_s)? {
                report.receipted(*lines);
                folder.store(&report)?;
            }
            self.lines.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipeline::shadow::{Report, Sealed, State};

    #[test]
    fn a_report_becomes_final_when_the_ledger_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), 3600).unwrap();
        let sealed = Sealed { lines: 10, waiting: 10, ..Sealed::default() };
        let mut report = Report { period_s: 3600, sealed, ..Report::default() };
        report.settle();
        folder.store(&report).unwrap();
        let mut late = Late::default();
        [(0, 3), (7200, 5)].into_iter().for_each(|receipted| late.add(receipted));
        late.write(&folder).unwrap();
        let stored = folder.load(0).unwrap().unwrap();
        assert_eq!((stored.sealed.in_ledger, stored.state), (3, State::Settled));
        late.add((0, 7));
        late.write(&folder).unwrap();
        assert_eq!(folder.load(0).unwrap().unwrap(), stored, "it was written a moment ago");
        late.written = None;
        late.write(&folder).unwrap();
        let stored = folder.load(0).unwrap().unwrap();
        assert_eq!((stored.sealed.in_ledger, stored.state), (10, State::Final));
    }
}
