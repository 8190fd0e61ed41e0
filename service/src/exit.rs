//! Exit codes, the same for every program.

use crate::disk::advice;
use std::{error::Error, iter::successors, process::ExitCode};

/// Everything is as it should be.
pub const OK: u8 = 0;
/// Evidence is broken.
pub const BROKEN: u8 = 1;
/// A daemon had to stop: the machine or a defect is at fault, and starting it again may help.
pub const FAILED: u8 = 1;
/// The command or its configuration is at fault, or what it needs is not there: somebody must act.
pub const USAGE: u8 = 2;

/// An error with all its causes, those left out that it already tells.
pub fn explain(error: &dyn Error) -> String {
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

/// Prints an error with all its causes to standard error, and what to do if a full disk is one of them.
pub fn report(program: &str, error: &(dyn Error + 'static)) {
    eprintln!("{program}: {}", advise(error));
}

/// What the system's own words for a full disk leave out is added, unless the error says it.
fn advise(error: &(dyn Error + 'static)) -> String {
    let mut text = explain(error);
    let chain = successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
    for advice in chain.filter_map(|error| error.downcast_ref().map(advice)) {
        if !text.contains(advice) {
            text.push_str(advice);
        }
    }
    text
}

/// The exit code of a program that ended with this result; an error is reported first.
pub fn code(program: &str, result: Result<(), impl Error + 'static>) -> ExitCode {
    code_of(program, result, |_| USAGE)
}

/// As [`code`], for programs whose errors differ in what may help.
pub fn code_of<E: Error + 'static>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("/a/file: {source}{said}")]
    struct At {
        source: io::Error,
        said: &'static str,
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do_and_once() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let advice = advice(&full());
        for (source, said, times) in [
            (full(), "", 1),
            (full(), advice, 1),
            (io::ErrorKind::QuotaExceeded.into(), "", 1),
            (io::ErrorKind::PermissionDenied.into(), "", 0),
        ] {
            let text = advise(&At { source, said });
            assert_eq!(text.matches(advice).count(), times, "{text}");
        }
    }
}
