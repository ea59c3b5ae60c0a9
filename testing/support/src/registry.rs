//! docker-registry on loopback, with TLS by a certificate authority of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::program::text_of;

/// A running registry. It stops when it is dropped.
pub struct Registry {
    process: Child,
    folder: TempDir,
    address: String,
}

impl Registry {
    /// Serves on a free port.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        make_certificates(folder.path());
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(write_config(folder.path()))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; run `tools/setup skopeo`"));
        let log = BufReader::new(process.stderr.take().expect("a pipe"));
        // A child that isn't held yet would be left behind by a panic.
        let mut registry = Self { process, folder, address: String::new() };
        registry.address = wait_for_address(log);
        registry
    }

    /// An image of the registry.
    pub fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}:latest", self.address)
    }

    /// The folder with the certificate authority, for skopeo's `--src-cert-dir` and `--dest-cert-dir`.
    pub fn certificates(&self) -> PathBuf {
        self.folder.path().join("ca")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The registry logs the port that it was given. What it logs later is read and dropped, so that the pipe never fills.
fn wait_for_address(log: impl BufRead + Send + 'static) -> String {
    let mut lines = log.lines().map_while(Result::ok);
    let mut seen = Vec::new();
    let address = lines.by_ref().find_map(|line| {
        let address = line.split_once("listening on ").and_then(|(_, rest)| rest.split(',').next().map(str::to_owned));
        seen.push(line);
        address
    });
    let address = address.unwrap_or_else(|| panic!("docker-registry did not start: {}", seen.join("\n")));
    std::thread::spawn(move || lines.for_each(drop));
    address
}

fn write_config(folder: &Path) -> PathBuf {
    let place = folder.display();
    let config = format!(
        "version: 0.1\n\
         storage: {{filesystem: {{rootdirectory: '{place}/storage'}}}}\n\
         http:\n\
         \x20 addr: 127.0.0.1:0\n\
         \x20 tls: {{certificate: '{place}/server.crt', key: '{place}/server.key'}}\n"
    );
    let path = folder.join("config.yml");
    std::fs::write(&path, config).expect("a file");
    path
}

fn make_certificates(folder: &Path) {
    std::fs::create_dir(folder.join("ca")).expect("a folder");
    let authority = ["-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca/ca.crt"];
    let server = ["-subj", "/CN=registry", "-keyout", "server.key", "-out", "server.crt", "-CA", "ca/ca.crt", "-CAkey", "ca.key"];
    certificate(folder, &authority);
    certificate(
        folder,
        &[&server[..], &["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]].concat(),
    );
}

fn certificate(folder: &Path, options: &[&str]) {
    let key = ["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    text_of(Command::new("openssl").args(key).args(options).current_dir(folder));
}
