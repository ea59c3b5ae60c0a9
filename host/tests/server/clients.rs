//! skopeo, by way of a `grpc` entry in ocicrypt.json.

use ocicrypt_kms_testing::layout;
use ocicrypt_kms_testing::skopeo::{Skopeo, oci};

use super::serving::{Serving, socket, user};

const TEAM: &str = "provider:grpc-keyprovider:local://team";
const NO_KEY: &str = "provider:grpc-keyprovider";

#[test]
fn skopeo_encrypts_and_decrypts_an_image_of_twenty_layers_by_a_server() {
    let user = user();
    let server = Serving::on_socket(&user);
    let mut skopeo = Skopeo::new();
    skopeo.server("grpc-keyprovider", &socket(&user).1);
    let [original, encrypted, decrypted] = ["original", "encrypted", "decrypted"].map(|name| skopeo.path(name));
    layout::make(&original, 20);
    skopeo.encrypt(&oci(&original), &oci(&encrypted), &[TEAM]);
    assert!(layout::layers(&encrypted).iter().all(|layer| layer.schemes.contains(&"provider.grpc-keyprovider".to_owned())));
    skopeo.decrypt(&oci(&encrypted), &oci(&decrypted), &[NO_KEY]);
    assert!(layout::layers(&decrypted) == layout::layers(&original));
    assert!(server.logged().iter().filter(|line| line["message"] == "done").count() >= 40);
}

#[test]
fn skopeo_shows_its_user_what_the_server_refused() {
    let user = user();
    user.write("config.toml", "keys = [\"local://other\"]\n");
    let _server = Serving::on_socket(&user);
    let mut skopeo = Skopeo::new();
    skopeo.server("grpc-keyprovider", &socket(&user).1);
    let original = skopeo.path("original");
    layout::make(&original, 1);
    let errors = skopeo.failed(&oci(&original), &["--encryption-key", TEAM]);
    assert!(errors.contains("code = PermissionDenied"), "{errors}");
    assert!(errors.contains("add `local://team` to `keys` in the configuration, and restart the server"), "{errors}");
}
