//! Images that are encrypted for keys of several services, by skopeo: each service decrypts them without the others.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use ocicrypt_kms_fakes::azure::FakeAzure;
use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::azure_cli;
use ocicrypt_kms_testing::bao::Bao;
use ocicrypt_kms_testing::layout;
use ocicrypt_kms_testing::moto::{Moto, REGION};
use ocicrypt_kms_testing::skopeo::{Skopeo, oci};

const GCP_KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";

/// A service with one key, and what its users have to set.
struct Service {
    uri: String,
    variables: Vec<(&'static str, OsString)>,
    configuration: String,
}

/// The servers, which stop when this is dropped.
struct Servers {
    gcp: FakeGcp,
    aws: Moto,
    azure: FakeAzure,
    bao: Bao,
    folder: tempfile::TempDir,
}

impl Servers {
    fn start() -> Self {
        let (gcp, azure) = (FakeGcp::start(), FakeAzure::start());
        gcp.require_auth(true);
        Self { gcp, aws: Moto::start(), azure, bao: Bao::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn services(&self) -> [Service; 4] {
        [self.gcp(), self.aws(), self.azure(), self.vault()]
    }

    fn gcp(&self) -> Service {
        self.gcp.add_key(GCP_KEY);
        let credentials = self.gcp.authorized_user_file(self.folder.path());
        Service {
            uri: format!("gcpkms://{GCP_KEY}"),
            variables: vec![
                ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", self.gcp.endpoint().into()),
                ("GOOGLE_APPLICATION_CREDENTIALS", credentials.into()),
            ],
            configuration: String::new(),
        }
    }

    fn aws(&self) -> Service {
        Service {
            uri: format!("awskms:///{}", self.aws.symmetric_key()),
            variables: vec![
                ("AWS_ENDPOINT_URL_KMS", self.aws.endpoint.clone().into()),
                ("AWS_REGION", REGION.into()),
                ("AWS_ACCESS_KEY_ID", "id".into()),
                ("AWS_SECRET_ACCESS_KEY", "secret".into()),
            ],
            configuration: String::new(),
        }
    }

    fn azure(&self) -> Service {
        self.azure.add_key("https://team.vault.azure.net/keys/k");
        let token = self.azure.issue_token("https://vault.azure.net");
        azure_cli::log_in(self.folder.path(), "vault", &token, Duration::from_secs(3600));
        // The Azure CLI's stand-in of the tests comes first.
        let mut path = OsString::from(azure_cli::FOLDER);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        Service {
            uri: "azurekms://team.vault.azure.net/k".into(),
            variables: vec![
                ("PATH", path),
                ("AZ_FOLDER", self.folder.path().into()),
                ("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential".into()),
            ],
            configuration: format!("[azure]\nendpoint = \"{}\"\n", self.azure.endpoint()),
        }
    }

    fn vault(&self) -> Service {
        self.bao.run(&["write", "transit/keys/k", "type=aes256-gcm96"]);
        self.bao.policy("may", "path \"transit/+/k\" { capabilities = [\"update\"] }");
        let token = self.bao.run(&["token", "create", "-no-default-policy", "-field=token", "-policy=may"]);
        Service {
            uri: "openbao://transit/k".into(),
            variables: vec![
                ("BAO_ADDR", self.bao.address().into()),
                ("BAO_CACERT", self.bao.authority().into()),
                ("BAO_TOKEN", token.into()),
            ],
            configuration: String::new(),
        }
    }
}

/// A user of these services and no others.
fn user(services: &[&Service]) -> Skopeo {
    let mut skopeo = Skopeo::new();
    let configuration: String = services.iter().map(|service| service.configuration.as_str()).collect();
    let file = skopeo.write("config.toml", &configuration);
    skopeo.set("OCICRYPT_KMS_CONFIG", file);
    skopeo.set("AWS_EC2_METADATA_DISABLED", "true");
    for (name, value) in services.iter().flat_map(|service| &service.variables) {
        skopeo.set(name, value.clone());
    }
    skopeo
}

fn decrypts(user: &Skopeo, encrypted: &Path, parameter: &str) -> bool {
    let decrypted = user.path("decrypted");
    user.decrypt(&oci(encrypted), &oci(&decrypted), &[parameter]);
    let original = encrypted.with_file_name("original");
    layout::layers(&decrypted).iter().map(|layer| &layer.blob).eq(layout::layers(&original).iter().map(|layer| &layer.blob))
}

#[test]
fn an_image_for_keys_of_four_services_is_decrypted_by_each_of_them_alone() {
    let servers = Servers::start();
    let services = servers.services();
    let builder = user(&services.each_ref());
    let [original, encrypted] = ["original", "encrypted"].map(|name| builder.path(name));
    layout::make(&original, 2);
    let parameter = |service: &Service| format!("provider:kmscrypt:{}", service.uri);
    let all = services.each_ref().map(parameter);
    builder.encrypt(&oci(&original), &oci(&encrypted), &all.each_ref().map(String::as_str));
    for service in &services {
        assert!(decrypts(&user(&[service]), &encrypted, &parameter(service)), "{}", service.uri);
    }
    let refusal = user(&[]).refused_decryption(&oci(&encrypted), &["provider:kmscrypt:local://team"]);
    assert!(services.iter().all(|service| refusal.line.contains(&service.uri)), "{}", refusal.line);
}

#[test]
fn an_image_for_a_key_of_one_service_is_decrypted_with_it() {
    let servers = Servers::start();
    for service in servers.services() {
        let (user, parameter) = (user(&[&service]), format!("provider:kmscrypt:{}", service.uri));
        let [original, encrypted] = ["original", "encrypted"].map(|name| user.path(name));
        layout::make(&original, 3);
        user.encrypt(&oci(&original), &oci(&encrypted), &[&parameter]);
        assert!(decrypts(&user, &encrypted, &parameter), "{}", service.uri);
    }
}
