//! What an agent refuses to do, and what it says then.

use logseal::site::{AgentOptions, LedgerOptions};
use logseal_tests::{LIMIT, Running, kong_source, new_site, wait_for};
use std::{fs::File, io::Write, net::TcpListener};

fn filled() -> Running {
    let running = Running::start(kong_source);
    let mut file = File::create(running.site.path("kong.log")).unwrap();
    (0..50).for_each(|n| writeln!(file, "{{\"n\":{n}}}").unwrap());
    running.wait_receipted(50);
    running
}

#[test]
fn an_agent_whose_spool_was_deleted_does_not_start_again_at_zero() {
    let mut running = filled();
    running.agent.stop(LIMIT).unwrap();
    std::fs::remove_dir_all(running.site.path("gw01-spool")).unwrap();
    let mut agent = running.site.spawn("logseal-agent", "gw01.toml", "again.log").unwrap();
    let status = agent.wait(LIMIT).unwrap();
    let said = agent.log_text();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("50") && said.contains("backup") && said.contains("enrol"), "{said}");
    assert_eq!(running.records().len(), 50);
}

#[test]
fn an_agent_with_an_old_copy_of_its_spool_does_not_rewrite_history() {
    let mut running = filled();
    running.agent.stop(LIMIT).unwrap();
    let (spool, copy) = (running.site.path("gw01-spool"), running.site.path("copy"));
    let copied = std::process::Command::new("cp").arg("-a").arg(&spool).arg(&copy).status();
    assert!(copied.unwrap().success());
    running.agent = running.site.start_agent("gw01").unwrap();
    let mut file = File::options().append(true).open(running.site.path("kong.log")).unwrap();
    (50..80).for_each(|n| writeln!(file, "{{\"n\":{n}}}").unwrap());
    running.wait_receipted(30);
    running.agent.stop(LIMIT).unwrap();
    std::fs::remove_dir_all(&spool).unwrap();
    std::fs::rename(&copy, &spool).unwrap();
    let mut agent = running.site.spawn("logseal-agent", "gw01.toml", "again.log").unwrap();
    wait_for("the agent to refuse", || {
        let said = agent.log_text();
        (said.contains("80") && (said.contains("spool") || said.contains("older"))).then_some(())
    });
    let _ = agent.kill();
    assert_eq!(running.records().len(), 80);
}

#[test]
fn a_second_agent_with_the_same_name_is_told_so() {
    let running = filled();
    let [metrics] = logseal::site::free_ports().unwrap();
    let text = std::fs::read_to_string(running.site.path("gw01.toml")).unwrap();
    let text = text
        .replace("gw01-spool", "twin-spool")
        .replace(&format!(":{}\"", running.site.agent_metrics_port), &format!(":{metrics}\""));
    std::fs::write(running.site.path("twin.toml"), text).unwrap();
    let twin = running.site.spawn("logseal-agent", "twin.toml", "twin.log").unwrap();
    wait_for("the twin to be told", || twin.log_text().contains("another").then_some(()));
    assert_eq!(running.records().len(), 50);
}

#[test]
fn a_mistake_in_the_agents_configuration_is_named_with_its_line() {
    let (_dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let sources = kong_source(&site) + &site.syslog_source();
    site.configure_agent(&AgentOptions::new("gw01", sources)).unwrap();
    let path = site.path("gw01.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let line_of = |needle: &str| good.lines().position(|line| line.contains(needle)).unwrap() + 1;
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let output = std::process::Command::new(site.programs.path("logseal-agent"))
            .args(["check", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said + &String::from_utf8_lossy(&output.stdout))
    };
    site.output("logseal-agent", &["key", "--config", &path.display().to_string()]).unwrap();
    let (code, said) = check(&good);
    assert_eq!(code, Some(0), "{said}");
    let cases = [
        ("linger_ms = 50", "lingre_ms = 50", "linger_ms"),
        ("linger_ms = 50", "linger_ms = 5000", "linger_ms"),
        ("format = \"kong\"", "format = \"king\"", "format = "),
        ("name = \"gw01\"", "name = \"gw02\"", ""),
        ("ca.pem", "nowhere.pem", "ca.pem"),
    ];
    for (from, to, line) in cases {
        let (code, said) = check(&good.replacen(from, to, 1));
        assert_eq!(code, Some(2), "{said}");
        if !line.is_empty() {
            let place = format!("gw01.toml:{}", line_of(line));
            assert!(said.contains(&place), "{place} in {said}");
        }
    }
}

#[test]
fn a_syslog_port_in_use_is_named() {
    let mut running = filled();
    running.agent.stop(LIMIT).unwrap();
    let site = &running.site;
    let sources = kong_source(site) + &site.syslog_source();
    site.configure_agent(&AgentOptions::new("gw01", sources)).unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", site.syslog_port)).unwrap();
    let mut agent = site.spawn("logseal-agent", "gw01.toml", "again.log").unwrap();
    let status = agent.wait(LIMIT).unwrap();
    let said = agent.log_text();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{}", site.syslog_port)), "{said}");
}

#[test]
fn a_spool_is_not_opened_by_two_processes() {
    let running = filled();
    let mut second = running.site.spawn("logseal-agent", "gw01.toml", "second.log").unwrap();
    let status = second.wait(LIMIT).unwrap();
    assert_eq!(status.code(), Some(1), "{}", second.log_text());
    assert!(second.log_text().contains("in use"), "{}", second.log_tail());
}
