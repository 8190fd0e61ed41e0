//! README.txt of a new ledger: what each folder is, and the commands to start.

use super::init::Plan;
use service::members::{FaultModel, Members};
use std::path::Path;

/// The text.
pub(super) fn text(dir: &Path, plan: &Plan, members: &Members) -> String {
    let (count, quorum) = (members.nodes().len(), members.quorum());
    let mut text = format!(
        "The ledger {}\n\n{}. {quorum} of {count} must agree.\n{}\n\
         All commands are run in this folder:\n\n  cd {}\n\n",
        plan.origin,
        members.explain(),
        honest(plan.fault_model, members),
        dir.display(),
    );
    text += KEYS;
    text += &nodes(plan);
    text += &operate();
    text += &agents(plan);
    text += &witnesses(plan);
    text += LATER;
    text
}

fn honest(model: FaultModel, members: &Members) -> String {
    let lie = match model {
        FaultModel::Byzantine => String::new(),
        FaultModel::Crash => {
            "A node that lies can give two histories a quorum: whoever holds both \
                              has proof, but it is not prevented.\n"
                .to_owned()
        }
    };
    match members.tolerates() {
        0 => format!("{lie}When a node is away, nothing is committed until it is back.\n"),
        1 => format!("{lie}The ledger goes on while one of them is away.\n"),
        some => format!("{lie}The ledger goes on while {some} of them are away.\n"),
    }
}

const KEYS: &str = "\
1. What is secret
-----------------
This folder holds the private keys of all nodes and of the CA: whoever reads it can be the whole
ledger. Keep it on one machine, off the network of the nodes. When every node runs, make an
encrypted backup of the keys/ folders, keep pki/ (it renews and revokes certificates), and remove
node folders, agent folders and everybody else's certificate keys from here.

";

fn nodes(plan: &Plan) -> String {
    let mut text = String::from(
        "2. Put each node on its machine\n-------------------------------\n\
         Install logseal-ledger and its unit first (docs/operate.md, Install). All nodes need a\n\
         synchronised clock. The others must reach its port for peers; agents, operators and\n\
         auditors its port for agents.\n",
    );
    let target = plan.config_dir.display();
    for node in &plan.nodes {
        let (name, host) = (&node.name, &node.host);
        text += &format!(
            "\n{name}, at {host}:\n\n  \
             scp -rp {name}/* root@{host}:{target}/\n  \
             ssh root@{host} chown -R logseal-ledger: {} {}\n  \
             ssh root@{host} runuser -u logseal-ledger -- logseal-ledger check --config {target}/ledger.toml\n  \
             ssh root@{host} systemctl enable --now logseal-ledger\n",
            node.keys.display(),
            node.tls.key.display(),
        );
    }
    text
}

fn operate() -> String {
    "\n3. See whether they agree\n-------------------------\n\n  \
     logseal status --config operator/client.toml\n\n\
     It shows every node, and says 'healthy' once all vote. Give operator/ and auditor/ to the\n\
     people who need them; each folder works wherever it is. More people:\n\n  \
     logseal certs issue --dir pki auditor alice\n\n"
        .to_owned()
}

fn agents(plan: &Plan) -> String {
    let target = plan.config_dir.display();
    let mut text = String::from("4. Add agents\n-------------\n");
    if plan.agents.is_empty() {
        text += "docs/operate.md, Add an agent. In agent.toml, name all nodes; the policy is this \
                 folder's.\n";
    }
    for agent in &plan.agents {
        text += &format!(
            "\n{agent}; change its sources in agent-{agent}/agent.toml first:\n\n  \
             scp -rp agent-{agent}/* root@{agent}:{target}/\n  \
             ssh root@{agent} chown logseal-agent: {target}/tls/agent.key\n  \
             vkey=$(ssh root@{agent} runuser -u logseal-agent -- logseal-agent key --config {target}/agent.toml)\n  \
             logseal enrol --config operator/client.toml --agent {agent} --vkey \"$vkey\"\n  \
             ssh root@{agent} systemctl enable --now logseal-agent\n"
        );
    }
    text
}

/// What their operators must be given; nothing if there are none.
fn witnesses(plan: &Plan) -> String {
    if plan.witnesses.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\nOutside witnesses\n-----------------\n\
         Send the file policy to the operators of these witnesses, who add its log keys (docs/audit.md);\n\
         until they have, /checkpoint answers 503, and agents work as ever:\n\n",
    );
    for witness in &plan.witnesses {
        text += &format!("  {}  {}\n", witness.vkey.name(), witness.url);
    }
    text + "\nGive audit-policy, not policy, to auditors and monitors.\n"
}

const LATER: &str = "
5. Every week
-------------
The revocation list runs out after 30 days, and then nobody is let in any more. Make a new one, copy
it to all machines as tls/crl.pem; programs take it up by themselves or on 'systemctl reload':

  logseal certs crl --dir pki

Compare each node's checkpoint with what others kept; see docs/operate.md and docs/threats.md.
";
