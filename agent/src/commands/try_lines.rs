//! `try`: what would be extracted from real lines. Reads them, prints, and sends nothing: neither
//! certificates nor a spool are looked at.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter},
    path::{Path, PathBuf},
    process::ExitCode,
};

use pipeline::{
    Extractor, MAX_LINE, SourceSettings,
    extract::{ExtractError, UserTable},
};
use service::{config::ConfigError, exit};

use self::report::{Report, Tally};
use crate::{
    cli::TryArgs,
    config::{MAX_SOURCE_NAME, SourceFormat},
};

mod report;

/// Lines cannot be tried; whoever gave the command is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The format cannot be used without a configuration.
    #[error("--format: {0}; use --source and a configuration for that")]
    Format(#[from] ExtractError),
    /// It is not said, or not known, which source is meant.
    #[error("{}: {problem}: its sources are {known}", config.display())]
    Source {
        /// The configuration file.
        config: PathBuf,
        /// What is wrong with the choice.
        problem: String,
        /// The names to choose from.
        known: String,
    },
    /// There are no sources.
    #[error("{} has no source: add one, or say --format", .0.display())]
    NoSource(PathBuf),
    /// The lines cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Tries the lines, prints, and answers with the exit code: 0 if there was something in at least
/// one of them, 1 if not, 2 if they could not be tried.
pub fn execute(args: &TryArgs) -> ExitCode {
    match try_lines(args) {
        Ok(tally) if tally.matched > 0 => ExitCode::from(exit::OK),
        Ok(_) => ExitCode::from(exit::FAILED),
        Err(error) => {
            exit::report(super::PROGRAM, &error);
            ExitCode::from(exit::USAGE)
        }
    }
}

fn try_lines(args: &TryArgs) -> Result<Tally, TryError> {
    let source = source(args)?;
    let failed = |source| TryError::Read { path: args.file.clone(), source };
    let mut lines = open(&args.file).map_err(failed)?;
    let mut report = Report::new(BufWriter::new(io::stdout().lock()), args.json);
    let (mut line, most) = (Vec::new(), args.lines.unwrap_or(u64::MAX));
    while report.lines() < most && next_line(&mut lines, &mut line).map_err(failed)? {
        if report.line(&source.extract(&line)).is_err() {
            break;
        }
    }
    Ok(report.end(source.format.format()))
}

/// The source whose lines these are meant to be.
fn source(args: &TryArgs) -> Result<SourceSettings, TryError> {
    let found = match args.format {
        Some(format) => {
            let format = Extractor::new(format, &UserTable::default())?;
            SourceFormat { name: String::new(), format, syslog: false }
        }
        None => configured(&args.config.config, args.source.as_deref())?,
    };
    let SourceFormat { name, format, syslog } = found;
    Ok(SourceSettings { name, format, syslog: syslog || args.syslog })
}

/// The source of that name, or the only one there is.
fn configured(config: &Path, name: Option<&str>) -> Result<SourceFormat, TryError> {
    let mut all = SourceFormat::load_all(config)?;
    let names: Vec<_> = all.iter().map(|source| format!("'{}'", source.name)).collect();
    let unclear = |problem| {
        let (config, known) = (config.to_owned(), names.join(", "));
        Err(TryError::Source { config, problem, known })
    };
    match name {
        _ if all.is_empty() => Err(TryError::NoSource(config.to_owned())),
        Some(name) => match all.iter().position(|source| source.name == name) {
            Some(index) => Ok(all.swap_remove(index)),
            None => {
                let shown: String = name.chars().take(MAX_SOURCE_NAME).collect();
                unclear(format!("there is no source '{shown}'"))
            }
        },
        None if all.len() == 1 => Ok(all.swap_remove(0)),
        None => unclear("it has several sources, say which one with --source".to_owned()),
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(File::open(path)?)))
}

/// Reads the next line, or what the agent would take for one; false at the end.
fn next_line(from: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    io::Read::take(from, MAX_LINE as u64).read_until(b'\n', line)?;
    let any = !line.is_empty();
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(any)
}
