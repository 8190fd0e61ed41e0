//! `check`: everything that can be known about a start without starting.

use std::{fs::File, io, path::Path, process::ExitCode};

use link::tls::Credentials;
use rustix::fs::{Access, access};
use serde::Serialize;
use service::{clock, config::ConfigError, exit};

use crate::{
    cli::ReportArgs,
    config::{Config, RelpSettings, ShadowConfig, SourceConfig, SourceKind},
    prepare,
    seal_key::SealKey,
    sources::{journald::JournaldConfig, unix::UnixConfig},
};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// True if the agent would start.
    pub ok: bool,
    /// What keeps it from starting, each with file and line.
    pub problems: Vec<String>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
    /// What it would do.
    pub summary: Vec<String>,
}

/// Checks, prints and answers with the exit code.
pub fn execute(args: &ReportArgs) -> ExitCode {
    let report = check(&args.config.config);
    if args.json {
        super::print(&serde_json::to_string(&report).expect("plain strings are JSON"));
    } else {
        for problem in &report.problems {
            eprintln!("error: {problem}");
        }
        for warning in &report.warnings {
            eprintln!("warning: {warning}");
        }
        if report.ok {
            super::print("ok");
            report.summary.iter().for_each(|line| super::print(&format!("  {line}")));
        }
    }
    ExitCode::from(if report.ok { exit::OK } else { exit::USAGE })
}

/// Checks a configuration file and everything it names.
pub fn check(path: &Path) -> Report {
    let mut report = Report::default();
    match Config::load(path) {
        Ok(config) => report.check(&config),
        Err(error) => report.problems.push(error.to_string()),
    }
    report.ok = report.problems.is_empty();
    report
}

impl Report {
    fn check(&mut self, config: &Config) {
        let (name, origin) = (&config.name, &config.origin);
        self.summary.push(format!("agent '{name}' of the ledger '{origin}'"));
        let nodes: Vec<String> = config.nodes.iter().map(ToString::to_string).collect();
        self.summary.push(format!("nodes {}", nodes.join(", ")));
        self.credentials(prepare::uplink_credentials(config));
        for (_, listener) in prepare::listeners(config) {
            // What is wrong with shared files was said above.
            if *listener.files != config.tls {
                self.credentials(prepare::listener_credentials(config, listener));
            }
        }
        match SealKey::load(config) {
            Ok(key) => self.summary.push(format!("vkey {}", key.vkey)),
            Err(error) => self.problems.push(error.to_string()),
        }
        self.spool(config);
        for source in &config.sources {
            self.source(config, source);
        }
        if let Some(shadow) = &config.shadow {
            self.shadow(config, shadow);
        }
        if let Some(address) = config.metrics {
            self.summary.push(format!("metrics at http://{address}/metrics"));
        }
    }

    fn credentials(&mut self, loaded: Result<Credentials, ConfigError>) {
        match loaded {
            Ok(credentials) => {
                let warnings = credentials.warnings(clock::now().seconds());
                self.warnings.extend(warnings.iter().map(ToString::to_string));
            }
            Err(error) => self.problems.push(error.to_string()),
        }
    }

    fn spool(&mut self, config: &Config) {
        let (dir, max) = (&config.spool.dir, config.spool.max_bytes);
        if let Err(problem) = writable(dir) {
            self.problems.push(config.error("spool.dir", problem).to_string());
        }
        if let Ok(free) = existing(dir).and_then(service::disk::free_bytes)
            && free < max
        {
            let (dir, free, max) = (dir.display(), free >> 20, max >> 20);
            self.warnings
                .push(format!("{dir} has {free} MiB free, less than the spool's {max} MiB"));
        }
        self.summary.push(format!("spool {} of up to {} MiB", dir.display(), max >> 20));
    }

    fn shadow(&mut self, config: &Config, shadow: &ShadowConfig) {
        let dir = &shadow.dir;
        if let Err(problem) = writable(dir) {
            self.problems.push(config.error("shadow.dir", problem).to_string());
        }
        let ways = [
            shadow.udp.map(|address| format!("udp {address}")),
            shadow.tcp.map(|address| format!("tcp {address}")),
            shadow.file.clone(),
        ];
        let ways: Vec<String> = ways.into_iter().flatten().collect();
        let (ways, dir) = (ways.join(", "), dir.display());
        self.summary.push(format!("shadow mode: old feed from {ways}; reports in {dir}"));
    }

    fn source(&mut self, config: &Config, source: &SourceConfig) {
        let SourceConfig { name, format, kind, table } = source;
        let line = match kind {
            SourceKind::Syslog(syslog) => format!("syslog over TLS on {}", syslog.listen),
            SourceKind::Journald(journald) => self.journald(config, table, journald),
            #[cfg(feature = "otlp")]
            SourceKind::Otlp(otlp) => {
                let tls = if otlp.tls.is_some() { "over TLS" } else { "without TLS" };
                format!("OTLP/HTTP {tls} on {}", otlp.listen)
            }
            SourceKind::Stdin(_) => "standard input, to its end".to_owned(),
            SourceKind::Udp(udp) => format!("syslog by UDP on {}, from anybody", udp.listen),
            SourceKind::Unix(unix) => self.unix(config, table, unix),
            SourceKind::Relp(RelpSettings { relp, tls: Some(_) }) => {
                format!("RELP over TLS on {}", relp.listen)
            }
            SourceKind::Relp(RelpSettings { relp, tls: None }) => {
                format!("RELP on {}, for this machine only", relp.listen)
            }
            SourceKind::Files(tail) => {
                let files = matched(&tail.paths);
                for (path, error) in files.iter().filter_map(|path| Some((path, unreadable(path)?)))
                {
                    let problem =
                        format!("{} cannot be read by this user: {error}", path.display());
                    let key = format!("{table}.paths");
                    self.problems.push(config.error(&key, problem).to_string());
                }
                if files.is_empty() {
                    let paths = tail.paths.join(", ");
                    self.warnings.push(format!("source '{name}': no file matches {paths} yet"));
                }
                format!("{} ({} files now)", tail.paths.join(", "), files.len())
            }
        };
        self.summary.push(format!("source '{name}' ({}): {line}", format.format()));
    }
}

/// What is particular to kinds of sources.
impl Report {
    fn journald(&mut self, config: &Config, table: &str, journald: &JournaldConfig) -> String {
        let program = &journald.journalctl;
        if let Err(errno) = access(program, Access::EXEC_OK) {
            let (path, error) = (program.display(), io::Error::from(errno));
            let hint = "install systemd, or say where it is";
            let problem = format!("{path} cannot be started by this user: {error}; {hint}");
            let key = format!("{table}.journalctl");
            self.problems.push(config.error(&key, problem).to_string());
        }
        match &journald.directory {
            Some(directory) => format!("the journal in {}", directory.display()),
            None => "the journal of this machine".to_owned(),
        }
    }

    fn unix(&mut self, config: &Config, table: &str, unix: &UnixConfig) -> String {
        let dir = unix.path.parent().unwrap_or(Path::new("/"));
        if dir.exists()
            && let Err(problem) = writable(dir)
        {
            self.problems.push(config.error(&format!("{table}.path"), problem).to_string());
        } else if !dir.exists() {
            let dir = dir.display();
            self.warnings
                .push(format!("{dir} does not exist now: the agent does not start without"));
        }
        let (kind, mode) = (unix.kind, unix.mode);
        format!("syslog on the local socket {} ({kind:?}, mode {mode:04o})", unix.path.display())
    }
}

/// Whether a directory could be written, or made, by this user.
fn writable(dir: &Path) -> Result<(), String> {
    let existing = existing(dir).map_err(|error| error.to_string())?;
    if existing == dir && !dir.is_dir() {
        return Err(format!("{} is not a directory", dir.display()));
    }
    access(existing, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        let (path, error) = (existing.display(), io::Error::from(errno));
        format!("{path} cannot be written by this user: {error}")
    })
}

/// The nearest directory above, or at, a path that is there.
fn existing(path: &Path) -> io::Result<&Path> {
    let mut at =
        path.ancestors().map(|at| if at.as_os_str().is_empty() { Path::new(".") } else { at });
    at.find(|at| at.exists()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn matched(patterns: &[String]) -> Vec<std::path::PathBuf> {
    let paths = patterns.iter().filter_map(|pattern| glob::glob(pattern).ok());
    paths.flatten().filter_map(Result::ok).filter(|path| path.is_file()).collect()
}

fn unreadable(path: &Path) -> Option<io::Error> {
    File::open(path).err()
}
