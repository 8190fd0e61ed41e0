//! A real syslog-ng, unpacked beside the build by `cargo xtask test`, because Debian does not let
//! it be installed beside rsyslog.

use logseal::site::{Site, free_ports};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running syslog-ng; killed when dropped.
pub struct SyslogNg {
    child: Child,
    /// Where it takes RFC 5424 messages counted in octets over plain TCP, on loopback.
    pub port: u16,
    /// What it said.
    pub log: PathBuf,
}

impl SyslogNg {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for SyslogNg {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts syslog-ng with a source `s_src` on loopback and, behind it, this configuration.
pub fn start(site: &Site, config: &str) -> SyslogNg {
    let [port] = free_ports().unwrap();
    let source = format!(
        "source s_src {{ syslog(ip(127.0.0.1) port({port}) transport(\"tcp\") \
         log-iw-size(10000)); }};"
    );
    let mut running = run(site, &format!("{source}\n{config}"));
    running.port = port;
    let listening = || TcpStream::connect(("127.0.0.1", port)).ok().filter(|_| running.lives());
    crate::wait_for("syslog-ng to listen", listening);
    running
}

/// Starts syslog-ng with this configuration.
pub fn run(site: &Site, config: &str) -> SyslogNg {
    let root = root();
    let work = site.path("syslog-ng");
    fs::create_dir_all(&work).unwrap();
    let path = work.join("syslog-ng.conf");
    fs::write(&path, format!("@version: 3.38\n{config}\n")).unwrap();
    let log = work.join("log");
    let said = fs::File::create(&log).unwrap();
    let library = |dir: &str| root.join(dir).display().to_string();
    let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib/syslog-ng"]
        .map(library)
        .into_iter()
        .chain(["lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"].map(library));
    let mut command = Command::new(root.join("usr/sbin/syslog-ng"));
    command
        .env("LD_LIBRARY_PATH", libraries.collect::<Vec<_>>().join(":"))
        .args(["--foreground", "--no-caps"])
        .arg(format!("--module-path={}", library("usr/lib/syslog-ng/3.38")))
        .arg("--cfgfile")
        .arg(&path)
        .arg("--persist-file")
        .arg(work.join("persist"))
        .arg("--pidfile")
        .arg(work.join("pid"))
        .arg("--control")
        .arg(work.join("ctl"))
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said);
    SyslogNg { child: command.spawn().unwrap(), port: 0, log }
}

impl SyslogNg {
    /// True while it runs; fails with what it said if it does not.
    fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let said = || fs::read_to_string(&self.log).unwrap_or_default();
        assert!(!stat.contains(") Z "), "syslog-ng ended: {}", said());
        true
    }
}

/// The folder it was unpacked into.
fn root() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().map(|dir| dir.join("syslog-ng/root")).find(|root| root.exists());
    found.expect("syslog-ng is not unpacked: run the tests with 'cargo xtask test'")
}

/// The drop-in as it is shipped, its paths and port replaced by the site's.
pub fn drop_in(site: &Site) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/syslog-ng-logseal.conf");
    let text = fs::read_to_string(path).unwrap();
    let replace = |text: String, from: &str, to: String| {
        assert!(text.contains(from), "the drop-in has {from}");
        text.replace(from, &to)
    };
    let file = |path: PathBuf| path.display().to_string();
    let buffer = site.path("syslog-ng");
    let text = replace(text, "port(6514)", format!("port({})", site.syslog_port));
    let text = replace(text, "/etc/logseal/tls/ca.pem", file(site.path("pki/ca.pem")));
    let (cert, key) = (site.cert("syslog-client", "web01"), site.key("syslog-client", "web01"));
    let text = replace(text, "/etc/logseal/tls/syslog-ng.pem", file(cert));
    let text = replace(text, "/etc/logseal/tls/syslog-ng.key", file(key));
    replace(text, "/var/lib/syslog-ng", file(buffer))
}
