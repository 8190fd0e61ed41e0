//! Proofs of random records, one after the other on one connection.

use link::{
    Role,
    message::{FromNode, ToNode},
};
use logseal::{
    client::{ClientArgs, block_on},
    evidence::{Evidence, agent_policy},
    site::Site,
};
use logseal_tests::{figures::quantile, generate::AGENT};
use std::time::Instant;

/// How long proofs took.
pub struct Proofs {
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Entries of the ledger that they were under.
    pub ledger_size: u64,
}

/// Asks for `count` of `records` records, and verifies every tenth.
pub fn random(site: &Site, count: u64, records: u64) -> Proofs {
    let client = ClientArgs::from_file(&site.path("auditor.toml")).resolve().unwrap();
    let (policy, _) = client.policy().unwrap();
    let (mut times, mut ledger_size, mut dice) = (Vec::new(), 0, 88_172_645_463_325_252_u64);
    block_on(async {
        let mut connection = client.connect(&client.nodes[0], &[Role::Auditor]).await?;
        for at in 0..count {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let request = ToNode::Record { agent: AGENT.into(), n: dice % records };
            let begun = Instant::now();
            let answer = connection.ask(&request).await?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            let FromNode::Record(record) = answer else {
                return Err(connection.unexpected(answer));
            };
            if at % 10 == 0 {
                let evidence = Evidence {
                    entry: record.entry,
                    ledger_proof: record.ledger_proof.into_bytes(),
                    agent_proof: record.agent_proof.into_bytes(),
                    enrolment: Some((record.enrolment, record.enrolment_proof.into_bytes())),
                    policy: policy.clone(),
                    agent_policy: agent_policy(AGENT, &record.agent_vkey).into_bytes(),
                };
                let proven = evidence.verify().expect("the proof holds");
                ledger_size = proven.checkpoint.checkpoint().size.0;
            }
        }
        Ok(())
    })
    .unwrap();
    Proofs { p50_ms: quantile(times.clone(), 0.5), p99_ms: quantile(times, 0.99), ledger_size }
}
