//! What an operator's PKI directory goes through, on a real file system.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use logseal_certs::{
    CRL_DAYS, Error, Host, InstalledFile, LEAF_DAYS, PROFILES, Pki, Reason, Renewal, Request,
    Status, Timestamp, Validity, Which,
};
use x509_parser::prelude::*;

const NOW: u64 = 1_795_248_147;

fn now() -> Timestamp {
    NOW.into()
}

fn year() -> Validity {
    Validity::days(now(), LEAF_DAYS).unwrap()
}

fn new_pki(dir: &Path) -> Pki {
    Pki::init(&dir.join("pki"), "Test CA", Validity::days(now(), 3653).unwrap(), now()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn pem(path: &Path) -> Pem {
    let bytes = fs::read(path).unwrap();
    Pem::iter_from_buffer(&bytes).next().unwrap().unwrap()
}

#[test]
fn every_profile_gives_its_role_its_hosts_and_its_uses_and_no_more() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    for profile in PROFILES {
        let request = Request::new(profile.role, "x1", year()).unwrap();
        let host: Host = "gw.example".parse().unwrap();
        let issued = pki.issue(&request.hosts(profile.server.then_some(host))).unwrap();
        let pem = pem(&issued.certificate);
        let cert = pem.parse_x509().unwrap();
        let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
        let uri = format!("urn:logseal:{}:x1", profile.role);
        assert_eq!(names[0], GeneralName::URI(&uri));
        let hosts: Vec<_> = names[1..].to_vec();
        let mut expected = Vec::new();
        if profile.server {
            let six = std::net::Ipv6Addr::LOCALHOST.octets();
            assert!(hosts.contains(&GeneralName::IPAddress(&six)));
            expected.extend([
                GeneralName::DNSName("localhost"),
                GeneralName::IPAddress(&[127, 0, 0, 1]),
                hosts[2].clone(),
                GeneralName::DNSName("gw.example"),
            ]);
        }
        assert_eq!(hosts, expected);
        let uses = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(uses.client_auth);
        assert_eq!(uses.server_auth, profile.server);
        assert!(!cert.is_ca());
        assert_eq!(cert.subject().to_string(), "CN=x1");
        assert_eq!(cert.raw_serial(), issued.serial.as_bytes());
        assert_eq!(cert.validity().not_before.timestamp(), NOW as i64 - 3600);
        assert_eq!(cert.validity().not_after.timestamp(), NOW as i64 + 397 * 86_400);
    }
}

#[test]
fn the_ca_can_sign_leaves_and_lists_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let pem = pem(&pki.ca());
    let ca = pem.parse_x509().unwrap();
    let constraints = ca.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    let usage = ca.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
}

#[test]
fn nobody_else_on_the_machine_can_read_a_key() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let issued = pki.issue(&Request::new("agent", "a", year()).unwrap()).unwrap();
    assert_eq!(mode(pki.dir()), 0o700);
    assert_eq!(mode(&pki.dir().join("issued")), 0o700);
    assert_eq!(mode(&pki.dir().join("ca.key")), 0o600);
    assert_eq!(mode(&issued.key), 0o600);
    assert!(fs::read_to_string(&issued.key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));

    fs::set_permissions(pki.dir().join("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let error = pki.issue(&Request::new("agent", "b", year()).unwrap()).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_directory_that_others_can_read_gets_no_ca() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("open");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let error = Pki::init(&dir, "CA", year(), now()).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_key_is_never_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let ca_key = fs::read(pki.dir().join("ca.key")).unwrap();
    let error = Pki::init(pki.dir(), "CA", year(), now()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("pki/ca.key exists: a CA key is never overwritten; choose another --dir")
    );
    assert_eq!(fs::read(pki.dir().join("ca.key")).unwrap(), ca_key);

    let request = Request::new("node", "n1", year()).unwrap();
    let stray = pki.dir().join("issued/node-n1.key");
    fs::write(&stray, "somebody's").unwrap();
    assert!(matches!(pki.issue(&request), Err(Error::Exists { .. })));
    assert_eq!(fs::read(&stray).unwrap(), b"somebody's");
    fs::remove_file(&stray).unwrap();
    pki.issue(&request).unwrap();
    assert!(matches!(pki.issue(&request), Err(Error::AlreadyIssued { .. })));
}

#[test]
fn a_renewal_keeps_key_and_hosts_unless_told_otherwise() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let host: Host = "log.example".parse().unwrap();
    let first = pki.issue(&Request::new("node", "n1", year()).unwrap().hosts([host])).unwrap();
    let old_key = fs::read(&first.key).unwrap();

    let same = pki.renew(&Renewal::new("node", "n1", year()).unwrap()).unwrap();
    assert_ne!(same.serial, first.serial);
    assert_eq!(same.hosts, first.hosts);
    assert_eq!(fs::read(&same.key).unwrap(), old_key);
    assert_eq!(pem(&same.certificate).parse_x509().unwrap().raw_serial(), same.serial.as_bytes());

    let renewal = Renewal::new("node", "n1", year()).unwrap().new_key().hosts([]);
    let other = pki.renew(&renewal).unwrap();
    assert_eq!(other.hosts.len(), 3);
    assert_ne!(fs::read(&other.key).unwrap(), old_key);
    let kept = other.old_key.unwrap();
    assert!(kept.ends_with(format!("node-n1.key.{}", same.serial)));
    assert_eq!(fs::read(&kept).unwrap(), old_key);
    assert_eq!((mode(&other.key), mode(&kept)), (0o600, 0o600));

    assert!(matches!(
        pki.renew(&Renewal::new("node", "n2", year()).unwrap()),
        Err(Error::NotIssued { .. })
    ));
}

/// Each is a state that a crash in the middle of an operation leaves behind.
#[test]
fn an_interrupted_operation_is_completed_by_the_next_renewal() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let first = pki.issue(&Request::new("agent", "a", year()).unwrap()).unwrap();

    // The index knows the certificate, its file was never written.
    fs::remove_file(&first.certificate).unwrap();
    fs::write(first.certificate.with_extension("pem.new"), "half a certif").unwrap();
    assert_eq!(pki.show(now()).unwrap().certificates[0].installed, InstalledFile::Missing);
    let second = pki.renew(&Renewal::new("agent", "a", year()).unwrap()).unwrap();
    assert_eq!(pki.show(now()).unwrap().certificates[1].installed, InstalledFile::Present);

    // The old key has its second name, the new one is not in place.
    let kept = second.key.with_extension(format!("key.{}", second.serial));
    fs::hard_link(&second.key, &kept).unwrap();
    let new_key = || Renewal::new("agent", "a", year()).unwrap().new_key();
    let third = pki.renew(&new_key()).unwrap();
    assert_eq!(third.old_key, Some(kept));

    // A new key is in place, the index does not know of it: no key is lost.
    let kept = third.key.with_extension(format!("key.{}", third.serial));
    fs::hard_link(&third.key, &kept).unwrap();
    fs::remove_file(&third.key).unwrap();
    fs::write(&third.key, "an uncertified key").unwrap();
    let fourth = pki.renew(&new_key()).unwrap();
    assert_eq!(fs::read(fourth.old_key.unwrap()).unwrap(), b"an uncertified key");
    assert!(kept.exists());
}

#[test]
fn whatever_a_thief_could_use_is_revoked_and_its_key_does_not_return() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let first = pki.issue(&Request::new("agent", "a", year()).unwrap()).unwrap();
    let second = pki.renew(&Renewal::new("agent", "a", year()).unwrap()).unwrap();
    pki.issue(&Request::new("agent", "b", year()).unwrap()).unwrap();
    let which = Which::identity("agent", "a").unwrap();
    let done = pki.revoke(&which, Reason::KeyCompromise, now()).unwrap();
    assert_eq!(done.revoked, [first.serial, second.serial]);
    assert!(matches!(
        pki.revoke(&which, Reason::KeyCompromise, now()),
        Err(Error::NothingToRevoke(_))
    ));

    let pem = pem(&pki.crl());
    let (_, crl) = CertificateRevocationList::from_der(&pem.contents).unwrap();
    let listed: Vec<_> = crl.iter_revoked_certificates().map(|r| r.raw_serial()).collect();
    assert_eq!(listed, [&first.serial.as_bytes()[..], second.serial.as_bytes()]);
    let reason = crl.iter_revoked_certificates().next().unwrap().reason_code().unwrap().1;
    assert_eq!(reason, ReasonCode::KeyCompromise);

    let renewal = Renewal::new("agent", "a", year()).unwrap();
    assert!(matches!(pki.renew(&renewal), Err(Error::RevokedKey { .. })));
    pki.renew(&renewal.new_key()).unwrap();
}

#[test]
fn a_revocation_list_is_followed_by_one_with_a_higher_number_and_the_same_content() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let issued = pki.issue(&Request::new("auditor", "a", year()).unwrap()).unwrap();
    pki.revoke(&Which::Serial(issued.serial), Reason::Unspecified, now()).unwrap();
    assert_eq!(pki.show(now()).unwrap().crl.number, 2);

    let later = now().plus_days(CRL_DAYS);
    assert_eq!(pki.show(later.plus_days(1)).unwrap().crl.status, Status::Expired);
    pki.refresh_crl(CRL_DAYS, later).unwrap();
    let crl = pki.show(later.plus_days(1)).unwrap().crl;
    assert_eq!((crl.number, crl.revoked, crl.status), (3, 1, Status::Valid));

    // Long expired, it need not be listed any more.
    pki.refresh_crl(CRL_DAYS, now().plus_days(LEAF_DAYS + 2 * CRL_DAYS)).unwrap();
    assert_eq!(pki.show(now()).unwrap().crl.revoked, 0);
}

#[test]
fn a_certificate_does_not_outlive_its_ca() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let validity = Validity::days(now(), 3654).unwrap();
    let error = pki.issue(&Request::new("node", "n", validity).unwrap()).unwrap_err();
    assert!(matches!(error, Error::OutlivesCa { .. }), "{error}");
    assert!(!pki.dir().join("issued/node-n.key").exists());
}

#[test]
fn a_test_can_have_an_expired_certificate() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let past = Validity { not_before: 1_000_000_000.into(), not_after: 1_000_086_400.into() };
    pki.issue(&Request::new("node", "n", past).unwrap()).unwrap();
    assert_eq!(pki.show(now()).unwrap().certificates[0].status, Status::Expired);
    let backwards = Validity { not_before: past.not_after, not_after: past.not_before };
    assert!(Request::new("node", "n2", backwards).is_err());
}

#[test]
fn two_operators_at_once_do_not_lose_each_others_certificates() {
    let scratch = tempfile::tempdir().unwrap();
    let pki = new_pki(scratch.path());
    let held = File::open(pki.dir()).unwrap();
    held.try_lock().unwrap();
    let request = Request::new("node", "n", year()).unwrap();
    assert!(matches!(pki.issue(&request), Err(Error::Locked(_))));
    pki.show(now()).unwrap();
    drop(held);
    pki.issue(&request).unwrap();
}

#[test]
fn a_wrong_directory_is_named_together_with_what_to_do() {
    let scratch = tempfile::tempdir().unwrap();
    for dir in [scratch.path().join("none"), scratch.path().to_owned()] {
        let error = Pki::open(&dir).unwrap_err();
        assert!(error.to_string().contains("certs init --dir"), "{error}");
    }
    let pki = new_pki(scratch.path());
    Pki::open(pki.dir()).unwrap();
    fs::write(pki.dir().join("index.json"), "{").unwrap();
    assert!(matches!(Pki::open(pki.dir()), Err(Error::Damaged { .. })));
}
