//! A mistake in the configuration is named with its file, its line and what to do.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use link::Role;
use logseal_agent::{
    commands::{
        check::check,
        key::{KeyCommandError, load_or_create},
    },
    config::{Config, SourceKind},
};

use crate::{fake_node::Ledger, support::*};

/// A machine on which the example configuration is right.
pub struct Machine {
    pub dir: tempfile::TempDir,
    pub certificates: Certificates,
    pub text: String,
}

impl Machine {
    pub fn new() -> Self {
        let (dir, certificates) = (tempfile::tempdir().unwrap(), Certificates::new());
        let files = certificates.issue(Role::Agent, "gw01");
        fs::write(dir.path().join("policy"), Ledger::new().policy()).unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("log/access.log"), "").unwrap();
        let example =
            fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/agent.toml")).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let text = example
            .replace("\"/etc/logseal/policy\"", &format!("\"{}\"", at("policy")))
            .replace("\"/etc/logseal/tls/ca.pem\"", &format!("{:?}", files.ca))
            .replace("\"/etc/logseal/tls/crl.pem\"", &format!("{:?}", files.crl.unwrap()))
            .replace("\"/etc/logseal/tls/agent.pem\"", &format!("{:?}", files.cert))
            .replace("\"/etc/logseal/tls/agent.key\"", &format!("{:?}", files.key))
            .replace("/var/lib/logseal-agent", &at("lib"))
            .replace("/var/log/kong", &at("log"));
        Machine { dir, certificates, text }
    }

    pub fn file(&self) -> PathBuf {
        let path = self.dir.path().join("agent.toml");
        fs::write(&path, &self.text).unwrap();
        path
    }

    fn make_key(&self) -> String {
        load_or_create(&Config::load(&self.file()).unwrap()).unwrap().0
    }

    /// The problems after a change of the text, and the line that was changed.
    fn problems(&self, from: &str, to: &str) -> (Vec<String>, usize) {
        assert!(self.text.contains(from), "{from}");
        let line = self.text[..self.text.find(from).unwrap()].matches('\n').count() + 1;
        let changed = Machine { text: self.text.replacen(from, to, 1), ..Machine::new() };
        // The certificates are those of the first machine, whose files the text names.
        (check(&changed.file()).problems, line)
    }
}

#[test]
fn the_example_configuration_is_right() {
    let machine = Machine::new();
    let vkey = machine.make_key();
    let report = check(&machine.file());
    assert!(report.ok, "{:?}", report.problems);
    let summary = report.summary.join("\n");
    for part in
        ["agent 'gw01' of the ledger 'ledger.example/x'", &vkey, "127.0.0.1:6514", "1 files now"]
    {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    let config = Config::load(&machine.file()).unwrap();
    assert_eq!((config.sealing.linger_ms, config.sealing.max_records), (50, 4096));
    assert_eq!(config.spool.max_bytes, 1 << 30);
    assert!(matches!(&config.sources[1].kind, SourceKind::Syslog(s) if s.max_message == 1 << 20));
}

#[test]
fn the_defaults_that_the_example_shows_are_those_of_the_program() {
    let machine = Machine::new();
    let shown: Vec<&str> = machine
        .text
        .lines()
        .filter(|line| line.starts_with("# ") && line.contains(" = "))
        .collect();
    let wanted = [
        "patience_ms",
        "linger_ms",
        "max_records",
        "max_kib",
        "heartbeat_s",
        "max_mib",
        "max_line_kib",
        "max_message_kib",
        "max_connections",
        "start",
        "enterprise",
    ];
    let mut text = machine.text.clone();
    for key in wanted {
        let line = shown.iter().find(|line| line.starts_with(&format!("# {key} = ")));
        let line = line.unwrap_or_else(|| panic!("{key} is not shown"));
        text = text.replacen(line, &line[2..], 1);
    }
    let defaults = Config::load(&machine.file()).unwrap();
    let written = Config::load(&Machine { text, ..Machine::new() }.file()).unwrap();
    let meant = |config: &Config| {
        let kinds: Vec<_> =
            config.sources.iter().map(|source| format!("{:?}", source.kind)).collect();
        let uplink = (config.enterprise, config.patience);
        format!("{:?} {:?} {kinds:?} {uplink:?}", config.sealing, config.spool)
    };
    assert_eq!(meant(&written), meant(&defaults));
}

#[test]
fn a_source_of_relp_listens_without_tls_on_loopback_only() {
    let machine = Machine::new();
    let load = |listen: &str, more: &str| {
        let relp = format!("[[source.relp]]\nname = \"relp\"\nlisten = \"{listen}\"\n{more}\n");
        let text = machine.text.replacen("[metrics]", &format!("{relp}[metrics]"), 1);
        let config = Config::load(&Machine { text, ..Machine::new() }.file());
        config.map_err(|error| error.to_string())
    };
    let plain = load("127.0.0.1:2514", "plain = true").unwrap();
    let SourceKind::Relp(relp) = &plain.sources[2].kind else { panic!("{plain:?}") };
    assert_eq!((relp.relp.max_message, relp.relp.resend_window, &relp.tls), (3 << 20, 4096, &None));
    assert!(load("0.0.0.0:2514", "").is_ok(), "with TLS");
    for (listen, more, said) in [
        ("0.0.0.0:2514", "plain = true", "only this machine may send"),
        ("127.0.0.1:6514", "", "another source listens on 127.0.0.1:6514 already"),
        ("[::1]:1", "resend_window = 7", "resend_window: 7 is out of bounds"),
        ("[::1]:1", "max_buffered_mib = 7", "max_buffered_mib: 7 is out of bounds"),
        ("[::1]:1", "window = 7", "unknown field `window`"),
    ] {
        let error = load(listen, more).unwrap_err();
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_named_with_its_line() {
    let machine = Machine::new();
    machine.make_key();
    for (from, to, said) in [
        ("name = \"gw01\"", "name = \"GW01\"", "name: 'GW01' is not a name"),
        (
            "nodes = [\"127.0.0.1:7514\"]",
            "nodes = [\"127.0.0.1\"]",
            "ledger.nodes: '127.0.0.1' is not host:port",
        ),
        ("nodes = [\"127.0.0.1:7514\"]", "nodes = []", "name at least one node"),
        ("nodes = [\"127.0.0.1:7514\"]", "nodes = [\"a:1\", \"a:1\"]", "'a:1' is named twice"),
        ("# patience_ms = 5000", "patience_ms = 1", "use 500 to 600000 ms"),
        (
            "# linger_ms = 50",
            "linger_ms = 51",
            "seal.linger_ms: 51 is out of bounds: use 1 to 50 ms",
        ),
        ("# max_records = 4096", "max_records = 0", "use 1 to 16384 records"),
        ("# max_kib = 3072", "max_kib = 4096", "use 64 to 3072 KiB"),
        ("# heartbeat_s = 60", "heartbeat_s = 0", "use 1 to 3600 s"),
        ("# max_mib = 1024", "max_mib = 1", "spool.max_mib: 1 is out of bounds"),
        ("# max_line_kib = 3072", "max_line_kib = 0", "source.file[0].max_line_kib"),
        ("# max_message_kib = 1024", "max_message_kib = 1", "use 64 to 3072 KiB"),
        (
            "name = \"syslog\"",
            "name = \"kong\"",
            "source.syslog[0].name: 'kong' is the name of another source",
        ),
        ("name = \"syslog\"", "name = \"sys log\"", "'sys log' is no name for a source"),
        ("listen = \"127.0.0.1:6514\"", "listen = \"6514\"", "'6514' is not an address"),
        ("listen = \"127.0.0.1:9515\"", "listen = \"0.0.0.0:9515\"", "on loopback only"),
        ("format = \"kong\"", "format = \"king\"", "unknown variant `king`"),
        ("# host = \"gw01\"", "host = \"a b\"", "host: 'a b' is no host name"),
        ("# start = \"beginning\"", "stop = 1", "unknown field `stop`"),
    ] {
        let (problems, line) = machine.problems(from, to);
        let [problem] = &problems[..] else { panic!("{to}: {problems:?}") };
        assert!(problem.contains(said), "{said}: {problem}");
        assert!(problem.contains(&format!("agent.toml:{line}:")), "line {line}: {problem}");
    }
}

#[test]
fn a_table_of_fields_that_does_not_fit_is_named_with_its_line() {
    let machine = Machine::new();
    machine.make_key();
    let format = "format = \"kong\"";
    let fields = |format: &str, field: &str| format!("{format}\n[source.file.fields]\n{field}\n");
    for (to, below, said) in [
        (fields(format, "user = '/a'"), 2, "source.file[0].fields.\"user\": is no access field"),
        (fields(format, "\"user.id\" = 'a'"), 2, "fields.\"user.id\": 'a' is no JSON pointer"),
        (fields(format, "'url.path' = { from = '/a', unit = 's' }"), 2, "has no unit"),
        (fields(format, "time = '/a'"), 2, "\"time\": needs a unit"),
        (fields(format, "user.id = '/a'"), 2, "unknown field `id`"),
        (fields(format, "party = { unit = 's' }"), 2, "missing field `from`"),
        (fields(format, "party = 7"), 2, "expected where the field is"),
        (fields("format = 'raw'", "party = '/a'"), 0, "format 'raw' extracts nothing"),
        (fields("format = 'haproxy'", "party = '/a'"), 2, "no part of a line"),
        (format!("{format}\npattern = 'a'"), 1, "source.file[0].pattern: a pattern belongs to"),
        ("format = 'regex'".to_owned(), 0, "source.file[0].format: format 'regex' needs a pattern"),
        ("format = 'regex'\npattern = '(a'".to_owned(), 1, "pattern: is no regular expression"),
        ("format = 'json'".to_owned(), 0, "has no fields of its own"),
        (format!("{format}\nfields = {{ user = '/a' }}"), 1, "is no access field"),
    ] {
        let (problems, line) = machine.problems(format, &to);
        let [problem] = &problems[..] else { panic!("{to}: {problems:?}") };
        assert!(problem.contains(said), "{said}: {problem}");
        let place = format!("agent.toml:{}:", line + below);
        assert!(problem.contains(&place), "{place}: {problem}");
    }
}

#[test]
fn a_glob_or_relative_path_that_matches_nothing_ever_is_named() {
    let machine = Machine::new();
    machine.make_key();
    let path = format!("[\"{}\"]", machine.dir.path().join("log/access.log").display());
    for (to, said) in [
        ("[\"access.log\"]", "not an absolute path"),
        ("[\"/a/[\"]", "is not a glob"),
        ("[]", "paths is empty"),
    ] {
        let (problems, line) = machine.problems(&path, to);
        assert!(problems[0].contains(said), "{problems:?}");
        assert!(
            problems[0].contains(&format!("agent.toml:{line}: source.file[0].paths")),
            "{problems:?}"
        );
    }
}

#[test]
fn all_that_is_wrong_outside_the_file_is_named_at_once() {
    let machine = Machine::new();
    machine.make_key();
    let config = Config::load(&machine.file()).unwrap();
    fs::set_permissions(&config.seal_key, PermissionsExt::from_mode(0o644)).unwrap();
    fs::remove_file(&config.tls.key).unwrap();
    fs::write(&config.spool.dir, "").unwrap();
    let report = check(&machine.file());
    let problems = report.problems.join("\n");
    assert_eq!((report.ok, report.problems.len()), (false, 3), "{problems}");
    for part in ["tls.key: the", "does not exist", "chmod 600", "is not a directory"] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
}

#[test]
fn a_certificate_of_another_agent_or_role_is_named() {
    let machine = Machine::new();
    machine.make_key();
    let (problems, line) = machine.problems("name = \"gw01\"", "name = \"gw02\"");
    let said = problems.join("\n");
    assert!(said.contains(&format!("agent.toml:{line}: name: the certificate")), "{said}");
    assert!(said.contains("agent 'gw01', not of agent 'gw02'"), "{said}");
    let other = machine.certificates.issue(Role::Auditor, "eve");
    let text = machine.text.replace("agent-gw01", "auditor-eve");
    let report = check(&Machine { text, ..Machine::new() }.file());
    assert!(
        report.problems[0].contains("is that of auditor eve"),
        "{:?} {other:?}",
        report.problems
    );
}

#[test]
fn a_policy_that_cannot_be_used_is_named() {
    let machine = Machine::new();
    let policy = machine.dir.path().join("policy");
    for (text, said) in [
        ("log x\n", "policy line 1"),
        ("quorum none\n", "names no log"),
        ("", "exactly one quorum"),
    ] {
        fs::write(&policy, text).unwrap();
        let problems = check(&machine.file()).problems.join("\n");
        assert!(problems.contains(said) && problems.contains(": policy: "), "{problems}");
    }
    fs::remove_file(&policy).unwrap();
    assert!(check(&machine.file()).problems[0].contains("cannot read"));
}

#[test]
fn a_missing_key_is_answered_with_the_command_that_makes_it() {
    let machine = Machine::new();
    let problems = check(&machine.file()).problems.join("\n");
    assert!(
        problems.contains("seal.key") && problems.contains("logseal-agent key --config"),
        "{problems}"
    );
}

#[test]
fn a_key_is_made_once_and_never_beside_what_another_sealed() {
    let machine = Machine::new();
    let config = Config::load(&machine.file()).unwrap();
    let (vkey, created) = load_or_create(&config).unwrap();
    assert!(created && vkey.starts_with("ledger.example/x/agent/gw01+"));
    assert_eq!(load_or_create(&config).unwrap(), (vkey, false));
    drop(established(&config.spool.dir));
    fs::remove_file(&config.seal_key).unwrap();
    let error = load_or_create(&config).unwrap_err();
    assert!(matches!(error, KeyCommandError::Lost { .. }), "{error}");
}

/// A machine with a `[shadow]` table.
fn shadow(table: &str) -> Machine {
    let mut machine = Machine::new();
    let dir = machine.dir.path().join("lib/shadow");
    machine.text.push_str(&format!("\n[shadow]\ndir = {dir:?}\n{table}\n"));
    machine
}

#[test]
fn shadow_mode_is_off_unless_it_is_asked_for_and_its_mistakes_are_named() {
    assert!(Config::load(&Machine::new().file()).unwrap().shadow.is_none());
    let machine = shadow("udp = \"0.0.0.0:5514\"\nsources = [\"kong\"]");
    machine.make_key();
    let report = check(&machine.file());
    assert!(report.ok, "{:?}", report.problems);
    assert!(report.summary.join("\n").contains("shadow mode: old feed from udp 0.0.0.0:5514"));
    let config = Config::load(&machine.file()).unwrap().shadow.unwrap();
    let settings = config.settings;
    assert_eq!((settings.period_s, settings.settle_ms, settings.examples), (3600, 60_000, 20));
    assert_eq!((settings.max_pending, config.keep_days), (100_000, 90));
    for (table, said) in [
        ("", "set udp, tcp or file"),
        ("udp = \"5514\"", "shadow.udp: '5514' is not an address"),
        ("file = \"old.log\"", "shadow.file: 'old.log' is not an absolute path"),
        ("tcp = \"127.0.0.1:1\"\nsources = [\"kongo\"]", "there is no source 'kongo'"),
        ("tcp = \"127.0.0.1:1\"\nperiod_s = 7000", "no whole part of a day"),
        ("tcp = \"127.0.0.1:1\"\nsettle_s = 0", "shadow.settle_s: 0 is out of bounds"),
        ("tcp = \"127.0.0.1:1\"\nseconds = 1", "unknown field"),
    ] {
        let problems = check(&shadow(table).file()).problems.join("\n");
        assert!(problems.contains(said), "{table}: {problems}");
    }
}

#[test]
fn the_example_of_shadow_mode_is_right() {
    let mut machine = Machine::new();
    let (before, table) = machine.text.split_once("# [shadow]").unwrap();
    let keys = table.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if key.contains(" = ") && !key.contains(": ") => format!("{key}\n"),
        _ => String::new(),
    });
    machine.text = format!("{before}\n[shadow]\n{}", keys.collect::<String>());
    let written = Config::load(&machine.file()).unwrap().shadow.unwrap();
    let minimal = shadow("udp = \"127.0.0.1:5514\"");
    let defaults = Config::load(&minimal.file()).unwrap().shadow.unwrap();
    assert_eq!(written.settings, defaults.settings);
    assert_eq!(written.keep_days, defaults.keep_days);
    assert_eq!(written.receive_buffer, defaults.receive_buffer);
    assert!(written.udp.is_some() && written.tcp.is_some() && written.file.is_some());
}
