//! `status`: what the running agent is doing.

use std::{fmt::Write, process::ExitCode};

use service::exit;

use crate::{
    cli::AskArgs,
    control::{Client, SourceStatus, Status},
    pulse::lasting,
};

/// Something needs attention.
const ATTENTION: u8 = exit::FAILED;

/// Asks, prints and answers with the exit code.
pub fn execute(args: &AskArgs) -> ExitCode {
    let status = super::socket(&args.agent)
        .map_err(|error| error.to_string())
        .and_then(|socket| Client::status(&socket).map_err(|error| error.to_string()));
    match status {
        Ok(status) => {
            if args.json {
                super::print(&serde_json::to_string(&status).expect("plain values are JSON"));
            } else {
                super::print(text(&status).trim_end());
            }
            ExitCode::from(if problems(&status).is_empty() { exit::OK } else { ATTENTION })
        }
        Err(error) => {
            eprintln!("{}: {error}", super::PROGRAM);
            ExitCode::from(exit::USAGE)
        }
    }
}

/// What needs attention, each in a sentence.
pub fn problems(status: &Status) -> Vec<String> {
    let mut problems = Vec::new();
    if status.waiting_for_enrolment {
        problems.push(
            "no node has said yet that the ledger knows this agent: no source is read".into(),
        );
    }
    if !status.uplink.nodes.iter().any(|node| node.connected) {
        let lasts = status.spool.lasts_s.map_or("years".into(), lasting);
        problems
            .push(format!("no node is connected: records wait in the spool, which lasts {lasts}"));
    }
    match status.spool.held_back.as_deref() {
        Some("disk-full") => problems.push("the disk is full: sources are held back".into()),
        Some(_) => problems.push("the spool has reached its size: sources are held back".into()),
        None => {}
    }
    for SourceStatus { name, failure, unreadable, .. } in &status.sources {
        if *unreadable > 0 {
            problems.push(format!(
                "{unreadable} paths of the source '{name}' cannot be read: see the log"
            ));
        }
        if let Some(failure) = failure {
            problems.push(format!("the source '{name}' does not run: {failure}"));
        }
    }
    problems
}

/// The status for people.
pub fn text(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_all(&mut out, status);
    out
}

fn write_all(out: &mut String, status: &Status) -> std::fmt::Result {
    let Status { agent, ledger, version, pid, log, spool, uplink, .. } = status;
    let up = lasting(status.uptime_s);
    writeln!(
        out,
        "agent '{agent}' of the ledger '{ledger}', up for {up} (version {version}, pid {pid})"
    )?;
    for problem in problems(status) {
        writeln!(out, "! {problem}")?;
    }
    let (sealed, receipted) = (log.sealed, log.receipted);
    writeln!(
        out,
        "log      {sealed} records sealed and {receipted} receipted since the start, {:.1}/s",
        log.rate
    )?;
    let (used, limit) = (spool.bytes >> 20, spool.limit_bytes >> 20);
    let lasts = spool.lasts_s.map_or("years".into(), lasting);
    writeln!(
        out,
        "spool    {used} of {limit} MiB, {} records wait for their receipts; without any it lasts {lasts}",
        spool.records_waiting
    )?;
    let last = uplink.last_receipt.as_deref().unwrap_or("none yet");
    writeln!(out, "ledger   last receipt {last}, {} batches under way", uplink.in_flight)?;
    for node in &uplink.nodes {
        let state = if node.connected { "connected" } else { "not connected" };
        write!(out, "         {} {state}", node.address)?;
        match &node.problem {
            Some(problem) => writeln!(out, ": {problem}")?,
            None => writeln!(out)?,
        }
    }
    if let Some(expires) = &status.certificate_expires {
        writeln!(out, "         certificate until {expires}")?;
    }
    status.sources.iter().try_for_each(|source| write_source(out, source))
}

fn write_source(out: &mut String, source: &SourceStatus) -> std::fmt::Result {
    let SourceStatus { name, kind, from, lines, rate, lag_bytes, .. } = source;
    writeln!(out, "source   {name} ({kind} {from})")?;
    write!(out, "         {lines} lines, {rate:.1}/s, {lag_bytes} bytes behind")?;
    if source.connections > 0 || source.refused > 0 {
        write!(out, ", {} connections, {} refused", source.connections, source.refused)?;
    }
    if source.read_errors > 0 {
        write!(out, ", {} failed attempts to read", source.read_errors)?;
    }
    if source.lost > 0 {
        write!(out, ", {} losses: see the log", source.lost)?;
    }
    writeln!(out)?;
    let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "none yet".into());
    let (line, receipt) = (time(&source.last_line), time(&source.last_receipt));
    writeln!(out, "         last line {line}, last receipt {receipt}")?;
    for file in &source.files {
        let (path, position, size) = (file.path.display(), file.position, file.size);
        writeln!(out, "         {path} at {position} of {size}")?;
    }
    Ok(())
}
