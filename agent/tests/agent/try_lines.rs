//! `logseal-agent try`, as a person calls it.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use logseal_agent::config::SourceFormat;

const KONG: &str = r#"{"request":{"method":"GET","uri":"/v1/a?b","headers":{"x-purpose":"audit","x-why":"戶籍"}},"client_ip":"10.1.2.3","consumer":{"username":"clerk07","id":"0f1e"},"started_at":1795248147125}"#;

/// Nothing in it but the sources: neither certificates nor a ledger.
const CONFIG: &str = r#"
[[source.file]]
name = "kong"
format = "kong"
paths = ["/var/log/kong/*.log"]
[source.file.fields]
"user.id" = "/consumer/id"
purpose = ["/request/headers/X-Why", "/request/headers/x-purpose"]
time = { from = "/started_at", unit = "ms" }

[[source.file]]
name = "portal"
format = "regex"
pattern = '^(?<who>\w+) (?<what>\S+) (?<took>[0-9.]+)'
paths = ["/var/log/portal.log"]
fields = { "user.id" = "who", "url.path" = "what", "event.duration" = { from = "took", unit = "s" } }

[[source.syslog]]
name = "devices"
listen = "127.0.0.1:6514"
format = "json"
[source.syslog.fields]
party = "/who"
"#;

fn run(dir: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logseal-agent"));
    command.current_dir(dir).arg("try").args(arguments);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // Whoever gave a wrong command is not listened to.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Every configuration of a source in `docs/gateways.md`, as it is there.
#[test]
fn the_documented_sources_are_right() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/gateways.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 11, "{}", blocks.len());
    let dir = tempfile::tempdir().unwrap();
    for block in blocks {
        let path = dir.path().join("agent.toml");
        fs::write(&path, block).unwrap();
        let sources = SourceFormat::load_all(&path).unwrap();
        assert_eq!(sources.len(), 1, "{block}");
    }
}

fn configured() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("agent.toml"), CONFIG).unwrap();
    dir
}

#[test]
fn each_line_is_shown_with_what_the_users_table_takes_from_it() {
    let dir = configured();
    fs::write(dir.path().join("a.log"), format!("{KONG}\nsomething else\n{KONG}")).unwrap();
    let arguments = ["--config", "agent.toml", "--source", "kong", "a.log"];
    let (code, out, err) = said(&run(dir.path(), &arguments, ""));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let line = "  time = 2026-11-21T08:02:27.125Z\n  user.id = 0f1e\n  source.ip = 10.1.2.3\n  \
                http.request.method = GET\n  url.path = /v1/a\n  purpose = 戶籍\n";
    let nothing = "line 2\n  no fields: the line is not in the format\n";
    assert!(
        out.starts_with(&format!("line 1\n{line}{nothing}line 3\n{line}3 lines, 2 in")),
        "{out}"
    );
    assert!(out.contains("  user.id: 2\n") && out.contains("  party: 0\n"), "{out}");
}

#[test]
fn json_is_an_object_a_line_and_a_summary() {
    let dir = configured();
    let arguments = ["--format", "kong", "--json", "--lines", "2", "-"];
    let (code, out, _) = said(&run(dir.path(), &arguments, &format!("x\n{KONG}\n{KONG}\n")));
    assert_eq!(code, Some(0));
    let objects: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [first, second, summary] = &objects[..] else { panic!("{out}") };
    assert_eq!((&first["line"], &first["matched"]), (&1.into(), &false.into()));
    assert_eq!(second["time"], "2026-11-21T08:02:27.125Z");
    assert_eq!(second["fields"]["user.id"], "clerk07");
    assert_eq!((&summary["lines"], &summary["matched"]), (&2.into(), &1.into()));
    assert_eq!((&summary["format"], &summary["fields"]["purpose"]), (&"kong".into(), &1.into()));
}

#[test]
fn a_pattern_and_the_inside_of_syslog_messages_are_tried() {
    let dir = configured();
    let arguments = ["--config", "agent.toml", "--source", "portal", "-"];
    let (code, out, _) = said(&run(dir.path(), &arguments, "lin /a?b 0.25 x\n"));
    assert_eq!(code, Some(0));
    assert!(
        out.contains("user.id = lin\n  url.path = /a\n  event.duration = 250000000\n"),
        "{out}"
    );
    let new = "<134>1 2026-11-21T10:02:27Z h app - - - {\"who\":\"lin\"}\n";
    let old = "<38>Nov 21 10:02:27 h app[1]: {\"who\":\"chen\"}\n";
    let arguments = ["--config", "agent.toml", "--source", "devices", "-"];
    let (code, out, _) = said(&run(dir.path(), &arguments, &format!("{new}{old}")));
    assert_eq!(code, Some(0));
    assert!(out.contains("party = lin\n") && out.contains("party = chen\n"), "{out}");
    let inside = format!("<38>Nov 21 10:02:27 h kong: {KONG}\n");
    assert_eq!(
        run(dir.path(), &["--format", "kong", "--syslog", "-"], &inside).status.code(),
        Some(0)
    );
    assert_eq!(run(dir.path(), &["--format", "kong", "-"], &inside).status.code(), Some(1));
}

#[test]
fn what_cannot_be_tried_is_told_with_code_2_and_what_fits_nothing_with_1() {
    let dir = configured();
    fs::write(dir.path().join("empty.toml"), "name = 'gw01'\n").unwrap();
    let broken = CONFIG.replace("\"/consumer/id\"", "\"consumer\"");
    fs::write(dir.path().join("broken.toml"), broken).unwrap();
    for (arguments, code, part) in [
        (&["--format", "kong", "-"][..], 1, ""),
        (&["--format", "kong", "none.log"], 2, "cannot read none.log"),
        (&["--format", "king", "-"], 2, "nginx-combined"),
        (&["--format", "json", "-"], 2, "has no fields of its own"),
        (&["--format", "kong", "--source", "kong", "-"], 2, "cannot be used with"),
        (&["--config", "agent.toml", "-"], 2, "its sources are 'kong', 'portal', 'devices'"),
        (&["--config", "agent.toml", "--source", "x", "-"], 2, "there is no source 'x'"),
        (&["--config", "empty.toml", "-"], 2, "has no source"),
        (&["--config", "none.toml", "-"], 2, "cannot read none.toml"),
        (
            &["--config", "broken.toml", "--source", "kong", "-"],
            2,
            "broken.toml:7: source.file[0].fields.\"user.id\": 'consumer' is no JSON pointer",
        ),
    ] {
        let (found, _, err) = said(&run(dir.path(), arguments, "plain\n"));
        assert_eq!(found, Some(code), "{arguments:?}: {err}");
        assert!(err.contains(part), "{part}: {err}");
    }
}
