//! Reads the systemd journal by following it with `journalctl`.
//!
//! What it guarantees: every entry that is asked for and that the journal still has is handed over
//! once, in the journal's order, as the JSON that `journalctl` writes of it, byte for byte; after
//! whatever end, of this program or of `journalctl`, it goes on behind the last entry that is
//! durable. If that entry is not in the journal any more, so that others may have gone with it, the
//! log says so. A slow pipeline lets `journalctl` wait, and the journal keeps. What journald itself
//! drops before it writes (`RateLimitBurst=`) is not there to be read.
//!
//! An entry that is longer than a line can be is cut into pieces; should the agent be killed
//! between them, the first ones come twice.

mod command;
mod entries;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pipeline::line::{Chunk, ChunkOrigin, SourceEvent};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, ChildStdout},
    select,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{error, info, warn};

use self::entries::{Entries, Taken};
use super::{
    CHUNK_BYTES, Known, Outlet, now,
    stats::{add, set},
    stopped,
};

/// What the records say of how their lines came.
const TRANSPORT: &str = "journald";

/// The bookmark: the cursor of the newest entry that was taken over.
const CURSOR: &[u8] = b"cursor";

/// How much is read at a time, in bytes.
const READ: usize = 64 << 10;

/// How long to wait before `journalctl` is started again: twice as long each time.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

/// When it has run for so long it is well.
const WELL: Duration = Duration::from_secs(10);

/// For how long its last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of what it complains is kept to be told, in bytes.
const COMPLAINT: usize = 1000;

/// Which entries to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournaldConfig {
    /// The program.
    pub journalctl: PathBuf,
    /// Of these units; of all if there is none.
    pub units: Vec<String>,
    /// With these syslog identifiers; with any if there is none.
    pub identifiers: Vec<String>,
    /// `FIELD=value`; all fields must have one of their values.
    pub matches: Vec<String>,
    /// The priorities, as `journalctl --priority` takes them.
    pub priority: Option<String>,
    /// The journal's directory, if it is not the machine's own.
    pub directory: Option<PathBuf>,
    /// The journal's namespace.
    pub namespace: Option<String>,
    /// Where to begin if nothing was read yet.
    pub start: Start,
}

/// Where a journal is read from that was not read before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// From its beginning.
    #[default]
    Beginning,
    /// From what comes next.
    End,
    /// From the last start of the machine.
    Boot,
}

/// Reads until it is to stop. Answers with where it is then.
pub async fn serve(config: JournaldConfig, known: Known, outlet: Outlet) -> Known {
    let cursor = known.bookmarks.into_iter().find(|(key, _)| **key == *CURSOR);
    let cursor = cursor.map(|(_, value)| value).filter(|value| !value.is_empty());
    let mut shutdown = outlet.shutdown.clone();
    let mut reader = Reader { config, outlet, cursor, trouble: None, pause: PAUSES[0] };
    select! {
        biased;
        () = stopped(&mut shutdown) => {}
        () = reader.run() => {}
    }
    let bookmarks = reader.cursor.into_iter().map(|cursor| (CURSOR.into(), cursor)).collect();
    Known { bookmarks, ..Known::default() }
}

struct Reader {
    config: JournaldConfig,
    outlet: Outlet,
    /// Of the newest entry that was handed over.
    cursor: Option<Vec<u8>>,
    /// Why nothing can be read, if so.
    trouble: Option<String>,
    pause: Duration,
}

/// Why `journalctl` does not go on.
enum End {
    /// Nobody takes entries any more.
    Gone,
    /// What it said.
    Failed(String),
}

impl Reader {
    /// Reads until nobody takes entries any more.
    async fn run(&mut self) {
        loop {
            let problem = match self.begin_and_follow().await {
                Ok(never) => match never {},
                Err(End::Gone) => return,
                Err(End::Failed(problem)) => problem,
            };
            self.failed(problem);
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }

    async fn begin_and_follow(&mut self) -> Result<std::convert::Infallible, End> {
        if self.cursor.is_none() && self.config.start == Start::End {
            self.skip_to_end().await?;
        }
        self.follow().await
    }

    /// Remembers where the journal ends, so that a restart does not begin at a later end.
    async fn skip_to_end(&mut self) -> Result<(), End> {
        let shown = command::newest(&self.config).output().await;
        let shown = shown.map_err(|error| End::Failed(self.not_started(&error)))?;
        if !shown.status.success() {
            let said = String::from_utf8_lossy(&shown.stderr);
            return Err(End::Failed(format!("journalctl failed: {}", said.trim())));
        }
        let Some(newest) = entries::cursor(&shown.stdout) else { return Ok(()) };
        let (source, key, value) = (self.outlet.id, CURSOR.into(), newest.to_vec());
        let mark = SourceEvent::Mark { source, key, value };
        self.outlet.events.send(mark).await.map_err(|_| End::Gone)?;
        self.cursor = Some(newest.to_vec());
        Ok(())
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, End> {
        let cursor = self.cursor.as_deref().map(String::from_utf8_lossy);
        let child = command::follow(&self.config, cursor.as_deref()).spawn();
        let mut child = child.map_err(|error| End::Failed(self.not_started(&error)))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(End::Failed("journalctl has no output".into()));
        };
        let complaint = Arc::new(Mutex::new(String::new()));
        let (said, source) = (Arc::clone(&complaint), self.outlet.id.0);
        let mut listening = std::pin::pin!(listen(stderr, said, source));
        let mut reading = std::pin::pin!(self.read_all(stdout));
        let heard = select! {
            biased;
            () = &mut listening => {
                reading.await?;
                true
            }
            read = &mut reading => {
                read?;
                false
            }
        };
        if !heard {
            // Its last words may explain its end.
            let _ = timeout(LAST_WORDS, listening).await;
        }
        Err(End::Failed(ending(&mut child, &complaint).await))
    }

    /// Reads up to the end of the output.
    async fn read_all(&mut self, mut stdout: ChildStdout) -> Result<(), End> {
        let mut entries = Entries::from(self.cursor.as_deref());
        let well = Instant::now() + WELL;
        loop {
            entries.buffer().reserve(READ);
            let read = select! {
                biased;
                read = stdout.read_buf(entries.buffer()) => read,
                () = sleep_until(well), if self.trouble.is_some() => {
                    self.recovered();
                    continue;
                }
            };
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    return Err(End::Failed(format!("cannot read from journalctl: {error}")));
                }
            }
            let taken = entries.take();
            if taken.gap {
                self.say_gap();
            }
            if !taken.lines.is_empty() {
                self.hand_over(taken).await?;
                self.cursor = entries.cursor().map(<[u8]>::to_vec);
                self.recovered();
            }
            if entries.buffer().is_empty() {
                entries.buffer().shrink_to(CHUNK_BYTES);
            }
        }
    }

    async fn hand_over(&self, taken: Taken) -> Result<(), End> {
        let counts = (taken.lines.len(), taken.bytes.len());
        let chunk = Chunk {
            source: self.outlet.id,
            bytes: taken.bytes,
            lines: taken.lines,
            origin: ChunkOrigin::Sender { peer: None, transport: Some(TRANSPORT) },
            received: now(),
            bookmark: Some(taken.bookmark),
            ticket: None,
        };
        self.outlet.events.send(SourceEvent::Chunk(chunk)).await.map_err(|_| End::Gone)?;
        add(&self.outlet.stats.cut_lines, taken.cuts);
        self.outlet.stats.handed_over(counts.0, counts.1);
        Ok(())
    }

    fn say_gap(&self) {
        let cursor = self.cursor.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        add(&self.outlet.stats.gaps, 1);
        warn!(
            source = self.outlet.id.0,
            %cursor, "the entry at which this source stopped is not in the journal any more, or not among \
             those that are asked for now: entries behind it may be missing; let the journal keep more \
             (SystemMaxUse=, MaxRetentionSec=)"
        );
    }

    fn not_started(&self, error: &std::io::Error) -> String {
        format!("cannot start {}: {error}", self.config.journalctl.display())
    }

    /// Says a problem once, however often it comes.
    fn failed(&mut self, problem: String) {
        add(&self.outlet.stats.read_errors, 1);
        set(&self.outlet.stats.unreadable_paths, 1);
        if self.trouble.as_ref() != Some(&problem) {
            let source = self.outlet.id.0;
            error!(source, problem, "the journal cannot be read: it is tried again");
            self.trouble = Some(problem);
        }
    }

    fn recovered(&mut self) {
        self.pause = PAUSES[0];
        if self.trouble.take().is_some() {
            set(&self.outlet.stats.unreadable_paths, 0);
            info!(source = self.outlet.id.0, "the journal can be read again");
        }
    }
}

/// Logs what `journalctl` complains about, and keeps the end of it.
async fn listen(stderr: impl AsyncRead + Unpin, said: Arc<Mutex<String>>, source: u16) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        warn!(source, line, "journalctl says");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        *said = line.chars().take(COMPLAINT).collect();
    }
}

async fn ending(child: &mut Child, complaint: &Mutex<String>) -> String {
    let status = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let said = complaint.lock().unwrap_or_else(PoisonError::into_inner);
    format!("journalctl ended ({status}) {said}")
}

#[cfg(test)]
mod tests;
