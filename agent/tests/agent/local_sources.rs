//! The configuration of sources on the agent's own machine.

use logseal_agent::{
    commands::{check::check, key::load_or_create},
    config::{Config, SourceKind},
};

use crate::config::Machine;

/// A machine with one more source.
fn with(source: &str) -> Machine {
    let mut machine = Machine::new();
    machine.text = format!("{}\n{source}\n", machine.text);
    load_or_create(&Config::load(&machine.file()).unwrap()).unwrap();
    machine
}

#[test]
fn a_local_source_is_as_short_as_it_can_be() {
    let sources = "[[source.unix]]\nname = \"a\"\npath = \"/run/logseal/log.sock\"\n\
                   [[source.udp]]\nname = \"b\"\nlisten = \"[::1]:5140\"\n\
                   [[source.stdin]]\nname = \"c\"\n\
                   [[source.journald]]\nname = \"d\"\n\
                   [[source.otlp]]\nname = \"e\"\nlisten = \"127.0.0.1:4318\"\nplain = true\n";
    let machine = with(sources);
    let config = Config::load(&machine.file()).unwrap();
    let kind = |name: &str| config.sources.iter().find(|source| source.name == name).unwrap();
    assert!(matches!(&kind("a").kind, SourceKind::Unix(unix) if unix.mode == 0o666));
    assert!(matches!(&kind("b").kind, SourceKind::Udp(udp) if udp.receive_buffer == 8 << 20));
    let report = check(&machine.file());
    let summary = report.summary.join("\n");
    for part in [
        "the local socket /run/logseal/log.sock (Datagram, mode 0666)",
        "syslog by UDP on [::1]:5140, from anybody",
        "standard input, to its end",
        "the journal of this machine",
        "OTLP/HTTP without TLS on 127.0.0.1:4318",
    ] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
}

#[test]
fn a_value_of_a_local_source_that_cannot_be_meant_is_named_with_its_line() {
    let unix = "[[source.unix]]\nname = \"x\"\npath = \"/run/x\"\n";
    for (source, said) in [
        ("[[source.unix]]\nname = \"x\"\npath = \"x.sock\"", "'x.sock' is not absolute"),
        (&format!("{unix}mode = \"888\""), "'888' is no mode of a file"),
        (&format!("{unix}mode = \"7777\""), "'7777' is no mode of a file"),
        (&format!("{unix}kind = \"raw\""), "unknown variant `raw`"),
        (&format!("{unix}max_message_kib = 9999"), "use 64 to 3072 KiB"),
        (
            &format!("{unix}[[source.unix]]\nname = \"y\"\npath = \"/run/x\""),
            "another source listens on /run/x already",
        ),
        ("[[source.udp]]\nname = \"x\"\nlisten = \"0.0.0.0:514\"", "UDP is taken on loopback only"),
        (
            "[[source.stdin]]\nname = \"x\"\n[[source.stdin]]\nname = \"y\"",
            "another source listens on standard input already",
        ),
        ("[[source.journald]]\nname = \"x\"\nmatches = [\"--all\"]", "'--all' is no match"),
        ("[[source.journald]]\nname = \"x\"\npriority = \"bad\"", "'bad' is no priority"),
        ("[[source.journald]]\nname = \"x\"\nunits = [\"\"]", "a name is empty"),
        (
            "[[source.otlp]]\nname = \"x\"\nlisten = \"0.0.0.0:4318\"\nplain = true",
            "without TLS it is taken on loopback only",
        ),
    ] {
        let mut machine = Machine::new();
        let first = machine.text.lines().count() + 1;
        let last = first + source.lines().count();
        machine.text = format!("{}\n{source}\n", machine.text);
        let Err(error) = Config::load(&machine.file()) else { panic!("{source} was taken") };
        let error = error.to_string();
        let line = error.split("agent.toml:").nth(1).and_then(|rest| rest.split(':').next());
        let line: usize =
            line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{error}"));
        assert!(error.contains(said), "{said}: {error}");
        assert!((first..=last + 1).contains(&line), "{error}");
    }
}

#[test]
fn a_journalctl_or_directory_that_is_not_there_is_named() {
    let machine = with(
        "[[source.journald]]\nname = \"x\"\njournalctl = \"/nowhere/journalctl\"\n\
         [[source.unix]]\nname = \"y\"\npath = \"/nowhere/log.sock\"",
    );
    let report = check(&machine.file());
    let problems = report.problems.join("\n");
    assert!(problems.contains("source.journald[0].journalctl: /nowhere/journalctl"), "{problems}");
    assert!(report.warnings.iter().any(|warning| warning.contains("/nowhere does not exist now")));
}
