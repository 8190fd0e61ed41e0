//! A witness that nodes reach over HTTPS, as all real ones are: with a certificate of an authority
//! of its own, with one of a stranger, and with one for another host.

use logseal::{
    cluster::WitnessPlan,
    demo::Meter,
    site::{AgentOptions, LedgerOptions, Process, Site},
};
use logseal_tests::{
    LIMIT, Running, kong_source, new_site,
    outside::{Witness, monitor_once, raw_checkpoint, said, write_audit_policy},
    wait_for,
};
use rustix::process::Signal;
use std::{fs, path::Path, process::Command};

/// Has the witness listen on this address, with a certificate and key in its own folder.
fn serve_tls(witness: &Witness, address: &str) {
    let path = witness.dir.join("witness.toml");
    let text = fs::read_to_string(&path).unwrap();
    let listen = |line: &&str| line.starts_with("listen = ");
    let old = text.lines().find(listen).unwrap();
    let mut new = text.replacen(old, &format!("listen = \"{address}:{}\"", witness.port), 1);
    if !new.contains("\n[tls]") {
        new = new.replacen(
            "\n[[log]]",
            "\n[tls]\ncert = \"tls.pem\"\nkey = \"tls.key\"\n\n[[log]]",
            1,
        );
    }
    fs::write(&path, new).unwrap();
}

/// Gives the witness the certificate of a site's node, which is for 127.0.0.1.
fn give_certificate(witness: &Witness, of: &Site) {
    for (from, to) in [(of.cert("node", "node1"), "tls.pem"), (of.key("node", "node1"), "tls.key")]
    {
        let _ = fs::remove_file(witness.dir.join(to));
        fs::copy(from, witness.dir.join(to)).unwrap();
    }
}

fn plan(witness: &Witness, address: &str, ca: &Path) -> LedgerOptions {
    let url = format!("https://{address}:{}", witness.port).parse().unwrap();
    let plan = WitnessPlan { url, vkey: witness.vkey.clone(), ca: Some(ca.to_owned()) };
    LedgerOptions { renew_s: 1, witnesses: vec![plan], ..Default::default() }
}

/// Waits until the node logs, in one line, that the witness does not cosign and why.
fn wait_refused(node: &Process, why: &str) {
    wait_for(why, || {
        let log = node.log_text();
        let mut lines = log.lines().filter(|line| line.contains("does not cosign"));
        lines.any(|line| line.contains("witness.example/w1") && line.contains(why)).then_some(())
    });
}

fn status(site: &Site) -> (Option<i32>, String) {
    let mut command = Command::new(site.programs.path("logseal"));
    let output = command.args(["status", "--config"]).arg(site.path("auditor.toml")).output();
    let output = output.unwrap();
    (output.status.code(), said(&output))
}

#[test]
fn a_witness_is_believed_over_https_with_the_right_certificate_only() {
    let (dir, site) = new_site();
    let theirs = Site::make(&dir.path().join("theirs")).unwrap();
    let mut witness = Witness::make(&dir.path().join("witness"));
    let ca = theirs.path("pki/ca.pem");
    let options = plan(&witness, "127.0.0.1", &ca);
    site.configure_ledger(&options).unwrap();
    witness.add_ledger(&site);
    serve_tls(&witness, "127.0.0.1");
    // Of an authority that the nodes do not trust with this.
    give_certificate(&witness, &site);
    let mut process = witness.spawn();
    process.wait_ready(LIMIT).unwrap();
    let agent = |site: &Site| AgentOptions::new("gw01", kong_source(site));
    fs::write(site.path("kong.log"), "{}\n".repeat(50)).unwrap();
    let mut running = Running::on(dir, site, options, agent);
    // Agents wait for nobody outside.
    running.wait_receipted(50);
    wait_refused(&running.ledger, "comes from another CA");
    let site = &running.site;
    let (code, text) = status(site);
    assert_eq!(code, Some(0), "it is no rollback: {text}");
    assert!(text.contains("has cosigned nothing") && text.contains("another CA"), "{text}");
    let policy = write_audit_policy(site);
    let unwitnessed = monitor_once(site, &policy, &[]);
    assert_eq!(unwitnessed.status.code(), Some(2), "there is nothing yet: {}", said(&unwitnessed));

    // The witness's operator puts the right one in its place.
    give_certificate(&witness, &theirs);
    process.signal(Signal::HUP).unwrap();
    wait_for("the node to say so", || {
        let log = running.ledger.log_text();
        log.contains("the outside witness cosigns again").then_some(())
    });
    wait_for("the witness to have cosigned everything", || {
        let output = monitor_once(site, &policy, &[]);
        (said(&output).contains("\"records\":50") && output.status.success()).then_some(())
    });
    let note = String::from_utf8(raw_checkpoint(site, 0)).unwrap();
    assert!(note.contains("\n\u{2014} witness.example/w1 "), "{note}");
    let metric = "logseal_ledger_witness_contradicts{witness=\"witness.example/w1\"} 0";
    let meter = Meter::new(site.ledger_metrics_port);
    assert!(meter.text().unwrap().contains(metric));

    // At an address that its certificate is not for. That it was away first hides nothing.
    process.stop(LIMIT).unwrap();
    running.ledger.stop(LIMIT).unwrap();
    site.configure_ledger(&plan(&witness, "127.0.0.2", &ca)).unwrap();
    running.ledger = site.start_ledger().unwrap();
    wait_refused(&running.ledger, "is it running, and is the address right?");
    serve_tls(&witness, "127.0.0.2");
    witness.start();
    wait_refused(&running.ledger, "is a server under another name");
    let again = String::from_utf8(raw_checkpoint(site, 0)).unwrap();
    assert!(again.contains("\n\u{2014} witness.example/w1 "), "the last one is served: {again}");
}
