//! No text makes the reader of configurations panic, and what it refuses is said with the line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicrypt_kms_fuzz::config::Config;

fuzz_target!(|text: &str| match Config::parse(text) {
    Ok(config) => assert!((1..=300).contains(&config.deadline_seconds)),
    Err(error) => {
        let line = error.strip_prefix("line ").and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        match line {
            Some(line) => assert!((1..=text.matches('\n').count() + 1).contains(&line), "{error}"),
            None => assert!(error.starts_with("`deadline-seconds`"), "{error}"),
        }
    }
});
