//! `logseal prune`: giving up old entries, as an operator declares and the nodes agree.

use crate::{
    client::{ClientArgs, Connection, block_on},
    declare::Signer,
    output::{Failure, Outcome, fail},
};
use clap::Args;
use link::{
    Role,
    message::{FromNode, ToNode},
};
use record::{
    bytes::Reader,
    declaration::{MIN_RETENTION_DAYS, Matter, Prune},
};
use serde_json::{Value, json};

/// Give up entries that are older than the ledger's retention. Needs a certificate with the role operator.
///
/// Without --yes this only shows what would go. With it the declaration is signed with the operator's certificate,
/// decided on by the nodes, each of which compares it with its own [retention], and becomes an entry of the ledger; then
/// every node deletes these blocks. Hashes stay, and so do all proofs, enrolments and declarations.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Give up what is older than so many days, at least 365 and what the nodes' [retention] says
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(i64::from(MIN_RETENTION_DAYS)..))]
    older_than: u32,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Carries the command out.
///
/// # Errors
/// When nothing can be given up, or the nodes do not agree to it.
pub fn run(args: PruneArgs) -> Result<Outcome, Failure> {
    let client = args.client.resolve()?;
    let signer = Signer::of(&client)?;
    let days = args.older_than;
    let (prune, index, ledger) = block_on(async {
        let ask =
            async |connection: &mut Connection| connection.ask(&ToNode::PlanPrune { days }).await;
        let (answer, mut connection) = client.first(&[Role::Operator], ask).await?;
        let prune = match answer {
            FromNode::PrunePlan { matter } => plan(&matter, days)?,
            other => return Err(connection.unexpected(other)),
        };
        let index = match args.yes {
            true => Some(signer.declare(&mut connection, Matter::Prune(prune.clone())).await?),
            false => None,
        };
        Ok((prune, index, connection.welcome.origin))
    })?;
    let ledger = ledger.as_str();
    Ok(Outcome {
        text: text(&prune, index, ledger),
        json: shown(&prune, index, ledger),
        code: service::exit::OK,
    })
}

/// What a node says can be given up: nothing younger than was asked for.
fn plan(matter: &[u8], days: u32) -> Result<Prune, Failure> {
    let mut reader = Reader::new(matter);
    let Matter::Prune(prune) = Matter::take(&mut reader).map_err(fail)? else {
        return Err(Failure("the node answered with another thing than a plan".into()));
    };
    let now = service::clock::now();
    if prune.days != days || !prune.is_sound() || prune.allowed_from() > now {
        return Err(Failure("the node's plan gives up entries that are not old enough".into()));
    }
    Ok(prune)
}

fn text(prune: &Prune, index: Option<u64>, ledger: &str) -> String {
    let (count, from, last) = (prune.count(), prune.from, prune.size().0 - 1);
    let (height, before) = (prune.height, prune.before);
    let head = match index {
        Some(index) => format!("given up, as entry {index} of {ledger} declares\n"),
        None => format!("can be given up in {ledger}\n"),
    };
    let tail = match index {
        Some(_) => "each node deletes these blocks now; 'logseal status' shows it\n",
        None => "nothing was done: add --yes to declare it\n",
    };
    format!(
        "{head}  entries   {count}: {from} to {last}\n  blocks    up to {height}, the last of them of {before}\n  \
         policy    kept for {} days\n  minimum   index {} is the first that is published afterwards\n{tail}",
        prune.days,
        prune.minimum_index(),
    )
}

fn shown(prune: &Prune, index: Option<u64>, ledger: &str) -> Value {
    json!({
        "ledger": ledger,
        "declared": index.is_some(),
        "index": index,
        "from": prune.from.0,
        "to": prune.size().0,
        "count": prune.count(),
        "height": prune.height.0,
        "before": prune.before.to_string(),
        "days": prune.days,
        "root": prune.frontier.root().to_string(),
        "minimum_index": prune.minimum_index().0,
    })
}
