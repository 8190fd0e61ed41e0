//! As much of a server's side of HTTP/1.1 as a test needs, which looks at every byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest head or body of a request.
const MAX: usize = 1 << 20;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The target.
    pub path: String,
    /// The header fields, their names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, as long as the header says.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The next request; none when the client is through, or does not speak HTTP.
pub async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok().filter(|_| head.len() < MAX)?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut request = Request { method, path, fields, body: Vec::new() };
    let length: usize = request.field("content-length").map_or(Ok(0), str::parse).ok()?;
    request.body = vec![0; Some(length).filter(|length| *length <= MAX)?];
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}

/// Answers with a status such as `200 OK`; the connection stays.
///
/// # Errors
/// The client has gone.
pub async fn answer(
    stream: &mut (impl AsyncWriteExt + Unpin),
    status: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}
