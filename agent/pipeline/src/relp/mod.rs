//! RELP: syslog whose sender is told of each message when it is stored, and sends again what it
//! was not told of.
//!
//! Pure: frames ([`frame`]), what a client may ask when ([`session`]), and which messages are
//! copies of what is stored already ([`resend`]). What is promised to clients is in [`session`],
//! what "stored once" means in [`resend`].

pub mod frame;
pub mod resend;
pub mod session;
