//! `logseal backup`, `restore` and `drill`: copies of a node's store that can be relied on, because each
//! is followed to a signed root when it is made, and executed from its first block on when it is used. Of blocks
//! that were given up it has what the node keeps of them.

mod chain;
mod drill;
mod pruned;
mod repo;
mod restore;
mod sealing;
mod snapshot;
mod take;

pub use drill::{DrillArgs, run as run_drill};
pub use repo::object_path;
pub use snapshot::Snapshot;

use crate::output::{Failure, Outcome, fail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::config::Config;
use repo::Repo;
use serde_json::json;
use snapshot::segment_name;
use std::path::{Path, PathBuf};

/// Copy a node's store into a repository, while the node runs or not.
///
/// Sealed segments are copied once. Every block that is copied is followed, and the last must have the
/// root of the checkpoint that lies in the store. Keys and votes are never copied.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BackupArgs {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    #[command(flatten)]
    take: TakeArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum BackupCommand {
    /// List the snapshots of a repository
    List {
        /// The repository
        #[arg(value_name = "REPO")]
        repo: PathBuf,
    },
    /// Remove all snapshots but the newest, and what only they name
    Prune {
        /// The repository
        #[arg(value_name = "REPO")]
        repo: PathBuf,
        /// How many snapshots stay
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        keep: u32,
    },
    /// Read every object of every snapshot, and compare it with its name
    Check {
        /// The repository
        #[arg(value_name = "REPO")]
        repo: PathBuf,
    },
}

#[derive(Args, Clone, Debug)]
struct TakeArgs {
    /// The node's store
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The repository; it is made if the folder is empty or missing
    #[arg(long, value_name = "REPO")]
    to: Option<PathBuf>,
    /// The node's ledger.toml: names the store, and is copied with its members file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ledger's policy: the checkpoint must satisfy it, and it is copied
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Encrypt to this recipient of age: 'age1…', or a file of them. Said once, when the repository is made
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// Read and follow everything again, also what earlier snapshots have
    #[arg(long)]
    full: bool,
    /// Copy damaged segments as they are, and record the damage
    #[arg(long)]
    allow_damaged: bool,
    /// The enterprise number of the ledger's own entries, where it is not the default and no --config says it
    #[arg(long, default_value_t = 32_473)]
    enterprise: u32,
}

/// Make a store out of a snapshot, and prove that it is what was signed for.
///
/// A node can start from it. One of several does not vote until that is safe. A ledger of one node goes
/// back to the snapshot: read 'Backup, restore and drills' in docs/operate.md first.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The repository
    #[arg(long, value_name = "REPO")]
    from: PathBuf,
    /// The snapshot, as 'logseal backup list' names it [default: the newest]
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// The store to make; it must be missing or empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The ledger's policy, as you were given it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The age identities that an encrypted repository is opened with
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Also restore what was damaged when it was copied; nothing is proven then
    #[arg(long)]
    allow_damaged: bool,
}

/// Carries out `logseal backup`.
pub fn run_backup(args: BackupArgs) -> Result<Outcome, Failure> {
    match args.command {
        None => take(args.take),
        Some(BackupCommand::List { repo }) => list(&Repo::open(&repo)?),
        Some(BackupCommand::Prune { repo, keep }) => prune(&Repo::open_locked(&repo)?, keep),
        Some(BackupCommand::Check { repo }) => check(&Repo::open(&repo)?),
    }
}

fn take(args: TakeArgs) -> Result<Outcome, Failure> {
    let to = args.to.clone().ok_or_else(|| Failure("name the repository with --to".into()))?;
    let recipients = sealing::recipients(&args.recipients)?;
    let plan = plan(args)?;
    let (_, checkpoint) = take::checkpoint(&plan.store, plan.policy.as_deref())?;
    let repo = Repo::open_to_write(&to, checkpoint.origin.as_str(), &recipients)?;
    let taken = take::run(&plan, &repo)?;
    let snapshot = &taken.snapshot;
    let mut text = format!(
        "snapshot {}: {} blocks, {} entries of {}\nadded    {} objects, {} bytes{}\n",
        snapshot.id,
        snapshot.height,
        snapshot.size,
        snapshot.ledger,
        taken.new_objects,
        taken.new_bytes,
        if repo.is_encrypted() { ", encrypted" } else { "" },
    );
    text += &given_up(snapshot);
    for segment in &snapshot.segments {
        if let Some(damage) = &segment.damage {
            text += &format!("DAMAGED  {}: {damage}\n", segment_name(segment.first));
        }
    }
    if !snapshot.policy_checked {
        text +=
            "policy   none given: signatures of the checkpoint were not checked, use --policy\n";
    }
    let json = json!({
        "snapshot": snapshot.id,
        "height": snapshot.height,
        "size": snapshot.size,
        "root": snapshot.root,
        "dropped": snapshot.dropped(),
        "minimum_index": snapshot.minimum_index(),
        "segments": snapshot.segments.len(),
        "new_objects": taken.new_objects,
        "new_bytes": taken.new_bytes,
        "proven": snapshot.proven,
        "policy": snapshot.policy_checked,
    });
    Ok(Outcome { text, json, code: service::exit::OK })
}

fn plan(args: TakeArgs) -> Result<take::Plan, Failure> {
    let mut files = Vec::new();
    let (mut store, mut enterprise) = (args.store, args.enterprise);
    if let Some(path) = args.config {
        let config = Config::load(&path).map_err(fail)?;
        store = store.or(Some(config.store.clone()));
        enterprise = config.params.enterprise.0;
        let members = config.members_file().map(Path::to_owned);
        files.push(("ledger.toml".to_owned(), path));
        files.extend(members.map(|members| ("members.toml".to_owned(), members)));
    }
    files.extend(args.policy.clone().map(|policy| ("policy".to_owned(), policy)));
    Ok(take::Plan {
        store: store.ok_or_else(|| Failure("name the store with --store or --config".into()))?,
        policy: args.policy,
        enterprise,
        files,
        full: args.full,
        allow_damaged: args.allow_damaged,
    })
}

fn list(repo: &Repo) -> Result<Outcome, Failure> {
    let (mut text, mut rows) = (String::new(), Vec::new());
    for id in repo.ids()? {
        let snapshot = repo.snapshot(Some(&id))?;
        let sizes = snapshot.objects().map(|(_, object)| object.stored);
        let bytes = sizes.fold(0, u64::saturating_add);
        let state = if snapshot.proven { "" } else { ", of a damaged store" };
        let dropped = match snapshot.dropped() {
            0 => String::new(),
            dropped => format!(" ({dropped} of them given up)"),
        };
        text += &format!(
            "{id}  {}  {} blocks, {} entries{dropped}, {bytes} bytes{state}\n",
            snapshot.made, snapshot.height, snapshot.size
        );
        rows.push(json!({
            "snapshot": id,
            "made": snapshot.made,
            "ledger": snapshot.ledger,
            "height": snapshot.height,
            "size": snapshot.size,
            "root": snapshot.root,
            "dropped": snapshot.dropped(),
            "minimum_index": snapshot.minimum_index(),
            "bytes": bytes,
            "proven": snapshot.proven,
        }));
    }
    Ok(Outcome { text, json: json!({ "snapshots": rows }), code: service::exit::OK })
}

fn prune(repo: &Repo, keep: u32) -> Result<Outcome, Failure> {
    let (snapshots, objects) = repo.prune(keep as usize)?;
    let text = format!("removed {snapshots} snapshots and {objects} objects\n");
    let json = json!({ "snapshots": snapshots, "objects": objects });
    Ok(Outcome { text, json, code: service::exit::OK })
}

/// Reads every object once, whatever number of snapshots names it.
fn check(repo: &Repo) -> Result<Outcome, Failure> {
    let (mut problems, mut objects) = (Vec::new(), std::collections::BTreeMap::new());
    let ids = repo.ids()?;
    for id in &ids {
        match repo.snapshot(Some(id)) {
            Err(failure) => problems.push(failure.0),
            Ok(snapshot) => {
                for (file, object) in snapshot.objects() {
                    objects.insert(object.name.clone(), (id.clone(), file, object.clone()));
                }
            }
        }
    }
    let progress = ProgressBar::new(objects.len() as u64).with_style(style("objects"));
    let mut bytes = 0;
    for (id, file, object) in objects.values() {
        bytes += object.stored;
        if let Err(failure) = repo.stored(object) {
            problems.push(format!("{failure} ({file} of snapshot {id})"));
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let verdict = if problems.is_empty() { "HOLDS  " } else { "BROKEN " };
    let mut text =
        format!("{verdict} {} snapshots, {} objects, {bytes} bytes\n", ids.len(), objects.len());
    problems.iter().for_each(|problem| text += &format!("{problem}\n"));
    let json = json!({
        "verified": problems.is_empty(),
        "snapshots": ids.len(),
        "objects": objects.len(),
        "bytes": bytes,
        "problems": problems,
    });
    let code = if problems.is_empty() { service::exit::OK } else { service::exit::BROKEN };
    Ok(Outcome { text, json, code })
}

/// Carries out `logseal restore`.
pub fn run_restore(args: RestoreArgs) -> Result<Outcome, Failure> {
    let repo = Repo::open(&args.from)?;
    let snapshot = repo.snapshot(args.snapshot.as_deref())?;
    let identities = identities(&repo, args.identity.as_deref())?;
    let plan = restore::Plan {
        repo: &repo,
        snapshot: &snapshot,
        policy: args.policy.as_deref(),
        identities: &identities,
        allow_damaged: args.allow_damaged,
    };
    let restored = restore::run(&plan, &args.to)?;
    Ok(restored_outcome(&args, &snapshot, &restored))
}

fn restored_outcome(
    args: &RestoreArgs,
    snapshot: &Snapshot,
    restored: &restore::Restored,
) -> Outcome {
    let mut text = format!(
        "{}: {} blocks, {} entries of {}, as of {}\n",
        args.to.display(),
        restored.blocks,
        snapshot.size,
        snapshot.ledger,
        snapshot.made
    );
    text += &given_up(snapshot);
    text += match (restored.proven, args.policy.is_some()) {
        (false, _) => "proven   NOT: it was damaged when it was copied\n",
        (true, true) => {
            "proven   every block in it was executed; the root is that of the checkpoint\n"
        }
        (true, false) => {
            "proven   every block in it was executed; the root is that of the checkpoint, whose \
                          signatures were not checked: use --policy\n"
        }
    };
    text += match restored.clustered {
        true => "next     start the node: it fetches what it lacks, and votes when that is safe\n",
        false => {
            "next     a ledger of one node goes back to this snapshot. If anything was receipted behind \
                  it, do not start it: read 'Backup, restore and drills' in docs/operate.md\n"
        }
    };
    let json = json!({
        "directory": args.to.display().to_string(),
        "snapshot": snapshot.id,
        "blocks": restored.blocks,
        "records": restored.records,
        "size": snapshot.size,
        "root": snapshot.root,
        "dropped": snapshot.dropped(),
        "minimum_index": snapshot.minimum_index(),
        "proven": restored.proven,
        "policy": args.policy.is_some(),
        "rejoins": restored.clustered,
    });
    Outcome { text, json, code: service::exit::OK }
}

/// Says what of a ledger was given up, if anything was.
fn given_up(snapshot: &Snapshot) -> String {
    let Some(base) = &snapshot.base else { return String::new() };
    format!(
        "given up {} entries, up to block {}, as an operator declared: only their hashes are in it, full bundles from \
         entry {} on\n",
        base.dropped,
        base.height,
        snapshot.minimum_index()
    )
}

/// The identities for a repository, if it needs some.
fn identities(repo: &Repo, file: Option<&Path>) -> Result<Vec<age::x25519::Identity>, Failure> {
    match file {
        Some(path) => sealing::identities(path),
        None if repo.is_encrypted() => {
            Err(Failure("the repository is encrypted: use --identity".into()))
        }
        None => Ok(Vec::new()),
    }
}

fn style(what: &str) -> ProgressStyle {
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
