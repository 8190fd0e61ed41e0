//! The cases. Their lines begin with the name of the file's generation, `1`, `2` and so on.

use super::stage::Stage;

/// One way to rotate.
pub struct Case {
    pub name: &'static str,
    pub patterns: &'static [&'static str],
    /// True if lines come in the order in which they were written; otherwise those of one generation do.
    pub ordered: bool,
    /// True if the agent hears nothing of changes.
    pub polled: bool,
    pub play: fn(&mut Stage),
}

const A: &[&str] = &["a.log"];
const STAR: &[&str] = &["a.log*"];

/// Lines come in the order in which they were written.
const fn in_order(
    name: &'static str,
    patterns: &'static [&'static str],
    play: fn(&mut Stage),
) -> Case {
    Case { name, patterns, ordered: true, polled: false, play }
}

/// Two files are written at a time, or found at once.
const fn any_order(
    name: &'static str,
    patterns: &'static [&'static str],
    play: fn(&mut Stage),
) -> Case {
    Case { name, patterns, ordered: false, polled: false, play }
}

const fn polled(
    name: &'static str,
    patterns: &'static [&'static str],
    play: fn(&mut Stage),
) -> Case {
    Case { name, patterns, ordered: false, polled: true, play }
}

pub const CASES: &[Case] = &[
    in_order("grows", A, grows),
    any_order("rename", A, rename),
    any_order("rename-match", STAR, rename),
    any_order("rename-late-writes", A, late_writes),
    any_order("rename-no-line-feed", A, no_line_feed),
    any_order("rename-long-lines", A, long_lines),
    in_order("rename-down", A, rename_down),
    in_order("rename-down-match", STAR, rename_down),
    any_order("rename-twice-down", A, rename_twice_down),
    any_order("rename-thrice-down-match", STAR, rename_thrice_down),
    in_order("delete-recreate", A, delete_recreate),
    in_order("delete-recreate-down", A, delete_recreate_down),
    in_order("delete-recreate-same-head", STAR, delete_recreate_same_head),
    in_order("inode-reuse", A, inode_reuse),
    any_order("copytruncate", A, copytruncate),
    any_order("copytruncate-match", STAR, copytruncate),
    any_order("copytruncate-same-head", A, copytruncate_same_head),
    any_order("copytruncate-same-head-match", STAR, copytruncate_same_head),
    any_order("copytruncate-down", A, copytruncate_down),
    any_order("copytruncate-down-match", STAR, copytruncate_down),
    any_order("copytruncate-twice-down", A, copytruncate_twice_down),
    any_order("copytruncate-twice-down-match", STAR, copytruncate_twice_down),
    in_order("copytruncate-same-copy", A, copytruncate_same_copy),
    in_order("copytruncate-same-copy-match", STAR, copytruncate_same_copy),
    in_order("truncate", A, truncate),
    in_order("replaced-by-shorter", A, replaced_by_shorter),
    in_order("renamed-over", STAR, renamed_over),
    any_order("gzip", A, gzip),
    any_order("gzip-match", STAR, gzip),
    any_order("gzip-down", A, gzip_down),
    any_order("zstd-down-match", STAR, zstd_down),
    any_order("copytruncate-gzip-down", A, copytruncate_gzip_down),
    any_order("gzip-later-match", STAR, gzip_later),
    any_order("symlink", &["current"], symlink),
    any_order("symlink-down", &["current"], symlink_down),
    any_order("directory", &["d/a.log"], directory),
    any_order("moved-down", STAR, moved_down),
    polled("poll-rename", A, rename),
    polled("poll-copytruncate-match", STAR, copytruncate),
    any_order("logrotate-create", A, |s| logrotate(s, "create")),
    any_order("logrotate-copytruncate", A, |s| logrotate(s, "copytruncate")),
    any_order("logrotate-copytruncate-match", STAR, |s| logrotate(s, "copytruncate")),
    any_order("logrotate-compress", A, |s| logrotate(s, "create\ncompress")),
    any_order("logrotate-compress-match", STAR, |s| logrotate(s, "create\ncompress")),
    any_order("logrotate-delaycompress", A, |s| logrotate(s, "create\ncompress\ndelaycompress")),
    any_order("logrotate-copytruncate-compress", A, |s| logrotate(s, "copytruncate\ncompress")),
    any_order("logrotate-dateext", A, logrotate_dateext),
    any_order("logrotate-down", A, |s| logrotate_down(s, "create\ncompress\ndelaycompress")),
    any_order("logrotate-copytruncate-down", A, |s| logrotate_down(s, "copytruncate\ncompress")),
];

/// How many generations a case has, at least.
const ROUNDS: usize = 5;

fn grows(s: &mut Stage) {
    for round in 0..ROUNDS {
        let mut file = s.open("a.log");
        for line in [&b""[..], b"", b"\r", b"\xef\xbb\xbfbom", b"\0"] {
            s.write_line(&mut file, line.to_vec());
        }
        s.write("a.log", &round.to_string(), 10);
    }
}

/// Each generation's name, and whether it is the first one.
fn rounds() -> impl Iterator<Item = (String, bool)> {
    (0..ROUNDS).map(|round| (round.to_string(), round == 0))
}

fn rename(s: &mut Stage) {
    for (name, first) in rounds() {
        s.write("a.log", &name, 10);
        if first {
            s.taken();
        }
        s.rotate();
    }
}

fn late_writes(s: &mut Stage) {
    for (name, first) in rounds() {
        let mut file = s.open("a.log");
        s.write_to(&mut file, &name, 10);
        if first {
            s.taken();
        }
        s.rotate();
        s.write_to(&mut file, &name, 3);
    }
}

fn no_line_feed(s: &mut Stage) {
    for (name, first) in rounds() {
        s.write("a.log", &name, 5);
        if first {
            s.taken();
        }
        s.write_end("a.log", &name);
        s.rotate();
    }
}

fn long_lines(s: &mut Stage) {
    for (name, first) in rounds() {
        let mut file = s.open("a.log");
        for size in [70_000u32, 65_535, 300_000] {
            let line = (0..size).map(|i| (i * 7 % 245 + 11) as u8);
            let line = [format!("{name} {size} ").into_bytes(), line.collect()].concat();
            s.write_line(&mut file, line);
            s.pause();
        }
        if first {
            s.taken();
        }
        s.rotate();
    }
}

fn rename_down(s: &mut Stage) {
    for (name, _) in rounds() {
        s.write("a.log", &name, 10);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 5);
            s.rotate();
            s.write("a.log", &format!("{name}+"), 5);
        });
        s.taken();
        s.rotate();
    }
}

fn rename_twice_down(s: &mut Stage) {
    s.write("a.log", "first", 5);
    s.taken();
    for (name, _) in rounds().take(3) {
        s.down(|s| {
            s.write("a.log", &name, 5);
            s.rotate();
            s.write("a.log", &format!("{name}+"), 5);
            s.rotate();
            s.write("a.log", &format!("{name}++"), 5);
        });
    }
}

fn rename_thrice_down(s: &mut Stage) {
    rename_twice_down(s);
    s.down(|s| {
        for name in ["x", "y", "z"] {
            s.write("a.log", name, 5);
            s.rotate();
        }
    });
}

fn delete_recreate(s: &mut Stage) {
    for (name, _) in rounds() {
        s.write("a.log", &name, 10);
        s.taken();
        s.remove("a.log");
    }
}

fn delete_recreate_down(s: &mut Stage) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 10);
        s.taken();
        s.down(|s| {
            s.remove("a.log");
            s.write("a.log", &format!("{name}+"), 20);
        });
        s.taken();
    }
}

fn head(s: &mut Stage) {
    let mut file = s.open("a.log");
    s.write_line(&mut file, b"#Fields: date time c-ip cs-username cs-method".to_vec());
}

fn delete_recreate_same_head(s: &mut Stage) {
    for (name, _) in rounds() {
        head(s);
        s.write("a.log", &name, 3);
        s.taken();
        s.remove("a.log");
    }
}

fn inode_reuse(s: &mut Stage) {
    for (name, _) in rounds() {
        head(s);
        s.write("a.log", &name, 2);
        s.taken();
        // The file system gives the next file the inode that is free.
        s.down(|s| {
            s.remove("a.log");
            head(s);
            s.write("a.log", &format!("{name}+"), 4);
        });
        s.taken();
        s.remove("a.log");
    }
}

fn copytruncate(s: &mut Stage) {
    for (name, first) in rounds() {
        s.write("a.log", &name, 10);
        if first {
            s.taken();
        }
        s.copytruncate();
    }
}

fn copytruncate_same_head(s: &mut Stage) {
    for (name, _) in rounds() {
        head(s);
        s.write("a.log", &name, 5);
        s.taken();
        s.write("a.log", &name, 5);
        s.copytruncate();
    }
}

fn copytruncate_down(s: &mut Stage) {
    for (name, _) in rounds() {
        s.write("a.log", &name, 10);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 5);
            s.copytruncate();
            s.write("a.log", &format!("{name}+"), 30);
        });
        s.taken();
        s.copytruncate();
    }
}

fn copytruncate_twice_down(s: &mut Stage) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 5);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 5);
            s.copytruncate();
            s.write("a.log", &format!("{name}+"), 5);
            s.copytruncate();
            s.write("a.log", &format!("{name}++"), 5);
        });
        s.taken();
        s.copytruncate();
    }
}

fn copytruncate_same_copy(s: &mut Stage) {
    for (name, _) in rounds() {
        s.write("a.log", &name, 10);
        s.taken();
        s.copy("a.log", "a.log.1");
        s.truncate("a.log");
    }
}

fn truncate(s: &mut Stage) {
    for (name, _) in rounds() {
        s.write("a.log", &name, 10);
        s.taken();
        s.truncate("a.log");
    }
}

fn replaced_by_shorter(s: &mut Stage) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 20);
        s.taken();
        s.truncate("a.log");
        s.write("a.log", &format!("{name}+"), 2);
        s.taken();
        s.down(|s| {
            s.truncate("a.log");
            s.write("a.log", &format!("{name}++"), 1);
        });
        s.taken();
        s.remove("a.log");
    }
}

fn renamed_over(s: &mut Stage) {
    for (name, _) in rounds() {
        s.write("a.log", &name, 10);
        s.taken();
        s.write("new", &format!("{name}+"), 5);
        s.rename("new", "a.log");
        s.taken();
        s.remove("a.log");
    }
}

fn gzip(s: &mut Stage) {
    for (name, first) in rounds() {
        s.write("a.log", &name, 10);
        if first {
            s.taken();
        }
        s.rotate();
        s.gzip("a.log.1");
    }
}

fn gzip_down(s: &mut Stage) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 5);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 10);
            s.rotate();
            s.gzip("a.log.1");
            s.write("a.log", &format!("{name}+"), 5);
        });
        s.taken();
        s.rotate();
    }
}

fn zstd_down(s: &mut Stage) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 5);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 10);
            s.rotate();
            s.zstd("a.log.1");
            s.write("a.log", &format!("{name}+"), 5);
            s.rotate();
            s.zstd("a.log.1");
        });
    }
}

fn copytruncate_gzip_down(s: &mut Stage) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 5);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 10);
            s.copytruncate();
            s.gzip("a.log.1");
            s.write("a.log", &format!("{name}+"), 5);
        });
        s.taken();
    }
}

fn gzip_later(s: &mut Stage) {
    for (name, first) in rounds() {
        s.write("a.log", &name, 10);
        if first {
            s.taken();
        } else {
            s.gzip("a.log.1");
        }
        s.rotate();
    }
}

fn symlink(s: &mut Stage) {
    for (name, _) in rounds() {
        let target = format!("{name}.txt");
        s.write(&target, &name, 10);
        s.flip(&target, "current");
        s.taken();
        s.write(&target, &name, 10);
    }
    s.flip("a.log", "current");
}

fn symlink_down(s: &mut Stage) {
    s.write("first.txt", "first", 10);
    s.flip("first.txt", "current");
    for (name, _) in rounds().take(3) {
        s.taken();
        s.down(|s| {
            let old = std::fs::read_link(s.path("current")).unwrap();
            s.write(old.to_str().unwrap(), &name, 10);
            let target = format!("{name}.txt");
            s.write(&target, &format!("{name}+"), 10);
            s.flip(&target, "current");
        });
    }
    s.taken();
    s.flip("a.log", "current");
}

fn directory(s: &mut Stage) {
    for (name, _) in rounds() {
        std::fs::create_dir(s.path("d")).unwrap();
        s.write("d/a.log", &name, 10);
        s.taken();
        s.rename("d", &format!("old{name}"));
    }
    std::fs::create_dir(s.path("d")).unwrap();
}

fn moved_down(s: &mut Stage) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 10);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 5);
            s.shift();
            s.copy("a.log", "a.log.1");
            s.remove("a.log");
            s.write("a.log", &format!("{name}+"), 5);
        });
        s.taken();
        s.rotate();
    }
}

fn logrotate(s: &mut Stage, settings: &str) {
    for (name, first) in rounds() {
        s.write("a.log", &name, 10);
        if first {
            s.taken();
        }
        s.logrotate(settings);
    }
}

fn logrotate_dateext(s: &mut Stage) {
    let settings = |round: usize| {
        let how = ["create", "copytruncate", "create\ncompress"][round % 3];
        // Several rotations a second need names of their own.
        format!("{how}\ndateext\ndateformat -%Y%m%d-{round:04}")
    };
    for round in 0..ROUNDS {
        s.write("a.log", &round.to_string(), 10);
        if round == 0 {
            s.taken();
        }
        s.logrotate(&settings(round));
    }
}

fn logrotate_down(s: &mut Stage, settings: &str) {
    for (name, _) in rounds().take(3) {
        s.write("a.log", &name, 10);
        s.taken();
        s.down(|s| {
            s.write("a.log", &name, 10);
            s.logrotate(settings);
            s.write("a.log", &format!("{name}+"), 10);
            s.logrotate(settings);
        });
    }
}
