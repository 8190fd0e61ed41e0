//! Disks that refuse, at the agent: a sync that fails, a file system that is full at whatever call comes next. strace makes
//! the system calls of a real agent fail while it follows a file and answers an rsyslog that sends by RELP.

use crate::{
    disk::endless_noise,
    failing::{End, NEEDING_SPACE, access_log, all_below, end, expect_reason, made_by_journal},
    full::shadow,
    relp::{expect_all, lasting_port, listening, plain_action, plain_source},
    relp_breaks::load,
    rsyslog,
};
use logseal::site::{AgentOptions, LedgerOptions, Site, free_ports};
use logseal_tests::{
    LIMIT,
    cluster::{Dice, tell},
    faults::{Failing, Fault},
    file_source, new_site, wait_for,
};
use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const ROUNDS: usize = 10;
const LOAD: Duration = Duration::from_secs(2);

fn sources(site: &Site, port: u16) -> String {
    plain_source(port) + &file_source("plain", &site.path("plain.log"), "raw")
}

/// Feeds an agent whose system calls fail, round after round; in the end the ledger must have everything, once. Answers
/// with how many rounds ended the agent, and how many did not.
fn survive(
    what: &str,
    mut next: impl FnMut() -> Vec<u8>,
    fault: impl Fn(&Site, &mut Dice) -> Fault,
) -> [usize; 2] {
    let port = lasting_port();
    let mut running = listening(|site| sources(site, port), port);
    let rsyslog = rsyslog::start_with(&running.site, &plain_action(port));
    let load = load(rsyslog.port);
    // rsyslog 8.2302 has its very first message twice if nobody takes its first connection.
    wait_for("the first message", || (!running.lines("relp").is_empty()).then_some(()));
    let mut file = File::create(running.site.path("plain.log")).unwrap();
    let (mut lines, mut dice) = (Vec::new(), Dice::new(77));
    let [mut ended, mut went_on, mut failed] = [0; 3];
    for round in 0..ROUNDS {
        running.agent.stop(LIMIT).unwrap();
        let fault = fault(&running.site, &mut dice);
        let mut failing = Failing::agent(&running.site, &fault);
        let begun = Instant::now();
        while begun.elapsed() < LOAD && failing.is_running() {
            for _ in 0..20 {
                let line = next();
                file.write_all(&[line.as_slice(), b"\n"].concat()).unwrap();
                lines.push(line);
            }
            dice.pause(Duration::from_millis(40));
        }
        let over = end(&mut failing, round % 2 == 0);
        failed += failing.failed();
        match over {
            End::Ours => went_on += 1,
            End::Its => {
                ended += 1;
                expect_reason(&failing, &format!("round {round}, {}", fault.how));
            }
        }
        running.agent = running.site.start_agent("gw01").unwrap();
    }
    let sent = load.end();
    expect_all(&running, &sent);
    let found = wait_for("the file's last line", || {
        Some(running.lines("plain")).filter(|found| found.len() >= lines.len())
    });
    assert!(found == lines, "every line once and in order");
    assert!(failed >= ROUNDS / 2, "only {failed} calls failed");
    tell(&format!(
        "{what}: {failed} failed in {ROUNDS} rounds, {ended} ended the agent, {went_on} did not; {} lines of a file, {} \
         messages by RELP, 0 lost, 0 twice",
        lines.len(),
        sent.len()
    ));
    [ended, went_on]
}

#[test]
fn after_a_sync_that_failed_the_agent_stops_and_nothing_it_answered_for_is_lost() {
    let calls = "fdatasync,fsync";
    let [ended, _] = survive(calls, access_log(), |_, dice| {
        let error = ["EIO", "ENOSPC"][dice.below(2) as usize];
        Fault::of(calls, format!("error={error}:when={}", 1 + dice.below(25)))
    });
    assert!(ended * 2 > ROUNDS, "an agent syncs all the time");
}

#[test]
fn a_disk_that_is_full_at_any_write_of_the_agent_costs_nothing() {
    let calls = "pwrite64,pwritev,fallocate";
    let [_, went_on] = survive(calls, access_log(), |_, dice| {
        let first = 1 + dice.below(40);
        Fault::of(calls, format!("error=ENOSPC:when={first}..{}", first + 1 + dice.below(5)))
    });
    assert!(went_on * 2 > ROUNDS, "most of these are waited for");
}

#[test]
fn a_disk_that_is_full_for_new_files_of_the_agent_costs_nothing() {
    let calls = "openat,write,writev,rename";
    // So much that every round needs a new segment.
    let mut noise = endless_noise();
    survive(
        calls,
        || noise.next().unwrap_or_default(),
        |site, dice| {
            let first = 1 + dice.below(2);
            let how = format!("error=ENOSPC:when={first}..{}", first + dice.below(3));
            Fault::of(calls, how).on(made_by_journal(&site.path("gw01-spool"), 2000))
        },
    );
}

#[test]
fn an_agent_whose_first_start_finds_a_full_disk_starts_when_there_is_space() {
    let (_dir, site) = new_site();
    let log = site.path("plain.log");
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let mut agent = AgentOptions::new("gw01", file_source("plain", &log, "raw"));
    let ([port], reports, socket) =
        (free_ports().unwrap(), site.path("shadow"), site.path("gw01.sock"));
    agent.extra = shadow(&reports, port);
    site.configure_agent(&agent).unwrap();
    let _ledger = site.start_ledger().unwrap();
    site.enrol("gw01").unwrap();
    let spool = site.path("gw01-spool");
    let begun = || spool.join(format!("{:020}.seg", 0)).exists();
    let mut healthy = site.start_agent("gw01").unwrap();
    wait_for("the agent's log to begin", || begun().then_some(()));
    let mut places = all_below(&spool);
    assert!(socket.exists());
    places.extend([socket, reports.clone()]);
    healthy.stop(LIMIT).unwrap();
    let [mut ended, mut went_on, mut failed] = [0; 3];
    for (place, calls) in places.iter().flat_map(|p| NEEDING_SPACE.map(|calls| (p, calls))) {
        fs::remove_dir_all(&spool).unwrap();
        fs::remove_dir_all(&reports).unwrap();
        let fault = Fault::of(calls, "error=ENOSPC:when=1").on(vec![place.clone()]);
        let mut failing = Failing::agent(&site, &fault);
        wait_for("its log or its end", || (begun() || !failing.is_running()).then_some(()));
        failed += failing.failed();
        if failing.is_running() {
            went_on += 1;
            failing.stop();
        } else {
            ended += 1;
            expect_reason(&failing, &format!("{calls} at {}", place.display()));
        }
        let mut agent = site.start_agent("gw01").unwrap();
        wait_for("the agent's log to begin", || begun().then_some(()));
        agent.stop(LIMIT).unwrap();
    }
    tell(&format!(
        "{failed} calls failed at {} places in an empty spool: {ended} ended the agent, {went_on} did not, and it starts after all",
        places.len()
    ));
}

/// Runs a program of the site that makes keys, so that the disk is full for this file; what it said.
fn make_keys(site: &Site, [program, command, config]: [&str; 3], fault: Option<&Fault>) -> String {
    let program = site.programs.path(program).display().to_string();
    let config = site.path(config).display().to_string();
    let mut words = fault.map_or(vec![], |fault| {
        [vec!["strace".to_owned()], fault.arguments(Path::new("/dev/null"))].concat()
    });
    words.extend([program, command.to_owned(), "--config".to_owned(), config]);
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert_eq!(output.status.success(), fault.is_none(), "{words:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_key_that_a_full_disk_kept_from_being_made_is_made_when_there_is_space() {
    let (_dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let agent = AgentOptions::new("gw01", file_source("plain", &site.path("plain.log"), "raw"));
    site.configure_agent(&agent).unwrap();
    let node_keys = ["log", "cosigner", "consensus"].map(|name| format!("keys/{name}.key"));
    let [a, b, c] = node_keys.each_ref().map(String::as_str);
    for (program, key) in [
        (["logseal-agent", "key", "gw01.toml"], "gw01-seal.key"),
        (["logseal-ledger", "keys", "ledger.toml"], a),
        (["logseal-ledger", "keys", "ledger.toml"], b),
        (["logseal-ledger", "keys", "ledger.toml"], c),
    ] {
        let key = site.path(key);
        for calls in ["openat", "write", "fsync", "linkat"] {
            let _ = fs::remove_file(&key);
            let places = vec![key.clone(), Path::new(&format!("{}.new", key.display())).to_owned()];
            let fault = Fault::of(calls, "error=ENOSPC:when=1").on(places);
            let said = make_keys(&site, program, Some(&fault));
            assert!(said.contains("free space"), "{calls}: {said}");
            assert!(!key.exists(), "{calls}: no part of a key");
            make_keys(&site, program, None);
            assert!(key.exists());
        }
    }
}
