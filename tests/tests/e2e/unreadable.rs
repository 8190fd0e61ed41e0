//! A file that the agent may not read: said once, shown, tried again, and read when it may be.

use logseal::site::{AgentOptions, LedgerOptions, Process, Site};
use logseal_tests::{LIMIT, Running, file_source, new_site, wait_for};
use std::{
    fs::{File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

/// A user that owns nothing.
const NOBODY: u32 = 65534;

/// Starts the agent as a user whom file modes bind: the tests' own, or nobody if that is root.
fn start_bound(site: &Site) -> Process {
    if !rustix::process::geteuid().is_root() {
        return site.start_agent("gw01").unwrap();
    }
    give_away(&site.dir);
    // Where the programs were built may be closed to others.
    let program = site.path("logseal-agent");
    std::fs::copy(site.programs.path("logseal-agent"), &program).unwrap();
    let config = site.path("gw01.toml");
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let run = [program.to_str().unwrap(), "run", "--config", config.to_str().unwrap()];
    let args: Vec<&str> = words.into_iter().chain(run).collect();
    let log = site.path("gw01.log");
    // It cannot say that it is ready: the socket for that is not nobody's.
    Process::start(Path::new("setpriv"), &args, &log).unwrap()
}

fn give_away(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        path.read_dir().unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
}

/// What `status --json` says of the source; nothing before it has started.
fn status(running: &Running) -> Option<serde_json::Value> {
    let config = running.site.path("gw01.toml");
    let program = running.site.programs.path("logseal-agent");
    let args = ["status", "--json", "--config", config.to_str().unwrap()];
    let output = Command::new(program).args(args).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    status["sources"].get(0).cloned()
}

#[test]
fn a_file_without_permission_is_named_once_and_read_as_soon_as_it_may_be() {
    let (dir, site) = new_site();
    let log = site.path("closed.log");
    let mut file = File::create(&log).unwrap();
    file.write_all(b"before\n").unwrap();
    std::fs::set_permissions(&log, Permissions::from_mode(0o000)).unwrap();
    let mut running = Running::on(dir, site, LedgerOptions::default(), |site| {
        AgentOptions::new("gw01", file_source("closed", &site.path("other.log"), "raw"))
    });
    running.agent.stop(LIMIT).unwrap();
    let source = file_source("closed", &log, "raw");
    running.site.configure_agent(&AgentOptions::new("gw01", source)).unwrap();
    running.agent = start_bound(&running.site);
    let tried = wait_for("several attempts", || {
        status(&running).filter(|source| source["read_errors"].as_u64() >= Some(3))
    });
    assert_eq!(tried["lines"], 0);
    let said = running.agent.log_text();
    let named = |text: &str| text.lines().filter(|line| line.contains("cannot be read")).count();
    assert_eq!(named(&said), 1, "{said}");
    assert!(said.contains(log.to_str().unwrap()), "{said}");

    std::fs::set_permissions(&log, Permissions::from_mode(0o644)).unwrap();
    file.write_all(b"after\n").unwrap();
    running.wait_receipted(2);
    assert_eq!(running.lines("closed"), [b"before".to_vec(), b"after".to_vec()]);
}
