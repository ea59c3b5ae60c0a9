//! The audit log: what is on record of each use, that nothing is used without, and that what is changed in it is found.
#![cfg(feature = "local")]
#![allow(missing_docs)]

mod checkpoints;
mod doctor;
mod documented;
mod failures;
mod in_process;
mod processes;
mod records;
mod replaced;
mod stage;
mod tampering;

#[path = "../support/messages.rs"]
mod messages;
#[path = "../support/program.rs"]
mod program;
