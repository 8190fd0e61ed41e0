//! How bytes travel: compressed if that is wanted, and not at all if they are there already.

use axum::http::{HeaderMap, HeaderValue, header};
use flate2::{Compression, write::GzEncoder};
use record::crypto::sha256;
use std::io::Write;

/// Log lines shrink to a fifth at this level, and hardly more at a higher one.
const LEVEL: u32 = 4;

/// True if the client takes gzip (RFC 9110, section 12.5.3).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let items = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let (mut named, mut any) = (None, false);
    for item in items {
        let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1").trim();
        let wanted = weight.parse::<f32>().is_ok_and(|weight| weight > 0.0);
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => named = Some(wanted),
            "*" => any = wanted,
            _ => {}
        }
    }
    named.unwrap_or(any)
}

/// The bytes as gzip, the same each time.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(LEVEL));
    let packed = gzip.write_all(bytes).and_then(|()| gzip.finish());
    packed.expect("memory takes what is written to it")
}

/// The entity tag of these bytes, as they travel.
pub(super) fn tag(bytes: &[u8]) -> HeaderValue {
    let hash = sha256(&[bytes]);
    let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).expect("hexadecimal is a header value")
}

/// True if the client says that it has what has this tag.
pub(super) fn has(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut items =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    items.any(|item| {
        let item = item.trim();
        item == "*" || item.trim_start_matches("W/").as_bytes() == tag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_whoever_says_that_he_takes_it() {
        for (value, takes) in [
            ("", false),
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("*", true),
            ("*;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("gzip;q=x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
            assert_eq!(accepts_gzip(&headers), takes, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
