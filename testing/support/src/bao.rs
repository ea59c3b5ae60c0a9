//! OpenBao's server in memory, and its Proxy, on loopback, with TLS by a certificate authority of its own.

use std::io::{BufRead, BufReader, pipe};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ocicrypt_kms::protocol::bytes;
use tempfile::TempDir;

use crate::program::text_of;

/// What the server's first token is called.
pub const ROOT: &str = "root-token-of-this-test";

/// A running server with a transit engine that has the key `k`. It stops when it is dropped.
pub struct Bao {
    process: Child,
    folder: TempDir,
    port: u16,
}

impl Bao {
    /// Serves on a free port. Between finding it and using it, somebody else may take it: hence the attempts.
    pub fn start() -> Self {
        Self::listening(|_| String::new())
    }

    /// Listens elsewhere, too: as a text of its configuration says, which is told the server's own folder.
    pub fn listening(more: impl Fn(&Path) -> String) -> Self {
        let bao = (0..5).find_map(|_| Self::try_start(&more)).expect("bao server does not start");
        bao.run(&["secrets", "enable", "transit"]);
        bao.run(&["write", "-f", "transit/keys/k"]);
        bao
    }

    fn try_start(more: impl Fn(&Path) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let listeners = folder.path().join("listeners.hcl");
        std::fs::write(&listeners, more(folder.path())).expect("a file");
        let port = free_ports();
        let mut process = Command::new(program())
            .args(["server", "-dev", "-dev-tls", "-dev-no-store-token"])
            .arg(format!("-dev-tls-cert-dir={}", folder.path().display()))
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .arg(format!("-config={}", listeners.display()))
            .env_clear()
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `tools/setup test`", program().display()));
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        // A child that isn't held yet would be left behind by a panic.
        let bao = Self { process, folder, port };
        lines.by_ref().find(|line| line.starts_with("Root Token"))?;
        // What it says later is read and dropped, so that the pipe never fills.
        std::thread::spawn(move || lines.for_each(drop));
        Some(bao)
    }

    /// The URL that it listens at.
    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate authority.
    pub fn authority(&self) -> PathBuf {
        self.path("vault-ca.pem")
    }

    /// A file of this server's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes such a file.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).expect("a file");
        self.path(name)
    }

    /// Runs a command of `bao` with all permissions, which has to succeed, and gives what it says.
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program());
        command.args(arguments).env_clear().env("HOME", self.folder.path());
        command.env("BAO_ADDR", self.address()).env("BAO_CACERT", self.authority()).env("BAO_TOKEN", ROOT);
        text_of(&mut command).trim_end().to_owned()
    }

    /// A Proxy in front of this server. With a policy, it adds a token of its own, which has that policy, to requests that have none.
    pub fn proxy(&self, policy: Option<&str>) -> BaoProxy {
        let looks_at_itself = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }";
        let token = policy.map(|policy| self.token(&format!("{policy}\n{looks_at_itself}")));
        (0..5).find_map(|_| self.try_proxy(token.as_deref())).expect("bao proxy does not start")
    }

    fn try_proxy(&self, token: Option<&str>) -> Option<BaoProxy> {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, socket) = (free_ports(), folder.path().join("proxy.sock"));
        let auto_auth = token.map(|token| {
            let file = folder.path().join("token");
            std::fs::write(&file, token).expect("a file");
            let method = format!("method \"token_file\" {{ config = {{ token_file_path = \"{}\" }} }}", file.display());
            format!("auto_auth {{\n{method}\n}}\napi_proxy {{\nuse_auto_auth_token = true\n}}\n")
        });
        let text = format!(
            "vault {{\naddress = \"{}\"\nca_cert = \"{}\"\n}}\n{}listener \"unix\" {{\naddress = \"{}\"\ntls_disable = true\n}}\n\
             listener \"tcp\" {{\naddress = \"127.0.0.1:{port}\"\ntls_disable = true\n}}\n",
            self.address(),
            self.authority().display(),
            auto_auth.unwrap_or_default(),
            socket.display()
        );
        let config = folder.path().join("proxy.hcl");
        std::fs::write(&config, text).expect("a file");
        let (reader, writer) = pipe().expect("a pipe");
        let mut command = Command::new(program());
        command.arg("proxy").arg(format!("-config={}", config.display())).env_clear().env("HOME", folder.path()).stdin(Stdio::null());
        command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
        let process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}; run `tools/setup test`", program().display()));
        // What is left of the pipe's other end is the proxy's.
        drop(command);
        let proxy = BaoProxy { process, _folder: folder, address: format!("http://127.0.0.1:{port}"), socket };
        let ready = if token.is_some() { "authentication successful" } else { "Proxy started" };
        let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
        let found = lines.by_ref().find(|line| line.contains(ready) || line.contains("error authenticating"))?;
        assert!(found.contains(ready), "{found}");
        std::thread::spawn(move || lines.for_each(drop));
        Some(proxy)
    }

    /// A token with this policy and no other.
    pub fn token(&self, policy: &str) -> String {
        let name: String = policy.chars().filter(char::is_ascii_alphabetic).collect();
        self.policy(&name, policy);
        self.run(&["token", "create", "-no-default-policy", "-field=token", &format!("-policy={name}")])
    }

    /// Writes a policy.
    pub fn policy(&self, name: &str, policy: &str) {
        let path = self.write("policy.hcl", policy);
        self.run(&["policy", "write", name, path.to_str().unwrap()]);
    }

    /// What the server itself makes of a plaintext.
    pub fn encrypt(&self, path: &str, plaintext: &[u8]) -> String {
        self.run(&["write", "-field=ciphertext", path, &format!("plaintext={}", bytes::encode(plaintext))])
    }

    /// What the server itself makes of a ciphertext.
    pub fn decrypt(&self, path: &str, ciphertext: &str, more: &[&str]) -> Vec<u8> {
        let ciphertext = format!("ciphertext={ciphertext}");
        let arguments = [&["write", "-field=plaintext", path, &ciphertext][..], more].concat();
        bytes::decode(&self.run(&arguments)).unwrap().to_vec()
    }
}

/// A running Proxy. It stops when it is dropped.
pub struct BaoProxy {
    process: Child,
    _folder: TempDir,
    /// The URL that it listens at, in plain http.
    pub address: String,
    /// The Unix socket that it listens at.
    pub socket: PathBuf,
}

impl Drop for BaoProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A free port whose neighbour is free too: the server takes both.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("an address").port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// The program that `tools/setup test` installs.
fn program() -> PathBuf {
    ocicrypt_kms_fakes::cached("python/bin/bao")
}
