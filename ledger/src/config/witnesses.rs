//! The outside witnesses of a ledger, as a node's configuration names them.

use super::written;
use record::{
    note::{SignatureType, VerifierKey},
    policy::{OutsideWitness, PolicyError, with_outside_witnesses},
};
use service::{
    config::{ConfigError, Source},
    http::{SYSTEM_CA, Url},
};
use std::{path::PathBuf, time::Duration};

/// The most outside witnesses.
const MAX_WITNESSES: usize = 32;

/// An outside witness.
#[derive(Clone, Debug)]
pub struct WitnessConfig {
    /// Its submission prefix.
    pub url: Url,
    /// Its key.
    pub vkey: VerifierKey,
    /// The authorities of which its certificate must be, if it is reached over TLS.
    pub ca: PathBuf,
}

/// The outside witnesses.
#[derive(Clone, Debug)]
pub struct Witnesses {
    /// Each of them; none if nobody outside is asked.
    pub list: Vec<WitnessConfig>,
    /// How many of them must cosign what is served.
    pub needed: usize,
    /// How often they are asked at most.
    pub every: Duration,
}

impl Witnesses {
    pub(super) fn meant(
        written: &[written::Witness],
        checkpoint: &written::Checkpoint,
        source: &Source,
    ) -> Result<Self, ConfigError> {
        let mut list: Vec<WitnessConfig> = Vec::new();
        for (index, witness) in written.iter().enumerate() {
            let bad = |key: &str, problem: String| {
                source.error(&format!("witness[{index}].{key}"), problem)
            };
            if index == MAX_WITNESSES {
                return Err(bad("url", format!("more than {MAX_WITNESSES} witnesses")));
            }
            let url: Url = witness.url.parse().map_err(|error| bad("url", format!("{error}")))?;
            let vkey: VerifierKey =
                witness.vkey.parse().map_err(|error| bad("vkey", format!("{error}")))?;
            if vkey.kind() != SignatureType::CosignatureV1 {
                let problem = "a witness has a key of type cosignature/v1 (0x04)";
                return Err(bad("vkey", problem.into()));
            }
            let same = |other: &WitnessConfig| {
                other.vkey.public() == vkey.public() || other.vkey.name() == vkey.name()
            };
            if list.iter().any(same) {
                return Err(bad("vkey", "this witness, or its name, is there twice".into()));
            }
            let ca = witness.ca.clone().unwrap_or_else(|| SYSTEM_CA.into());
            list.push(WitnessConfig { url, vkey, ca });
        }
        let needed = checkpoint.witnesses.unwrap_or(list.len() / 2 + 1);
        if !list.is_empty() && !(1..=list.len()).contains(&needed) {
            let problem = format!("there are {} [[witness]] tables: use 1 to that", list.len());
            return Err(source.error("checkpoint.witnesses", problem));
        }
        if list.is_empty() && checkpoint.witnesses.is_some() {
            let problem = "there is no [[witness]] that could cosign";
            return Err(source.error("checkpoint.witnesses", problem));
        }
        if !(1..=3600).contains(&checkpoint.witnesses_every_s) {
            let problem = "must be 1 to 3600 seconds";
            return Err(source.error("checkpoint.witnesses_every_s", problem));
        }
        let every = Duration::from_secs(checkpoint.witnesses_every_s);
        Ok(Witnesses { list, needed, every })
    }

    /// The ledger's policy with the outside witnesses in it: what auditors and monitors are given.
    /// `None` if there are none.
    ///
    /// # Errors
    /// A witness has the name or the key of a node.
    pub fn policy(&self, policy: &str) -> Option<Result<String, PolicyError>> {
        let outside = |witness: &WitnessConfig| OutsideWitness {
            key: witness.vkey.clone(),
            url: witness.url.to_string(),
        };
        let outside: Vec<OutsideWitness> = self.list.iter().map(outside).collect();
        (!outside.is_empty()).then(|| with_outside_witnesses(policy, &outside, self.needed))
    }
}
