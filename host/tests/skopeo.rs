//! The program as skopeo's users have it: real images, real messages, errors as skopeo shows them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::layout;
use ocicrypt_kms_testing::program::{self, text_of};
use ocicrypt_kms_testing::registry::Registry;
use ocicrypt_kms_testing::skopeo::{Refusal, Skopeo, oci};
use serde_json::Value;

const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";
const KEY_URI: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";
const GCP: &str = "provider:kmscrypt:gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";
const LOCAL: &str = "provider:kmscrypt:local://team";
/// Names the provider, and no key of it.
const NO_KEY: &str = "provider:kmscrypt";
const ENCRYPTED: &str = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
/// Nothing listens there: a port of 1024 or above could be anybody's.
const NOBODY: &str = "http://127.0.0.1:1";

/// A user with an image, and the places where copies of it go.
struct Scene {
    skopeo: Skopeo,
}

impl Scene {
    /// With the local key `team`.
    fn new(layers: usize) -> Self {
        let scene = Self { skopeo: Skopeo::new() };
        scene.skopeo.keygen("team");
        layout::make(&scene.folder("original"), layers);
        scene
    }

    /// With a fake of Cloud KMS that asks for access tokens, and credentials for it where the original's `-adc` says.
    fn with_cloud_kms(layers: usize) -> (Self, FakeGcp) {
        let mut scene = Self::new(layers);
        let fake = FakeGcp::start();
        fake.add_key(KEY);
        fake.require_auth(true);
        let credentials = fake.authorized_user_file(&scene.folder(""));
        scene.skopeo.provider("kmscrypt", &["-adc", text(&credentials)]);
        scene.cloud_kms_at(&fake.endpoint());
        (scene, fake)
    }

    fn cloud_kms_at(&mut self, endpoint: &str) {
        self.skopeo.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", endpoint);
    }

    /// From now on the user has this keystore, which may be an empty one.
    fn keystore(&mut self, name: &str) {
        let folder = self.folder(name);
        self.skopeo.set("OCICRYPT_KMS_KEYSTORE", folder);
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.skopeo.path(name)
    }

    fn image(&self, name: &str) -> String {
        oci(&self.folder(name))
    }

    /// Encrypts the original, and checks that nothing of its layers is left to read.
    #[track_caller]
    fn encrypt(&self, keys: &[&str]) {
        self.skopeo.encrypt(&self.image("original"), &self.image("encrypted"), keys);
        let (original, encrypted) = (layout::layers(&self.folder("original")), layout::layers(&self.folder("encrypted")));
        assert_eq!(encrypted.len(), original.len());
        for (encrypted, original) in encrypted.iter().zip(&original) {
            assert_eq!(encrypted.media_type, ENCRYPTED);
            assert_ne!(encrypted.blob, original.blob);
        }
    }

    /// Decrypts what [`Scene::encrypt`] made, and checks that it is the original.
    #[track_caller]
    fn decrypt(&self, keys: &[&str]) {
        // skopeo takes layers that are there already, so every copy gets a folder of its own.
        let to = tempfile::tempdir().expect("a folder");
        self.skopeo.decrypt(&self.image("encrypted"), &oci(to.path()), keys);
        self.assert_original(to.path());
    }

    #[track_caller]
    fn assert_original(&self, folder: &Path) {
        let original = self.folder("original");
        assert!(layout::layers(folder) == layout::layers(&original), "the decrypted layers are not the original's");
        assert_eq!(layout::config(folder), layout::config(&original));
    }

    /// What the program says to a failed encryption.
    fn refused_encryption(&self, key: &str) -> Refusal {
        self.skopeo.refused_encryption(&self.image("original"), &[key])
    }

    /// What the program says to a failed decryption.
    fn refused_decryption(&self, key: &str) -> Refusal {
        self.skopeo.refused_decryption(&self.image("encrypted"), &[key])
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn an_image_encrypted_with_a_local_key_decrypts_to_the_same_layers() {
    let scene = Scene::new(3);
    scene.encrypt(&[LOCAL]);
    for layer in layout::layers(&scene.folder("encrypted")) {
        assert_eq!(layer.schemes, ["provider.kmscrypt"]);
    }
    scene.decrypt(&[LOCAL]);
}

#[test]
fn an_image_encrypted_with_cloud_kms_decrypts_to_the_same_layers() {
    let (scene, fake) = Scene::with_cloud_kms(3);
    scene.encrypt(&[GCP]);
    scene.decrypt(&[GCP]);
    let verbs: Vec<_> = fake.kms_requests().iter().map(|request| request.path.rsplit_once(':').expect("a verb").1.to_owned()).collect();
    assert_eq!(verbs, ["encrypt", "encrypt", "encrypt", "decrypt", "decrypt", "decrypt"]);
}

#[test]
fn twenty_layers_are_encrypted_and_decrypted() {
    let scene = Scene::new(20);
    scene.encrypt(&[LOCAL]);
    scene.decrypt(&[LOCAL]);
}

#[test]
fn skopeo_names_no_key_as_enabled_and_the_annotation_chooses() {
    let mut scene = Scene::new(2);
    scene.encrypt(&[LOCAL]);
    scene.skopeo.record_messages();
    scene.decrypt(&[NO_KEY]);
    let messages = scene.skopeo.messages();
    assert_eq!(messages.len(), 2);
    for message in messages {
        assert_eq!(message["keyunwrapparams"]["dc"]["Parameters"]["kmscrypt"], serde_json::json!([bytes::encode(b"Enabled")]));
    }
}

#[test]
fn the_annotation_chooses_cloud_kms_keys_too() {
    let (scene, _fake) = Scene::with_cloud_kms(1);
    scene.encrypt(&[GCP]);
    scene.decrypt(&[NO_KEY]);
}

#[test]
fn of_two_recipients_either_decrypts_alone() {
    let mut scene = Scene::new(2);
    let alices_keys = scene.folder("keys");
    scene.skopeo.keygen("alice");
    scene.skopeo.keygen("bob");
    scene.encrypt(&["provider:kmscrypt:local://alice", "provider:kmscrypt:local://bob"]);

    scene.keystore("bobs");
    std::fs::create_dir(scene.folder("bobs")).expect("a folder");
    std::fs::rename(alices_keys.join("bob.jwks"), scene.folder("bobs/bob.jwks")).expect("the key can be moved");
    scene.decrypt(&["provider:kmscrypt:local://bob"]);
    scene.decrypt(&[NO_KEY]);
    scene.keystore("keys");
    scene.decrypt(&["provider:kmscrypt:local://alice"]);
    scene.decrypt(&[NO_KEY]);
}

#[test]
fn a_local_key_and_a_cloud_kms_key_each_decrypt_alone() {
    let (mut scene, fake) = Scene::with_cloud_kms(1);
    scene.encrypt(&[GCP, LOCAL]);
    scene.keystore("none");
    scene.decrypt(&[GCP]);
    scene.decrypt(&[NO_KEY]);
    scene.keystore("keys");
    fake.deny(KEY);
    scene.decrypt(&[LOCAL]);
    scene.decrypt(&[NO_KEY]); // the Cloud KMS key is tried first, and refused
}

#[test]
fn a_rotated_local_key_still_decrypts_what_its_older_version_encrypted() {
    let scene = Scene::new(1);
    scene.encrypt(&[LOCAL]);
    scene.skopeo.ocicrypt_kms(&["keygen", "--rotate", "team"]);
    scene.decrypt(&[LOCAL]);
    let older = scene.skopeo.ocicrypt_kms(&["inspect", &scene.image("encrypted")]);
    std::fs::remove_dir_all(scene.folder("encrypted")).expect("the image can be removed");
    scene.encrypt(&[LOCAL]);
    scene.decrypt(&[LOCAL]);
    let newer = scene.skopeo.ocicrypt_kms(&["inspect", &scene.image("encrypted")]);
    let kid = |shown: &str| shown.split_once("kid=").expect("a version").1.to_owned();
    assert_ne!(kid(&older), kid(&newer));
}

#[test]
fn an_encryption_context_that_was_given_must_be_given_again() {
    let scene = Scene::new(1);
    scene.encrypt(&["provider:kmscrypt:local://team?context_stage=production"]);
    scene.decrypt(&["provider:kmscrypt:local://team?context_stage=production"]);
    scene.decrypt(&[LOCAL]); // names the key; the packet's own context is sent
    assert_eq!(scene.refused_decryption("provider:kmscrypt:local://team?context_stage=test").code, 3);
}

#[test]
fn the_providers_name_is_whatever_ocicrypt_json_says() {
    let mut scene = Scene::new(1);
    scene.skopeo.provider("my-keys", &[]);
    scene.encrypt(&["provider:my-keys:local://team"]);
    assert_eq!(layout::layers(&scene.folder("encrypted"))[0].schemes, ["provider.my-keys"]);
    scene.decrypt(&["provider:my-keys:local://team"]);
    scene.decrypt(&["provider:my-keys"]);
}

#[test]
fn the_originals_flags_stay_in_the_arguments() {
    let (mut scene, fake) = Scene::with_cloud_kms(1);
    let credentials = scene.folder("authorized-user.json");
    let log = scene.folder("debug.log");
    scene.skopeo.provider("kmscrypt", &["-adc", text(&credentials), "--kmsURI", KEY_URI, "--debugLog", text(&log)]);
    scene.encrypt(&[NO_KEY]);
    scene.decrypt(&[NO_KEY]);
    assert_eq!(fake.kms_requests().len(), 2);

    let log = std::fs::read_to_string(&log).expect("a log");
    assert!(log.contains(KEY_URI), "{log}");
    for secret in fake.secrets() {
        assert!(!log.contains(&secret), "the log holds a secret: {log}");
    }
}

#[test]
fn the_flag_for_the_key_takes_the_place_of_the_one_that_the_client_names() {
    let mut scene = Scene::new(1);
    scene.skopeo.keygen("other");
    scene.skopeo.provider("kmscrypt", &["-kmsURI=local://team"]);
    scene.encrypt(&["provider:kmscrypt:local://other"]);
    scene.skopeo.provider("kmscrypt", &[]);
    scene.decrypt(&[LOCAL]);
}

#[test]
fn a_client_that_names_no_key_gets_the_configured_recipients() {
    let mut scene = Scene::new(1);
    let config = scene.skopeo.write("config.toml", "default-recipients = ['local://team']");
    scene.skopeo.provider("kmscrypt", &["--config", text(&config)]);
    scene.encrypt(&[NO_KEY]);
    scene.decrypt(&[LOCAL]);
}

#[test]
fn the_ready_ocicrypt_json_finds_the_program_on_the_path() {
    let mut scene = Scene::new(1);
    let ready = checkout::path("example/ocicrypt.json");
    let mut folders = vec![Path::new(program::path()).parent().expect("a folder").to_owned()];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").expect("a path")));
    scene.skopeo.set("OCICRYPT_KEYPROVIDER_CONFIG", ready);
    scene.skopeo.set("PATH", std::env::join_paths(folders).expect("a path"));
    scene.encrypt(&[LOCAL]);
    scene.decrypt(&[LOCAL]);
}

/// An RSA key pair that has nothing to do with this program.
fn rsa_key(scene: &Scene, name: &str) -> (String, String) {
    let private = scene.folder(&format!("{name}.key"));
    let public = scene.folder(&format!("{name}.pub"));
    text_of(Command::new("openssl").args(["genrsa", "-out"]).arg(&private).arg("2048"));
    text_of(Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public));
    (text(&private).to_owned(), text(&public).to_owned())
}

#[test]
fn keys_of_another_scheme_stand_beside_the_providers() {
    let scene = Scene::new(2);
    let (private, public) = rsa_key(&scene, "alice");
    scene.encrypt(&[LOCAL, &format!("jwe:{public}")]);
    for layer in layout::layers(&scene.folder("encrypted")) {
        assert_eq!(BTreeSet::from_iter(layer.schemes), BTreeSet::from(["jwe".to_owned(), "provider.kmscrypt".to_owned()]));
    }
    scene.decrypt(&[LOCAL]);
    scene.decrypt(&[NO_KEY]);
    scene.decrypt(&[&private]);
}

#[test]
fn another_schemes_private_key_arrives_with_the_message_and_goes_nowhere() {
    let mut scene = Scene::new(1);
    let (_, public) = rsa_key(&scene, "alice");
    // A key that opens nothing: skopeo tries schemes in any order, and has to come to this program.
    let (private, _) = rsa_key(&scene, "mallory");
    scene.encrypt(&[LOCAL, &format!("jwe:{public}")]);

    scene.skopeo.record_messages();
    scene.decrypt(&[&private, LOCAL]);
    let messages = scene.skopeo.messages();
    assert_eq!(sent_private_keys(&messages), 1, "skopeo sends what this test is about");

    let log = scene.folder("debug.log");
    scene.skopeo.provider("kmscrypt", &["--debugLog", text(&log)]);
    scene.decrypt(&[&private, LOCAL]);
    let log = std::fs::read_to_string(&log).expect("a log");
    assert!(log.contains("local://team"), "{log}");
    for line in std::fs::read_to_string(&private).expect("a key").lines() {
        assert!(!log.contains(line) && !log.contains(&bytes::encode(line.as_bytes())), "the log holds the private key: {log}");
    }
}

/// How many of the messages hold private keys of another scheme.
fn sent_private_keys(messages: &[Value]) -> usize {
    messages.iter().filter(|message| message["keyunwrapparams"]["dc"]["Parameters"]["privkeys"].is_array()).count()
}

#[test]
fn an_image_goes_encrypted_through_a_registry() {
    let scene = Scene::new(3);
    let registry = Registry::start();
    let certificates = registry.certificates();
    let (to, from) = (["--dest-cert-dir", text(&certificates)], ["--src-cert-dir", text(&certificates)]);
    let remote = registry.image("demo/image");

    scene.skopeo.copy(&scene.image("original"), &remote, &[&to[..], &["--encryption-key", LOCAL]].concat());
    scene.skopeo.copy(&remote, &scene.image("pulled"), &from);
    for layer in layout::layers(&scene.folder("pulled")) {
        assert_eq!(layer.media_type, ENCRYPTED);
    }
    scene.skopeo.copy(&remote, &scene.image("decrypted"), &[&from[..], &["--decryption-key", LOCAL]].concat());
    scene.assert_original(&scene.folder("decrypted"));
}

// What skopeo's user sees of a failure: one line of this program's, inside skopeo's own.

#[test]
fn a_second_key_does_not_decrypt() {
    let scene = Scene::new(2);
    scene.skopeo.keygen("other");
    scene.encrypt(&[LOCAL]);
    scene.refused_decryption("provider:kmscrypt:local://other").assert(
        3,
        "no packet is for the key asked for: the annotation is for local://team",
        "name a key, with the context, that the image was encrypted for; `ocicrypt-kms inspect` lists them",
    );
}

#[test]
fn another_key_of_the_same_name_does_not_decrypt() {
    let mut scene = Scene::new(1);
    scene.encrypt(&[LOCAL]);
    scene.keystore("others");
    scene.skopeo.keygen("team");
    for key in [LOCAL, NO_KEY] {
        let refused = scene.refused_decryption(key);
        assert!(refused.line.starts_with("local://team: the keystore has no version `"), "{refused:?}");
        assert!(refused.line.contains("the packet was made with another key of this name"), "{refused:?}");
        assert_eq!(refused.code, 5);
    }
}

#[test]
fn a_missing_local_key_is_named_with_its_keystore() {
    let mut scene = Scene::new(1);
    scene.encrypt(&[LOCAL]);
    scene.keystore("none");
    let keystore = scene.folder("none");
    for key in [LOCAL, NO_KEY] {
        let refused = scene.refused_decryption(key);
        let sentence = format!("local://team: there is no such key in the keystore {}; ", text(&keystore));
        assert!(refused.line.starts_with(&sentence) && refused.line.contains("OCICRYPT_KMS_KEYSTORE"), "{refused:?}");
        assert_eq!(refused.code, 5);
    }
}

#[test]
fn a_key_that_only_the_image_names_is_not_lent_against_the_configuration() {
    let mut scene = Scene::new(1);
    scene.encrypt(&[LOCAL]);
    let config = scene.skopeo.write("config.toml", "keys = ['local://other']");
    scene.skopeo.provider("kmscrypt", &["--config", text(&config)]);
    scene.refused_decryption(NO_KEY).assert(
        4,
        "local://team is not lent for unwrap: only the image names it, and the configured `keys` don't list it",
        "if images may choose this key, add `local://team` to `keys` in the configuration",
    );
    scene.decrypt(&[LOCAL]);
}

#[test]
fn a_denied_cloud_kms_key_is_named_with_the_role_that_is_missing() {
    let (scene, fake) = Scene::with_cloud_kms(1);
    scene.encrypt(&[GCP]);
    fake.deny(KEY);
    let denied = |permission: &str| {
        let message = format!("Permission 'cloudkms.cryptoKeyVersions.{permission}' denied on resource '{KEY}' (or it may not exist)");
        format!("{KEY_URI}: the KMS answered 403 PERMISSION_DENIED: {message}")
    };
    scene.refused_decryption(GCP).assert(
        5,
        &denied("useToDecrypt"),
        "grant roles/cloudkms.cryptoKeyDecrypter on the key to the caller, who lacks the permission to decrypt",
    );
    scene.refused_encryption(GCP).assert(
        5,
        &denied("useToEncrypt"),
        "grant roles/cloudkms.cryptoKeyEncrypter on the key to the caller, who lacks the permission to encrypt",
    );
}

#[test]
fn an_unreachable_cloud_kms_is_named() {
    let (mut scene, fake) = Scene::with_cloud_kms(1);
    scene.encrypt(&[GCP]);
    // Short, so that the test doesn't wait for all repetitions.
    let config = scene.skopeo.write("config.toml", "deadline-seconds = 1");
    let credentials = fake.authorized_user_file(&scene.folder(""));
    scene.skopeo.provider("kmscrypt", &["--config", text(&config), "-adc", text(&credentials)]);
    scene.cloud_kms_at(NOBODY);
    for refused in [scene.refused_decryption(GCP), scene.refused_encryption(GCP)] {
        let sentence = format!("{KEY_URI}: 127.0.0.1:1 can't be reached: Connection refused (os error 111)");
        refused.assert(6, &sentence, "check the network and the service's address, then try again");
    }
}

#[test]
fn an_encryption_without_a_key_says_how_to_name_one() {
    Scene::new(1).refused_encryption(NO_KEY).assert(
        2,
        "no key to wrap with was named for the provider `kmscrypt`",
        "name one with --encryption-key provider:kmscrypt:KEY_URI, or set `default-recipients` in the configuration",
    );
}

#[test]
fn a_misspelled_key_uri_says_which_schemes_there_are() {
    let refused = Scene::new(1).refused_encryption("provider:kmscrypt:gcpkm://projects/p");
    assert!(refused.line.contains("gcpkm") && refused.line.contains("gcpkms://"), "{refused:?}");
    assert_eq!(refused.code, 2);
}
