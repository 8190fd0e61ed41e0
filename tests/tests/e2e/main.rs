//! End-to-end tests: real programs, real sockets on loopback, real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod agent_kills;
mod backup;
mod cluster;
mod crash;
mod demo;
mod disk;
mod export;
mod files;
mod fresh;
mod frozen;
mod hostile;
mod journald;
mod kills;
mod liar;
mod local;
mod node;
mod otlp;
mod outage;
mod partition;
mod refusals;
mod relp;
mod relp_breaks;
mod relp_hostile;
mod rotation;
mod rsyslog;
mod seals;
mod shadow;
mod spine;
mod stores;
mod syslog;
mod syslog_ng;
mod systemd;
mod units;
mod unreadable;
mod upgrade;
