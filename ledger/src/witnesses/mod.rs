//! Asking outside witnesses to cosign: <https://c2sp.org/tlog-witness>.
//!
//! Every few seconds each witness is sent the newest checkpoint, with the proof that it extends
//! what that witness saw last. The newest one that enough of them cosigned is what `/checkpoint`
//! serves; it is kept in the store's folder, so that a start does not serve less. Nothing else of
//! the node waits for a witness: receipts are made of the nodes' own cosignatures.
//!
//! A witness that has seen more than this ledger has, or that refuses the proof, says that the
//! ledger was rolled back or has two histories. Nothing is more important to tell.

mod ask;
mod kept;

use crate::{
    config::{Config, WitnessConfig},
    metrics::Metrics,
    store::StoreReader,
    view::View,
};
use ask::{Asked, Trouble};
use link::message::{WitnessStatus, WitnessesStatus};
use record::{
    Checkpoint,
    note::{NoteSignature, SignedNote},
};
use service::{config::ConfigError, http::HttpClient, signals::Shutdown};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The pause after a first failure; it doubles with each further one.
const BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// How often the same problem is logged.
const SAY_AGAIN: Duration = Duration::from_secs(300);

/// The task that asks.
pub struct Asking {
    view: Arc<View>,
    store: Arc<StoreReader>,
    metrics: Metrics,
    file: PathBuf,
    needed: usize,
    every: Duration,
    witnesses: Vec<Witness>,
    /// The checkpoint that is being cosigned.
    target: Option<SignedNote>,
}

/// A witness, and how it goes with it.
struct Witness {
    /// Not there while a task has it.
    asked: Option<Asked>,
    status: WitnessStatus,
    failures: u32,
    /// Not before then.
    next: Instant,
    /// What was logged last, without its numbers, and when.
    said: Option<(Instant, String)>,
    /// What it gave for the target.
    cosignature: Option<NoteSignature>,
}

/// The HTTP clients of all witnesses.
///
/// # Errors
/// A file of certificate authorities that cannot be used.
pub fn clients(config: &Config) -> Result<Vec<(WitnessConfig, HttpClient)>, ConfigError> {
    let client = |(index, witness): (usize, &WitnessConfig)| {
        let client = HttpClient::new(witness.url.clone(), &witness.ca);
        let key = format!("witness[{index}].ca");
        Ok((witness.clone(), client.map_err(|error| config.error(&key, &error))?))
    };
    config.witnesses.list.iter().enumerate().map(client).collect()
}

/// Takes up what was kept, and shows it; `None` if nobody outside is to be asked.
///
/// # Errors
/// A file of certificate authorities that cannot be used.
pub fn prepare(
    config: &Config,
    view: &Arc<View>,
    store: &Arc<StoreReader>,
    metrics: &Metrics,
) -> Result<Option<Asking>, ConfigError> {
    let begun = Instant::now();
    let witnesses: Vec<Witness> = clients(config)?
        .into_iter()
        .map(|(witness, client)| Witness::new(&witness, client, begun))
        .collect();
    if witnesses.is_empty() {
        return Ok(None);
    }
    let asking = Asking {
        view: Arc::clone(view),
        store: Arc::clone(store),
        metrics: metrics.clone(),
        file: config.store.join("witnessed"),
        needed: config.witnesses.needed,
        every: config.witnesses.every,
        witnesses,
        target: None,
    };
    let keys: Vec<_> = config.witnesses.list.iter().map(|witness| witness.vkey.clone()).collect();
    let (origin, tip) = (&config.params.origin, view.tip().1);
    match kept::read(&asking.file, origin, tip, &keys, asking.needed) {
        Ok(kept) => kept.into_iter().for_each(|note| view.set_witnessed(note)),
        Err(error) => {
            let path = asking.file.display();
            tracing::warn!(%path, %error, "the witnessed checkpoint that was kept is not used");
        }
    }
    asking.show();
    Ok(Some(asking))
}

impl Asking {
    /// Asks until shutdown.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.round() => {}
            }
        }
    }

    /// Asks every witness whose turn it is, at once, and takes the answers as they come.
    async fn round(&mut self) {
        let Some(newest) = self.view.head().checkpoint.clone() else { return };
        if self.target.as_ref() != Some(&newest) {
            self.witnesses.iter_mut().for_each(|witness| witness.cosignature = None);
            self.target = Some(newest.clone());
        }
        let now = Instant::now();
        let mut tasks = JoinSet::new();
        for (index, witness) in self.witnesses.iter_mut().enumerate() {
            if witness.cosignature.is_some() || witness.next > now {
                continue;
            }
            let Some(mut asked) = witness.asked.take() else { continue };
            let (view, store, note) =
                (Arc::clone(&self.view), Arc::clone(&self.store), newest.clone());
            tasks.spawn(async move {
                let answer = asked.ask(&view, &store, &note).await;
                (index, asked, answer)
            });
        }
        while let Some(done) = tasks.join_next().await {
            // A task ends in no other way than with its answer; a panic has been logged.
            let Ok((index, asked, answer)) = done else { continue };
            let size = asked.size();
            self.witnesses[index].asked = Some(asked);
            self.note_answer(index, size, answer);
            self.publish().await;
            self.show();
        }
    }

    fn note_answer(&mut self, index: usize, size: u64, answer: Result<NoteSignature, Trouble>) {
        let witness = &mut self.witnesses[index];
        let name = witness.status.name.clone();
        match answer {
            Ok(cosignature) => {
                let time = ask::time_of(&cosignature);
                if !witness.status.problem.is_empty() {
                    tracing::info!(witness = name, size, "the outside witness cosigns again");
                }
                let status = WitnessStatus { name: name.clone(), size, time, ..Default::default() };
                witness.status = status;
                (witness.failures, witness.said) = (0, None);
                witness.cosignature = Some(cosignature);
                self.metrics.witnesses.cosigned(&name, size, time);
                self.metrics.witnesses.contradicts(&name, false);
            }
            // Soon this node has as much; it is asked again with the next checkpoint.
            Err(trouble @ Trouble::Behind(_)) => {
                self.metrics.witnesses.problem(&name, trouble.kind());
            }
            Err(trouble) => {
                let pause = BACKOFF.saturating_mul(1 << witness.failures.min(10));
                witness.failures = witness.failures.saturating_add(1);
                witness.next = Instant::now() + pause.min(MAX_BACKOFF);
                self.metrics.witnesses.problem(&name, trouble.kind());
                witness.note_trouble(&trouble);
                self.metrics.witnesses.contradicts(&name, witness.status.contradicts);
            }
        }
    }

    /// Serves the target once enough witnesses have cosigned it. It is on disk before.
    async fn publish(&self) {
        let cosigned = self.witnesses.iter().filter_map(|witness| witness.cosignature.as_ref());
        let (Some(mut note), true) = (self.target.clone(), cosigned.clone().count() >= self.needed)
        else {
            return;
        };
        cosigned.for_each(|signature| note.put(signature.clone()));
        let (file, kept) = (self.file.clone(), note.clone());
        let written = tokio::task::spawn_blocking(move || kept::write(&file, &kept)).await;
        match written {
            Ok(Ok(())) => self.view.set_witnessed(note),
            Ok(Err(error)) => {
                let path = self.file.display();
                tracing::error!(%path, %error, "a witnessed checkpoint cannot be kept, and is not served");
            }
            Err(_) => {}
        }
    }

    fn show(&self) {
        let size = self.view.witnessed_size();
        self.view.set_witnesses(WitnessesStatus {
            needed: u16::try_from(self.needed).unwrap_or(u16::MAX),
            size,
            witnesses: self.witnesses.iter().map(|witness| witness.status.clone()).collect(),
        });
    }
}

impl Witness {
    fn new(config: &WitnessConfig, client: HttpClient, now: Instant) -> Self {
        let name = config.vkey.name().to_string();
        Witness {
            asked: Some(Asked::new(config.vkey.clone(), client)),
            status: WitnessStatus {
                name,
                problem: "it has not cosigned for this node since the start".into(),
                ..WitnessStatus::default()
            },
            failures: 0,
            next: now,
            said: None,
            cosignature: None,
        }
    }

    /// Shows a problem, and logs it if it is new or was not said for long.
    fn note_trouble(&mut self, trouble: &Trouble) {
        let (problem, contradicts) = (trouble.to_string(), trouble.contradicts());
        let turned = contradicts && !self.status.contradicts;
        // The sizes in it change all the time, and are no news.
        let words: String = problem.chars().filter(|c| !c.is_ascii_digit()).collect();
        let due =
            self.said.as_ref().is_none_or(|(at, said)| *said != words || at.elapsed() >= SAY_AGAIN);
        self.status.contradicts = contradicts || (self.status.contradicts && trouble.is_silence());
        if !self.status.contradicts || contradicts {
            self.status.problem.clone_from(&problem);
        }
        if !due && !turned {
            return;
        }
        self.said = Some((Instant::now(), words));
        let witness = &self.status.name;
        if contradicts {
            tracing::error!(
                witness,
                problem,
                "THIS LEDGER WAS ROLLED BACK OR FORKED: entries that were acknowledged are not in it. Stop its nodes, \
                 keep their disks and the witness's checkpoint as evidence, and find out who put older data in place"
            );
        } else {
            tracing::warn!(witness, problem, "an outside witness does not cosign");
        }
    }
}

/// The size of a checkpoint of our own making.
fn size_of(note: &SignedNote) -> record::TreeSize {
    Checkpoint::parse(note.text()).map_or(record::TreeSize(0), |checkpoint| checkpoint.size)
}
