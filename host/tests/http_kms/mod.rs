//! Components for services that this program doesn't know: what an endpoint of the configuration lets through, whatever a component asks, and two
//! such components, in Rust and in Python, end to end with skopeo.

mod answers;
mod connections;
mod images;
mod lending;
mod requests;
mod stage;
