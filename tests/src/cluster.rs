//! A ledger of several nodes, an agent that is given all of them, and what one of them may be
//! asked at the end: is everything there, once, and the same everywhere?

use crate::{LIMIT, Record, auditor, kong_source, read_record, wait_for};
use logseal::{
    client::{ClientArgs, block_on, read_policy},
    demo::Meter,
    site::{AgentOptions, Home, LedgerOptions, Process, Site, corpus::Corpus},
    status::{Overview, Row, ask_all},
    tiles::Tiles,
};
use record::{
    Checkpoint,
    entry::{Entry, Kind},
    policy::VerifiedCheckpoint,
};
use service::members::FaultModel;
use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The nodes of most ledgers: one may lie.
pub const NODES: usize = 4;

/// A running ledger of four nodes with agent gw01 and its growing log.
pub struct Cluster {
    /// The site.
    pub site: Site,
    /// The nodes.
    pub nodes: Vec<Process>,
    /// The agent.
    pub agent: Process,
    /// What was written to the agent's log.
    pub log: Log,
    _dir: TempDir,
    _turn: Turn,
}

/// The agent's log: lines that are all different, in the order they were written.
pub struct Log {
    /// The lines so far.
    pub lines: Vec<Vec<u8>>,
    file: File,
    corpus: Corpus,
}

/// Lines that are written all the time, by a thread that watches their receipts.
pub struct Load {
    going: Arc<AtomicBool>,
    thread: JoinHandle<(Log, Duration)>,
}

/// A test's turn among those that need the machine for themselves. Others wait, in this process
/// or another.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

/// Waits for this test's turn.
pub fn turn() -> Turn {
    let path = std::env::current_exe().unwrap().with_file_name("logseal-tests-turn.lock");
    let file = File::options().create(true).append(true).open(&path).unwrap();
    file.lock().unwrap();
    Turn(file)
}

impl Cluster {
    /// Starts four nodes on loopback and an agent.
    pub fn start(ledger: &LedgerOptions) -> Self {
        let honest = |site: &Site, index| site.spawn_node(index, &[]).unwrap();
        Self::start_at(turn(), vec![Home::default(); NODES], ledger, honest)
    }

    /// Starts a node at each of these homes, as `node` does it, and an agent.
    pub fn start_at(
        turn: Turn,
        homes: Vec<Home>,
        ledger: &LedgerOptions,
        node: impl Fn(&Site, usize) -> Process,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::make_at(dir.path(), homes, FaultModel::Byzantine).unwrap();
        site.configure_nodes(ledger).unwrap();
        site.configure_agent(&AgentOptions::new("gw01", kong_source(&site))).unwrap();
        let mut nodes: Vec<Process> = (0..site.node_count()).map(|i| node(&site, i)).collect();
        nodes.iter_mut().for_each(|node| node.wait_ready(LIMIT).unwrap());
        site.enrol("gw01").unwrap();
        let log = Log::new(site.path("kong.log"));
        let agent = site.start_agent("gw01").unwrap();
        Cluster { site, nodes, agent, log, _dir: dir, _turn: turn }
    }

    /// The agent's metrics.
    pub fn meter(&self) -> Meter {
        Meter::new(self.site.agent_metrics_port)
    }

    /// Records with receipts since the agent started.
    pub fn receipted(&self) -> u64 {
        self.meter().read().unwrap().receipted
    }

    /// Waits until so many records have receipts since the agent started.
    pub fn wait_receipted(&self, records: u64) {
        self.meter()
            .wait_receipted(records, LIMIT)
            .unwrap_or_else(|failure| panic!("{failure}\n{}", self.describe()));
    }

    /// Kills a node.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].kill().unwrap();
    }

    /// Starts a node without waiting for it.
    pub fn restart(&mut self, index: usize) {
        self.nodes[index] = self.site.spawn_node(index, &[]).unwrap();
    }

    /// Begins to write lines, some thousand a second.
    pub fn load(&mut self) -> Load {
        let nothing = Log::new("/dev/null".into());
        let (mut log, meter) = (std::mem::replace(&mut self.log, nothing), self.meter());
        let going = Arc::new(AtomicBool::new(true));
        let goes = Arc::clone(&going);
        let thread = std::thread::spawn(move || {
            let (mut last, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
            while goes.load(Ordering::Relaxed) {
                log.write(100);
                let receipted = meter.read().unwrap().receipted;
                longest = longest.max(since.elapsed());
                if receipted > last {
                    (last, since) = (receipted, Instant::now());
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
            (log, longest)
        });
        Load { going, thread }
    }

    /// How the nodes are, as an auditor sees it.
    pub fn overview(&self) -> Overview {
        let client = ClientArgs::from_file(&self.site.path("auditor.toml")).resolve().unwrap();
        Overview::new(&ask_all(&client).unwrap(), service::clock::now().0, 3600)
    }

    /// Waits until a node votes, at the height that all who answer had when it was asked first.
    pub fn wait_back(&mut self, index: usize) {
        let name = self.site.node_name(index);
        let target = answering(&self.overview()).filter_map(|row| row.height).max().unwrap_or(0);
        wait_for("a node that is back", || {
            assert!(self.nodes[index].is_running(), "{name}: {}", self.nodes[index].log_tail());
            let rows = self.overview().rows;
            let back = |row: &&Row| row.voting && row.height.is_some_and(|height| height >= target);
            rows.iter().find(|row| row.name == name.as_str()).filter(back).map(drop)
        });
    }

    /// The newest checkpoint that a node serves, if it serves one. It satisfies the policy.
    pub fn verified(&self, index: usize) -> Option<VerifiedCheckpoint> {
        let (_, policy) = read_policy(&self.site.path("policy")).unwrap();
        let address = self.site.https_address(index).to_string();
        let note = block_on(async {
            Tiles::connect(&address, auditor(&self.site)).await?.checkpoint().await
        });
        let verified = policy.verify(&note.ok()?);
        Some(verified.unwrap_or_else(|error| panic!("{address} serves a lie: {error}")))
    }

    /// The body of that.
    pub fn checkpoint(&self, index: usize) -> Option<Checkpoint> {
        self.verified(index).map(|verified| verified.checkpoint().clone())
    }

    /// Waits until these nodes serve one checkpoint body, of at least `size` entries.
    pub fn wait_agreed(&self, indexes: &[usize], size: u64) -> Checkpoint {
        let begun = Instant::now();
        loop {
            let seen: Vec<_> = indexes.iter().map(|index| self.checkpoint(*index)).collect();
            let seen: Option<Vec<Checkpoint>> = seen.into_iter().collect();
            if let Some(all) = seen
                && all[0].size.0 >= size
                && all.iter().all(|other| *other == all[0])
            {
                return all[0].clone();
            }
            assert!(begun.elapsed() < LIMIT, "no one checkpoint\n{}", self.describe());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until every line that was written has its receipt, and these nodes serve one
    /// checkpoint over all of them.
    pub fn wait_settled(&self, indexes: &[usize]) -> Checkpoint {
        let begun = Instant::now();
        let size = loop {
            let now = self.overview();
            let records = now.agents.iter().map(|agent| agent.records).max();
            if records == Some(self.log.count()) && self.waiting() == 0 {
                break answering(&now).filter_map(|row| row.size).max().unwrap_or(0);
            }
            assert!(begun.elapsed() < LIMIT, "{records:?} records\n{}", self.describe());
            std::thread::park_timeout(Duration::from_millis(50));
        };
        self.wait_agreed(indexes, size)
    }

    /// The node that the agent hands its batches to.
    pub fn agents_node(&self) -> usize {
        let text = self.meter().text().unwrap();
        let line = |index: &usize| {
            let node = self.site.agents_address(*index);
            format!("logseal_agent_uplink_connected{{node=\"{node}\"}} 1")
        };
        (0..NODES).find(|index| text.contains(&line(index))).expect("it is connected")
    }

    /// Records that wait in the agent's spool.
    fn waiting(&self) -> u64 {
        let text = self.meter().text().unwrap();
        let value =
            text.lines().find_map(|l| l.strip_prefix("logseal_agent_spool_records_waiting "));
        value.and_then(|value| value.parse().ok()).expect("the agent counts them")
    }

    /// All records of a node and the checkpoint that they were verified under.
    pub fn records_of(&self, index: usize) -> (Checkpoint, Vec<Record>) {
        let mut records = Vec::new();
        let checkpoint = self.read(index, |entry| records.extend(read_record(entry)));
        (checkpoint, records)
    }

    /// All entries of a kind that a node has.
    pub fn entries_of(&self, index: usize, kind: Kind) -> Vec<Vec<u8>> {
        let mut entries = Vec::new();
        self.read(index, |bytes| {
            if Entry::parse(bytes).unwrap().kind() == kind {
                entries.push(bytes.to_vec());
            }
        });
        entries
    }

    fn read(&self, index: usize, each: impl FnMut(&[u8])) -> Checkpoint {
        let (_, policy) = read_policy(&self.site.path("policy")).unwrap();
        let address = self.site.https_address(index).to_string();
        let read = block_on(async {
            let mut tiles = Tiles::connect(&address, auditor(&self.site)).await?;
            tiles.read_all(&policy, each).await
        });
        read.unwrap_or_else(|failure| panic!("{address}: {failure}"))
    }

    /// Every line that was written is in the ledger of each of these nodes, once and in order, and
    /// their ledgers are the same, byte for byte.
    pub fn assert_complete(&self, indexes: &[usize]) {
        self.wait_settled(indexes);
        let mut first: Option<Checkpoint> = None;
        for index in indexes {
            // That the entries are those of the checkpoint was verified: one root, one ledger.
            let (checkpoint, records) = self.records_of(*index);
            let first = first.get_or_insert_with(|| checkpoint.clone());
            assert_eq!(checkpoint, *first, "node {index} has another ledger");
            self.log.assert_is(&records);
        }
    }

    /// No node panicked, and none found that anybody contradicted itself.
    pub fn assert_calm(&self) {
        for node in &self.nodes {
            let log = node.log_text();
            for word in ["panicked", "contradicted itself", "another history"] {
                let found = log.lines().find(|line| line.contains(word));
                assert!(found.is_none(), "{}: {found:?}", node.log().display());
            }
        }
        assert!(self.overview().broken.is_empty(), "{:?}", self.overview().broken);
    }

    /// The ends of all logs and the nodes' states, for a test that fails.
    pub fn describe(&self) -> String {
        let now = self.overview();
        let rows =
            now.rows.iter().map(|row| format!("{}: {} {:?}\n", row.name, row.state, row.height));
        let agent = std::iter::once(&self.agent);
        let tails =
            agent.chain(&self.nodes).map(|p| format!("{}:\n{}\n", p.log().display(), p.log_tail()));
        rows.chain(tails).collect()
    }
}

/// The nodes that answered themselves: what others say of one may be its lie.
fn answering(now: &Overview) -> impl Iterator<Item = &Row> {
    now.rows.iter().filter(|row| !row.checkpoint.is_empty())
}

impl Load {
    /// Ends it; gives back the longest time in which no receipt came.
    pub fn end(self, cluster: &mut Cluster) -> Duration {
        self.going.store(false, Ordering::Relaxed);
        let (log, longest) = self.thread.join().unwrap();
        cluster.log = log;
        longest
    }
}

impl Log {
    fn new(path: PathBuf) -> Self {
        let file = File::create(path).unwrap();
        Log { lines: Vec::new(), file, corpus: Corpus::new(7, 1_795_248_147_000) }
    }

    /// Adds lines.
    pub fn write(&mut self, count: usize) {
        let mut bytes = Vec::with_capacity(count * 512);
        for _ in 0..count {
            let line = self.corpus.line("r").into_bytes();
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
            self.lines.push(line);
        }
        self.file.write_all(&bytes).unwrap();
    }

    /// How many lines there are.
    pub fn count(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The records are these lines.
    fn assert_is(&self, records: &[Record]) {
        assert!(records.len() >= self.lines.len(), "{} lost", self.lines.len() - records.len());
        self.assert_begins_with(records);
    }

    /// The records are the first of these lines: none is missing, and none there twice.
    pub fn assert_begins_with(&self, records: &[Record]) {
        assert!(records.len() <= self.lines.len(), "{} too many", records.len() - self.lines.len());
        for ((n, record), line) in (0..).zip(records).zip(&self.lines) {
            assert_eq!(record.n, n, "numbers without gaps");
            assert!(record.line == *line, "record {n} is another line than was written");
        }
    }
}

/// Chance that is the same in each run.
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as `seed` says.
    pub fn new(seed: u64) -> Self {
        Dice(seed | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Lets up to `bound` pass. The moment is the point: it is no wait for anything.
    pub fn pause(&mut self, bound: Duration) {
        self.pause_from(Duration::ZERO, bound);
    }

    /// The same, and `least` besides.
    pub fn pause_from(&mut self, least: Duration, bound: Duration) {
        let micros = self.below(bound.as_micros() as u64 + 1);
        std::thread::sleep(least + Duration::from_micros(micros));
    }
}

/// Prints past the test runner, which keeps what a passing test says to itself.
pub fn tell(text: &str) {
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}
