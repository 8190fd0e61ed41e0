//! `logseal drill`: a backup is worth what was restored from it.

use super::{identities, repo::Repo, restore, snapshot::Snapshot};
use crate::{
    client::{ClientArgs, Connection, block_on},
    declare::Signer,
    export::write_file,
    output::{Failure, Outcome, fail},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use link::{Role, message::ToNode, statement};
use pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use record::{
    Hash, TreeSize, UnixMillis,
    crypto::sha256,
    declaration::{Drill, Matter, is_snapshot},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// In front of what an operator signs, so that it is nothing else.
const DOMAIN: &str = "logseal drill report v1\n";

/// Restore the newest snapshot into a scratch folder, execute all of it, and report how long that took.
#[derive(Args, Clone, Debug)]
pub struct DrillArgs {
    /// The repository
    #[arg(long, value_name = "REPO", required_unless_present = "check")]
    from: Option<PathBuf>,
    /// Only check who signed this report
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    check: Option<PathBuf>,
    /// The snapshot [default: the newest]
    #[arg(long, value_name = "ID")]
    snapshot: Option<String>,
    /// Where the scratch folder is made; it needs as much space as the block log and the hashes of given up entries
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    scratch: PathBuf,
    /// The ledger's policy, as you were given it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The age identities that an encrypted repository is opened with
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Write the report to this new file, signed if --cert and --key are given
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The operator's certificate
    #[arg(long, value_name = "FILE", requires_all = ["key", "report"])]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Declare the result in the ledger, as an operator: a client configuration file, such as operator.toml
    #[arg(long, value_name = "FILE", requires = "from")]
    submit: Option<PathBuf>,
}

/// Removed with everything in it when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is named by the next drill, which finds it there.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Carries the command out.
pub fn run(args: DrillArgs) -> Result<Outcome, Failure> {
    if let Some(path) = args.report.as_ref().filter(|path| path.exists()) {
        return Err(Failure(format!("{} exists: name a new file", path.display())));
    }
    if let Some(path) = &args.check {
        return check_report(path);
    }
    let from =
        args.from.clone().ok_or_else(|| Failure("name the repository with --from".into()))?;
    let repo = Repo::open(&from)?;
    let identities = identities(&repo, args.identity.as_deref())?;
    let begun = (Instant::now(), service::clock::now());
    let name = format!("logseal-drill-{}", std::process::id());
    let scratch = Scratch(args.scratch.join(name));
    let outcome = repo.snapshot(args.snapshot.as_deref()).and_then(|snapshot| {
        let plan = restore::Plan {
            repo: &repo,
            snapshot: &snapshot,
            policy: args.policy.as_deref(),
            identities: &identities,
            allow_damaged: false,
        };
        let restored = restore::make(&plan, &scratch.0)?;
        Ok((snapshot, restored))
    });
    let mut report = json!({
        "program": format!("logseal {}", env!("CARGO_PKG_VERSION")),
        "repository": from.display().to_string(),
        "begun": begun.1.to_string(),
        "seconds": begun.0.elapsed().as_secs_f64(),
        "verified": outcome.is_ok(),
        "policy": args.policy.is_some(),
    });
    match &outcome {
        Ok((snapshot, restored)) => {
            let facts = json!({
                "snapshot": snapshot.id,
                "made": snapshot.made,
                "ledger": snapshot.ledger,
                "blocks": restored.blocks,
                "records": restored.records,
                "entries": snapshot.size,
                "dropped": snapshot.dropped(),
                "minimum_index": snapshot.minimum_index(),
                "root": snapshot.root,
                "bytes": restored.bytes,
                "copy_seconds": restored.copied.as_secs_f64(),
                "verify_seconds": restored.executed.as_secs_f64(),
            });
            merge(&mut report, facts);
        }
        Err(failure) => report["problem"] = failure.0.clone().into(),
    }
    let text = report.to_string();
    if let Some(path) = &args.report {
        write_report(path, &text, args.cert.as_deref().zip(args.key.as_deref()))?;
    }
    let mut answer = finish(report, outcome.is_ok());
    if let Some(config) = &args.submit {
        let snapshot = outcome.as_ref().ok().map(|(snapshot, _)| snapshot);
        let declared =
            drill(begun, &text, snapshot).and_then(|drill| submit(config, drill, snapshot));
        note_declared(&mut answer, declared);
    }
    Ok(answer)
}

/// Says what became of the declaration; the result of the drill stands whatever did.
fn note_declared(answer: &mut Outcome, declared: Result<u64, Failure>) {
    match declared {
        Ok(index) => {
            answer.json["declared"] = index.into();
            answer.text += &format!("declared        entry {index}\n");
        }
        Err(failure) => {
            answer.text += &format!("NOT DECLARED    {}\n", failure.0);
            answer.json["not_declared"] = failure.0.into();
            if answer.code == service::exit::OK {
                answer.code = service::exit::USAGE;
            }
        }
    }
}

/// What is declared of a drill.
fn drill(
    begun: (Instant, UnixMillis),
    report: &str,
    snapshot: Option<&Snapshot>,
) -> Result<Drill, Failure> {
    let root = |snapshot: &Snapshot| {
        let root = Hash::from_base64(&snapshot.root);
        root.ok_or_else(|| Failure(format!("snapshot {} names no root", snapshot.id)))
    };
    let name = snapshot.map(|snapshot| snapshot.id.clone()).filter(|name| is_snapshot(name));
    Ok(Drill {
        verified: snapshot.is_some(),
        snapshot: name.unwrap_or_else(|| "-".to_owned()),
        size: TreeSize(snapshot.map(|snapshot| snapshot.size).unwrap_or_default()),
        root: snapshot.map(root).transpose()?.unwrap_or_default(),
        begun: begun.1,
        millis: begun.0.elapsed().as_millis() as u64,
        report: digest(report),
    })
}

/// SHA-256 of a report's text, as the ledger names it.
fn digest(report: &str) -> Hash {
    Hash(sha256(&[report.as_bytes()]))
}

/// Has the ledger of the snapshot decide on it; answers with the ledger index of the declaration.
fn submit(config: &Path, drill: Drill, snapshot: Option<&Snapshot>) -> Result<u64, Failure> {
    let client = ClientArgs::from_file(config).resolve()?;
    let signer = Signer::of(&client)?;
    block_on(async {
        // Who can be reached takes it; the greeting is all that is asked before.
        let ask = async |connection: &mut Connection| connection.ask(&ToNode::Ping).await;
        let (_, mut connection) = client.first(&[Role::Operator], ask).await?;
        let here = &connection.welcome.origin;
        if let Some(other) = snapshot.filter(|snapshot| snapshot.ledger != *here) {
            return Err(Failure(format!(
                "the snapshot is of the ledger {}, and {} names nodes of {here}",
                other.ledger,
                config.display()
            )));
        }
        signer.declare(&mut connection, Matter::Drill(drill)).await
    })
}

fn merge(report: &mut Value, facts: Value) {
    if let (Value::Object(report), Value::Object(facts)) = (report, facts) {
        report.extend(facts);
    }
}

/// Writes a report: the text that is signed, and who signed it.
fn write_report(path: &Path, text: &str, signer: Option<(&Path, &Path)>) -> Result<(), Failure> {
    let mut file = json!({ "report": text });
    if let Some((cert, key)) = signer {
        let named = |path: &Path, error: pki_types::pem::Error| {
            Failure(format!("{}: {error}", path.display()))
        };
        let certificate = CertificateDer::from_pem_file(cert).map_err(|e| named(cert, e))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| named(key, e))?;
        let message = format!("{DOMAIN}{text}");
        let signature = statement::sign(&private, message.as_bytes()).map_err(fail)?;
        if !statement::verifies(&certificate, message.as_bytes(), &signature) {
            let problem = "is not the key of the certificate";
            return Err(Failure(format!("{} {problem} {}", key.display(), cert.display())));
        }
        file["certificate"] = BASE64.encode(&certificate).into();
        file["signature"] = BASE64.encode(signature).into();
    }
    write_file(path, (file.to_string() + "\n").as_bytes())
}

/// Checks that the holder of the certificate in a report signed it. Whether that certificate is to be
/// trusted its reader decides: it is shown whose it is.
fn check_report(path: &Path) -> Result<Outcome, Failure> {
    let bytes = std::fs::read(path).map_err(Failure::file(path))?;
    let named = |problem: &str| Failure(format!("{}: {problem}", path.display()));
    let file: Value = serde_json::from_slice(&bytes).map_err(|_| named("it is no report"))?;
    let text = |name: &str| file[name].as_str();
    let report = text("report").ok_or_else(|| named("it is no report"))?;
    let decoded = |name: &str| text(name).and_then(|text| BASE64.decode(text).ok());
    let (Some(certificate), Some(signature)) = (decoded("certificate"), decoded("signature"))
    else {
        let digest = digest(report);
        return Err(named(&format!(
            "it is not signed; as a declaration in the ledger would name it: {digest}"
        )));
    };
    let message = format!("{DOMAIN}{report}");
    let holds = statement::verifies(&certificate, message.as_bytes(), &signature);
    let signer = link::Identity::from_der(&certificate);
    let signer = signer.map_or_else(|_| "nobody".to_owned(), |identity| identity.to_string());
    let verdict = if holds { "HOLDS  " } else { "BROKEN " };
    let said: Value = serde_json::from_str(report).unwrap_or_default();
    Ok(Outcome {
        text: format!("{verdict} signed by {signer}\nreport  {}\n{report}\n", digest(report)),
        json: json!({
            "verified": holds,
            "signer": signer,
            "digest": digest(report).to_string(),
            "report": said,
        }),
        code: if holds { service::exit::OK } else { service::exit::BROKEN },
    })
}

fn finish(report: Value, holds: bool) -> Outcome {
    let mut text = String::from(if holds {
        "HOLDS   the drill succeeded\n"
    } else {
        "BROKEN  the drill failed\n"
    });
    if let Value::Object(fields) = &report {
        for (name, value) in fields {
            let shown = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            text += &format!("{name:15} {shown}\n");
        }
    }
    let code = if holds { service::exit::OK } else { service::exit::BROKEN };
    Outcome { text, json: report, code }
}
