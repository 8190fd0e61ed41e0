//! Enrolments: an operator's signed statement that a key speaks for an agent.
//!
//! The statement is signed with the key of the operator's certificate, and both
//! are kept in the entry: no node can enrol an agent on its own.

use crate::{
    base64,
    bytes::{Malformed, Reader, put_counted8, put_counted32},
    checkpoint::{Origin, parse_decimal},
    crypto::PublicKey,
    entry::{Enterprise, Entry, Header, Kind, push_element},
    name::AgentName,
    seal::{LEDGER_PRIORITY, agent_vkey},
    time::UnixSeconds,
};

/// The most bytes of an operator's certificate (DER).
pub const MAX_CERTIFICATE_LEN: usize = 8192;
/// The most bytes of an operator's signature (DER).
pub const MAX_SIGNATURE_LEN: usize = 1024;

const VERSION: u8 = 1;

/// An operator's statement that `key` is the signing key of `agent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The agent.
    pub agent: AgentName,
    /// Its public key.
    pub key: PublicKey,
    /// When the operator signed.
    pub time: UnixSeconds,
    /// The operator's certificate, DER.
    pub certificate: Vec<u8>,
    /// The operator's signature of [`Enrolment::statement`], DER.
    pub signature: Vec<u8>,
}

/// Bytes are not an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// Too short or too long.
    #[error("the enrolment {0}")]
    Malformed(#[from] Malformed),
    /// A version this program does not know.
    #[error("version {0} of enrolments is unknown")]
    Version(u8),
    /// The agent's name.
    #[error("the enrolment names no valid agent")]
    Name,
    /// A certificate or signature that is too large.
    #[error("the enrolment's certificate or signature is too large")]
    TooLarge,
}

impl Enrolment {
    /// The text that the operator signs.
    pub fn statement(
        ledger: &Origin,
        agent: &AgentName,
        key: PublicKey,
        time: UnixSeconds,
    ) -> String {
        let vkey = agent_vkey(ledger, agent, key);
        format!(
            "logseal enrolment v1\nledger {ledger}\nagent {agent}\nkey {vkey}\ntime {}\n",
            time.0
        )
    }

    /// The binary form that nodes exchange and keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_counted8(&mut out, self.agent.as_str().as_bytes());
        out.extend_from_slice(&self.key.0);
        out.extend_from_slice(&self.time.0.to_be_bytes());
        put_counted32(&mut out, &self.certificate);
        put_counted32(&mut out, &self.signature);
        out
    }

    /// Parses the binary form. The signature is not verified.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(EnrolmentError::Version(other)),
        }
        let name = std::str::from_utf8(reader.counted8()?).map_err(|_| EnrolmentError::Name)?;
        let enrolment = Enrolment {
            agent: name.parse().map_err(|_| EnrolmentError::Name)?,
            key: PublicKey(reader.array()?),
            time: UnixSeconds(reader.u64()?),
            certificate: bounded(reader.counted32()?, MAX_CERTIFICATE_LEN)?,
            signature: bounded(reader.counted32()?, MAX_SIGNATURE_LEN)?,
        };
        reader.finish()?;
        Ok(enrolment)
    }

    /// The ledger entry, the same on every node.
    pub fn entry(&self, ledger: &Origin, enterprise: Enterprise) -> Vec<u8> {
        let mut out = Vec::with_capacity(1400);
        let header = Header {
            priority: LEDGER_PRIORITY,
            time: Some(self.time.millis()),
            host: self.agent.as_str().as_bytes(),
            app: b"logseal",
            procid: b"",
            msgid: b"enrol",
        };
        header.write(&mut out);
        push_element(
            &mut out,
            "enrol",
            enterprise,
            &[
                ("agent", self.agent.as_str()),
                ("key", &agent_vkey(ledger, &self.agent, self.key).to_string()),
                ("time", &self.time.0.to_string()),
                ("certificate", &base64::encode(&self.certificate)),
                ("signature", &base64::encode(&self.signature)),
            ],
        );
        out
    }

    /// Reads an enrolment out of an entry; `None` if the entry is no well-formed one.
    pub fn from_entry(entry: &Entry<'_>) -> Option<Self> {
        if entry.kind() != Kind::Enrol {
            return None;
        }
        let param = |name| entry.element().param(name);
        let vkey: crate::note::VerifierKey = param("key")?.parse().ok()?;
        Some(Enrolment {
            agent: param("agent")?.parse().ok()?,
            key: vkey.public(),
            time: UnixSeconds(parse_decimal(&param("time")?)?),
            certificate: base64::decode(&param("certificate")?)?,
            signature: base64::decode(&param("signature")?)?,
        })
    }
}

fn bounded(bytes: &[u8], max: usize) -> Result<Vec<u8>, EnrolmentError> {
    if bytes.len() > max { Err(EnrolmentError::TooLarge) } else { Ok(bytes.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_survives_both_of_its_forms() {
        let enrolment = Enrolment {
            agent: "gw01".parse().unwrap(),
            key: PublicKey([3; 32]),
            time: UnixSeconds(1_795_248_147),
            certificate: vec![1, 2, 3],
            signature: vec![4, 5],
        };
        assert_eq!(Enrolment::decode(&enrolment.encode()).unwrap(), enrolment);
        let bytes = enrolment.entry(&"l.example/x".parse().unwrap(), Enterprise::default());
        insta::assert_snapshot!(String::from_utf8(bytes.clone()).unwrap());
        assert_eq!(Enrolment::from_entry(&Entry::parse(&bytes).unwrap()).unwrap(), enrolment);
        for len in 0..enrolment.encode().len() {
            assert!(Enrolment::decode(&enrolment.encode()[..len]).is_err());
        }
    }
}
