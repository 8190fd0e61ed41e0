//! The names of the predefined formats.

use super::{
    gateways::{apisix, aws, caddy, clf, envoy, haproxy, kong, nginx, traefik},
    table::Entry,
    text,
};
use std::{fmt, str::FromStr};

/// The format of a source's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Kept as they are, no fields extracted.
    #[default]
    Raw,
    /// JSON without predefined fields.
    Json,
    /// A regular expression of the user's, without predefined fields.
    Regex,
    /// Kong's `file-log` and `http-log` JSON.
    Kong,
    /// Apache APISIX's `file-logger` and `http-logger` JSON.
    Apisix,
    /// nginx's predefined `combined` format.
    NginxCombined,
    /// JSON with the names of nginx's variables, as documented.
    NginxJson,
    /// Envoy's default format.
    Envoy,
    /// Envoy's JSON with the names that Istio and Envoy Gateway use.
    EnvoyJson,
    /// Traefik's Common Log Format.
    Traefik,
    /// Traefik's JSON.
    TraefikJson,
    /// HAProxy's `option httplog`.
    Haproxy,
    /// Amazon API Gateway's JSON, as documented.
    AwsApigw,
    /// Caddy's JSON.
    Caddy,
    /// The Common Log Format, or Apache's `combined`.
    Clf,
}

/// Text is not the name of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is no format: use one of {}", Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat {
    name: String,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 15] = [
        Format::Raw,
        Format::Json,
        Format::Regex,
        Format::Kong,
        Format::Apisix,
        Format::NginxCombined,
        Format::NginxJson,
        Format::Envoy,
        Format::EnvoyJson,
        Format::Traefik,
        Format::TraefikJson,
        Format::Haproxy,
        Format::AwsApigw,
        Format::Caddy,
        Format::Clf,
    ];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Json => "json",
            Format::Regex => "regex",
            Format::Kong => "kong",
            Format::Apisix => "apisix",
            Format::NginxCombined => "nginx-combined",
            Format::NginxJson => "nginx-json",
            Format::Envoy => "envoy",
            Format::EnvoyJson => "envoy-json",
            Format::Traefik => "traefik",
            Format::TraefikJson => "traefik-json",
            Format::Haproxy => "haproxy",
            Format::AwsApigw => "aws-apigw",
            Format::Caddy => "caddy",
            Format::Clf => "clf",
        }
    }

    /// How its lines are read, and the predefined table.
    pub(super) fn shape(self) -> (Shape, &'static [Entry]) {
        match self {
            Format::Raw => (Shape::Nothing, &[]),
            Format::Json => (Shape::Json, &[]),
            Format::Regex => (Shape::Regex, &[]),
            Format::Kong => (Shape::Json, kong::TABLE),
            Format::Apisix => (Shape::Json, apisix::TABLE),
            Format::NginxCombined | Format::Clf => (Shape::Text(&clf::FORMAT), clf::TABLE),
            Format::NginxJson => (Shape::Json, nginx::TABLE),
            Format::Envoy => (Shape::Text(&envoy::FORMAT), envoy::TABLE),
            Format::EnvoyJson => (Shape::Json, envoy::JSON_TABLE),
            Format::Traefik => (Shape::Text(&traefik::FORMAT), traefik::TABLE),
            Format::TraefikJson => (Shape::Json, traefik::JSON_TABLE),
            Format::Haproxy => (Shape::Text(&haproxy::FORMAT), haproxy::TABLE),
            Format::AwsApigw => (Shape::Json, aws::TABLE),
            Format::Caddy => (Shape::Json, caddy::TABLE),
        }
    }
}

/// What lines of a format are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Nothing,
    Json,
    Regex,
    Text(&'static text::Format),
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let named = Self::ALL.into_iter().find(|format| format.name() == text);
        named.ok_or_else(|| UnknownFormat { name: text.chars().take(100).collect() })
    }
}
