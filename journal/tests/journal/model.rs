//! The journal against a naive model, a list of payloads, under random use and random crashes.

use logseal_journal::{Journal, Options, Seq};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{assert_holds, crash_image, open, payload};

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    Release(prop::sample::Index),
    Reopen,
    /// Chunk size, and which chunks of what was not acknowledged reached the disk.
    Crash(usize, Vec<bool>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop_oneof![0..40_usize, 0..400_usize].prop_map(Step::Append),
        4 => Just(Step::Sync),
        1 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => Just(Step::Reopen),
        2 => (prop::sample::select(vec![8_usize, 64, 512]), prop::collection::vec(any::<bool>(), 1..40))
            .prop_map(|(chunk, kept)| Step::Crash(chunk, kept)),
    ]
}

/// A journal and all payloads ever appended to it.
struct Model {
    dir: TempDir,
    journal: Option<Journal>,
    options: Options,
    records: Vec<Vec<u8>>,
    written: u64,
}

impl Model {
    fn new(options: Options) -> Model {
        let dir = tempfile::tempdir().unwrap();
        let journal = Some(open(dir.path(), options).0);
        Model { dir, journal, options, records: Vec::new(), written: 0 }
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append(length) => {
                self.written += 1;
                let record = payload(self.written, length);
                let seq =
                    self.journal().append(&[&record[..length / 2], &record[length / 2..]]).unwrap();
                assert_eq!(seq, Seq(self.records.len() as u64));
                self.records.push(record);
            }
            Step::Sync => {
                assert_eq!(self.journal().sync().unwrap(), Seq(self.records.len() as u64));
            }
            Step::Release(index) => {
                let upto = Seq(index.index(self.journal().durable().0 as usize + 1) as u64);
                let first = self.journal().first_seq();
                self.journal().release(upto).unwrap();
                assert!(self.journal().first_seq() <= upto.max(first));
            }
            Step::Reopen => {
                self.journal.take().unwrap().close().unwrap();
                self.start(self.records.len() as u64);
            }
            Step::Crash(chunk, kept) => {
                let durable = self.journal().durable();
                let image = tempfile::tempdir().unwrap();
                let mut kept = kept.into_iter().cycle();
                crash_image(self.dir.path(), image.path(), durable, chunk, || kept.next().unwrap());
                self.journal = None;
                self.dir = image;
                self.start(durable.0);
            }
        }
        let journal = self.journal.as_ref().unwrap();
        let (first, durable) = (journal.first_seq(), journal.durable());
        assert_eq!(journal.next_seq(), Seq(self.records.len() as u64));
        assert_holds(&journal.reader(), first, &self.records[first.0 as usize..durable.0 as usize]);
    }

    fn start(&mut self, acknowledged: u64) {
        let (journal, recovery) = open(self.dir.path(), self.options);
        let next = recovery.next_seq.0;
        assert_eq!(recovery.damage, []);
        assert!((acknowledged..=self.records.len() as u64).contains(&next));
        self.records.truncate(next as usize);
        self.journal = Some(journal);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_use_and_no_crash_loses_what_was_acknowledged(
        segment_bytes in prop::sample::select(vec![128_u64, 512, 4096]),
        buffer_bytes in prop::sample::select(vec![0_usize, 200, 1 << 16]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(Options { segment_bytes, max_record_bytes: 1000, buffer_bytes, ..Options::default() });
        for step in steps {
            model.take(step);
        }
    }
}
