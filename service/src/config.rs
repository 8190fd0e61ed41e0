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

    /// The line of a key: the last line that sets it below its table's header, or that header.
    fn line_of(&self, key: &str) -> usize {
        let (table, leaf) = key.rsplit_once('.').unwrap_or(("", key));
        let (table, nth) = match table.split_once('[') {
            Some((table, rest)) => (table, rest.trim_end_matches(']').parse().unwrap_or(0)),
            None => (table, 0),
        };
        let (mut inside, mut seen, mut header) = (table.is_empty(), 0, 1);
        for (number, line) in self.text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
            if line.starts_with('[') {
                let name = line.trim_matches(|c| c == '[' || c == ']').trim();
                inside = name == table && seen == nth;
                seen += usize::from(name == table);
                header = if inside { number } else { header };
            } else if inside
                && line.strip_prefix(leaf).is_some_and(|rest| rest.trim_start().starts_with('='))
            {
                return number;
            }
        }
        header
    }
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
}
