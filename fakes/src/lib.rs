//! Stand-ins for key management services that can't run here, for tests and the demo.
//!
//! A fake answers as the real service does, on loopback, and is checked against the service's own client library: what
//! it gets wrong, that library notices. It keeps nothing on disk and protects nothing.

pub mod azure;
mod cache;
mod faults;
pub mod gcp;
pub mod program;
mod proxy;
mod record;
mod server;
mod shared;
mod traffic;
mod transport;

pub use cache::cached;
pub use faults::{FaultPlan, Planned};
pub use proxy::{Disturbance, Proxy};
pub use record::Request;
pub use traffic::Traffic;
