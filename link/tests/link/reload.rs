//! Certificates and revocation lists take effect with the next connection.

use std::fs;

use certs::{Renewal, Validity};
use logseal_link::{
    Role,
    tls::{Problem, TlsFiles},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{World, client, meet, now, server, told};

fn renewal(role: Role, name: &str) -> Renewal {
    Renewal::new(role.as_str(), name, Validity::days(now(), 90).unwrap()).unwrap()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_peer() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Agent, "a1"));
    assert_eq!(server.reload_if_changed().unwrap(), None);
    assert_eq!(client.reload_if_changed().unwrap(), None);

    let new = world.pki.renew(&renewal(Role::Node, "n1").new_key()).unwrap();
    let newer = world.pki.renew(&renewal(Role::Agent, "a1")).unwrap();
    assert_eq!(server.reload_if_changed().unwrap(), Some(Vec::new()));
    assert_eq!(client.reload_if_changed().unwrap(), Some(Vec::new()));
    assert_eq!(server.reload_if_changed().unwrap(), None);
    assert_eq!(server.not_after().0, new.validity.not_after.seconds());

    let (served, connected) = meet(&server, &client, Role::Node).await;
    for (stream, serial) in [(connected.unwrap().0, new.serial), (served.unwrap().0, newer.serial)]
    {
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let found = shown.windows(16).any(|bytes| bytes == serial.as_bytes());
        assert!(found, "the certificate that was shown is not the new one");
    }
}

#[tokio::test]
async fn a_revocation_stops_the_next_connection_and_not_the_present_one() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Agent, "a1"));
    let (served, connected) = meet(&server, &client, Role::Node).await;
    let (mut at_server, mut at_client) = (served.unwrap().0, connected.unwrap().0);

    world.revoke(Role::Agent, "a1");
    assert_eq!(server.reload_if_changed().unwrap(), Some(Vec::new()));
    let (served, connected) = meet(&server, &client, Role::Node).await;
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::Revoked), "{error}");
    assert!(matches!(told(connected.unwrap().0).await, Some(Problem::Refused(_))));

    at_client.write_all(b"x").await.unwrap();
    at_client.flush().await.unwrap();
    assert_eq!(at_server.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_client_obeys_a_new_revocation_list_too() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Agent, "a1"));
    meet(&server, &client, Role::Node).await.1.unwrap();
    world.revoke(Role::Node, "n1");
    client.reload_if_changed().unwrap().unwrap();
    let error = meet(&server, &client, Role::Node).await.1.unwrap_err();
    assert!(matches!(error.problem, Problem::Revoked), "{error}");
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_reported_until_it_is_mended() {
    let world = World::new("CA");
    let files = world.issue(Role::Node, "n1");
    let server = server(files.clone());
    let client = client(world.issue(Role::Agent, "a1"));
    let good = fs::read(&files.cert).unwrap();

    fs::write(&files.cert, &good[..good.len() / 2]).unwrap();
    for _ in 0..2 {
        let error = server.reload_if_changed().unwrap_err();
        assert!(error.to_string().contains("node-n1.pem"), "{error}");
    }
    meet(&server, &client, Role::Node).await.0.unwrap();
    fs::remove_file(&files.cert).unwrap();
    server.reload_if_changed().unwrap_err();
    meet(&server, &client, Role::Node).await.0.unwrap();
    fs::write(&files.cert, &good).unwrap();
    assert_eq!(server.reload_if_changed().unwrap(), Some(Vec::new()));
}

/// Between the two renames of `renew --new-key`, key and certificate do not match.
#[tokio::test]
async fn a_half_finished_renewal_is_waited_out() {
    let world = World::new("CA");
    let files = world.issue(Role::Node, "n1");
    let copy = TlsFiles { key: world.path("copy.key"), ..files.clone() };
    fs::copy(&files.key, &copy.key).unwrap();
    let server = server(copy.clone());
    let client = client(world.issue(Role::Agent, "a1"));
    let new = world.pki.renew(&renewal(Role::Node, "n1").new_key()).unwrap();
    let error = server.reload_if_changed().unwrap_err();
    assert!(error.to_string().contains("does not belong"), "{error}");
    meet(&server, &client, Role::Node).await.0.unwrap();
    fs::copy(&new.key, &copy.key).unwrap();
    server.reload_if_changed().unwrap().unwrap();
    meet(&server, &client, Role::Node).await.0.unwrap();
}
