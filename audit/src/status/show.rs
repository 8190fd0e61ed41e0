//! An overview as text and as JSON.

use super::{
    overview::{Overview, Verdict},
    retention,
    row::Row,
    stores, witnesses,
};
use crate::output::{Outcome, shown};
use link::message::AgentStatus;
use record::UnixSeconds;
use serde_json::{Value, json};

const HEAD: [&str; 11] = [
    "NODE", "STATE", "HEIGHT", "ENTRIES", "LAG", "PEERS", "CLOCK", "FREE", "COSIGNED", "VERSION",
    "",
];
/// Columns that are aligned to the right: numbers.
const NUMBERS: std::ops::RangeInclusive<usize> = 2..=8;

/// What `logseal status` answers.
pub(super) fn outcome(overview: &Overview) -> Outcome {
    let mut text = match overview.origin.as_str() {
        "" => "no node answered\n".to_owned(),
        origin => format!("ledger {origin}: {}\n", model(overview)),
    };
    text += &table(overview);
    text.extend(overview.agents.iter().map(agent_line));
    text.extend(overview.retention.iter().filter_map(|(node, kept)| retention::line(node, kept)));
    text.extend(overview.stores.iter().filter_map(|(node, store)| stores::line(node, store)));
    text.extend(overview.witnesses.iter().map(witnesses::line));
    text.extend(overview.alarms.iter().map(|alarm| format!("alarm  {alarm}\n")));
    text.extend(overview.broken.iter().map(|broken| format!("{broken}\n")));
    text += &verdict_line(overview);
    let code = match overview.verdict {
        Verdict::Healthy | Verdict::Degraded => service::exit::OK,
        Verdict::NoQuorum | Verdict::Broken => service::exit::BROKEN,
    };
    Outcome { text, json: json(overview), code }
}

fn model(overview: &Overview) -> String {
    match overview.fault_model {
        Some(model) => {
            format!("{}; {} must agree", model.explain(overview.nodes), overview.quorum)
        }
        None => "no node said what it is protected against".to_owned(),
    }
}

/// `healthy: 4 of 4 nodes, quorum 3`.
pub(super) fn verdict_line(overview: &Overview) -> String {
    let Overview { nodes, quorum, verdict, .. } = overview;
    let votes = format!("{} of {nodes} nodes", overview.voting());
    let quorum = match quorum {
        0 => "quorum unknown".to_owned(),
        quorum => format!("quorum {quorum}"),
    };
    let why = match verdict {
        Verdict::Healthy => "",
        Verdict::Degraded => "; see the alarms",
        Verdict::NoQuorum => "; nothing new is committed",
        Verdict::Broken => "; see above, and keep what was printed",
    };
    format!("{}: {votes}, {quorum}{why}\n", verdict.as_str())
}

fn table(overview: &Overview) -> String {
    let mut rows: Vec<[String; 11]> = vec![HEAD.map(str::to_owned)];
    rows.extend(overview.rows.iter().map(|row| cells(row, overview.proposer.as_deref())));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &match NUMBERS.contains(&column) {
                true => format!("{cell:>width$}  "),
                false => format!("{cell:<width$}  "),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn cells(row: &Row, proposer: Option<&str>) -> [String; 11] {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
    let next = if proposer == Some(&row.name) { "proposes next" } else { "" };
    [
        row.name.clone(),
        row.state.clone(),
        number(row.height),
        number(row.size),
        number(row.lag),
        row.peers.map_or("-".to_owned(), |(connected, all)| format!("{connected}/{all}")),
        row.offset_ms.map_or("-".to_owned(), |ms| format!("{:+.3} s", ms as f64 / 1000.0)),
        row.disk_free.map_or("-".to_owned(), |free| format!("{} MiB", free >> 20)),
        row.cosigned_ago.map_or("-".to_owned(), |ago| format!("{ago} s ago")),
        if row.version.is_empty() { "-".to_owned() } else { row.version.clone() },
        next.to_owned(),
    ]
}

fn agent_line(agent: &AgentStatus) -> String {
    let state = if agent.connected { "connected" } else { "not connected" };
    let (name, sealed) = (shown(agent.name.as_bytes(), 63), UnixSeconds(agent.sealed));
    format!("agent {name}  {} records, last seal {sealed}, {state}\n", agent.records)
}

fn json(overview: &Overview) -> Value {
    let agents: Vec<Value> = overview
        .agents
        .iter()
        .map(|a| json!({ "name": a.name, "records": a.records, "sealed": a.sealed, "connected": a.connected }))
        .collect();
    json!({
        "verdict": overview.verdict.as_str().to_lowercase(),
        "origin": overview.origin,
        "fault_model": overview.fault_model.map(|model| model.to_string()),
        "count": overview.nodes,
        "voting": overview.voting(),
        "quorum": overview.quorum,
        "tolerates": overview.fault_model.map(|model| model.tolerates(overview.nodes)),
        "proposer": overview.proposer,
        "nodes": overview.rows.iter().map(row_json).collect::<Vec<_>>(),
        "agents": agents,
        "retention": overview.retention.iter().map(|(node, kept)| (node.clone(), retention::json(kept))).collect::<serde_json::Map<_, _>>(),
        "stores": overview.stores.iter().map(|(node, store)| (node.clone(), stores::json(store))).collect::<serde_json::Map<_, _>>(),
        "witnesses": overview.witnesses.iter().map(witnesses::json).collect::<Vec<_>>(),
        "alarms": overview.alarms,
        "broken": overview.broken,
    })
}

fn row_json(row: &Row) -> Value {
    json!({
        "name": row.name,
        "address": row.address,
        "state": row.state,
        "voting": row.voting,
        "height": row.height,
        "size": row.size,
        "lag": row.lag,
        "peers": row.peers.map(|(connected, _)| connected),
        "offset_ms": row.offset_ms,
        "disk_free": row.disk_free,
        "cosigned_ago": row.cosigned_ago,
        "checkpoint_age": row.checkpoint_age,
        "version": row.version,
        "checkpoint": row.checkpoint,
    })
}
