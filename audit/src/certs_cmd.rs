//! `logseal certs`: the command line of the PKI in `certs/`.
//!
//! Prints what was done and what comes next; with `--json`, one JSON object
//! instead, errors included. Exit status: 0 when it was done, 2 when it was
//! not, for whatever reason.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use certs::{
    CA_DAYS, CRL_DAYS, CertificateReport, Host, InstalledFile, Issued, LEAF_DAYS, MAX_DAYS, Name,
    PROFILES, Pki, Reason, Renewal, Report, Request, Revocation, Serial, Status, Timestamp,
    Validity, Which,
};
use clap::{
    Args, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser},
};
use serde_json::{Value, json};

/// The status of every failure, as clap uses it for wrong usage.
const FAILED: u8 = 2;
/// From how many days before its end on `show` mentions it.
const SOON_DAYS: u32 = 30;

/// Issue, renew and revoke the certificates of nodes, agents, people and syslog senders.
///
/// The certificate authority is a directory. Whoever can read its ca.key can be anybody, so keep
/// it off the servers, and back it up. What each program needs of it is ca.pem, crl.pem, and its
/// own certificate and key from issued/.
#[derive(Args, Debug)]
pub struct CertsArgs {
    #[command(subcommand)]
    command: Command,

    /// The directory of the certificate authority
    #[arg(long, global = true, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,

    /// Print one JSON object instead of text; an error is {"error": "…"}
    #[arg(long, global = true)]
    json: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The PKI refused or could not.
    #[error(transparent)]
    Pki(#[from] certs::Error),
    /// The result could not be printed.
    #[error("cannot print the result: {0}; what was asked for has been done")]
    Output(#[from] io::Error),
    /// The result has no JSON.
    #[error("cannot print the result as JSON: {0}; what was asked for has been done")]
    Json(#[from] serde_json::Error),
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make a new certificate authority, with an empty revocation list
    Init {
        /// The authority's name, as it stands in its certificate
        #[arg(long, value_name = "NAME", default_value = "logseal CA")]
        name: String,
        /// How long it holds
        #[arg(long, default_value_t = CA_DAYS, value_parser = days())]
        days: u32,
    },
    /// Make a key and a certificate for somebody who has none yet
    Issue {
        #[command(flatten)]
        who: Who,
        /// A DNS name or IP address under which it is reached; can be repeated. A node's or
        /// agent's certificate holds for localhost, 127.0.0.1 and ::1 besides
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<Host>,
        /// How long the certificate holds
        #[arg(long, default_value_t = LEAF_DAYS, value_parser = days())]
        days: u32,
    },
    /// Make another certificate for somebody who has one
    ///
    /// Role, name, hosts and key stay the same. The certificate before it stays valid until it
    /// expires; revoke it by its serial number if it must not.
    Renew {
        #[command(flatten)]
        who: Who,
        /// Make a new key too; the old one is kept beside it as <file>.key.<serial>
        #[arg(long)]
        new_key: bool,
        /// Replace the hosts; can be repeated
        #[arg(long = "host", value_name = "HOST")]
        hosts: Option<Vec<Host>>,
        /// How long the certificate holds
        #[arg(long, default_value_t = LEAF_DAYS, value_parser = days())]
        days: u32,
    },
    /// Revoke every certificate of somebody, or one by its serial number
    ///
    /// Writes a new crl.pem. The revocation takes effect in each program once this file has
    /// replaced the one it has; none needs a restart.
    Revoke {
        /// The role
        #[arg(value_parser = role(), required_unless_present = "serial", requires = "name")]
        role: Option<String>,
        /// The name
        #[arg(requires = "role")]
        name: Option<Name>,
        /// Revoke only the certificate with this serial number
        #[arg(long, value_name = "SERIAL", conflicts_with_all = ["role", "name"])]
        serial: Option<Serial>,
        /// Why
        #[arg(long, default_value = Reason::Unspecified.as_str(), value_parser = reason())]
        reason: Reason,
    },
    /// Write a new revocation list with the same content
    ///
    /// A program that has a revocation list refuses every connection once the list has run out.
    /// Run this every week, for example, and distribute crl.pem.
    Crl {
        /// How long the list holds
        #[arg(long, default_value_t = CRL_DAYS, value_parser = days())]
        days: u32,
    },
    /// Show the authority, its revocation list and its certificates
    Show {
        /// Only this role
        #[arg(value_parser = role())]
        role: Option<String>,
        /// Only this name
        name: Option<Name>,
    },
}

#[derive(Args, Debug)]
struct Who {
    /// The role, which decides what the holder may do
    #[arg(value_parser = role())]
    role: String,
    /// The name: a-z, 0-9, '.' and '-'; an agent's is also the name of its log for ever
    name: Name,
}

/// Runs the command. In text mode an error is the caller's to print, and its
/// status is 2; with `--json` it has been printed, and the status says so.
///
/// # Errors
/// See [`CertsError`].
pub fn run(args: &CertsArgs) -> Result<ExitCode, CertsError> {
    let mut out = io::stdout().lock();
    match execute(args, SystemTime::now().into(), &mut out) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if args.json => {
            writeln!(out, "{}", json!({ "error": error.to_string() }))?;
            Ok(ExitCode::from(FAILED))
        }
        Err(error) => Err(error),
    }
}

fn execute(args: &CertsArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), CertsError> {
    let (object, text) = match &args.command {
        Command::Init { name, days } => init(&args.dir, name, *days, now)?,
        command => act(&Pki::open(&args.dir)?, command, now)?,
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &object)?;
        writeln!(out)?;
    } else {
        out.write_all(text.as_bytes())?;
    }
    Ok(out.flush()?)
}

/// What a command did, for programs and for people.
type Outcome = (Value, String);

fn act(pki: &Pki, command: &Command, now: Timestamp) -> Result<Outcome, CertsError> {
    match command {
        Command::Init { .. } => unreachable!("init does not open what it makes"),
        Command::Issue { who, hosts, days } => {
            let request = Request::new(&who.role, who.name.as_str(), Validity::days(now, *days)?)?;
            let issued = pki.issue(&request.hosts(hosts.iter().cloned()))?;
            Ok((serde_json::to_value(&issued)?, issued_text("Issued", &issued)))
        }
        Command::Renew { who, new_key, hosts, days } => {
            let validity = Validity::days(now, *days)?;
            let mut renewal = Renewal::new(&who.role, who.name.as_str(), validity)?;
            if let Some(hosts) = hosts {
                renewal = renewal.hosts(hosts.iter().cloned());
            }
            if *new_key {
                renewal = renewal.new_key();
            }
            let issued = pki.renew(&renewal)?;
            Ok((serde_json::to_value(&issued)?, issued_text("Renewed", &issued)))
        }
        Command::Revoke { role, name, serial, reason } => {
            let which = match (role, name, serial) {
                (_, _, Some(serial)) => Which::Serial(*serial),
                (Some(role), Some(name), None) => Which::identity(role, name.as_str())?,
                _ => unreachable!("clap requires role and name, or a serial number"),
            };
            let done = pki.revoke(&which, *reason, now)?;
            Ok((serde_json::to_value(&done)?, revoked_text(&which, &done)))
        }
        Command::Crl { days } => {
            let end = pki.refresh_crl(*days, now)?.not_after;
            let object = json!({ "crl": pki.crl(), "refresh_before": end.to_string() });
            let crl = pki.crl();
            Ok((object, format!("Wrote {}; {}\n", crl.display(), distribute(end))))
        }
        Command::Show { role, name } => {
            let mut report = pki.show(now)?;
            report.certificates.retain(|c| {
                role.as_ref().is_none_or(|role| c.role == *role)
                    && name.as_ref().is_none_or(|name| c.name == *name)
            });
            Ok((serde_json::to_value(&report)?, report_text(&report, now)))
        }
    }
}

fn init(dir: &Path, name: &str, days: u32, now: Timestamp) -> Result<Outcome, CertsError> {
    let pki = Pki::init(dir, name, Validity::days(now, days)?, now)?;
    let report = pki.show(now)?;
    let (ca, crl) = (&report.ca, &report.crl);
    let object = json!({ "dir": dir, "ca": ca, "crl": crl });
    let text = format!(
        "Made the CA {} in {}, valid until {}.\n  {}  give it to every program as 'ca'\n  {}  \
         give it to every program as 'crl'; {}\n  {}  keep it secret, and keep a copy\nNext: \
         logseal certs issue --dir {} node <name> --host <host>\n",
        ca.subject,
        dir.display(),
        ca.validity.not_after,
        ca.certificate.display(),
        crl.file.display(),
        distribute(crl.validity.not_after),
        dir.join("ca.key").display(),
        dir.display(),
    );
    Ok((object, text))
}

fn issued_text(verb: &str, issued: &Issued) -> String {
    let mut text = format!(
        "{verb} {} {}, valid until {}.\n  certificate  {}\n  key          {}\n  serial       {}\n",
        issued.role,
        issued.name,
        issued.validity.not_after,
        issued.certificate.display(),
        issued.key.display(),
        issued.serial,
    );
    if !issued.hosts.is_empty() {
        let hosts: Vec<String> = issued.hosts.iter().map(Host::to_string).collect();
        text += &format!("  hosts        {}\n", hosts.join(", "));
    }
    if let Some(old) = &issued.old_key {
        text += &format!("  old key      {}\n", old.display());
    }
    text
}

fn revoked_text(which: &Which, done: &Revocation) -> String {
    let mut text = format!("Revoked {which} ({}):\n", done.reason);
    for serial in &done.revoked {
        text += &format!("  {serial}\n");
    }
    text + &format!("Wrote {}; {}\n", done.crl.display(), distribute(done.refresh_before))
}

fn distribute(end: Timestamp) -> String {
    format!("replace it before {end} ('logseal certs crl')")
}

fn report_text(report: &Report, now: Timestamp) -> String {
    let (ca, crl) = (&report.ca, &report.crl);
    let mut text = format!(
        "CA   {}  {}\n     {}\nCRL  number {}, {} revoked  {}\n     {}\n",
        ca.subject,
        standing(ca.status, ca.validity, now),
        ca.certificate.display(),
        crl.number,
        crl.revoked,
        standing(crl.status, crl.validity, now),
        crl.file.display(),
    );
    let mut sorted: Vec<&CertificateReport> = report.certificates.iter().collect();
    sorted.sort_by_key(|c| (c.role, c.name.clone()));
    let width =
        |of: &dyn Fn(&CertificateReport) -> usize| sorted.iter().map(|c| of(c)).max().unwrap_or(0);
    let (roles, names) = (width(&|c| c.role.len()), width(&|c| c.name.as_str().len()));
    if !sorted.is_empty() {
        text.push('\n');
    }
    for c in sorted {
        let mut notes = standing(c.status, c.validity, now);
        if let (Some(reason), Some(at)) = (c.reason, c.revoked_at) {
            notes = format!("revoked {at} ({reason})");
        }
        notes += match c.installed {
            InstalledFile::Present => "",
            InstalledFile::Replaced => ", renewed since",
            InstalledFile::Missing => ", its file is missing: renew it",
            InstalledFile::Differs => ", its file holds something else: renew it",
        };
        let name = c.name.as_str();
        text += &format!("{:roles$}  {name:names$}  {}  {notes}\n", c.role, c.serial);
    }
    text
}

fn standing(status: Status, validity: Validity, now: Timestamp) -> String {
    let Validity { not_before, not_after } = validity;
    match status {
        Status::NotYetValid => format!("valid from {not_before} on"),
        Status::Expired => format!("EXPIRED {not_after}"),
        Status::Valid if not_after < now.plus_days(SOON_DAYS) => {
            let days = (not_after.seconds() - now.seconds()) / 86_400;
            format!("valid until {not_after}: {days} days left")
        }
        Status::Valid => format!("valid until {not_after}"),
        Status::Revoked => "revoked".to_owned(),
    }
}

fn role() -> PossibleValuesParser {
    PossibleValuesParser::new(PROFILES.iter().map(|p| PossibleValue::new(p.role).help(p.about)))
}

fn reason() -> impl TypedValueParser<Value = Reason> {
    let parser = PossibleValuesParser::new(Reason::ALL.map(Reason::as_str));
    parser.try_map(|text| text.parse::<Reason>())
}

fn days() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=u64::from(MAX_DAYS))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser, error::ErrorKind};

    use super::*;

    const NOW: u64 = 1_795_248_147;

    #[derive(Parser, Debug)]
    struct Program {
        #[command(flatten)]
        certs: CertsArgs,
    }

    fn parse(dir: &Path, line: &str) -> Result<CertsArgs, clap::Error> {
        let dir = dir.to_str().unwrap();
        let words = ["certs", "--dir", dir].into_iter().chain(line.split_whitespace());
        Program::try_parse_from(words).map(|program| program.certs)
    }

    fn try_run(dir: &Path, line: &str) -> Result<String, CertsError> {
        let mut out = Vec::new();
        execute(&parse(dir, line).unwrap(), NOW.into(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn run_json(dir: &Path, line: &str) -> Value {
        serde_json::from_str(&try_run(dir, &format!("{line} --json")).unwrap()).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_person_can_run_a_pki_from_the_help_texts() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("pki");
        let text = try_run(&dir, "init --name Test").unwrap();
        assert!(text.starts_with("Made the CA CN=Test"), "{text}");
        let text = try_run(&dir, "issue agent gw01 --host gw01.example").unwrap();
        assert!(text.contains("127.0.0.1, ::1, gw01.example"), "{text}");
        try_run(&dir, "renew agent gw01 --new-key --days 10").unwrap();
        try_run(&dir, "issue auditor alice").unwrap();
        let text = try_run(&dir, "revoke auditor alice --reason key-compromise").unwrap();
        assert!(text.contains("Revoked auditor alice (key-compromise)"), "{text}");
        try_run(&dir, "crl --days 60").unwrap();
        let text = try_run(&dir, "show").unwrap();
        for part in ["number 3, 1 revoked", ", renewed since", "10 days left", "(key-compromise)"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        let text = try_run(&dir, "show auditor").unwrap();
        assert!(text.contains("alice") && !text.contains("gw01"), "{text}");
    }

    #[test]
    fn a_script_can_read_every_result() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("pki");
        assert_eq!(run_json(&dir, "init")["ca"]["subject"], "CN=logseal CA");
        let issued = run_json(&dir, "issue node n1");
        assert_eq!(issued["validity"]["not_before"], "2026-11-21T07:02:27Z");
        assert!(issued["key"].as_str().unwrap().ends_with("issued/node-n1.key"));
        let renewed = run_json(&dir, "renew node n1 --new-key");
        let serial = issued["serial"].as_str().unwrap();
        let kept = renewed["old_key"].as_str().unwrap();
        assert!(kept.ends_with(&format!("node-n1.key.{serial}")));
        let revoked = run_json(&dir, &format!("revoke --serial {serial}"));
        assert_eq!(revoked["revoked"], json!([serial]));
        assert_eq!(run_json(&dir, "crl")["refresh_before"], "2026-12-21T08:02:27Z");
        let report = run_json(&dir, "show");
        let found = &report["certificates"];
        assert_eq!((&found[0]["status"], &found[0]["newest"]), (&json!("revoked"), &json!(false)));
        assert_eq!(
            (&found[1]["status"], &found[1]["installed"]),
            (&json!("valid"), &json!("present"))
        );
    }

    #[test]
    fn wrong_usage_is_told_before_anything_is_touched() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("pki");
        for line in [
            "issue king arthur",
            "issue node Arthur",
            "issue node n1 --host 1.2.3.400",
            "issue node n1 --days 0",
            "revoke",
            "revoke node",
            "revoke node n1 --serial 40000000000000000000000000000000",
            "revoke --serial 1",
            "revoke node n1 --reason dislike",
        ] {
            let error = parse(&dir, line).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(FAILED), "{line}");
            assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
        }
        assert!(!dir.exists());
    }

    #[test]
    fn an_error_says_what_to_do_and_a_script_can_read_it() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("pki");
        let error = try_run(&dir, "issue node n1").unwrap_err().to_string();
        assert!(error.contains("run 'logseal certs init --dir"), "{error}");
        try_run(&dir, "init").unwrap();
        let error = try_run(&dir, "init").unwrap_err().to_string();
        assert!(error.ends_with("choose another --dir"), "{error}");
        let code = run(&parse(&dir, "renew node n1 --json").unwrap()).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(FAILED)));
        assert!(run(&parse(&dir, "renew node n1").unwrap()).is_err());
    }
}
