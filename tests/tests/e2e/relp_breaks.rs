//! RELP under kill -9 of the agent, with connections that are cut, and with sources that come, go
//! and change while the agent runs: nothing lost, nothing twice.

use crate::{
    relp::{
        action, expect_all, expect_all_of, lasting_port, listening, messages, plain_action,
        plain_source, tls_source,
    },
    rsyslog,
};
use logseal::site::AgentOptions;
use logseal_tests::{
    LIMIT,
    cluster::{Dice, tell},
    kills::{Background, KILLS},
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

const CUTS: usize = 100;
const RELOADS: usize = 24;

/// Sends messages until it is told to end, and answers with all of them.
pub fn load(port: u16) -> Background<Vec<Vec<u8>>> {
    Background::start(move |goes_on| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut sent = 0;
        while goes_on() {
            rsyslog::send(&mut stream, &messages(sent, sent + 10));
            sent += 10;
            std::thread::park_timeout(Duration::from_millis(5));
        }
        messages(0, sent)
    })
}

#[test]
fn killing_the_agent_loses_and_repeats_nothing_of_relp() {
    let port = lasting_port();
    let mut running = listening(|_| plain_source(port), port);
    let rsyslog = rsyslog::start_with(&running.site, &plain_action(port));
    let load = load(rsyslog.port);
    let mut dice = Dice::new(0x5eed_0100);
    for _ in 0..KILLS {
        dice.pause(Duration::from_millis(400));
        running.agent.kill().unwrap();
        running.agent = running.site.start_agent("gw01").unwrap();
    }
    let sent = load.end();
    expect_all(&running, &sent);
    tell(&format!("{KILLS} kills of the agent: {} messages by RELP, 0 lost, 0 twice", sent.len()));
}

/// Passes connections on, and cuts them when it is told to.
struct Proxy {
    port: u16,
    cuttable: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuttable: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let streams = Arc::clone(&cuttable);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                streams
                    .lock()
                    .unwrap()
                    .extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                pass_on(near.try_clone().unwrap(), far.try_clone().unwrap());
                pass_on(far, near);
            }
        });
        Proxy { port, cuttable }
    }

    /// Cuts every connection: both sides learn of it, or only the client, whose old connection
    /// then looks alive to the agent.
    fn cut(&self, both: bool) {
        for (index, stream) in self.cuttable.lock().unwrap().drain(..).enumerate() {
            if both || index % 2 == 0 {
                let _ = stream.shutdown(Shutdown::Both);
            } else {
                // Leaked: it stays open, and nothing comes of it any more.
                std::mem::forget(stream);
            }
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 14];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // The other end is told by whoever cuts.
    });
}

#[test]
fn connections_that_are_cut_lose_and_repeat_nothing() {
    let port = lasting_port();
    let running = listening(|_| plain_source(port), port);
    let proxy = Proxy::start(port);
    let rsyslog = rsyslog::start_with(&running.site, &plain_action(proxy.port));
    let load = load(rsyslog.port);
    let mut dice = Dice::new(0x5eed_0200);
    for cut in 0..CUTS {
        dice.pause(Duration::from_millis(400));
        proxy.cut(cut % 3 > 0);
    }
    let sent = load.end();
    expect_all(&running, &sent);
    tell(&format!("{CUTS} cuts: {} messages by RELP, 0 lost, 0 twice", sent.len()));
}

#[test]
fn a_stop_of_the_agent_repeats_nothing() {
    let port = lasting_port();
    let mut running = listening(|_| tls_source(port), port);
    let text = plain_action(port).replace(
        "target=",
        &format!(
            "tls=\"on\" tls.authMode=\"name\" tls.permittedPeer=[\"localhost\"] \
             tls.caCert={:?} tls.myCert={:?} tls.myPrivKey={:?} target=",
            running.site.path("pki/ca.pem"),
            running.site.cert("syslog-client", "web01"),
            running.site.key("syslog-client", "web01"),
        ),
    );
    let rsyslog = rsyslog::start_with(&running.site, &text);
    let load = load(rsyslog.port);
    let mut dice = Dice::new(0x5eed_0300);
    for _ in 0..8 {
        dice.pause(Duration::from_millis(1500));
        running.agent.stop(LIMIT).unwrap();
        running.agent = running.site.start_agent("gw01").unwrap();
    }
    let sent = load.end();
    expect_all(&running, &sent);
}

#[test]
fn sources_that_come_go_and_change_while_the_agent_runs_lose_and_repeat_nothing() {
    let (first, second) = (lasting_port(), lasting_port());
    let other = plain_source(second).replace("\"relp\"", "\"other\"");
    let mut running = listening(|_| plain_source(first) + &other, first);
    // Every message goes to both; whichever is away is waited for.
    let rsyslog = rsyslog::start_with(&running.site, &(plain_action(first) + &action(second)));
    let load = load(rsyslog.port);
    let mut dice = Dice::new(0x5eed_0500);
    for reload in 0..=RELOADS {
        dice.pause_from(Duration::from_millis(100), Duration::from_millis(1200));
        let changed = format!("{}resend_window = {}\n", plain_source(first), 512 + reload / 4);
        let sources = match reload % 4 {
            0 => changed + &other,
            1 => changed,
            2 => format!("{changed}{other}max_connections = {}\n", 8 + reload),
            _ => other.clone(),
        };
        running.site.configure_agent(&AgentOptions::new("gw01", sources)).unwrap();
        running.agent.signal(rustix::process::Signal::HUP).unwrap();
        running.agent.wait_ready(LIMIT).unwrap();
    }
    let sent = load.end();
    expect_all(&running, &sent);
    expect_all_of("other", &running, &sent);
    tell(&format!("{RELOADS} reloads: {} messages by RELP to two, 0 lost, 0 twice", sent.len()));
}
