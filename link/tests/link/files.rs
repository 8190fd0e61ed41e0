//! Files that cannot be used are named, with what to do.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use certs::{Renewal, Validity};
use logseal_link::{
    Role,
    tls::{FileKind, FileProblem, FilesError, TlsFiles, Warning},
};
use record::UnixSeconds;

use crate::support::{World, now, past};

fn load(files: &TlsFiles) -> Result<Vec<Warning>, FilesError> {
    let now = UnixSeconds(now().seconds());
    Ok(files.load(&[Role::Node], now)?.warnings(now))
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let world = World::new("CA");
    let files = world.issue(Role::Node, "n1");
    assert_eq!(load(&files).unwrap(), []);
    for mode in [0o644, 0o640, 0o604, 0o660, 0o620] {
        set_mode(&files.key, mode);
        let error = load(&files).unwrap_err();
        assert!(matches!(error.problem, FileProblem::OpenToOthers { .. }));
        let command = format!("chmod 600 {}", files.key.display());
        assert!(error.to_string().contains(&command), "{error}");
    }
    set_mode(&files.key, 0o400);
    load(&files).unwrap();
}

#[test]
fn a_key_that_systemd_hands_over_is_taken_and_one_that_looks_alike_is_not() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new("CA");
    let files = world.issue(Role::Node, "n1");
    set_mode(&files.key, 0o440);
    let metadata = fs::metadata(&files.key).unwrap();
    let of_root = metadata.uid() == 0 && metadata.gid() == 0;
    assert_eq!(load(&files).is_ok(), of_root);
}

#[test]
fn every_unusable_file_is_named_with_its_problem() {
    let world = World::new("CA");
    let good = world.issue(Role::Node, "n1");
    let other = world.issue(Role::Node, "n2");
    let nowhere = world.path("nowhere.pem");
    let garbage = world.path("garbage.pem");
    fs::write(&garbage, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").unwrap();
    set_mode(&garbage, 0o600);
    let future = Validity { not_before: now().plus_days(1), not_after: now().plus_days(2) };

    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = good.clone();
        change(&mut files);
        let FilesError { kind, problem, .. } = load(&files).unwrap_err();
        (kind, problem)
    };
    use FileKind as K;
    use FileProblem as P;
    assert!(matches!(with(&|f| f.ca = nowhere.clone()), (K::Ca, P::Missing)));
    assert!(matches!(with(&|f| f.cert = nowhere.clone()), (K::Certificate, P::Missing)));
    assert!(matches!(with(&|f| f.key = nowhere.clone()), (K::Key, P::Missing)));
    assert!(matches!(with(&|f| f.crl = Some(nowhere.clone())), (K::Crl, P::Missing)));
    assert!(matches!(with(&|f| f.ca = garbage.clone()), (K::Ca, P::NotPem(..))));
    assert!(matches!(with(&|f| f.cert = garbage.clone()), (K::Certificate, P::NotPem(..))));
    assert!(matches!(with(&|f| f.key = garbage.clone()), (K::Key, P::NotPem(..))));
    assert!(matches!(with(&|f| f.crl = Some(garbage.clone())), (K::Crl, P::Malformed(_))));
    assert!(matches!(with(&|f| f.ca = world.path("issued")), (K::Ca, P::Unreadable(_))));
    assert!(matches!(with(&|f| f.crl = Some(good.ca.clone())), (K::Crl, P::NotPem(..))));
    assert!(matches!(with(&|f| f.key = other.key.clone()), (K::Key, P::Mismatch(_))));
    let agent = world.issue(Role::Agent, "a1");
    let expired = world.issue_for(Role::Node, "old", past());
    let early = world.issue_for(Role::Node, "early", future);
    assert!(matches!(load(&agent).unwrap_err().problem, P::WrongRole { .. }));
    assert!(matches!(load(&expired).unwrap_err().problem, P::Expired(_)));
    assert!(matches!(load(&early).unwrap_err().problem, P::NotYetValid(_)));
    let ca = TlsFiles { cert: good.ca.clone(), key: world.path("ca.key"), ..good.clone() };
    assert!(matches!(load(&ca).unwrap_err().problem, P::NoIdentity(_)));
}

#[test]
fn an_error_names_the_file_and_what_to_do() {
    let world = World::new("CA");
    let expired = world.issue_for(Role::Node, "old", past());
    let text = load(&expired).unwrap_err().to_string();
    assert!(text.contains("node-old.pem expired on 2"), "{text}");
    assert!(text.ends_with("renew it ('logseal certs renew')"), "{text}");
    let agent = world.issue(Role::Agent, "a1");
    let text = load(&agent).unwrap_err().to_string();
    assert!(text.ends_with("is that of agent a1, but this program needs one of these roles: node"));
}

#[test]
fn an_operator_hears_of_what_will_stop_working_before_it_does() {
    let world = World::new("CA");
    let soon = Validity { not_before: past().not_before, not_after: now().plus_days(3) };
    let files = world.issue_for(Role::Node, "n1", soon);
    assert!(matches!(load(&files).unwrap()[..], [Warning::CertificateExpires { .. }]));

    let renewal = Renewal::new("node", "n1", Validity::days(now(), 90).unwrap()).unwrap();
    world.pki.renew(&renewal).unwrap();
    world.pki.refresh_crl(3, now()).unwrap();
    assert!(matches!(load(&files).unwrap()[..], [Warning::CrlExpires { .. }]));
    world.pki.refresh_crl(1, now().minus_seconds(2 * 86_400)).unwrap();
    assert!(matches!(load(&files).unwrap()[..], [Warning::CrlExpired { .. }]));
    world.pki.refresh_crl(30, now()).unwrap();
    let loaded = files.load(&[], UnixSeconds(now().seconds())).unwrap();
    assert_eq!(loaded.warnings(UnixSeconds(now().seconds())), []);
    let later = UnixSeconds(now().plus_days(31).seconds());
    assert!(matches!(loaded.warnings(later)[..], [Warning::CrlExpired { .. }]));
    world.revoke(Role::Node, "n1");
    assert!(matches!(load(&files).unwrap()[..], [Warning::Revoked { .. }]));

    for name in ["CA", "another CA"] {
        let other = World::new(name);
        let mixed = TlsFiles { ca: other.pki.ca(), crl: None, ..files.clone() };
        assert!(matches!(load(&mixed).unwrap()[..], [Warning::ForeignCa { .. }]), "{name}");
    }
}
