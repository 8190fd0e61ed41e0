//! The rules: which line of the old feed is which line of ours.
//!
//! Equal lines are paired one to one, the oldest first. What has waited for the
//! settling time is left over; if a line like it was delivered it is a copy. Other
//! leftovers wait as long again, and if nothing equal comes late, each is paired
//! with the leftover of the other side that is alike, if each is the most alike to
//! the other. Whatever is not paired by then is decided alone.

use super::{
    excuses::Excuses,
    forms::{self, Form, Key},
    leftovers::Leftovers,
    receipts::Receipts,
    recent::Recent,
    report::{Report, State},
    text::Text,
    waiting::{Line, Waiting},
};
use crate::{Now, SourceSettings};
use std::collections::{BTreeMap, VecDeque};

/// For each line that may wait, so many bytes of texts are kept: they are shared among all that do.
const TEXT: usize = 160;

/// For each line that may wait, so many delivered ones are remembered.
const RECENT: usize = 8;

/// How lines are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a period is, in seconds; at least 1.
    pub period_s: u64,
    /// How long lines wait for an equal one, in milliseconds.
    pub settle_ms: u64,
    /// How many lines of a side wait, at most, with so many times 160 bytes of text.
    pub max_pending: usize,
    /// How many lines of each kind are named.
    pub examples: usize,
}

/// Where a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The agent's own sources.
    Sealed,
    /// The old feed.
    OldFeed,
}

/// A line of ours.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// Its bytes.
    pub line: &'a [u8],
    /// How its source is read.
    pub source: &'a SourceSettings,
    /// The number of its first record in the agent's log.
    pub record: u64,
    /// The number behind its last one.
    pub end: u64,
}

/// Compares the old feed with what this agent seals.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub(super) settings: Settings,
    ours: Waiting,
    theirs: Waiting,
    /// Ours, and theirs.
    pub(super) leftovers: (Leftovers, Leftovers),
    pub(super) recent: Recent,
    /// Lines of ours that were missed, and of theirs.
    pub(super) missed: (Excuses, Excuses),
    /// For want of room.
    pub(super) crowded: (Excuses, Excuses),
    pub(super) behind: Excuses,
    receipts: Receipts,
    /// By start.
    reports: BTreeMap<u64, Report>,
    period: u64,
    settled: VecDeque<Report>,
    /// Lines of settled periods that have receipts since.
    receipted: VecDeque<(u64, u64)>,
}

impl Matcher {
    /// Begins with the period in which `now` lies.
    pub fn new(settings: Settings, now: Now) -> Self {
        let mut matcher = Matcher {
            settings,
            ours: Waiting::default(),
            theirs: Waiting::default(),
            leftovers: Default::default(),
            recent: Recent::new(settings.max_pending.saturating_mul(RECENT)),
            missed: Default::default(),
            crowded: Default::default(),
            behind: Excuses::default(),
            receipts: Receipts::default(),
            reports: BTreeMap::new(),
            period: 0,
            settled: VecDeque::new(),
            receipted: VecDeque::new(),
        };
        matcher.enter_period(now);
        matcher
    }

    /// Goes on with the report of the current period that an earlier run left.
    pub fn resume(&mut self, report: Report) {
        if report.start_s == self.period && report.period_s == self.settings.period_s {
            self.await_receipts(&report);
            self.reports.insert(self.period, report);
        }
    }

    /// Lines of a period of an earlier run wait for receipts.
    pub fn await_receipts(&mut self, report: &Report) {
        if let Some(last) = report.sealed.last.filter(|_| report.sealed.waiting > 0) {
            self.receipts.wait(report.start_s, last + 1, report.sealed.waiting);
        }
    }

    /// A line was sealed.
    pub fn ours(&mut self, ours: &Ours<'_>, now: Now) {
        self.enter_period(now);
        self.receipts.wait(self.period, ours.end, 1);
        let report = self.current();
        report.sealed.lines += 1;
        report.sealed.waiting += 1;
        report.sealed.first.get_or_insert(ours.record);
        report.sealed.last = Some(ours.end.saturating_sub(1));
        let content = forms::content(ours.line, ours.source.syntax);
        let content = content.as_ref();
        if content.is_empty() {
            report.not_compared.sealed += 1;
            report.not_compared.reasons.empty += 1;
            return;
        }
        let form = Form { key: Key::of(content), unescaped: false };
        let (late, waiting) = (&mut self.leftovers.1, &mut self.theirs);
        if let Some(theirs) = late.take_equal(form.key).or_else(|| waiting.take(form.key)) {
            self.report(theirs.period).undecided.old_feed -= 1;
            self.move_feed(theirs.period, self.period);
            self.recent.put(form.key, now.monotonic_ms);
            let unescaped = theirs.forms.iter().any(|f| f.key == form.key && f.unescaped);
            match unescaped {
                true => self.escaped(self.period, (&Text::of(content), Some(ours.record)), &theirs),
                false => self.current().delivered += 1,
            }
            return;
        }
        if self.is_full(&self.ours, &self.leftovers.0) {
            self.crowded.0.add(now.monotonic_ms, 1);
            let report = self.current();
            report.not_compared.sealed += 1;
            report.not_compared.reasons.too_many += 1;
            return;
        }
        self.current().undecided.sealed += 1;
        let mut line = self.line(vec![form], content, Some(ours.record), now);
        let written = forms::written(ours.line, ours.source);
        line.late = written.is_some_and(|at| at.0 + self.settings.settle_ms < now.wall.0);
        self.ours.put(line);
    }

    /// The old feed delivered a message.
    pub fn theirs(&mut self, message: &[u8], now: Now) {
        self.enter_period(now);
        let forms = forms::forms(message);
        if forms.is_empty() {
            let report = self.current();
            report.old_feed.lines += 1;
            report.not_compared.old_feed += 1;
            report.not_compared.reasons.empty += 1;
            return;
        }
        self.current().old_feed.lines += 1;
        let (late, waiting) = (&mut self.leftovers.0, &mut self.ours);
        let mut take = |key| late.take_equal(key).or_else(|| waiting.take(key));
        let found = forms.iter().find_map(|form| Some((*form, take(form.key)?)));
        if let Some((form, ours)) = found {
            self.report(ours.period).undecided.sealed -= 1;
            self.move_feed(self.period, ours.period);
            self.recent.put(form.key, now.monotonic_ms);
            if !form.unescaped {
                self.report(ours.period).delivered += 1;
                return;
            }
            let theirs = self.line(vec![form], forms::likeliest(message), None, now);
            self.escaped(ours.period, (&ours.text, ours.record), &theirs);
            return;
        }
        if self.is_full(&self.theirs, &self.leftovers.1) {
            self.crowded.1.add(now.monotonic_ms, 1);
            let report = self.current();
            report.not_compared.old_feed += 1;
            report.not_compared.reasons.too_many += 1;
            return;
        }
        self.current().undecided.old_feed += 1;
        let mut line = self.line(forms, forms::likeliest(message), None, now);
        line.copy = self.is_copy(&line);
        self.theirs.put(line);
    }

    /// A message of the old feed came of a host that is not compared.
    pub fn other_host(&mut self, now: Now) {
        self.enter_period(now);
        self.current().old_feed.other_hosts += 1;
    }

    /// This agent missed so many lines. Those of ours are counted as not compared; those of the old feed it never saw.
    pub fn missed(&mut self, side: Side, lines: u64, now: Now) {
        self.enter_period(now);
        if lines == 0 {
            return;
        }
        match side {
            Side::Sealed => {
                self.missed.0.add(now.monotonic_ms, lines);
                let report = self.current();
                report.sealed.lines += lines;
                report.not_compared.sealed += lines;
                report.not_compared.reasons.missed_here += lines;
            }
            Side::OldFeed => {
                self.missed.1.add(now.monotonic_ms, lines);
                self.current().old_feed.dropped_here += lines;
            }
        }
    }

    /// The agent reads its sources later than they are written: what comes about now has no fair chance to be paired.
    pub fn behind(&mut self, now: Now) {
        self.enter_period(now);
        self.behind.add_all(now.monotonic_ms);
    }

    /// All records below `size` have verified receipts.
    pub fn receipted(&mut self, size: u64) {
        for (period, lines) in self.receipts.reached(size) {
            match self.reports.get_mut(&period) {
                Some(report) => report.receipted(lines),
                None => self.receipted.push_back((period, lines)),
            }
        }
    }

    /// Decides what has waited long enough, and settles periods that are over.
    pub fn advance(&mut self, now: Now) {
        self.enter_period(now);
        let settle_ms = self.settings.settle_ms;
        if let Some(equal) = now.monotonic_ms.checked_sub(settle_ms) {
            while let Some(line) = self.ours.take_older(equal) {
                self.leftovers.0.put(line);
            }
            while let Some(line) = self.theirs.take_older(equal) {
                match line.copy || self.is_copy(&line) {
                    true => self.duplicated(&line),
                    false => self.leftovers.1.put(line),
                }
            }
        }
        if let Some(alike) = now.monotonic_ms.checked_sub(2 * settle_ms) {
            self.decide_older(alike, now);
        }
        self.recent.forget(now.monotonic_ms.saturating_sub(settle_ms));
        let missed = [&mut self.missed.0, &mut self.missed.1, &mut self.behind];
        for excuses in missed.into_iter().chain([&mut self.crowded.0, &mut self.crowded.1]) {
            excuses.forget(now.monotonic_ms, settle_ms);
        }
        self.settle_periods();
    }

    /// The next period of which everything is decided.
    pub fn poll_settled(&mut self) -> Option<Report> {
        self.settled.pop_front()
    }

    /// A settled period, by its start, and how many of its lines have got their receipts since.
    pub fn poll_receipted(&mut self) -> Option<(u64, u64)> {
        self.receipted.pop_front()
    }

    /// The periods that are not settled, as they are now.
    pub fn open(&self) -> impl Iterator<Item = &Report> {
        self.reports.values()
    }

    /// A line of the old feed counts where its like of ours does.
    pub(super) fn move_feed(&mut self, from: u64, to: u64) {
        self.report(from).old_feed.lines -= 1;
        self.report(to).old_feed.lines += 1;
    }

    fn line(&self, forms: Vec<Form>, content: &[u8], record: Option<u64>, now: Now) -> Line {
        Line {
            forms: forms.into(),
            text: Text::of(content),
            seen_ms: now.monotonic_ms,
            wall: now.wall,
            period: self.period,
            record,
            copy: false,
            late: false,
        }
    }

    fn is_full(&self, waiting: &Waiting, leftovers: &Leftovers) -> bool {
        let most = self.settings.max_pending;
        waiting.len() + leftovers.len() >= most
            || waiting.bytes() + leftovers.bytes() >= most.saturating_mul(TEXT)
    }

    fn current(&mut self) -> &mut Report {
        self.report(self.period)
    }

    pub(super) fn report(&mut self, start_s: u64) -> &mut Report {
        let period_s = self.settings.period_s;
        self.reports.entry(start_s).or_insert_with(|| Report::new(start_s, period_s))
    }

    /// The clock may jump back: periods do not.
    fn enter_period(&mut self, now: Now) {
        let seconds = now.wall.seconds().0;
        let period = seconds - seconds % self.settings.period_s.max(1);
        if period > self.period || self.reports.is_empty() {
            self.period = self.period.max(period);
            self.current();
        }
    }

    fn settle_periods(&mut self) {
        while let Some((start, report)) = self.reports.first_key_value() {
            let undecided = report.undecided.sealed + report.undecided.old_feed;
            if *start >= self.period || undecided > 0 {
                return;
            }
            let Some((_, mut report)) = self.reports.pop_first() else { return };
            debug_assert_eq!(report.state, State::Open);
            report.settle();
            self.settled.push_back(report);
        }
    }
}
