//! What a tailed source is configured with.

use std::{io, path::Path, time::Duration};

use pipeline::{MAX_LINE, line::SourceId};

/// Lower than this, a limit for lines would only cut ordinary lines to pieces, in bytes.
pub const MIN_LINE_LIMIT: usize = 1024;

/// Which files to tail, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailConfig {
    /// The source.
    pub id: SourceId,
    /// Absolute paths and globs (`*`, `?`, `[…]`, `**`) of the files.
    /// A `*` matches neither `/` nor a leading dot.
    pub paths: Vec<String>,
    /// Globs of files that are not to be read although `paths` matches them: `/var/log/app/*.gz`.
    pub exclude: Vec<String>,
    /// Where files are read from that exist when the source starts for the first time ever.
    pub start: Start,
    /// The longest line, in bytes; a longer one is handed over in pieces of this length.
    /// From [`MIN_LINE_LIMIT`] to [`MAX_LINE`].
    pub max_line: usize,
    /// How changes are noticed.
    pub watch: Watch,
    /// How often directories and files are looked at even if the system reported no change.
    pub rescan: Duration,
    /// For how long a file that was rotated away must have been quiet until it counts as complete.
    pub grace: Duration,
    /// How many files are open at a time, at most. When there are more, files
    /// that have been quiet for the longest are closed until they grow.
    pub max_open: usize,
}

/// Where to begin with files that were there before the source was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At their beginning.
    #[default]
    Beginning,
    /// Behind their last whole line.
    End,
}

/// How a source notices that a file has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// The system tells it, where it can; files are looked at periodically as well.
    #[default]
    System,
    /// Files are looked at periodically. On NFS and other network file systems the system does not
    /// tell of what other machines write.
    Poll,
}

/// The configuration of a tailed source is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TailConfigError {
    /// There is nothing to tail.
    #[error("paths is empty: name at least one file")]
    NoPaths,
    /// A path that depends on where the program was started.
    #[error("'{0}' is not an absolute path: let it begin with /")]
    Relative(String),
    /// Not a glob.
    #[error("'{pattern}' is not a glob: {problem} at character {at}")]
    Pattern {
        /// As configured.
        pattern: String,
        /// What is wrong.
        problem: &'static str,
        /// Where, counted from 0.
        at: usize,
    },
    /// `max_line` is out of bounds.
    #[error("max_line = {0} is not between {MIN_LINE_LIMIT} and {MAX_LINE} bytes")]
    MaxLine(usize),
    /// A duration or number that must not be zero.
    #[error("{0} must not be 0")]
    Zero(&'static str),
}

impl TailConfig {
    /// The defaults: from the beginning, lines up to [`MAX_LINE`], a look every
    /// second, complete after 5 quiet seconds, at most 512 open files.
    pub fn new(id: SourceId, paths: impl IntoIterator<Item = impl Into<String>>) -> Self {
        TailConfig {
            id,
            paths: paths.into_iter().map(Into::into).collect(),
            exclude: Vec::new(),
            start: Start::default(),
            watch: Watch::default(),
            max_line: MAX_LINE,
            rescan: Duration::from_secs(1),
            grace: Duration::from_secs(5),
            max_open: 512,
        }
    }

    /// Checks everything that can be checked without looking at any file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), TailConfigError> {
        if self.paths.is_empty() {
            return Err(TailConfigError::NoPaths);
        }
        for pattern in self.paths.iter().chain(&self.exclude) {
            if !Path::new(pattern).is_absolute() {
                return Err(TailConfigError::Relative(pattern.clone()));
            }
            glob::Pattern::new(pattern).map_err(|error| TailConfigError::Pattern {
                pattern: pattern.clone(),
                problem: error.msg,
                at: error.pos,
            })?;
        }
        if !(MIN_LINE_LIMIT..=MAX_LINE).contains(&self.max_line) {
            return Err(TailConfigError::MaxLine(self.max_line));
        }
        let zero = |name, is_zero| if is_zero { Err(TailConfigError::Zero(name)) } else { Ok(()) };
        zero("rescan", self.rescan.is_zero())?;
        zero("max_open", self.max_open == 0)
    }
}

impl From<TailConfigError> for io::Error {
    fn from(error: TailConfigError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        let good = TailConfig::new(SourceId(0), ["/var/log/a.log", "/var/log/*/b[0-9].log"]);
        assert_eq!(good.check(), Ok(()));
        let said = |change: fn(&mut TailConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(said(|c| c.paths.clear()).contains("paths is empty"));
        assert!(said(|c| c.paths.push("a.log".into())).contains("'a.log' is not an absolute"));
        assert!(said(|c| c.exclude.push("/a/[".into())).contains("'/a/[' is not a glob"));
        assert!(said(|c| c.max_line = 10).contains("max_line = 10"));
        assert!(said(|c| c.max_line = 1 << 30).contains("max_line"));
        assert!(said(|c| c.rescan = Duration::ZERO).contains("rescan"));
        assert!(said(|c| c.max_open = 0).contains("max_open"));
    }
}
