//! The main way: a line becomes a receipt and an offline proof.

use logseal::evidence::Evidence;
use logseal_tests::{Running, kong_source, wire::Log};
use record::{UnixSeconds, note::SignedNote, proof::TlogProof};
use std::io::Write;

#[test]
fn a_line_in_a_gateways_log_can_be_proven_offline() {
    let running = Running::start(kong_source);
    let mut corpus = logseal::site::corpus::Corpus::new(7, 1_795_248_147_000);
    let lines: Vec<String> = (0..500).map(|_| corpus.line("a")).collect();
    let mut log = std::fs::File::create(running.site.path("kong.log")).unwrap();
    log.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    running.wait_receipted(500);
    let found = running.lines("kong");
    assert_eq!(found.len(), 500);
    assert!(found.iter().zip(&lines).all(|(found, line)| found == line.as_bytes()));

    let dir = running.site.path("evidence");
    let client = running.site.path("auditor.toml");
    logseal::proof::export(&client, "gw01", 123, &dir).unwrap();
    let evidence = Evidence::load(&dir, Some(&running.site.path("policy"))).unwrap();
    let proven = evidence.verify().unwrap();
    assert_eq!(proven.line, lines[123].as_bytes());
    assert_eq!(proven.checkpoint.witnessed().len(), 1);
    assert!(proven.enrolled.is_some());

    // Somebody else's key in the folder does not become the agent's.
    let forger = Log::new("gw01", 99);
    let mut forged = evidence.clone();
    let mut proof = TlogProof::parse(&forged.agent_proof).unwrap();
    let text = proof.checkpoint.text().to_owned();
    let mut note = SignedNote::new(text.clone());
    note.put(forger.signer.sign(&text, UnixSeconds(1)));
    proof.checkpoint = note;
    forged.agent_proof = proof.to_string().into_bytes();
    let vkey = forger.signer.vkey().to_string();
    forged.agent_policy = logseal::evidence::agent_policy("gw01", &vkey).into_bytes();
    assert_eq!(forged.verify().unwrap_err().file, "agent-policy");
}
