//! What becomes of lines for which nothing equal came: altered, duplicated, lost,
//! in the old feed only, or not to be compared.

use super::{
    leftovers::{Leftover, Leftovers},
    matcher::{Matcher, Side},
    report::Example,
    text::{Change, Text},
    waiting::Line,
};
use crate::Now;

/// The longest excerpt in an example, in bytes.
const EXCERPT: usize = 240;

impl Matcher {
    /// Leftovers that came no later than this, in the order in which they came.
    pub(super) fn decide_older(&mut self, seen_ms: u64, now: Now) {
        loop {
            let due = |side: &Leftovers| side.oldest().filter(|oldest| *oldest <= seen_ms);
            match (due(&self.leftovers.0), due(&self.leftovers.1)) {
                (None, None) => return,
                (Some(ours), theirs) if theirs.is_none_or(|theirs| ours <= theirs) => {
                    self.decide_ours(seen_ms, now);
                }
                _ => self.decide_theirs(seen_ms, now),
            }
        }
    }

    fn decide_ours(&mut self, seen_ms: u64, now: Now) {
        let (ours, theirs) = &mut self.leftovers;
        let Some(line) = ours.take_older(seen_ms) else { return };
        let skeleton = &line.skeleton;
        let best = theirs.best(skeleton, |other| skeleton.alike(other));
        // It must be the most alike to that one, too.
        let mutual = best.filter(|(likeness, id)| {
            let other = &theirs.get(*id).skeleton;
            let rival = ours.best(other, |mine| mine.alike(other));
            rival.is_none_or(|(rival, _)| rival <= *likeness)
        });
        match mutual.and_then(|(_, id)| theirs.take(id)) {
            Some(other) => self.altered(&line, &other, now),
            None => self.alone(Side::Sealed, &line.line),
        }
    }

    fn decide_theirs(&mut self, seen_ms: u64, now: Now) {
        let (ours, theirs) = &mut self.leftovers;
        let Some(line) = theirs.take_older(seen_ms) else { return };
        let skeleton = &line.skeleton;
        let best = ours.best(skeleton, |mine| mine.alike(skeleton));
        let mutual = best.filter(|(likeness, id)| {
            let mine = &ours.get(*id).skeleton;
            let rival = theirs.best(mine, |other| mine.alike(other));
            rival.is_none_or(|(rival, _)| rival <= *likeness)
        });
        match mutual.and_then(|(_, id)| ours.take(id)) {
            Some(mine) => self.altered(&mine, &line, now),
            None if self.is_copy(&line.line) => self.duplicated(&line.line),
            None => self.alone(Side::OldFeed, &line.line),
        }
    }

    /// Two lines are equal when the old feed's escapes are undone.
    pub(super) fn escaped(
        &mut self,
        period: u64,
        (ours, record): (&Text, Option<u64>),
        theirs: &Line,
    ) {
        let most = self.settings.examples;
        let report = self.report(period);
        report.altered.escaped += 1;
        if report.examples.altered.len() < most {
            let example = altered_example(ours, record, theirs, Change::Escaped);
            report.examples.altered.push(example);
        }
    }

    fn altered(&mut self, ours: &Leftover, theirs: &Leftover, now: Now) {
        let (ours, theirs) = (&ours.line, &theirs.line);
        // Another copy of the altered line is a duplicate.
        self.recent.put(theirs.forms[0].key, now.monotonic_ms);
        self.report(ours.period).undecided.sealed -= 1;
        self.report(theirs.period).undecided.old_feed -= 1;
        self.move_feed(theirs.period, ours.period);
        let most = self.settings.examples;
        let report = self.report(ours.period);
        let change = ours.text.change(&theirs.text);
        match change {
            Change::Truncated(_) => report.altered.truncated += 1,
            Change::Escaped => report.altered.escaped += 1,
            Change::Encoded => report.altered.encoded += 1,
            Change::Other => report.altered.other += 1,
        }
        if report.examples.altered.len() < most {
            let example = altered_example(&ours.text, ours.record, theirs, change);
            report.examples.altered.push(example);
        }
    }

    pub(super) fn is_copy(&self, theirs: &Line) -> bool {
        theirs.forms.iter().any(|form| self.recent.has(form.key))
    }

    pub(super) fn duplicated(&mut self, theirs: &Line) {
        let most = self.settings.examples;
        let report = self.report(theirs.period);
        report.undecided.old_feed -= 1;
        report.duplicated += 1;
        if report.examples.duplicated.len() < most {
            report.examples.duplicated.push(example(theirs, Side::OldFeed));
        }
    }

    /// Nothing is like this line.
    fn alone(&mut self, side: Side, line: &Line) {
        let settle_ms = self.settings.settle_ms;
        // What the other side lacks here, it may have lost here.
        let (missed, crowded) = match side {
            Side::Sealed => (&mut self.missed.1, &mut self.crowded.1),
            Side::OldFeed => (&mut self.missed.0, &mut self.crowded.0),
        };
        let behind = line.late || self.behind.excuse(line.seen_ms, settle_ms);
        let missed = !behind && missed.excuse(line.seen_ms, settle_ms);
        let forgotten = side == Side::OldFeed
            && self.recent.may_have_forgotten(line.seen_ms.saturating_sub(settle_ms));
        let crowded = !behind && !missed && (forgotten || crowded.excuse(line.seen_ms, settle_ms));
        let most = self.settings.examples;
        let report = self.report(line.period);
        match side {
            Side::Sealed => report.undecided.sealed -= 1,
            Side::OldFeed => report.undecided.old_feed -= 1,
        }
        if behind || missed || crowded {
            let not = &mut report.not_compared;
            not.reasons.behind += u64::from(behind);
            not.reasons.missed_here += u64::from(missed);
            not.reasons.too_many += u64::from(crowded);
            match side {
                Side::Sealed => not.sealed += 1,
                Side::OldFeed => not.old_feed += 1,
            }
            return;
        }
        let examples = match side {
            Side::Sealed => {
                report.lost += 1;
                &mut report.examples.lost
            }
            Side::OldFeed => {
                report.only_there += 1;
                &mut report.examples.only_there
            }
        };
        if examples.len() < most {
            examples.push(example(line, side));
        }
    }
}

fn example(line: &Line, side: Side) -> Example {
    let excerpt = Some(line.text.excerpt(0, EXCERPT));
    let (sealed, old_feed) = match side {
        Side::Sealed => (excerpt, None),
        Side::OldFeed => (None, excerpt),
    };
    Example { time: line.wall.to_string(), record: line.record, sealed, old_feed, change: None }
}

fn altered_example(ours: &Text, record: Option<u64>, theirs: &Line, change: Change) -> Example {
    let at = ours.differs_at(&theirs.text);
    let said = match change {
        Change::Truncated(left) => format!("cut to {left} of {} bytes", ours.len()),
        Change::Escaped => "control characters escaped or replaced".to_owned(),
        Change::Encoded => "characters replaced: another encoding".to_owned(),
        Change::Other => "changed".to_owned(),
    };
    Example {
        time: theirs.wall.to_string(),
        record,
        sealed: Some(ours.excerpt(at, EXCERPT)),
        old_feed: Some(theirs.text.excerpt(at, EXCERPT)),
        change: Some(format!("{said}, from byte {at} on")),
    }
}
