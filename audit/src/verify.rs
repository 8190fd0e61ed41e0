//! `logseal verify`: checks evidence, or a whole store, with no network.

use crate::{
    evidence::{Evidence, Proven},
    export,
    output::{Failure, Outcome, shown},
    store::{self, StoreCheck},
};
use clap::Args;
use serde_json::json;
use std::{num::NonZeroUsize, path::PathBuf};

/// Check the evidence of a record, an export, or a node's whole store. Needs no network.
///
/// Exit codes: 0 it holds, 1 it is broken (and what is), 2 usage or input/output.
#[derive(Args, Clone, Debug)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["evidence", "store"])))]
pub struct VerifyArgs {
    /// The folder that 'logseal proof' or 'logseal export' wrote
    #[arg(value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// A node's store instead: every block, entry, tree node and place in the index is checked
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Verify every signature in the store as well: seals, enrolments, proofs of misbehaviour
    #[arg(long, requires = "store")]
    deep: bool,
    /// The members file: with --deep, the votes that decided each block are verified as well
    #[arg(long, value_name = "FILE", requires = "deep")]
    members: Option<PathBuf>,
    /// How many segments of the store are looked at side by side [default: one a core]
    #[arg(long, requires = "store")]
    threads: Option<NonZeroUsize>,
    /// The policy you trust, instead of the one that lies beside the evidence
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The enterprise number of the ledger's own entries, where it is not the default
    #[arg(long, default_value_t = 32_473, requires = "store")]
    enterprise: u32,
}

/// Carries the command out.
pub fn run(args: VerifyArgs) -> Result<Outcome, Failure> {
    if let Some(store) = &args.store {
        return store::run(&StoreCheck {
            dir: store,
            policy: args.policy.as_deref(),
            deep: args.deep,
            members: args.members.as_deref(),
            enterprise: args.enterprise,
            threads: args.threads,
        });
    }
    let Some(dir) = args.evidence else {
        return Err(Failure("name the folder with the evidence".into()));
    };
    if export::check::is_export(&dir) {
        return export::check::run(&dir, args.policy.as_deref());
    }
    let evidence = Evidence::load(&dir, args.policy.as_deref())?;
    Ok(match evidence.verify() {
        Ok(proven) => holds(&proven, args.policy.is_some()),
        Err(broken) => Outcome {
            text: format!("BROKEN  {broken}\n"),
            json: json!({ "verified": false, "file": broken.file, "problem": broken.problem }),
            code: service::exit::BROKEN,
        },
    })
}

fn holds(proven: &Proven, own_policy: bool) -> Outcome {
    let checkpoint = proven.checkpoint.checkpoint();
    let part = proven.part.map(|(k, n)| format!(" (part {k} of {n})")).unwrap_or_default();
    let mut text = format!(
        "HOLDS   record {} of agent {}{part}\n\
         line     {}\n\
         received {} (the agent's clock)\n\
         sealed   {} by agent {}, whose log then had {} records\n\
         ledger   {}, entry {} of {}\n",
        proven.n,
        proven.agent,
        shown(&proven.line, 400),
        proven.received,
        proven.sealed,
        proven.agent,
        proven.agent_size,
        checkpoint.origin,
        proven.index,
        checkpoint.size,
    );
    for (name, value) in &proven.access {
        text += &format!("  {name} = {}\n", shown(value.as_bytes(), 200));
    }
    for witnessed in proven.checkpoint.witnessed() {
        text += &format!("cosigned {} by {}\n", witnessed.time, witnessed.witness);
    }
    text += &match proven.enrolled {
        Some(index) => format!("key      enrolled by an operator in entry {index} of the ledger\n"),
        None => "key      NOT PROVEN: there is no enrolment in the folder; whoever gave you \
                 'agent-policy' could have made it\n"
            .to_owned(),
    };
    if !own_policy {
        text += "policy   the one in the folder: compare it with the one you were given, or use --policy\n";
    }
    let cosigned: Vec<_> = proven
        .checkpoint
        .witnessed()
        .iter()
        .map(|w| json!({ "node": w.witness, "time": w.time.0 }))
        .collect();
    let access: serde_json::Map<_, _> =
        proven.access.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let json = json!({
        "verified": true,
        "agent": proven.agent,
        "n": proven.n,
        "part": proven.part.map(|(k, n)| format!("{k}/{n}")),
        "line": String::from_utf8_lossy(&proven.line),
        "received": proven.received,
        "access": access,
        "sealed": proven.sealed.0,
        "ledger": checkpoint.origin.to_string(),
        "index": proven.index,
        "size": checkpoint.size.0,
        "root": checkpoint.root.to_string(),
        "enrolled": proven.enrolled,
        "cosigned": cosigned,
        "policy": if own_policy { "given" } else { "folder" },
    });
    Outcome { text, json, code: service::exit::OK }
}
