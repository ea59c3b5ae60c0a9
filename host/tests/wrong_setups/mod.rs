//! Set-ups as people get them wrong: each message names the thing and the remedy. One table for each service.

/// Google Cloud KMS.
mod gcp;
