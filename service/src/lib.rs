//! What logseal's daemons share, so that operators meet one behaviour: how a
//! configuration file is read, who the nodes are, how keys are kept, where the
//! log goes, what signals do, how metrics are served, and what exit codes mean.

pub mod clock;
pub mod config;
pub mod disk;
pub mod exit;
pub mod http;
pub mod keys;
pub mod logging;
pub mod members;
pub mod metrics;
pub mod signals;
