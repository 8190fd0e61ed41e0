//! Asking all nodes at once.

use crate::{
    client::{Client, block_on},
    output::Failure,
};
use link::{
    Role,
    message::{
        ClusterStatus, FromNode, NodeStatus, RetentionStatus, StoreStatus, ToNode, WitnessesStatus,
    },
};
use record::{
    Checkpoint,
    note::SignedNote,
    policy::{Policy, TrustError, VerifiedCheckpoint},
};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::timeout};

/// How long one node may take for all its answers.
const LIMIT: Duration = Duration::from_secs(10);

/// A node, and what became of asking it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where it was asked.
    pub address: String,
    /// What it said, or why it did not.
    pub answer: Result<Answer, String>,
}

/// What a node said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its name, as its certificate says.
    pub name: String,
    /// The ledger it says it is a node of.
    pub origin: String,
    /// How it is.
    pub status: NodeStatus,
    /// How it sees the others; `None` for a ledger of one, or a node that does not know the question.
    pub cluster: Option<ClusterStatus>,
    /// What outside witnesses say to it.
    pub witnesses: WitnessesStatus,
    /// What it found in its store.
    pub store: StoreStatus,
    /// How long it keeps entries, and what it gave up.
    pub retention: RetentionStatus,
    /// Its clock minus ours, milliseconds, right within half the time its answer took.
    pub offset_ms: Option<i64>,
    /// Its checkpoint, if it is one.
    pub checkpoint: Option<Checkpoint>,
    /// The times of the cosignatures on its checkpoint, newest first, or why it does not hold under
    /// the policy; `None` without a policy.
    pub trusted: Option<Result<Vec<u64>, Distrust>>,
}

/// Why a checkpoint does not hold under the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// For people.
    pub problem: String,
    /// True if nothing is wrong with it but that too few nodes have cosigned it.
    pub too_few: bool,
}

impl Distrust {
    fn of(error: &TrustError) -> Self {
        let too_few = matches!(error, TrustError::Quorum { .. });
        Distrust { problem: error.to_string(), too_few }
    }
}

/// Asks all nodes at once; the answers are in the order of the addresses.
///
/// # Errors
/// The policy or our own certificate cannot be used.
pub fn ask_all(client: &Client) -> Result<Vec<Asked>, Failure> {
    let own = [Role::Auditor, Role::Operator, Role::PrivacyOfficer];
    client.check_files(&own)?;
    let policy = if client.has_policy() { Some(client.policy()?.1) } else { None };
    let (client, policy) = (Arc::new(client.clone()), Arc::new(policy));
    block_on(async {
        let mut tasks = JoinSet::new();
        for (index, address) in client.nodes.iter().cloned().enumerate() {
            let (client, policy) = (Arc::clone(&client), Arc::clone(&policy));
            tasks.spawn(async move {
                let asking = ask(&client, &address, &own, policy.as_ref().as_ref());
                let answer = match timeout(LIMIT, asking).await {
                    Ok(answer) => answer.map_err(|failure| failure.0),
                    Err(_) => Err(format!("{address} did not answer within {LIMIT:?}")),
                };
                (index, Asked { address, answer })
            });
        }
        let mut asked = tasks.join_all().await;
        asked.sort_by_key(|(index, _)| *index);
        Ok(asked.into_iter().map(|(_, asked)| asked).collect())
    })
}

async fn ask(
    client: &Client,
    address: &str,
    own: &[Role],
    policy: Option<&Policy>,
) -> Result<Answer, Failure> {
    let mut connection = client.connect(address, own).await?;
    let status = match connection.ask(&ToNode::Status).await? {
        FromNode::Status(status) => status,
        other => return Err(connection.unexpected(other)),
    };
    let asked_ms = service::clock::now().0;
    // A ledger of one refuses the question; a node from before there were several hangs up.
    let cluster = match connection.ask(&ToNode::Cluster).await {
        Ok(FromNode::Cluster(cluster)) => Some(*cluster),
        Ok(_) | Err(_) => None,
    };
    let middle_ms = asked_ms + service::clock::now().0.saturating_sub(asked_ms) / 2;
    // A node from before there were witnesses hangs up.
    let witnesses = match connection.ask(&ToNode::Witnesses).await {
        Ok(FromNode::Witnesses(witnesses)) => witnesses,
        Ok(_) | Err(_) => WitnessesStatus::default(),
    };
    let store = match connection.ask(&ToNode::Store).await {
        Ok(FromNode::Store(store)) => store,
        Ok(_) | Err(_) => StoreStatus::default(),
    };
    // A node from before anything could be given up hangs up.
    let retention = match connection.ask(&ToNode::Retention).await {
        Ok(FromNode::Retention(retention)) => retention,
        Ok(_) | Err(_) => RetentionStatus::default(),
    };
    let note = SignedNote::parse(status.checkpoint.as_bytes());
    let checkpoint = note.as_ref().ok().and_then(|note| Checkpoint::parse(note.text()).ok());
    let trusted = policy.map(|policy| {
        let verified = note.map_err(TrustError::from).and_then(|note| policy.verify(&note));
        verified.map(|verified| times(&verified)).map_err(|error| Distrust::of(&error))
    });
    Ok(Answer {
        name: connection.name.clone(),
        origin: connection.welcome.origin.clone(),
        offset_ms: cluster.as_ref().map(|cluster| difference(cluster.clock, middle_ms)),
        status,
        cluster,
        witnesses,
        store,
        retention,
        checkpoint,
        trusted,
    })
}

/// The times of cosignatures, newest first.
fn times(verified: &VerifiedCheckpoint) -> Vec<u64> {
    let mut times: Vec<u64> = verified.witnessed().iter().map(|w| w.time.0).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times
}

fn difference(theirs: u64, ours: u64) -> i64 {
    let apart = i64::try_from(theirs.abs_diff(ours)).unwrap_or(i64::MAX);
    if theirs >= ours { apart } else { -apart }
}
