//! Who a certificate can be for. The role and the name stand in the
//! certificate as one URI, `urn:logseal:<role>:<name>`; nothing else in it
//! gives its holder any right.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// What comes before `<role>:<name>` in the subject alternative name.
pub const URI_PREFIX: &str = "urn:logseal:";
/// The longest name, in bytes; it is also the longest DNS label.
pub const MAX_NAME_LEN: usize = 63;

/// One kind of certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// The role as it stands in the certificate, in file names and in commands.
    pub role: &'static str,
    /// Whether its holder also answers TLS connections: it then gets the
    /// extended key usage for servers, and host names without being asked.
    pub server: bool,
    /// What its holder is, for a help text.
    pub about: &'static str,
}

/// All profiles.
pub const PROFILES: &[Profile] = &[
    Profile { role: "node", server: true, about: "a ledger node" },
    Profile { role: "agent", server: true, about: "an agent; it also answers syslog senders" },
    Profile { role: "operator", server: false, about: "a person who runs the ledger" },
    Profile { role: "auditor", server: false, about: "a person who reads and verifies records" },
    Profile {
        role: "privacy-officer",
        server: false,
        about: "a person who may open sealed fields",
    },
    Profile {
        role: "subject-service",
        server: false,
        about: "the service that answers data subjects",
    },
    Profile { role: "syslog-client", server: false, about: "a syslog sender of an agent" },
];

/// The name of a certificate's holder: `[a-z0-9][a-z0-9.-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// A DNS name or IP address under which a server can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A DNS name, in lower case.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

/// The hosts that a node's or agent's certificate holds whatever was asked for.
pub fn default_hosts() -> [Host; 3] {
    let loopback = |ip: IpAddr| Host::Ip(ip);
    [
        Host::Dns("localhost".to_owned()),
        loopback([127, 0, 0, 1].into()),
        loopback(std::net::Ipv6Addr::LOCALHOST.into()),
    ]
}

impl Profile {
    /// The profile of this role.
    ///
    /// # Errors
    /// [`Error::Role`] when there is none.
    pub fn of(role: &str) -> Result<&'static Profile, Error> {
        PROFILES.iter().find(|p| p.role == role).ok_or_else(|| Error::Role(excerpt(role)))
    }

    /// The URI that makes `name` the holder of this role.
    pub fn uri(&self, name: &Name) -> String {
        format!("{URI_PREFIX}{}:{name}", self.role)
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = (1..=MAX_NAME_LEN).contains(&text.len())
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || b == b'.' || b == b'-');
        if good { Ok(Name(text.to_owned())) } else { Err(Error::Name(excerpt(text))) }
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(ip) = text.parse() {
            return Ok(Host::Ip(ip));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let good = text.len() <= 253 && text.split('.').all(label);
        // "300.1.2.3" is a mistyped address, not a name: no top-level domain is a number.
        let number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
        if !good || text.rsplit('.').next().is_none_or(number) {
            return Err(Error::Host(excerpt(text)));
        }
        Ok(Host::Dns(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Host {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Dns(name) => f.write_str(name),
            Host::Ip(ip) => ip.fmt(f),
        }
    }
}

pub(crate) fn all_roles() -> String {
    PROFILES.iter().map(|p| p.role).collect::<Vec<_>>().join(", ")
}

pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_neither_leave_its_folder_nor_pass_for_another() {
        for bad in ["", "A", "-a", ".a", "../a", "a b", "a:b", "a/b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        for good in ["a", "gw01", "gw-01.city.example", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_mistyped_host_is_refused_before_it_is_signed() {
        for bad in ["", ".", "a..b", "-a", "a-", "300.1.2.3", "127.1", "a b", "*.example", "[::1]"]
        {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
        assert_eq!("GW01.Example".parse::<Host>().unwrap(), Host::Dns("gw01.example".into()));
        assert_eq!("::1".parse::<Host>().unwrap().to_string(), "::1");
    }

    #[test]
    fn no_two_identities_share_a_file_name() {
        for a in PROFILES {
            for b in PROFILES {
                assert!(a == b || !b.role.starts_with(&format!("{}-", a.role)), "{a:?} {b:?}");
            }
        }
    }
}
