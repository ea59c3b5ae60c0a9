//! What variables and the profile say of addresses and of certificate authorities, by the calls that come of it.

use std::sync::Arc;

use ocicrypt_kms_testing::certificates::Authority;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use serde_json::json;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::stage::{Program, SECRET};
use super::{ARN, uri};

fn answer() -> Reply {
    Reply::new(200, json!({"KeyId": ARN, "CiphertextBlob": "YWJj"}).to_string())
}

/// A user with an access key, and this in `~/.aws/config`.
fn user(config: &str) -> Program {
    let program = Program::new("").set("AWS_ACCESS_KEY_ID", "id").set("AWS_SECRET_ACCESS_KEY", SECRET);
    program.write(".aws/config", config);
    program.write(".config/ocicrypt-kms/config.toml", "deadline-seconds = 2\n");
    program
}

/// A proxy that connects nobody; it says whom somebody wanted to reach.
fn proxy() -> Scripted {
    Scripted::always(Reply::new(403, ""))
}

fn reached(proxy: &Scripted) -> Vec<String> {
    let mut hosts: Vec<_> = proxy.requests().iter().map(|request| request.path.split(' ').next().unwrap().to_owned()).collect();
    hosts.dedup();
    hosts
}

#[test]
fn the_profile_names_the_address() {
    let services = "[default]\nservices = local\nendpoint_url = https://127.0.0.1:1\n[services local]\nkms =\n  endpoint_url = ADDRESS\n";
    for config in ["[default]\nendpoint_url = ADDRESS\n", services] {
        let kms = Scripted::always(answer());
        user(&config.replace("ADDRESS", &kms.address())).wrap(&uri(ARN)).unwrap();
        assert_eq!(kms.requests().len(), 1, "{config}");
    }
}

#[test]
fn the_profiles_address_is_overridden_and_ignored() {
    let (kms, other) = (Scripted::always(answer()), Scripted::always(answer()));
    let config = format!("[default]\nendpoint_url = {}\n", other.address());
    user(&config).set("AWS_ENDPOINT_URL", kms.address()).wrap(&uri(ARN)).unwrap();
    let program = user(&config);
    program.write(".config/ocicrypt-kms/config.toml", &format!("[aws]\nendpoint = '{}'\n", kms.address()));
    program.wrap(&uri(ARN)).unwrap();
    let proxy = proxy();
    let program = user(&config).set("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true").set("HTTPS_PROXY", proxy.address());
    program.refusal(&uri(ARN));
    assert_eq!(reached(&proxy), ["kms.eu-central-1.amazonaws.com:443"]);
    assert_eq!((kms.requests().len(), other.requests().len()), (2, 0));
}

#[test]
fn fips_and_dual_stack_endpoints_are_used_by_variable_and_by_profile() {
    let (fips, dual) = (("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_USE_DUALSTACK_ENDPOINT", "true"));
    for (variables, lines, host) in [
        (&[fips][..], "", "kms-fips.eu-central-1.amazonaws.com:443"),
        (&[], "use_fips_endpoint = true", "kms-fips.eu-central-1.amazonaws.com:443"),
        (&[dual], "", "kms.eu-central-1.api.aws:443"),
        (&[dual], "use_fips_endpoint = true", "kms-fips.eu-central-1.api.aws:443"),
        (&[("AWS_USE_FIPS_ENDPOINT", "false")], "use_fips_endpoint = true", "kms.eu-central-1.amazonaws.com:443"),
    ] {
        let proxy = proxy();
        let program = user(&format!("[default]\n{lines}\n")).set("HTTPS_PROXY", proxy.address());
        variables.iter().fold(program, |program, (name, value)| program.set(name, value)).refusal(&uri(ARN));
        assert_eq!(reached(&proxy), [host], "{variables:?} {lines}");
    }
}

#[test]
fn the_token_service_is_asked_at_the_endpoint_of_the_same_kind() {
    for (lines, host) in [
        ("use_fips_endpoint = true", "sts-fips.us-east-2.amazonaws.com:443"),
        ("use_dualstack_endpoint = true", "sts.us-east-2.api.aws:443"),
        ("use_fips_endpoint = false", "sts.us-east-2.amazonaws.com:443"),
    ] {
        let proxy = proxy();
        let program = Program::new("").set("HTTPS_PROXY", proxy.address()).set("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/images");
        program.write(".aws/config", &format!("[default]\nregion = us-east-2\n{lines}\n"));
        program.write(".config/ocicrypt-kms/config.toml", "deadline-seconds = 2\n");
        let token = program.write("token", SECRET);
        program.set("AWS_WEB_IDENTITY_TOKEN_FILE", token).refusal(&uri("alias/team"));
        assert_eq!(reached(&proxy), [host], "{lines}");
    }
}

/// AWS KMS with a certificate of this authority.
pub fn with_certificate(authority: &Authority) -> Scripted {
    let issued = authority.server("localhost");
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    Scripted::with_tls(Arc::new(config), |_, _| answer())
}

#[test]
fn the_authorities_of_a_bundle_are_trusted() {
    let authority = Authority::new("team");
    let kms = with_certificate(&authority);
    let address = kms.address().replace("127.0.0.1", "localhost");
    let program = user("").set("AWS_ENDPOINT_URL_KMS", &address);
    let bundle = program.write("ca.pem", &authority.certificate());
    program.write(".aws/config", &format!("[default]\nca_bundle = {}\n", bundle.display()));
    program.wrap(&uri(ARN)).unwrap();
    program.write(".aws/config", "");
    program.set("AWS_CA_BUNDLE", bundle).wrap(&uri(ARN)).unwrap();
    assert_eq!(kms.requests().len(), 2);
}
