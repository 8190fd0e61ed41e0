//! `logseal status`: how a node is.

use crate::{
    client::{ClientArgs, block_on},
    output::{Failure, Outcome},
};
use clap::Args;
use link::{
    Role,
    message::{FromNode, NodeStatus, ToNode},
};
use record::{UnixSeconds, note::SignedNote};
use serde_json::json;

/// Show how a node is: height, entries, agents, disk. Needs a certificate with the role operator,
/// auditor or privacy-officer. Exit code 1 if the node takes no batches or its checkpoint does not
/// satisfy the policy.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// Carries the command out.
pub fn run(args: StatusArgs) -> Result<Outcome, Failure> {
    let client = args.client.resolve()?;
    let policy = client.policy().ok().map(|(_, policy)| policy);
    let status = block_on(async {
        let own = [Role::Auditor, Role::Operator, Role::PrivacyOfficer];
        let mut connection = client.connect(&client.nodes[0], &own).await?;
        match connection.ask(&ToNode::Status).await? {
            FromNode::Status(status) => Ok(status),
            other => Err(connection.unexpected(other)),
        }
    })?;
    let trusted = policy.map(|policy| {
        SignedNote::parse(status.checkpoint.as_bytes())
            .map_err(|error| error.to_string())
            .and_then(|note| policy.verify(&note).map_err(|error| error.to_string()))
            .map(|verified| verified.witnessed().iter().map(|w| w.time.0).max().unwrap_or(0))
    });
    Ok(report(&status, trusted))
}

fn report(status: &NodeStatus, trusted: Option<Result<u64, String>>) -> Outcome {
    let mut text = format!(
        "node {}  version {}  {}\nheight {}  entries {}  free {} MiB\n",
        status.node,
        status.version,
        if status.accepting { "takes batches" } else { "REFUSES batches: its disk is full" },
        status.height,
        status.size,
        status.disk_free >> 20,
    );
    let (cosigned, problem) = match trusted {
        None => (None, None),
        Some(Ok(time)) => (Some(time), None),
        Some(Err(problem)) => (None, Some(problem)),
    };
    if let Some(time) = cosigned {
        text += &format!("checkpoint holds under the policy, cosigned {}\n", UnixSeconds(time));
    }
    if cosigned.is_none() && problem.is_none() {
        text += "checkpoint not checked: give --policy\n";
    }
    if let Some(problem) = &problem {
        text += &format!("CHECKPOINT BROKEN: {problem}\n");
    }
    for agent in &status.agents {
        let state = if agent.connected { "connected" } else { "not connected" };
        let sealed = UnixSeconds(agent.sealed);
        text += &format!(
            "agent {}  {} records, last seal {sealed}, {state}\n",
            agent.name, agent.records
        );
    }
    let agents: Vec<_> = status
        .agents
        .iter()
        .map(|a| json!({ "name": a.name, "records": a.records, "sealed": a.sealed, "connected": a.connected }))
        .collect();
    let healthy = status.accepting && problem.is_none();
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
    });
    let code = if healthy { service::exit::OK } else { service::exit::BROKEN };
    Outcome { text, json, code }
}
