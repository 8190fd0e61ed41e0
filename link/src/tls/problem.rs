//! Why a connection did not come about: what happened, who is at fault, and
//! what to do.

use std::{fmt, io, time::Duration};

use record::UnixSeconds;
use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

use super::NotAccepted;

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
#[error("{peer}: {problem}")]
pub struct HandshakeError {
    /// The peer's address, as far as it is known.
    pub peer: String,
    /// What happened.
    pub problem: Problem,
}

/// Who has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Whoever runs the peer.
    Peer,
    /// Whoever configured this program.
    Configuration,
    /// The network between the two, or the peer is not running.
    Network,
}

/// What went wrong in a handshake, or with an established connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The handshake took too long.
    #[error("the connection was not established within {0:?}: is the peer overloaded, or silent?")]
    TimedOut(Duration),
    /// The peer does not speak TLS.
    #[error("the peer sent plain text, but this connection needs TLS: turn TLS on at the peer")]
    Plaintext,
    /// The peer showed no certificate.
    #[error("the peer showed no certificate: give it one, issued by our CA")]
    NoCertificate,
    /// The peer's certificate has expired.
    #[error("the peer's certificate expired{}: renew it there", on(*.0))]
    Expired(Option<UnixSeconds>),
    /// The peer's certificate is not valid yet.
    #[error("the peer's certificate is not valid yet{}: are both clocks right?", on(*.0))]
    NotYetValid(Option<UnixSeconds>),
    /// The peer's certificate was revoked.
    #[error("the peer's certificate is revoked: it needs a new one, with a new key")]
    Revoked,
    /// The peer's certificate leads to no CA of ours.
    #[error(
        "the peer's certificate is not signed by a CA that we trust: give it one that is, or \
             add its CA to our 'ca' file"
    )]
    UnknownIssuer,
    /// A signature does not hold.
    #[error(
        "a signature of the peer's does not hold: its certificate comes from another CA of \
             the same name as ours, or it does not have the key of the certificate"
    )]
    BadSignature,
    /// The peer's certificate is in a role that is not wanted, or in none.
    #[error("the peer is not accepted: {0}")]
    NotAccepted(NotAccepted),
    /// The peer's certificate is not for this use.
    #[error(
        "the peer's certificate lacks the extended key usage for its end of the connection: \
             issue it one that has it"
    )]
    WrongPurpose,
    /// The server's certificate is for other hosts.
    #[error(
        "the peer is a server under another name: {0}; connect to a name in its certificate, \
             or have this one added to it"
    )]
    WrongHost(String),
    /// The peer's certificate is unusable in another way.
    #[error("the peer's certificate cannot be used: {0}")]
    BadCertificate(String),
    /// Our revocation list has run out.
    #[error("our revocation list ran out{}, so nobody can be trusted: put a new one in its place \
             ('logseal certs crl')", on(*.0))]
    CrlExpired(Option<UnixSeconds>),
    /// We have no revocation list of the CA that signed the peer's certificate.
    #[error(
        "our revocation lists include none of the CA that signed the peer's certificate: add \
             that CA's list to the 'crl' file"
    )]
    RevocationUnknown,
    /// Our revocation list cannot be used.
    #[error("our revocation list cannot be used: {0}")]
    CrlUnusable(String),
    /// The peer refused us.
    #[error("the peer refused the connection ({0:?}): {hint}", hint = refusal(*.0).1)]
    Refused(AlertDescription),
    /// No common version or algorithm.
    #[error("the peer and we have no TLS version or algorithm in common: {0}")]
    Incompatible(String),
    /// The peer went away.
    #[error("the peer closed the connection before it was established")]
    Closed,
    /// Nobody answers there.
    #[error("it cannot be reached: {0}; is it running, and is the address right?")]
    Unreachable(io::Error),
    /// The name to connect to is none.
    #[error("'{0}' is neither a DNS name nor an IP address: correct it in the configuration")]
    BadServerName(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The peer violates the TLS protocol.
    #[error("the peer violates the TLS protocol: {0}")]
    Tls(TlsError),
}

impl Problem {
    /// What lies behind an error of a TLS stream. With TLS 1.3 a client learns
    /// only from its first read that the server refused its certificate.
    pub fn from_io(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        match tls {
            Some(tls) => Self::from_tls(tls.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Problem::Closed,
            None => Problem::Io(error),
        }
    }

    /// Who has to do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            Problem::CrlExpired(_)
            | Problem::RevocationUnknown
            | Problem::CrlUnusable(_)
            | Problem::BadServerName(_)
            | Problem::WrongHost(_) => Fault::Configuration,
            Problem::Refused(alert) => refusal(*alert).0,
            Problem::TimedOut(_) | Problem::Closed | Problem::Unreachable(_) | Problem::Io(_) => {
                Fault::Network
            }
            _ => Fault::Peer,
        }
    }

    /// One of a closed list of words, for counting.
    pub fn label(&self) -> &'static str {
        match self {
            Problem::TimedOut(_) => "timeout",
            Problem::Plaintext => "plaintext",
            Problem::NoCertificate => "no_certificate",
            Problem::Expired(_) => "expired",
            Problem::NotYetValid(_) => "not_yet_valid",
            Problem::Revoked => "revoked",
            Problem::UnknownIssuer => "unknown_issuer",
            Problem::BadSignature => "bad_signature",
            Problem::NotAccepted(_) => "wrong_role",
            Problem::WrongPurpose => "wrong_purpose",
            Problem::WrongHost(_) => "wrong_host",
            Problem::BadCertificate(_) => "bad_certificate",
            Problem::CrlExpired(_) => "crl_expired",
            Problem::RevocationUnknown => "revocation_unknown",
            Problem::CrlUnusable(_) => "crl_unusable",
            Problem::Refused(_) => "refused",
            Problem::Incompatible(_) => "incompatible",
            Problem::Closed => "closed",
            Problem::Unreachable(_) => "unreachable",
            Problem::BadServerName(_) => "bad_server_name",
            Problem::Io(_) => "io",
            Problem::Tls(_) => "tls",
        }
    }

    fn from_tls(error: TlsError) -> Self {
        match error {
            TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => Problem::Plaintext,
            TlsError::NoCertificatesPresented => Problem::NoCertificate,
            TlsError::InvalidCertificate(problem) => Self::from_certificate(problem),
            TlsError::InvalidCertRevocationList(e) => {
                Problem::CrlUnusable(TlsError::from(e).to_string())
            }
            TlsError::AlertReceived(alert) => Problem::Refused(alert),
            TlsError::PeerIncompatible(what) => Problem::Incompatible(format!("{what:?}")),
            other => Problem::Tls(other),
        }
    }

    fn from_certificate(error: CertificateError) -> Self {
        use CertificateError as E;
        let at = |time: pki_types::UnixTime| Some(UnixSeconds(time.as_secs()));
        match error {
            E::Expired => Problem::Expired(None),
            E::ExpiredContext { not_after, .. } => Problem::Expired(at(not_after)),
            E::NotValidYet => Problem::NotYetValid(None),
            E::NotValidYetContext { not_before, .. } => Problem::NotYetValid(at(not_before)),
            E::Revoked => Problem::Revoked,
            E::UnknownIssuer => Problem::UnknownIssuer,
            E::BadSignature => Problem::BadSignature,
            E::UnknownRevocationStatus => Problem::RevocationUnknown,
            E::ExpiredRevocationList => Problem::CrlExpired(None),
            E::ExpiredRevocationListContext { next_update, .. } => {
                Problem::CrlExpired(at(next_update))
            }
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Problem::WrongPurpose,
            E::NotValidForName | E::NotValidForNameContext { .. } => {
                Problem::WrongHost(error.to_string())
            }
            E::Other(ref other) => match other.0.downcast_ref::<NotAccepted>() {
                Some(reason) => Problem::NotAccepted(reason.clone()),
                None => Problem::BadCertificate(other.0.to_string()),
            },
            other => Problem::BadCertificate(other.to_string()),
        }
    }
}

impl HandshakeError {
    pub(super) fn new(peer: impl fmt::Display, problem: Problem) -> Self {
        HandshakeError { peer: peer.to_string(), problem }
    }

    /// Who has to do something about it.
    pub fn fault(&self) -> Fault {
        self.problem.fault()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Peer => "peer",
            Fault::Configuration => "configuration",
            Fault::Network => "network",
        })
    }
}

/// What the peer's alert means for us.
fn refusal(alert: AlertDescription) -> (Fault, &'static str) {
    use AlertDescription as A;
    let ours = match alert {
        A::CertificateExpired => "our certificate is not valid now by the peer's clock",
        A::CertificateRevoked => "our certificate is revoked: it needs a new one, with a new key",
        A::UnknownCA => {
            "the peer does not trust our CA, or its revocation list is missing or has run out"
        }
        A::CertificateRequired | A::NoCertificate => "the peer wants a certificate from us",
        A::CertificateUnknown | A::AccessDenied => {
            "our certificate is valid, but not in a role that the peer accepts there"
        }
        A::UnsupportedCertificate => {
            "our certificate lacks the extended key usage for our end of the connection"
        }
        A::BadCertificate => "the peer cannot use our certificate, or it is not for that host name",
        A::DecryptError => {
            "a signature of ours does not hold: our certificate comes from another CA of the \
             same name as the peer's"
        }
        A::ProtocolVersion | A::HandshakeFailure => {
            return (Fault::Peer, "no TLS version or algorithm in common");
        }
        A::DecodeError => return (Fault::Peer, "it did not understand us; does it speak TLS?"),
        _ => return (Fault::Peer, "its log may say why"),
    };
    (Fault::Configuration, ours)
}

fn on(time: Option<UnixSeconds>) -> String {
    time.map(|time| format!(" ({time})")).unwrap_or_default()
}
