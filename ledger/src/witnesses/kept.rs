//! The newest witnessed checkpoint in a file: what a node serves it goes on serving after a start.

use record::{
    Checkpoint, Origin, TreeSize,
    note::{MAX_NOTE_LEN, SignedNote, VerifierKey},
};
use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// Reads it; `None` if there is none that could be served now.
///
/// # Errors
/// It cannot be read, is none, or says more than the store has.
pub(super) fn read(
    path: &Path,
    origin: &Origin,
    tip: TreeSize,
    witnesses: &[VerifierKey],
    needed: usize,
) -> Result<Option<SignedNote>, String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| error.to_string())?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_NOTE_LEN as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let note = SignedNote::parse(&bytes).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
    if checkpoint.origin != *origin {
        return Err(format!("it is of the ledger {}", checkpoint.origin));
    }
    if checkpoint.size > tip {
        return Err(format!(
            "it is for {} entries, and the store has {tip}: the store is an older one",
            checkpoint.size
        ));
    }
    // Fewer after the configuration has changed.
    let cosigned = note.verify(witnesses).map_or(0, |verified| verified.len());
    Ok((cosigned >= needed).then_some(note))
}

/// Replaces it, durably.
pub(super) fn write(path: &Path, note: &SignedNote) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(note.to_string().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
