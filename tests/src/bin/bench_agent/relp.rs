//! A stock rsyslog that hands over with RELP over TLS, with its default window.

use crate::LIMIT;
use logseal::{demo::Meter, site::Site};
use logseal_tests::{
    figures::{Usage, write_corpus},
    rsyslog_pair, wait_for,
};
use std::{path::Path, time::Instant};

/// What one round took.
pub struct Round {
    pub per_second: f64,
    pub us: f64,
}

/// The agent's source.
pub fn source(port: u16) -> String {
    format!("[[source.relp]]\nname = \"relp\"\nlisten = \"127.0.0.1:{port}\"\n")
}

/// One round, with both ends started for it.
pub fn round(site: &Site, port: u16, messages: u64, number: u64) -> Round {
    let dir = site.path(format!("relp-{number}"));
    for folder in ["logs", "sender"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    let mut agent = site.start_agent("gw01").unwrap();
    let meter = Meter::new(site.agent_metrics_port);
    let taken = || {
        let text = meter.text().unwrap_or_default();
        let name = "logseal_agent_source_lines_total{source=\"relp\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    let mut sender = rsyslog_pair::process(&dir, "sender", &sender_conf(site, port, &dir));
    let hidden = dir.join("corpus");
    write_corpus(&hidden, number + 1, messages);
    let (before, begun) = (Usage::of(&agent), Instant::now());
    std::fs::rename(&hidden, dir.join("logs/corpus.log")).unwrap();
    wait_for("all messages", || (taken() >= messages).then_some(()));
    let took = begun.elapsed();
    let us = Usage::of(&agent).cpu_us_since(&before, messages);
    sender.stop(LIMIT).unwrap();
    agent.stop(LIMIT).unwrap();
    let per_second = messages as f64 / took.as_secs_f64();
    println!("relp        round {}: {per_second:.0} messages/s, {us:.2} µs a message", number + 1);
    Round { per_second, us }
}

fn sender_conf(site: &Site, port: u16, dir: &Path) -> String {
    format!(
        "global(workDirectory={:?} maxMessageSize=\"64k\")\n\
         module(load=\"imfile\")\nmodule(load=\"omrelp\" tls.tlslib=\"openssl\")\n\
         input(type=\"imfile\" file={:?} tag=\"kong\" ruleset=\"forward\")\n\
         ruleset(name=\"forward\") {{ action(type=\"omrelp\" target=\"127.0.0.1\" port=\"{port}\" tls=\"on\"\n\
         tls.caCert={:?} tls.myCert={:?} tls.myPrivKey={:?} tls.authMode=\"name\"\n\
         tls.permittedPeer=[\"gw01\"] template=\"RSYSLOG_SyslogProtocol23Format\"\n\
         action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\") }}\n",
        dir.join("sender"),
        dir.join("logs/*.log"),
        site.path("pki/ca.pem"),
        site.cert("syslog-client", "web01"),
        site.key("syslog-client", "web01"),
    )
}
