//! `shadow`: what shadow mode found out about the old feed.

use std::{path::PathBuf, process::ExitCode};

use pipeline::shadow::{Report, Verdict, table};
use record::time::days_from_civil;
use serde::Serialize;
use service::{clock, config::ConfigError, exit};

use crate::{
    cli::ShadowArgs,
    config::Config,
    shadow::folder::{FolderError, load_all},
};

/// There is nothing to tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShadowCommandError {
    /// Configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has no shadow mode.
    #[error("{} has no [shadow]: nothing is compared", .0.display())]
    Off(PathBuf),
    /// The reports cannot be read.
    #[error("cannot read reports: {0}")]
    Folder(#[from] FolderError),
    /// There are none.
    #[error(
        "there is no report in {} for this time: the first one comes a minute after the agent's start",
        .0.display()
    )]
    Nothing(PathBuf),
    /// `--since`.
    #[error("'{0}' is no time: write 24h, 7d, 2026-11-21 or 2026-11-21T10 (UTC)")]
    Since(String),
}

#[derive(Serialize)]
struct Answer<'a> {
    old_way: String,
    switch: String,
    clean: bool,
    unfinished: usize,
    sum: &'a Report,
    reports: &'a [Report],
}

/// Prints the reports and answers with the exit code.
pub fn execute(args: &ShadowArgs) -> ExitCode {
    let reports = match load(args) {
        Ok(reports) => reports,
        Err(error) => {
            exit::report(super::PROGRAM, &error);
            return ExitCode::from(exit::USAGE);
        }
    };
    let verdict = Verdict::of(&reports);
    if args.report.json {
        super::print(&json(&verdict, &reports));
    } else {
        super::print(table(&reports).trim_end());
    }
    ExitCode::from(if args.check && !verdict.is_clean() { exit::BROKEN } else { exit::OK })
}

fn json(verdict: &Verdict, reports: &[Report]) -> String {
    let answer = Answer {
        old_way: verdict.old_way(),
        switch: verdict.switch(),
        clean: verdict.is_clean(),
        unfinished: verdict.unfinished,
        sum: &verdict.sum,
        reports,
    };
    serde_json::to_string(&answer).expect("plain numbers and strings are JSON")
}

fn load(args: &ShadowArgs) -> Result<Vec<Report>, ShadowCommandError> {
    let path = &args.report.config.config;
    let config = Config::load(path)?;
    let since = args.since.as_deref().map(|text| since(text, clock::now().seconds().0));
    let since = since.transpose()?.unwrap_or_default();
    let dir = config.shadow.ok_or_else(|| ShadowCommandError::Off(path.clone()))?.dir;
    let (reports, problems) = load_all(&dir, |report| report.end_s() > since)?;
    for problem in problems {
        eprintln!("warning: a report cannot be read: {problem}");
    }
    if reports.is_empty() { Err(ShadowCommandError::Nothing(dir)) } else { Ok(reports) }
}

/// Seconds since 1970 of `24h`, `7d`, a day or an hour.
fn since(text: &str, now_s: u64) -> Result<u64, ShadowCommandError> {
    let ago = |number: &str, unit: u64| number.parse::<u64>().ok()?.checked_mul(unit);
    let back = |seconds: u64| now_s.saturating_sub(seconds);
    let parsed = match text.as_bytes().last() {
        Some(b'h') => ago(&text[..text.len() - 1], 3600).map(back),
        Some(b'd') => ago(&text[..text.len() - 1], 86_400).map(back),
        _ => date(text),
    };
    parsed.ok_or_else(|| ShadowCommandError::Since(text.chars().take(40).collect()))
}

fn date(text: &str) -> Option<u64> {
    let (day, hour) = text.split_once('T').unwrap_or((text, "00"));
    let mut parts = day.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, date) = (parts.next()??, parts.next()??, parts.next()??);
    let hour = hour.parse::<u64>().ok().filter(|hour| *hour < 24)?;
    Some(days_from_civil(year, month, date)? * 86_400 + hour * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_people_write_it() {
        let now = 1_795_255_200;
        for (text, wanted) in [
            ("24h", now - 86_400),
            ("7d", now - 7 * 86_400),
            ("2026-11-21", now - 10 * 3600),
            ("2026-11-21T10", now),
            ("99999999d", 0),
        ] {
            assert_eq!(since(text, now).unwrap(), wanted, "{text}");
        }
        for text in ["", "h", "yesterday", "2026-13-01", "2026-11-21T24", "é", "-1h"] {
            assert!(since(text, now).is_err(), "{text}");
        }
    }
}
