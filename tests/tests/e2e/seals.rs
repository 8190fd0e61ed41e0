//! Agents that lie, or are not who they say: the ledger takes nothing that does not verify.

use link::message::{FromNode, RefusalCode, ToNode};
use logseal::site::{LedgerOptions, Process, Site};
use logseal_tests::{
    new_site, records,
    wire::{Log, Wire, refusal},
};
use record::{UnixSeconds, crypto::SigningKey, seal::Seal};
use tempfile::TempDir;
use zeroize::Zeroizing;

fn ledger() -> (TempDir, Site, Process) {
    let (dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let process = site.start_ledger().unwrap();
    (dir, site, process)
}

fn code(answer: FromNode) -> RefusalCode {
    refusal(answer).code
}

#[test]
fn a_seal_with_a_wrong_root_size_key_or_number_never_enters_the_ledger() {
    let (_dir, site, _ledger) = ledger();
    let mut log = Log::new("gw01", 1);
    log.enrol(&site);
    let (mut wire, _) = Wire::connect(&site, "agent", "gw01");
    let good = log.seal(&["one", "two"]);
    let mut refuse = |change: &dyn Fn(&mut record::batch::SealedBatch)| {
        let mut bad = good.batch.clone();
        change(&mut bad);
        code(wire.submit(&bad.encode()))
    };
    let sign = |key: &SigningKey, batch: &mut record::batch::SealedBatch| {
        let tree = (batch.seal.size, batch.seal.root);
        let (ledger, agent) = (logseal_tests::wire::origin(), batch.agent.clone());
        batch.seal = Seal::sign(key, &ledger, &agent, tree, batch.seal.time);
    };
    let own = log.signer.key();
    let stolen = SigningKey::from_seed(&Zeroizing::new([2; 32]));
    let invalid = RefusalCode::Invalid;
    assert_eq!(
        refuse(&|b| {
            b.seal.root.0[0] ^= 1;
            sign(own, b)
        }),
        invalid,
        "root"
    );
    assert_eq!(refuse(&|b| b.count += 1), invalid, "count");
    assert_eq!(refuse(&|b| sign(&stolen, b)), invalid, "key");
    assert_eq!(refuse(&|b| b.seal.signature.0[5] ^= 1), invalid, "signature");
    assert_eq!(refuse(&|b| b.seal.time = UnixSeconds(1)), invalid, "time that was not signed");
    assert_eq!(refuse(&|b| b.agent = "gw02".parse().unwrap()), invalid, "name");
    assert_eq!(refuse(&|b| b.compressed.truncate(5)), invalid, "records");
    assert_eq!(refuse(&|b| b.start.0 += 5), RefusalCode::NotNext, "gap");
    assert_eq!(code(wire.submit(b"")), invalid, "no batch");
    assert!(matches!(wire.submit(&good.batch.encode()), FromNode::Receipt(_)));
    assert_eq!(records(&site).1.len(), 2);
}

#[test]
fn a_batch_sent_again_gets_its_receipt_and_is_not_stored_twice() {
    let (_dir, site, _ledger) = ledger();
    let mut log = Log::new("gw01", 1);
    log.enrol(&site);
    let first = log.seal(&["one"]).batch.encode();
    let second = log.seal(&["two"]).batch.encode();
    let (mut wire, _) = Wire::connect(&site, "agent", "gw01");
    for batch in [&first, &second, &first, &second, &second] {
        assert!(matches!(wire.submit(batch), FromNode::Receipt(_)));
    }
    assert_eq!(records(&site).1.len(), 2);
}

#[test]
fn an_agent_that_seals_two_histories_is_caught() {
    let (_dir, site, _ledger) = ledger();
    let (mut log, mut other) = (Log::new("gw01", 1), Log::new("gw01", 1));
    log.enrol(&site);
    let (mut wire, _) = Wire::connect(&site, "agent", "gw01");
    wire.submit(&log.seal(&["what happened"]).batch.encode());
    let refused = refusal(wire.submit(&other.seal(&["what did not"]).batch.encode()));
    assert_eq!(refused.code, RefusalCode::Conflict);
    assert!(refused.message.contains("two batches at one place"), "{}", refused.message);
}

#[test]
fn two_agents_cannot_use_one_name_at_one_time() {
    let (_dir, site, _ledger) = ledger();
    Log::new("gw01", 1).enrol(&site);
    let (first, answer) = Wire::connect(&site, "agent", "gw01");
    assert!(matches!(answer, FromNode::Welcome(_)));
    let refused = refusal(Wire::connect(&site, "agent", "gw01").1);
    assert_eq!(refused.code, RefusalCode::AlreadyConnected);
    drop(first);
    logseal_tests::wait_for("the name to be free again", || {
        matches!(Wire::connect(&site, "agent", "gw01").1, FromNode::Welcome(_)).then_some(())
    });
}

#[test]
fn an_agent_that_is_not_enrolled_is_told_how_to_become_it() {
    let (_dir, site, _ledger) = ledger();
    let mut log = Log::new("gw01", 1);
    let (mut wire, _) = Wire::connect(&site, "agent", "gw01");
    let refused = refusal(wire.submit(&log.seal(&["one"]).batch.encode()));
    assert_eq!(refused.code, RefusalCode::NotEnrolled);
    assert!(refused.message.contains("logseal enrol"), "{}", refused.message);
    log.enrol(&site);
    let mut log = Log::new("gw01", 1);
    assert!(matches!(wire.submit(&log.seal(&["one"]).batch.encode()), FromNode::Receipt(_)));
}

#[test]
fn nobody_can_do_what_his_role_does_not_allow() {
    let (_dir, site, _ledger) = ledger();
    let enrolment = ToNode::Enrol { enrolment: vec![1] };
    let record = ToNode::Record { agent: "gw01".into(), n: 0 };
    let batch = ToNode::Submit { batch: vec![1] };
    let role = RefusalCode::Role;
    let (mut agent, _) = Wire::connect(&site, "agent", "gw01");
    assert_eq!(
        [code(agent.ask(&enrolment)), code(agent.ask(&record)), code(agent.ask(&ToNode::Status))],
        [role; 3]
    );
    let (mut auditor, _) = Wire::connect(&site, "auditor", "auditor");
    assert_eq!([code(auditor.ask(&enrolment)), code(auditor.ask(&batch))], [role; 2]);
    assert_eq!(code(auditor.ask(&record)), RefusalCode::NotFound);
    let (mut operator, _) = Wire::connect(&site, "operator", "operator");
    assert_eq!(code(operator.ask(&batch)), role);
    assert_eq!(code(operator.ask(&enrolment)), RefusalCode::Invalid);
}

#[test]
fn an_enrolment_for_another_key_or_in_another_name_is_refused() {
    let (_dir, site, _ledger) = ledger();
    Log::new("gw01", 1).enrol(&site);
    Log::new("gw01", 1).enrol(&site);
    let enrol = |agent: &str, vkey: String| {
        let client = site.path("operator.toml").display().to_string();
        site.output("logseal", &["enrol", "--config", &client, "--agent", agent, "--vkey", &vkey])
            .unwrap_err()
            .to_string()
    };
    let other = Log::new("gw01", 2).signer.vkey().to_string();
    let error = enrol("gw01", other.clone());
    assert!(error.contains("is enrolled with another key"), "{error}");
    let error = enrol("gw02", other);
    assert!(error.contains("must be 'demo.logseal.example/access/agent/gw02'"), "{error}");
}
