//! `ocicrypt-kms serve`, as a process of its own, with real clients.

mod auditing;
mod bounds;
pub mod client;
mod clients;
mod faults;
mod go;
mod grpc_clients;
mod limits;
mod listening;
mod observing;
mod policy;
mod protocols;
mod refusals;
mod revocation;
pub mod serving;
mod siege;
mod stage;
mod systemd;
mod tls;
