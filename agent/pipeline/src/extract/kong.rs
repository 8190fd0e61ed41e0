//! Kong's log serializer: <https://docs.konghq.com/hub/kong-inc/file-log/log-format/>.

use super::{Access, path};
use record::UnixMillis;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{borrow::Cow, fmt, marker::PhantomData};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    request: Request<'a>,
    response: Response<'a>,
    latencies: Latencies,
    #[serde(borrow)]
    client_ip: Text<'a>,
    #[serde(borrow)]
    consumer: Consumer<'a>,
    #[serde(borrow)]
    route: Route<'a>,
    started_at: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Request<'a> {
    #[serde(borrow)]
    method: Text<'a>,
    #[serde(borrow)]
    uri: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    headers: Headers<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Headers<'a> {
    #[serde(borrow, rename = "x-purpose")]
    purpose: Text<'a>,
    #[serde(borrow, rename = "x-subject")]
    subject: Text<'a>,
    #[serde(borrow, rename = "x-transaction-id")]
    transaction: Text<'a>,
    #[serde(borrow, rename = "x-action")]
    action: Text<'a>,
    #[serde(borrow, rename = "x-items")]
    items: Text<'a>,
    #[serde(borrow, rename = "x-party")]
    party: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Response<'a> {
    #[serde(borrow)]
    status: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Latencies {
    /// Milliseconds from the first byte read to the last byte sent.
    request: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Consumer<'a> {
    #[serde(borrow)]
    custom_id: Text<'a>,
    #[serde(borrow)]
    username: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Route<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

/// A value that should be text: numbers are written out, of a list the first is taken, everything
/// else is nothing. A field of an odd type must not cost the line its other fields.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

struct TextVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for TextVisitor<'a> {
    type Value = Text<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Text<'a>, E> {
        Ok(Text(Cow::Owned(number.to_string())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text<'a>, E> {
        Ok(Text::default())
    }

    fn visit_unit<E>(self) -> Result<Text<'a>, E> {
        Ok(Text::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text<'a>, A::Error> {
        let first = list.next_element::<Text<'a>>()?.unwrap_or_default();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'a>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::default())
    }
}

/// `None` if the line is no Kong log line.
pub(super) fn extract(line: &[u8]) -> Option<Access<'_>> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let mut access =
        Access { time: line.started_at.map(UnixMillis), fields: Vec::with_capacity(12) };
    let Consumer { custom_id, username, id } = line.consumer;
    let user = [custom_id.0, username.0, id.0].into_iter().find(|name| !name.is_empty());
    access.put("user.id", user.unwrap_or_default());
    access.put("source.ip", line.client_ip.0);
    access.put("http.request.method", line.request.method.0);
    access.put("url.path", path_of(line.request.uri.0));
    access.put("http.response.status_code", line.response.status.0);
    if let Some(millis) = line.latencies.request.filter(|ms| (0.0..1e12).contains(ms)) {
        access.put("event.duration", ((millis * 1e6) as u64).to_string());
    }
    let headers = line.request.headers;
    access.put("purpose", headers.purpose.0);
    access.put("subject", headers.subject.0);
    let (given, own) = (headers.transaction.0, line.request.id.0);
    access.put("transaction.id", if given.is_empty() { own } else { given });
    let (given, route) = (headers.action.0, line.route.name.0);
    access.put("action", if given.is_empty() { route } else { given });
    access.put("items", headers.items.0);
    access.put("party", headers.party.0);
    Some(access)
}

fn path_of(uri: Cow<'_, str>) -> Cow<'_, str> {
    match uri {
        Cow::Borrowed(uri) => Cow::Borrowed(path(uri)),
        Cow::Owned(uri) => Cow::Owned(path(&uri).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = r#"{"request":{"uri":"/v1/household/A123456789?full=1","method":"GET","id":"f3d1","headers":{"host":"api.city.example","x-purpose":"\u6236\u7c4d\u67e5\u8a62","x-subject":"A123456789","accept":["a","b"]},"size":75},"response":{"status":200,"headers":{"content-type":"application/json"},"size":1403},"latencies":{"proxy":10,"kong":2,"request":12.5},"client_ip":"10.1.2.3","consumer":{"username":"clerk07","id":"0f1e"},"route":{"name":"household-read","id":"aa"},"started_at":1795248147125}"#;

    #[test]
    fn a_kong_line_tells_who_looked_at_whom_and_why() {
        let access = extract(LINE.as_bytes()).unwrap();
        insta::assert_debug_snapshot!(access);
    }

    #[test]
    fn a_field_of_an_odd_type_does_not_cost_the_others() {
        let line = br#"{"request":{"method":7,"uri":["/a?b"],"headers":{"x-purpose":{"a":[1]}}},"response":{"status":"204"},"client_ip":null,"consumer":{"id":true}}"#;
        let access = extract(line).unwrap();
        assert_eq!(
            access.fields,
            [
                ("http.request.method", "7".into()),
                ("url.path", "/a".into()),
                ("http.response.status_code", "204".into())
            ]
        );
    }

    #[test]
    fn a_line_that_is_not_kongs_is_left_alone() {
        for line in [&b"plain"[..], b"[1]", b"{\"request\":", b"\xff{}", b""] {
            assert!(extract(line).is_none());
        }
        assert_eq!(extract(b"{}").unwrap(), Access::default());
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(
            line in r#"(\{|\}|\[|\]|:|,|"request"|"headers"|"x-purpose"|"started_at"|"latencies"|"a\\ud83d"|-?[0-9]{1,25}(e[0-9]{1,3})?|null|true|é){0,20}"#,
            value in r#"(-?[0-9]{1,25}(\.[0-9])?(e[0-9]{1,3})?|null|true|\[\[\{\}\]\]|\{"a":\[\]\}|"(é|\\n|\\u00e9|\?|#)*")"#,
        ) {
            let _ = extract(line.as_bytes());
            let line = format!(
                r#"{{"started_at":{value},"latencies":{{"request":{value}}},"request":{{"uri":{value},"headers":{{"x-purpose":{value}}}}},"consumer":{{"id":{value}}}}}"#
            );
            let _ = extract(line.as_bytes());
        }
    }
}
