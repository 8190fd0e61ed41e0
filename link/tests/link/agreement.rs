//! The PKI and the programs do not know each other; here they meet.

use certs::PROFILES;
use logseal_link::{Identity, Name, Role};
use pki_types::{CertificateDer, pem::PemObject};

use crate::support::World;

#[test]
fn every_certificate_that_is_issued_is_understood() {
    let world = World::new("CA");
    assert_eq!(PROFILES.len(), Role::ALL.len());
    for profile in PROFILES {
        let role: Role = profile.role.parse().unwrap();
        assert_eq!(role.as_str(), profile.role);
        let files = world.issue(role, "x-1.example");
        let der = CertificateDer::from_pem_file(&files.cert).unwrap();
        let found = Identity::from_der(&der).unwrap();
        assert_eq!(found, Identity { role, name: "x-1.example".parse().unwrap() });
    }
}

#[test]
fn whatever_is_a_name_for_the_pki_is_one_for_the_programs() {
    let long = "x".repeat(64);
    for text in ["", "a", "A", "-a", "a-", ".a", "a.", "0", "a_b", "a:b", "ä", &long, &long[1..]] {
        let (here, there) = (text.parse::<Name>(), text.parse::<certs::Name>());
        assert_eq!(here.is_ok(), there.is_ok(), "{text}");
    }
    assert_eq!(certs::URI_PREFIX, logseal_link::identity::URI_PREFIX);
}

#[test]
fn no_bytes_make_an_identity_by_accident() {
    let world = World::new("CA");
    let files = world.issue(Role::Node, "n1");
    let der = CertificateDer::from_pem_file(&files.cert).unwrap();
    let ca = CertificateDer::from_pem_file(&files.ca).unwrap();
    assert!(Identity::from_der(&ca).is_err());
    for end in 0..der.len() {
        assert!(Identity::from_der(&der[..end]).is_err());
    }
    let mut longer = der.to_vec();
    longer.push(0);
    assert!(Identity::from_der(&longer).is_err());
    for at in 0..der.len() {
        let mut damaged = der.to_vec();
        damaged[at] ^= 0x20;
        let _ = Identity::from_der(&damaged);
    }
}
