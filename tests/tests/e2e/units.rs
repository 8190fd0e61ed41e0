//! The systemd units stay as hardened as they are said to be.

use std::{path::Path, process::Command};

#[test]
fn each_unit_is_rated_two_or_better() {
    let systemd = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for unit in ["agent", "ledger", "monitor", "witness", "forward", "backup", "drill"] {
        let unit = format!("logseal-{unit}.service");
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(systemd.join(&unit))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rating =
            said.lines().find(|line| line.contains("Overall exposure level")).and_then(|line| {
                line.split(": ").nth(1)?.split_whitespace().next()?.parse::<f64>().ok()
            });
        let rating = rating
            .unwrap_or_else(|| panic!("{unit}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        assert!(rating <= 2.0, "{unit} is rated {rating}");
    }
}
