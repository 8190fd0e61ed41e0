//! How `journalctl` is called.

use std::{ffi::OsString, fs, process::Stdio};

use tokio::process::Command;

use super::{JournaldConfig, Start};

/// Follows the journal, beginning with the entry of `cursor`, which it shows again: so it is seen
/// whether that is still there.
pub(super) fn follow(config: &JournaldConfig, cursor: Option<&str>) -> Command {
    let mut command = base(config);
    command.args(["--follow", "--no-tail"]);
    match cursor {
        Some(cursor) => {
            command.arg(format!("--cursor={cursor}"));
        }
        None if config.start == Start::Boot => {
            command
                .args(own_id("/proc/sys/kernel/random/boot_id").map(|id| format!("_BOOT_ID={id}")));
        }
        None => {}
    }
    command
}

/// Shows the newest entry, and ends.
pub(super) fn newest(config: &JournaldConfig) -> Command {
    let mut command = base(config);
    command.arg("--lines=1");
    command
}

/// Without `--merge` only entries of the current boot are followed, and those that were written
/// just before a restart of the machine are never seen.
fn base(config: &JournaldConfig) -> Command {
    let mut command = Command::new(&config.journalctl);
    command.args(["--output=json", "--all", "--merge", "--no-pager"]);
    let option = |name: &str, value: &str| format!("--{name}={value}");
    command.args(config.units.iter().map(|unit| option("unit", unit)));
    command.args(config.identifiers.iter().map(|identifier| option("identifier", identifier)));
    command.args(config.priority.iter().map(|priority| option("priority", priority)));
    command.args(config.namespace.iter().map(|namespace| option("namespace", namespace)));
    match &config.directory {
        Some(directory) => {
            let mut option = OsString::from("--directory=");
            option.push(directory);
            command.arg(option);
        }
        // All journals includes those of other machines.
        None => {
            command.args(own_id("/etc/machine-id").map(|id| format!("_MACHINE_ID={id}")));
        }
    }
    command.args(&config.matches);
    command.env("LC_ALL", "C.UTF-8").env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// An identifier of this machine, as the journal writes it.
fn own_id(file: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let id: String = text.trim().chars().filter(|c| *c != '-').collect();
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}
