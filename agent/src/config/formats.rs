//! What the configuration says about the lines of a source: `format`, `pattern` and the table
//! `fields`, the same for every kind of source.

use std::{collections::BTreeMap, fmt, path::Path};

use pipeline::{
    Extractor, Format,
    extract::{Place, UserTable, Wanted},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use service::config::{ConfigError, Source};

use super::{meaning::At, written};

/// A source's name and format, for those who only want to read lines.
#[derive(Clone, Debug)]
pub struct SourceFormat {
    /// Its name.
    pub name: String,
    /// What is taken from its lines.
    pub format: Extractor,
    /// True if its lines are syslog messages.
    pub syslog: bool,
}

impl SourceFormat {
    /// Reads the sources of a configuration file, whatever else stands in it.
    ///
    /// # Errors
    /// The first value that cannot be meant, with its file and line.
    pub fn load_all(path: &Path) -> Result<Vec<Self>, ConfigError> {
        #[derive(Deserialize)]
        struct Written {
            #[serde(default)]
            source: written::Sources,
        }
        let (written, source) = Source::load::<Written>(path)?;
        let at = At(&source);
        let mut all = Vec::new();
        for (index, file) in written.source.file.into_iter().enumerate() {
            let table = format!("source.file[{index}]");
            let format = at.extractor(&table, file.format, file.pattern, file.fields)?;
            all.push(SourceFormat { name: file.name, format, syslog: false });
        }
        for (index, syslog) in written.source.syslog.into_iter().enumerate() {
            let table = format!("source.syslog[{index}]");
            let format = at.extractor(&table, syslog.format, syslog.pattern, syslog.fields)?;
            all.push(SourceFormat { name: syslog.name, format, syslog: true });
        }
        for (index, relp) in written.source.relp.into_iter().enumerate() {
            let table = format!("source.relp[{index}]");
            let format = at.extractor(&table, relp.format, relp.pattern, relp.fields)?;
            all.push(SourceFormat { name: relp.name, format, syslog: true });
        }
        Ok(all)
    }
}

/// The table `fields`, as it is written.
pub(super) type Fields = BTreeMap<String, Places>;

/// Where to look for a field, as it is written: one place, several, or `{ from = …, unit = … }`.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Wanted>);

/// `{ from = …, unit = … }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithUnit {
    from: Places,
    unit: Option<String>,
}

impl At<'_> {
    /// What is taken from the lines of the source in `table`.
    pub(super) fn extractor(
        &self,
        table: &str,
        format: Format,
        pattern: Option<String>,
        fields: Fields,
    ) -> Result<Extractor, ConfigError> {
        let fields = fields.into_iter().map(|(name, places)| (name, places.0)).collect();
        Extractor::new(format, &UserTable { pattern, fields }).map_err(|error| {
            let key = match &error.place {
                Place::Format => format!("{table}.format"),
                Place::Pattern => format!("{table}.pattern"),
                Place::Field(name) => format!("{table}.fields.\"{name}\""),
            };
            self.0.error(&key, error)
        })
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlacesVisitor)
    }
}

struct PlacesVisitor;

impl<'de> Visitor<'de> for PlacesVisitor {
    type Value = Places;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("where the field is: text, a list of texts, or { from = \"…\", unit = \"…\" }")
    }

    /// Empty text is nowhere: it takes a predefined entry away.
    fn visit_str<E: Error>(self, from: &str) -> Result<Places, E> {
        Ok(Places(if from.is_empty() { Vec::new() } else { vec![Wanted::from(from)] }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Places, A::Error> {
        let mut all = Vec::new();
        while let Some(places) = list.next_element::<Places>()? {
            all.extend(places.0);
        }
        Ok(Places(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Places, A::Error> {
        let WithUnit { from, unit } = WithUnit::deserialize(MapAccessDeserializer::new(map))
            .map_err(|error| {
                let hint = "a field is '{ from = \"…\", unit = \"…\" }', and a name with dots stands in quotes";
                A::Error::custom(format!("{error}: {hint}"))
            })?;
        let places = from.0.into_iter();
        let placed =
            places.map(|place| Wanted { unit: place.unit.or_else(|| unit.clone()), ..place });
        Ok(Places(placed.collect()))
    }
}
