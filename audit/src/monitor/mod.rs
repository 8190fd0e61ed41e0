//! `logseal monitor`: follows a ledger from outside and says when it is not what it must be.
//!
//! It uses nothing but the public tiles and a policy, and believes no node: each checkpoint must
//! satisfy the policy and extend all it has seen; every entry is read once, from whichever node,
//! and judged by [`record::follow`]; and it is believed only once the hashes lead to a checkpoint.
//! What it knows is on disk before it goes on, so that nobody is shown less after a crash of it.

mod alarm;
mod folder;
mod judge;
mod node;
mod proof;
mod pruned;
mod read;
mod teller;

pub use alarm::{Alarm, Word};
pub use folder::Folder;

use crate::{
    client::{ClientArgs, block_on},
    output::{Failure, Outcome, fail},
};
use clap::Args;
use judge::Shown;
use link::tls::{ClientSettings, ReloadingClient};
use node::Node;
use read::Verdict;
use record::{
    Origin,
    follow::{History, MAX_NODES},
    policy::Policy,
};
use service::{
    http::{HttpClient, SYSTEM_CA, Url},
    signals::{self, Shutdown},
};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};
use teller::Teller;

/// The pause before a pass of `--once` is repeated.
const AGAIN: Duration = Duration::from_secs(1);

/// Follow a ledger from outside: verify every checkpoint, entry, seal and enrolment, and raise an
/// alarm when history is rewritten, rolled back or incomplete.
///
/// Needs a certificate with the role auditor, operator or privacy-officer, and the nodes' HTTPS
/// addresses. Exit codes: 0 nothing was found, 1 an alarm was raised, 2 usage or input/output, or
/// with --once if no node could be asked.
#[derive(Args, Debug)]
pub struct MonitorArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The folder in which it remembers what it saw, and keeps evidence; it is made if need be
    #[arg(long, value_name = "DIR", default_value = "/var/lib/logseal-monitor")]
    state: PathBuf,
    /// Seconds between two looks at all nodes
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// Alarm when the newest cosignatures that satisfy the policy are older
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
        value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    max_age: u64,
    /// How long a node may be out of reach, or all nodes behind what was seen, before that is told
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(0..=86_400))]
    patience: u64,
    /// Look once, read what is new, and end
    #[arg(long)]
    once: bool,
    /// Go on after an alarm
    #[arg(long)]
    keep_going: bool,
    /// Post each alarm there as JSON: https, or http on this machine
    #[arg(long, value_name = "URL")]
    webhook: Option<Url>,
    /// The authorities of which the webhook's certificate must be
    #[arg(long, value_name = "FILE", default_value = SYSTEM_CA)]
    webhook_ca: PathBuf,
}

/// What a monitor was told to do.
#[derive(Debug)]
struct Settings {
    policy: Policy,
    interval: Duration,
    max_age: u64,
    patience: Duration,
    once: bool,
    keep_going: bool,
}

struct Monitor {
    settings: Settings,
    tls: ReloadingClient,
    folder: Folder,
    history: History,
    nodes: Vec<Node>,
    teller: Teller,
    /// What was told and still is so, by word and node.
    standing: BTreeSet<(Word, String)>,
    alarms: u64,
    /// Since when all nodes that answer have shown less than was seen.
    behind: Option<Instant>,
}

/// Carries the command out; `json` asks for one JSON object a line.
pub fn run(args: MonitorArgs, json: bool) -> Result<Outcome, Failure> {
    let client = args.client.resolve_https()?;
    let (_, policy) = client.policy()?;
    let origin = only_origin(&policy)?;
    let webhook = args.webhook.map(|url| HttpClient::new(url, &args.webhook_ca));
    let webhook = webhook.transpose().map_err(fail)?;
    let settings = ClientSettings::new(client.tls.files(), &[]).alpn(&["http/1.1"]);
    let tls = ReloadingClient::open(settings).map_err(fail)?;
    if client.nodes.len() > MAX_NODES {
        return Err(Failure(format!("a monitor follows at most {MAX_NODES} nodes")));
    }
    let (folder, mut history) = Folder::open(&args.state, &origin)?;
    history.seen.retain(|seen| client.nodes.contains(&seen.node));
    let monitor = Monitor {
        settings: Settings {
            policy,
            interval: Duration::from_secs(args.interval),
            max_age: args.max_age,
            patience: Duration::from_secs(args.patience),
            once: args.once,
            keep_going: args.keep_going,
        },
        tls,
        folder,
        history,
        nodes: client.nodes.into_iter().map(Node::new).collect(),
        teller: Teller::new(json, origin.to_string(), webhook),
        standing: BTreeSet::new(),
        alarms: 0,
        behind: None,
    };
    block_on(monitor.run())
}

/// The one ledger that the policy is for.
fn only_origin(policy: &Policy) -> Result<Origin, Failure> {
    let names: BTreeSet<&str> = policy.logs().iter().map(|key| key.name().as_str()).collect();
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(name), None) => name.parse().map_err(fail),
        (None, _) => Err(Failure("the policy names no log: nothing says what to follow".into())),
        (Some(_), Some(_)) => {
            Err(Failure("the policy names several logs: give one policy to each monitor".into()))
        }
    }
}

impl Monitor {
    async fn run(mut self) -> Result<Outcome, Failure> {
        let (mut shutdown, _reload) = signals::listen().map_err(fail)?;
        self.teller.started(&self.history, self.nodes.len());
        signals::ready();
        let mut stop = shutdown.clone();
        let asked = tokio::select! {
            () = stop.wait() => true,
            ended = self.follow(&mut shutdown) => ended?,
        };
        let code = match (self.alarms, asked) {
            (0, true) => service::exit::OK,
            (0, false) => service::exit::USAGE,
            _ => service::exit::BROKEN,
        };
        Ok(self.teller.ended(&self.history, self.alarms, asked, code))
    }

    /// Looks at the nodes until there is a reason to end; false if none could be asked.
    async fn follow(&mut self, shutdown: &mut Shutdown) -> Result<bool, Failure> {
        let begun = Instant::now();
        loop {
            let asked = self.pass().await?;
            let alarmed = self.alarms > 0 && !self.settings.keep_going;
            // Who is behind may catch up: that is no rollback yet.
            let waits = self.behind.is_some() && begun.elapsed() < self.settings.patience;
            // And what was not declared yet may be within as long again.
            let awaits = self.awaits_declaration();
            let waits = waits || awaits && begun.elapsed() < 2 * self.settings.patience;
            if alarmed || (self.settings.once && !waits) {
                return Ok(asked && !awaits);
            }
            let pause = if self.settings.once { AGAIN } else { self.settings.interval };
            tokio::select! {
                () = shutdown.wait() => return Ok(true),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look at all nodes: what they show is judged, the furthest first. True if one answered.
    async fn pass(&mut self) -> Result<bool, Failure> {
        if let Err(error) = self.tls.reload_if_changed() {
            self.teller.note(&format!("kept the certificates that were in use: {error}"));
        }
        let mut shown: Vec<Shown> = Vec::new();
        let (mut answered, answers) = (false, self.ask_all().await);
        for (index, answer) in answers {
            match answer {
                Ok(bytes) => {
                    answered = true;
                    self.back(index).await?;
                    shown.extend(self.check_note(index, &bytes).await?);
                }
                Err(error) => self.not_shown(index, &error).await?,
            }
        }
        shown.sort_by_key(|shown| std::cmp::Reverse(shown.size));
        // The furthest node that was found right in this pass.
        let (mut guide, mut pruned) = (None, Vec::new());
        for shown in &shown {
            match self.judge(shown, guide, false).await? {
                Verdict::Right => guide = guide.or(Some((shown.node, shown.size))),
                Verdict::Wrong => {}
                Verdict::Pruned => pruned.push(shown),
            }
        }
        // What one of them gave up another may have served.
        for shown in pruned {
            match self.judge(shown, guide, true).await? {
                Verdict::Right => guide = guide.or(Some((shown.node, shown.size))),
                Verdict::Wrong => {}
                Verdict::Pruned => self.is_pruning(shown.node).await?,
            }
        }
        self.check_age(&shown).await?;
        self.check_behind(&shown).await?;
        self.folder.save(&self.history)?;
        Ok(answered)
    }
}
