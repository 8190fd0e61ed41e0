//! A file as the output: each entry exactly once, whatever is killed when.
//!
//! The state says where the file ends. What stands behind that was written, and not recorded: it is cut
//! off at the start, and written again. A rotated file is found by its inode.

use super::{
    config::{FileOutput, Framing},
    state::Place,
};
use crate::{
    export::{Row, sync_dir},
    output::Failure,
};
use std::{
    fs::{self, File, Metadata},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The output file.
pub struct FileSink {
    path: PathBuf,
    format: Framing,
    file: File,
    place: Place,
}

impl FileSink {
    /// Opens the file and cuts off what the state does not know of.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn open(output: &FileOutput, known: Option<Place>) -> Result<Self, Failure> {
        let (file, mut place) = open(&output.path)?;
        match known {
            Some(known) if is_at(known, place) => {
                place.length = cut(&file, known.length).map_err(Failure::file(&output.path))?;
            }
            Some(known) => cut_rotated(&output.path, known)?,
            None => {}
        }
        Ok(FileSink { path: output.path.clone(), format: output.format, file, place })
    }

    /// Opens what is called so now: it was rotated. Nothing may be written before the new place is saved.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn reopen(&mut self) -> Result<(), Failure> {
        (self.file, self.place) = open(&self.path)?;
        Ok(())
    }

    /// Where the file ends.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Writes an entry as it stands in the file.
    pub fn frame(&self, index: u64, entry: &[u8], out: &mut Vec<u8>) {
        match self.format {
            Framing::Jsonl => out.extend(Row::of(index, entry).to_json().to_string().bytes()),
            Framing::Lines => out.extend_from_slice(entry),
            Framing::Counted => {
                // A vector takes everything.
                let _ = write!(out, "{} ", entry.len());
                out.extend_from_slice(entry);
            }
        }
        out.push(b'\n');
    }

    /// Appends bytes, durably, or not at all.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let named = |error| Failure::file(&self.path)(error);
        let length = self.file.metadata().map_err(named)?.len();
        if length < self.place.length {
            tracing::warn!(path = %self.path.display(), "somebody cut the output file; going on at its end");
            self.place.length = length;
        }
        let written = self.file.write_all_at(bytes, self.place.length);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // What this does not take back the next start cuts off.
            let _ = self.file.set_len(self.place.length);
            return Err(Failure::file(&self.path)(error));
        }
        self.place.length += bytes.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> Result<(File, Place), Failure> {
    let file = File::options().write(true).create(true).truncate(false).mode(0o640).open(path);
    let file = file.map_err(Failure::file(path))?;
    // The name of a new file must be as durable as the state that will rest on it.
    sync_dir(path.parent().unwrap_or(Path::new("")))?;
    let place = place_of(&file.metadata().map_err(Failure::file(path))?);
    Ok((file, place))
}

fn place_of(metadata: &Metadata) -> Place {
    Place { device: metadata.dev(), inode: metadata.ino(), length: metadata.len() }
}

fn is_at(a: Place, b: Place) -> bool {
    (a.device, a.inode) == (b.device, b.inode)
}

/// Cuts a file to a length; its length after that.
fn cut(file: &File, length: u64) -> io::Result<u64> {
    let found = file.metadata()?.len();
    if found < length {
        tracing::warn!("the output file is shorter than what was delivered: somebody cut it");
        return Ok(found);
    }
    if found > length {
        tracing::info!(bytes = found - length, "cutting off what was written and not recorded");
        file.set_len(length)?;
        file.sync_all()?;
    }
    Ok(length)
}

/// Finds the file that was rotated meanwhile, in the same folder, and cuts it.
fn cut_rotated(path: &Path, known: Place) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).map_err(Failure::file(folder))? {
        let entry = entry.map_err(Failure::file(folder))?;
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && is_at(place_of(&metadata), known) {
            let path = entry.path();
            let file = File::options().write(true).open(&path).map_err(Failure::file(&path))?;
            return cut(&file, known.length).map(drop).map_err(Failure::file(&path));
        }
    }
    tracing::warn!(
        "the file that was written last is gone or compressed: if this program was killed, the end of \
         it may come again"
    );
    Ok(())
}
