//! A table for each gateway, from its own documentation, and a reader for those that do not write
//! JSON. `source.ip` is always what the gateway itself took for the client.

pub(super) mod apisix;
pub(super) mod aws;
pub(super) mod caddy;
pub(super) mod clf;
pub(super) mod envoy;
pub(super) mod haproxy;
pub(super) mod kong;
pub(super) mod nginx;
pub(super) mod traefik;
