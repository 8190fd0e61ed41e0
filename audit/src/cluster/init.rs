//! Writing the folders of a new ledger.

use super::{
    node::{NodePlan, WitnessPlan, make_members, quoted, tls_below, tls_table},
    readme,
};
use crate::output::{Failure, fail};
use certs::{CA_DAYS, Pki, Request, Timestamp, Validity};
use record::{
    AgentName, Origin,
    policy::{OutsideWitness, with_outside_witnesses},
};
use service::members::{FaultModel, Members, RESERVED};
use std::{
    collections::BTreeSet,
    fs::{DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The longest common name of a certificate authority.
const MAX_CA_NAME: usize = 64;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The ledger.
    pub origin: Origin,
    /// What it is protected against.
    pub fault_model: FaultModel,
    /// Its nodes.
    pub nodes: Vec<NodePlan>,
    /// Agents to make folders for.
    pub agents: Vec<AgentName>,
    /// Days that certificates hold.
    pub days: u32,
    /// Where an agent's folder will be on its server.
    pub config_dir: PathBuf,
    /// Outside witnesses.
    pub witnesses: Vec<WitnessPlan>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The nodes with their keys.
    pub members: Members,
    /// The policy that asks for outside witnesses, if there are any.
    pub audit_policy: Option<String>,
}

/// Makes `dir`, which must not hold anything, and all that [`Plan`] asks for in it. The folder is
/// its owner's alone: it holds every private key.
///
/// # Errors
/// Nothing is made when the plan cannot be meant. Any other error leaves what was made so far.
pub fn init(dir: &Path, plan: &Plan) -> Result<Made, Failure> {
    check_names(&plan.nodes)?;
    empty_dir(dir)?;
    let dir = &dir.canonicalize().map_err(Failure::file(dir))?;
    let folder = Folder { dir, now: Timestamp::from(SystemTime::now()), plan };
    let pki = folder.pki()?;
    let keys = |node: &NodePlan| dir.join(node.name.as_str()).join("keys");
    for node in &plan.nodes {
        make_dir(&dir.join(node.name.as_str()), 0o755)?;
    }
    let members = make_members(&plan.origin, plan.fault_model, &plan.nodes, keys)?;
    let audit_policy = audit_policy(&members.policy(), &plan.witnesses)?;
    for node in &plan.nodes {
        folder.node(&pki, node, &members)?;
    }
    for (role, name) in [("operator", "operator"), ("auditor", "auditor")] {
        folder.person(&pki, role, name, &members, audit_policy.as_deref())?;
    }
    for agent in &plan.agents {
        folder.agent(&pki, agent, &members)?;
    }
    write(&dir.join("members.toml"), &members.to_toml())?;
    write(&dir.join("policy"), &members.policy())?;
    if let Some(policy) = &audit_policy {
        write(&dir.join("audit-policy"), policy)?;
    }
    write(&dir.join("README.txt"), &readme::text(dir, plan, &members))?;
    Ok(Made { members, audit_policy })
}

/// The policy with the outside witnesses, by the rule that nodes apply unless configured otherwise.
fn audit_policy(policy: &str, witnesses: &[WitnessPlan]) -> Result<Option<String>, Failure> {
    if witnesses.is_empty() {
        return Ok(None);
    }
    let outside = |witness: &WitnessPlan| OutsideWitness {
        key: witness.vkey.clone(),
        url: witness.url.to_string(),
    };
    let outside: Vec<OutsideWitness> = witnesses.iter().map(outside).collect();
    let policy = with_outside_witnesses(policy, &outside, outside.len() / 2 + 1);
    policy.map(Some).map_err(|error| Failure(format!("--witness: {}", error.problem)))
}

struct Folder<'a> {
    dir: &'a Path,
    now: Timestamp,
    plan: &'a Plan,
}

impl Folder<'_> {
    fn pki(&self) -> Result<Pki, Failure> {
        let own = format!("{} CA", self.plan.origin);
        let name = if own.chars().count() <= MAX_CA_NAME { own } else { "logseal CA".into() };
        let validity = Validity::days(self.now, CA_DAYS.max(self.plan.days)).map_err(fail)?;
        Pki::init(&self.dir.join("pki"), &name, validity, self.now).map_err(fail)
    }

    /// Issues a certificate and copies what its holder needs to `folder/tls`.
    fn issue(&self, pki: &Pki, request: Request, folder: &Path, own: &str) -> Result<(), Failure> {
        let issued = pki.issue(&request).map_err(fail)?;
        let tls = tls_below(folder, own);
        make_dir(&folder.join("tls"), 0o755)?;
        let crl = tls.crl.as_deref().map(|crl| (pki.crl(), crl));
        let files = [(pki.ca(), tls.ca.as_path()), (issued.certificate, &tls.cert)];
        for (from, to) in files.into_iter().chain(crl) {
            copy(&from, to, 0o644)?;
        }
        copy(&issued.key, &tls.key, 0o600)
    }

    fn request(&self, role: &str, name: &str) -> Result<Request, Failure> {
        let validity = Validity::days(self.now, self.plan.days).map_err(fail)?;
        Request::new(role, name, validity).map_err(fail)
    }

    fn node(&self, pki: &Pki, node: &NodePlan, members: &Members) -> Result<(), Failure> {
        let folder = self.dir.join(node.name.as_str());
        let request = self.request("node", node.name.as_str())?.hosts([node.host.clone()]);
        self.issue(pki, request, &folder, "node")?;
        write(&folder.join("members.toml"), &members.to_toml())?;
        write(&folder.join("policy"), &members.policy())?;
        write(&folder.join("ledger.toml"), &node.to_toml(&self.plan.origin))
    }

    /// A folder for a person; its client.toml works wherever the folder is.
    fn person(
        &self,
        pki: &Pki,
        role: &str,
        name: &str,
        members: &Members,
        audit_policy: Option<&str>,
    ) -> Result<(), Failure> {
        let folder = self.dir.join(role);
        make_dir(&folder, 0o700)?;
        self.issue(pki, self.request(role, name)?, &folder, name)?;
        write(&folder.join("policy"), &members.policy())?;
        let policy = match audit_policy.filter(|_| role == "auditor") {
            None => "policy",
            Some(policy) => {
                write(&folder.join("audit-policy"), policy)?;
                "audit-policy"
            }
        };
        let https: Vec<String> = members.nodes().iter().map(|node| quoted(&node.https)).collect();
        let text = format!(
            "# For 'logseal … --config FILE'. Paths are relative to this file.\n\
             nodes = {}\nhttps = [{}]\npolicy = {}\n\n{}",
            addresses(members),
            https.join(", "),
            quoted(policy),
            tls_table(&tls_below(Path::new(""), name)),
        );
        write(&folder.join("client.toml"), &text)
    }

    fn agent(&self, pki: &Pki, agent: &AgentName, members: &Members) -> Result<(), Failure> {
        let folder = self.dir.join(format!("agent-{agent}"));
        make_dir(&folder, 0o755)?;
        self.issue(pki, self.request("agent", agent.as_str())?, &folder, "agent")?;
        write(&folder.join("policy"), &members.policy())?;
        write(&folder.join("agent.toml"), &self.agent_toml(agent, members))
    }

    fn agent_toml(&self, agent: &AgentName, members: &Members) -> String {
        let config = &self.plan.config_dir;
        format!(
            "# Agent {agent}. 'logseal-agent check' validates this file; the example that comes with\n\
             # logseal-agent explains every key.\n\
             name = {}\npolicy = {}\n\n\
             [ledger]\nnodes = {}\n\n{}\n\
             [seal]\nkey = \"/var/lib/logseal-agent/seal.key\"\n\n\
             [spool]\ndir = \"/var/lib/logseal-agent/spool\"\n\n\
             # Change what follows: the log files to follow, and what their lines are.\n\
             [[source.file]]\nname = \"kong\"\npaths = [\"/var/log/kong/access.log\"]\n\
             format = \"kong\"\n\n\
             # [[source.syslog]]\n# name = \"syslog\"\n# listen = \"127.0.0.1:6514\"\n\n\
             [metrics]\nlisten = \"127.0.0.1:9515\"\n",
            quoted(agent),
            quoted(config.join("policy").display()),
            addresses(members),
            tls_table(&tls_below(config, "agent")),
        )
    }
}

/// Where agents, operators and auditors reach the nodes, as a TOML array.
fn addresses(members: &Members) -> String {
    let nodes: Vec<String> = members.nodes().iter().map(|node| quoted(&node.agents)).collect();
    format!("[{}]", nodes.join(", "))
}

/// Every node can have a folder of its own beside the others, and a line in a policy.
fn check_names(nodes: &[NodePlan]) -> Result<(), Failure> {
    let taken = ["pki", "policy", "audit-policy", "operator", "auditor", "members.toml"];
    let mut seen = BTreeSet::new();
    for name in nodes.iter().map(|node| node.name.as_str()) {
        if taken.contains(&name) || RESERVED.contains(&name) || name.starts_with("agent-") {
            return Err(Failure(format!(
                "'{name}' is no name for a node: it means something else"
            )));
        }
        if !seen.insert(name) {
            return Err(Failure(format!("two nodes are named '{name}'")));
        }
    }
    Ok(())
}

fn empty_dir(dir: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => {
            let problem = "holds something already: name another folder, or remove it yourself";
            return Err(Failure(format!("{} {problem}", dir.display())));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::file(dir)(error)),
    }
    make_dir(dir, 0o700)
}

/// Makes a directory with this mode, whatever the user's mask is.
fn make_dir(dir: &Path, mode: u32) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| std::fs::set_permissions(dir, Permissions::from_mode(mode)))
        .map_err(Failure::file(dir))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    create(path, text.as_bytes(), 0o644)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    create(to, &std::fs::read(from).map_err(Failure::file(from))?, mode)
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(Failure::file(path))
}
