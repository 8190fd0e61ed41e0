//! Exit codes, the same for every program.

use std::process::ExitCode;

/// Everything is as it should be.
pub const OK: u8 = 0;
/// Evidence is broken.
pub const BROKEN: u8 = 1;
/// A daemon had to stop: the machine or a defect is at fault, and starting it again may help.
pub const FAILED: u8 = 1;
/// The command or its configuration is at fault, or what it needs is not there: somebody must act.
pub const USAGE: u8 = 2;

/// An error with all its causes, those left out that it already tells.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

/// Prints an error with all its causes to standard error.
pub fn report(program: &str, error: &dyn std::error::Error) {
    eprintln!("{program}: {}", explain(error));
}

/// The exit code of a program that ended with this result; an error is reported first.
pub fn code(program: &str, result: Result<(), impl std::error::Error + 'static>) -> ExitCode {
    code_of(program, result, |_| USAGE)
}

/// As [`code`], for programs whose errors differ in what may help.
pub fn code_of<E: std::error::Error + 'static>(
    program: &str,
    result: Result<(), E>,
    code: impl FnOnce(&E) -> u8,
) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(OK),
        Err(error) => {
            report(program, &error);
            ExitCode::from(code(&error))
        }
    }
}
