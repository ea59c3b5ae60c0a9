//! Little address space: `ulimit -v`, a container's `RLIMIT_AS`, or the 39 bits of small ARM boards.

use std::process::Command;

use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use ocicrypt_kms_testing::program::{self, Program, answer, piped, refusal};

use crate::server::client::{both_ways, connect, runtime};
use crate::server::serving::{Serving, socket, user, user_with};

const TEAM: &[&str] = &["local://team"];
const MIB: u64 = 1 << 20;
const REMEDY: &str = "raise the limit of address space (`ulimit -v`, RLIMIT_AS; `LimitAS` of a systemd unit)";

/// The program, which may have so many bytes of address space.
fn limited(user: &Program, bytes: u64, arguments: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={bytes}:{bytes}")).arg(program::path()).args(arguments);
    user.as_user(&mut command);
    command.env("PATH", std::env::var_os("PATH").unwrap());
    command
}

#[test]
fn an_exchange_needs_little_address_space() {
    let user = user();
    let exchange = |message: &[u8]| answer(piped(&mut limited(&user, 320 * MIB, &[]), message));
    let annotation = annotation_of(&exchange(&wrapping(TEAM)));
    assert_eq!(opts_data_of(&exchange(&unwrapping(TEAM, &annotation))), OPTS_DATA);
}

/// From a size that is enough down to one with which it isn't even loaded: in between, what is missing is the sandbox's.
#[test]
fn an_exchange_without_address_space_names_the_limit() {
    let user = user();
    let lines = (1..80).rev().filter_map(|size| {
        let output = piped(&mut limited(&user, size * 4 * MIB, &[]), &wrapping(TEAM));
        let is_refused = output.status.code().is_some_and(|code| code != 0) && output.stderr.starts_with(b"ocicrypt-kms: ");
        is_refused.then(|| refusal(&output).1)
    });
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().any(|line| line.contains("reserves 64 MiB of address space") && line.ends_with(REMEDY)), "{lines:?}");
}

#[test]
fn a_server_with_128_places_needs_ten_gibibytes_of_address_space_and_says_so() {
    let user = user();
    let server = Serving::spawn(limited(&user, 10 << 30, &["serve", "--log-format", "json", "--listen", &socket(&user).1]));
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        both_ways(&channel, &wrapping(TEAM), |annotation| unwrapping(TEAM, annotation), OPTS_DATA).await.unwrap();
    });
    drop(server);
    let (_, line) = refusal(&piped(&mut limited(&user, 2 << 30, &["serve", "--listen", &socket(&user).1]), b""));
    assert!(line.contains("128 exchanges at a time reserve 64 MiB of address space each"), "{line}");
    assert!(line.contains(REMEDY) && line.ends_with("or lower `max-exchanges` below `[server]`"), "{line}");

    // What the line says helps.
    let user = user_with("[server]\nmax-exchanges = 8\n");
    let _server = Serving::spawn(limited(&user, 2 << 30, &["serve", "--log-format", "json", "--listen", &socket(&user).1]));
    runtime().block_on(async {
        let channel = connect(&socket(&user).0).await.unwrap();
        both_ways(&channel, &wrapping(TEAM), |annotation| unwrapping(TEAM, annotation), OPTS_DATA).await.unwrap();
    });
}
