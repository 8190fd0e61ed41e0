//! How the one node of a ledger of one is.

use super::{ask::Answer, retention, row::name, stores, witnesses};
use crate::output::{Outcome, shown};
use record::UnixSeconds;
use serde_json::json;

/// What is said of it.
pub(super) fn report(answer: &Answer) -> Outcome {
    let status = &answer.status;
    let mut text = format!(
        "node {}  version {}  {}\nheight {}  entries {}  free {} MiB\n",
        shown(status.node.as_bytes(), 63),
        shown(status.version.as_bytes(), 32),
        if status.accepting { "takes batches" } else { "REFUSES batches: its disk is full" },
        status.height,
        status.size,
        status.disk_free >> 20,
    );
    let (cosigned, problem) = match &answer.trusted {
        None => (None, None),
        Some(Ok(times)) => (Some(times.first().copied().unwrap_or_default()), None),
        Some(Err(distrust)) => (None, Some(&distrust.problem)),
    };
    if let Some(time) = cosigned {
        text += &format!("checkpoint holds under the policy, cosigned {}\n", UnixSeconds(time));
    }
    if cosigned.is_none() && problem.is_none() {
        text += "checkpoint not checked: give --policy\n";
    }
    if let Some(problem) = problem {
        text += &format!("CHECKPOINT BROKEN: {problem}\n");
    }
    for agent in &status.agents {
        let state = if agent.connected { "connected" } else { "not connected" };
        let sealed = UnixSeconds(agent.sealed);
        text += &format!(
            "agent {}  {} records, last seal {sealed}, {state}\n",
            shown(agent.name.as_bytes(), 63),
            agent.records
        );
    }
    text.extend(answer.witnesses.witnesses.iter().map(witnesses::line));
    let broken: Vec<String> = witnesses::problems(answer, true).collect();
    text.extend(retention::line(&name(&answer.name), &answer.retention));
    text.extend(stores::line(&name(&answer.name), &answer.store));
    let damaged = stores::problem(&answer.store);
    let alarms: Vec<String> = witnesses::problems(answer, false).chain(damaged.clone()).collect();
    text.extend(alarms.iter().map(|alarm| format!("alarm  {alarm}\n")));
    text.extend(broken.iter().map(|broken| format!("{broken}\n")));
    let agents: Vec<_> = status
        .agents
        .iter()
        .map(|a| json!({ "name": a.name, "records": a.records, "sealed": a.sealed, "connected": a.connected }))
        .collect();
    let healthy = status.accepting && problem.is_none() && broken.is_empty() && damaged.is_none();
    let json = json!({
        "node": status.node,
        "version": status.version,
        "height": status.height,
        "size": status.size,
        "disk_free": status.disk_free,
        "accepting": status.accepting,
        "cosigned": cosigned,
        "problem": problem,
        "agents": agents,
        "retention": retention::json(&answer.retention),
        "store": stores::json(&answer.store),
        "witnesses": answer.witnesses.witnesses.iter().map(witnesses::json).collect::<Vec<_>>(),
        "alarms": alarms,
        "broken": broken,
    });
    let code = if healthy { service::exit::OK } else { service::exit::BROKEN };
    Outcome { text, json, code }
}
