//! The program as container tools start it: one exchange, an exit code, one line on standard error or one answer on standard output.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms_testing::program;
use ocicrypt_kms_testing::program::Program;

/// A home folder with a keystore.
struct Home(Program);

impl Home {
    fn new(keys: &[&str]) -> Self {
        let home = Self(Program::new());
        for key in keys {
            assert!(home.run(&["keygen", key], b"").status.success());
        }
        home
    }

    fn path(&self) -> &Path {
        self.0.home()
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.0.run(arguments, input)
    }

    fn exchange(&self, arguments: &[&str], message: &[u8]) -> Vec<u8> {
        program::answer(self.run(arguments, message))
    }

    fn refused(&self, arguments: &[&str], message: &[u8]) -> (i32, String) {
        program::refusal(&self.run(arguments, message))
    }
}

fn wrap_for(uris: &[&str]) -> Vec<u8> {
    keywrap(&[("kmscrypt", uris)], OPTS_DATA)
}

#[test]
fn what_was_wrapped_unwraps_with_the_key_named_or_left_to_the_annotation() {
    let home = Home::new(&["team"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    for parameters in [&["local://team"][..], &["Enabled"], &[]] {
        let answer = home.exchange(&[], &keyunwrap(&[("kmscrypt", parameters)], &annotation));
        assert_eq!(opts_data_of(&answer), OPTS_DATA);
    }
}

#[test]
fn several_recipients_each_unwrap_alone() {
    let home = Home::new(&["a", "b"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://a", "local://b"])));
    assert!(annotation.starts_with(b"[{"));
    for (key, other) in [("a", "b"), ("b", "a")] {
        std::fs::rename(home.path().join(format!("keys/{other}.jwks")), home.path().join("away")).unwrap();
        let answer = home.exchange(&[], &keyunwrap(&[("kmscrypt", &[&format!("local://{key}")])], &annotation));
        assert_eq!(opts_data_of(&answer), OPTS_DATA);
        let answer = home.exchange(&[], &keyunwrap(&[], &annotation));
        assert_eq!(opts_data_of(&answer), OPTS_DATA, "the packet of the missing key is passed over");
        std::fs::rename(home.path().join("away"), home.path().join(format!("keys/{other}.jwks"))).unwrap();
    }
}

#[test]
fn wrapping_for_several_is_all_or_nothing() {
    let home = Home::new(&["a"]);
    let (code, line) = home.refused(&[], &wrap_for(&["local://a", "local://missing"]));
    assert_eq!(code, 5);
    assert!(line.starts_with("local://missing: there is no such key in the keystore"), "{line}");
}

#[test]
fn malformed_messages_are_refused_with_a_line_that_says_what_is_wrong() {
    let home = Home::new(&["team"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    let wrap = String::from_utf8(wrap_for(&["local://team"])).unwrap();
    let unwrap = |annotation: &[u8]| keyunwrap(&[("kmscrypt", &["local://team"])], annotation);
    let table: &[(Vec<u8>, i32, &str)] = &[
        (b"".to_vec(), 2, "the message is empty"),
        (b"not JSON".to_vec(), 2, "the message is malformed: not JSON"),
        (b"[1]".to_vec(), 2, "the message is malformed: not a JSON object"),
        (b"{}".to_vec(), 2, "the message has no operation"),
        (br#"{"op":"keyrotate"}"#.to_vec(), 2, "neither `keywrap` nor `keyunwrap`"),
        (wrap.replace("\"optsdata\":\"", "\"optsdata\":\"*").into_bytes(), 2, "`optsdata` is neither base64"),
        (keywrap(&[("kmscrypt", &["local://team"])], b"{}"), 2, "what is to be wrapped is not the key of an image layer"),
        (wrap.replace("bG9jYWw6Ly90ZWFt", "bG9jYWw6Ly90ZWFt*").into_bytes(), 2, "not an array of base64 texts"),
        (keywrap(&[], OPTS_DATA), 2, "no key to wrap with was named"),
        (wrap_for(&["local://../x"]), 2, "`..` path segment"),
        (wrap_for(&["gcpkm://projects/p"]), 2, "is not the scheme of a key URI"),
        (wrap_for(&["hashivault://transit/k"]), 2, "hashivault://transit/k: no address of its server is known; set VAULT_ADDR"),
        (wrap_for(&["local://team?context=x"]), 2, "context"),
        (unwrap(b"not JSON"), 2, "the annotation is malformed: it is not JSON"),
        (unwrap(br#"{"key_url":"local://team","wrapped_key":"*","wrap_type":"JWE"}"#), 2, "no base64"),
        (unwrap(br#"{"key_url":"local://team","wrapped_key":"YQ==","wrap_type":"AES"}"#), 2, "`wrap_type` is AES"),
        (unwrap(&vec![b' '; (64 << 10) + 1]), 2, "longer than 65536 bytes"),
        (vec![b' '; (4 << 20) + 1], 2, "longer than 4194304 bytes"),
        (keyunwrap(&[("kmscrypt", &["local://other"])], &annotation), 3, "the annotation is for local://team"),
    ];
    for (message, code, reason) in table {
        let (got, line) = home.refused(&[], message);
        assert!(line.contains(reason) && got == *code, "{reason}: {got} {line}");
    }
}

#[test]
fn a_wrong_key_and_a_changed_packet_give_the_same_line() {
    let home = Home::new(&["team"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    let unwrap = keyunwrap(&[("kmscrypt", &["local://team"])], &annotation);
    // The same name and version, another key.
    let file = home.path().join("keys/team.jwks");
    let set = std::fs::read_to_string(&file).unwrap();
    let start = set.find("\"k\":\"").unwrap() + 5;
    let other = format!("{}{}{}", &set[..start], "A".repeat(43), &set[start + 43..]);
    std::fs::write(&file, &other).unwrap();
    let (code, wrong_key) = home.refused(&[], &unwrap);
    assert_eq!(code, 7);
    std::fs::write(&file, set).unwrap();
    // The last character of the JWE's tag, inside the packet's base64.
    let text = String::from_utf8(annotation).unwrap();
    let inner = text.split('"').nth(7).unwrap();
    let mut jwe = ocicrypt_kms::protocol::bytes::decode(inner).unwrap().to_vec();
    let last = jwe.len() - 2;
    jwe[last] = if jwe[last] == b'A' { b'B' } else { b'A' };
    let changed = text.replace(inner, &ocicrypt_kms::protocol::bytes::encode(&jwe));
    let (code, changed) = home.refused(&[], &keyunwrap(&[("kmscrypt", &["local://team"])], changed.as_bytes()));
    assert_eq!(code, 7);
    assert_eq!(wrong_key, changed);
    assert!(changed.starts_with("local://team: the packet does not verify with this key; the packet was changed"), "{changed}");
}

#[test]
fn context_is_bound_and_must_be_met() {
    let home = Home::new(&["team"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team?context_stage=prod&context_a=b%20c"])));
    let text = String::from_utf8(annotation.clone()).unwrap();
    assert!(text.contains(r#""key_url":"local://team?context_a=b%20c&context_stage=prod""#), "{text}");
    for uri in ["local://team", "local://team?context_stage=prod"] {
        let answer = home.exchange(&[], &keyunwrap(&[("kmscrypt", &[uri])], &annotation));
        assert_eq!(opts_data_of(&answer), OPTS_DATA, "{uri}");
    }
    let (code, _) = home.refused(&[], &keyunwrap(&[("kmscrypt", &["local://team?context_stage=test"])], &annotation));
    assert_eq!(code, 3);
    // An annotation whose URI was changed no longer matches what the JWE protects.
    for uri in ["local://team", "local://team?context_a=b%20c&context_stage=test"] {
        let changed = text.replace("local://team?context_a=b%20c&context_stage=prod", uri);
        let (code, line) = home.refused(&[], &keyunwrap(&[], changed.as_bytes()));
        assert!(code == 7 && line.contains("context"), "{code} {line}");
    }
}

#[test]
fn rotated_keys_still_unwrap_and_new_ones_wrap() {
    let home = Home::new(&["team"]);
    let before = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    assert!(home.run(&["keygen", "--rotate", "team"], b"").status.success());
    let after = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    for annotation in [&before, &after] {
        assert_eq!(opts_data_of(&home.exchange(&[], &keyunwrap(&[], annotation))), OPTS_DATA);
    }
    let home2 = Home::new(&["team"]);
    let (code, line) = home2.refused(&[], &keyunwrap(&[], &before));
    assert!(code == 5 && line.contains("no version"), "{code} {line}");
}

#[test]
fn messages_of_ocicrypt_rs_are_answered_with_arrays_of_numbers() {
    let home = Home::new(&["team"]);
    let message = r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"kmscrypt":["bG9jYWw6Ly90ZWFt"]},"DecryptConfig":{"Parameters":{}}},"optsdata":"{\"symkey\":\"a\",\"digest\":\"\",\"cipheroptions\":{}}"}}"#;
    let answer = home.exchange(&[], message.as_bytes());
    assert!(answer.starts_with(br#"{"keywrapresults":{"annotation":[123,34,"#), "{}", String::from_utf8_lossy(&answer));
    let answer = home.exchange(&[], &keyunwrap(&[], &annotation_of(&answer)));
    assert!(answer.starts_with(br#"{"keyunwrapresults":{"optsdata":[123,34,"#));
    assert_eq!(opts_data_of(&answer), br#"{"symkey":"a","digest":"","cipheroptions":{}}"#);
}

#[test]
fn messages_of_gos_ocicrypt_are_answered_with_the_base64_that_a_manifest_holds() {
    let home = Home::new(&["team"]);
    let answer = home.exchange(&[], &wrap_for(&["local://team"]));
    let text = std::str::from_utf8(&answer).unwrap();
    let annotation = text.strip_prefix(r#"{"keywrapresults":{"annotation":""#).and_then(|rest| rest.strip_suffix(r#""}}"#)).expect(text);
    let message = format!(r#"{{"op":"keyunwrap","keyunwrapparams":{{"annotation":"{annotation}"}}}}"#);
    let answer = home.exchange(&[], message.as_bytes());
    assert!(
        answer.starts_with(br#"{"keyunwrapresults":{"optsdata":[123,34,"#),
        "ocicrypt-rs sends the same message, and reads numbers only"
    );
}

#[test]
fn a_key_that_only_the_image_names_needs_the_keys_list() {
    let home = Home::new(&["team", "other"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    let config = home.path().join("config.toml");
    std::fs::write(&config, "keys = ['local://other']\n").unwrap();
    let arguments = ["--config", config.to_str().unwrap()];
    let (code, line) = home.refused(&arguments, &keyunwrap(&[], &annotation));
    assert!(code == 4 && line.contains("local://team is not lent for unwrap") && line.contains("add `local://team` to `keys`"), "{line}");
    assert_eq!(opts_data_of(&home.exchange(&arguments, &keyunwrap(&[("kmscrypt", &["local://team"])], &annotation))), OPTS_DATA);
    std::fs::write(&config, "keys = ['local://*']\n").unwrap();
    assert_eq!(opts_data_of(&home.exchange(&arguments, &keyunwrap(&[], &annotation))), OPTS_DATA);
    let foreign = br#"{"key_url":"hashivault://transit/k","wrapped_key":"YQ==","wrap_type":"AES"}"#;
    let (code, line) = home.refused(&[], &keyunwrap(&[], foreign));
    assert!(code == 4 && line.contains("add `hashivault://transit/k` to `keys`"), "{line}");
}

#[test]
fn a_misspelled_key_uri_never_leaves_the_choice_to_the_image() {
    let home = Home::new(&["team", "other"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    let defaults = home.0.write("defaults.toml", "default-recipients = ['local://other']\n").display().to_string();
    for value in ["local:other", "locl://other", "LOCAL://other", "other", "local://..", "cc_kbc::null"] {
        let given = [value];
        let parameters = [("team", &given[..]), ("privkeys", &["-----BEGIN PRIVATE KEY-----"]), ("x509s", &[])];
        for (arguments, parameters) in [(&[][..], &parameters[..]), (&[], &parameters[..1]), (&["--provider", "team"], &parameters[..])] {
            let (code, line) = home.refused(arguments, &keyunwrap(parameters, &annotation));
            assert!(code == 2 && line.starts_with("the parameter of the provider `team`: "), "{value}: {code} {line}");
            assert!(line.contains("; start with one of ") || line.contains("path segment"), "{line}");
            let says_which = line.contains("is another provider than this one, say which one this is: --provider NAME");
            assert_eq!(says_which, arguments.is_empty() && !value.starts_with("local:"), "{line}");
        }
        let (code, line) = home.refused(&["--config", &defaults], &keywrap(&parameters, OPTS_DATA));
        assert!(code == 2 && line.starts_with("the parameter of the provider `team`: "), "{value}: {code} {line}");
    }
}

#[test]
fn what_other_providers_are_given_beside_this_one_is_not_looked_at() {
    let home = Home::new(&["team"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    let agent = ("attestation-agent", &["cc_kbc::null"][..]);
    let named = |value| [agent, ("team", value), ("privkeys", &["-----BEGIN PRIVATE KEY-----"][..])];
    for (arguments, parameters) in [
        (&[][..], &named(&["local://team"])[..]),
        (&["--provider", "team"], &named(&["local://team"])),
        (&["--provider", "team"], &named(&["Enabled"])),
        (&["--provider", "team"], &[agent]),
        (&[], &[agent, ("kmscrypt", &["Enabled"])]),
        (&[], &[("privkeys", &["-----BEGIN PRIVATE KEY-----"]), ("privkeys-passwords", &["secret"]), ("team", &["Enabled"])]),
    ] {
        assert_eq!(opts_data_of(&home.exchange(arguments, &keyunwrap(parameters, &annotation))), OPTS_DATA, "{parameters:?}");
    }
    let (code, line) = home.refused(&[], &keyunwrap(&[agent, ("team", &["team"])], &annotation));
    assert!(code == 2 && line.contains("values for several providers, and no key URI among them: attestation-agent, team; "), "{line}");
    let (code, line) = home.refused(&[], &keyunwrap(&[agent], &annotation));
    assert!(code == 2 && line.contains("provider `attestation-agent`") && !line.contains("cc_kbc"), "{line}");
}

#[test]
fn texts_of_a_message_are_bounded_before_they_are_kept_or_logged() {
    let home = Home::new(&["team"]);
    let annotation = annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])));
    let (name, longest) = ("n".repeat(1 << 20), "n".repeat(128));
    let many = vec!["local://team"; 100_000];
    let long = format!("local://{}", "x".repeat(1 << 20));
    let config = home.0.write("audit.toml", "[audit]\nfile = 'audit.jsonl'\n").display().to_string();
    let log = home.path().join("debug.log").display().to_string();
    let arguments = ["--config", &config, "--debugLog", &log];
    let message = |wraps: bool, parameters: &[(&str, &[&str])]| match wraps {
        true => keywrap(parameters, OPTS_DATA),
        false => keyunwrap(parameters, &annotation),
    };
    for wraps in [true, false] {
        for (parameters, says) in [
            ([(name.as_str(), &["local://team"][..])], "1 to 128 bytes of printable text"),
            ([("a\u{202e}b", &["local://team"])], "1 to 128 bytes of printable text"),
            ([("kmscrypt", &many)], "more than 64 values (of the provider `kmscrypt`)"),
            ([("kmscrypt", &[&long])], "takes more than 16384 bytes (of the provider `kmscrypt`)"),
        ] {
            let (code, line) = home.refused(&arguments, &message(wraps, &parameters));
            assert!(code == 2 && line.contains(says) && line.len() < 512, "{says}: {code} {line:.600}");
        }
        home.exchange(&arguments, &message(wraps, &[(&longest, &["local://team"])]));
    }
    for file in ["debug.log", "audit.jsonl"] {
        let text = std::fs::read_to_string(home.path().join(file)).unwrap();
        assert!(text.lines().all(|line| line.len() < 4096) && text.contains(&longest), "{file}: {} bytes", text.len());
    }
    let long_name = &name[..10_000];
    for (arguments, config) in
        [(&["--provider", long_name][..], ""), (&[], &*format!("provider = '{long_name}'")), (&["--provider", ""], "")]
    {
        let file = home.0.write("config.toml", config).display().to_string();
        let (code, line) = home.refused(&[&["--config", &file], arguments].concat(), &wrap_for(&["local://team"]));
        assert!(code == 2 && line.starts_with("provider: a key provider can't be called "), "{line:.600}");
    }
    let recipients: Vec<_> = (0..17).map(|number| format!("'local://{number}'")).collect();
    let file = home.0.write("config.toml", format!("default-recipients = [{}]", recipients.join(","))).display().to_string();
    let (code, line) = home.refused(&["--config", &file], &wrap_for(&["local://team"]));
    assert!(code == 2 && line.starts_with("default-recipients: they are more than 16 different keys"), "{line}");
}

#[test]
fn a_user_configuration_that_can_not_be_looked_at_does_not_give_way() {
    let mut home = Home::new(&["team"]);
    // As for whoever may not search the folder, but so for root, too.
    std::os::unix::fs::symlink("loop", home.path().join("loop")).unwrap();
    home.0.set("XDG_CONFIG_HOME", home.path().join("loop"));
    let (code, line) = home.refused(&[], &wrap_for(&["local://team"]));
    assert!(code == 2 && line.contains("config.toml: whether there is a configuration can't be told: "), "{line}");
    let text = String::from_utf8(home.run(&["doctor"], b"").stdout).unwrap();
    assert!(text.contains("PROBLEM configuration: ") && text.contains("whether there is a configuration can't be told"), "{text}");
    home.0.set("XDG_CONFIG_HOME", home.path().join("nothing/there"));
    home.exchange(&[], &wrap_for(&["local://team"]));
}

#[test]
fn the_user_configuration_file_is_found_and_its_mistakes_are_named() {
    let home = Home::new(&["team"]);
    let folder = home.path().join(".config/ocicrypt-kms");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "default-recipients = ['local://team']\n").unwrap();
    let annotation = annotation_of(&home.exchange(&[], &keywrap(&[("kmscrypt", &["Enabled"])], OPTS_DATA)));
    assert!(String::from_utf8(annotation).unwrap().contains("local://team"));
    std::fs::write(folder.join("config.toml"), "default-recipients = []\nkey = 'x'\n").unwrap();
    let (code, line) = home.refused(&[], &wrap_for(&["local://team"]));
    assert!(code == 2 && line.contains("config.toml: line 2: unknown field `key`"), "{line}");
    std::fs::write(folder.join("config.toml"), "keys = ['local://t*']\n").unwrap();
    let (code, line) = home.refused(&[], &wrap_for(&["local://team"]));
    assert!(code == 2 && line.contains("only at the end, after a `/`"), "{line}");
}

#[test]
fn kms_uri_takes_the_place_of_what_the_client_names() {
    let home = Home::new(&["team", "other"]);
    let annotation = annotation_of(&home.exchange(&["--kmsURI", "local://team"], &wrap_for(&["local://other"])));
    assert!(String::from_utf8(annotation.clone()).unwrap().contains("local://team"));
    let (code, line) = home.refused(&["-kmsURI=local://other"], &keyunwrap(&[("kmscrypt", &["local://team"])], &annotation));
    assert!(code == 3 && line.contains("local://team"), "{line}");
    assert_eq!(opts_data_of(&home.exchange(&["-kmsURI", "local://team"], &keyunwrap(&[], &annotation))), OPTS_DATA);
}

#[test]
fn the_debug_log_tells_what_happened_and_holds_no_secret() {
    let home = Home::new(&["team"]);
    let log = home.path().join("debug.log");
    let arguments = ["--debugLog", log.to_str().unwrap()];
    let annotation = annotation_of(&home.exchange(&arguments, &wrap_for(&["local://team"])));
    home.exchange(&arguments, &keyunwrap(&[], &annotation));
    home.refused(&arguments, &keyunwrap(&[("kmscrypt", &["local://team"])], b"{\"key_url\":\"local://team\"}"));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("key=\"local://team\"") && text.contains("operation=wrap") && text.contains("operation=unwrap"), "{text}");
    let set = std::fs::read_to_string(home.path().join("keys/team.jwks")).unwrap();
    let key = set.split("\"k\":\"").nth(1).unwrap().split('"').next().unwrap();
    for secret in [key, "bdhUK2c778nWUudQgCwFW9gxjaZSsSyk7bH6vWJY7Zk=", "symkey"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_process_that_waits_for_a_kms_is_hardened_unless_the_configuration_says_otherwise() {
    let own = restrictions("self");
    let waiting = |settings: &str| {
        let mut home = Home::new(&[]);
        home.0.write(".config/ocicrypt-kms/config.toml", settings);
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        home.0.set("VAULT_ADDR", format!("http://{}", silent.local_addr().unwrap()));
        home.0.set("VAULT_TOKEN", "token");
        let mut child = home.0.command(&[]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &wrap_for(&["hashivault://transit/k"])).unwrap();
        let _connection = accept_soon(&silent);
        let found = restrictions(&child.id().to_string());
        child.kill().unwrap();
        child.wait().unwrap();
        found
    };
    assert_eq!(waiting("hardening = false"), own);
    let (no_new_privileges, filters) = waiting("");
    assert_eq!((no_new_privileges, filters), (1, own.1 + 1));
}

#[test]
fn a_process_with_a_local_key_is_hardened_while_it_waits_for_its_audit_log() {
    let home = Home::new(&["team"]);
    let log = home.path().join("audit.jsonl");
    let config = home.0.write("config.toml", format!("audit = {{ file = '{}' }}\n", log.display()));
    let arguments = ["--config", config.to_str().unwrap()];
    home.exchange(&arguments, &wrap_for(&["local://team"]));
    let locked = std::fs::File::open(&log).unwrap();
    locked.lock().unwrap();
    let mut child = home.0.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &wrap_for(&["local://team"])).unwrap();
    let (own, start) = (restrictions("self"), std::time::Instant::now());
    while restrictions(&child.id().to_string()) != (1, own.1 + 1) {
        assert!(start.elapsed().as_secs() < 5, "it isn't hardened");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    locked.unlock().unwrap();
    annotation_of(&program::answer(child.wait_with_output().unwrap()));
}

#[test]
fn a_key_that_only_an_image_names_and_nothing_lends_takes_no_protection_away() {
    const FOREIGN: &str = r#"{"key_url":"awskms:///alias/any","wrapped_key":"YQ==","wrap_type":"AES"}"#;
    let home = Home::new(&["team"]);
    let log = home.path().join("debug.log");
    let annotation = String::from_utf8(annotation_of(&home.exchange(&[], &wrap_for(&["local://team"])))).unwrap();
    let both = format!("[{annotation},{FOREIGN}]");
    let needs = |config: &str, named: &[&str]| {
        let config = home.0.write("config.toml", config);
        let arguments = ["--config", config.to_str().unwrap(), "--debugLog", log.to_str().unwrap()];
        let _ = std::fs::remove_file(&log);
        let answer = home.exchange(&arguments, &keyunwrap(&[("kmscrypt", named)], both.as_bytes()));
        assert_eq!(opts_data_of(&answer), OPTS_DATA);
        let text = std::fs::read_to_string(&log).unwrap();
        text.split(" needs=").nth(1).unwrap_or_else(|| panic!("{text}")).split(' ').next().unwrap().to_owned()
    };
    let policy = |condition: &str| {
        let rule = format!("permit (principal, action, resource) when {{ {condition} }};\n");
        format!("policy = '{}'\n", home.0.write("policy.cedar", rule).display())
    };
    let local = "resource.service == \"local\"";
    assert_eq!(needs("", &[]), "Local");
    assert_eq!(needs("keys = ['local://team']\n", &[]), "Local");
    assert_eq!(needs(&policy(local), &[]), "Local");
    // What is lent to it, or could be, is what the exchange needs; and so is what the client names.
    assert_eq!(needs("keys = ['local://team', 'awskms:///*']\n", &[]), "Programs");
    assert_eq!(needs(&policy("true"), &[]), "Programs");
    assert_eq!(needs(&policy(&format!("{local} || !context.opened.isEmpty()")), &[]), "Programs");
    assert_eq!(needs("", &["local://team", "awskms:///alias/any"]), "Programs");
}

/// A connection, before a test would wait for ever.
fn accept_soon(listener: &std::net::TcpListener) -> std::net::TcpStream {
    listener.set_nonblocking(true).unwrap();
    let start = std::time::Instant::now();
    loop {
        match listener.accept() {
            Ok((connection, _)) => return connection,
            Err(error) => assert!(start.elapsed().as_secs() < 10, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether a process has no new privileges, and how many seccomp filters.
fn restrictions(process: &str) -> (u32, u32) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let number = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap();
    (number("NoNewPrivs:"), number("Seccomp_filters:"))
}

#[test]
fn the_process_leaves_no_core_and_can_not_be_traced() {
    use std::os::unix::fs::MetadataExt;
    let home = Home::new(&[]);
    let mut child = Command::new(program::path())
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let core = || std::fs::read_to_string(&limits).unwrap().lines().find(|line| line.starts_with("Max core")).unwrap().to_owned();
    let wanted: Vec<_> = ["Max", "core", "file", "size", "0", "0", "bytes"].into();
    let start = std::time::Instant::now();
    while core().split_whitespace().collect::<Vec<_>>() != wanted {
        assert!(start.elapsed().as_secs() < 10, "{}", core());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // What isn't dumpable belongs to root in /proc, so that its user can't attach to it; root, who runs tests in CI, owns both.
    assert_eq!(std::fs::metadata(format!("/proc/{}/mem", child.id())).unwrap().uid(), 0);
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_mistake_on_the_command_line_is_one_line_too() {
    let home = Home::new(&[]);
    for arguments in [&["--nonsense"][..], &["keygen"], &["--adc"], &["nonsense"]] {
        let (code, line) = home.refused(arguments, b"");
        assert!(code == 2 && line.ends_with("see `ocicrypt-kms --help`"), "{line}");
    }
}

#[test]
fn keygen_refuses_what_is_no_name_and_never_overwrites() {
    let home = Home::new(&["team"]);
    for name in ["../x", "a/b", "", ".hidden", "team?context_a=b", "a b"] {
        let (code, _) = home.refused(&["keygen", name], b"");
        assert_eq!(code, 2, "{name}");
    }
    let (code, line) = home.refused(&["keygen", "team"], b"");
    assert!(code == 5 && line.contains("keygen --rotate team"), "{line}");
    let (code, line) = home.refused(&["keygen", "--rotate", "absent"], b"");
    assert!(code == 5 && line.contains("no such key"), "{line}");
}

#[test]
fn arguments_that_can_not_be_used_are_told_with_those_that_can() {
    let home = Home::new(&[]);
    let (code, line) = home.refused(&["keygen", "--algorithm", "RSA", "team"], b"");
    assert!(
        code == 2 && line.starts_with("invalid value 'RSA' for '--algorithm <ALGORITHM>' [possible values: A256KW, RSA-OAEP-256"),
        "{line}"
    );
    let (code, line) = home.refused(&["public"], b"");
    assert!(code == 2 && line.starts_with("the following required arguments were not provided: <NAME>; see"), "{line}");
}

#[test]
fn doctor_says_what_is_wrong_and_tries_a_key() {
    let home = Home::new(&["team"]);
    let output = home.run(&["doctor", "local://team"], b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ok      local://team: a key was wrapped and unwrapped"), "{text}");
    assert!(text.contains("PROBLEM ocicrypt.json: OCICRYPT_KEYPROVIDER_CONFIG is not set"), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(home.run(&["doctor", "local://absent"], b"").stdout).unwrap();
    assert!(text.contains("PROBLEM local://absent: there is no such key"), "{text}");
}

#[test]
fn doctor_says_which_component_runs_and_what_the_kernel_offers() {
    let mut home = Home::new(&[]);
    let report = |home: &Home, arguments: &[&str]| String::from_utf8(home.run(arguments, b"").stdout).unwrap();
    let digest = ocicrypt_kms::Digest::of(ocicrypt_kms::sandbox::BUILT_IN).to_string();
    let text = report(&home, &["doctor"]);
    assert!(text.contains(&format!("ok      component: the built-in one, SHA-256 {digest}\n")), "{text}");
    {
        let line = text.lines().find(|line| line.starts_with("ok      hardening: ")).unwrap();
        assert!(line.contains("Landlock") && line.contains("seccomp") && !line.contains("not used"), "{line}");
        let config = home.0.write("off.toml", "hardening = false\n");
        assert!(
            report(&home, &["--config", config.to_str().unwrap(), "doctor"]).contains("hardening: not used, since `hardening` is false")
        );
    }
    let file = home.0.write("component.wasm", ocicrypt_kms::sandbox::BUILT_IN).display().to_string();
    let text = report(&home, &["--component", &file, "doctor"]);
    assert!(text.contains(&format!("component: {file}, which is the built-in one, SHA-256 {digest}\n")), "{text}");
    {
        let other = [ocicrypt_kms::sandbox::BUILT_IN, &[0, 2, 1, b'x']].concat();
        home.0.set("XDG_CACHE_HOME", home.path().join("cache"));
        let (file, digest) = (home.0.write("other.wasm", &other).display().to_string(), ocicrypt_kms::Digest::of(&other).to_string());
        let text = report(&home, &["--component", &file, "--component-sha256", &digest, "doctor"]);
        assert!(text.contains(&format!("ok      component: {file}, SHA-256 {digest}\n")), "{text}");
        let text = report(&home, &["--component", &file, "doctor"]);
        assert!(text.contains("PROBLEM configuration: ") && text.contains(&digest), "{text}");
    }
}

#[test]
fn doctor_tells_what_is_wrong_with_the_configuration_once_and_as_such() {
    let home = Home::new(&[]);
    for (config, says) in [
        ("keys = ['local://te*']", "keys: `local://te*`: a `*` may stand only at the end"),
        ("kees = []", "line 1: unknown field `kees`"),
        ("default-recipients = ['ftp://k']", "default-recipients: `ftp` is not the scheme of a key URI"),
    ] {
        let file = home.0.write("config.toml", config);
        for key in [None, Some("local://team")] {
            let arguments: Vec<_> = ["--config", file.to_str().unwrap(), "doctor"].into_iter().chain(key).collect();
            let text = String::from_utf8(home.run(&arguments, b"").stdout).unwrap();
            let lines: Vec<_> = text.lines().filter(|line| line.contains(says)).collect();
            assert!(matches!(lines[..], [line] if line.starts_with("PROBLEM configuration: ")), "{text}");
        }
    }
}

#[test]
fn doctor_checks_each_endpoint_without_asking_it() {
    let home = Home::new(&[]);
    let endpoint = |name: &str, url: &str, settings: &str| {
        let rule = "allow = [{ usage = 'wrap', method = 'POST', path = '/{key}' }]";
        format!("[http-kms.{name}]\nurl = '{url}'\n{settings}\n{rule}\n")
    };
    let private = |name: &str, mode| {
        let path = home.0.write(name, "token");
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    private("good", 0o600);
    private("open", 0o644);
    home.0.write("empty.pem", "");
    // Nobody listens there.
    let url = "https://127.0.0.1:1/base";
    let config = [
        endpoint("good", url, "bearer-file = 'good'"),
        endpoint("gone", url, "bearer-file = 'gone'"),
        endpoint("open", url, "header = { name = 'x-token', file = 'open' }"),
        endpoint("authorities", url, "bearer-file = 'good'\nca-file = 'empty.pem'"),
        endpoint("certificate", url, "client-certificate = 'empty.pem'\nclient-key = 'good'"),
    ];
    let file = home.0.write("config.toml", config.concat()).display().to_string();
    let text = String::from_utf8(home.run(&["--config", &file, "doctor"], b"").stdout).unwrap();
    for line in [
        "ok      http-kms.good: https://127.0.0.1:1/base, whose credential and certificates can be used; it was sent nothing",
        "PROBLEM http-kms.gone: the credential in gone: No such file",
        "PROBLEM http-kms.open: the credential in open: its mode is 0644",
        "PROBLEM http-kms.authorities: the certificate authorities in empty.pem: ",
        "PROBLEM http-kms.certificate: the client certificate in empty.pem and good: ",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
    }
    let file = home.0.write("config.toml", endpoint("far", "http://kms.example", "bearer-file = 'good'")).display().to_string();
    let text = String::from_utf8(home.run(&["--config", &file, "doctor"], b"").stdout).unwrap();
    assert!(text.contains("PROBLEM configuration: http-kms.far: `url`: ") && !text.contains(" http-kms.far: https"), "{text}");
}

#[test]
fn a_configuration_that_others_could_change_is_not_used() {
    let home = Home::new(&["team"]);
    let file = home.0.write("config.toml", "keys = ['local://*']\n").display().to_string();
    let chmod = |mode| std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    for mode in [0o646, 0o666, 0o602] {
        chmod(mode);
        let (code, line) = home.refused(&["--config", &file], &wrap_for(&["local://team"]));
        let says = format!("{file}: the configuration is not used: its mode is {mode:04o}, so others could change it; ");
        assert!(code == 2 && line.starts_with(&says) && line.ends_with(&format!("chmod go-w {file}")), "{line}");
        let text = String::from_utf8(home.run(&["--config", &file, "doctor"], b"").stdout).unwrap();
        assert!(text.contains("PROBLEM configuration: ") && text.contains("chmod go-w "), "{text}");
    }
    chmod(0o444);
    home.exchange(&["--config", &file], &wrap_for(&["local://team"]));
    home.exchange(&["--config", "/dev/null"], &wrap_for(&["local://team"]));
}

#[test]
fn a_configuration_is_used_as_kubernetes_mounts_it() {
    let home = Home::new(&["team"]);
    let version = home.0.write("mount/..2026_01_31/config.toml", "keys = ['local://*']\n");
    std::fs::set_permissions(version, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    // The kubelet makes the folders so, also for an `fsGroup`; the links are everybody's, as all links are.
    for folder in ["mount", "mount/..2026_01_31"] {
        std::fs::set_permissions(home.path().join(folder), std::os::unix::fs::PermissionsExt::from_mode(0o2777)).unwrap();
    }
    std::os::unix::fs::symlink("..2026_01_31", home.path().join("mount/..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.toml", home.path().join("mount/config.toml")).unwrap();
    home.exchange(&["--config", "mount/config.toml"], &wrap_for(&["local://team"]));
}

#[test]
fn doctor_finds_a_program_that_clients_would_not_find_and_keys_that_can_not_be_used() {
    let mut home = Home::new(&["local://team", "open"]);
    let entry = |path: &str| format!(r#"{{"key-providers":{{"kmscrypt":{{"cmd":{{"path":"{path}"}}}}}}}}"#);
    home.0.set("OCICRYPT_KEYPROVIDER_CONFIG", home.path().join("ocicrypt.json"));
    home.0.set("PATH", "/usr/bin:/bin");
    let report = |home: &Home, path: &str| {
        home.0.write("ocicrypt.json", entry(path));
        String::from_utf8(home.run(&["doctor"], b"").stdout).unwrap()
    };
    for missing in ["ocicrypt-kmz", "/nonexistent/ocicrypt-kms", "/etc/passwd"] {
        let text = report(&home, missing);
        assert!(text.contains("PROBLEM ocicrypt.json: ") && text.contains(&format!("`kmscrypt` is {missing}, which is")), "{text}");
    }
    let text = report(&home, program::path());
    assert!(text.contains("ok      ocicrypt.json: ") && text.contains("ok      local keystore: keys in "), "{text}");
    std::fs::set_permissions(home.path().join("keys/open.jwks"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let text = report(&home, program::path());
    assert!(text.contains("PROBLEM local keystore: ") && text.contains("chmod 600 ") && !text.contains("team.jwks"), "{text}");
}
