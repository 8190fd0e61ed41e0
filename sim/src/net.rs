//! The network between nodes: a connection a pair, two lanes a direction.
//!
//! While a connection is there, the messages of a lane arrive in order, unless the weather is bad
//! enough to lose, repeat or reorder them, which no real connection does. When it breaks, all that
//! is under way is lost, and both sides are told, sooner or later.

use crate::rng::Rng;

/// How bad a direction is. Chances are of 1000 messages, delays in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The shortest delay.
    pub delay: u64,
    /// How much longer it may take.
    pub jitter: u64,
    /// How many messages are lost.
    pub lost: u64,
    /// How many come twice.
    pub repeated: u64,
    /// How many overtake others.
    pub reordered: u64,
}

impl Weather {
    /// A good local network.
    pub const FINE: Weather =
        Weather { delay: 300, jitter: 700, lost: 0, repeated: 0, reordered: 0 };
}

/// A pair's connection.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Messages flow.
    pub up: bool,
    /// Nothing connects them for now.
    pub cut: bool,
    /// Counts connections: what belongs to an earlier one is lost.
    pub epoch: u64,
}

/// All connections.
pub struct Net {
    count: usize,
    pairs: Vec<Pair>,
    weather: Vec<Weather>,
    /// The last arrival of each lane of each direction, so that the next one comes after it.
    arrivals: Vec<[u64; 2]>,
    /// Counts what the weather did to messages: lost, repeated, reordered.
    pub harmed: [u64; 3],
}

impl Net {
    /// So many nodes, none connected, in fine weather.
    pub fn new(count: usize) -> Self {
        Net {
            count,
            pairs: vec![Pair { up: false, cut: false, epoch: 0 }; count * count],
            weather: vec![Weather::FINE; count * count],
            arrivals: vec![[0; 2]; count * count],
            harmed: [0; 3],
        }
    }

    /// The connection of two nodes.
    pub fn pair(&mut self, a: usize, b: usize) -> &mut Pair {
        &mut self.pairs[a.min(b) * self.count + a.max(b)]
    }

    /// The weather from one node to another.
    pub fn weather(&mut self, from: usize, to: usize) -> &mut Weather {
        &mut self.weather[from * self.count + to]
    }

    /// When a message that leaves now arrives; more than once if it is repeated, never if it is lost.
    pub fn send(
        &mut self,
        rng: &mut Rng,
        now: u64,
        (from, to): (usize, usize),
        lane: usize,
    ) -> Vec<u64> {
        let weather = *self.weather(from, to);
        if rng.permille(weather.lost) {
            self.harmed[0] += 1;
            return vec![];
        }
        let delay = |rng: &mut Rng| weather.delay + rng.within(0..weather.jitter + 1);
        let mut at = now + delay(rng);
        let last = &mut self.arrivals[from * self.count + to][lane];
        if rng.permille(weather.reordered) {
            self.harmed[2] += 1;
            at += rng.within(0..50_000);
        } else {
            at = at.max(*last + 1);
            *last = at;
        }
        let mut arrivals = vec![at];
        if rng.permille(weather.repeated) {
            self.harmed[1] += 1;
            arrivals.push(at + delay(rng) + rng.within(0..100_000));
        }
        arrivals
    }
}
