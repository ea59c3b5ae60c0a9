//! What no log, no error and no line on standard error may hold.

use std::ops::Deref;

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_fakes::azure::FakeAzure;
use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_fakes::{Traffic, azure, gcp};

use crate::messages::OPTS_DATA;

/// A fake that knows which credentials and tokens its clients can hold.
pub trait Fake: Deref<Target = Traffic<Self::Fault>> {
    /// What it can be made to get wrong.
    type Fault: Clone;

    /// The credentials that it accepts and the tokens that it gave out.
    fn secrets(&self) -> Vec<String>;
}

impl Fake for FakeAzure {
    type Fault = azure::Fault;

    fn secrets(&self) -> Vec<String> {
        FakeAzure::secrets(self)
    }
}

impl Fake for FakeGcp {
    type Fault = gcp::Fault;

    fn secrets(&self) -> Vec<String> {
        FakeGcp::secrets(self)
    }
}

/// Fails if the text holds a credential, a token or opts data.
pub fn assert_none_in(text: &str, fake: &impl Fake, place: &str) {
    let opts_data = String::from_utf8(OPTS_DATA.to_vec()).unwrap();
    let symkey = opts_data.split('"').nth(3).unwrap().to_owned();
    let numbers = serde_json::to_string(OPTS_DATA).unwrap();
    // Tokens that the client signed itself are not among those that the fake gave out.
    let sent = fake.requests().into_iter().filter_map(|request| Some(request.header("authorization")?.split(' ').nth(1)?.to_owned()));
    let own = [symkey, opts_data, bytes::encode(OPTS_DATA), numbers];
    for secret in own.into_iter().chain(fake.secrets()).chain(sent) {
        assert!(!text.contains(&secret), "{place} holds the secret {secret}: {text}");
    }
}
