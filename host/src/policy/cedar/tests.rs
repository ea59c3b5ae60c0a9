//! What policies can say, and that nobody else can make them say something else.

use std::path::Path;
use std::time::SystemTime;

use ocicrypt_kms_protocol::Operation;
use proptest::prelude::*;

use super::question::Question;
use super::schema::schema;
use super::*;
use crate::caller::{Caller, Identity};
use crate::key_uri::{Addresses, KeyUri};
use crate::policy::Origin;

const GCP: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";
const AWS: &str = "awskms:///arn:aws:kms:eu-central-1:111122223333:key/12345678-90ab-cdef-1234-567890abcdef";
const ANYTHING: &str = "permit (principal, action, resource);";

fn policy(text: &str) -> CedarPolicy {
    CedarPolicy::parse(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"))
}

fn problems(text: &str) -> String {
    let problems = CedarPolicy::parse(text).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn case(caller: &[&str], operation: &str, key: &str) -> Case {
    let caller = caller.iter().map(|name| (*name).to_owned()).collect();
    Case { caller, operation: operation.into(), key: key.into(), ..Case::default() }
}

fn decide(policy: &CedarPolicy, case: &Case) -> Result<Permit, Denial> {
    policy.decide(&case.situation(&Addresses::default()).unwrap().request())
}

/// Whether a rule `permit (principal, action, resource) when { CONDITION };` permits it.
fn holds(condition: &str, case: &Case) -> bool {
    decide(&policy(&format!("permit (principal, action, resource) when {{ {condition} }};")), case).is_ok()
}

#[test]
fn a_policy_could_allow_what_it_allows_and_what_may_depend_on_the_keys_that_are_open() {
    let could = |text: &str| policy(text).could_allow(&case(&["uid:7"], "unwrap", AWS).situation(&Addresses::default()).unwrap().request());
    assert!(could(ANYTHING));
    for never in [
        "permit (principal, action, resource) when { resource.service == \"local\" };",
        "permit (principal, action, resource) when { context.time < datetime(\"2020-01-01\") };",
        "permit (principal, action == Kms::Action::\"wrap\", resource);",
    ] {
        assert!(!could(never), "{never}");
    }
    for perhaps in ["!context.opened.isEmpty()", "!context[\"\\u{6f}pened\"].isEmpty()"] {
        assert!(could(&format!("permit (principal, action, resource) when {{ {perhaps} }};")), "{perhaps}");
    }
}

#[test]
fn a_caller_has_each_of_its_names() {
    let node = ["spiffe://example.org/node/1", "dns:Node-1.production.example.org", "dns:other.example", "subject:CN=node"];
    let names = [
        (&node[..], "principal == Kms::Spiffe::\"spiffe://example.org/node/1\""),
        (&node[..], "principal in Kms::Spiffe::\"spiffe://example.org/node/1\""),
        (&node[..], "principal is Kms::Spiffe && principal.path like \"/node/*\" && principal.trust_domain == \"example.org\""),
        (&node[..], "principal in Kms::TrustDomain::\"example.org\""),
        (&node[..], "principal in Kms::Dns::\"node-1.production.example.org\""),
        (&node[..], "principal in Kms::Dns::\"other.example\""),
        (&node[..], "principal in Kms::Domain::\"production.example.org\" && principal in Kms::Domain::\"org\""),
        (&node[..], "principal in Kms::Subject::\"CN=node\""),
        (&node[1..], "principal in Kms::Dns::\"other.example\" && principal in Kms::Subject::\"CN=node\""),
        (&node[3..], "principal in Kms::Subject::\"CN=node\""),
        (
            &["uid:7", "gid:8"],
            "principal == Kms::User::\"7\" && principal in Kms::Group::\"8\" && principal is Kms::User && principal.gid == 8",
        ),
        (&["anonymous"], "principal == Kms::Anonymous::\"anonymous\""),
    ];
    for (caller, name) in names {
        assert!(holds(name, &case(caller, "wrap", "local://k")), "{caller:?}: {name}");
    }
}

#[test]
fn a_caller_has_no_other_names() {
    let names = [
        (&["dns:example.org"][..], "principal in Kms::Domain::\"example.org\""),
        (&["dns:notexample.org"], "principal in Kms::Domain::\"example.org\" || principal in Kms::Dns::\"example.org\""),
        (&["dns:a.example"], "principal is Kms::Spiffe || principal in Kms::TrustDomain::\"a.example\""),
        (&["dns:a.example"], "principal in Kms::Subject::\"\""),
        (&["spiffe://a.example/b"], "principal in Kms::Dns::\"a.example\" || principal in Kms::Spiffe::\"spiffe://a.example\""),
        (&["uid:7", "gid:8"], "principal in Kms::User::\"8\" || principal in Kms::Group::\"7\""),
        (&["anonymous"], "principal is Kms::User || principal in Kms::Subject::\"\""),
    ];
    for (caller, name) in names {
        assert!(!holds(name, &case(caller, "wrap", "local://k")), "{caller:?}: {name}");
    }
}

#[test]
fn the_user_of_this_process_is_a_user() {
    let own = rustix::process::geteuid().as_raw();
    assert!(holds(&format!("principal == Kms::User::\"{own}\""), &case(&["process"], "wrap", "local://k")));
}

#[test]
fn a_key_is_known_by_its_parts_and_folders() {
    let keys = [
        (
            "local://team?context_a=b",
            "resource == Kms::Key::\"local://team\" && resource.name == \"team\" && resource in Kms::Folder::\"local://\"",
        ),
        (
            &format!("{GCP}/cryptoKeyVersions/3"),
            "resource has version && resource.version == \"3\" && resource.uri like \"gcpkms://projects/p/*\"",
        ),
        (
            GCP,
            "resource has project && resource.project == \"p\" && resource has key_ring && resource.key_ring == \"r\" && resource.name == \"k\"",
        ),
        (GCP, "resource in Kms::Folder::\"gcpkms://\" && resource in Kms::Folder::\"gcpkms://projects/p/\" && resource.service == \"gcp\""),
        (AWS, "resource has account && resource.account == \"111122223333\" && resource has region && resource.region == \"eu-central-1\""),
        (AWS, "resource.name like \"12345678-*\" && resource in Kms::Folder::\"awskms:///arn:aws:kms:eu-central-1:111122223333:key/\""),
        (
            "awskms:///alias/team",
            "resource.name == \"alias/team\" && !(resource has account) && resource in Kms::Folder::\"awskms:///alias/\"",
        ),
        (
            "azurekms://vlt.vault.azure.net/k",
            "resource has vault && resource.vault == \"vlt\" && resource in Kms::Folder::\"azurekms://vlt.vault.azure.net/\"",
        ),
        (
            "http-kms://eu/a/k",
            "resource has endpoint && resource.endpoint == \"eu\" && resource.name == \"a/k\" && resource.service == \"http-kms\" && resource in Kms::Folder::\"http-kms://eu/\"",
        ),
        ("openbao://a/b/k", "resource has mount && resource.mount == \"a/b\" && resource in Kms::Folder::\"openbao://a/\""),
    ];
    for (key, condition) in keys {
        assert!(holds(condition, &case(&["uid:1"], "wrap", key)), "{key}: {condition}");
    }
    for folder in ["gcpkms:/", "gcpkms://projects/p", "gcpkms://projects/", "awskms://", "local://"] {
        let inside = holds(&format!("resource in Kms::Folder::\"{folder}\""), &case(&["uid:1"], "wrap", GCP));
        assert_eq!(inside, folder == "gcpkms://projects/", "{folder}");
    }
}

#[test]
fn the_context_is_what_the_host_knows() {
    let asked = Case {
        origin: Some("annotation".into()),
        provider: Some("p".into()),
        component: Some("ab".repeat(32)),
        opened: vec!["local://a?context_x=1".into(), "local://a".into()],
        time: Some("2026-01-31T12:00:00.500Z".into()),
        ..case(&["uid:1"], "unwrap", "local://k?context_stage=production&context_b=%22%7D")
    };
    let true_ones = [
        "context.origin == \"annotation\"",
        "context.provider == \"p\"",
        &format!("context.component == \"{}\"", "ab".repeat(32)),
        "context.opened == [Kms::Key::\"local://a\"]",
        "context.time == datetime(\"2026-01-31T12:00:00.500Z\") && context.time.toTime() < duration(\"12h1s\")",
        "context.encryption_context.contains({name: \"stage\", value: \"production\"})",
        "context.encryption_context == [{name: \"b\", value: \"\\\"}\"}, {value: \"production\", name: \"stage\"}]",
        "action == Kms::Action::\"unwrap\" && action in Kms::Action::\"use\"",
    ];
    for condition in true_ones {
        assert!(holds(condition, &asked), "{condition}");
        assert!(!holds(&format!("!({condition})"), &asked), "{condition}");
    }
    assert!(holds("context.encryption_context.isEmpty() && context.opened.isEmpty()", &case(&["uid:1"], "wrap", "local://k")));
}

#[test]
fn nothing_is_permitted_unless_a_rule_says_so_and_the_denial_shows_one() {
    let denial = decide(&policy(""), &case(&["uid:7"], "unwrap", "local://k?context_a=b")).unwrap_err();
    assert_eq!(denial.reason, "no rule of the policy permits it to Kms::User::\"7\"");
    assert_eq!(denial.rules, [""; 0]);
    let rule = denial.hint.split('`').nth(1).unwrap();
    assert_eq!(
        rule,
        r#"permit (principal in Kms::User::"7", action == Kms::Action::"unwrap", resource == Kms::Key::"local://k") when { context.origin == "parameter" && context.encryption_context == [{name: "a", value: "b"}] };"#
    );
    assert!(decide(&policy(rule), &case(&["uid:7"], "unwrap", "local://k?context_a=b")).is_ok());
}

#[test]
fn the_rule_that_a_denial_shows_permits_nothing_that_was_not_asked_for() {
    let asked = case(&["uid:7"], "unwrap", "local://k");
    let denial = decide(&policy(""), &asked).unwrap_err();
    let rule = policy(denial.hint.split('`').nth(1).unwrap());
    assert!(decide(&rule, &asked).is_ok());
    for other in [
        case(&["uid:8"], "unwrap", "local://k"),
        case(&["uid:7"], "wrap", "local://k"),
        case(&["uid:7"], "unwrap", "local://k2"),
        case(&["uid:7"], "unwrap", "local://k?context_a=b"),
        Case { origin: Some("annotation".into()), ..asked.clone() },
    ] {
        assert!(decide(&rule, &other).is_err(), "{other:?}");
    }
}

#[test]
fn rules_are_called_by_their_id_or_by_their_line() {
    let text = "@id(\"all\")\npermit (principal, action, resource);\n\n  permit (principal, action, resource);\n@id(\"no root\") forbid (principal == Kms::User::\"0\", action, resource);";
    let policy = policy(text);
    let places: Vec<_> = policy.rules().iter().map(|rule| format!("{} {}", rule.place, rule.name)).collect();
    assert_eq!(places, ["1:1 all", "4:3 policy1 (line 4)", "5:1 no root"]);
    assert_eq!(decide(&policy, &case(&["uid:1"], "wrap", "local://k")).unwrap().rules, ["all", "policy1 (line 4)"]);
    let denial = decide(&policy, &case(&["uid:0"], "wrap", "local://k")).unwrap_err();
    assert_eq!((denial.rules, denial.reason.as_str()), (vec!["no root".to_owned()], "it is forbidden by the policy's rule `no root`"));
}

#[test]
fn two_rules_of_one_name_or_none_that_can_be_shown_are_refused() {
    let named = |name: &str| format!("@id(\"{name}\")\n{ANYTHING}\n");
    assert_eq!(problems(&format!("{}{}", named("a"), named("a"))), "3:1: another rule has the @id `a`, too");
    for name in ["", "\\n", &"x".repeat(129)] {
        assert_eq!(problems(&named(name)), "1:1: the rule's @id is not 1 to 128 printable characters");
    }
    assert_eq!(
        problems(&format!("{}permit (principal, action, resource);", named("policy1 (line 3)"))),
        "3:1: another rule has the @id `policy1 (line 3)`, too"
    );
}

#[test]
fn a_rule_that_can_not_be_evaluated_denies_by_name() {
    let failing = |effect: &str| format!("@id(\"sum\") {effect} (principal, action, resource) when {{ 9223372036854775807 + 1 > 0 }};");
    for effect in ["permit", "forbid"] {
        let policy = policy(&format!("{}{ANYTHING}", failing(effect)));
        let denial = decide(&policy, &case(&["uid:1"], "wrap", "local://k")).unwrap_err();
        assert_eq!(denial.rules, ["sum"]);
        assert!(denial.reason.starts_with("the policy's rule `sum` can't be evaluated: integer overflow"), "{}", denial.reason);
    }
}

#[test]
fn a_time_that_no_datetime_holds_denies() {
    let (Ok(key), caller) = (KeyUri::parse("local://k", &Addresses::default()), Caller::Anonymous) else { panic!() };
    let time = SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(1 << 60)).unwrap();
    let request = Request {
        key: &key,
        operation: Operation::Wrap,
        origin: Origin::Parameter,
        caller: &caller,
        provider: "p",
        component: Digest::of(b""),
        opened: &[],
        time,
    };
    assert!(policy(ANYTHING).decide(&request).unwrap_err().reason.starts_with("the policy can't be asked about it"));
}

#[test]
fn what_does_not_fit_the_schema_is_refused_with_its_place() {
    let wrong = [
        ("permit (principal, action, resource)\n  when { resource.proejct == \"p\" };", "2:10: "),
        ("permit (principal, action, resource) when { resource.project == \"p\" };", "1:45: "),
        ("// é\npermit (principal == Kms::Usr::\"1\", action, resource);", "2:22: "),
        ("permit (principal, action == Kms::Action::\"decrypt\", resource);", "1:"),
        ("permit (principal, action, resource) when { context.provider == 1 };", "1:"),
        ("permit (principal, action, resource)", "1:37: unexpected end of input"),
        ("permit (principal, action, resource);\n\nallow (principal, action, resource);", "3:1: "),
        ("permit (principal == ?principal, action, resource);", "1:22: `?principal` and `?resource` belong to templates"),
    ];
    for (text, begins) in wrong {
        let problems = problems(text);
        assert!(problems.starts_with(begins), "{text}: {problems}");
    }
}

#[test]
fn what_does_not_fit_the_schema_is_said_of_the_rule_by_its_own_name() {
    let named = |rule: &str| problems(&format!("{ANYTHING}\n@id(\"build\")\n{rule}"));
    let line = named("permit (principal, action, resource)\n  when { resource.proejct == \"p\" };");
    assert!(line.starts_with("4:10: in the rule `build`: attribute `proejct`"), "{line}");
    let line = named("permit (principal, action == Kms::Action::\"decrypt\", resource);");
    assert!(line.starts_with("3:") && line.contains(": in the rule `build`: unrecognized action"), "{line}");
    let line = problems("permit (principal == Kms::Usr::\"1\", action, resource);");
    assert!(line.contains(": in the rule `policy0 (line 1)`: unrecognized entity type"), "{line}");
}

#[test]
fn a_comparison_that_can_never_hold_is_an_error_that_lists_what_could() {
    let origins = "`context.origin` is never \"anotation\": it is \"parameter\", \"configuration\" or \"annotation\"";
    let services = "`resource.service` is never \"AWS\": it is \"gcp\", \"aws\", \"azure\", \"vault\", \"local\" or \"http-kms\"";
    let wrong = [
        ("when { context.origin == \"anotation\" };", format!("2:26: {origins}")),
        ("unless { context.provider == \"anotation\" || \"anotation\" != context.origin };", format!("2:30: {origins}")),
        ("when { resource.service == \"AWS\" };", format!("2:28: {services}")),
        ("when { [\"aws\", \"AWS\"].contains(resource.service) };", format!("2:16: {services}")),
        (
            "when { context.component == \"sha256:ab\" };",
            "2:29: `context.component` is never \"sha256:ab\": it is 64 lower-case hexadecimal digits".into(),
        ),
    ];
    for (condition, problem) in wrong {
        for effect in ["permit", "forbid"] {
            assert_eq!(problems(&format!("{effect} (principal, action, resource)\n{condition}")), problem);
        }
    }
}

#[test]
fn a_service_that_only_an_embedding_program_could_have_is_warned_of() {
    let rule = "permit (principal, action, resource) when { resource.service == \"my-hsm\" };";
    let warnings: Vec<_> = policy(rule).warnings().iter().map(ToString::to_string).collect();
    assert!(warnings.len() == 1 && warnings[0].starts_with("1:65: no service of this program is called \"my-hsm\""), "{warnings:?}");
}

#[test]
fn a_policy_is_known_by_the_digest_of_its_text() {
    assert_eq!(policy(ANYTHING).digest(), Some(Digest::of(ANYTHING.as_bytes())));
}

#[test]
fn all_that_is_wrong_is_listed() {
    let text = "permit (principal, action, resource) when { context.origin == \"x\" };\npermit (principal, action, resource) when { resource.a };\npermit (principal, action, resource) when { resource.b };";
    let lines: Vec<_> = CedarPolicy::parse(text).err().unwrap().iter().map(|problem| problem.place.line).collect();
    assert_eq!(lines, [1, 2, 3]);
}

#[test]
fn warnings_tell_of_names_that_nobody_has_and_of_forbidden_names() {
    let forbids = "1:1: one key can have several names";
    let warned = [
        ("forbid (principal, action, resource == Kms::Key::\"local://a\");", forbids),
        ("forbid (principal, action, resource in Kms::Folder::\"local://\");", forbids),
        ("forbid (principal, action, resource) when { resource.name == \"a\" };", forbids),
        ("forbid (principal, action, resource) when { principal is Kms::User && [\"a\"].contains(resource.uri) };", forbids),
        (
            "permit (principal, action,\n resource == Kms::Key::\"gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1\");",
            "2:24: no key has the id",
        ),
        ("permit (principal, action, resource == Kms::Key::\"team\");", "1:50: no key has the id `team`"),
        ("permit (principal, action, resource in Kms::Folder::\"local:\");", "1:53: "),
        ("permit (principal, action, resource in Kms::Folder::\"gcpkms://projects/p\");", "1:53: "),
        ("permit (principal == Kms::Dns::\"a.example\", action, resource);", "1:1: a caller can have other names"),
        ("permit (principal in Kms::Dns::\"A.example\", action, resource);", "1:32: "),
        ("permit (principal in Kms::Domain::\"*.example\", action, resource);", "1:35: "),
        ("permit (principal in Kms::Subject::\"\", action, resource);", "1:36: "),
        ("permit (principal in Kms::Subject::\"O=admins, CN=node\", action, resource);", "1:36: "),
        ("permit (principal == Kms::User::\"root\", action, resource);", "1:33: "),
    ];
    for (text, begins) in warned {
        let warnings: Vec<_> = policy(&format!("{text}\n{ANYTHING}")).warnings().iter().map(ToString::to_string).collect();
        assert!(warnings.len() == 1 && warnings[0].starts_with(begins), "{text}: {warnings:?}");
    }
}

#[test]
fn what_holds_for_each_name_of_a_key_can_be_forbidden_without_a_warning() {
    for text in [
        "forbid (principal, action, resource) unless { resource in Kms::Folder::\"local://\" };",
        "forbid (principal, action, resource) when { resource.service == \"local\" };",
        "forbid (principal in Kms::Group::\"0\", action == Kms::Action::\"wrap\", resource);",
        "permit (principal, action, resource == Kms::Key::\"azurekms://v.vault.example.cloud/k\");",
    ] {
        assert_eq!(policy(&format!("{text}\n{ANYTHING}")).warnings(), [], "{text}");
    }
}

#[test]
fn a_policy_that_permits_nothing_is_warned_of() {
    for text in
        ["", "// permit (principal, action, resource);", "forbid (principal, action, resource) when { resource.service == \"aws\" };"]
    {
        let warnings: Vec<_> = policy(text).warnings().iter().map(ToString::to_string).collect();
        assert!(warnings.len() == 1 && warnings[0].starts_with("1:1: no rule permits anything"), "{text}: {warnings:?}");
    }
}

#[test]
fn a_rule_as_deep_as_it_may_be_is_read_and_a_deeper_one_is_refused() {
    let parse = |inner: String| CedarPolicy::parse(&format!("permit (principal, action, resource) when {{ {inner} }};"));
    type Deep = fn(usize) -> String;
    let deep: [(Deep, usize); 5] = [
        (|depth| format!("{}true{}", "(".repeat(depth), ")".repeat(depth)), 63),
        (|depth| format!("{}[\"a\"].contains(\"a\"){} == [true]", "[".repeat(depth), "]".repeat(depth)), 61),
        (|depth| format!("{}true", "true && ".repeat(depth)), 495),
        (|depth| format!("{}1 > 0", "1 + ".repeat(depth)), 990),
        (|depth| format!("{}true", "if context.provider == \"a\" then true else ".repeat(depth)), 62),
    ];
    for (inner, most) in deep {
        let problems = parse(inner(most)).err().unwrap_or_default();
        assert!(problems.iter().all(|problem| !problem.message.contains("nested deeper")), "{problems:?}");
        let problems = parse(inner(100_000)).err().unwrap();
        assert!(problems.len() == 1 && problems[0].message.starts_with("this rule is nested deeper"), "{problems:?}");
    }
}

#[test]
fn the_samples_hold_what_their_tables_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../example/policies");
    let tables: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    assert_eq!(tables.len(), 3);
    for path in tables {
        let table = Table::read(&path).unwrap();
        let policy = CedarPolicy::read(table.policy.as_deref().unwrap()).unwrap();
        assert_eq!(policy.warnings(), [], "{}", path.display());
        for case in &table.cases {
            assert_eq!(case.check(&policy, &Addresses::default()), Ok(()), "{}: {}", path.display(), case.name);
            let opposite = match case.expect.unwrap() {
                Expectation::Allow => Expectation::Deny,
                Expectation::Deny => Expectation::Allow,
            };
            assert!(Case { expect: Some(opposite), ..case.clone() }.check(&policy, &Addresses::default()).is_err(), "{}", case.name);
            assert!(Case { rule: Some("another".into()), ..case.clone() }.check(&policy, &Addresses::default()).is_err(), "{}", case.name);
        }
    }
}

#[test]
fn a_table_of_malformed_cases_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Table::read(&path).map(drop).unwrap_err().to_string()
    };
    assert!(read("[[case]]\nname = 'n'\n").contains("the case `n` needs `expect"));
    assert!(read("[[case]]\nexpect = 'deny'\ncalle = 'x'\n").contains("line 3: unknown field `calle`"));
    assert!(read("[[case]]\nexpect = 'maybe'\n").contains("line 2: a value that is not known"));
}

#[test]
fn a_case_that_describes_no_request_fails() {
    let good = case(&["uid:1"], "wrap", "local://k");
    let change = |change: fn(&mut Case)| {
        let mut case = good.clone();
        change(&mut case);
        case.check(&policy(ANYTHING), &Addresses::default()).unwrap_err()
    };
    assert_eq!(good.check(&policy(ANYTHING), &Addresses::default()), Ok(()));
    assert!(change(|case| case.operation = "decrypt".into()).contains("neither wrap nor unwrap"));
    assert!(change(|case| case.caller = vec!["subject:O=admins, CN=node".into()]).contains("`O=admins, CN=node` is no caller's"));
    let more_than_one = "has more than one subject or SPIFFE id";
    assert!(change(|case| case.caller = vec!["subject:CN=a".into(), "subject:CN=b".into()]).contains(more_than_one));
    assert!(change(|case| case.caller = vec!["spiffe://a/1".into(), "spiffe://a/2".into()]).contains(more_than_one));
    assert!(change(|case| case.origin = Some("me".into())).contains("the origin `me`"));
    assert!(change(|case| case.time = Some("noon".into())).contains("not RFC 3339"));
    assert!(change(|case| case.component = Some("ab".into())).contains("not a SHA-256 digest"));
    assert!(change(|case| case.key = "team".into()).contains("team"));
    for caller in [&[][..], &["root"], &["uid:x"], &["gid:1"], &["uid:1", "dns:a"], &["uid:1", "uid:2"]] {
        let caller = caller.iter().map(|name| (*name).to_owned()).collect();
        assert!(Case { caller, ..good.clone() }.check(&policy(ANYTHING), &Addresses::default()).is_err());
    }
}

#[test]
fn an_explanation_shows_each_rule_and_what_it_could_look_at() {
    let policy = policy(&format!(
        "@id(\"yes\") {ANYTHING}\n@id(\"no\") forbid (principal == Kms::User::\"1\", action, resource);\n@id(\"other\") permit (principal == Kms::User::\"2\", action, resource);"
    ));
    let situation = case(&["uid:1"], "wrap", "local://k?context_a=b").situation(&Addresses::default()).unwrap();
    let explanation = policy.explain(&situation.request()).unwrap();
    assert_eq!(explanation.decision.unwrap_err().rules, ["no"]);
    let outcomes: Vec<_> = explanation.rules.into_iter().map(|(rule, outcome)| (rule.name, outcome)).collect();
    let expected = [("yes", Outcome::Applies), ("no", Outcome::Applies), ("other", Outcome::DoesNotApply)];
    assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    for line in [
        "principal Kms::User::\"1\"",
        "  in Kms::Group::\"1\"",
        "action Kms::Action::\"wrap\"",
        "  in Kms::Folder::\"local://\"",
        "  service \"local\"",
        "context.origin \"parameter\"",
    ] {
        assert!(explanation.question.lines().any(|shown| shown == line), "{line}: {}", explanation.question);
    }
}

fn any_caller() -> impl Strategy<Value = Caller> {
    let name = prop_oneof![".*", "[a-z.\"\\\\:{}]*", Just("\"; permit (principal, action, resource); //".to_owned())];
    let identity = (name.clone(), proptest::option::of(name.clone()), proptest::collection::vec(name, 0..4));
    prop_oneof![
        (any::<u32>(), any::<u32>()).prop_map(|(uid, gid)| Caller::Peer { uid, gid, pid: None }),
        identity.prop_map(|(subject, spiffe, dns)| Caller::Certificate(Box::new(Identity { subject, spiffe, dns }))),
        Just(Caller::Process),
        Just(Caller::Anonymous),
    ]
}

fn any_key() -> impl Strategy<Value = KeyUri> {
    let key = prop_oneof![Just("local://team"), Just(GCP), Just(AWS), Just("azurekms://vlt.vault.azure.net/k"), Just("openbao://a/b/k")];
    (key, proptest::collection::vec(any::<u8>(), 1..20)).prop_map(|(key, value)| {
        let value = String::from_utf8_lossy(&value).into_owned();
        let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
        let with_context = KeyUri::parse(&format!("{key}?context_name={encoded}"), &Addresses::default());
        with_context.unwrap_or_else(|_| KeyUri::parse(key, &Addresses::default()).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the names, the provider and the context are, they are values of the types that the schema says, with the text as it was.
    #[test]
    fn no_text_becomes_anything_but_text(caller in any_caller(), key in any_key(), provider in ".*") {
        let request = Request {
            key: &key,
            operation: Operation::Unwrap,
            origin: Origin::Annotation,
            caller: &caller,
            provider: &provider,
            component: Digest::of(b""),
            opened: std::slice::from_ref(&key),
            time: SystemTime::now(),
        };
        let question = Question::of(&request, Some(schema())).unwrap();
        let id = |uid: Option<&cedar_policy::EntityUid>| AsRef::<str>::as_ref(uid.unwrap().id().unescaped()).to_owned();
        prop_assert_eq!(id(question.request.resource()), key.identity());
        if let Caller::Certificate(identity) = &caller && let Some(spiffe) = &identity.spiffe {
            prop_assert_eq!(&id(question.request.principal()), spiffe);
        }
        let context = question.request.context().unwrap();
        prop_assert_eq!(context.get("provider"), Some(cedar_policy::EvalResult::String(provider.clone())));
        let Some(cedar_policy::EvalResult::Set(entries)) = context.get("encryption_context") else { panic!() };
        prop_assert_eq!(entries.len(), key.context().len());
        for entry in entries.iter() {
            let cedar_policy::EvalResult::Record(entry) = entry else { panic!() };
            let Some(cedar_policy::EvalResult::String(value)) = entry.get("value") else { panic!() };
            prop_assert_eq!(value, &key.context()["name"]);
        }
    }

    /// The rule that a denial shows permits exactly that caller, however odd its names and the context are.
    #[test]
    fn the_rule_that_a_denial_shows_is_for_that_caller_alone(caller in any_caller(), key in any_key()) {
        let request = |caller| Request {
            key: &key,
            operation: Operation::Wrap,
            origin: Origin::Parameter,
            caller,
            provider: "p",
            component: Digest::of(b""),
            opened: &[],
            time: SystemTime::UNIX_EPOCH,
        };
        let denial = policy("").decide(&request(&caller)).unwrap_err();
        let (_, rule) = denial.hint.split_once('`').unwrap();
        let (rule, _) = rule.rsplit_once('`').unwrap();
        let policy = policy(rule);
        prop_assert_eq!(policy.rules().len(), 1);
        prop_assert!(policy.decide(&request(&caller)).is_ok());
        let other = Caller::Certificate(Box::new(Identity { subject: "CN=somebody else".into(), ..Identity::default() }));
        prop_assert!(policy.decide(&request(&other)).is_err());
    }

    #[test]
    fn no_text_makes_the_reader_of_policies_panic(text in "(permit|forbid|when|unless|principal|[ (){}\\[\\]\",;=.?@]|Kms::User::|[a-z]|\\PC)*") {
        let _ = CedarPolicy::parse(&text);
    }
}
