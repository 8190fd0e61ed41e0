//! What the uplink is configured with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use link::tls::ReloadingClient;
use record::{AgentName, Origin, entry::Enterprise, note::VerifierKey, policy::Policy};

use crate::{board::Board, config::NodeAddress, metrics::Metrics};

/// What every connection needs.
#[derive(Clone, Debug)]
pub struct UplinkSettings {
    /// The agent.
    pub agent: AgentName,
    /// Its verifier key.
    pub vkey: VerifierKey,
    /// The ledger.
    pub origin: Origin,
    /// The enterprise number of the ledger's and our elements.
    pub enterprise: Enterprise,
    /// Whom to believe about the ledger.
    pub policy: Policy,
    /// The nodes, in the order in which they are preferred where several are as near.
    pub nodes: Vec<NodeAddress>,
    /// Our certificate and trust.
    pub tls: Arc<ReloadingClient>,
    /// The spool's directory, for messages.
    pub spool: PathBuf,
    /// Where receipts that do not verify are kept.
    pub evidence: PathBuf,
    /// How long things may take.
    pub timing: Timing,
    /// What it counts.
    pub metrics: Metrics,
    /// Where it says whose lines have receipts.
    pub board: Board,
}

/// How long things may take. The defaults are the ones that are documented; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A connection and its handshake, and the answer to our first message.
    pub connect: Duration,
    /// After so much silence a node is asked for a sign of life.
    pub ping: Duration,
    /// After so much silence a connection is given up.
    pub dead: Duration,
    /// With batches under way and no receipt for so long, another node is tried, if there is one.
    pub patience: Duration,
    /// How often a node that is nearer is looked for.
    pub look: Duration,
    /// The first pause after an attempt that failed; it doubles up to `pause_max`.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// The pause after what only a person can mend.
    pub pause_slow: Duration,
    /// How often a problem that lasts is logged again.
    pub remind: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            connect: Duration::from_secs(5),
            ping: Duration::from_secs(10),
            dead: Duration::from_secs(20),
            patience: Duration::from_secs(5),
            look: Duration::from_secs(300),
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            pause_slow: Duration::from_secs(60),
            remind: Duration::from_secs(60),
        }
    }
}
