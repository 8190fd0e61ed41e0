//! A client for HTTP servers outside the ledger: witnesses, and who is to be told of an alarm.
//!
//! Plain HTTP goes to this machine only. Whatever is read has a bound, and so has the time it may
//! take. A connection is kept for the next request.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use link::tls::{FilesError, PublicClient};
use std::{fmt, net::IpAddr, path::Path, str::FromStr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// Where Debian keeps the public certificate authorities.
pub const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `https://HOST[:PORT][/PATH]`, or `http://` with a host that is this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// Without brackets.
    host: String,
    port: u16,
    /// Without a slash at its end.
    path: String,
}

/// Text is not a URL that may be used here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL of HTTP.
    #[error("'{0}' is not https://HOST[:PORT][/PATH]")]
    Format(String),
    /// Plain HTTP over a network.
    #[error(
        "'{0}' would go over the network without TLS: use https, or http with 127.0.0.1 or localhost"
    )]
    Plain(String),
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let shown = || text.chars().take(200).collect::<String>();
        let format = || UrlError::Format(shown());
        let (scheme, rest) = text.split_once("://").ok_or_else(format)?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(format()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'@' | b'"' | b'\\' | b'#');
        if !text.bytes().all(plain) || text.len() > 2000 {
            return Err(format());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format())?)
            }
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || port == 0 {
            return Err(format());
        }
        let local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !secure && !local {
            return Err(UrlError::Plain(shown()));
        }
        Ok(Url { secure, host, port, path: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Url {
    /// True if it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A server did not answer as a server should; it or the network is at fault.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {problem}")]
pub struct HttpError {
    url: String,
    problem: String,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type, if it says one.
    pub content_type: Option<String>,
    /// The body, within the bound that was given.
    pub body: Bytes,
}

/// A client of one server.
#[derive(Debug)]
pub struct HttpClient {
    url: Url,
    tls: Option<PublicClient>,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl HttpClient {
    /// A client of the server at `url`, which over TLS must have a certificate of an authority
    /// in `ca`.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn new(url: Url, ca: &Path) -> Result<Self, FilesError> {
        let tls = if url.secure { Some(PublicClient::open(ca)?) } else { None };
        Ok(HttpClient { url, tls, kept: None })
    }

    /// Where the server is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Posts `body` to `path` below the URL. Reads at most `max` bytes, and takes at most `limit`.
    ///
    /// # Errors
    /// There was no answer, or a longer one.
    pub async fn post(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: Vec<u8>,
        max: usize,
        limit: Duration,
    ) -> Result<Answer, HttpError> {
        let target = format!("{}{path}", self.url.path);
        let target = if target.is_empty() { "/".to_owned() } else { target };
        let request = Request::post(target)
            .header(header::HOST, self.url.authority())
            .header(header::CONTENT_TYPE, content_type)
            .header(header::USER_AGENT, concat!("logseal/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.error(&error))?;
        let exchange = async {
            let response = self.send(request, limit).await?;
            let status = response.status().as_u16();
            let kind = response.headers().get(header::CONTENT_TYPE);
            let content_type = kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
            let body = Limited::new(response.into_body(), max).collect().await;
            let body = body.map_err(|error| format!("its answer: {error}"))?.to_bytes();
            Ok(Answer { status, content_type, body })
        };
        let result = timeout(limit, exchange).await;
        result.unwrap_or_else(|_| Err(format!("no answer within {limit:?}"))).map_err(|problem| {
            // Where the connection stands is not known any more.
            self.kept = None;
            HttpError { url: self.url.to_string(), problem }
        })
    }

    /// Sends on the kept connection, or on a new one: the server may have closed the old one.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, String> {
        if let Some(mut kept) = self.kept.take()
            && kept.ready().await.is_ok()
            && let Ok(response) = kept.send_request(request.clone()).await
        {
            self.kept = Some(kept);
            return Ok(response);
        }
        let mut fresh = self.connect(limit).await?;
        let response = fresh.send_request(request).await.map_err(|error| error.to_string())?;
        self.kept = Some(fresh);
        Ok(response)
    }

    async fn connect(&self, limit: Duration) -> Result<SendRequest<Full<Bytes>>, String> {
        let address = self.url.authority();
        let text = |error: &dyn std::error::Error| crate::exit::explain(error);
        match &self.tls {
            Some(tls) => {
                let stream = tls.connect(address.as_str(), &self.url.host, limit).await;
                handshake(stream.map_err(|error| text(&error))?).await
            }
            None => {
                let stream = TcpStream::connect(&address).await.map_err(|error| text(&error))?;
                stream.set_nodelay(true).map_err(|error| text(&error))?;
                handshake(stream).await
            }
        }
    }

    fn error(&self, error: &dyn std::error::Error) -> HttpError {
        HttpError { url: self.url.to_string(), problem: crate::exit::explain(error) }
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let made = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = made.map_err(|error| error.to_string())?;
    // Its end shows in the next request.
    tokio::spawn(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_reached_without_tls() {
        let url = |text: &str| text.parse::<Url>();
        assert_eq!(url("https://w.example/a/").unwrap().to_string(), "https://w.example:443/a");
        assert_eq!(url("http://[::1]:80/x").unwrap().to_string(), "http://[::1]:80/x");
        assert_eq!(url("https://[2001:db8::1]").unwrap().to_string(), "https://[2001:db8::1]:443");
        assert!(url("http://localhost:1").is_ok() && url("http://127.8.0.1").is_ok());
        for plain in ["http://w.example", "http://10.0.0.1:80/", "http://localhost.example"] {
            assert!(matches!(url(plain), Err(UrlError::Plain(_))), "{plain}");
        }
        for bad in
            ["", "w.example", "ftp://x", "https://", "https://a:0", "https://a b", "https://u@h"]
        {
            assert!(matches!(url(bad), Err(UrlError::Format(_))), "{bad}");
        }
    }
}
