//! The audit log: what is on record of each use, that nothing is used without, and that what is changed in it is found.

mod backlog;
mod checkpoints;
mod doctor;
mod documented;
mod failures;
mod in_process;
mod owners;
mod processes;
mod records;
mod replaced;
mod stage;
mod tampering;
