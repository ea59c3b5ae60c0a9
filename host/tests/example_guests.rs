//! The guests of `example/guests` in place of the built-in component, as skopeo's users have them: real images, packets of the guest's own
//! format, and nothing of WASI granted (`other_components` shows that there is nothing to be had).

use std::path::PathBuf;

use ocicrypt_kms::Digest;
use ocicrypt_kms_fakes::cached;
use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::layout;
use ocicrypt_kms_testing::skopeo::{Refusal, Skopeo, oci};
use serde_json::Value;

const LAYERS: usize = 3;

/// A user of skopeo whose key provider runs a guest from a file.
struct Scene {
    skopeo: Skopeo,
    guest: PathBuf,
    digest: String,
    /// The key's URI.
    key: &'static str,
}

impl Scene {
    /// The guest of this name, with a key that it can use.
    fn new(guest: &str, key: &'static str) -> Self {
        let guest = cached(&format!("guests/{guest}.wasm"));
        let component = std::fs::read(&guest).unwrap_or_else(|error| panic!("{}: {error}; run `tools/setup embed`", guest.display()));
        let mut scene = Self { skopeo: Skopeo::new(), guest, digest: Digest::of(&component).to_string(), key };
        layout::make(&scene.skopeo.path("original"), LAYERS);
        scene.configure("");
        scene.run_with(&scene.digest.clone());
        scene
    }

    /// The configuration: an audit log, and this.
    fn configure(&self, settings: &str) {
        self.skopeo.write("config.toml", &format!("{settings}\n[audit]\nfile = '{}'\n", self.text("audit.log")));
    }

    /// From now on the program is started with this digest.
    fn run_with(&mut self, digest: &str) {
        let (config, log, guest) = (self.text("config.toml"), self.text("debug.log"), self.guest.display().to_string());
        let flags = ["--config", &config, "--debugLog", &log, "--component", &guest, "--component-sha256", digest];
        self.skopeo.provider("kmscrypt", &flags);
    }

    fn text(&self, name: &str) -> String {
        self.skopeo.path(name).display().to_string()
    }

    fn image(&self, name: &str) -> String {
        oci(&self.skopeo.path(name))
    }

    fn parameter(&self) -> String {
        format!("provider:kmscrypt:{}", self.key)
    }

    /// Encrypts and decrypts the image, and gives the packet of each layer.
    #[track_caller]
    fn round_trip(&self) -> Vec<Value> {
        self.skopeo.encrypt(&self.image("original"), &self.image("encrypted"), &[&self.parameter()]);
        let packets = layout::annotations(&self.skopeo.path("encrypted"), "provider.kmscrypt");
        let packets: Vec<Value> = packets.iter().map(|packet| serde_json::from_slice(packet).expect("one packet, in JSON")).collect();
        assert_eq!(packets.len(), LAYERS);
        self.skopeo.decrypt(&self.image("encrypted"), &self.image("decrypted"), &[&self.parameter()]);
        let (original, decrypted) = (layout::layers(&self.skopeo.path("original")), layout::layers(&self.skopeo.path("decrypted")));
        assert!(original == decrypted, "the decrypted layers are not the original's");
        assert!(
            layout::layers(&self.skopeo.path("encrypted"))
                .iter()
                .zip(&original)
                .all(|(encrypted, original)| encrypted.blob != original.blob)
        );
        packets
    }

    fn refused_encryption(&self) -> Refusal {
        self.skopeo.refused_encryption(&self.image("original"), &[&self.parameter()])
    }

    /// skopeo starts the program for each layer, several times at once; all but the first find compiled code.
    #[track_caller]
    fn assert_compiled_once(&self) {
        let log = std::fs::read_to_string(self.skopeo.path("debug.log")).expect("a log");
        let (starts, compiled) = (log.matches(" start ").count(), log.matches(" compiling the component ").count());
        assert!(starts >= 2 * LAYERS && compiled == 1, "of {starts} processes, {compiled} compiled: {log}");
    }

    /// The audit log names this component, and it alone, in each use of the key.
    #[track_caller]
    fn assert_audited(&self) {
        let log = std::fs::read_to_string(self.skopeo.path("audit.log")).expect("a log");
        let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        for operation in ["wrap", "unwrap"] {
            let is_use = |record: &&Value| record["event"] == "use" && record["operation"] == operation && record["outcome"] == "ok";
            assert_eq!(records.iter().filter(is_use).filter(|record| record["key"] == self.key).count(), LAYERS, "{log}");
        }
        assert!(records.iter().all(|record| record["component"] == self.digest.as_str()), "{log}");
        self.skopeo.ocicrypt_kms(&["audit", "verify", &self.text("audit.log")]);
    }
}

#[test]
fn the_guest_in_javascript_encrypts_and_decrypts_an_image_with_a_key_that_wraps_keys() {
    let mut scene = Scene::new("javascript", "local://team");
    scene.skopeo.keygen("team");
    for packet in scene.round_trip() {
        assert_eq!((&packet["kid"], &packet["wrap_type"]), (&"local://team".into(), &"A256GCM".into()));
        assert!(["wrapped_data", "iv", "wrapped_key", "header"].iter().all(|member| packet[member].is_string()), "{packet}");
    }
    scene.assert_compiled_once();
    scene.assert_audited();
    // The built-in component doesn't read such packets.
    scene.skopeo.provider("kmscrypt", &[]);
    assert_eq!(scene.skopeo.refused_decryption(&scene.image("encrypted"), &[&scene.parameter()]).code, 2);
    // skopeo's user sees both digests of a component that isn't the approved one.
    let wrong = Digest::of(b"another").to_string();
    scene.run_with(&wrong);
    let refused = scene.refused_encryption();
    assert!(refused.code == 2 && refused.line.contains(&format!("its SHA-256 digest is {}, not {wrong};", scene.digest)), "{refused:?}");
}

#[test]
fn the_guest_in_python_encrypts_and_decrypts_an_image_under_a_policy_that_pins_it() {
    let bao = Bao::start();
    let mut scene = Scene::new("python", "openbao://transit/k");
    scene.configure(&format!("policy = '{}'", scene.text("policy.cedar")));
    for (name, value) in [("BAO_ADDR", bao.address()), ("BAO_CACERT", bao.authority().display().to_string()), ("BAO_TOKEN", ROOT.into())] {
        scene.skopeo.set(name, value);
    }
    let pin = |scene: &Scene, digest: &str| {
        let rule = r#"@id("approved") permit (principal, action, resource == Kms::Key::"openbao://transit/k")"#;
        scene.skopeo.write("policy.cedar", &format!("{rule}\nwhen {{ context.component == \"{digest}\" }};\n"));
    };
    pin(&scene, &scene.digest);
    for packet in scene.round_trip() {
        assert_eq!((&packet["kid"], &packet["wrap_type"], &packet["iv"]), (&"openbao://transit/k".into(), &"kms".into(), &"".into()));
        let data = ocicrypt_kms::protocol::bytes::decode(packet["wrapped_data"].as_str().expect("text")).expect("base64");
        assert!(data.starts_with(b"vault:v1:"), "the service's own ciphertext");
    }
    scene.assert_compiled_once();
    scene.assert_audited();
    // A policy for another component denies this one its keys, whatever the flag promises.
    pin(&scene, &Digest::of(b"another").to_string());
    let refused = scene.refused_encryption();
    assert!(refused.code == 4 && refused.line.contains("openbao://transit/k"), "{refused:?}");
    scene.configure("");
    scene.run_with(&Digest::of(b"another").to_string());
    let refused = scene.refused_encryption();
    assert!(refused.code == 2 && refused.line.contains(&format!("its SHA-256 digest is {}, not ", scene.digest)), "{refused:?}");
}
