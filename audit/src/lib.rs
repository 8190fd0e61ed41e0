//! `logseal`, the command line of auditors and operators.
//!
//! What it says about evidence it has checked itself, with nothing but the
//! bytes and a policy: it believes no node, no agent and no network.

pub mod backup;
pub mod certs_cmd;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod declare;
pub mod demo;
pub mod enrol;
pub mod evidence;
pub mod export;
pub mod forward;
pub mod monitor;
pub mod output;
pub mod proof;
pub mod prune;
pub mod reading;
pub mod site;
pub mod status;
pub mod store;
pub mod tiles;
pub mod times;
pub mod verify;
pub mod witness;
