//! Who gets in, who does not, and what each of them is told.

use std::{sync::Arc, time::Duration};

use logseal_link::{
    Role,
    tls::{
        Fault, Problem, ReloadingServer, ServerSettings, TlsFiles, accept, accept_optional, connect,
    },
};
use pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{AlertDescription as Alert, HandshakeKind, ServerConfig, crypto::ring, version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{LIMIT, World, client, meet, meet_raw, now, past, raw_client, server, told};

#[tokio::test]
async fn two_ends_with_good_certificates_know_each_other() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Agent, "a1"));
    for _ in 0..2 {
        let (served, connected) = meet(&server, &client, Role::Node).await;
        let ((mut at_server, agent), (mut at_client, node)) = (served.unwrap(), connected.unwrap());
        assert_eq!(agent.to_string(), "agent a1");
        assert_eq!(node.to_string(), "node n1");
        // A resumed session would not have been verified again.
        assert_eq!(at_server.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        at_client.write_all(b"hello").await.unwrap();
        at_client.shutdown().await.unwrap();
        let mut text = String::new();
        at_server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }
}

#[tokio::test]
async fn a_client_that_would_rather_resume_is_verified_anew() {
    let world = World::new("CA");
    let accepts = [Role::SyslogClient];
    let files = world.issue(Role::Agent, "a1");
    let settings = ServerSettings::syslog(files, &[Role::Agent], &accepts);
    let server = ReloadingServer::open(settings).unwrap();
    let sender = world.issue(Role::SyslogClient, "gw");
    for version in [&version::TLS13, &version::TLS12] {
        let config = raw_client(&world, Some(&sender), version);
        for _ in 0..2 {
            let (met, _) = meet_raw(&server, config.clone()).await;
            assert_eq!(met.unwrap().0.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_that_it_needs_one() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let (met, told) = meet_raw(&server, raw_client(&world, None, &version::TLS13)).await;
    let error = met.unwrap_err();
    assert!(matches!(error.problem, Problem::NoCertificate), "{error}");
    assert_eq!(error.fault(), Fault::Peer);
    assert!(error.to_string().starts_with("127.0.0.1:"), "{error}");
    let told = told.unwrap();
    assert!(matches!(told, Problem::Refused(Alert::CertificateRequired)), "{told}");
    assert_eq!(told.fault(), Fault::Configuration);
}

#[tokio::test]
async fn an_expired_client_is_refused_and_told_so() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let expired = world.issue_for(Role::Agent, "a1", past());
    let (met, told) = meet_raw(&server, raw_client(&world, Some(&expired), &version::TLS13)).await;
    let error = met.unwrap_err();
    assert!(matches!(error.problem, Problem::Expired(Some(_))), "{error}");
    assert!(matches!(told, Some(Problem::Refused(Alert::CertificateExpired))), "{told:?}");
}

#[tokio::test]
async fn a_revoked_client_is_refused_and_told_so() {
    let world = World::new("CA");
    let client = client(world.issue(Role::Agent, "a1"));
    world.revoke(Role::Agent, "a1");
    let server = server(world.issue(Role::Node, "n1"));
    let (served, connected) = meet(&server, &client, Role::Node).await;
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::Revoked), "{error}");
    let told = told(connected.unwrap().0).await;
    assert!(matches!(told, Some(Problem::Refused(Alert::CertificateRevoked))), "{told:?}");
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_even_if_the_cas_share_a_name() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    for (name, alert) in [("another CA", Alert::UnknownCA), ("CA", Alert::DecryptError)] {
        let foreign = World::new(name);
        let files = foreign.issue(Role::Agent, "a1");
        let (met, told) =
            meet_raw(&server, raw_client(&world, Some(&files), &version::TLS13)).await;
        let error = met.unwrap_err();
        let right = matches!(error.problem, Problem::UnknownIssuer | Problem::BadSignature);
        assert!(right, "{error}");
        assert!(matches!(told, Some(Problem::Refused(a)) if a == alert), "{told:?}");
    }
}

#[tokio::test]
async fn a_client_in_the_wrong_role_is_refused_by_name() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Auditor, "eve"));
    let (served, connected) = meet(&server, &client, Role::Node).await;
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::NotAccepted(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("auditor eve") && text.contains("agent, node"), "{text}");
    let told = told(connected.unwrap().0).await;
    assert!(matches!(told, Some(Problem::Refused(Alert::CertificateUnknown))), "{told:?}");
}

#[tokio::test]
async fn a_certificate_without_an_identity_gives_no_access() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let mut files = world.issue(Role::Agent, "a1");
    (files.cert, files.key) = (world.pki.ca(), world.path("ca.key"));
    let (met, _) = meet_raw(&server, raw_client(&world, Some(&files), &version::TLS13)).await;
    assert_eq!(met.unwrap_err().fault(), Fault::Peer);
}

#[tokio::test]
async fn a_server_in_the_wrong_role_gets_nothing() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Agent, "a1"));
    let (served, connected) = meet(&server, &client, Role::Agent).await;
    let error = connected.unwrap_err();
    assert!(matches!(error.problem, Problem::NotAccepted(_)), "{error}");
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::Refused(Alert::CertificateUnknown)), "{error}");
}

#[tokio::test]
async fn a_revoked_server_gets_nothing() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    world.revoke(Role::Node, "n1");
    let client = client(world.issue(Role::Agent, "a1"));
    let (served, connected) = meet(&server, &client, Role::Node).await;
    let error = connected.unwrap_err();
    assert!(matches!(error.problem, Problem::Revoked), "{error}");
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::Refused(Alert::CertificateRevoked)), "{error}");
}

#[tokio::test]
async fn a_server_of_another_ca_gets_nothing() {
    let (world, foreign) = (World::new("CA"), World::new("another CA"));
    let server = server(foreign.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Agent, "a1"));
    let (served, connected) = meet(&server, &client, Role::Node).await;
    let error = connected.unwrap_err();
    assert!(matches!(error.problem, Problem::UnknownIssuer), "{error}");
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::Refused(Alert::UnknownCA)), "{error}");
    assert_eq!(error.fault(), Fault::Configuration);
}

#[tokio::test]
async fn an_expired_server_gets_nothing() {
    let world = World::new("CA");
    let files = world.issue_for(Role::Node, "n1", past());
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_file(&files.cert).unwrap()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = client(world.issue(Role::Agent, "a1"));
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.map(drop)
    };
    let (served, connected) =
        tokio::join!(serve, connect(addr, "localhost", &client, Role::Node, LIMIT));
    assert!(matches!(connected.unwrap_err().problem, Problem::Expired(Some(_))));
    let told = Problem::from_io(served.unwrap_err());
    assert!(matches!(told, Problem::Refused(Alert::CertificateExpired)), "{told}");
}

#[tokio::test]
async fn a_server_under_another_name_gets_nothing() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    let client = client(world.issue(Role::Agent, "a1"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept(stream, &server, LIMIT).await
    };
    let (_, connected) =
        tokio::join!(serve, connect(addr, "other.example", &client, Role::Node, LIMIT));
    let error = connected.unwrap_err();
    assert!(matches!(error.problem, Problem::WrongHost(_)), "{error}");
    assert!(error.to_string().contains("localhost"), "{error}");

    let error = connect(addr, "not a name", &client, Role::Node, LIMIT).await.unwrap_err();
    assert!(matches!(error.problem, Problem::BadServerName(_)), "{error}");
}

#[tokio::test]
async fn nobody_gets_in_on_a_revocation_list_that_ran_out_or_is_another_cas() {
    let world = World::new("CA");
    let files = world.issue(Role::Node, "n1");
    let client = client(world.issue(Role::Agent, "a1"));
    world.pki.refresh_crl(1, now().minus_seconds(2 * 86_400)).unwrap();
    let (served, _) = meet(&server(files.clone()), &client, Role::Node).await;
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::CrlExpired(Some(_))), "{error}");
    assert_eq!(error.fault(), Fault::Configuration);

    let foreign = World::new("another CA");
    let mixed = TlsFiles { crl: Some(foreign.pki.crl()), ..files.clone() };
    let (served, _) = meet(&server(mixed), &client, Role::Node).await;
    let error = served.unwrap_err();
    assert!(matches!(error.problem, Problem::RevocationUnknown), "{error}");

    // Whoever configures no list has chosen that nobody can be revoked.
    let none = TlsFiles { crl: None, ..files };
    let (served, _) = meet(&server(none), &client, Role::Node).await;
    served.unwrap();
}

#[tokio::test]
async fn a_sender_of_plain_text_is_recognised_and_still_hears_the_alert() {
    let world = World::new("CA");
    let server = server(world.issue(Role::Node, "n1"));
    for text in
        [&b"<34>1 - - - - - - hello\n"[..], b"1 open 86 relp_version=0\n", b"GET / HTTP/1.1"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        // More than is ever looked at: closing with it unread would reset the connection.
        let flood = text.repeat(1000);
        let (met, sent) = tokio::join!(accept(stream, &server, LIMIT), peer.write_all(&flood));
        sent.unwrap();
        let error = met.unwrap_err();
        assert!(matches!(error.problem, Problem::Plaintext), "{error}");
        assert_eq!((error.fault(), error.problem.label()), (Fault::Peer, "plaintext"));
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer[0], 21, "a TLS alert");
    }
}

#[tokio::test]
async fn a_silent_peer_is_given_up_in_time() {
    let world = World::new("CA");
    let limit = Duration::from_millis(50);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let _peer = TcpStream::connect(addr).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let server = server(world.issue(Role::Node, "n1"));
    let error = accept(stream, &server, limit).await.unwrap_err();
    assert!(matches!(error.problem, Problem::TimedOut(_)), "{error}");

    let client = client(world.issue(Role::Agent, "a1"));
    let error = connect(addr, "localhost", &client, Role::Node, limit).await.unwrap_err();
    assert!(matches!(error.problem, Problem::TimedOut(_)), "{error}");
    drop(listener);
    let error = connect(addr, "localhost", &client, Role::Node, LIMIT).await.unwrap_err();
    assert!(matches!(error.problem, Problem::Unreachable(_)), "{error}");
    assert!(error.to_string().starts_with(&addr.to_string()), "{error}");
}

#[tokio::test]
async fn tls_1_2_is_for_syslog_senders_only() {
    let world = World::new("CA");
    let node = world.issue(Role::Node, "n1");
    let sender = world.issue(Role::SyslogClient, "gw");
    let settings = ServerSettings::syslog(
        world.issue(Role::Agent, "a1"),
        &[Role::Agent],
        &[Role::SyslogClient],
    );
    let syslog = ReloadingServer::open(settings).unwrap();
    let (met, _) = meet_raw(&syslog, raw_client(&world, Some(&sender), &version::TLS12)).await;
    assert_eq!(met.unwrap().1.role, Role::SyslogClient);
    let (met, _) = meet_raw(&syslog, raw_client(&world, Some(&sender), &version::TLS13)).await;
    assert_eq!(met.unwrap().1.role, Role::SyslogClient);

    let agent = world.issue(Role::Agent, "a2");
    let old = raw_client(&world, Some(&agent), &version::TLS12);
    let (met, told) = meet_raw(&server(node), old).await;
    let error = met.unwrap_err();
    assert!(matches!(error.problem, Problem::Incompatible(_)), "{error}");
    assert!(matches!(told, Some(Problem::Refused(Alert::ProtocolVersion))), "{told:?}");
}

#[tokio::test]
async fn a_browser_may_come_without_a_certificate_but_not_with_a_bad_one() {
    let world = World::new("CA");
    let settings =
        ServerSettings::https(world.issue(Role::Node, "n1"), &[Role::Node], &[Role::Auditor]);
    let https = ReloadingServer::open(settings).unwrap();
    let (auditor, agent) = (world.issue(Role::Auditor, "al"), world.issue(Role::Agent, "a1"));
    for (own, expected) in
        [(None, Ok(None)), (Some(&auditor), Ok(Some("auditor al"))), (Some(&agent), Err(()))]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let config = raw_client(&world, own, &version::TLS13);
        let connector = tokio_rustls::TlsConnector::from(config);
        let (met, _) = tokio::join!(
            accept_optional(stream, &https, LIMIT),
            connector.connect("localhost".try_into().unwrap(), tcp)
        );
        let found = met.map(|(_, identity)| identity.map(|i| i.to_string())).map_err(drop);
        assert_eq!(found, expected.map(|e| e.map(str::to_owned)));
    }
    // Where an identity is needed after all, its absence is an error.
    let (met, _) = meet_raw(&https, raw_client(&world, None, &version::TLS13)).await;
    assert!(matches!(met.unwrap_err().problem, Problem::NoCertificate));
}
