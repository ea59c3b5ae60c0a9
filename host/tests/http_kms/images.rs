//! Two components for OpenBao as if this program didn't know it: one in Rust, by the transit engine, one in Python, by a store of secrets.

use std::path::Path;

use ocicrypt_kms::Digest;
use ocicrypt_kms_fakes::cached;
use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::skopeo::{Skopeo, oci};
use ocicrypt_kms_testing::{guest, layout};
use serde_json::Value;

use super::stage::secret;

const KEY: &str = "provider:kmscrypt:http-kms://bao/k";
const TRANSIT: &str = r#"allow = [
    { usage = "wrap", method = "POST", path = "/v1/transit/encrypt/{key}" },
    { usage = "unwrap", method = "POST", path = "/v1/transit/decrypt/{key}" },
]"#;
const STORE: &str = r#"allow = [
    { usage = "wrap", method = "POST", path = "/v1/kv/{key}/*" },
    { usage = "unwrap", method = "GET", path = "/v1/kv/{key}/*" },
]"#;

/// skopeo, for whose key provider a component and an endpoint are configured.
struct Scene {
    skopeo: Skopeo,
    bao: Bao,
    digest: String,
}

impl Scene {
    fn new(component: &[u8], rules: &str, more: &str) -> Self {
        let (mut skopeo, bao) = (Skopeo::new(), Bao::start());
        let folder = skopeo.path("");
        layout::make(&skopeo.path("original"), 2);
        let file = folder.join("component.wasm");
        std::fs::write(&file, component).unwrap();
        let digest = Digest::of(component).to_string();
        // The token can do what the rules need and a little more, which the rules don't let through.
        let token =
            bao.token(r#"path "transit/*" { capabilities = ["update"] } path "kv/*" { capabilities = ["create", "read", "update"] }"#);
        let token = secret(&folder, "token", &token);
        let endpoint = format!(
            "[http-kms.bao]\nurl = \"{}\"\nca-file = {:?}\nheader = {{ name = 'x-vault-token', file = {token:?} }}\n{rules}",
            bao.address(),
            bao.authority()
        );
        let log = folder.join("audit.jsonl");
        let config = skopeo.write("config.toml", &format!("{more}\n{endpoint}\n[audit]\nfile = {log:?}\n"));
        let arguments = ["--config", text(&config), "--component", text(&file), "--component-sha256", &digest];
        skopeo.provider("kmscrypt", &arguments);
        Self { skopeo, bao, digest }
    }

    fn image(&self, name: &str) -> String {
        oci(&self.skopeo.path(name))
    }

    fn encrypts_and_decrypts(&self) {
        self.skopeo.encrypt(&self.image("original"), &self.image("encrypted"), &[KEY]);
        self.skopeo.decrypt(&self.image("encrypted"), &self.image("decrypted"), &[KEY]);
        let layers = |name: &str| layout::layers(&self.skopeo.path(name));
        assert!(layers("decrypted") == layers("original") && layers("encrypted") != layers("original"));
        assert_eq!(layout::config(&self.skopeo.path("decrypted")), layout::config(&self.skopeo.path("original")));
    }

    /// What is written down of requests, each once.
    fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.skopeo.path("audit.jsonl")).unwrap();
        assert!(!text.contains(ROOT));
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let uses = records.iter().filter(|record| record["event"] == "use");
        let mut requests: Vec<_> =
            uses.map(|record| format!("{} {} {}", record["request"].as_str().unwrap(), record["status"], record["outcome"])).collect();
        requests.dedup();
        requests
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn rust() -> Vec<u8> {
    guest::example("rust").to_owned()
}

fn python() -> Vec<u8> {
    std::fs::read(cached("guests/python-http.wasm")).unwrap_or_else(|error| panic!("{error}: run `tools/setup embed`"))
}

#[test]
fn a_component_in_rust_wraps_with_a_service_that_this_program_does_not_know() {
    let scene = Scene::new(&rust(), TRANSIT, "");
    scene.encrypts_and_decrypts();
    assert_eq!(scene.requests(), ["POST /v1/transit/encrypt/k 200 \"ok\"", "POST /v1/transit/decrypt/k 200 \"ok\""]);
}

#[test]
fn a_component_in_python_wraps_with_a_service_that_this_program_does_not_know_under_a_policy() {
    let component = python();
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.cedar");
    let digest = Digest::of(&component);
    let rule = format!(
        "permit (principal is Kms::User, action, resource in Kms::Folder::\"http-kms://bao/\") when {{ context.component == \"{digest}\" }};"
    );
    std::fs::write(&policy, rule).unwrap();
    let scene = Scene::new(&component, STORE, &format!("policy = {policy:?}"));
    scene.bao.run(&["secrets", "enable", "-version=1", "kv"]);
    scene.encrypts_and_decrypts();
    assert_eq!(scene.requests(), ["POST /v1/kv/k/* 204 \"ok\"", "GET /v1/kv/k/* 200 \"ok\""]);
    assert_eq!(scene.digest, digest.to_string());
    let refused = scene.skopeo.refused_encryption(&scene.image("original"), &["provider:kmscrypt:http-kms://other/k"]);
    assert!(refused.code == 4 && refused.line.contains("no rule of the policy permits it"), "{refused:?}");
}

#[test]
fn what_goes_wrong_is_told_to_skopeos_user_in_the_hosts_words() {
    let scene = Scene::new(&rust(), TRANSIT, "");
    scene.skopeo.encrypt(&scene.image("original"), &scene.image("encrypted"), &[KEY]);
    let refused = scene.skopeo.refused_encryption(&scene.image("original"), &["provider:kmscrypt:http-kms://elsewhere/k"]);
    assert_eq!(refused.code, 2);
    assert!(refused.line.contains("no endpoint `elsewhere` is configured; describe it below `[http-kms.elsewhere]`"), "{refused:?}");
    scene.bao.run(&["secrets", "disable", "transit"]);
    let refused = scene.skopeo.refused_decryption(&scene.image("encrypted"), &[KEY]);
    let start = "http-kms://bao/k: the KMS answered 404 Not Found: POST /v1/transit/decrypt/k; ";
    assert!(refused.code == 5 && refused.line.starts_with(start), "{refused:?}");
}

#[test]
fn the_built_in_component_says_which_keys_need_another_one() {
    let mut scene = Scene::new(&rust(), TRANSIT, "");
    scene.skopeo.provider("kmscrypt", &[]);
    let refused = scene.skopeo.refused_encryption(&scene.image("original"), &[KEY]);
    assert_eq!(refused.code, 2);
    assert!(refused.line.contains("does not know how to use keys behind an endpoint; run one that does"), "{refused:?}");
}

#[test]
fn doctor_tries_a_key_behind_an_endpoint() {
    let scene = Scene::new(&rust(), TRANSIT, "");
    let [config, component] = ["config.toml", "component.wasm"].map(|name| scene.skopeo.path(name));
    let arguments = ["--config", text(&config), "--component", text(&component), "--component-sha256", &scene.digest];
    let said = scene.skopeo.ocicrypt_kms(&[&arguments[..], &["doctor", "http-kms://bao/k"]].concat());
    assert!(said.contains("ok      http-kms://bao/k: a key was wrapped and unwrapped"), "{said}");
}

#[test]
fn component_info_says_what_such_a_component_reaches() {
    let scene = Scene::new(&rust(), TRANSIT, "");
    let said = scene.skopeo.ocicrypt_kms(&["component", "info", text(&scene.skopeo.path("component.wasm"))]);
    assert!(said.contains("kms-http@0.1.0: HTTP to endpoints of the configuration"), "{said}");
    assert!(said.contains("runs      yes, with --component"), "{said}");
}
