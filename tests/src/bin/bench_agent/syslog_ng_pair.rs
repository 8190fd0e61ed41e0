//! A syslog-ng that carries the same lines: file → mutual TLS → file.

use logseal::site::{Process, Site, free_ports};
use logseal_tests::{syslog_ng, wait_for};
use std::{net::TcpStream, path::Path};

/// Starts both ends in a folder, of which nothing is kept that was there.
pub fn start(site: &Site, dir: &Path) -> (Process, Process) {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir.join("buffer")).unwrap();
    std::fs::File::create(dir.join("log")).unwrap();
    let [port] = free_ports().unwrap();
    let receiver = syslog_ng::process(&dir.join("receiver"), &receiver_conf(site, dir, port));
    wait_for("syslog-ng to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
    let sender = syslog_ng::process(&dir.join("sender"), &sender_conf(site, dir, port));
    (sender, receiver)
}

fn tls(site: &Site, role: &str, name: &str) -> String {
    format!(
        "tls(ca-file({:?}) cert-file({:?}) key-file({:?}) peer-verify(required-trusted))",
        site.path("pki/ca.pem"),
        site.cert(role, name),
        site.key(role, name),
    )
}

fn receiver_conf(site: &Site, dir: &Path, port: u16) -> String {
    format!(
        "options {{ log-msg-size(65536); stats-freq(0); }};\n\
         source s {{ syslog(ip(127.0.0.1) port({port}) transport(\"tls\") {}); }};\n\
         destination d {{ file({:?} template(\"$MSG\\n\")); }};\n\
         log {{ source(s); destination(d); }};\n",
        tls(site, "agent", "gw01"),
        dir.join("output"),
    )
}

fn sender_conf(site: &Site, dir: &Path, port: u16) -> String {
    format!(
        "options {{ log-msg-size(65536); stats-freq(0); }};\n\
         source s {{ file({:?} follow-freq(1) flags(no-parse)); }};\n\
         destination d {{ syslog(\"127.0.0.1\" port({port}) transport(\"tls\") {}\n\
           disk-buffer(reliable(no) disk-buf-size(268435456) dir({:?}))); }};\n\
         log {{ source(s); destination(d); flags(flow-control); }};\n",
        dir.join("log"),
        tls(site, "syslog-client", "web01"),
        dir.join("buffer"),
    )
}
