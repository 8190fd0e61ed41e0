//! Wakes the tail as soon as a file changes, where the system can tell.
//!
//! This only saves waiting: everything is found by the periodic pass as well,
//! so an event that is lost, or a system without any, costs time and no line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::ModifyKind,
};
use tokio::sync::Notify;
use tracing::warn;

use super::{config::Watch, plan::Node};

/// How long events are left to gather after the first: telling of each write
/// would cost more than to read what was written.
const REST: Duration = Duration::from_millis(5);

/// How long events are fetched until the next rest: enough for hundreds, so
/// that events of many files do not pile up.
const AWAKE: Duration = Duration::from_millis(1);

/// What the watching thread tells the tail.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Something has changed.
    pub(super) wake: Notify,
    /// A file has appeared, gone or got another name.
    pub(super) pass: AtomicBool,
    /// The files whose content matters.
    names: Mutex<BTreeSet<PathBuf>>,
}

/// Watches directories.
pub(super) struct Watcher {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Node>,
    /// Directories that were complained about.
    failed: BTreeSet<PathBuf>,
    signals: Arc<Signals>,
}

impl Watcher {
    pub(super) fn new(watch: Watch, signals: Arc<Signals>) -> Self {
        let watcher = match watch {
            Watch::System => Self::of_the_system(&signals),
            Watch::Poll => None,
        };
        Watcher { watcher, watched: BTreeMap::new(), failed: BTreeSet::new(), signals }
    }

    fn of_the_system(signals: &Arc<Signals>) -> Option<RecommendedWatcher> {
        let (told, mut rested) = (Arc::clone(signals), None::<Instant>);
        let watcher = notify::recommended_watcher(move |event| {
            told.handle(&event);
            // While nobody fetches them, the system makes one event of all writes to a file.
            if rested.is_none_or(|rested| rested.elapsed() >= AWAKE) {
                thread::sleep(REST);
                rested = Some(Instant::now());
            }
        });
        let watcher = watcher.inspect_err(|error| {
            warn!(
                %error,
                "the system reports no file changes (fs.inotify.max_user_instances may be too \
                 low): files are looked at periodically instead"
            );
        });
        watcher.ok()
    }

    /// Watches exactly these directories from now on, for changes of the files with these names.
    pub(super) fn follow(&mut self, directories: BTreeSet<PathBuf>, names: BTreeSet<PathBuf>) {
        *self.signals.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let Some(watcher) = &mut self.watcher else { return };
        self.watched.retain(|directory, _| {
            let wanted = directories.contains(directory);
            if !wanted {
                // It may be gone; then so is the watch.
                let _ = watcher.unwatch(directory);
            }
            wanted
        });
        for directory in directories {
            let Ok(metadata) = fs::metadata(&directory) else {
                self.watched.remove(&directory);
                continue;
            };
            let node = Node::of_metadata(&metadata);
            match self.watched.get(&directory) {
                Some(watched) if *watched == node => continue,
                // A watch stays with a directory that was renamed or deleted.
                Some(_) => drop(watcher.unwatch(&directory)),
                None => {}
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.failed.remove(&directory);
                    self.watched.insert(directory, node);
                    // What happened before the watch was in place is not reported.
                    self.signals.pass.store(true, Relaxed);
                    self.signals.wake.notify_one();
                }
                Err(error) => {
                    self.watched.remove(&directory);
                    if self.failed.insert(directory.clone()) {
                        warn!(
                            directory = %directory.display(), %error,
                            "changes in the directory are not reported: it is looked at \
                             periodically instead"
                        );
                    }
                }
            }
        }
    }
}

impl Signals {
    fn handle(&self, event: &notify::Result<Event>) {
        let pass = match event {
            Ok(event) => match event.kind {
                EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return,
                EventKind::Modify(ModifyKind::Data(_)) => {
                    let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                    if !event.paths.iter().any(|path| names.contains(path)) {
                        return;
                    }
                    false
                }
                _ => true,
            },
            Err(_) => true,
        };
        if pass {
            self.pass.store(true, Relaxed);
        }
        self.wake.notify_one();
    }
}
