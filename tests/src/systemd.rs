//! A machine with a systemd of its own, on this one: PID 1 of its own process, mount, control
//! group, IPC and host name namespaces. `/etc` is a copy, `/run`, `/var` and `/tmp` are empty, and
//! the network is this machine's. Nothing here changes; all of it goes with the machine.

use crate::{LIMIT, wait_for};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// What says what to do where no such machine can be made.
const NEEDED: &str = "this test boots a systemd in namespaces: it needs root (CAP_SYS_ADMIN), control groups of version 2, \
                      and the Debian package systemd; 'cargo xtask test' installs that";

/// Leaves for a control group of its own, which becomes the root of all groups inside.
const OUTER: &str = r#"
set -eu
mount -t cgroup2 none "$1/groups"
group="$1/groups$(sed -n 's/^0:://p' /proc/self/cgroup)/logseal-test-$$"
mkdir "$group"
echo $$ > "$group/cgroup.procs"
exec unshare --cgroup --pid --ipc --uts --fork --kill-child --mount-proc --propagation unchanged \
    sh -c "$2" sh "$1" "$3"
"#;

/// Makes the machine's folders, installs what is to be on it, and becomes its systemd. That
/// changes limits of the whole kernel where it may, so it may not.
const INNER: &str = r#"
set -eu
umount "$1/groups"
mount -t cgroup2 none /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --bind /dev/null /dev/console
mount -t tmpfs -o mode=755 none "$1/etc"
cp -a /etc/. "$1/etc"
mount --move "$1/etc" /etc
mount -t overlay -o "lowerdir=$1/bin:/usr/bin" none /usr/bin
for folder in run var; do mount -t tmpfs -o mode=755 none /$folder; done
mkdir -p /run/units /run/none /var/lib /var/log
mkdir -m 1777 /var/tmp
for unit in sysinit basic network shutdown; do
    printf '[Unit]\nDefaultDependencies=no\n' > /run/units/$unit.target
done
cd "$1"
eval "$2"
cd /
mount -t tmpfs -o mode=1777 none /tmp
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_UNIT_PATH=/run/units \
    SYSTEMD_GENERATOR_PATH=/run/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none \
    /lib/systemd/systemd --system --unit=basic.target --show-status=no
"#;

/// Waits for the end of the dead machine's systemd, and removes its control groups.
const CLEAN: &str = r#"
while [ -e "/proc/$3" ]; do sleep 0.01; done
mount -t cgroup2 none "$1/groups"
group=$(find "$1/groups" -type d -name "logseal-test-$2")
find "$group" -depth -type d -exec rmdir {} +
"#;

/// A running machine; gone when this is dropped.
pub struct Machine {
    outer: Child,
    /// The machine's PID 1, as this one numbers it.
    init: u32,
    dir: TempDir,
}

impl Machine {
    /// Boots a machine. Before its systemd starts, `install` fills a folder with what is to be
    /// installed; programs in its `bin` are in the machine's `/usr/bin`, and the shell commands it
    /// gives back put everything else into place. Units belong into `/run/units`.
    ///
    /// # Panics
    /// With what is needed, when it cannot be made.
    pub fn boot(install: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["groups", "etc", "bin"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let commands = install(dir.path());
        let said = fs::File::create(dir.path().join("log")).unwrap();
        // Whatever ends this test ends the machine.
        let outer = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
            .args(["sh", "-c", OUTER, "sh"])
            .arg(dir.path())
            .args([INNER, &commands])
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        let mut machine = Machine { outer, init: 0, dir };
        machine.init = wait_for("a systemd", || machine.find_init());
        wait_for("systemd to be up", || {
            let state = machine.try_systemctl(&["is-system-running"]).1;
            (state.trim() == "running").then_some(())
        });
        machine
    }

    fn find_init(&mut self) -> Option<u32> {
        if let Some(status) = self.outer.try_wait().unwrap() {
            let said = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            panic!("{NEEDED} ({status}: {said})");
        }
        let pid = self.outer.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child = children.trim().parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() == "systemd").then_some(child)
    }

    /// Where a file of the machine is for this one.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Runs systemctl there.
    ///
    /// # Panics
    /// When that fails.
    pub fn systemctl(&self, args: &[&str]) -> String {
        let (worked, said) = self.try_systemctl(args);
        assert!(worked, "systemctl {args:?}: {said}");
        said
    }

    /// Runs systemctl there; whether that worked, and what it said.
    pub fn try_systemctl(&self, args: &[&str]) -> (bool, String) {
        let output = self.command().args(["systemctl", "--no-pager"]).args(args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// A property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", "--property", property, unit]).trim().to_owned()
    }

    /// Waits until a property of a unit is this.
    pub fn wait(&self, unit: &str, property: &str, value: &str) {
        wait_for(&format!("{property} of {unit} to be {value}"), || {
            (self.show(unit, property) == value).then_some(())
        });
    }

    /// What runs a command there, for a bounded time.
    pub fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.arg(LIMIT.as_secs().to_string());
        command.args(["nsenter", "--target", &self.init.to_string(), "--mount", "--pid"]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its systemd ends with it, and everything else with that.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let _ = Command::new("timeout")
            .arg(LIMIT.as_secs().to_string())
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-c", CLEAN, "sh"])
            .arg(self.dir.path())
            .args([self.outer.id(), self.init].map(|pid| pid.to_string()))
            .output();
    }
}
