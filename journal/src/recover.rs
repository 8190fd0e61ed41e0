//! Reads a whole journal at start and says what is there, what a crash tore off, and what was damaged.
//!
//! Three things prove that records had been durable: a later record's or mark's `durable` field; the existence of a
//! later segment, since one gets its name only after everything before it was synced; and, for the empty space of a
//! mark, the record behind it, since that was written by a later start, which had made everything before it durable.
//! A break in the last segment that nothing proves durable is where a crash tore it: the journal ends there. Every
//! other break is damage, and the journal goes on behind it. This module changes nothing on disk.

use std::path::Path;

use crate::error::{Damage, DamageKind, TornTail};
use crate::files::{list, read_segment, segment_path};
use crate::format::VERSION;
use crate::scan::{HeaderState, Scan, scan};
use crate::{Error, Seq};

/// What was found when a journal was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The oldest record that is left.
    pub first_seq: Seq,
    /// The number that the next record gets. All before it are durable.
    pub next_seq: Seq,
    /// How many segments there are.
    pub segments: usize,
    /// What had been durable and is so no longer, in order. It is reported again at every start, except for the
    /// header of the last segment, which is written anew.
    pub damage: Vec<Damage>,
    /// The incomplete end that a crash left, if it left one. Nothing in it had been acknowledged, as far as the rest
    /// of the journal can prove.
    pub torn: Option<TornTail>,
}

/// How much of a journal is read when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// Every segment, so that the recovery names all damage.
    #[default]
    Everything,
    /// The last segment. However long the journal is, opening it takes the same time; damage in the others shows
    /// when they are read.
    Last,
}

/// A journal's segments and what was made of them.
pub(crate) struct Walk {
    /// The first record of each segment.
    pub(crate) bases: Vec<u64>,
    /// What was read: all segments, or the last one.
    pub(crate) segments: Vec<Scan>,
    /// The last segment's bytes, as they were judged.
    pub(crate) last_bytes: Vec<u8>,
    pub(crate) recovery: Recovery,
}

/// Reads the segments of a directory, as many as were asked for.
pub(crate) fn walk(dir: &Path, look: Look) -> Result<Walk, Error> {
    let bases = list(dir)?;
    if look == Look::Last
        && let Some(walk) = walk_last(dir, &bases)?
    {
        return Ok(walk);
    }
    walk_all(dir, bases)
}

/// Reads the last segment alone; nothing if it does not look like one, so that those before it matter as well.
fn walk_last(dir: &Path, bases: &[u64]) -> Result<Option<Walk>, Error> {
    let Some(last) = bases.last() else { return Ok(None) };
    let (found, last_bytes) = read_and_scan(dir, *last)?;
    if found.is_unrecognisable() {
        return Ok(None);
    }
    let (segments, recovery) = (vec![found], Recovery::default());
    let mut walk = Walk { bases: bases.to_vec(), segments, last_bytes, recovery };
    walk.judge(dir);
    walk.recovery.first_seq = Seq(bases[0]);
    walk.recovery.segments = bases.len();
    Ok(Some(walk))
}

/// What a segment holds, and its bytes.
pub(crate) fn read_and_scan(dir: &Path, base: u64) -> Result<(Scan, Vec<u8>), Error> {
    let path = segment_path(dir, base);
    let bytes = read_segment(&path)?;
    let found = scan(&bytes, Seq(base));
    if let HeaderState::Unknown(version) = found.header {
        return Err(Error::Version { segment: path, found: version, known: VERSION });
    }
    Ok((found, bytes))
}

fn walk_all(dir: &Path, bases: Vec<u64>) -> Result<Walk, Error> {
    let (last_bytes, recovery) = (Vec::new(), Recovery::default());
    let mut walk = Walk { bases: Vec::new(), segments: Vec::new(), last_bytes, recovery };
    for base in bases {
        let (found, bytes) = read_and_scan(dir, base)?;
        // What shows no sign of being the segment it is named after must not hide records of the one before it.
        // Otherwise its name still says what should be there.
        let hides_records = walk.segments.last().is_some_and(|before| before.next() > base);
        if found.is_unrecognisable() && hides_records {
            walk.recovery.damage.push(header_damage(dir, base));
            continue;
        }
        walk.bases.push(base);
        walk.segments.push(found);
        walk.last_bytes = bytes;
    }
    walk.judge(dir);
    Ok(walk)
}

impl Walk {
    fn judge(&mut self, dir: &Path) {
        for index in 0..self.segments.len() {
            match self.segments.get(index + 1).map(|following| following.base) {
                Some(limit) => {
                    let damage = judge_sealed(dir, &mut self.segments[index], limit);
                    self.recovery.damage.extend(damage);
                }
                None => self.judge_last(dir, index),
            }
        }
        self.recovery.damage.sort_by_key(|damage| (damage.first_seq, damage.offset));
        self.recovery.segments = self.segments.len();
        if let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) {
            self.recovery.first_seq = Seq(first.base);
            self.recovery.next_seq = Seq(last.next());
        }
    }

    /// The last segment: what nothing proves durable may have been torn off.
    fn judge_last(&mut self, dir: &Path, index: usize) {
        let segment = &mut self.segments[index];
        report_header(dir, segment, &mut self.recovery.damage);
        let torn = segment
            .gaps
            .iter()
            .position(|gap| gap.first >= segment.proven && gap.first != gap.last);
        if let Some(at) = torn {
            let gap = segment.gaps[at];
            segment.gaps.truncate(at);
            segment.records.truncate((gap.first - segment.base) as usize);
            segment.end = gap.offset;
            segment.marked = false;
        }
        report_gaps(dir, segment, &mut self.recovery.damage);
        if segment.tail_is_bad() {
            self.recovery.torn = Some(TornTail {
                segment: segment_path(dir, segment.base),
                offset: segment.end.into(),
                bytes: (segment.content_end - segment.end).into(),
                next_seq: Seq(segment.next()),
            });
        }
    }
}

/// A segment that another one follows must reach up to that one's first record. Takes off what goes beyond.
pub(crate) fn judge_sealed(dir: &Path, segment: &mut Scan, limit: u64) -> Vec<Damage> {
    let mut damage = Vec::new();
    report_header(dir, segment, &mut damage);
    report_gaps(dir, segment, &mut damage);
    let (next, end) = (segment.next(), u64::from(segment.end));
    let kind =
        if segment.tail_is_bad() || next > limit { DamageKind::Bytes } else { DamageKind::Missing };
    if next != limit || segment.tail_is_bad() {
        let (first_seq, last_seq) = (Seq(next.min(limit)), Seq(limit));
        let segment = segment_path(dir, segment.base);
        damage.push(Damage { segment, offset: end, first_seq, last_seq, kind });
    }
    segment.records.truncate((limit - segment.base) as usize);
    damage
}

fn report_header(dir: &Path, segment: &Scan, damage: &mut Vec<Damage>) {
    if segment.header == HeaderState::Damaged {
        damage.push(header_damage(dir, segment.base));
    }
}

fn report_gaps(dir: &Path, segment: &Scan, damage: &mut Vec<Damage>) {
    damage.extend(segment.gaps.iter().map(|gap| Damage {
        segment: segment_path(dir, segment.base),
        offset: gap.offset.into(),
        first_seq: Seq(gap.first),
        last_seq: Seq(gap.last),
        kind: DamageKind::Bytes,
    }));
}

fn header_damage(dir: &Path, base: u64) -> Damage {
    let kind = DamageKind::Header;
    Damage {
        segment: segment_path(dir, base),
        offset: 0,
        first_seq: Seq(base),
        last_seq: Seq(base),
        kind,
    }
}
