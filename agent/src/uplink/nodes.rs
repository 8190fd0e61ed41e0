//! Pure: which node is tried next. The nearest one that is healthy, in the order of the configuration
//! where several are about as near.
//!
//! How near a node is shows in the time from the first packet to its welcome. A node that failed is
//! put behind those that did not, for a pause that doubles with each failure until it gives a
//! receipt again. No node is left out: in a round each is tried once.

use std::time::{Duration, Instant};

/// Below this, nodes are equally near: it is the noise of handshakes within one building.
const NEAR: Duration = Duration::from_millis(8);
/// The pause after the first failure, and the longest.
const AVOIDED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// So many failures a lie counts as.
const LIE: u32 = 10;

/// What is known of each node, by its place in the configuration.
#[derive(Debug)]
pub(super) struct Nodes(Vec<Health>);

#[derive(Clone, Debug, Default)]
struct Health {
    /// How long its greeting takes, smoothed; unknown before the first.
    greeting: Option<Duration>,
    /// Failures since its last receipt.
    failures: u32,
    avoided_until: Option<Instant>,
}

impl Nodes {
    pub(super) fn new(count: usize) -> Self {
        Nodes(vec![Health::default(); count])
    }

    /// The node to try, among those that were not `tried` in this round.
    pub(super) fn next(&self, tried: &[bool], now: Instant) -> Option<usize> {
        let untried = self.0.iter().enumerate().filter(|(index, _)| !tried[*index]);
        let best = untried.min_by_key(|(index, health)| {
            let failures = if health.is_healthy(now) { 0 } else { health.failures };
            (failures, health.distance(), *index)
        });
        best.map(|(index, _)| index)
    }

    /// True if some node is not avoided at the moment.
    pub(super) fn any_healthy(&self, now: Instant) -> bool {
        self.0.iter().any(|health| health.is_healthy(now))
    }

    /// The nodes that may be looked at to find one that is nearer than this one.
    pub(super) fn others(&self, current: usize, now: Instant) -> Vec<usize> {
        let all = self.0.iter().enumerate();
        all.filter(|(index, health)| *index != current && health.is_healthy(now))
            .map(|(index, _)| index)
            .collect()
    }

    /// True if some healthy node is clearly nearer: half the time, and by more than noise.
    pub(super) fn has_nearer(&self, current: usize, now: Instant) -> bool {
        let here = &self.0[current];
        self.others(current, now).iter().map(|index| &self.0[*index]).any(|there| {
            there.distance() < here.distance()
                && matches!((there.greeting, here.greeting), (Some(t), Some(h)) if t * 2 <= h)
        })
    }

    /// A node said welcome after so long.
    pub(super) fn greeted(&mut self, index: usize, took: Duration) {
        let known = &mut self.0[index].greeting;
        *known = Some(known.map_or(took, |known| (known * 3 + took) / 4));
    }

    /// A node's receipts were verified: what was before is forgotten.
    pub(super) fn receipted(&mut self, index: usize) {
        let health = &mut self.0[index];
        (health.failures, health.avoided_until) = (0, None);
    }

    /// A node failed; one that lied is avoided for the longest pause at once.
    pub(super) fn failed(&mut self, index: usize, lied: bool, now: Instant) {
        let (shortest, longest) = AVOIDED;
        let health = &mut self.0[index];
        let before = health.failures.max(if lied { LIE } else { 0 });
        let pause = (shortest * (1 << before.min(LIE))).min(longest);
        health.failures = before.saturating_add(1);
        health.avoided_until = Some(now + pause);
    }
}

impl Health {
    fn is_healthy(&self, now: Instant) -> bool {
        self.avoided_until.is_none_or(|until| until <= now)
    }

    /// Unknown is farthest. In doublings, so that small differences leave the order of the configuration.
    fn distance(&self) -> u32 {
        let greeting = self.greeting.unwrap_or(Duration::MAX).max(NEAR);
        u64::try_from(greeting.as_millis()).unwrap_or(u64::MAX).ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(nodes: &Nodes, now: Instant) -> Vec<usize> {
        let mut tried = vec![false; nodes.0.len()];
        std::iter::from_fn(|| {
            let next = nodes.next(&tried, now)?;
            tried[next] = true;
            Some(next)
        })
        .collect()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_nearest_comes_first_and_the_configuration_decides_between_equals() {
        let now = Instant::now();
        let mut nodes = Nodes::new(4);
        assert_eq!(order(&nodes, now), [0, 1, 2, 3]);
        for (index, took) in [(0, 90), (1, 7), (2, 3), (3, 20)] {
            nodes.greeted(index, ms(took));
        }
        assert_eq!(order(&nodes, now), [1, 2, 3, 0]);
        // One slow greeting does not make a near node a distant one.
        nodes.greeted(1, ms(30));
        assert_eq!(order(&nodes, now)[0], 1);
    }

    #[test]
    fn a_node_that_failed_stands_behind_the_others_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut nodes = Nodes::new(3);
        (0..3).for_each(|index| nodes.greeted(index, ms(5)));
        for pause in [1, 2, 4, 8] {
            nodes.failed(0, false, now);
            let end = now + Duration::from_secs(pause);
            assert_eq!(order(&nodes, end - ms(1)), [1, 2, 0]);
            assert_eq!(order(&nodes, end), [0, 1, 2]);
            now = end;
        }
        (0..40).for_each(|_| nodes.failed(0, false, now));
        assert_eq!(order(&nodes, now + AVOIDED.1), [0, 1, 2]);
        nodes.receipted(0);
        nodes.failed(0, false, now);
        assert_eq!(order(&nodes, now + ms(1001)), [0, 1, 2]);
        nodes.failed(1, true, now);
        assert_eq!(order(&nodes, now + AVOIDED.1 - ms(1)), [0, 2, 1]);
    }

    #[test]
    fn when_all_have_failed_the_one_that_failed_least_comes_first() {
        let now = Instant::now();
        let mut nodes = Nodes::new(3);
        for (index, failures) in [(0, 3), (1, 1), (2, 1)] {
            (0..failures).for_each(|_| nodes.failed(index, false, now));
        }
        assert_eq!(order(&nodes, now), [1, 2, 0]);
        nodes.failed(1, true, now);
        assert_eq!(order(&nodes, now), [2, 0, 1], "whoever lied comes last");
        assert!(!nodes.any_healthy(now) && nodes.any_healthy(now + ms(1001)));
    }

    #[test]
    fn a_node_is_left_only_for_one_that_is_clearly_nearer_and_healthy() {
        let now = Instant::now();
        let mut nodes = Nodes::new(3);
        nodes.greeted(0, ms(60));
        assert!(!nodes.has_nearer(0, now), "nothing is known of the others");
        nodes.greeted(1, ms(40));
        assert!(!nodes.has_nearer(0, now));
        nodes.greeted(2, ms(4));
        assert!(nodes.has_nearer(0, now) && nodes.has_nearer(1, now));
        nodes.failed(2, false, now);
        assert!(!nodes.has_nearer(0, now) && nodes.others(0, now) == [1]);
    }
}
