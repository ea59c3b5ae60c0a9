//! `ocicrypt-kms serve`, as a process of its own, with real clients.
#![cfg(all(feature = "gcp", feature = "local", feature = "server"))]
#![allow(missing_docs)]

mod auditing;
mod certificates;
mod client;
mod clients;
mod faults;
mod go;
mod limits;
mod listening;
mod observing;
#[cfg(feature = "cedar")]
mod policy;
mod protocols;
mod refusals;
mod serving;
mod systemd;
mod tls;

#[path = "../support/messages.rs"]
mod messages;
#[path = "../support/program.rs"]
mod program;
#[path = "../support"]
mod support {
    pub mod go;
    pub mod layout;
    pub mod skopeo;
}
