//! `tap`: records as the running agent seals them.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use record::entry::{Entry, restore};
use serde_json::{Map, Value, json};
use service::exit;

use crate::{
    cli::TapArgs,
    control::{Client, Tapped},
};

/// Watches until the end that was asked for, the agent's or the reader's.
pub fn execute(args: &TapArgs) -> ExitCode {
    match watch(args) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("{}: {error}", super::PROGRAM);
            ExitCode::from(exit::USAGE)
        }
    }
}

fn watch(args: &TapArgs) -> Result<(), Box<dyn std::error::Error>> {
    let socket = super::socket(&args.agent)?;
    let mut records = Client::tap(&socket, args.source.clone())?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut out = io::stdout().lock();
    while left > 0 {
        let Some(record) = records.tapped()? else {
            eprintln!("the agent has ended");
            break;
        };
        if record.missed > 0 {
            eprintln!(
                "{} batches passed by: they came faster than they can be shown",
                record.missed
            );
        }
        let line = if args.json { as_json(&record).to_string() } else { printable(&record.entry) };
        // Whoever closed the output does not want to see more.
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            break;
        }
        left -= 1;
    }
    Ok(())
}

/// The record taken apart: what is known of it, the access fields and the line.
fn as_json(record: &Tapped) -> Value {
    let bytes = record.entry.as_bytes();
    let mut object = Map::new();
    object.insert("n".into(), json!(record.n));
    object.insert("source".into(), json!(record.source));
    if let Ok(entry) = Entry::parse(bytes) {
        for name in ["received", "peer", "transport", "part"] {
            if let Some(value) = entry.element().param(name) {
                object.insert(name.into(), json!(value));
            }
        }
        let access =
            entry.access().into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        object.insert("access".into(), Value::Object(access.collect()));
    }
    if let Ok(restored) = restore(bytes) {
        object.insert("line".into(), json!(String::from_utf8_lossy(&restored.line)));
    }
    Value::Object(object)
}

/// A terminal must not be driven by what somebody wrote into a log.
fn printable(entry: &str) -> String {
    entry.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
