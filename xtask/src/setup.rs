//! What the tests need from Debian: installed if that is allowed, else named.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Packages, and a file that shows that each is there.
const NEEDED: [(&str, &[&str]); 12] = [
    ("curl", &["/usr/bin/curl"]),
    ("iproute2", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"]),
    ("logrotate", &["/usr/sbin/logrotate"]),
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
    ("strace", &["/usr/bin/strace"]),
    ("systemd", &["/usr/bin/systemd-analyze", "/bin/systemd-analyze"]),
    (
        "systemd-journal-remote",
        &["/lib/systemd/systemd-journal-remote", "/usr/lib/systemd/systemd-journal-remote"],
    ),
    ("openssl", &["/usr/bin/openssl"]),
    ("xxd", &["/usr/bin/xxd"]),
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

/// syslog-ng and the libraries that only it needs. Its package cannot stand beside rsyslog's.
const SYSLOG_NG: [&str; 5] = ["syslog-ng-core", "libivykis0", "libnet1", "libwrap0", "libpcre3"];

/// Unpacks syslog-ng into a folder of the build's, where tests find it; nothing is installed.
pub fn syslog_ng() -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = own.ancestors().nth(2).ok_or("this program is not in a build's folder")?;
    let dir = target.join("syslog-ng");
    if dir.join("root/usr/sbin/syslog-ng").exists() {
        return Ok(());
    }
    eprintln!("unpacking syslog-ng");
    // Under another name until it is whole.
    let fresh = target.join("syslog-ng.new");
    let made = std::fs::remove_dir_all(&fresh)
        .or_else(|error| if fresh.exists() { Err(error) } else { Ok(()) })
        .and_then(|()| std::fs::create_dir_all(fresh.join("root")));
    made.map_err(|error| format!("{}: {error}", fresh.display()))?;
    if download(&fresh).is_err() {
        // The lists of packages are missing or old.
        if is_root() {
            apt(&["update", "-qq"])?;
        }
        download(&fresh).map_err(|error| {
            format!("{error}. The tests need Debian's syslog-ng: run\n  sudo apt-get update")
        })?;
    }
    let files = std::fs::read_dir(&fresh).map_err(|error| error.to_string())?;
    for file in files.map_while(Result::ok).map(|file| file.path()) {
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&file).arg(fresh.join("root")))?;
        }
    }
    std::fs::rename(&fresh, &dir).map_err(|error| format!("{}: {error}", dir.display()))
}

fn download(into: &Path) -> Result<(), String> {
    run(Command::new("apt-get").arg("download").args(SYSLOG_NG).current_dir(into))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{command:?} failed: {said}"))
        }
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
