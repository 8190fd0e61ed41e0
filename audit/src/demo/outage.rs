//! What a ledger of several nodes bears: a node is killed, another loses its disk, and both come
//! back while the traffic goes on.

use super::{Running, SETTLE, say, watch::Watcher};
use crate::{
    client::ClientArgs,
    output::{Failure, fail},
    site::Site,
    status::{Overview, Row, ask_all},
};
use std::time::{Duration, Instant};

/// How long a node may take to be back: to fetch what it lacks, and to see a height decided.
const BACK: Duration = Duration::from_secs(90);
/// The node that is killed: the one to which the agent sends first.
const KILLED: usize = 0;
/// The node whose store is lost.
const WIPED: usize = 1;
/// No checkpoint of this demo is old enough to be alarmed on.
const MAX_AGE: u64 = 3600;

/// Shows both, one after the other; gives back the node whose store was lost, or the first that
/// runs after Ctrl-C.
pub(super) fn show(
    running: &mut Running,
    watcher: &Watcher,
    down: Duration,
) -> Result<usize, Failure> {
    let back = kill(running, watcher, down)? && wipe(running, watcher)?;
    watcher.say()?;
    let runs = running.nodes.iter_mut().position(|node| node.is_running());
    Ok(if back { WIPED } else { runs.unwrap_or(0) })
}

/// Kills a node and brings it back. False after Ctrl-C.
fn kill(running: &mut Running, watcher: &Watcher, down: Duration) -> Result<bool, Failure> {
    let name = running.site.node_name(KILLED);
    let before = watcher.meter.read()?.receipted;
    running.nodes[KILLED].kill().map_err(fail)?;
    say("outage", &format!("{name}, to which the agent sends, killed with SIGKILL"));
    let committed = || Ok(Some(watcher.meter.read()?.receipted).filter(|now| *now > before));
    if watcher.wait("waiting for receipts from the others", SETTLE, committed)?.is_none() {
        return Ok(false);
    }
    watcher.watch(Some(down))?;
    let (more, others) = (watcher.meter.read()?.receipted - before, running.nodes.len() - 1);
    say("outage", &format!("the other {others} committed {more} records without it"));
    running.nodes[KILLED] = running.site.spawn_node(KILLED, &[]).map_err(fail)?;
    say("restart", &format!("{name}, process {}", running.nodes[KILLED].pid()));
    come_back(running, watcher, KILLED)
}

/// Takes a node's store away and lets it rejoin. False after Ctrl-C.
fn wipe(running: &mut Running, watcher: &Watcher) -> Result<bool, Failure> {
    let name = running.site.node_name(WIPED);
    running.nodes[WIPED].kill().map_err(fail)?;
    let store = running.site.node_dir(WIPED).join("store");
    std::fs::remove_dir_all(&store).map_err(Failure::file(&store))?;
    say("lost disk", &format!("{name} killed and its whole store removed"));
    running.nodes[WIPED] = running.site.spawn_node(WIPED, &["--rejoin"]).map_err(fail)?;
    let pid = running.nodes[WIPED].pid();
    say("rejoin", &format!("{name}, process {pid}: 'logseal-ledger run --rejoin'"));
    come_back(running, watcher, WIPED)
}

/// Waits until a node votes and has the height that the others had when it was started.
fn come_back(running: &mut Running, watcher: &Watcher, index: usize) -> Result<bool, Failure> {
    let (begun, name) = (Instant::now(), running.site.node_name(index));
    let Running { site, nodes, .. } = running;
    let node = &mut nodes[index];
    let highest = |overview: &Overview| overview.rows.iter().filter_map(|row| row.height).max();
    let target = highest(&overview(site)?).unwrap_or(0);
    let back = || {
        if !node.is_running() {
            return Err(Failure(format!("{name} ended:\n{}", node.log_tail())));
        }
        let now = overview(site)?;
        Ok(now.rows.iter().find_map(|row| caught_up(row, name.as_str(), target)))
    };
    let what = format!("waiting for {name} to be at height {target} and to vote");
    let Some(height) = watcher.wait(&what, BACK, back)? else { return Ok(false) };
    let took = begun.elapsed().as_secs_f64();
    say("back", &format!("{name} votes again, at height {height} of {target}, after {took:.1} s"));
    Ok(true)
}

/// The height of the node `name` if it answers, votes, and has at least `target`.
fn caught_up(row: &Row, name: &str, target: u64) -> Option<u64> {
    let answers = row.name == name && !row.checkpoint.is_empty();
    row.height.filter(|height| answers && row.voting && *height >= target)
}

/// Waits until all nodes that run have the same newest checkpoint, so that any of them may be read.
pub(super) fn wait_agreed(running: &mut Running) -> Result<(), Failure> {
    let count = running.nodes.iter_mut().filter_map(|node| node.is_running().then_some(())).count();
    if running.nodes.len() == 1 {
        return Ok(());
    }
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = overview(&running.site)?;
        if let Some(problem) = now.broken.first() {
            return Err(Failure(problem.clone()));
        }
        let texts = now.rows.iter().map(|row| row.checkpoint.as_str()).filter(|t| !t.is_empty());
        if let Some(size) = one_checkpoint(texts, count) {
            say("agree", &format!("{count} nodes hold the same {size} entries under one root"));
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure(format!("the nodes do not have one checkpoint within {SETTLE:?}")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The size of the checkpoint that `count` nodes have, if all of them have the same.
fn one_checkpoint<'a>(mut texts: impl Iterator<Item = &'a str>, count: usize) -> Option<&'a str> {
    // Origin, size and root; signatures differ.
    let head = |text: &'a str| text.lines().take(3).collect::<Vec<_>>();
    let first = head(texts.next()?);
    let rest = texts.map(head).try_fold(1, |seen, other| (other == first).then_some(seen + 1))?;
    (rest == count).then(|| first.get(1).copied())?
}

fn overview(site: &Site) -> Result<Overview, Failure> {
    let client = ClientArgs::from_file(&site.path("auditor.toml")).resolve()?;
    Ok(Overview::new(&ask_all(&client)?, service::clock::now().0, MAX_AGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_back_only_when_it_answers_votes_and_lacks_nothing() {
        let back = Row {
            name: "node1".into(),
            voting: true,
            height: Some(9),
            checkpoint: "l.example\n4\nroot\n".into(),
            ..Row::default()
        };
        assert_eq!(caught_up(&back, "node1", 9), Some(9));
        assert_eq!(caught_up(&back, "node2", 9), None);
        assert_eq!(caught_up(&back, "node1", 10), None);
        assert_eq!(caught_up(&Row { voting: false, ..back.clone() }, "node1", 9), None);
        assert_eq!(caught_up(&Row { checkpoint: String::new(), ..back }, "node1", 9), None);
    }

    #[test]
    fn nodes_agree_when_all_of_them_have_one_checkpoint() {
        let (a, b) = ("l.example\n4\nroot\n\n- a\n", "l.example\n4\nroot\n\n- b\n");
        assert_eq!(one_checkpoint([a, b].into_iter(), 2), Some("4"));
        assert_eq!(one_checkpoint([a, b].into_iter(), 3), None);
        assert_eq!(one_checkpoint([a, "l.example\n5\nroot\n"].into_iter(), 2), None);
        assert_eq!(one_checkpoint([].into_iter(), 0), None);
    }
}
