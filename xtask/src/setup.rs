//! What the tests need from Debian: installed if that is allowed, else named.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Packages, and a file that shows that each is there.
const NEEDED: [(&str, &[&str]); 9] = [
    ("curl", &["/usr/bin/curl"]),
    ("iproute2", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"]),
    ("rsyslog", &["/usr/sbin/rsyslogd"]),
    (
        "rsyslog-gnutls",
        &[
            "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so",
            "/usr/lib/aarch64-linux-gnu/rsyslog/lmnsd_gtls.so",
        ],
    ),
    (
        "rsyslog-openssl",
        &[
            "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so",
            "/usr/lib/aarch64-linux-gnu/rsyslog/lmnsd_ossl.so",
        ],
    ),
    (
        "rsyslog-relp",
        &[
            "/usr/lib/x86_64-linux-gnu/rsyslog/imrelp.so",
            "/usr/lib/aarch64-linux-gnu/rsyslog/imrelp.so",
        ],
    ),
    ("systemd", &["/usr/bin/systemd-analyze", "/bin/systemd-analyze"]),
    (
        "systemd-journal-remote",
        &["/lib/systemd/systemd-journal-remote", "/usr/lib/systemd/systemd-journal-remote"],
    ),
    ("openssl", &["/usr/bin/openssl"]),
];

/// Sees to it that everything is there. Tests never pass by leaving something out.
pub fn debian() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !is_root() {
        return Err(format!(
            "the tests need Debian packages that are not installed. Run\n  sudo {command}"
        ));
    }
    eprintln!("installing {}", missing.join(" "));
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(missing);
    apt(&args)?;
    match self::missing() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{} could not be installed. Run\n  {command}", left.join(" "))),
    }
}

fn missing() -> Vec<&'static str> {
    let absent = |files: &[&str]| !files.iter().any(|file| Path::new(file).exists());
    NEEDED.iter().filter(|(_, files)| absent(files)).map(|(package, _)| *package).collect()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt(args: &[&str]) -> Result<(), String> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("'apt-get {}' failed: {other:?}", args.join(" "))),
    }
}
