//! A node's configuration as it is written: types of TOML, nothing checked.

use serde::Deserialize;
use service::config::Tls;
use std::path::PathBuf;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) origin: String,
    pub(super) enterprise: Option<u32>,
    pub(super) store: Store,
    pub(super) keys: Keys,
    pub(super) tls: Tls,
    pub(super) cluster: Option<Cluster>,
    #[serde(default)]
    pub(super) listen: Listen,
    #[serde(default)]
    pub(super) checkpoint: Checkpoint,
    #[serde(default)]
    pub(super) http: Http,
    #[serde(default)]
    pub(super) scrub: Scrub,
    pub(super) retention: Option<Retention>,
    #[serde(default)]
    pub(super) witness: Vec<Witness>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    pub(super) days: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) dir: PathBuf,
    #[serde(default = "default_min_free")]
    pub(super) min_free_mib: u64,
    #[serde(default = "default_segment")]
    pub(super) segment_mib: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) dir: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) members: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) agents: String,
    pub(super) peers: Option<String>,
    pub(super) https: Option<String>,
    pub(super) metrics: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Checkpoint {
    pub(super) renew_s: u64,
    pub(super) witnesses: Option<usize>,
    pub(super) witnesses_every_s: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Witness {
    pub(super) url: String,
    pub(super) vkey: String,
    pub(super) ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) open_hashes: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Scrub {
    pub(super) every_h: u64,
    pub(super) mib_per_s: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub { every_h: 24, mib_per_s: 32 }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen { agents: "0.0.0.0:7514".into(), peers: None, https: None, metrics: None }
    }
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint { renew_s: 60, witnesses: None, witnesses_every_s: 5 }
    }
}

fn default_segment() -> u64 {
    16
}

fn default_min_free() -> u64 {
    256
}
