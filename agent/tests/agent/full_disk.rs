//! A file system without space, made for the purpose.

use std::{path::Path, process::Command};

use logseal_agent::metrics::{HELD_BY_DISK, Metrics, ReasonLabel};
use record::TreeSize;

use crate::support::*;

/// A file system of 1 MiB in memory.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Small {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]).arg(dir.path());
        let mounted = mount.output().expect("the test of a full disk needs the program 'mount'");
        assert!(
            mounted.status.success(),
            "the test of a full disk mounts a tmpfs: run it as root, or with CAP_SYS_ADMIN ({})",
            String::from_utf8_lossy(&mounted.stderr).trim()
        );
        Small(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test]
async fn a_full_disk_holds_back_drops_nothing_and_goes_on_by_itself() {
    let disk = Small::mount();
    let dir = disk.path().join("spool");
    let spool = established(&dir);
    let mut sealer = Sealer::new(spool.log().frontier);
    let metrics = Metrics::default();
    let (spooling, feed) = spooling(spool, u64::MAX, &metrics);
    let ballast = disk.path().join("ballast");
    // Fails when it has filled everything, which is what is wanted.
    let _ = std::fs::write(&ballast, vec![1; 2 << 20]);
    let inbox = std::sync::Arc::clone(&spooling.inbox);
    let sealing = std::thread::spawn(move || {
        for _ in 0..100 {
            inbox.put(item(sealer.seal(20))).unwrap();
        }
    });
    let held = || metrics.held_back.get_or_create(&ReasonLabel { reason: HELD_BY_DISK }).get();
    until("the disk is full", || held() == 1).await;
    assert!(!sealing.is_finished());
    std::fs::remove_file(&ballast).unwrap();
    let mut durable = feed.durable.clone();
    let all = durable.wait_for(|durable| durable.size == TreeSize(2000));
    tokio::time::timeout(LIMIT, all).await.unwrap().unwrap();
    sealing.join().unwrap();
    until("it says that it goes on", || held() == 0).await;
    spooling.stop();
    assert_eq!(open(&dir).unwrap().log().frontier.size(), TreeSize(2000));
}
