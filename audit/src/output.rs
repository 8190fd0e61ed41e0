//! What every command prints, and how it ends.

use serde_json::Value;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// A command's result: text for people, JSON for programs, and the exit code.
#[derive(Debug)]
pub struct Outcome {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// [`service::exit`] code.
    pub code: u8,
}

/// A command could not do its work: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    /// For `map_err`: names the file in front of the system's error.
    pub fn file(path: &std::path::Path) -> impl FnOnce(io::Error) -> Failure {
        let shown = path.display().to_string();
        move |error| Failure(format!("{shown}: {error}"))
    }
}

/// For `map_err`: any error with its causes as a failure.
pub fn fail(error: impl std::error::Error) -> Failure {
    Failure(service::exit::explain(&error))
}

/// Prints a result as asked, and gives back the program's exit code.
pub fn finish(result: Result<Outcome, Failure>, json: bool) -> ExitCode {
    let (text, code) = match result {
        Ok(outcome) if json => (outcome.json.to_string() + "\n", outcome.code),
        Ok(outcome) => (outcome.text, outcome.code),
        Err(failure) if json => {
            let text = serde_json::json!({ "error": failure.0 }).to_string() + "\n";
            (text, service::exit::USAGE)
        }
        Err(failure) => {
            service::exit::report("logseal", &failure);
            return ExitCode::from(service::exit::USAGE);
        }
    };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            service::exit::report("logseal", &error);
            ExitCode::from(service::exit::USAGE)
        }
    }
}

/// A line as a person may safely see it: control characters escaped, cut after `max` characters.
pub fn shown(bytes: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    for c in text.chars().take(max) {
        let hostile = c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hostile { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    if text.chars().nth(max).is_some() {
        out.push('…');
    }
    out
}
