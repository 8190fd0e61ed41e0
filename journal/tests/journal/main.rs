//! What a user of the journal would lose: one binary, one module a concern.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod crash;
mod damage;
#[path = "../../../record/tests/support/fixture.rs"]
mod fixture;
mod format;
mod full;
mod lifecycle;
mod model;
mod restore;
mod support;
