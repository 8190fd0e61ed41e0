//! `logseal proof`: exports the evidence of one record.

use crate::{
    client::{ClientArgs, block_on},
    evidence::{Evidence, agent_policy},
    output::{Failure, Outcome, fail},
};
use clap::Args;
use link::{
    Role,
    message::{FromNode, ToNode},
};
use record::AgentName;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Export one record's evidence into a folder: the entry, its proof in its agent's log, its proof
/// in the ledger, and the policies they hold under. It is verified before it is written.
///
/// Needs a certificate with the role auditor, operator or privacy-officer.
#[derive(Args, Clone, Debug)]
pub struct ProofArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The agent in whose log the record is
    #[arg(long)]
    agent: AgentName,
    /// The record's number in that log, counted from 0
    #[arg(long)]
    n: u64,
    /// The folder to write; its files must not exist yet
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Exports one record's evidence, asking as a client configuration file says.
pub fn export(config: &Path, agent: &str, n: u64, output: &Path) -> Result<Outcome, Failure> {
    let agent = agent.parse().map_err(fail)?;
    let client = ClientArgs::from_file(config);
    run(ProofArgs { client, agent, n, output: output.to_owned() })
}

/// Carries the command out.
pub fn run(args: ProofArgs) -> Result<Outcome, Failure> {
    let client = args.client.resolve()?;
    let (policy, _) = client.policy()?;
    let own = [Role::Auditor, Role::Operator, Role::PrivacyOfficer];
    let request = ToNode::Record { agent: args.agent.to_string(), n: args.n };
    let answer = block_on(client.first(&own, async |connection| connection.ask(&request).await))?;
    let (record, node) = match answer {
        (FromNode::Record(evidence), connection) => (*evidence, connection.welcome.node),
        (other, connection) => return Err(connection.unexpected(other)),
    };
    let evidence = Evidence {
        entry: record.entry,
        ledger_proof: record.ledger_proof.into_bytes(),
        agent_proof: record.agent_proof.into_bytes(),
        enrolment: Some((record.enrolment, record.enrolment_proof.into_bytes())),
        policy,
        agent_policy: agent_policy(args.agent.as_str(), &record.agent_vkey).into_bytes(),
    };
    let proven = evidence.verify().map_err(|broken| {
        Failure(format!("node {node} answered with evidence that does not hold: {broken}"))
    })?;
    if (proven.agent.as_str(), proven.n) != (args.agent.as_str(), args.n) {
        return Err(Failure(format!(
            "node {node} answered with another record than was asked for"
        )));
    }
    evidence.save(&args.output)?;
    let dir = args.output.display();
    let text = format!(
        "{dir}: the evidence of record {} of agent {}\ncheck it anywhere with 'logseal verify {dir}'\n",
        args.n, args.agent
    );
    let json = json!({
        "agent": args.agent.as_str(),
        "n": args.n,
        "index": proven.index,
        "directory": dir.to_string(),
    });
    Ok(Outcome { text, json, code: service::exit::OK })
}
