//! What the configuration says about the lines of a source: `format`, `pattern` and the table
//! `fields`, the same for every kind of source.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use link::tls::TlsFiles;
use pipeline::{
    Extractor, Format, SourceSettings,
    extract::{Place, UserTable, Wanted},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use service::config::{ConfigError, Source};

use super::{SourceConfig, meaning::At, written};

/// Reads the sources of a configuration file, whatever else stands in it: how their lines are read.
///
/// # Errors
/// The first value that cannot be meant, with its file and line.
pub fn load_all(path: &Path) -> Result<Vec<SourceSettings>, ConfigError> {
    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        source: written::Sources,
    }
    let (written, source) = Source::load::<Written>(path)?;
    // Nobody listens: no file is read.
    let nothing = PathBuf::new;
    let tls = TlsFiles { ca: nothing(), cert: nothing(), key: nothing(), crl: None };
    let sources = At(&source).sources(written.source, &tls)?;
    Ok(sources.iter().map(SourceConfig::settings).collect())
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
