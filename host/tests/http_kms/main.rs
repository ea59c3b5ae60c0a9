//! Components for services that this program doesn't know: what an endpoint of the configuration lets through, whatever a component asks, and two
//! such components, in Rust and in Python, end to end with skopeo.

mod answers;
#[path = "../support/bao.rs"]
mod bao;
#[path = "../server/certificates.rs"]
#[allow(dead_code)]
mod certificates;
mod connections;
#[path = "../support/guest.rs"]
mod guest;
mod images;
#[path = "../support/layout.rs"]
mod layout;
mod lending;
#[path = "../support/messages.rs"]
mod messages;
#[path = "../support/request.rs"]
mod request;
mod requests;
mod server;
#[path = "../support/skopeo.rs"]
mod skopeo;
mod stage;
