//! The folder of reports: two files a period, one for programs and one for people.
//!
//! A file is replaced as a whole or stays as it was, whatever happens meanwhile.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use pipeline::shadow::Report;
use record::UnixSeconds;

/// A report that is larger was not written here, in bytes.
const MAX_REPORT: u64 = 16 << 20;

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

/// The folder.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    period_s: u64,
}

impl FolderError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
        move |source| FolderError { path: path.to_owned(), source }
    }
}

impl Folder {
    /// Opens a folder for reports of such periods; makes it if it is not there.
    ///
    /// # Errors
    /// When it can neither be opened nor made.
    pub fn open(dir: &Path, period_s: u64) -> Result<Self, FolderError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(FolderError::at(dir))?;
        Ok(Folder { dir: dir.to_owned(), period_s })
    }

    /// Stores a report in place of an earlier one of the same period.
    ///
    /// # Errors
    /// When it cannot be written; the earlier one is as it was.
    pub fn store(&self, report: &Report) -> Result<(), FolderError> {
        let name = name(report.start_s, report.period_s);
        let json = serde_json::to_string_pretty(report).map_err(io::Error::from);
        let json = json.map_err(FolderError::at(&self.dir))?;
        self.replace(&format!("{name}.json"), &json)?;
        self.replace(&format!("{name}.txt"), &report.to_string())
    }

    /// The report of a period, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(&self, start_s: u64) -> Result<Option<Report>, FolderError> {
        let path = self.dir.join(format!("{}.json", name(start_s, self.period_s)));
        match path.exists() {
            true => read(&path).map(Some),
            false => Ok(None),
        }
    }

    /// Removes the reports of periods that began before this; how many.
    ///
    /// # Errors
    /// When the folder cannot be read, or a report not be removed.
    pub fn prune(&self, before_s: u64) -> Result<usize, FolderError> {
        let limit = name(before_s, 1);
        let mut removed = 0;
        for path in files(&self.dir)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let whole_hours = if stem.len() == 13 { "-00-00" } else { "" };
            if is_name(&stem) && format!("{stem}{whole_hours}") < limit {
                fs::remove_file(&path).map_err(FolderError::at(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let (path, fresh) = (self.dir.join(name), self.dir.join(format!(".{name}.new")));
        let write = || {
            let options =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
            let mut file = options.open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(FolderError::at(&path))
    }
}

/// The wanted reports of a folder in the order of time, and what is wrong with files that are none.
/// Those that are not wanted are not kept in memory: there may be thousands.
///
/// # Errors
/// When the folder cannot be read.
pub fn load_all(
    dir: &Path,
    wanted: impl Fn(&Report) -> bool,
) -> Result<(Vec<Report>, Vec<FolderError>), FolderError> {
    let (mut reports, mut problems) = (Vec::new(), Vec::new());
    for path in files(dir)? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.extension().is_some_and(|extension| extension == "json") && is_name(&stem) {
            match read(&path) {
                Ok(report) if wanted(&report) => reports.push(report),
                Ok(_) => {}
                Err(error) => problems.push(error),
            }
        }
    }
    reports.sort_by_key(|report: &Report| report.start_s);
    Ok((reports, problems))
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let entries = fs::read_dir(dir).map_err(FolderError::at(dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<io::Result<_>>().map_err(FolderError::at(dir))
}

fn read(path: &Path) -> Result<Report, FolderError> {
    let read = || {
        if fs::metadata(path)?.len() > MAX_REPORT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too large to be a report"));
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    };
    read().map_err(FolderError::at(path))
}

/// `2026-11-21T10`, and with minutes and seconds where periods are no whole hours.
fn name(start_s: u64, period_s: u64) -> String {
    let text = UnixSeconds(start_s).to_string();
    match period_s.is_multiple_of(3600) {
        true => text[..13].to_owned(),
        false => text[..19].replace(':', "-"),
    }
}

fn is_name(stem: &str) -> bool {
    let shape = "0000-00-00T00-00-00";
    let fits = |(shape, byte): (u8, u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        shape => shape == byte,
    };
    matches!(stem.len(), 13 | 19) && shape.bytes().zip(stem.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const TEN: u64 = 1_795_255_200;

    fn report(start_s: u64) -> Report {
        Report { start_s, period_s: HOUR, lost: start_s % 7, ..Report::default() }
    }

    #[test]
    fn reports_are_found_by_their_hour_and_go_when_they_are_old() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("a/shadow"), HOUR).unwrap();
        let dir = dir.path().join("a/shadow");
        for hour in 0..3 {
            folder.store(&report(TEN + hour * HOUR)).unwrap();
        }
        assert!(dir.join("2026-11-21T10.json").exists() && dir.join("2026-11-21T10.txt").exists());
        assert_eq!(folder.load(TEN).unwrap(), Some(report(TEN)));
        assert_eq!(folder.load(TEN - HOUR).unwrap(), None);
        fs::write(dir.join("2026-11-21T09.json"), "{").unwrap();
        fs::write(dir.join("notes.json"), "mine").unwrap();
        let (reports, problems) = load_all(&dir, |_| true).unwrap();
        assert_eq!(reports, [0, 1, 2].map(|hour| report(TEN + hour * HOUR)));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains("T09.json"));
        assert_eq!(folder.prune(TEN + HOUR).unwrap(), 3);
        assert_eq!(load_all(&dir, |_| true).unwrap().0.len(), 2);
        assert!(dir.join("notes.json").exists(), "it is nobody's report");
    }
}
