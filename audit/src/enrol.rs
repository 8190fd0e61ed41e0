//! `logseal enrol`: an operator registers an agent's signing key.

use crate::{
    client::{ClientArgs, block_on},
    output::{Failure, Outcome, fail},
};
use clap::Args;
use link::{
    Role,
    message::{FromNode, ToNode},
    statement,
};
use pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use record::{
    AgentName, Origin,
    enrolment::Enrolment,
    note::{SignatureType, VerifierKey},
};
use serde_json::json;

/// Register an agent's signing key in the ledger. Needs a certificate with the role operator.
///
/// 'logseal-agent key' prints the key. The enrolment is signed with the operator's certificate
/// and becomes an entry of the ledger.
#[derive(Args, Clone, Debug)]
pub struct EnrolArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The agent's name
    #[arg(long)]
    agent: AgentName,
    /// The agent's verifier key, as 'logseal-agent key' prints it
    #[arg(long)]
    vkey: VerifierKey,
}

/// Carries the command out.
pub fn run(args: EnrolArgs) -> Result<Outcome, Failure> {
    let (agent, vkey) = (args.agent, args.vkey);
    let client = args.client.resolve()?;
    let certificate = CertificateDer::from_pem_file(&client.tls.cert)
        .map_err(|error| Failure(format!("{}: {error}", client.tls.cert.display())))?;
    let key = PrivateKeyDer::from_pem_file(&client.tls.key)
        .map_err(|error| Failure(format!("{}: {error}", client.tls.key.display())))?;
    let (answer, connection) = block_on(client.first(&[Role::Operator], async |connection| {
        let ledger: Origin = connection.welcome.origin.parse().map_err(fail)?;
        check_vkey(&ledger, &agent, &vkey)?;
        let time = service::clock::now().seconds();
        let statement = Enrolment::statement(&ledger, &agent, vkey.public(), time);
        let signature = statement::sign(&key, statement.as_bytes()).map_err(fail)?;
        let enrolment = Enrolment {
            agent: agent.clone(),
            key: vkey.public(),
            time,
            certificate: certificate.to_vec(),
            signature,
        };
        connection.ask(&ToNode::Enrol { enrolment: enrolment.encode() }).await
    }))?;
    match answer {
        FromNode::Enrolled { index, already } => {
            let text = if already {
                format!("agent {agent} was enrolled with this key before\n")
            } else {
                format!("agent {agent} is enrolled; the enrolment is entry {index} of the ledger\n")
            };
            let index = (!already).then_some(index);
            let json = json!({ "agent": agent.as_str(), "index": index, "already": already });
            Ok(Outcome { text, json, code: service::exit::OK })
        }
        other => Err(connection.unexpected(other)),
    }
}

/// The key's name says whose it is; a key of another ledger or agent is a mistake.
fn check_vkey(ledger: &Origin, agent: &AgentName, vkey: &VerifierKey) -> Result<(), Failure> {
    let expected = ledger.agent(agent);
    if vkey.name() == expected.key_name() && vkey.kind() == SignatureType::CosignatureV1 {
        return Ok(());
    }
    Err(Failure(format!(
        "the key is '{}' but for agent {agent} of this ledger it must be '{expected}': \
         check the agent's name and its policy file",
        vkey.name()
    )))
}
