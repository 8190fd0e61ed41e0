//! Fixtures: files that pin what the formats' bytes are.
#![allow(dead_code, reason = "each crate that includes this file uses what it needs")]

use std::path::{Path, PathBuf};

/// The variable that, set to 1, has fixtures written instead of compared. Formats are for ever, so
/// doing that is a decision: the commit must say what it means for ledgers that exist.
const WRITE: &str = "LOGSEAL_WRITE_FIXTURES";

/// The directory of all fixtures.
pub struct Fixtures(PathBuf);

impl Fixtures {
    /// The fixtures, seen from the crate in `manifest_dir`, from which `record` is `up`.
    pub fn seen_from(manifest_dir: &str, up: &str) -> Self {
        Fixtures(Path::new(manifest_dir).join(up).join("tests/fixtures"))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// A fixture's bytes.
    pub fn read(&self, name: &str) -> Vec<u8> {
        self.try_read(name).unwrap_or_else(|| panic!("there is no fixture {name}"))
    }

    /// The bytes that a fixture in hexadecimal stands for.
    pub fn read_hex(&self, name: &str) -> Vec<u8> {
        self.try_read_hex(name).unwrap_or_else(|| panic!("there is no fixture {name}"))
    }

    /// As [`Fixtures::read_hex`]; `None` if there is no such fixture yet.
    pub fn try_read_hex(&self, name: &str) -> Option<Vec<u8>> {
        let text = String::from_utf8(self.try_read(name)?).unwrap();
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
    }

    /// Compares `bytes` with the fixture, or writes it.
    pub fn pin(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        if std::env::var(WRITE).as_deref() == Ok("1") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
            return;
        }
        let kept = self.try_read(name);
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(
            kept.as_deref().map(shown),
            Some(shown(bytes)),
            "the program makes other bytes than the fixture {name} has. If a format was to change, \
             run the test again with {WRITE}=1"
        );
        assert_eq!(kept.as_deref(), Some(bytes), "{name}");
    }

    /// Compares or writes a fixture of binary content: hexadecimal, 32 bytes a line.
    pub fn pin_hex(&self, name: &str, bytes: &[u8]) {
        let mut text = String::new();
        for line in bytes.chunks(32) {
            line.iter().for_each(|byte| text += &format!("{byte:02x}"));
            text.push('\n');
        }
        self.pin(name, text.as_bytes());
    }

    fn try_read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(name)).ok()
    }
}
