//! One witness, asked for one cosignature.

use super::size_of;
use crate::{store::StoreReader, view::View};
use link::message::NodeState;
use record::{
    TreeSize,
    cosignature::Cosignature,
    merkle::consistency_proof,
    note::{NoteSignature, SignedNote, VerifierKey},
    witness::{AddCheckpoint, SIZE_TYPE, parse_cosignatures, parse_size},
};
use service::http::{Answer, HttpClient, HttpError};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer: signature lines.
const MAX_ANSWER: usize = 16 << 10;
/// How often a witness is asked again at once because another node was faster.
const TRIES: u32 = 4;
/// How long a witness may know more than this node before that is no coincidence: the other
/// nodes ask it too, and this one has their blocks within moments.
const AHEAD: Duration = Duration::from_secs(10);

/// A witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It does not answer.
    #[error("{0}")]
    Away(#[from] HttpError),
    /// Other nodes are faster just now.
    #[error("it has seen {0} entries already, from another node")]
    Behind(TreeSize),
    /// It has seen more than there is.
    #[error("it has cosigned {seen} entries of this ledger, and the ledger has only {has}")]
    Ahead { seen: TreeSize, has: TreeSize },
    /// The proof does not lead from what it has seen.
    #[error(
        "what it cosigned at {seen} entries is not the beginning of this ledger's {has} entries"
    )]
    Contradiction { seen: TreeSize, has: TreeSize },
    /// It does not know us.
    #[error(
        "it does not witness this ledger: its operator must add the origin and all nodes' log keys"
    )]
    Unknown,
    /// It does not know this node's key.
    #[error("it does not trust this node's log key: its operator must add it")]
    Untrusted,
    /// Anything else.
    #[error("it answered with status {status}: {text}")]
    Status { status: u16, text: String },
    /// Its answer is none.
    #[error("its answer holds no cosignature of its key that verifies")]
    NoCosignature,
    /// Our own store.
    #[error("the proof for it cannot be made: {0}")]
    Store(String),
}

impl Trouble {
    /// The word in metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Trouble::Away(_) => "away",
            Trouble::Behind(_) => "behind",
            Trouble::Ahead { .. } => "ahead",
            Trouble::Contradiction { .. } => "contradiction",
            Trouble::Unknown => "unknown",
            Trouble::Untrusted => "untrusted",
            Trouble::Status { .. } => "status",
            Trouble::NoCosignature => "no-cosignature",
            Trouble::Store(_) => "store",
        }
    }

    /// True if it says that the ledger was rolled back or has two histories.
    pub(super) fn contradicts(&self) -> bool {
        matches!(self, Trouble::Ahead { .. } | Trouble::Contradiction { .. })
    }

    /// True if it says nothing about the ledger: what was said before still stands.
    pub(super) fn is_silence(&self) -> bool {
        !self.contradicts()
    }
}

/// A witness and what it is known to have seen.
pub(super) struct Asked {
    vkey: VerifierKey,
    client: HttpClient,
    /// The size it cosigned last, as far as it told.
    seen: TreeSize,
    /// Since when it has been known to have seen so much more than this node has.
    ahead: Option<(Instant, TreeSize)>,
}

impl Asked {
    pub(super) fn new(vkey: VerifierKey, client: HttpClient) -> Self {
        // Of a witness that nothing is known of, the first answer says the size.
        Asked { vkey, client, seen: TreeSize(0), ahead: None }
    }

    /// The size it cosigned last.
    pub(super) fn size(&self) -> u64 {
        self.seen.0
    }

    /// Asks for a cosignature on `note`.
    pub(super) async fn ask(
        &mut self,
        view: &View,
        store: &Arc<StoreReader>,
        note: &SignedNote,
    ) -> Result<NoteSignature, Trouble> {
        let size = size_of(note);
        for _ in 0..TRIES {
            if self.seen > size {
                return Err(self.judge_ahead(view, size));
            }
            let request = AddCheckpoint {
                old: self.seen,
                proof: proof(store, self.seen, size).await?,
                checkpoint: note.clone(),
            };
            let body = request.to_string().into_bytes();
            let kind = "text/plain; charset=utf-8";
            let answer = self.client.post("/add-checkpoint", kind, body, MAX_ANSWER, LIMIT).await?;
            match answer.status {
                200 => {
                    let cosignature = self.cosignature(note, &answer)?;
                    (self.seen, self.ahead) = (size, None);
                    return Ok(cosignature);
                }
                409 => match conflict(&answer).filter(|seen| *seen != self.seen) {
                    Some(seen) => self.seen = seen,
                    None => return Err(status(&answer)),
                },
                422 => return Err(Trouble::Contradiction { seen: self.seen, has: size }),
                404 => return Err(Trouble::Unknown),
                403 => return Err(Trouble::Untrusted),
                _ => return Err(status(&answer)),
            }
        }
        Err(Trouble::Behind(self.seen))
    }

    /// It has seen more than this checkpoint is for: another node was faster, or the ledger was
    /// rolled back. In a ledger that was not, this node soon has as much.
    fn judge_ahead(&mut self, view: &View, size: TreeSize) -> Trouble {
        let (since, seen) = match self.ahead {
            Some((since, first)) if first > size => (since, first),
            _ => (Instant::now(), self.seen),
        };
        self.ahead = Some((since, seen));
        let here = self.seen;
        // It is asked again from what it will say then.
        self.seen = TreeSize(0);
        let Some(cluster) = view.cluster() else { return Trouble::Behind(here) };
        // Nobody else asks in the name of a ledger of one.
        if cluster.peers.is_empty() {
            return Trouble::Ahead { seen: here, has: size };
        }
        // Cut off from a quorum, or on its way to what that has, a node cannot judge.
        let connected = cluster.peers.iter().filter(|peer| peer.connected).count();
        if cluster.state != NodeState::Voting || connected + 1 < usize::from(cluster.quorum) {
            self.ahead = None;
        }
        match self.ahead {
            Some((since, _)) if since.elapsed() >= AHEAD => {
                Trouble::Ahead { seen: here, has: size }
            }
            Some(_) | None => Trouble::Behind(here),
        }
    }

    fn cosignature(&self, note: &SignedNote, answer: &Answer) -> Result<NoteSignature, Trouble> {
        let lines = parse_cosignatures(note.text(), &answer.body);
        let lines = lines.map_err(|_| Trouble::NoCosignature)?;
        let own = lines.into_iter().find(|line| {
            line.name == *self.vkey.name()
                && line.id == self.vkey.id()
                && self.vkey.verifies(note.text(), &line.bytes)
        });
        own.ok_or(Trouble::NoCosignature)
    }
}

/// When a cosignature was made, seconds since 1970.
pub(super) fn time_of(cosignature: &NoteSignature) -> u64 {
    Cosignature::from_bytes(&cosignature.bytes).map_or(0, |cosignature| cosignature.time.0)
}

async fn proof(
    store: &Arc<StoreReader>,
    old: TreeSize,
    new: TreeSize,
) -> Result<Vec<record::Hash>, Trouble> {
    let store = Arc::clone(store);
    let made = tokio::task::spawn_blocking(move || consistency_proof(store.tree(), old, new)).await;
    match made {
        Ok(made) => made.map_err(|error| Trouble::Store(error.to_string())),
        Err(error) => Err(Trouble::Store(error.to_string())),
    }
}

/// The size in a conflict's answer.
fn conflict(answer: &Answer) -> Option<TreeSize> {
    let typed = answer.content_type.as_deref() == Some(SIZE_TYPE);
    parse_size(&answer.body).filter(|_| typed)
}

fn status(answer: &Answer) -> Trouble {
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Trouble::Status { status: answer.status, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Head;
    use link::message::{ClusterStatus, PeerStatus};
    use record::{block::Height, crypto::PublicKey, note::SignatureType};
    use std::{collections::BTreeMap, path::Path};

    fn view(state: NodeState, connected: &[bool]) -> View {
        let head = Head { height: Height(1), size: TreeSize(10), checkpoint: None };
        let view = View::new("node1".parse().unwrap(), head, BTreeMap::new());
        let peer = |(index, connected): (usize, &bool)| PeerStatus {
            name: format!("node{}", index + 2),
            address: String::new(),
            connected: *connected,
            version: String::new(),
            height: 1,
            size: 10,
            offset_ms: None,
            rtt_us: None,
            signed: 0,
            slow: false,
            heard: None,
        };
        view.set_cluster(ClusterStatus {
            fault_model: "byzantine".into(),
            quorum: if connected.is_empty() { 1 } else { 3 },
            tolerates: 1,
            proposer: String::new(),
            state,
            signed: 0,
            checkpoint_size: 10,
            checkpoint_time: 0,
            clock: 0,
            peers: connected.iter().enumerate().map(peer).collect(),
        });
        view
    }

    /// What is said of a witness that has known 20 entries for so long, where there are 10.
    fn judged(view: &View, known: Duration) -> bool {
        let kind = SignatureType::CosignatureV1;
        let vkey = VerifierKey::new("w.example/1".parse().unwrap(), kind, PublicKey([1; 32]));
        let url = "http://127.0.0.1:1".parse().unwrap();
        let mut asked = Asked::new(vkey, HttpClient::new(url, Path::new("")).unwrap());
        let since = Instant::now().checked_sub(known).unwrap();
        (asked.seen, asked.ahead) = (TreeSize(20), Some((since, TreeSize(20))));
        asked.judge_ahead(view, TreeSize(10)).contradicts()
    }

    #[test]
    fn a_node_calls_it_a_rollback_only_if_it_would_know_better() {
        let (short, long) = (Duration::from_secs(1), AHEAD + Duration::from_secs(1));
        let voting = |connected: &[bool]| view(NodeState::Voting, connected);
        assert!(judged(&voting(&[true, true, false]), long));
        assert!(!judged(&voting(&[true, true, true]), short), "others may be faster");
        assert!(!judged(&voting(&[true, false, false]), long), "cut off from a quorum");
        let syncing = view(NodeState::Syncing { to: 9 }, &[true, true, true]);
        assert!(!judged(&syncing, long), "on its way");
        assert!(judged(&voting(&[]), short), "nobody else asks for a ledger of one");
    }
}
