//! What the monitor says: lines for people or programs, and posts to a webhook.

use super::{Alarm, Word};
use crate::output::{Outcome, shown};
use indicatif::{ProgressBar, ProgressStyle};
use record::{TreeSize, follow::History};
use serde_json::{Value, json};
use service::http::HttpClient;
use std::{
    io::{IsTerminal, Write},
    ops::Range,
    time::{Duration, Instant},
};

/// How often people are told that all is well.
const CALM: Duration = Duration::from_secs(60);
/// How often the way through a long ledger is told where nobody sees a bar.
const PROGRESS: Duration = Duration::from_secs(10);
/// A way that is shown: less is over at once.
const LONG: u64 = 1 << 16;
/// How often a webhook is tried, and how long each time.
const TRIES: u32 = 3;
const WEBHOOK: Duration = Duration::from_secs(5);
/// How much of its answer is read.
const MAX_ANSWER: usize = 64 << 10;

/// Says things.
pub(super) struct Teller {
    json: bool,
    ledger: String,
    webhook: Option<HttpClient>,
    bar: Option<ProgressBar>,
    said: Option<Instant>,
}

impl Teller {
    pub(super) fn new(json: bool, ledger: String, webhook: Option<HttpClient>) -> Self {
        Teller { json, ledger, webhook, bar: None, said: None }
    }

    pub(super) fn started(&self, history: &History, nodes: usize) {
        let size = history.follower.size();
        let text = format!("following {} at {nodes} nodes, from entry {size} on", self.ledger);
        let json = json!({
            "event": "start", "ledger": self.ledger, "nodes": nodes, "size": size.0,
        });
        self.line(&text, json);
    }

    /// Entries up to the state's size are right; the checkpoint that is read is of `to` entries.
    pub(super) fn progress(&mut self, history: &History, to: TreeSize) {
        let follower = &history.follower;
        let (size, height, records) = (follower.size(), follower.height(), follower.records());
        let left = to.0 - size.0;
        if left == 0 {
            self.bar.take().iter().for_each(ProgressBar::finish_and_clear);
            if self.json || self.said.is_none_or(|at| at.elapsed() >= CALM) {
                self.said = Some(Instant::now());
                let text = format!("{size} entries hold: {height} blocks, {records} records");
                let json = json!({
                    "event": "checkpoint", "size": size.0, "height": height, "records": records,
                    "root": follower.root().to_string(),
                });
                self.line(&text, json);
            }
        } else if !self.json && std::io::stderr().is_terminal() && left > LONG {
            let bar = self.bar.get_or_insert_with(|| bar(to.0));
            bar.set_position(size.0);
        } else if self.said.is_none_or(|at| at.elapsed() >= PROGRESS) {
            self.said = Some(Instant::now());
            let json = json!({ "event": "progress", "size": size.0, "of": to.0 });
            self.line(&format!("read {size} of {to} entries"), json);
        }
    }

    /// Tells of an alarm, and posts it.
    pub(super) async fn alarm(&mut self, alarm: &Alarm) {
        let problem = shown(alarm.problem.as_bytes(), 1000);
        let (word, node) = (alarm.word.as_str(), &alarm.node);
        let evidence = alarm.evidence.as_ref().map(|dir| dir.display().to_string());
        let kind = if alarm.word == Word::Unreachable { "notice" } else { "ALARM" };
        let place = if node.is_empty() { String::new() } else { format!(" {node}:") };
        let kept = evidence.as_ref().map(|dir| format!(" (evidence: {dir})")).unwrap_or_default();
        let json = json!({
            "event": kind.to_lowercase(),
            "word": word,
            "ledger": self.ledger,
            "node": (!node.is_empty()).then_some(node),
            "problem": problem,
            "evidence": evidence,
            "time": service::clock::now().seconds().0,
        });
        self.line(&format!("{kind} {word}:{place} {problem}{kept}"), json.clone());
        self.post(json).await;
    }

    /// What was told is over.
    pub(super) fn cleared(&self, word: Word, node: &str) {
        let place = if node.is_empty() { String::new() } else { format!(" {node}") };
        let json = json!({ "event": "cleared", "word": word.as_str(), "node": node });
        self.line(&format!("no more {}{place}", word.as_str()), json);
    }

    /// Entries of this range were given up before they were read here, as entry `declared` says.
    pub(super) fn unread(&self, unread: Range<u64>, declared: u64) {
        let (from, to) = (unread.start, unread.end);
        let text = format!(
            "WARNING entries {from} to {} were given up before this monitor read them, as entry {declared} declares",
            to - 1
        );
        let json = json!({
            "event": "unread", "ledger": self.ledger, "from": from, "to": to, "declared": declared,
        });
        self.line(&text, json);
    }

    /// Something about the monitor itself.
    pub(super) fn note(&self, text: &str) {
        self.line(text, json!({ "event": "note", "text": text }));
    }

    /// The last words.
    pub(super) fn ended(self, history: &History, alarms: u64, asked: bool, code: u8) -> Outcome {
        let size = history.follower.size();
        let text = match asked {
            true => format!("{size} entries read, {alarms} alarms\n"),
            false => "no node could be asked\n".to_owned(),
        };
        let json = json!({
            "event": "end", "size": size.0, "alarms": alarms, "asked": asked,
            "height": history.follower.height(), "records": history.follower.records(),
        });
        Outcome { text, json, code }
    }

    async fn post(&mut self, alarm: Value) {
        let Some(webhook) = &mut self.webhook else { return };
        let (url, mut problem) = (webhook.url().to_string(), String::new());
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let body = alarm.to_string().into_bytes();
            match webhook.post("", "application/json", body, MAX_ANSWER, WEBHOOK).await {
                Ok(answer) if (200..300).contains(&answer.status) => return,
                Ok(answer) => problem = format!("{url}: it answers {}", answer.status),
                Err(error) => problem = error.to_string(),
            }
        }
        self.note(&format!("the webhook could not be told: {problem}"));
    }

    fn line(&self, text: &str, json: Value) {
        let now = service::clock::now().seconds();
        let line = if self.json { format!("{json}\n") } else { format!("{now} {text}\n") };
        let mut out = std::io::stdout().lock();
        // Whoever reads it may have gone; the exit code and the webhook still tell.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

fn bar(entries: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries, {eta} left");
    ProgressBar::new(entries).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
