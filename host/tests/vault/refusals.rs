//! What the user sees when the server says no: one line that names the key and the remedy.

use ocicrypt_kms::{Error, ErrorKind};
use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::failure;
use ocicrypt_kms_testing::messages::OPTS_DATA;

use super::KEY;
use super::user::{User, packet, wrapped};

/// The line of a failure of this kind, which names the key.
fn line(outcome: Result<Vec<u8>, Error>, kind: ErrorKind) -> String {
    failure::line(outcome, kind, "openbao://transit/")
}

/// The policy in a line: from `path` to the closing brace.
fn policy_in(line: &str) -> &str {
    let start = line.find("path \"").unwrap_or_else(|| panic!("{line}"));
    &line[start..=start + line[start..].find('}').unwrap()]
}

#[test]
fn a_token_that_may_only_encrypt_is_told_the_policy_that_decrypting_needs() {
    let bao = Bao::start();
    let encrypts = "path \"transit/encrypt/k\" { capabilities = [\"update\"] }";
    let builder = User::with_token(&bao, &bao.token(encrypts));
    let annotation = builder.wrap(KEY);
    let refused = line(builder.try_unwrap(KEY, &annotation), ErrorKind::Kms);
    assert!(refused.starts_with(&format!("{KEY}: the KMS answered 403 Forbidden: permission denied; check that the mount")), "{refused}");
    assert_eq!(policy_in(&refused), "path \"transit/decrypt/k\" { capabilities = [\"update\"] }");
    let node = User::with_token(&bao, &bao.token(policy_in(&refused)));
    assert_eq!(node.unwrap(KEY, &annotation), OPTS_DATA, "the policy is enough");
    let refused = line(node.try_wrap(KEY), ErrorKind::Kms);
    assert_eq!(policy_in(&refused), encrypts);
}

#[test]
fn a_missing_key_is_refused_and_not_created_whatever_the_token_may_do() {
    let bao = Bao::start();
    let token = |capabilities| bao.token(&format!("path \"transit/+/missing\" {{ capabilities = [{capabilities}] }}"));
    let create = "check the key's name, or create it: bao write -f transit/keys/missing";
    for (token, says) in [
        (token("\"update\""), "the key missing exist (a key that is missing: bao write -f transit/keys/missing)"),
        (token("\"create\", \"update\""), create),
        (ROOT.to_owned(), create),
    ] {
        let user = User::with_token(&bao, &token);
        for uri in
            ["openbao://transit/missing", "openbao://transit/missing?context_a=1", "openbao://transit/missing?algorithm=RSA-OAEP-256"]
        {
            let refused = line(user.try_wrap(uri), ErrorKind::Kms);
            assert!(refused.contains(says), "{refused}");
        }
        let uri = "openbao://transit/missing";
        let refused = line(user.try_unwrap(uri, &packet(uri, "AES", "vault:v1:AAAA")), ErrorKind::Kms);
        assert!(refused.contains("a new one can't unwrap what it wrapped: restore it from a backup"), "{refused}");
        assert!(!bao.run(&["list", "transit/keys"]).contains("missing"));
    }
}

#[test]
fn a_missing_mount_is_told_and_a_token_that_may_not_see_mounts_is_told_to_check() {
    let bao = Bao::start();
    let uri = "openbao://transit/elsewhere/k";
    let refused = line(User::root(&bao).try_wrap(uri), ErrorKind::Kms);
    assert!(refused.contains("404 Not Found") && refused.contains("a transit engine is mounted at transit/elsewhere/"), "{refused}");
    let user = User::with_token(&bao, &bao.token("path \"transit/encrypt/k\" { capabilities = [\"update\"] }"));
    for refused in [user.try_wrap(uri), user.try_unwrap(uri, &packet(uri, "AES", "vault:v1:AAAA"))] {
        let refused = line(refused, ErrorKind::Kms);
        assert!(
            refused.contains("403 Forbidden: permission denied; check that the mount transit/elsewhere/ and the key k exist"),
            "{refused}"
        );
    }
}

#[test]
fn keys_that_can_not_be_used_are_told_apart() {
    let bao = Bao::start();
    let user = User::root(&bao);
    bao.run(&["write", "transit/keys/derived", "derived=true"]);
    bao.run(&["write", "transit/keys/convergent", "derived=true", "convergent_encryption=true"]);
    bao.run(&["write", "transit/keys/signs", "type=ed25519"]);
    for (uri, says) in [
        ("openbao://transit/derived", "derived=true, which is not supported"),
        ("openbao://transit/convergent", "derived=true, which is not supported"),
        ("openbao://transit/derived?context_a=1", "derived=true, which is not supported"),
        ("openbao://transit/signs", "name a key that encrypts"),
        ("openbao://transit/signs?context_a=1", "can't bind an encryption context"),
    ] {
        let refused = line(user.try_wrap(uri), ErrorKind::Kms);
        assert!(refused.contains("400 Bad Request") && refused.contains(says), "{refused}");
        let refused = line(user.try_unwrap(uri, &packet(uri, "AES", "vault:v1:AAAA")), ErrorKind::Kms);
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn a_deleted_key_is_told_with_how_to_restore_it() {
    let bao = Bao::start();
    let user = User::root(&bao);
    bao.run(&["delete", "transit/keys/k/soft-delete"]);
    let refused = line(user.try_wrap(KEY), ErrorKind::Kms);
    let (_, remedy) = refused.split_once("restore the key: bao ").unwrap_or_else(|| panic!("{refused}"));
    bao.run(&remedy.split(' ').collect::<Vec<_>>());
    user.uses(KEY);
}

#[test]
fn a_packet_that_was_changed_or_is_another_keys_is_refused() {
    let bao = Bao::start();
    let user = User::root(&bao);
    bao.run(&["write", "-f", "transit/keys/other"]);
    let text = wrapped(&user.wrap(KEY));
    let changed = format!("{}A{}", &text[..20], &text[21..]);
    let changed = if changed == text { format!("{}B{}", &text[..20], &text[21..]) } else { changed };
    let other = "openbao://transit/other";
    for (uri, text) in [(KEY, changed.as_str()), (other, text.as_str()), (KEY, "vault:v1:AAAA"), (KEY, "vault:v7:AAAA")] {
        let refused = line(user.try_unwrap(uri, &packet(uri, "AES", text)), ErrorKind::Kms);
        assert!(refused.contains("the packet was not made by this key, or with another encryption context"), "{refused}");
    }
    for text in ["", "AAAA", "vault:v1:", "vault:v01:AAAA", "vault:v1:AAAA\n", "\u{1b}[2J"] {
        let error = user.try_unwrap(KEY, &packet(KEY, "AES", text)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Kms), "{text}: {}", error.line());
    }
}

#[test]
fn a_certificate_is_verified_with_the_configured_authority_whatever_the_environment_says() {
    let (bao, other) = (Bao::start(), Bao::start());
    let address = bao.address();
    let one_second = "deadline-seconds = 1";
    let token = ("BAO_TOKEN", ROOT);
    let wrong = other.authority();
    for authority in [None, Some(("BAO_CACERT", wrong.to_str().unwrap()))] {
        for skip in [None, Some(("VAULT_SKIP_VERIFY", "true"))] {
            let variables: Vec<_> = [("BAO_ADDR", address.as_str()), token].into_iter().chain(authority).chain(skip).collect();
            let refused = line(User::new(&variables, one_second).try_wrap(KEY), ErrorKind::Unavailable);
            assert!(refused.contains("certificate") && refused.contains("in VAULT_CACERT, BAO_CACERT or `ca-file`"), "{refused}");
            assert_eq!(refused.contains("VAULT_SKIP_VERIFY is never honoured"), skip.is_some(), "{refused}");
        }
    }
    let config = format!("[vault]\naddress = '{address}'\nca-file = '{}'", bao.authority().display());
    User::new(&[token], &config).uses(KEY);
    User::new(&[token, ("VAULT_SKIP_VERIFY", "true")], &config).uses(KEY);
}

#[test]
fn a_file_of_authorities_that_is_none_is_told() {
    let bao = Bao::start();
    let empty = bao.write("empty.pem", "no certificate\n");
    for (file, says) in [(empty.to_str().unwrap(), "has no certificate in PEM"), ("/nonexistent/ca.pem", "No such file")] {
        let user = User::new(&[("BAO_ADDR", &bao.address()), ("BAO_TOKEN", ROOT), ("BAO_CACERT", file)], "");
        let error = user.try_wrap(KEY).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.line().contains(says), "{}", error.line());
        assert!(error.line().contains(file), "{}", error.line());
    }
}

#[test]
fn a_sealed_server_is_told() {
    let bao = Bao::start();
    let user = User::of(&bao, &[("BAO_TOKEN", ROOT)], "deadline-seconds = 1");
    user.wrap(KEY);
    bao.run(&["operator", "seal"]);
    let refused = line(user.try_wrap(KEY), ErrorKind::Unavailable);
    assert!(refused.contains("503 Vault is sealed (`vault operator unseal` or `bao operator unseal` opens it)"), "{refused}");
}

#[test]
fn settings_that_can_not_be_used_are_told_with_their_place() {
    // Variables, the configuration, and what the line says.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let table: &[Case<'_>] = &[
        (&[], "", "openbao://transit/k: no address of its server is known; set BAO_ADDR, or `address` below `[vault]`"),
        (
            &[("BAO_ADDR", "https://127.0.0.1:1"), ("BAO_TOKEN", "t-of-this-test")],
            "[vault]\nstandby-redirects = ['http://vault.example']",
            "vault.standby-redirects: ",
        ),
        (&[("BAO_ADDR", "https://127.0.0.1:1")], "[vault.cert]\nmount = '../sys'", "`mount` of `cert` is not the path of a mount"),
        (&[("VAULT_ADDR", "http://vault.example")], "", "VAULT_ADDR: `http://vault.example` is plain http"),
        (&[], "[vault]\naddress = 'vault.example'", "vault.address: "),
        (&[("BAO_ADDR", "https://127.0.0.1:1"), ("BAO_NAMESPACE", "a\nb")], "", "BAO_NAMESPACE: "),
        (&[("BAO_ADDR", "https://127.0.0.1:1"), ("BAO_TOKEN", "two words")], "", "BAO_TOKEN: it does not hold a token"),
        (&[("BAO_ADDR", "https://127.0.0.1:1")], "[vault]\ntoken-file = '/nonexistent'", "the credentials in /nonexistent: "),
        (
            &[("BAO_ADDR", "https://127.0.0.1:1")],
            "[vault]\ntoken-file = '/t'\n[vault.approle]\nrole-id = 'r'",
            "`token-file` and `approle` are both configured",
        ),
        (
            &[("BAO_ADDR", "https://127.0.0.1:1")],
            "[vault.jwt]\nrole = 'r'\ntoken-file = '/t'\nmount = '../sys'",
            "`mount` of `jwt` is not the path of a mount",
        ),
    ];
    for (variables, config, says) in table {
        let error = User::new(variables, config).try_wrap(KEY).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.line().contains(says), "{says}: {}", error.line());
    }
}
