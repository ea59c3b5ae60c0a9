//! Annotations of random damage.

use std::sync::{Arc, Mutex};

use ocicrypt_kms::policy::{Denial, Permit, Policy, Request};
use ocicrypt_kms_testing::messages::OPTS_DATA;

use crate::fixture::{Case, always, rows};
use crate::stage::Stage;

const MUTATIONS: u64 = 10_000;

rows![always => [damaged_annotations_neither_stop_the_host_nor_reach_a_key_that_was_not_asked_for]];

/// Allows what is asked and remembers it.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Policy for Recorder {
    fn decide(&self, request: &Request<'_>) -> Result<Permit, Denial> {
        self.0.lock().unwrap().push(request.key.without_query().to_owned());
        Ok(Permit::default())
    }
}

/// xorshift64*: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }
}

/// Replaces, takes out or puts in one to three bytes; nothing where a replacement is what was there.
fn damage(annotation: &[u8], random: &mut Random) -> Vec<u8> {
    let mut damaged = annotation.to_vec();
    for _ in 0..=random.below(3) {
        let place = random.below(damaged.len());
        let byte = random.below(256) as u8;
        match random.below(4) {
            0 => drop(damaged.remove(place)),
            1 => damaged.insert(place, byte),
            _ => damaged[place] = byte,
        }
    }
    damaged
}

fn damaged_annotations_neither_stop_the_host_nor_reach_a_key_that_was_not_asked_for(case: &Case<'_>) {
    let key = case.create_key();
    let policy = Arc::new(Recorder::default());
    let stage = Stage::with_policy(case, policy.clone());
    let annotation = stage.wrap(&key);
    let asked = key.split('?').next().unwrap();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..MUTATIONS {
        let damaged = damage(&annotation, &mut random);
        stage.refuse_calls();
        // Damage to what isn't read (white space, unknown members' names) leaves the key as it was; nothing else may come out.
        if let Ok(opts_data) = stage.unwrap(&[&key], &damaged) {
            assert_eq!(opts_data, OPTS_DATA);
        }
    }
    let opened = policy.0.lock().unwrap();
    assert!(opened.len() > 100, "most damage is to the wrapped key, which only the service can find out");
    assert!(opened.iter().all(|uri| uri == asked), "{opened:?}");
}
