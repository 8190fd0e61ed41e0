//! Values along JSON pointers (RFC 6901), in one pass over the line.
//!
//! Only what the pointers lead to is looked at; the rest is skipped, and no
//! document is built. Names inside an object of HTTP headers are compared
//! without regard to case, as HTTP does. Of equal names the last counts, as for
//! most readers of JSON.

use super::value::Value;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// The most names in a pointer.
const MAX_DEPTH: usize = 16;
/// Of a list in a list the first is taken, down to here.
const MAX_LISTS: u8 = 4;

/// All pointers of a source, joined where they begin alike.
#[derive(Debug)]
pub(super) struct Pointers {
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Where the value goes, if a pointer ends here.
    slot: Option<usize>,
    /// Names, and the nodes they lead to.
    children: Vec<(Box<str>, usize)>,
    /// True if the names are those of HTTP headers.
    headers: bool,
}

impl Pointers {
    pub(super) fn new() -> Self {
        Pointers { nodes: vec![Node::default()], slots: 0 }
    }

    /// How many values there are.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The place of a pointer's value; `None` if it is no pointer.
    pub(super) fn add(&mut self, pointer: &str) -> Option<usize> {
        let names = pointer.strip_prefix('/')?.split('/').map(unescape);
        let names = names.collect::<Option<Vec<_>>>().filter(|names| names.len() <= MAX_DEPTH)?;
        let mut at = 0;
        for name in names {
            at = self.child(at, name);
        }
        let slot = self.nodes[at].slot.unwrap_or(self.slots);
        self.nodes[at].slot = Some(slot);
        self.slots = self.slots.max(slot + 1);
        Some(slot)
    }

    fn child(&mut self, at: usize, name: String) -> usize {
        if let Some(child) = self.nodes[at].find(&name) {
            return child;
        }
        let headers = name.len() >= 7
            && name.is_char_boundary(name.len() - 7)
            && name[name.len() - 7..].eq_ignore_ascii_case("headers");
        self.nodes.push(Node { headers, ..Node::default() });
        let child = self.nodes.len() - 1;
        self.nodes[at].children.push((name.into(), child));
        child
    }

    /// Fills in what the pointers lead to; `None` if the line is no JSON object.
    pub(super) fn read<'a>(&self, line: &'a str, values: &mut [Value<'a>]) -> Option<()> {
        let mut json = serde_json::Deserializer::from_str(line);
        let walk = Walk { pointers: self, node: Some(&self.nodes[0]), list: None, values };
        json.deserialize_map(walk).ok()?;
        json.end().ok()
    }
}

/// A name of a pointer, as it is in the document.
fn unescape(name: &str) -> Option<String> {
    if !name.contains('~') {
        return Some(name.to_owned());
    }
    let mut parts = name.split('~');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        out.push(match part.as_bytes().first()? {
            b'0' => '~',
            b'1' => '/',
            _ => return None,
        });
        out.push_str(&part[1..]);
    }
    Some(out)
}

impl Node {
    fn find(&self, name: &str) -> Option<usize> {
        let same = |key: &str| match self.headers {
            true => key.eq_ignore_ascii_case(name),
            false => key == name,
        };
        self.children.iter().find(|(key, _)| same(key)).map(|(_, child)| *child)
    }

    /// The node of a list's element.
    fn element(&self, index: usize) -> Option<usize> {
        if self.children.is_empty() {
            return None;
        }
        self.find(&index.to_string())
    }
}

/// A value in the line, and the node that leads there.
struct Walk<'p, 'v, 'a> {
    pointers: &'p Pointers,
    node: Option<&'p Node>,
    /// Where the first of a list goes that a pointer ends at, and how many lists it is in.
    list: Option<(usize, u8)>,
    values: &'v mut [Value<'a>],
}

impl<'a> Walk<'_, '_, 'a> {
    fn put(self, value: impl Fn() -> Value<'a>) {
        let own = self.node.and_then(|node| node.slot);
        for slot in own.into_iter().chain(self.list.map(|(slot, _)| slot)) {
            self.values[slot] = value();
        }
    }
}

impl<'a> DeserializeSeed<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.put(|| Value::text(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.put(|| Value::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.put(|| Value::Unsigned(number));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.put(|| Value::Signed(number));
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.put(|| Value::Float(number));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.put(|| Value::Nothing);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.put(|| Value::Nothing);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        let Walk { pointers, node, list: outer, values } = self;
        let first = match (node.and_then(|node| node.slot), outer) {
            (Some(slot), _) => Some((slot, 1)),
            (None, Some((slot, depth))) if depth < MAX_LISTS => Some((slot, depth + 1)),
            (None, _) => None,
        };
        for index in 0.. {
            let child = node.and_then(|node| node.element(index)).map(|at| &pointers.nodes[at]);
            let first = first.filter(|_| index == 0);
            let more = if child.is_some() || first.is_some() {
                let walk = Walk { pointers, node: child, list: first, values: &mut *values };
                list.next_element_seed(walk)?
            } else {
                list.next_element::<IgnoredAny>()?.map(|_| ())
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { pointers, node, values, .. } = self;
        while let Some(child) = map.next_key_seed(Name(node))? {
            match child {
                Some(child) => {
                    let node = Some(&pointers.nodes[child]);
                    map.next_value_seed(Walk { pointers, node, list: None, values: &mut *values })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A name in an object, read as the node that it leads to.
struct Name<'p>(Option<&'p Node>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.and_then(|node| node.find(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pointer: &str, line: &str) -> Option<Value<'static>> {
        let mut pointers = Pointers::new();
        let slot = pointers.add(pointer).unwrap();
        let mut values = vec![Value::Nothing; pointers.slots()];
        pointers.read(line, &mut values)?;
        Some(match values.swap_remove(slot) {
            Value::Text(text) => Value::Text(text.into_owned().into()),
            Value::Nothing => Value::Nothing,
            Value::Unsigned(number) => Value::Unsigned(number),
            Value::Signed(number) => Value::Signed(number),
            Value::Float(number) => Value::Float(number),
        })
    }

    #[test]
    fn the_examples_of_rfc_6901_lead_where_they_should() {
        let line = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        assert_eq!(read("/foo/0", line), Some(Value::text("bar")));
        assert_eq!(read("/foo/1", line), Some(Value::text("baz")));
        assert_eq!(read("/foo", line), Some(Value::text("bar")));
        for (number, pointer) in
            ["/", "/a~1b", "/c%d", "/e^f", "/g|h", "/i\\j", "/k\"l", "/ ", "/m~0n"]
                .iter()
                .enumerate()
        {
            assert_eq!(read(pointer, line), Some(Value::Unsigned(number as u64)), "{pointer}");
        }
    }

    #[test]
    fn text_that_is_no_pointer_is_refused() {
        let deep = "/a".repeat(MAX_DEPTH + 1);
        for bad in ["", "a", "a/b", "/a~", "/a~2", &deep] {
            assert_eq!(Pointers::new().add(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_place_may_be_a_value_and_lead_further() {
        let mut pointers = Pointers::new();
        let slots = ["/a", "/a/0", "/a/b"].map(|pointer| pointers.add(pointer).unwrap());
        for (line, wanted) in [
            (r#"{"a":1}"#, [Value::Unsigned(1), Value::Nothing, Value::Nothing]),
            (r#"{"a":["x"]}"#, [Value::text("x"), Value::text("x"), Value::Nothing]),
            (r#"{"a":{"b":2,"0":3}}"#, [Value::Nothing, Value::Unsigned(3), Value::Unsigned(2)]),
        ] {
            let mut values = vec![Value::Nothing; pointers.slots()];
            pointers.read(line, &mut values).unwrap();
            assert_eq!(slots.map(|slot| values[slot].clone()), wanted, "{line}");
        }
    }

    #[test]
    fn only_names_of_headers_are_compared_without_regard_to_case() {
        let line = r#"{"Request_Headers":{"x-a":1},"request_headers":{"X-A":["2"]},"X":3}"#;
        assert_eq!(read("/request_headers/x-a", line), Some(Value::text("2")));
        assert_eq!(read("/x", line), Some(Value::Nothing));
    }

    #[test]
    fn odd_types_and_repeated_names_cost_nothing() {
        let lists = format!(r#"{{"a":{}1{},"b":1}}"#, "[".repeat(100), "]".repeat(100));
        assert_eq!(read("/a", &lists), Some(Value::Nothing));
        assert_eq!(read("/b", &lists), Some(Value::Unsigned(1)));
        assert_eq!(read("/a", r#"{"a":1,"a":{"b":[]},"a":"2"}"#), Some(Value::text("2")));
        assert_eq!(read("/a", r#"{"a":1,"a":null}"#), Some(Value::Nothing));
        assert_eq!(read("/a/9", r#"{"a":[1]}"#), Some(Value::Nothing));
    }

    #[test]
    fn what_is_no_object_is_not_read() {
        for line in ["plain", "[1]", "{\"a\":", "{}{}", "1", ""] {
            assert_eq!(read("/a", line), None, "{line}");
        }
    }
}
