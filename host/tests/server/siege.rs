//! A server under attack while honest clients use it: for seconds in the tests, for minutes with `bench/siege`.

mod attacks;
mod honest;

use std::time::Duration;

use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::program::{Program, answer};
use ocicrypt_kms_testing::scripted::Scripted;

use self::honest::Figures;
use super::client::runtime;
use super::serving::user_with;
use super::stage::Stage;

/// The key that honest clients use; nobody else names it.
const TEAM: &[&str] = &["local://team"];
/// The attackers'.
const OTHER: &[&str] = &["local://other"];
/// A key of a KMS that answers absurdities.
const GCP: &[&str] = &["gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k"];

/// How long attacks last, in seconds. With it, the 99th percentile is compared, too; beside other tests it says nothing.
const SECONDS: &str = "OCICRYPT_KMS_SIEGE_SECONDS";
/// The same in the tests.
const SHORT: u64 = 8;
/// What memory may grow by from the first third of a long attack to its end, in KiB: what allocators keep.
const GROWTH: u64 = 32 << 10;
/// The same of a short one, in whose first third not every attack has come to its worst.
const SHORT_GROWTH: u64 = 128 << 10;

/// How many descriptors the first call to a KMS opens for good: connections that are kept, and the runtime that renews its tokens.
const KEPT: usize = 8;

/// A server, and who is around it.
struct Siege {
    user: Program,
    stage: Stage,
    _kms: Scripted,
    _tokens: FakeGcp,
}

impl Siege {
    fn lay() -> Self {
        let (tokens, kms) = (FakeGcp::start(), Scripted::start(attacks::absurd_answer));
        let settings = "deadline-seconds = 3\n[audit]\nfile = \"audit.jsonl\"\n";
        let mut user = user_with("");
        user.write("config.toml", format!("keys = [\"local://*\", \"gcpkms://*\"]\n{settings}"));
        assert!(user.run(&["keygen", "other"], b"").status.success());
        user.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", kms.address());
        user.set("GOOGLE_APPLICATION_CREDENTIALS", tokens.authorized_user_file(user.home()));
        let stage = Stage::new(&user);
        Self { user, stage, _kms: kms, _tokens: tokens }
    }

    /// Waits until the server has as many descriptors as before: what attackers held is closed.
    fn settled(&self, before: usize) -> usize {
        let mut now = self.stage.descriptors();
        for _ in 0..300 {
            if now <= before {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            now = self.stage.descriptors();
        }
        now
    }

    /// How many uses of the honest clients' key are on record.
    fn recorded(&self) -> usize {
        let shown = answer(self.user.run(&["audit", "show", "--outcome", "ok", "--key", TEAM[0]], b""));
        String::from_utf8(shown).unwrap().lines().filter(|line| line.contains(" use ")).count()
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "bench/siege shows it")]
fn honest_clients_are_served_and_nothing_grows_while_a_server_is_attacked() {
    let long: Option<u64> = std::env::var(SECONDS).ok().map(|seconds| seconds.parse().expect("seconds"));
    let time = Duration::from_secs(long.unwrap_or(SHORT));
    let mut siege = Siege::lay();
    let (honest, hostile) = (runtime(), runtime());

    let calm = honest.block_on(honest::serve(&siege, time.min(Duration::from_secs(60)) / 3));
    let descriptors = siege.stage.descriptors() + KEPT;
    let attackers = hostile.block_on(async { attacks::begin(&siege) });
    let mut attacked = honest.block_on(honest::serve(&siege, time / 3));
    let memory_before = siege.stage.server.memory("VmRSS");
    attacked.extend(honest.block_on(honest::serve(&siege, time * 2 / 3)));
    let memory_after = siege.stage.server.memory("VmRSS");
    let attempts = hostile.block_on(attackers.end());
    let left = siege.settled(descriptors);

    let exchanges = calm.len() + attacked.len();
    let (calm, attacked) = (Figures::of(calm), Figures::of(attacked));
    println!("calm         {calm}\nattacked     {attacked}, beside {attempts:?}");
    println!("memory       {memory_before} KiB after a third of the attack, {memory_after} KiB at its end");
    println!("descriptors  {left} after, at most {descriptors} expected");
    assert!(attempts.values().all(|attempts| *attempts > 0), "each attack took place: {attempts:?}");
    assert!(
        memory_after < memory_before + if long.is_some() { GROWTH } else { SHORT_GROWTH },
        "{memory_before} KiB, then {memory_after} KiB"
    );
    assert!(left <= descriptors, "{left} descriptors are open, and at most {descriptors} would be as before");
    if long.is_some() {
        assert!(attacked.p99 < calm.p99 * 2, "{calm}, but under attack {attacked}");
    }

    siege.stage.server.signal("TERM");
    assert!(siege.stage.server.ended().success());
    let defects = siege.stage.server.logged().into_iter().filter(|line| line.to_string().contains("a defect")).collect::<Vec<_>>();
    assert!(defects.is_empty(), "{defects:?}");
    answer(siege.user.run(&["audit", "verify"], b""));
    assert_eq!(siege.recorded(), exchanges, "each answer is on record, and no other");
}
