//! Configuration files: TOML, unknown keys are errors, and every error names the line at fault.

use link::tls::{FileKind, TlsFiles};
use serde::{Deserialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// A configuration file cannot be used; whoever wrote it is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no TOML, or has unknown, missing or ill-typed keys.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A value that has the right type but cannot be meant.
    #[error("{}:{line}: {key}: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line of the key, or of the nearest table that is there.
        line: usize,
        /// The key, with its tables: `tls.cert`.
        key: String,
        /// What is wrong with its value, and what to do.
        problem: String,
    },
}

/// The certificate files of a listener or connector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// This program's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA's revocation list.
    pub crl: Option<PathBuf>,
}

impl Tls {
    /// The files as the link layer takes them.
    pub fn files(&self) -> TlsFiles {
        let Tls { ca, cert, key, crl } = self.clone();
        TlsFiles { ca, cert, key, crl }
    }
}

/// The key that names a certificate file of this kind in `table`.
pub fn file_key(table: &str, kind: FileKind) -> String {
    let leaf = match kind {
        FileKind::Ca => "ca",
        FileKind::Certificate => "cert",
        FileKind::Key => "key",
        FileKind::Crl => "crl",
    };
    // A table of a source is named as a whole: only its header tells it from the others'.
    match table.contains('[') {
        true => format!("{table}.tls"),
        false => format!("{table}.{leaf}"),
    }
}

/// A configuration file as it was written, kept to name lines.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file and parses it.
    pub fn load<T: DeserializeOwned>(path: &Path) -> Result<(T, Source), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let source = Source { path: path.to_owned(), text };
        let parsed = source.parse()?;
        Ok((parsed, source))
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + self.text[..at.min(self.text.len())].matches('\n').count();
            let problem = error.message().trim().to_owned();
            ConfigError::Syntax { path: self.path.clone(), line, problem }
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the value of `key`, written with its tables: `tls.cert`, `source.file[1].paths`.
    pub fn error(&self, key: &str, problem: impl ToString) -> ConfigError {
        ConfigError::Value {
            path: self.path.clone(),
            line: self.line_of(key),
            key: key.to_owned(),
            problem: problem.to_string(),
        }
    }

    /// The line of a key: the line that sets it below its table's header, or that sets the table
    /// it is in, or that header.
    fn line_of(&self, key: &str) -> usize {
        let (table, leaf) = split_key(key);
        self.find(table, leaf).unwrap_or_else(|header| match split_key(table) {
            // `fields = { … }` in the table above instead of a header of its own.
            (above, inline) if header.is_none() => {
                self.find(above, inline).unwrap_or_else(|header| header.unwrap_or(1))
            }
            _ => header.unwrap_or(1),
        })
    }

    /// The line that sets `leaf` in `table`, or else the line of the table's header, if it has one.
    fn find(&self, table: &str, leaf: &str) -> Result<usize, Option<usize>> {
        // Of `source.file[1].fields`, the header is `[source.file.fields]` behind the second
        // `[[source.file]]`.
        let (counted, nth, below) = match table.split_once('[') {
            Some((counted, rest)) => {
                let (nth, below) = rest.split_once(']').unwrap_or((rest, ""));
                (counted, nth.parse().unwrap_or(0), below)
            }
            None => (table, 0, ""),
        };
        let wanted = format!("{counted}{below}");
        let (mut inside, mut seen, mut header) = (table.is_empty(), 0, None);
        for (number, line) in self.text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
            if line.starts_with('[') {
                let name = line.trim_matches(|c| c == '[' || c == ']').trim();
                seen += usize::from(name == counted);
                inside = name == wanted && seen == nth + 1;
                header = if inside { Some(number) } else { header };
            } else if inside && sets(line, leaf) {
                return Ok(number);
            }
        }
        Err(header)
    }
}

/// A key's table and its last name, which may be in quotes and have dots in it.
fn split_key(key: &str) -> (&str, &str) {
    let quoted = key.strip_suffix('"').and_then(|rest| rest.rsplit_once(".\""));
    quoted.or_else(|| key.rsplit_once('.')).unwrap_or(("", key))
}

/// Whether a line sets the key `leaf`, in quotes or without.
fn sets(line: &str, leaf: &str) -> bool {
    let quote = line.chars().next().filter(|c| matches!(c, '"' | '\''));
    let rest = match quote {
        Some(quote) => line[1..].strip_prefix(leaf).and_then(|rest| rest.strip_prefix(quote)),
        None => line.strip_prefix(leaf),
    };
    rest.is_some_and(|rest| rest.trim_start().starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only parsed")]
        name: String,
        #[expect(dead_code, reason = "only parsed")]
        tls: Option<Tls>,
    }

    fn load(text: &str) -> Result<(Sample, Source), ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        Source::load(&path)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = load("name = 'a'\n\nnmae = 'b'\n").unwrap_err().to_string();
        assert!(error.contains("x.toml:3: unknown field `nmae`"), "{error}");
        let error = load("name = 'a'\n[tls]\nca = 1\n").unwrap_err().to_string();
        assert!(error.contains("x.toml:3:"), "{error}");
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        let text = "name = 'a'\n# c\n[tls]\nca = 'a'\ncert = 'b'\nkey = 'c'\n";
        let (_, source) = load(text).unwrap();
        let lines = ["name", "tls.cert", "tls.crl", "other.x"].map(|key| source.line_of(key));
        assert_eq!(lines, [1, 5, 3, 1]);
        let repeated = Source {
            path: PathBuf::new(),
            text: "[[source.file]]\nname = 'a'\n[[source.file]]\nname = 'b'\n".into(),
        };
        assert_eq!(repeated.line_of("source.file[1].name"), 4);
    }

    #[test]
    fn a_key_of_a_table_below_a_repeated_one_is_found() {
        let text = "[[source.file]]\nname = 'a'\n[source.file.fields]\n\"user.id\" = 'x'\n\
                    [[source.file]]\nname = 'b'\n[source.file.fields]\npurpose = 'y'\n'user.id' = 'z'\n\
                    [[source.file]]\nfields = { purpose = 'y' }\n";
        let source = Source { path: PathBuf::new(), text: text.into() };
        let line = |key: &str| source.line_of(key);
        assert_eq!(line("source.file[0].fields.\"user.id\""), 4);
        assert_eq!(line("source.file[1].fields.\"user.id\""), 9);
        assert_eq!(line("source.file[1].fields.\"purpose\""), 8);
        assert_eq!(line("source.file[1].fields.\"party\""), 7);
        assert_eq!(line("source.file[2].fields.\"purpose\""), 11);
        assert_eq!(line("source.file[1].format"), 5);
    }
}
