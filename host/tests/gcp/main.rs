//! Cloud KMS.
#[test]
fn nothing() {}
