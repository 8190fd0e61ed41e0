//! What is told of a period, as it is stored: one JSON object, whose keys are
//! part of the agent's interface.
//!
//! It adds up: `sealed.lines` is `delivered` and everything in `altered`, `lost`,
//! `not_compared.sealed` and `undecided.sealed`; `old_feed.lines` is `delivered`
//! and everything in `altered`, `duplicated`, `only_there`,
//! `not_compared.old_feed` and `undecided.old_feed`. A pair counts where the
//! line of ours came.

use serde::{Deserialize, Serialize};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// One period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The version of the format: 1.
    pub format: u32,
    /// The agent.
    pub agent: String,
    /// The sources that were compared; all, if none is named.
    pub sources: Vec<String>,
    /// When it begins: seconds since 1970.
    pub start_s: u64,
    /// How long it is, in seconds.
    pub period_s: u64,
    /// How far it has come.
    pub state: State,
    /// Lines of ours.
    pub sealed: Sealed,
    /// Lines of the old feed.
    pub old_feed: Feed,
    /// Lines that the old way delivered as they were.
    pub delivered: u64,
    /// Lines that it never delivered.
    pub lost: u64,
    /// Lines that it changed.
    pub altered: Altered,
    /// Copies that it delivered although there was one line.
    pub duplicated: u64,
    /// Lines that it delivered and nobody sealed here: forged, or of a source that this agent does not read.
    pub only_there: u64,
    /// Lines of which nothing can be said.
    pub not_compared: NotCompared,
    /// Lines that may still be paired.
    pub undecided: Undecided,
    /// When the agent began again in this period, in RFC 3339.
    pub interrupted: Vec<String>,
    /// The first lines of each kind.
    pub examples: Examples,
}

/// How far a report has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Lines may still come, or be paired.
    #[default]
    Open,
    /// All lines are decided; receipts of some are awaited.
    Settled,
    /// All lines of ours have verified receipts: nothing changes any more.
    Final,
}

/// Lines of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sealed {
    /// How many. Empty ones are among them.
    pub lines: u64,
    /// How many of them are in the ledger: this agent verified the receipts.
    pub in_ledger: u64,
    /// How many wait for their receipts.
    pub waiting: u64,
    /// The record of the first line.
    pub first: Option<u64>,
    /// The last record.
    pub last: Option<u64>,
}

/// Lines of the old feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    /// How many, of the hosts that are compared.
    pub lines: u64,
    /// How many came of other hosts.
    pub other_hosts: u64,
    /// How many messages our own shadow listener dropped: they are counted nowhere else.
    pub dropped_here: u64,
}

/// Lines that the old way changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Altered {
    /// Cut short.
    pub truncated: u64,
    /// Control characters escaped, replaced or dropped.
    pub escaped: u64,
    /// Other characters than ASCII replaced or dropped.
    pub encoded: u64,
    /// In another way.
    pub other: u64,
}

/// Lines of which nothing can be said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotCompared {
    /// Lines of ours.
    pub sealed: u64,
    /// Lines of the old feed.
    pub old_feed: u64,
    /// Why, of both.
    pub reasons: Reasons,
}

/// Why lines were not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reasons {
    /// More lines waited than `max_pending`.
    pub too_many: u64,
    /// Its like may be among the lines that this agent missed: the listener dropped it, or shadow
    /// mode did not keep up.
    pub missed_here: u64,
    /// The agent began, or was held back, or got the line later than `settle_s` after it was written.
    pub behind: u64,
    /// The agent was started again.
    pub interrupted: u64,
    /// The line is empty, or its entry of the journal or log record has no text as its message.
    pub empty: u64,
}

/// Lines that may still be paired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Undecided {
    /// Lines of ours.
    pub sealed: u64,
    /// Lines of the old feed.
    pub old_feed: u64,
}

/// The first lines of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Examples {
    /// Lost.
    pub lost: Vec<Example>,
    /// Altered.
    pub altered: Vec<Example>,
    /// Duplicated.
    pub duplicated: Vec<Example>,
    /// In the old feed only.
    pub only_there: Vec<Example>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Example {
    /// When it came, in RFC 3339.
    pub time: String,
    /// The number of its record in the agent's log, if it is known.
    pub record: Option<u64>,
    /// The line as it was sealed, shortened.
    pub sealed: Option<String>,
    /// The line as the old feed had it, shortened.
    pub old_feed: Option<String>,
    /// What was done to it.
    pub change: Option<String>,
}

impl Report {
    pub(super) fn new(start_s: u64, period_s: u64) -> Self {
        Report { format: FORMAT, start_s, period_s, ..Report::default() }
    }

    /// The period's end: seconds since 1970.
    pub fn end_s(&self) -> u64 {
        self.start_s.saturating_add(self.period_s)
    }

    /// Whether every line is counted once, as the head of this module has it.
    pub fn adds_up(&self) -> bool {
        let (not, open, reasons) =
            (&self.not_compared, &self.undecided, &self.not_compared.reasons);
        let both = self.delivered + self.altered.total();
        let theirs = self.duplicated + self.only_there + not.old_feed + open.old_feed;
        let all = reasons.too_many
            + reasons.missed_here
            + reasons.behind
            + reasons.interrupted
            + reasons.empty;
        self.sealed.lines == both + self.lost + not.sealed + open.sealed
            && self.old_feed.lines == both + theirs
            && self.sealed.lines >= self.sealed.in_ledger + self.sealed.waiting
            && not.sealed + not.old_feed == all
    }

    /// So many more of its lines have receipts. The report of a settled period becomes final with the last.
    pub fn receipted(&mut self, lines: u64) {
        let lines = lines.min(self.sealed.waiting);
        self.sealed.waiting -= lines;
        self.sealed.in_ledger += lines;
        self.settle_if_done();
    }

    /// No more lines will come. Those that are undecided stay so.
    pub fn settle(&mut self) {
        self.state = self.state.max_settled();
        self.settle_if_done();
    }

    /// The agent was started again while the period was open.
    pub fn interrupt(&mut self, time: String) {
        let Undecided { sealed, old_feed } = std::mem::take(&mut self.undecided);
        self.not_compared.sealed += sealed;
        self.not_compared.old_feed += old_feed;
        self.not_compared.reasons.interrupted += sealed + old_feed;
        if self.interrupted.len() < MAX_INTERRUPTIONS {
            self.interrupted.push(time);
        }
    }

    fn settle_if_done(&mut self) {
        if self.state == State::Settled && self.sealed.waiting == 0 {
            self.state = State::Final;
        }
    }
}

/// How many interruptions are named.
const MAX_INTERRUPTIONS: usize = 100;

impl State {
    fn max_settled(self) -> Self {
        if self == State::Open { State::Settled } else { self }
    }
}

impl Altered {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.truncated + self.escaped + self.encoded + self.other
    }
}
