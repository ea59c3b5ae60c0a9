//! A server that is reached in each way.

use std::path::PathBuf;

use ocicrypt_kms_testing::certificates::{Authority, Issued};
use ocicrypt_kms_testing::program::Program;

use super::observing::metrics_of;
use super::serving::{Serving, socket};

/// A server with a listener of each kind, and who may come.
pub struct Stage {
    pub server: Serving,
    pub authority: Authority,
    pub client: Issued,
    /// gRPC.
    pub unix: PathBuf,
    pub ttrpc: PathBuf,
    /// gRPC by mutual TLS.
    pub tcp: String,
    pub metrics: String,
}

impl Stage {
    pub fn new(user: &Program) -> Self {
        let authority = Authority::new("ca");
        authority.server("localhost").write(user.home(), "server");
        user.write("ca.pem", authority.certificate());
        let in_home = |name: &str| user.home().join(name).to_str().unwrap().to_owned();
        let (unix, address) = socket(user);
        let ttrpc = user.home().join("ttrpc.sock");
        let listen = ["--listen", &address, "--listen", &format!("ttrpc+unix://{}", ttrpc.display()), "--listen", "tcp://localhost:0"];
        let files = ["--tls-cert", &in_home("server.crt"), "--tls-key", &in_home("server.key"), "--client-ca", &in_home("ca.pem")];
        let server = Serving::start(user, &[&listen[..], &files, &["--metrics", "127.0.0.1:0"]].concat());
        let tcp = server.addresses.iter().find_map(|address| address.strip_prefix("tcp://")).unwrap().to_owned();
        let (metrics, client) = (metrics_of(&server), authority.client("honest", &[]));
        Self { server, authority, client, unix, ttrpc, tcp, metrics }
    }

    /// How many descriptors the server has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.server.pid())).unwrap().count()
    }
}
