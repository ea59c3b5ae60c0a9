//! Where a token comes from: each way to get one, how long it is kept, and what happens if there is none.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ocicrypt_kms::ErrorKind;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_fakes::{Disturbance, Proxy};
use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::program::text_of;
use ocicrypt_kms_testing::scripted::{Reply, Request, Scripted};
use serde_json::json;

use super::KEY;
use super::replies;
use super::user::{User, wrapping};

/// A part of a JWT.
fn part(value: serde_json::Value) -> String {
    BASE64URL.encode(value.to_string())
}

const BOTH: &str = r#"path "transit/+/k" { capabilities = ["update"] }"#;

/// An AppRole whose tokens may use the key, and the configuration for it.
fn with_approle(bao: &Bao, role: &[&str], secret_id: &[&str]) -> String {
    bao.policy("both", BOTH);
    let policy = "token_policies=both";
    bao.run(&["auth", "enable", "approle"]);
    bao.run(&[&["write", "auth/approle/role/r", policy][..], role].concat());
    let id = bao.run(&["read", "-field=role_id", "auth/approle/role/r/role-id"]);
    let secret = bao.run(&[&["write", "-f", "-field=secret_id", "auth/approle/role/r/secret-id"][..], secret_id].concat());
    let file = bao.write("secret-id", &format!("{secret}\n"));
    format!("[vault.approle]\nrole-id = '{id}'\nsecret-id-file = '{}'", file.display())
}

fn secret_of(bao: &Bao) -> String {
    std::fs::read_to_string(bao.path("secret-id")).unwrap().trim().to_owned()
}

#[test]
fn an_approle_logs_in_once_for_several_exchanges() {
    let bao = Bao::start();
    // A second login would fail.
    let config = with_approle(&bao, &[], &["num_uses=1"]);
    let user = User::of(&bao, &[], &config).keeps_secret(&secret_of(&bao));
    user.uses(KEY);
    user.uses(KEY);
    assert_eq!(user.log().matches("logged in to Vault").count(), 1, "{}", user.log());
}

#[test]
fn a_login_is_made_again_before_its_token_expires() {
    let bao = Bao::start();
    let config = with_approle(&bao, &["token_ttl=2s", "token_max_ttl=2s"], &[]);
    let user = User::of(&bao, &[], &config);
    user.wrap(KEY);
    std::thread::sleep(Duration::from_millis(1850));
    user.uses(KEY);
    assert!(user.log().matches("logged in to Vault").count() >= 2, "{}", user.log());
}

#[test]
fn a_token_that_was_revoked_is_replaced_once() {
    let bao = Bao::start();
    let config = with_approle(&bao, &[], &[]);
    let user = User::of(&bao, &[], &config);
    user.wrap(KEY);
    bao.run(&["token", "revoke", "-mode=path", "auth/approle"]);
    user.uses(KEY);
    assert_eq!(user.log().matches("logged in to Vault").count(), 2, "{}", user.log());
}

#[test]
fn tokens_that_may_be_used_once_are_not_kept() {
    let bao = Bao::start();
    let config = with_approle(&bao, &["token_num_uses=1"], &[]);
    User::of(&bao, &[], &config).uses(KEY);
}

#[test]
fn a_login_that_is_refused_is_told_with_where_it_was_tried() {
    let bao = Bao::start();
    let config = with_approle(&bao, &[], &[]);
    let secret = secret_of(&bao);
    bao.write("secret-id", "0123456789-not-the-secret");
    let user = User::of(&bao, &[], &config).keeps_secret("0123456789-not-the-secret");
    let error = user.try_wrap(KEY).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kms);
    let line = error.line();
    assert!(line.starts_with(&format!("{KEY}: the KMS answered 400 Bad Request: the login at auth/approle/login failed: ")), "{line}");
    assert!(line.contains("check `role-id`, the secret id and `mount` below `[vault.approle]`"), "{line}");
    // The file is read for each login.
    bao.write("secret-id", &secret);
    user.uses(KEY);
}

#[test]
fn a_jwt_logs_in_at_a_mount_of_its_own() {
    let bao = Bao::start();
    let folder = bao.path("");
    text_of(Command::new("openssl").args(["genrsa", "-out", "jwt.pem", "2048"]).current_dir(&folder));
    text_of(Command::new("openssl").args(["rsa", "-in", "jwt.pem", "-pubout", "-out", "jwt.pub"]).current_dir(&folder));
    let signed = |subject: &str| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": "https://issuer.example", "sub": subject, "aud": "vault", "iat": now, "nbf": now, "exp": now + 300});
        let input = format!("{}.{}", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims));
        bao.write("input", &input);
        text_of(Command::new("openssl").args(["dgst", "-sha256", "-sign", "jwt.pem", "-out", "signature", "input"]).current_dir(&folder));
        format!("{input}.{}", BASE64URL.encode(std::fs::read(bao.path("signature")).unwrap()))
    };
    bao.run(&["auth", "enable", "-path=ci/jwt", "jwt"]);
    bao.run(&["write", "auth/ci/jwt/config", &format!("jwt_validation_pubkeys=@{}", bao.path("jwt.pub").display())]);
    bao.policy("both", BOTH);
    let policy = "token_policies=both";
    bao.run(&["write", "auth/ci/jwt/role/build", "role_type=jwt", "user_claim=sub", "bound_subject=job", "bound_audiences=vault", policy]);
    let file = bao.path("token.jwt");
    let config = format!("[vault.jwt]\nrole = 'build'\ntoken-file = '{}'\nmount = 'ci/jwt'", file.display());
    let jwt = signed("job");
    bao.write("token.jwt", &jwt);
    User::of(&bao, &[], &config).keeps_secret(&jwt).uses(KEY);
    bao.write("token.jwt", &signed("somebody else"));
    let line = User::of(&bao, &[], &config).try_wrap(KEY).unwrap_err().line();
    assert!(
        line.contains("the login at auth/ci/jwt/login failed: ") && line.contains("the role `build` is bound to the token in"),
        "{line}"
    );
}

#[test]
fn a_pods_service_account_logs_in() {
    let bao = Bao::start();
    // Kubernetes checks the signature, which is not the server's business.
    let claims = json!({"aud": ["vault"], "kubernetes.io": {"namespace": "apps", "serviceaccount": {"name": "node", "uid": "1"}}});
    let jwt = format!("{}.{}.c2lnbmF0dXJl", part(json!({"alg": "RS256"})), part(claims));
    let expected = jwt.clone();
    let review = move |request: &Request, _: usize| {
        let known = request.json()["spec"]["token"] == expected;
        let user = json!({"username": "system:serviceaccount:apps:node", "uid": "1", "groups": ["system:serviceaccounts"]});
        let status =
            if known { json!({"authenticated": true, "user": user, "audiences": ["vault"]}) } else { json!({"authenticated": false}) };
        Reply::new(201, json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}).to_string())
            .header("content-type", "application/json")
    };
    let kubernetes = Scripted::start(review);
    bao.run(&["auth", "enable", "kubernetes"]);
    let host = format!("kubernetes_host={}", kubernetes.address());
    let authority = format!("kubernetes_ca_cert=@{}", bao.authority().display());
    bao.run(&["write", "auth/kubernetes/config", &host, "token_reviewer_jwt=reviewer", "disable_local_ca_jwt=true", &authority]);
    bao.policy("both", BOTH);
    let policy = "token_policies=both";
    let names = ["bound_service_account_names=node", "bound_service_account_namespaces=apps", "audience=vault"];
    bao.run(&[&["write", "auth/kubernetes/role/node", policy][..], &names].concat());
    let file = bao.write("pod", &jwt);
    let config = format!("[vault.kubernetes]\nrole = 'node'\ntoken-file = '{}'", file.display());
    User::of(&bao, &[], &config).keeps_secret(&jwt).uses(KEY);
    assert_eq!(kubernetes.take_paths(), ["/apis/authentication.k8s.io/v1/tokenreviews"]);
}

#[test]
fn a_token_of_the_environment_comes_before_one_in_a_file_and_that_before_the_users() {
    let bao = Bao::start();
    bao.write(".vault-token", ROOT);
    let home = bao.path("");
    let home = ("HOME", home.to_str().unwrap());
    let bad = bao.write("bad", "not-a-token-of-this-server\n");
    let configured = format!("[vault]\ntoken-file = '{}'", bad.display());
    User::of(&bao, &[home], "").uses(KEY);
    User::of(&bao, &[home, ("VAULT_TOKEN", ROOT)], &configured).uses(KEY);
    User::of(&bao, &[home, ("VAULT_TOKEN", "not-a-token"), ("BAO_TOKEN", ROOT)], &configured).uses(KEY);
    let line = User::of(&bao, &[home], &configured).keeps_secret("not-a-token-of").try_wrap(KEY).unwrap_err().line();
    assert!(line.contains("403 Forbidden") && line.contains("that the token has not expired"), "{line}");
}

#[test]
fn a_missing_token_is_told() {
    let bao = Bao::start();
    let error = User::of(&bao, &[("HOME", bao.path("nobody").to_str().unwrap())], "").try_wrap(KEY).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kms);
    assert_eq!(
        error.line(),
        format!(
            "{KEY}: there is no token for Vault; set BAO_TOKEN, log in (`bao login`), or configure `token-file` or a login below `[vault]`; if an \
             Agent or Proxy with auto-auth listens there, write `auth = \"none\"` there, and it adds its own token"
        )
    );
}

/// Logs anybody in with tokens `t1`, `t2` and so on, of which the server then accepts those that `accepts` says.
fn gatekeeper(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Scripted {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Scripted::start(move |request, _| {
        if request.path == "/v1/auth/approle/login" {
            let token = format!("t{}", count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1);
            let auth = json!({"auth": {"client_token": token, "lease_duration": 3600, "num_uses": 0}});
            return Reply::new(200, auth.to_string()).after(Duration::from_millis(300));
        }
        let token = request.header("x-vault-token").unwrap_or_default();
        let plaintext = bytes::decode(request.json()["plaintext"].as_str().unwrap()).unwrap();
        match accepts(token) {
            true => replies::data("ciphertext", &format!("vault:v1:{}", bytes::encode(&vec![0; plaintext.len() + 28]))),
            false => replies::error(403, "permission denied"),
        }
    })
}

fn user_of(server: &Scripted) -> User {
    User::new(&[("BAO_ADDR", &server.address())], "[vault.approle]\nrole-id = 'r'")
}

#[test]
fn exchanges_that_begin_together_share_one_login() {
    let server = gatekeeper(|_| true);
    let message = wrapping(KEY);
    let outcomes = user_of(&server).exchanges(&[&message, &message, &message]);
    assert!(outcomes.len() == 3 && outcomes.iter().all(Result::is_ok));
    assert_eq!(server.requests()[0].json(), json!({"role_id": "r"}), "a role need not have a secret id");
    let paths: Vec<_> = server.take_paths();
    assert_eq!(paths.iter().filter(|path| path.ends_with("/login")).count(), 1, "{paths:?}");
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), 2, "{paths:?}");
}

#[test]
fn refusals_do_not_make_a_login_each() {
    let server = gatekeeper(|_| false);
    let user = user_of(&server);
    let logins = || server.take_paths().iter().filter(|path| path.ends_with("/login")).count();
    assert!(user.try_wrap(KEY).is_err());
    assert_eq!(logins(), 1, "the token was new");
    assert!(user.try_wrap(KEY).is_err());
    assert_eq!(logins(), 1, "it may have been revoked");
    assert!(user.try_wrap(KEY).is_err());
    assert_eq!(logins(), 0, "the new one is refused too, so that is not the reason");
}

#[test]
fn a_refusal_that_no_login_helps_does_not_cost_the_token() {
    let bao = Bao::start();
    bao.run(&["write", "-f", "transit/keys/forbidden"]);
    let config = with_approle(&bao, &[], &["num_uses=1"]);
    let user = User::of(&bao, &[], &config);
    user.uses(KEY);
    let line = user.try_wrap("openbao://transit/forbidden").unwrap_err().line();
    assert!(line.contains("403 Forbidden: permission denied; check that the mount"), "{line}");
    user.uses(KEY);
}

#[test]
fn a_login_whose_answer_holds_no_token_is_told() {
    for body in ["", "{}", "{\"auth\":null}", "{\"auth\":{\"client_token\":\"\"}}", "{\"auth\":{\"client_token\":\"a b\\r\\n\"}}"] {
        let server = Scripted::start(move |_, _| Reply::new(200, body));
        let error = user_of(&server).try_wrap(KEY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}", error.line());
        assert!(error.line().contains("the login at auth/approle/login holds no token"), "{}", error.line());
    }
}

#[test]
fn a_login_that_is_too_slow_or_busy_is_told_within_the_deadline() {
    let slow = Scripted::start(|_, _| Reply::new(200, "{}").after(Duration::from_secs(4)));
    let busy = Scripted::start(|_, _| replies::error(503, "Vault is sealed"));
    for (server, says) in [(slow, "did not answer within"), (busy, "the login at auth/approle/login failed: Vault is sealed")] {
        let user = User::new(&[("BAO_ADDR", &server.address())], "deadline-seconds = 1\n[vault.approle]\nrole-id = 'r'");
        let error = user.try_wrap(KEY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.line().contains(says), "{}", error.line());
        assert!(server.take_paths().iter().all(|path| path == "/v1/auth/approle/login"), "no key is asked for without a token");
    }
}

#[test]
fn nothing_is_asked_before_a_key_is_used() {
    let server = gatekeeper(|_| true);
    let user = user_of(&server);
    assert!(user.try_wrap("local://k").is_err());
    assert!(server.take_paths().is_empty());
    user.wrap(KEY);
    assert_eq!(server.take_paths(), ["/v1/auth/approle/login", "/v1/transit/encrypt/k"]);
}

/// A server that obliges, behind what goes wrong on the way, and a user who logs in.
fn behind_a_proxy(server: &Scripted) -> (Proxy, User) {
    let proxy = Proxy::start(&server.address(), None);
    let user = User::new(&[("BAO_ADDR", &proxy.address())], "[vault.approle]\nrole-id = 'r'");
    (proxy, user)
}

#[test]
fn a_login_that_may_have_been_acted_upon_is_not_made_a_second_time() {
    let server = gatekeeper(|_| true);
    let broken = [Disturbance::HangUp, Disturbance::BrokenOff, Disturbance::Length(1 << 62)];
    for fault in broken.into_iter().chain([500, 502, 503, 504].map(Disturbance::Status)) {
        let (proxy, user) = behind_a_proxy(&server);
        proxy.disturb(fault.clone(), 1);
        let error = user.try_wrap(KEY).unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.line().starts_with(KEY), "{fault:?}: {}", error.line());
        assert_eq!(proxy.take_calls(), 1, "{fault:?}");
        user.wrap(KEY);
    }
}

#[test]
fn a_login_that_was_turned_away_is_made_again() {
    let server = gatekeeper(|_| true);
    for status in [412, 429] {
        let (proxy, user) = behind_a_proxy(&server);
        proxy.disturb(Disturbance::Status(status), 1);
        user.wrap(KEY);
        assert_eq!(proxy.take_calls(), 3, "{status}");
    }
}

#[test]
fn a_secret_id_of_one_use_is_not_wasted_on_a_connection_that_breaks() {
    let bao = Bao::start();
    let config = with_approle(&bao, &[], &["num_uses=1"]);
    let authority = std::fs::read_to_string(bao.authority()).unwrap();
    let proxy = Proxy::start(&bao.address(), Some(&authority));
    proxy.disturb(Disturbance::BrokenOff, 1);
    let user = User::new(&[("BAO_ADDR", &proxy.address())], &config).keeps_secret(&secret_of(&bao));
    let line = user.try_wrap(KEY).unwrap_err().line();
    assert!(line.contains("broke the connection"), "what happened is told, not that the secret id was used up: {line}");
    let line = user.try_wrap(KEY).unwrap_err().line();
    assert!(line.contains("a secret id can expire or be used up"), "{line}");
}
