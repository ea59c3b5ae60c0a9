//! Each file that decides about keys or holds a secret is refused where others could change it, and waited for by nobody, whichever reader it has.
#![expect(clippy::print_stderr, reason = "what is skipped is said")]

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocicrypt_kms_testing::certificates::Authority;
use ocicrypt_kms_testing::program::{Program, run, text_of};

const GCP: &str = "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k";
const VAULT: &str = "hashivault://transit/k";
const AWS: &str = "awskms:///alias/a";
const AZURE: &str = "azurekms://team.vault.azure.net/k";
const LOCAL: &str = "local://team";
/// Where nobody answers.
const NOWHERE: &str = "http://127.0.0.1:1";
/// More than this takes only who waits for something.
const PATIENCE: Duration = Duration::from_secs(30);
/// Somebody else.
const OTHER: u32 = 12_345;

/// A file, and how it comes to be read. `FILE` stands for its path.
struct Reader {
    name: &'static str,
    key: &'static str,
    config: &'static str,
    variables: &'static [(&'static str, &'static str)],
    /// Whether nobody else may read it either.
    private: bool,
}

const fn reader(
    name: &'static str,
    key: &'static str,
    config: &'static str,
    variables: &'static [(&'static str, &'static str)],
    private: bool,
) -> Reader {
    Reader { name, key, config, variables, private }
}

const AT_AWS: [(&str, &str); 3] =
    [("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_ENDPOINT_URL_KMS", NOWHERE), ("AWS_REGION", "eu-central-1")];
const OVER_TLS: (&str, &str) = ("AWS_ENDPOINT_URL_KMS", "https://127.0.0.1:1");
const ACCESS_KEY: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
const AZURE_IDS: [(&str, &str); 2] =
    [("AZURE_TENANT_ID", "4cdb1b3c-7b0e-4fbc-9a1e-b4c4c9be0f61"), ("AZURE_CLIENT_ID", "4cdb1b3c-7b0e-4fbc-9a1e-b4c4c9be0f61")];

const READERS: &[Reader] = &[
    reader("the configuration", LOCAL, "", &[("OCICRYPT_KMS_CONFIG", "FILE")], false),
    reader("policy", LOCAL, "policy = 'FILE'", &[], false),
    reader("audit.checkpoint-key", LOCAL, "[audit]\nfile = 'HOME/audit.jsonl'\ncheckpoint-key = 'FILE'", &[], true),
    reader("server.tls-cert", LOCAL, "[server]\ntls-cert = 'FILE'\ntls-key = 'HOME/server.key'\nclient-ca = 'HOME/ca.crt'", &[], false),
    reader(
        "server.client-ca",
        LOCAL,
        "[server]\ntls-cert = 'HOME/server.crt'\ntls-key = 'HOME/server.key'\nclient-ca = 'FILE'",
        &[],
        false,
    ),
    reader("server.tls-key", LOCAL, "[server]\ntls-cert = 'HOME/server.crt'\ntls-key = 'FILE'\nclient-ca = 'HOME/ca.crt'", &[], true),
    reader("gcp.credentials", GCP, "[gcp]\ncredentials = 'FILE'", &[], false),
    reader("GOOGLE_APPLICATION_CREDENTIALS", GCP, "", &[("GOOGLE_APPLICATION_CREDENTIALS", "FILE")], false),
    reader("vault.token-file", VAULT, "[vault]\ntoken-file = 'FILE'", &[("VAULT_ADDR", NOWHERE)], false),
    reader("vault.approle", VAULT, "[vault.approle]\nrole-id = 'r'\nsecret-id-file = 'FILE'", &[("VAULT_ADDR", NOWHERE)], false),
    reader("vault.jwt", VAULT, "[vault.jwt]\nrole = 'r'\ntoken-file = 'FILE'", &[("VAULT_ADDR", NOWHERE)], false),
    reader("vault.kubernetes", VAULT, "[vault.kubernetes]\nrole = 'r'\ntoken-file = 'FILE'", &[("VAULT_ADDR", NOWHERE)], false),
    reader("vault.ca-file", VAULT, "[vault]\nca-file = 'FILE'", &[("VAULT_ADDR", "https://127.0.0.1:1"), ("VAULT_TOKEN", "t")], false),
    reader("VAULT_CACERT", VAULT, "", &[("VAULT_CACERT", "FILE"), ("VAULT_ADDR", "https://127.0.0.1:1"), ("VAULT_TOKEN", "t")], false),
    reader(
        "vault.client-certificate",
        VAULT,
        "[vault]\nclient-certificate = 'FILE'\nclient-key = 'HOME/server.key'",
        &[("VAULT_ADDR", "https://127.0.0.1:1"), ("VAULT_TOKEN", "t")],
        false,
    ),
    reader(
        "VAULT_CLIENT_KEY",
        VAULT,
        "[vault]\nclient-certificate = 'HOME/server.crt'",
        &[("VAULT_CLIENT_KEY", "FILE"), ("VAULT_ADDR", "https://127.0.0.1:1"), ("VAULT_TOKEN", "t")],
        false,
    ),
    reader("AWS_CONFIG_FILE", AWS, "", &[("AWS_CONFIG_FILE", "FILE"), AT_AWS[0], AT_AWS[1], AT_AWS[2]], false),
    reader("AWS_SHARED_CREDENTIALS_FILE", AWS, "", &[("AWS_SHARED_CREDENTIALS_FILE", "FILE"), AT_AWS[0], AT_AWS[1], AT_AWS[2]], false),
    reader("AWS_WEB_IDENTITY_TOKEN_FILE", AWS, "", &[("AWS_WEB_IDENTITY_TOKEN_FILE", "FILE"), AT_AWS[0], AT_AWS[1], AT_AWS[2]], false),
    reader("AZURE_CLIENT_CERTIFICATE_PATH", AZURE, "", &[("AZURE_CLIENT_CERTIFICATE_PATH", "FILE"), AZURE_IDS[0], AZURE_IDS[1]], false),
    reader("AWS_CA_BUNDLE", AWS, "", &[("AWS_CA_BUNDLE", "FILE"), AT_AWS[0], OVER_TLS, AT_AWS[2], ACCESS_KEY[0], ACCESS_KEY[1]], false),
    reader("AZURE_FEDERATED_TOKEN_FILE", AZURE, "", &[("AZURE_FEDERATED_TOKEN_FILE", "FILE"), AZURE_IDS[0], AZURE_IDS[1]], false),
    reader(
        "http-kms bearer-file",
        LOCAL,
        "[http-kms.x]\nurl = 'https://127.0.0.1:1'\nallow = [{ usage = 'wrap', method = 'POST', path = '/v1' }]\nbearer-file = 'FILE'",
        &[],
        true,
    ),
    reader(
        "http-kms ca-file",
        LOCAL,
        "[http-kms.x]\nurl = 'https://127.0.0.1:1'\nallow = [{ usage = 'wrap', method = 'POST', path = '/v1' }]\nbearer-file = 'HOME/token'\nca-file = 'FILE'",
        &[],
        false,
    ),
    reader(
        "http-kms client-certificate",
        LOCAL,
        "[http-kms.x]\nurl = 'https://127.0.0.1:1'\nallow = [{ usage = 'wrap', method = 'POST', path = '/v1' }]\nclient-certificate = 'FILE'\nclient-key = 'HOME/server.key'",
        &[],
        false,
    ),
    reader(
        "http-kms client-key",
        LOCAL,
        "[http-kms.x]\nurl = 'https://127.0.0.1:1'\nallow = [{ usage = 'wrap', method = 'POST', path = '/v1' }]\nclient-certificate = 'HOME/server.crt'\nclient-key = 'FILE'",
        &[],
        true,
    ),
    reader(
        "server.client-crl",
        LOCAL,
        "[server]\ntls-cert = 'HOME/server.crt'\ntls-key = 'HOME/server.key'\nclient-ca = 'HOME/ca.crt'\nclient-crl = 'FILE'",
        &[],
        false,
    ),
    reader("the keystore", LOCAL, "", &[("OCICRYPT_KMS_KEYSTORE", "FOLDER")], true),
];

impl Reader {
    /// What `doctor` says where this file is the one that `make` puts there.
    fn report(&self, make: impl Fn(&Path)) -> String {
        let mut user = Program::new();
        let authority = Authority::new("ca");
        user.write("ca.crt", authority.certificate());
        authority.server("localhost").write(user.home(), "server");
        write(&user.home().join("token"), b"token", 0o600);
        let file = user.home().join("files/team.jwks");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        make(&file);
        let whole = |text: &str| {
            let text = text.replace("FILE", file.to_str().unwrap()).replace("FOLDER", file.parent().unwrap().to_str().unwrap());
            text.replace("HOME", user.home().to_str().unwrap())
        };
        let config = whole(self.config);
        user.write(".config/ocicrypt-kms/config.toml", config);
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, whole(value))).collect();
        variables.iter().for_each(|(name, value)| user.set(name, value));
        report_of(user.command(&["doctor", self.key]), self.name)
    }
}

/// What a command writes to standard output, in a time in which nobody waits for anybody.
fn report_of(mut command: Command, name: &str) -> String {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{name}: it waits for a file");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn write(path: &Path, content: &[u8], mode: u32) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A link, as Kubernetes has it, to a file that others may write.
fn link_to_an_open_file(path: &Path) {
    let data: PathBuf = path.with_file_name("data");
    write(&data, b"x", 0o666);
    std::os::unix::fs::symlink(data, path).unwrap();
}

/// Each case for each reader; all that is wrong is told at once.
fn check(says: &str, readers: impl Fn(&Reader) -> bool, make: impl Fn(&Path)) {
    let wrong = READERS.iter().filter(|reader| readers(reader)).filter_map(|reader| {
        let report = reader.report(&make);
        (!report.contains(says)).then(|| format!("{}: {report}", reader.name))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "`{says}` is missing:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_that_others_can_write_is_not_used_by_any_reader() {
    check("its mode is 0666, so others could", |_| true, |path| write(path, b"x", 0o666));
}

#[test]
fn nor_by_a_link_as_kubernetes_has_them() {
    check("its mode is 0666, so others could", |_| true, link_to_an_open_file);
}

#[test]
fn a_secret_of_this_programs_own_that_others_can_read_is_not_used() {
    check("its mode is 0644, so others could", |reader| reader.private, |path| write(path, b"x", 0o644));
}

#[test]
fn a_file_of_another_user_is_not_used_by_any_reader() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make a file of another user's");
        return;
    }
    let make = |path: &Path| {
        write(path, b"x", 0o600);
        std::os::unix::fs::chown(path, Some(OTHER), Some(OTHER)).unwrap();
    };
    check(&format!("it belongs to user {OTHER}, not to you (0)"), |_| true, make);
}

#[test]
fn nobody_waits_for_a_pipe() {
    check("it is a pipe, not a regular file", |_| true, |path| drop(text_of(Command::new("mkfifo").arg(path))));
}

#[test]
fn a_folder_is_no_file() {
    check("it is a folder, not a regular file", |_| true, |path| std::fs::create_dir(path).unwrap());
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let make = |path: &Path| {
        write(path, b"x", 0o600);
        std::fs::File::options().write(true).open(path).unwrap().set_len(8 << 30).unwrap();
    };
    check("longer than ", |_| true, make);
}

#[test]
fn kubernetes_and_systemd_may_hand_secrets_out_as_they_do() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make a file of root's");
        return;
    }
    // A link into `..data`, of root, readable by the group: an `fsGroup`, and LoadCredential's access list, look so.
    let make = |path: &Path| {
        let data = path.with_file_name("..data");
        std::fs::create_dir(&data).unwrap();
        write(&data.join("secret"), b"x", 0o440);
        std::os::unix::fs::symlink("..data/secret", path).unwrap();
        std::os::unix::fs::chown(data.join("secret"), Some(0), Some(OTHER)).unwrap();
    };
    // A local key is made by this program alone, and stays its user's.
    for reader in READERS.iter().filter(|reader| reader.name != "the keystore") {
        let report = reader.report(make);
        assert!(!report.contains("its mode is") && !report.contains("it belongs to"), "{}: {report}", reader.name);
    }
}

/// In a user namespace, root's files outside of it are nobody's: they are taken for root's by each reader, the keystore of public keys among them.
#[test]
fn in_a_rootless_namespace_roots_files_are_roots() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make a file of root's");
        return;
    }
    let folder = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let public = br#"{"keys":[{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}]}"#;
    write(&keys.join("team.jwks"), public, 0o644);
    let config = folder.path().join("config.toml");
    write(&config, b"", 0o644);
    let program = folder.path().join("ocicrypt-kms");
    std::fs::copy(ocicrypt_kms_testing::program::path(), &program).unwrap();
    let rootless = |arguments: &[&OsStr]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=1000", "--regid=1000", "--clear-groups", "unshare", "--user", "--map-root-user"]).args(arguments);
        command.current_dir("/").env("OCICRYPT_KMS_KEYSTORE", &keys).env("OCICRYPT_KMS_CONFIG", &config).env("HOME", "/nonexistent");
        command
    };
    let possible = run(&mut rootless(&["stat".as_ref(), "-c".as_ref(), "%u".as_ref(), config.as_os_str()]));
    if String::from_utf8_lossy(&possible.stdout).trim() != "65534" {
        eprintln!("SKIPPED: there are no user namespaces here: {}", String::from_utf8_lossy(&possible.stderr));
        return;
    }
    let report = report_of(rootless(&[program.as_os_str(), "doctor".as_ref(), LOCAL.as_ref()]), "doctor");
    assert!(report.contains("config.toml can be used") && report.contains("a key was wrapped; only the public half is here"), "{report}");
    // One in another, whose map of numbers says nothing of the system's root.
    let within =
        [OsStr::new("unshare"), "--user".as_ref(), "--map-root-user".as_ref(), program.as_os_str(), "doctor".as_ref(), LOCAL.as_ref()];
    let report = report_of(rootless(&within), "doctor");
    assert!(report.contains("config.toml can be used") && report.contains("a key was wrapped; only the public half is here"), "{report}");
    std::fs::set_permissions(&config, PermissionsExt::from_mode(0o646)).unwrap();
    let report = report_of(rootless(&[program.as_os_str(), "doctor".as_ref(), LOCAL.as_ref()]), "doctor");
    assert!(report.contains("outside of this user namespace, as its owner: chmod go-w "), "{report}");
}
