//! The thread that compares, and keeps the reports.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use pipeline::{
    Now,
    shadow::{Matcher, Ours, Report, Side, State, Verdict},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Delivery, Messages,
    behind::Behind,
    folder::{Folder, FolderError, load_all},
    inlet::{Incoming, SealedLines},
    late::Late,
    udp::Listener,
};
use crate::{config::ShadowConfig, metrics::Metrics, seal_loop::Clock};

/// How often time passes for what waits.
const TICK: Duration = Duration::from_millis(500);

/// How often the reports of open periods are stored: so much of one is lost by a crash.
const STORE: Duration = Duration::from_secs(60);

/// How many settled reports wait for a disk that is full, at most.
const MAX_UNSTORED: usize = 100;

/// Compares, and keeps the reports.
pub(super) struct Keeper {
    agent: String,
    config: ShadowConfig,
    folder: Folder,
    behind: Behind,
    metrics: Metrics,
    clock: Clock,
    matcher: Matcher,
    late: Late,
    /// Settled, and not stored yet.
    unstored: VecDeque<Report>,
    /// What metrics have counted of open periods.
    counted: BTreeMap<u64, Report>,
    stored: Instant,
    dropped: u64,
    failing: bool,
}

impl Keeper {
    pub(super) fn new(
        agent: String,
        config: ShadowConfig,
        folder: Folder,
        behind: Behind,
        metrics: Metrics,
    ) -> Self {
        let clock = Clock::start();
        Keeper {
            agent,
            matcher: Matcher::new(config.settings, clock.now()),
            config,
            folder,
            behind,
            metrics,
            clock,
            late: Late::default(),
            unstored: VecDeque::new(),
            counted: BTreeMap::new(),
            stored: Instant::now(),
            dropped: 0,
            failing: false,
        }
    }

    /// Works until the seal thread has ended.
    pub(super) async fn run(
        mut self,
        mut sealed: Incoming,
        mut deliveries: mpsc::Receiver<Delivery>,
        udp: Option<&Listener>,
    ) {
        self.resume();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                lines = sealed.next() => match lines {
                    Some(lines) => self.ours(&lines),
                    None => break,
                },
                Some(delivery) = deliveries.recv() => self.theirs(delivery),
                _ = ticks.tick() => self.tick(&sealed, udp),
            }
        }
        self.tick(&sealed, udp);
        self.store_open();
    }

    fn ours(&mut self, sealed: &SealedLines) {
        let now = self.clock.now();
        for (line, numbers) in sealed.chunk.iter().zip(sealed.numbers.windows(2)) {
            let (source, record, end) = (&*sealed.source, numbers[0].0, numbers[1].0);
            self.matcher.ours(&Ours { line, source, record, end }, now);
        }
    }

    fn theirs(&mut self, delivery: Delivery) {
        let now = self.clock.now();
        match delivery {
            Delivery::Messages(messages) => self.messages(&messages, now),
            Delivery::Missed => self.matcher.behind(now),
        }
    }

    fn messages(&mut self, messages: &Messages, now: Now) {
        for message in messages.iter() {
            match self.is_compared(message) {
                true => self.matcher.theirs(message, now),
                false => self.matcher.other_host(now),
            }
        }
    }

    /// A message that names no host is compared: nobody can tell.
    fn is_compared(&self, message: &[u8]) -> bool {
        let hosts = &self.config.hosts;
        hosts.is_empty()
            || pipeline::shadow::forms::host(message)
                .is_none_or(|host| hosts.iter().any(|name| name.as_bytes() == host))
    }

    fn tick(&mut self, sealed: &Incoming, udp: Option<&Listener>) {
        let now = self.clock.now();
        self.matcher.missed(Side::Sealed, sealed.missed(), now);
        if let Some(Ok(dropped)) = udp.map(Listener::dropped) {
            let more = dropped.saturating_sub(std::mem::replace(&mut self.dropped, dropped));
            self.matcher.missed(Side::OldFeed, more, now);
        }
        if self.behind.is_behind() {
            self.matcher.behind(now);
        }
        let size = self.metrics.receipted_size.get();
        self.matcher.receipted(u64::try_from(size).unwrap_or_default());
        self.matcher.advance(now);
        while let Some(report) = self.matcher.poll_settled() {
            self.settled(report);
        }
        while let Some(receipted) = self.matcher.poll_receipted() {
            self.late.add(receipted);
        }
        self.count();
        let written = self.store_settled().and_then(|()| self.late.write(&self.folder));
        self.note(written);
        if self.stored.elapsed() >= STORE {
            self.store_open();
        }
    }

    fn settled(&mut self, mut report: Report) {
        self.stamp(&mut report);
        let before = self.counted.remove(&report.start_s).unwrap_or_default();
        self.count_more(&before, &report);
        let verdict = Verdict::of(std::slice::from_ref(&report)).old_way();
        tracing::info!(
            from = %record::UnixSeconds(report.start_s),
            sealed = report.sealed.lines,
            old_feed = report.old_feed.lines,
            lost = report.lost,
            altered = report.altered.total(),
            duplicated = report.duplicated,
            only_there = report.only_there,
            "{verdict}"
        );
        if self.unstored.len() >= MAX_UNSTORED {
            let lost = self.unstored.pop_front().unwrap_or_default().start_s;
            let from = record::UnixSeconds(lost);
            tracing::error!(%from, "a report of shadow mode is given up: it could not be stored");
        }
        self.unstored.push_back(report);
    }

    fn store_settled(&mut self) -> Result<(), FolderError> {
        while let Some(report) = self.unstored.front() {
            self.folder.store(report)?;
            let begun = report.start_s;
            self.unstored.pop_front();
            let before = begun.saturating_sub(self.config.keep_days * 86_400);
            let removed = self.folder.prune(before)?;
            if removed > 0 {
                tracing::info!(files = removed, "old reports of shadow mode were removed");
            }
        }
        Ok(())
    }

    /// Stores the reports of open periods as they are now.
    fn store_open(&mut self) {
        self.stored = Instant::now();
        let reports: Vec<Report> = self.matcher.open().cloned().collect();
        for mut report in reports {
            self.stamp(&mut report);
            let written = self.folder.store(&report);
            self.note(written);
        }
    }

    /// Goes on with what an earlier run left.
    fn resume(&mut self) {
        let unfinished = |report: &Report| report.state != State::Final;
        let (reports, problems) = match load_all(&self.config.dir, unfinished) {
            Ok(loaded) => loaded,
            Err(error) => return self.note(Err(error)),
        };
        for problem in problems {
            tracing::warn!(%problem, "a report of shadow mode cannot be read: move it away");
        }
        let now = self.clock.now();
        let (current, period_s) = (self.current(), self.config.settings.period_s);
        for mut report in reports {
            let open = report.state == State::Open;
            if open {
                report.interrupt(now.wall.seconds().to_string());
            }
            if open && (report.start_s, report.period_s) == (current, period_s) {
                self.counted.insert(current, report.clone());
                self.matcher.resume(report);
                continue;
            }
            report.settle();
            self.matcher.await_receipts(&report);
            let written = self.folder.store(&report);
            self.note(written);
        }
    }

    /// When the current period began.
    fn current(&self) -> u64 {
        self.matcher.open().map(|report| report.start_s).max().unwrap_or_default()
    }

    fn stamp(&self, report: &mut Report) {
        report.agent.clone_from(&self.agent);
        report.sources.clone_from(&self.config.sources);
    }

    /// What was found since the last tick goes into the metrics.
    fn count(&mut self) {
        let open: Vec<Report> = self.matcher.open().map(figures).collect();
        for report in open {
            let before = self.counted.remove(&report.start_s).unwrap_or_default();
            self.count_more(&before, &report);
            self.counted.insert(report.start_s, report);
        }
    }

    fn count_more(&self, before: &Report, now: &Report) {
        let metrics = &self.metrics.shadow;
        let not = |report: &Report| report.not_compared.sealed + report.not_compared.old_feed;
        for (counter, before, now) in [
            (&metrics.delivered, before.delivered, now.delivered),
            (&metrics.lost, before.lost, now.lost),
            (&metrics.altered, before.altered.total(), now.altered.total()),
            (&metrics.duplicated, before.duplicated, now.duplicated),
            (&metrics.only_there, before.only_there, now.only_there),
            (&metrics.not_compared, not(before), not(now)),
            (&metrics.dropped_here, before.old_feed.dropped_here, now.old_feed.dropped_here),
        ] {
            counter.inc_by(now.saturating_sub(before));
        }
    }

    /// Reports that cannot be stored are named once, until they can be.
    fn note(&mut self, written: Result<(), FolderError>) {
        match written {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "reports of shadow mode cannot be stored: it is tried again");
            }
            Err(_) => {}
        }
    }
}

/// A report without its examples.
fn figures(report: &Report) -> Report {
    Report {
        start_s: report.start_s,
        delivered: report.delivered,
        lost: report.lost,
        altered: report.altered.clone(),
        duplicated: report.duplicated,
        only_there: report.only_there,
        not_compared: report.not_compared.clone(),
        old_feed: report.old_feed.clone(),
        ..Report::default()
    }
}
