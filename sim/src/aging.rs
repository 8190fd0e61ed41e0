//! Worlds that grow old: years go by at once, operators declare, disks rot. Drawn from a stream of its own.

use crate::{
    plan::{Declare, Fault, Lie, Plan, Rotten},
    rng::Rng,
};
use record::FaultModel;

const SECOND: u64 = 1_000_000;

impl Plan {
    /// Lets some worlds grow old.
    pub fn grow_old(&mut self, dice: &mut Rng) {
        if !dice.permille(500) {
            return;
        }
        for _ in 0..dice.within(1..4) {
            let at = dice.within(self.calm / 5..self.calm * 4 / 5);
            self.faults.push((at, Fault::Age { days: dice.within(366..800) }));
        }
        for node in 0..self.nodes {
            self.retention[node] = dice.pick(&[365, 365, 365, 365, 400, 3650]);
        }
        for _ in 0..dice.within(4..16) {
            let node = dice.index(self.nodes);
            let what = declare(dice);
            self.late(dice, Fault::Declare { node, what });
        }
        for _ in 0..dice.pick(&[0, 2, 8]) {
            let node = dice.index(self.nodes);
            let block = Rotten::Block { permille: dice.within(0..1000) };
            let what = dice.pick(&[block, Rotten::Base, Rotten::Leaves]);
            self.late(dice, Fault::Rot { node, what });
        }
        for _ in 0..dice.within(0..4) {
            let (node, down) = (dice.index(self.nodes), dice.pick(&[20_000, SECOND, 4 * SECOND]));
            self.late(dice, Fault::Wipe { node, down });
        }
        self.draw_old_liars(dice);
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Something that goes wrong once there is a past.
    fn late(&mut self, dice: &mut Rng, fault: Fault) {
        let at = dice.within(self.calm / 3..self.calm);
        self.faults.push((at, fault));
    }

    fn draw_old_liars(&mut self, dice: &mut Rng) {
        let tolerated = self.model.tolerates(self.nodes);
        let may_lie = self.model == FaultModel::Byzantine && tolerated > 0;
        if self.liars.is_empty() && may_lie && dice.permille(300) {
            self.liars.insert(dice.index(self.nodes), vec![]);
        }
        for lies in self.liars.values_mut() {
            if lies.is_empty() || dice.permille(600) {
                lies.push(Lie::Base);
            }
        }
    }
}

fn declare(dice: &mut Rng) -> Declare {
    match dice.within(0..10) {
        0..2 => Declare::Drill,
        2..4 => Declare::Wrong(dice.within(0..7)),
        _ => Declare::Prune {
            permille: dice.pick(&[300, 700, 1000]),
            days: dice.pick(&[365, 365, 400, 500]),
        },
    }
}
