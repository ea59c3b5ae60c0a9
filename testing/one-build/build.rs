//! Nothing: without a build script, dependencies of one count for nothing.
fn main() {}
