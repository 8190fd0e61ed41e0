//! `logseal status`: how the nodes of a ledger are, and whether they agree.
//!
//! All nodes are asked at once, each for a bounded time. What a node says of
//! itself is shown as its word; its checkpoint is verified here, and two
//! checkpoints of one size with different roots are shouted, whoever signed them.

mod ask;
mod overview;
mod retention;
mod row;
mod show;
mod single;
mod stores;
mod witnesses;

use crate::{
    client::ClientArgs,
    output::{Failure, Outcome},
};
use clap::Args;

pub use ask::{Answer, Asked, Distrust, ask_all};
pub use overview::{Overview, Verdict};
pub use row::Row;

/// Show how the nodes are: height, entries, clocks, disks, who is connected, and whether their
/// checkpoints fit together. Needs a certificate with the role operator, auditor or
/// privacy-officer.
///
/// Exit code 0 if enough nodes vote to go on (the verdict says 'healthy', or 'degraded' where
/// somebody should look); 1 if not, if no node takes batches, or if checkpoints contradict each
/// other or the policy.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Alarm on a checkpoint that is older; twice the nodes' renew_s is a good value
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    max_age: u64,
}

/// Carries the command out.
pub fn run(args: StatusArgs) -> Result<Outcome, Failure> {
    let client = args.client.resolve()?;
    let asked = ask_all(&client)?;
    if let [only] = asked.as_slice() {
        match &only.answer {
            Ok(answer) if answer.cluster.is_none() => return Ok(single::report(answer)),
            Err(problem) => return Err(Failure(problem.clone())),
            Ok(_) => {}
        }
    }
    let overview = Overview::new(&asked, service::clock::now().0, args.max_age);
    Ok(show::outcome(&overview))
}

#[cfg(test)]
mod tests;
