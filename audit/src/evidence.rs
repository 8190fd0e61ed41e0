//! The evidence of one record: a few files that anybody can check.
//!
//! The ledger's policy is the one thing that must be trusted. The agent's key is not: the
//! enrolment, an entry of the ledger with a proof of its own, says whose it is.

use crate::output::Failure;
use record::{
    AgentName, Origin, UnixSeconds,
    enrolment::Enrolment,
    entry::{Entry, Kind, restore},
    policy::{Policy, VerifiedCheckpoint},
    proof::TlogProof,
    seal::agent_vkey,
};
use std::path::Path;

/// The record's bytes.
pub const ENTRY: &str = "entry";
/// Its proof in the ledger.
pub const LEDGER_PROOF: &str = "ledger.tlog-proof";
/// Its proof in its agent's log.
pub const AGENT_PROOF: &str = "agent.tlog-proof";
/// The ledger's policy.
pub const POLICY: &str = "policy";
/// The agent's key as the one witness that makes the quorum.
pub const AGENT_POLICY: &str = "agent-policy";

/// The entry that enrolled the agent's key.
pub const ENROLMENT: &str = "enrolment";
/// Its proof in the ledger.
pub const ENROLMENT_PROOF: &str = "enrolment.tlog-proof";

/// The largest of the files.
const MAX_FILE: u64 = 4 << 20;

/// Evidence as it is in its folder.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// [`ENTRY`]
    pub entry: Vec<u8>,
    /// [`LEDGER_PROOF`]
    pub ledger_proof: Vec<u8>,
    /// [`AGENT_PROOF`]
    pub agent_proof: Vec<u8>,
    /// [`POLICY`]
    pub policy: Vec<u8>,
    /// [`AGENT_POLICY`]
    pub agent_policy: Vec<u8>,
    /// [`ENROLMENT`] and [`ENROLMENT_PROOF`]. Without them the agent's key is not proven.
    pub enrolment: Option<(Vec<u8>, Vec<u8>)>,
}

/// What was broken, by file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct Broken {
    /// The file that does not hold.
    pub file: &'static str,
    /// Why.
    pub problem: String,
}

/// What evidence proves.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The agent that sealed the record.
    pub agent: String,
    /// The record's number in the agent's log.
    pub n: u64,
    /// The line it was made of, or a part of one.
    pub line: Vec<u8>,
    /// Which part of the line, if not all of it.
    pub part: Option<(u32, u32)>,
    /// When the agent received the line, as it says.
    pub received: String,
    /// The access fields.
    pub access: Vec<(String, String)>,
    /// When the agent sealed it.
    pub sealed: UnixSeconds,
    /// Records in the agent's log at that seal.
    pub agent_size: u64,
    /// The ledger.
    pub ledger: Origin,
    /// The record's place in the ledger.
    pub index: u64,
    /// The ledger's checkpoint, with the nodes that cosigned it.
    pub checkpoint: VerifiedCheckpoint,
    /// The ledger entry that enrolled the agent's key; `None` if that is not proven.
    pub enrolled: Option<u64>,
}

impl Evidence {
    /// Reads a folder; `policy` replaces the one in it.
    pub fn load(dir: &Path, policy: Option<&Path>) -> Result<Self, Failure> {
        let file = |name: &str| read(&dir.join(name));
        Ok(Evidence {
            entry: file(ENTRY)?,
            ledger_proof: file(LEDGER_PROOF)?,
            agent_proof: file(AGENT_PROOF)?,
            policy: policy.map_or_else(|| file(POLICY), read)?,
            agent_policy: file(AGENT_POLICY)?,
            enrolment: match dir.join(ENROLMENT).exists() || dir.join(ENROLMENT_PROOF).exists() {
                true => Some((file(ENROLMENT)?, file(ENROLMENT_PROOF)?)),
                false => None,
            },
        })
    }

    /// Writes the folder; nothing that is there is overwritten.
    pub fn save(&self, dir: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(dir).map_err(Failure::file(dir))?;
        let mut files = vec![
            (ENTRY, &self.entry),
            (LEDGER_PROOF, &self.ledger_proof),
            (AGENT_PROOF, &self.agent_proof),
            (POLICY, &self.policy),
            (AGENT_POLICY, &self.agent_policy),
        ];
        if let Some((entry, proof)) = &self.enrolment {
            files.extend([(ENROLMENT, entry), (ENROLMENT_PROOF, proof)]);
        }
        if let Some((name, _)) = files.iter().find(|(name, _)| dir.join(name).exists()) {
            let path = dir.join(name);
            let problem = "exists, and evidence is never overwritten: choose another folder";
            return Err(Failure(format!("{} {problem}", path.display())));
        }
        for (name, bytes) in files {
            let path = dir.join(name);
            let new = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
            let mut file = new.map_err(Failure::file(&path))?;
            std::io::Write::write_all(&mut file, bytes).map_err(Failure::file(&path))?;
        }
        Ok(())
    }

    /// Checks everything, with no network.
    pub fn verify(&self) -> Result<Proven, Broken> {
        let policy = parse_policy(POLICY, &self.policy)?;
        let agent_policy = parse_policy(AGENT_POLICY, &self.agent_policy)?;
        if policy.logs().is_empty() {
            return Err(broken(POLICY, "it names no ledger"));
        }
        let ledger_proof = parse_proof(LEDGER_PROOF, &self.ledger_proof)?;
        let agent_proof = parse_proof(AGENT_PROOF, &self.agent_proof)?;
        let checkpoint = ledger_proof
            .verify(&self.entry, &policy)
            .map_err(|error| broken(LEDGER_PROOF, error))?;
        let seal = agent_proof
            .verify(&self.entry, &agent_policy)
            .map_err(|error| broken(AGENT_PROOF, error))?;
        let entry = Entry::parse(&self.entry).map_err(|error| broken(ENTRY, error))?;
        let restored = restore(&self.entry).map_err(|error| broken(ENTRY, error))?;
        let param = |name| entry.element().param(name).unwrap_or_default().into_owned();
        let (agent, n) = (param("agent"), param("n"));
        let ledger = checkpoint.checkpoint().origin.clone();
        let name = agent.parse().map_err(|error| broken(ENTRY, error))?;
        if entry.kind() != Kind::Record || n != agent_proof.index.to_string() {
            return Err(broken(AGENT_PROOF, format!("it is for another record than number {n}")));
        }
        if seal.checkpoint().origin != ledger.agent(&name) {
            return Err(broken(AGENT_PROOF, format!("it is not of the log of agent {agent}")));
        }
        let enrolled = self.verify_enrolment(&policy, &agent_policy, &name)?;
        let sealed = seal.witnessed().first();
        let sealed = sealed.ok_or_else(|| broken(AGENT_POLICY, "it asks for no signature"))?.time;
        Ok(Proven {
            n: agent_proof.index.0,
            line: restored.line,
            part: restored.part.map(|part| (part.number.get(), part.of.get())),
            received: param("received"),
            access: entry
                .access()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into_owned()))
                .collect(),
            sealed,
            agent_size: seal.checkpoint().size.0,
            index: ledger_proof.index.0,
            agent,
            ledger,
            checkpoint,
            enrolled,
        })
    }

    /// Checks that the agent policy's key is the one that the ledger enrolled for `agent`, on an
    /// operator's signed word.
    fn verify_enrolment(
        &self,
        policy: &Policy,
        agent_policy: &Policy,
        agent: &AgentName,
    ) -> Result<Option<u64>, Broken> {
        let Some((entry, proof)) = &self.enrolment else { return Ok(None) };
        let proof = parse_proof(ENROLMENT_PROOF, proof)?;
        let checkpoint =
            proof.verify(entry, policy).map_err(|error| broken(ENROLMENT_PROOF, error))?;
        let parsed = Entry::parse(entry).map_err(|error| broken(ENROLMENT, error))?;
        let enrolment = Enrolment::from_entry(&parsed)
            .filter(|enrolment| enrolment.agent == *agent)
            .ok_or_else(|| broken(ENROLMENT, format!("it is no enrolment of agent {agent}")))?;
        let ledger = &checkpoint.checkpoint().origin;
        if !link::statement::enrolment_holds(ledger, &enrolment) {
            return Err(broken(ENROLMENT, "the operator's signature does not hold"));
        }
        let vkey = agent_vkey(ledger, agent, enrolment.key);
        if agent_policy.witnesses().any(|(_, key)| *key != vkey) {
            let problem = "its key is not the one that the ledger enrolled for this agent";
            return Err(broken(AGENT_POLICY, problem));
        }
        Ok(Some(proof.index.0))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(Failure::file(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(Failure::file(path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Failure(format!("{}: larger than any such file can be", path.display())));
    }
    Ok(bytes)
}

fn parse_policy(file: &'static str, bytes: &[u8]) -> Result<Policy, Broken> {
    Policy::parse(bytes).map_err(|error| broken(file, error))
}

fn parse_proof(file: &'static str, bytes: &[u8]) -> Result<TlogProof, Broken> {
    TlogProof::parse(bytes).map_err(|error| broken(file, error))
}

fn broken(file: &'static str, problem: impl ToString) -> Broken {
    Broken { file, problem: problem.to_string() }
}

/// The policy file for one agent: its key as the one witness that makes the quorum.
pub fn agent_policy(agent: &str, vkey: &str) -> String {
    format!("witness {agent} {vkey}\nquorum {agent}\n")
}
