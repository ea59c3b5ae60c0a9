//! A policy in exec mode, and the commands around it, with the real program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ocicrypt_kms::policy::{Denial, Permit, Policy, Request};
use ocicrypt_kms::{Config, KeyProvider};
use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::messages::{annotation_of, unwrapping, wrapping};
use ocicrypt_kms_testing::program::{Program, answer, refusal};

const TEAM: &[&str] = &["local://team"];

/// A user with two keys and this policy.
fn user(policy: &str) -> Program {
    let mut user = Program::new();
    user.write("policy.cedar", policy);
    let config = user.write("config.toml", "policy = \"policy.cedar\"\n");
    user.set("OCICRYPT_KMS_CONFIG", config);
    for key in ["team", "other"] {
        assert!(user.run(&["keygen", key], b"").status.success());
    }
    user
}

/// The entity of whoever runs the tests.
fn own() -> String {
    format!("Kms::User::\"{}\"", rustix::process::geteuid().as_raw())
}

fn permit(operation: &str, key: &str) -> String {
    format!("permit (principal == {}, action == Kms::Action::\"{operation}\", resource == Kms::Key::\"{key}\");\n", own())
}

fn lines(output: &std::process::Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_key_needs_a_rule_whoever_names_it() {
    let user = user(&permit("wrap", "local://team"));
    let annotation = annotation_of(&answer(user.run(&[], &wrapping(TEAM))));
    for message in [unwrapping(TEAM, &annotation), unwrapping(&[], &annotation), wrapping(&["local://other"])] {
        let (code, line) = refusal(&user.run(&[], &message));
        assert_eq!(code, 4);
        assert!(line.contains(&format!("no rule of the policy permits it to {}", own())), "{line}");
    }
    user.write("policy.cedar", permit("wrap", "local://team") + &permit("unwrap", "local://team"));
    answer(user.run(&[], &unwrapping(&[], &annotation)));
}

#[test]
fn the_rule_that_a_denial_shows_works_as_it_stands() {
    let user = user("");
    let (_, line) = refusal(&user.run(&[], &wrapping(TEAM)));
    let rule = line.split('`').nth(1).unwrap();
    user.write("policy.cedar", rule);
    answer(user.run(&[], &wrapping(TEAM)));
}

#[test]
fn a_forbidden_key_is_denied_with_the_rules_name() {
    let user = user(
        "permit (principal, action, resource);\n@id(\"only team\") forbid (principal, action, resource) unless { resource == Kms::Key::\"local://team\" };",
    );
    answer(user.run(&[], &wrapping(TEAM)));
    let (code, line) = refusal(&user.run(&[], &wrapping(&["local://other"])));
    assert_eq!(code, 4);
    assert!(line.starts_with("local://other is not lent for wrap: it is forbidden by the policy's rule `only team`"), "{line}");
}

#[test]
fn a_policy_beside_a_list_of_keys_is_refused_as_ambiguous() {
    let user = user("");
    user.write("config.toml", "policy = \"policy.cedar\"\nkeys = [\"local://*\"]\n");
    for arguments in [&[][..], &["serve", "--listen", "unix:///nonexistent/kms.sock"]] {
        let (code, line) = refusal(&user.run(arguments, &wrapping(TEAM)));
        assert_eq!(code, 2);
        assert!(line.starts_with("policy: `keys` is set, too"), "{line}");
    }
}

#[test]
fn a_policy_that_is_missing_broken_or_huge_lends_nothing() {
    let user = user("permit (principal, action, resource);\npermit (principal, action, resource) when { resource.nme == \"a\" };");
    let refused = |begins: &str| {
        let (code, line) = refusal(&user.run(&[], &wrapping(TEAM)));
        assert_eq!(code, 2, "{line}");
        assert!(line.starts_with(begins), "{line}");
    };
    refused("policy.cedar:2:45: ");
    user.write("policy.cedar", " ".repeat((1 << 20) + 1));
    refused("policy.cedar: the policy is longer than 1048576 bytes");
    std::fs::remove_file(user.home().join("policy.cedar")).unwrap();
    refused("policy.cedar: the policy can't be read");
}

#[test]
fn check_lists_what_is_wrong_line_by_line() {
    let user =
        user("permit (principal, action, resource) when { resource.a };\n\npermit (principal == Kms::Usr::\"1\", action, resource);\n");
    for arguments in [&["policy", "check"][..], &["policy", "check", "policy.cedar"]] {
        let output = user.run(arguments, b"");
        assert_eq!(output.status.code(), Some(2));
        let lines = lines(&output);
        assert!(lines.len() >= 2 && lines[0].starts_with("policy.cedar:"), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("policy.cedar:1:")), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("policy.cedar:3:")), "{lines:?}");
    }
    user.write(
        "policy.cedar",
        "permit (principal, action, resource);\nforbid (principal, action, resource == Kms::Key::\"local://team\");\n",
    );
    let output = user.run(&["policy", "check"], b"");
    let lines = lines(&output);
    assert!(output.status.success());
    assert!(lines[0].starts_with("policy.cedar:2:1: warning: one key can have several names"), "{lines:?}");
    assert!(lines[1].starts_with("policy.cedar: ok, 2 rules, sha256 "), "{lines:?}");
}

#[test]
fn a_restriction_that_can_never_apply_is_an_error_however_it_compares() {
    for (condition, says) in [
        ("context.origin == \"anotation\"", "`context.origin` is never \"anotation\""),
        ("context.origin like \"anot*\"", "`context.origin` is never like \"anot*\""),
        ("[\"anotation\", \"image\"].containsAny([context.origin])", "`context.origin` is never \"anotation\""),
        ("[context.origin].containsAny([\"anotation\"])", "`context.origin` is never \"anotation\""),
        ("[context.origin].containsAll([\"anotation\"])", "`context.origin` is never \"anotation\""),
        ("resource.service like \"AWS*\"", "`resource.service` is never like \"AWS*\""),
        ("context.component like \"sha256:*\"", "`context.component` is never like \"sha256:*\""),
    ] {
        let user = user(&format!("permit (principal, action, resource);\nforbid (principal, action, resource) when {{ {condition} }};\n"));
        let output = user.run(&["policy", "check"], b"");
        let lines = lines(&output);
        assert!(
            output.status.code() == Some(2) && lines[0].starts_with("policy.cedar:2:") && lines[0].contains(says),
            "{condition}: {lines:?}"
        );
        assert_eq!(refusal(&user.run(&[], &wrapping(TEAM))).0, 2, "{condition}");
    }
    let user =
        user("permit (principal, action, resource);\nforbid (principal, action, resource) when { context.origin like \"anno*\" };\n");
    assert!(user.run(&["policy", "check"], b"").status.success());
}

#[test]
fn check_prints_the_digest_that_sha256sum_prints() {
    let policy = permit("wrap", "local://team");
    let user = user(&policy);
    let expected = format!("policy.cedar: ok, 1 rule, sha256 {}", ocicrypt_kms::Digest::of(policy.as_bytes()));
    assert_eq!(lines(&user.run(&["policy", "check"], b"")), [expected]);
}

#[test]
fn warnings_fail_a_check_that_denies_them() {
    let user = user("permit (principal, action, resource);\nforbid (principal, action, resource == Kms::Key::\"local://team\");\n");
    let output = user.run(&["policy", "check", "--deny-warnings"], b"");
    assert_eq!((output.status.code(), lines(&output)[1].as_str()), (Some(2), "policy.cedar: 1 warning"));
    user.write("policy.cedar", permit("wrap", "local://team"));
    assert!(user.run(&["policy", "check", "--deny-warnings"], b"").status.success());
}

#[test]
fn records_tell_which_policy_decided() {
    let policy = permit("wrap", "local://team");
    let user = user(&policy);
    user.write("config.toml", "policy = \"policy.cedar\"\n[audit]\nfile = \"audit.jsonl\"\n");
    answer(user.run(&[], &wrapping(TEAM)));
    refusal(&user.run(&[], &wrapping(&["local://other"])));
    let records = std::fs::read_to_string(user.home().join("audit.jsonl")).unwrap();
    let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let told: Vec<_> = records.lines().map(record).map(|record| (record["event"].clone(), record["policy"].clone())).collect();
    let digest = ocicrypt_kms::Digest::of(policy.as_bytes()).to_string();
    let exchange = ("exchange".into(), serde_json::Value::Null);
    assert_eq!(told, [("use".into(), digest.clone().into()), exchange.clone(), ("open".into(), digest.clone().into()), exchange]);
    let shown = String::from_utf8(answer(user.run(&["audit", "show"], b""))).unwrap();
    assert_eq!(shown.matches(&format!(" policy={digest}")).count(), 2, "{shown}");
    answer(user.run(&["audit", "verify"], b""));
}

#[test]
fn test_tells_of_the_cases_that_come_out_otherwise() {
    let user = user(&permit("wrap", "local://team"));
    let case = |name: &str, operation: &str, expect: &str| {
        format!("[[case]]\nname = '{name}'\ncaller = 'process'\noperation = '{operation}'\nkey = 'local://team'\nexpect = '{expect}'\n")
    };
    user.write("table.toml", case("wraps", "wrap", "allow") + &case("unwraps", "unwrap", "deny"));
    let output = user.run(&["policy", "test", "table.toml"], b"");
    assert_eq!((output.status.code(), lines(&output)), (Some(0), vec!["table.toml: 2 cases, 0 failed".to_owned()]));
    user.write("table.toml", case("wraps", "wrap", "allow"));
    assert_eq!(lines(&user.run(&["policy", "test", "table.toml"], b"")), ["table.toml: 1 case, 0 failed"]);
    user.write("table.toml", case("wraps", "wrap", "deny") + &case("unwraps", "unwrap", "deny"));
    let output = user.run(&["policy", "test", "table.toml", "--policy", "policy.cedar"], b"");
    assert_eq!(
        (output.status.code(), lines(&output)),
        (Some(1), vec!["FAILED wraps: it is allowed".to_owned(), "table.toml: 2 cases, 1 failed".to_owned()])
    );
    user.write("table.toml", "");
    let (_, reason) = refusal(&user.run(&["policy", "test", "table.toml"], b""));
    assert!(reason.contains("it has no `[[case]]`, so that it tests nothing"), "{reason}");
}

#[test]
fn the_samples_pass_their_tables() {
    let samples = checkout::path("example/policies");
    let user = Program::new();
    for name in ["build-only-wraps", "nodes-by-environment", "break-glass"] {
        let [policy, table] = [".cedar", ".test.toml"].map(|extension| format!("{}/{name}{extension}", samples.display()));
        assert_eq!(lines(&user.run(&["policy", "check", &policy], b"")).len(), 1);
        let output = user.run(&["policy", "test", &table], b"");
        assert!(output.status.success(), "{:?}", lines(&output));
    }
}

#[test]
fn explain_takes_the_component_that_would_use_the_key() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let user = user(&format!("permit (principal, action, resource) when {{ context.component == \"{digest}\" }};"));
    let explain = |digest: &str| {
        let question = ["policy", "explain", "--operation", "wrap", "--key", "local://team", "--component-sha256", digest];
        user.run(&question, b"").status.code()
    };
    assert_eq!(explain(digest), Some(0));
    assert_eq!(explain(&digest.replace('b', "c")), Some(4));
}

#[test]
fn explain_shows_which_rule_decided_and_where_it_stands() {
    let user = user(
        "@id(\"all\")\npermit (principal, action, resource);\n@id(\"no wrapping\")\nforbid (principal, action == Kms::Action::\"wrap\", resource);\n",
    );
    let explain = |operation: &str| {
        let output =
            user.run(&["policy", "explain", "--caller", "uid:7", "--operation", operation, "--key", "local://team?context_a=b"], b"");
        (output.status.code().unwrap(), lines(&output))
    };
    let (code, shown) = explain("wrap");
    assert_eq!((code, shown[0].split(';').next().unwrap()), (4, "denied: it is forbidden by the policy's rule `no wrapping`"));
    assert_eq!(shown[1..3], ["policy.cedar:1:1: `all` permits", "policy.cedar:3:1: `no wrapping` forbids"]);
    assert!(shown.contains(&"principal Kms::User::\"7\"".to_owned()) && shown.contains(&"  in Kms::Group::\"7\"".to_owned()), "{shown:?}");
    let (code, shown) = explain("unwrap");
    assert_eq!((code, shown[0].as_str(), shown[2].as_str()), (0, "allowed", "policy.cedar:3:1: `no wrapping` does not apply"));
}

#[test]
fn addresses_that_the_configuration_adds_are_known_to_tables_and_explanations() {
    let user = user("permit (principal, action, resource);\n");
    let config = "policy = 'policy.cedar'\n[azure]\nsuffixes = ['vault.example.cloud']\n[vault]\naddress = 'https://vault.example:8200'\n";
    for key in ["azurekms://team.vault.example.cloud/k", "hcvault://vault.example/k"] {
        user.write(
            "table.toml",
            format!("[[case]]\nname = 'a'\ncaller = 'process'\noperation = 'wrap'\nkey = '{key}'\nexpect = 'allow'\n"),
        );
        let explain = || user.run(&["policy", "explain", "--operation", "wrap", "--key", key], b"");
        let test = || user.run(&["policy", "test", "table.toml"], b"");
        user.write("config.toml", "policy = 'policy.cedar'\n");
        assert_eq!((explain().status.code(), test().status.code()), (Some(2), Some(1)), "{key}");
        user.write("config.toml", config);
        assert_eq!((explain().status.code(), test().status.code()), (Some(0), Some(0)), "{key}");
    }
}

#[test]
fn the_schema_is_printed() {
    let output = Program::new().run(&["policy", "schema"], b"");
    assert!(lines(&output).contains(&"namespace Kms {".to_owned()));
}

#[test]
fn a_denied_key_is_not_looked_for() {
    // Neither the keystore's file nor a credential: what isn't there can't be complained of before the policy has spoken.
    let user = user("");
    for key in
        ["local://missing", "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k", "awskms:///alias/k", "hashivault://transit/k"]
    {
        let (code, line) = refusal(&user.run(&[], &wrapping(&[key])));
        assert_eq!((code, line.contains("no rule of the policy permits it")), (4, true), "{line}");
    }
}

#[test]
fn a_denied_key_calls_no_kms_and_looks_up_no_credential() {
    const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
    let fake = ocicrypt_kms_fakes::gcp::FakeGcp::start();
    fake.add_key(KEY);
    fake.require_auth(true);
    let mut user = user("");
    user.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", fake.endpoint());
    user.set("GOOGLE_APPLICATION_CREDENTIALS", fake.authorized_user_file(user.home()));
    let uri = format!("gcpkms://{KEY}");
    assert_eq!(refusal(&user.run(&[], &wrapping(&[&uri]))).0, 4);
    assert!(fake.requests().is_empty());
    user.write("policy.cedar", permit("wrap", &uri));
    answer(user.run(&[], &wrapping(&[&uri])));
    assert!(fake.requests().len() > 1, "a token and a call");
}

/// A policy that becomes a stricter one as soon as it was asked.
struct Changing(Arc<AtomicBool>);

/// What it was at one time.
struct AsItWas {
    denies: bool,
    later: Arc<AtomicBool>,
}

impl Policy for Changing {
    fn decide(&self, _: &Request<'_>) -> Result<Permit, Denial> {
        panic!("an exchange asks the policy that it began with")
    }

    fn current(&self) -> Option<Arc<dyn Policy>> {
        Some(Arc::new(AsItWas { denies: self.0.load(Ordering::Relaxed), later: self.0.clone() }))
    }
}

impl Policy for AsItWas {
    fn decide(&self, _: &Request<'_>) -> Result<Permit, Denial> {
        self.later.store(true, Ordering::Relaxed);
        if self.denies { Err(Denial::default()) } else { Ok(Permit::default()) }
    }
}

#[test]
fn an_exchange_keeps_the_policy_that_it_began_with() {
    let user = user("");
    let config = Config { keystore: Some(user.home().join("keys")), ..Config::default() };
    let provider = KeyProvider::builder(config).policy(Arc::new(Changing(Arc::default()))).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let both = wrapping(&["local://team", "local://other"]);
    runtime.block_on(provider.exchange(&both)).unwrap();
    assert!(runtime.block_on(provider.exchange(&both)).unwrap_err().line().contains("is not lent for wrap"));
}
