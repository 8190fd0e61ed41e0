//! A real syslog-ng, unpacked beside the build by `cargo xtask test`, because Debian does not let
//! it be installed beside rsyslog.

use logseal::site::{Process, Site, free_ports};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
};

/// A running syslog-ng.
pub struct SyslogNg {
    /// Its process.
    pub process: Process,
    /// Where it takes RFC 5424 messages counted in octets over plain TCP, on loopback.
    pub port: u16,
}

/// Starts syslog-ng with a source `s_src` on loopback and, behind it, this configuration.
pub fn start(site: &Site, config: &str) -> SyslogNg {
    let [port] = free_ports().unwrap();
    let source = format!(
        "source s_src {{ syslog(ip(127.0.0.1) port({port}) transport(\"tcp\") \
         log-iw-size(10000)); }};"
    );
    let mut process = process(&site.path("syslog-ng"), &format!("{source}\n{config}"));
    crate::wait_for("syslog-ng to listen", || {
        assert!(process.is_running(), "syslog-ng ended: {}", process.log_tail());
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    SyslogNg { process, port }
}

/// Starts syslog-ng with this configuration; its files are in this folder.
pub fn process(work: &Path, config: &str) -> Process {
    let root = root();
    fs::create_dir_all(work).unwrap();
    let path = work.join("syslog-ng.conf");
    fs::write(&path, format!("@version: 3.38\n{config}\n")).unwrap();
    let library = |dir: &str| root.join(dir).display().to_string();
    let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib/syslog-ng"]
        .map(library)
        .into_iter()
        .chain(["lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"].map(library));
    let libraries = format!("LD_LIBRARY_PATH={}", libraries.collect::<Vec<_>>().join(":"));
    let file = |name: &str| work.join(name).display().to_string();
    let args = [
        &libraries,
        &library("usr/sbin/syslog-ng"),
        "--foreground",
        "--no-caps",
        &format!("--module-path={}", library("usr/lib/syslog-ng/3.38")),
        "--cfgfile",
        &path.display().to_string(),
        "--persist-file",
        &file("persist"),
        "--pidfile",
        &file("pid"),
        "--control",
        &file("ctl"),
    ];
    // env becomes the program: the process is syslog-ng itself.
    Process::start(Path::new("/usr/bin/env"), &args, &work.join("log")).unwrap()
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
