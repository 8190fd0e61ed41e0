//! What became of every line that was written: read back from the ledger as an auditor would.

use crate::{
    client::{block_on, read_policy},
    output::Failure,
    site::Site,
    tiles::Tiles,
};
use link::tls::TlsFiles;
use record::entry::{Entry, Kind, restore};
use std::collections::HashMap;

/// The account of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// Lines written.
    pub(super) written: u64,
    /// Records in the ledger.
    pub(super) records: u64,
    /// Entries in the ledger, its own included.
    pub(super) entries: u64,
    /// Written lines that are in the ledger.
    pub(super) found: u64,
    /// Written lines that are not.
    pub(super) lost: u64,
    /// Lines that are there more often than they were written.
    pub(super) duplicated: u64,
}

/// Reads the whole ledger over HTTPS from a node, checks it against its checkpoint, and compares.
pub(super) fn read(site: &Site, node: usize, written: &[Vec<u8>]) -> Result<Account, Failure> {
    let (_, policy) = read_policy(&site.path("policy"))?;
    let mut missing: HashMap<&[u8], i64> = HashMap::new();
    for line in written {
        *missing.entry(line).or_default() += 1;
    }
    let files = TlsFiles {
        ca: site.path("pki/ca.pem"),
        cert: site.cert("auditor", "auditor"),
        key: site.key("auditor", "auditor"),
        crl: Some(site.path("pki/crl.pem")),
    };
    let mut account = Account { written: written.len() as u64, ..Account::default() };
    let address = format!("127.0.0.1:{}", site.node_ports(node).https);
    block_on(async {
        let mut tiles = Tiles::connect(&address, files).await?;
        let checkpoint = tiles.read_all(&policy, |entry| {
            account.entries += 1;
            if Entry::parse(entry).is_ok_and(|entry| entry.kind() == Kind::Record) {
                account.records += 1;
                if let Ok(restored) = restore(entry)
                    && let Some(count) = missing.get_mut(restored.line.as_slice())
                {
                    *count -= 1;
                }
            }
        });
        checkpoint.await.map(drop)
    })?;
    account.lost = missing.values().filter(|count| **count > 0).map(|c| *c as u64).sum();
    account.duplicated =
        missing.values().filter(|count| **count < 0).map(|c| c.unsigned_abs()).sum();
    account.found = account.written - account.lost;
    Ok(account)
}
