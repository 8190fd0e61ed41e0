//! `logseal-agent top` on a real terminal: what it shows, and what it leaves behind.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    config::Machine,
    control::status,
    fake_node::{Ledger, Mood},
    process::{Agent, enrolled},
    support::*,
};

/// A person's end of a pseudo-terminal.
struct Terminal {
    keys: File,
    /// The programs' end. As long as it is open, nothing of the terminal is gone.
    programs: OwnedFd,
    /// Everything that was written to it.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let programs = ioctl_tiocgptpeer(&person, flags).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&person, size).unwrap();
        let keys = File::from(person);
        let (mut screen, written) = (keys.try_clone().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
        let write = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends when the last program has closed its end.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                write.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        Terminal { keys, programs, written }
    }

    /// Starts `top` as a shell does: the terminal is its controlling one.
    fn top(&self, machine: &Machine) -> Child {
        let mut command = Command::new("setsid");
        let end = || Stdio::from(self.programs.try_clone().unwrap());
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_logseal-agent"), "top"]);
        command.arg("--config").arg(machine.dir.path().join("agent.toml"));
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    /// Whether this was written. Where the screen was blank nothing is, so it has no spaces.
    fn shows(&self, text: &str) -> bool {
        let written = self.written.lock().unwrap();
        written.windows(text.len()).any(|part| part == text.as_bytes())
    }

    fn press(&mut self, key: &[u8]) {
        self.keys.write_all(key).unwrap();
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.programs).unwrap()
    }
}

/// What a shell would find changed.
fn assert_same(before: &Termios, after: &Termios) {
    assert_eq!(before.local_modes, after.local_modes);
    assert_eq!(before.input_modes, after.input_modes);
    assert_eq!(before.output_modes, after.output_modes);
    assert_eq!(before.control_modes, after.control_modes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_shows_every_source_and_leaves_the_terminal_as_it_was() {
    let ledger = Ledger::new();
    let (machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let log = machine.dir.path().join("log/access.log");
    OpenOptions::new().append(true).open(log).unwrap().write_all(b"one\ntwo\n").unwrap();
    let _agent = Agent::start(&machine.file());
    until("the lines have receipts", || status(&machine)["log"]["receipted"] == 2).await;
    let told = status(&machine);
    let sources: Vec<&str> =
        told["sources"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
    assert!(sources.len() > 1, "{told}");
    for key in [&b"q"[..], b"\x1b", b"\x03"] {
        let mut terminal = Terminal::open();
        let before = terminal.modes();
        let mut top = terminal.top(&machine);
        until("the screen is drawn", || terminal.shows("ends")).await;
        for text in sources.iter().copied().chain(["'gw01'", "receipted,", "MiB,"]) {
            assert!(terminal.shows(text), "{text} is not shown");
        }
        assert!(terminal.shows("\x1b[?1049h"), "it draws beside what the shell showed");
        assert!(!terminal.modes().local_modes.contains(LocalModes::ICANON), "keys come at once");
        terminal.press(key);
        let mut ended = None;
        until("it ends", || {
            ended = top.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{key:?}");
        assert_same(&before, &terminal.modes());
        // Out of the other screen again, with a cursor.
        until("the shell's screen is back", || {
            terminal.shows("\x1b[?1049l") && terminal.shows("\x1b[?25h")
        })
        .await;
    }
}
