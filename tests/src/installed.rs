//! A machine with everything installed as it is shipped: a ledger of one node, ready to be started,
//! and the units of all who look at it.

use crate::systemd::Machine;
use logseal::{
    cluster::Ports,
    site::{Programs, free_ports},
};
use record::{
    Origin,
    note::{NoteSigner, SignatureType},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use zeroize::Zeroizing;

/// The ledger's identity.
pub const ORIGIN: &str = "ledger.city.example/access";
/// Where the ledger's folders are, as `logseal cluster init` made them.
pub const LEDGER: &str = "/var/ledger";

/// Everything that README.txt of a new ledger and docs/operate.md say, but that there is no journal:
/// what a unit says goes to `/var/log/UNIT.log`.
const INSTALL: &str = "
systemd-sysusers $PWD/logseal.sysusers
systemd-tmpfiles --create $PWD/logseal.tmpfiles
cp logseal-*.service logseal-*.timer /run/units
for unit in ledger monitor witness forward backup drill; do
    mkdir /run/units/logseal-$unit.service.d
    printf '[Service]\\nStandardOutput=append:%s\\nStandardError=append:%s\\n' \
        /var/log/logseal-$unit.log /var/log/logseal-$unit.log > /run/units/logseal-$unit.service.d/log.conf
done
logseal cluster init --nodes 1 --origin ORIGIN --address 127.0.0.1 --dir LEDGER
find LEDGER -name '*.toml' -exec sed -i \
    -e 's/0\\.0\\.0\\.0:/127.0.0.1:/' -e 's/:7514\\b/:AGENTS/' -e 's/:7515\\b/:PEERS/' \
    -e 's/:7580\\b/:HTTPS/' -e 's/:9514\\b/:METRICS/' {} +
cp -rp LEDGER/node1/* /etc/logseal/
chown -R logseal-ledger: /etc/logseal/keys /etc/logseal/tls/node.key
";

/// The machine. Nothing runs on it before somebody starts it.
pub struct Installed {
    /// The machine.
    pub machine: Machine,
    /// Where the node listens.
    pub ports: Ports,
}

impl Installed {
    /// Installs everything; `files` are put into `/etc/logseal` besides.
    pub fn boot(files: &[(&str, &str)]) -> Self {
        let [agents, peers, https, metrics] = free_ports().unwrap();
        let ports = Ports { agents, peers, https, metrics };
        let machine = Machine::boot(|dir| {
            copy(dir);
            let mut commands = INSTALL.replace("ORIGIN", ORIGIN).replace("LEDGER", LEDGER);
            for (name, port) in
                [("AGENTS", agents), ("PEERS", peers), ("HTTPS", https), ("METRICS", metrics)]
            {
                commands = commands.replace(name, &port.to_string());
            }
            for (name, text) in files {
                fs::write(dir.join(name), text).unwrap();
                commands += &format!("cp {name} /etc/logseal/\n");
            }
            commands
        });
        Installed { machine, ports }
    }

    /// Starts a unit, which must get ready.
    pub fn start(&self, unit: &str) {
        self.machine.systemctl(&["start", unit]);
    }

    /// Enrols an agent whose key nobody has: two entries, and no records.
    pub fn enrol(&self, agent: &str) {
        let origin: Origin = ORIGIN.parse().unwrap();
        let name = origin.agent(&agent.parse().unwrap()).key_name().clone();
        let seed = Zeroizing::new([7; 32]);
        let signer = NoteSigner::new(name, SignatureType::CosignatureV1, &seed);
        let (client, vkey) = ("operator/client.toml", signer.vkey().to_string());
        let enrol = ["logseal", "enrol", "--config", client, "--agent", agent, "--vkey", &vkey];
        self.run(LEDGER, &enrol);
    }

    /// All that a unit has said, and those of its name before it.
    pub fn log(&self, unit: &str) -> String {
        let path = self.machine.path(&format!("/var/log/{unit}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Runs a command there, in a folder, and gives back what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, folder: &str, words: &[&str]) -> String {
        let output = self.shell(folder).args(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        said
    }

    /// What runs a command there, in a folder.
    pub fn shell(&self, folder: &str) -> Command {
        let mut command = self.machine.command();
        command.args(["env", "-C", folder]);
        command
    }
}

fn copy(dir: &Path) {
    let programs = Programs::beside_this().unwrap();
    for program in ["logseal", "logseal-agent", "logseal-ledger"] {
        fs::copy(programs.path(program), dir.join("bin").join(program)).unwrap();
    }
    let systemd = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for entry in systemd.read_dir().unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
}
