//! Who holds a certificate. The one URI `urn:logseal:<role>:<name>` in its
//! subject alternative name says so; the common name and host names do not.
//!
//! An [`Identity`] says what a certificate claims. Whether the claim is true,
//! only a verified handshake knows: see [`crate::tls`].

use std::{fmt, str::FromStr};

use record::{AgentName, NodeName, name::NameError};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// What comes before `<role>:<name>` in the URI.
pub const URI_PREFIX: &str = "urn:logseal:";

/// What the holder of a certificate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A ledger node.
    Node,
    /// An agent.
    Agent,
    /// A person who runs the ledger.
    Operator,
    /// A person who reads and verifies records.
    Auditor,
    /// A person who may open sealed fields.
    PrivacyOfficer,
    /// The service that answers data subjects.
    SubjectService,
    /// A syslog sender of an agent.
    SyslogClient,
}

/// The holder's name, unique within its role: `[a-z0-9][a-z0-9.-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(NodeName);

/// A role and a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What the holder may do.
    pub role: Role,
    /// Who in that role it is.
    pub name: Name,
}

/// A certificate that names no holder. The issuer of the certificate is at
/// fault; `certs/README.md` says what it must contain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The bytes are no X.509 certificate.
    #[error("it is not an X.509 certificate that can be read")]
    NotACertificate,
    /// No URI of ours.
    #[error("its subject alternative name holds no URI urn:logseal:<role>:<name>")]
    None,
    /// More than one URI of ours.
    #[error("its subject alternative name holds {0} URIs urn:logseal:…, and only one is allowed")]
    Several(usize),
    /// A URI of ours without a role and a name.
    #[error("'{0}' is not urn:logseal:<role>:<name> with a known role and a name")]
    Malformed(String),
}

/// A word that is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role: use one of {all}", all = list(&Role::ALL))]
pub struct RoleError(String);

impl Identity {
    /// Reads the identity out of a certificate in DER.
    ///
    /// # Errors
    /// When the certificate cannot be read, or holds anything but exactly one
    /// URI beginning with `urn:logseal:`. That prefix is recognised in any
    /// case, and refused in any but the lower one, so that no second reading is possible.
    pub fn from_der(certificate: &[u8]) -> Result<Self, IdentityError> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(IdentityError::NotACertificate);
        }
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| IdentityError::NotACertificate)?
            .map(|extension| &extension.value.general_names);
        let ours: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .filter(|uri| {
                let prefix = uri.as_bytes().get(..URI_PREFIX.len());
                prefix.is_some_and(|p| p.eq_ignore_ascii_case(URI_PREFIX.as_bytes()))
            })
            .collect();
        match ours[..] {
            [] => Err(IdentityError::None),
            [uri] => uri.parse(),
            _ => Err(IdentityError::Several(ours.len())),
        }
    }

    /// The agent's name, when this is an agent.
    pub fn agent(&self) -> Option<AgentName> {
        let name = || self.name.as_str().parse().expect("all names follow one rule");
        (self.role == Role::Agent).then(name)
    }

    /// The node's name, when this is a node.
    pub fn node(&self) -> Option<NodeName> {
        (self.role == Role::Node).then(|| self.name.0.clone())
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    /// Reads `urn:logseal:<role>:<name>`.
    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let parse = || {
            let (role, name) = uri.strip_prefix(URI_PREFIX)?.split_once(':')?;
            Some(Identity { role: role.parse().ok()?, name: name.parse().ok()? })
        };
        parse().ok_or_else(|| IdentityError::Malformed(uri.chars().take(100).collect()))
    }
}

impl fmt::Display for Identity {
    /// `agent gw01`, as in the commands that issue certificates.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 7] = [
        Role::Node,
        Role::Agent,
        Role::Operator,
        Role::Auditor,
        Role::PrivacyOfficer,
        Role::SubjectService,
        Role::SyslogClient,
    ];

    /// True for roles that may see records, which say who looked at whom.
    pub fn may_read_records(self) -> bool {
        matches!(self, Role::Operator | Role::Auditor | Role::PrivacyOfficer | Role::Node)
    }

    /// The role as it stands in certificates and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Agent => "agent",
            Role::Operator => "operator",
            Role::Auditor => "auditor",
            Role::PrivacyOfficer => "privacy-officer",
            Role::SubjectService => "subject-service",
            Role::SyslogClient => "syslog-client",
        }
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let found = Role::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| RoleError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `node, agent`, for a message.
pub(crate) fn list(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_spelling_only() {
        let good: Identity = "urn:logseal:privacy-officer:eve.example".parse().unwrap();
        assert_eq!(good.to_string(), "privacy-officer eve.example");
        assert_eq!((good.agent(), good.node()), (None, None));
        for bad in [
            "",
            "urn:logseal:node",
            "urn:logseal:node:",
            "urn:logseal:Node:a",
            "URN:LOGSEAL:node:a",
            "urn:logseal:node:a:b",
            "urn:logseal:node:a b",
            "urn:logseal::a",
            "urn:logseal:root:a",
            " urn:logseal:node:a",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_agents_name_is_only_ever_an_agents() {
        let agent: Identity = "urn:logseal:agent:gw01".parse().unwrap();
        assert_eq!(agent.agent().unwrap().as_str(), "gw01");
        assert_eq!(agent.node(), None);
        let node: Identity = "urn:logseal:node:gw01".parse().unwrap();
        assert_eq!(node.agent(), None);
        assert_eq!(node.node().unwrap().as_str(), "gw01");
    }
}
