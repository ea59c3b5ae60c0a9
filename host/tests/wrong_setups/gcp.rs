//! Google Cloud KMS.

use std::path::PathBuf;

use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::messages::{annotation_of, unwrapping, wrapping};
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use serde_json::{Value, json};

use crate::gcp::program::Program;
use crate::gcp::{KEY, uri};

/// How a user's set-up is changed. What is returned is the credential file for `--adc`, if any.
type Change = fn(&mut Setup) -> Option<PathBuf>;

/// A user who does everything right, to begin with.
struct Setup {
    program: Program,
    /// The key that is named.
    key: String,
    /// A service that says what the fake can't be made to say.
    scripted: Option<Scripted>,
}

impl Setup {
    fn new() -> Self {
        let program = Program::new();
        program.configure("deadline-seconds = 5");
        Self { program, key: uri(KEY), scripted: None }
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.program.change(name, value);
    }

    fn fake(&self) -> &FakeGcp {
        &self.program.fake
    }

    fn user(&self) -> PathBuf {
        self.fake().authorized_user_file(self.program.home())
    }

    fn account(&self) -> PathBuf {
        self.fake().service_account_file(self.program.home())
    }

    fn federated(&self) -> PathBuf {
        self.fake().external_account_file_sourced(self.program.home())
    }

    /// The file with a member that is another.
    fn changed(&self, file: PathBuf, change: impl FnOnce(&mut Value)) -> Option<PathBuf> {
        let mut json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut json);
        std::fs::write(&file, json.to_string()).unwrap();
        Some(file)
    }

    /// A credential file that is wrong.
    fn written(&self, text: impl AsRef<[u8]>) -> Option<PathBuf> {
        Some(self.program.write("credentials.json", text))
    }

    /// Cloud KMS says no, with an `ErrorInfo` of this reason.
    fn forbidden(&mut self, reason: &str, consumer: &str, message: &str) -> Option<PathBuf> {
        self.answered(
            403,
            json!({
                "code": 403, "status": "PERMISSION_DENIED", "message": message,
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com",
                    "metadata": {"service": "cloudkms.googleapis.com", "consumer": consumer},
                }],
            }),
        )
    }

    /// A version is in this state.
    fn in_state(&mut self, state: &str) -> Option<PathBuf> {
        let message = format!("{KEY}/cryptoKeyVersions/3 is not enabled, current state is: {state}.");
        self.answered(400, json!({"code": 400, "status": "FAILED_PRECONDITION", "message": message}))
    }

    fn answered(&mut self, status: u16, error: Value) -> Option<PathBuf> {
        let service = Scripted::always(Reply::new(status, json!({ "error": error }).to_string()));
        self.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", &service.address());
        self.scripted = Some(service);
        Some(self.user())
    }
}

const LOG_IN: &str = "gcloud auth application-default login";

/// The set-up, and what the line says; a `!` stands before what it must not say.
const WRONG: &[(&str, Change, &[&str])] = &[
    (
        "key typo",
        |it| {
            it.key = uri(&format!("{KEY}k"));
            Some(it.user())
        },
        &["404 NOT_FOUND", "check the project, location, key ring and key"],
    ),
    (
        "location typo",
        |it| {
            it.key = uri(&KEY.replace("global", "globl"));
            Some(it.user())
        },
        &["404 NOT_FOUND", "check the project, location"],
    ),
    (
        "project typo",
        |it| {
            it.key = uri(&KEY.replace("projects/p/", "projects/pp/"));
            Some(it.user())
        },
        &["404 NOT_FOUND", "check the project, location"],
    ),
    (
        "credential file: no such file",
        |_| Some("/nope/adc.json".into()),
        &["/nope/adc.json: No such file", "name a readable credential file"],
    ),
    ("credential file: a folder", |it| Some(it.program.home().to_owned()), &["it is a folder", "name the file itself"]),
    ("credential file below ~", |_| Some("~/adc.json".into()), &["~/adc.json: No such file"]),
    ("credential file empty", |it| it.written(""), &["credentials.json: it is not JSON", "name a readable credential file"]),
    ("credential file broken", |it| it.written("{\"type\":"), &["it is not JSON (line 1", "name a readable credential file"]),
    (
        "OAuth client file",
        |it| it.written(r#"{"installed":{"client_secret":"x"}}"#),
        &["the file of an OAuth client", "--client-id-file FILE"],
    ),
    (
        "credentials of Google Distributed Cloud",
        |it| it.written(r#"{"type":"gdch_service_account"}"#),
        &["gdch_service_account", "name the credentials of an account"],
    ),
    (
        "workforce login expired",
        |it| {
            let file = it.fake().workforce_user_file(it.program.home());
            it.changed(file, |json| json["refresh_token"] = "old".into())
        },
        &["invalid_grant", "gcloud auth application-default login --login-config FILE", "!old"],
    ),
    (
        "private key of another format",
        |it| it.changed(it.account(), |json| json["private_key"] = "MIIE".into()),
        &["its `private_key` is not an RSA private key in PEM", "gcloud iam service-accounts keys create", "!MIIE"],
    ),
    (
        "refresh token revoked",
        |it| it.changed(it.user(), |json| json["refresh_token"] = "1//old".into()),
        &["invalid_grant: Token has been expired or revoked", LOG_IN],
    ),
    (
        "the organisation wants users to log in again (scripted)",
        |it| {
            let service = Scripted::always(Reply::new(
                400,
                r#"{"error":"invalid_grant","error_description":"reauth related error (invalid_rapt)","error_subtype":"invalid_rapt"}"#,
            ));
            let address = format!("{}/token", service.address());
            it.scripted = Some(service);
            it.changed(it.user(), |json| json["token_uri"] = address.into())
        },
        &["invalid_rapt", "log in again, as your organisation asks for", LOG_IN],
    ),
    (
        "federation: token file missing",
        |it| it.changed(it.federated(), |json| json["credential_source"]["file"] = "/nope/token".into()),
        &["the token in /nope/token: No such file", "below `credential_source`"],
    ),
    (
        "federation: token file empty",
        |it| {
            let file = it.program.write("empty", "");
            it.changed(it.federated(), |json| json["credential_source"]["file"] = file.to_str().unwrap().into())
        },
        &["the file holds no token", "below `credential_source`"],
    ),
    (
        "federation: subject token not accepted",
        |it| {
            let file = it.program.write("token", "another");
            it.changed(it.federated(), |json| json["credential_source"]["file"] = file.to_str().unwrap().into())
        },
        &["invalid_grant: Error connecting the given credential to its issuer", "check `audience` and `credential_source`", "!another"],
    ),
    (
        "federation by certificate",
        |it| {
            it.changed(it.federated(), |json| json["credential_source"] = json!({"certificate": {"use_default_certificate_config": true}}))
        },
        &["its `credential_source` is an X.509 certificate, which is not supported", "--credential-source-file"],
    ),
    (
        "token service in plain http",
        |it| it.changed(it.federated(), |json| json["token_url"] = "http://sts.example/v1/token".into()),
        &["`token_url`: `http://sts.example/v1/token` is plain http", "use https"],
    ),
    (
        "identity provider in plain http",
        |it| it.changed(it.federated(), |json| json["credential_source"] = json!({"url": "http://ci.example/token?x=y"})),
        &["`url`: `http://ci.example/token` is plain http", "use https"],
    ),
    (
        "service account's key deleted",
        |it| {
            let other = FakeGcp::start();
            it.account();
            Some(other.service_account_file(it.program.home()))
        },
        &["401 UNAUTHENTICATED", "renew them"],
    ),
    (
        "no right to impersonate",
        |it| {
            it.changed(it.fake().impersonated_file(it.program.home()), |json| {
                let url = json["service_account_impersonation_url"].as_str().unwrap().replace("target@", "other@");
                json["service_account_impersonation_url"] = url.into();
            })
        },
        &[
            "NOT_FOUND",
            "gcloud iam service-accounts add-iam-policy-binding other@fake-project.iam.gserviceaccount.com",
            "roles/iam.serviceAccountTokenCreator",
        ],
    ),
    (
        "no credentials, no metadata server",
        |it| {
            it.set("GCE_METADATA_HOST", "127.0.0.1:1");
            None
        },
        &[
            "no file is named by --adc, `credentials` below `[gcp]` or GOOGLE_APPLICATION_CREDENTIALS",
            "application_default_credentials.json",
            "127.0.0.1:1",
            LOG_IN,
            "attach a service account",
        ],
    ),
    (
        "machine without a service account (scripted)",
        |it| {
            let server = Scripted::always(Reply::new(404, "not found"));
            let host = server.address().strip_prefix("http://").unwrap().to_owned();
            it.set("GCE_METADATA_HOST", &host);
            it.scripted = Some(server);
            None
        },
        &["the metadata server gave no token: ", "answered 404", "attach a service account"],
    ),
    (
        "pod whose account may use none (scripted)",
        |it| {
            let server = Scripted::always(Reply::new(403, "Unable to generate access token; IAM returned 403 Forbidden\n"));
            let host = server.address().strip_prefix("http://").unwrap().to_owned();
            it.set("GCE_METADATA_HOST", &host);
            it.scripted = Some(server);
            None
        },
        &["answered 403 Unable to generate access token; IAM returned 403 Forbidden", "roles/iam.workloadIdentityUser"],
    ),
    (
        "metadata server's address with a scheme",
        |it| {
            it.set("GCE_METADATA_HOST", "http://metadata:80");
            None
        },
        &["GCE_METADATA_HOST: ", "set it to HOST or HOST:PORT"],
    ),
    (
        "API disabled (scripted)",
        |it| {
            it.forbidden(
                "SERVICE_DISABLED",
                "projects/123456",
                "Cloud Key Management Service (KMS) API has not been used in project 123456 before or it is disabled.",
            )
        },
        &["gcloud services enable cloudkms.googleapis.com --project 123456", "!grant"],
    ),
    (
        "billing off (scripted)",
        |it| it.forbidden("BILLING_DISABLED", "projects/123456", "This API method requires billing to be enabled."),
        &["gcloud billing projects link 123456 --billing-account", "!grant"],
    ),
    (
        "VM without the scope (scripted)",
        |it| it.forbidden("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "", "Request had insufficient authentication scopes."),
        &["no role helps", "set-service-account VM --scopes cloud-platform", "!grant"],
    ),
    (
        "perimeter of VPC Service Controls (scripted)",
        |it| {
            it.forbidden(
                "SECURITY_POLICY_VIOLATED",
                "projects/1",
                "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: abc",
            )
        },
        &["vpcServiceControlsUniqueIdentifier: abc", "no role helps", "ingress or egress rule", "!grant"],
    ),
    (
        "quota project needed (scripted)",
        |it| {
            it.forbidden(
                "SERVICE_DISABLED",
                "projects/764086051850",
                "The cloudkms.googleapis.com API requires a quota project, which is not set by default.",
            )
        },
        &["gcloud auth application-default set-quota-project p", "GOOGLE_CLOUD_QUOTA_PROJECT=p", "!grant roles/cloudkms"],
    ),
    (
        "quota project not allowed (scripted)",
        |it| it.forbidden("USER_PROJECT_DENIED", "projects/q", "Caller does not have required permission to use project q."),
        &["grant roles/serviceusage.serviceUsageConsumer on the project q", "GOOGLE_CLOUD_QUOTA_PROJECT", "!cloudkms.cryptoKeyEncrypter"],
    ),
    (
        "project deleted (scripted)",
        |it| it.forbidden("CONSUMER_INVALID", "projects/p", "Project has been deleted."),
        &["gcloud projects describe p", "!grant"],
    ),
    (
        "no role on the key",
        |it| {
            it.fake().deny(KEY);
            Some(it.user())
        },
        &["403 PERMISSION_DENIED", "grant roles/cloudkms.cryptoKeyEncrypter on the key"],
    ),
    (
        "quota project that is none",
        |it| {
            it.set("GOOGLE_CLOUD_QUOTA_PROJECT", "a\tb");
            Some(it.user())
        },
        &["GOOGLE_CLOUD_QUOTA_PROJECT: it does not hold the id of a project"],
    ),
    (
        "version disabled",
        |it| {
            it.fake().disable(KEY);
            Some(it.user())
        },
        &["gcloud kms keys versions enable 1 --key k --keyring r --location global --project p"],
    ),
    (
        "version destroyed (scripted)",
        |it| it.in_state("DESTROYED"),
        &["the version is destroyed, for ever", "versions create --primary --key k", "!versions enable"],
    ),
    (
        "account disabled (scripted)",
        |it| {
            it.answered(
                401,
                json!({
                    "code": 401, "status": "UNAUTHENTICATED", "message": "The service account is disabled.",
                    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCOUNT_STATE_INVALID"}],
                }),
            )
        },
        &["the account is disabled or deleted", "gcloud iam service-accounts enable"],
    ),
    (
        "version to be destroyed (scripted)",
        |it| it.in_state("DESTROY_SCHEDULED"),
        &["versions restore 3 --key k", "versions enable 3 --key k"],
    ),
    (
        "version not made yet (scripted)",
        |it| it.in_state("PENDING_GENERATION"),
        &["is not made yet; wait", "versions describe 3", "!versions enable"],
    ),
    (
        "algorithm without version",
        |it| {
            it.key += "?algorithm=RSA-OAEP-256";
            Some(it.user())
        },
        &["algorithm", "cryptoKeyVersions/"],
    ),
    (
        "CLOUDSDK_CONFIG without credentials",
        |it| {
            it.set("CLOUDSDK_CONFIG", "/nope/gcloud");
            it.set("GCE_METADATA_HOST", "127.0.0.1:1");
            None
        },
        &["/nope/gcloud/application_default_credentials.json", "CLOUDSDK_CONFIG", LOG_IN],
    ),
    (
        "executable not allowed",
        |it| Some(it.fake().external_account_executable_sourced(it.program.home(), &json!({"command": "/bin/true"}))),
        &["names a program to run, /bin/true", "set GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1"],
    ),
    (
        "executable missing",
        |it| {
            it.set("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1");
            Some(it.fake().external_account_executable_sourced(it.program.home(), &json!({"command": "/nope/get-token --x"})))
        },
        &["the program /nope/get-token of the credential file can't be run: No such file", "run it by hand"],
    ),
    (
        "executable that says why it fails",
        |it| {
            it.set("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1");
            let command =
                r#"/bin/sh -c 'echo SECRET >&2; echo "{\"success\":false,\"code\":\"401\",\"message\":\"caller not logged in\"}"; exit 1'"#;
            Some(it.fake().external_account_executable_sourced(it.program.home(), &json!({ "command": command })))
        },
        &["the program /bin/sh of the credential file said: 401: caller not logged in", "run it by hand", "!SECRET"],
    ),
    (
        "executable that hangs",
        |it| {
            it.set("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1");
            Some(
                it.fake()
                    .external_account_executable_sourced(it.program.home(), &json!({"command": "/bin/sleep 60", "timeout_millis": 300})),
            )
        },
        &["the program /bin/sleep of the credential file did not end within 0.3 seconds", "run it by hand"],
    ),
    (
        "another universe",
        |it| {
            it.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "");
            it.changed(it.account(), |json| json["universe_domain"] = "apis.example".into())
        },
        &["they are of the universe `apis.example`", "set GOOGLE_CLOUD_UNIVERSE_DOMAIN=apis.example"],
    ),
    (
        "a universe that is none",
        |it| {
            it.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "");
            it.set("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "localhost");
            Some(it.user())
        },
        &["GOOGLE_CLOUD_UNIVERSE_DOMAIN: `localhost` is not the domain of a universe", "unset it"],
    ),
];

/// Set-ups that other tools take, too.
const RIGHT: &[(&str, Change)] = &[
    ("credential file with a byte order mark", |it| {
        let text = std::fs::read(it.user()).unwrap();
        it.written([&b"\xef\xbb\xbf"[..], &text].concat())
    }),
    ("private key with literal \\n", |it| {
        it.changed(it.account(), |json| {
            let key = json["private_key"].as_str().unwrap().replace('\n', "\\n");
            json["private_key"] = key.into();
        })
    }),
    ("workforce user", |it| Some(it.fake().workforce_user_file(it.program.home()))),
    ("CLOUDSDK_CONFIG", |it| {
        let text = std::fs::read(it.user()).unwrap();
        let file = it.program.write("gcloud/application_default_credentials.json", text);
        it.set("CLOUDSDK_CONFIG", file.parent().unwrap().to_str().unwrap());
        None
    }),
];

#[test]
fn each_message_names_the_thing_and_the_remedy() {
    let mut wrong = Vec::new();
    for (name, change, says) in WRONG {
        let mut setup = Setup::new();
        let file = change(&mut setup);
        let adc = file.as_ref().map(|file| ["--adc", file.to_str().unwrap()]);
        let arguments = adc.as_ref().map_or(&[][..], |adc| &adc[..]);
        let (_, line) = setup.program.refused(arguments, &wrapping(&[&setup.key]));
        let holds = |part: &&str| part.strip_prefix('!').map_or_else(|| line.contains(part), |part| !line.contains(part));
        let lacks: Vec<_> = says.iter().filter(|part| !holds(part)).collect();
        if !lacks.is_empty() {
            wrong.push(format!("{name}: {lacks:?}: {line}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_other_tools_take_is_taken() {
    for (name, change) in RIGHT {
        let mut setup = Setup::new();
        let file = change(&mut setup);
        let adc = file.as_ref().map(|file| ["--adc", file.to_str().unwrap()]);
        let arguments = adc.as_ref().map_or(&[][..], |adc| &adc[..]);
        setup.program.exchange(arguments, &wrapping(&[&setup.key]));
        assert_eq!(setup.fake().kms_requests().len(), 1, "{name}");
    }
}

#[test]
fn a_destroyed_version_opens_nothing_any_more() {
    let mut setup = Setup::new();
    let user = setup.user();
    let arguments = ["--adc", user.to_str().unwrap()];
    let annotation = annotation_of(&setup.program.exchange(&arguments, &wrapping(&[&setup.key])));
    setup.in_state("DESTROYED");
    let (code, line) = setup.program.refused(&arguments, &unwrapping(&[&setup.key], &annotation));
    assert!(code == 5 && line.contains("destroyed, for ever: decrypt with the key of another recipient"), "{code} {line}");
}

/// Without certificate authorities nothing is called, and nothing panics.
#[test]
fn a_machine_without_certificate_authorities_is_told_so() {
    let mut setup = Setup::new();
    let account = setup.account();
    let garbage = setup.program.write("garbage.pem", "garbage");
    setup.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", "");
    for file in ["/nope", garbage.to_str().unwrap()] {
        setup.set("SSL_CERT_FILE", file);
        let (code, line) = setup.program.refused(&["--adc", account.to_str().unwrap()], &wrapping(&[&setup.key]));
        assert!(code < 128 && line.to_lowercase().contains("certificate"), "{code} {line}");
    }
}
