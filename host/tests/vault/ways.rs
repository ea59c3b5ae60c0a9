//! The ways to a server: by a Proxy that adds a token, by a Unix socket, with a client's certificate, through a proxy of HTTP, past a standby.
#![expect(clippy::print_stderr, reason = "what is skipped is said")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use ocicrypt_kms::ErrorKind;
use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::certificates::Authority;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};

use super::KEY;
use super::packets::obliging;
use super::user::User;

const NO_TOKEN: &str = "[vault]\nauth = 'none'";
const MAY: &str = r#"path "transit/+/k" { capabilities = ["update"] }"#;

/// The address of a Unix socket.
pub fn unix(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

#[test]
fn a_proxy_with_auto_auth_adds_the_token_where_the_configuration_or_the_address_says_so() {
    let bao = Bao::start();
    let proxy = bao.proxy(Some(MAY));
    let socket = unix(&proxy.socket);
    for (variables, config) in [
        (&[("BAO_ADDR", proxy.address.as_str())][..], NO_TOKEN),
        // A token of this user's is then not sent either.
        (&[("BAO_ADDR", proxy.address.as_str()), ("BAO_TOKEN", "not-a-token")], NO_TOKEN),
        (&[("VAULT_AGENT_ADDR", proxy.address.as_str())], ""),
        (&[("BAO_AGENT_ADDR", proxy.address.as_str()), ("BAO_ADDR", "https://127.0.0.1:1")], ""),
        (&[("BAO_ADDR", socket.as_str())], ""),
    ] {
        User::new(variables, config).uses(KEY);
    }
    User::new(&[], &format!("{NO_TOKEN}\naddress = '{socket}'")).uses(KEY);
}

#[test]
fn a_token_is_sent_to_an_agent_if_there_is_one() {
    let server = Scripted::start(obliging());
    User::new(&[("VAULT_AGENT_ADDR", &server.address()), ("VAULT_TOKEN", "a-token-of-this-test")], "").wrap(KEY);
    User::new(&[("VAULT_AGENT_ADDR", &server.address())], "").wrap(KEY);
    User::new(&[("VAULT_ADDR", &server.address()), ("VAULT_TOKEN", "a-token-of-this-test")], NO_TOKEN).wrap(KEY);
    let tokens: Vec<_> = server.requests().iter().map(|request| request.header("x-vault-token").map(str::to_owned)).collect();
    assert_eq!(tokens, [Some("a-token-of-this-test".to_owned()), None, None]);
}

#[test]
fn whoever_adds_no_token_is_told_with_the_policy_that_it_takes() {
    let bao = Bao::start();
    let (without, elsewhere) = (bao.proxy(None), bao.proxy(Some("path \"secret/x\" { capabilities = [\"read\"] }")));
    for proxy in [&without, &elsewhere] {
        let error = User::new(&[("BAO_ADDR", &unix(&proxy.socket))], "").try_wrap(KEY).unwrap_err();
        let line = error.line();
        assert!(error.kind() == ErrorKind::Kms && line.contains("no token was sent") && line.contains("use_auto_auth_token"), "{line}");
        assert!(line.contains("path \"transit/encrypt/k\"") && line.contains(proxy.socket.to_str().unwrap()), "{line}");
    }
}

#[test]
fn a_server_that_listens_at_a_unix_socket_is_reached_with_a_token_and_with_a_login() {
    let bao = Bao::listening(|folder| format!("listener \"unix\" {{\naddress = \"{}\"\n}}", folder.join("bao.sock").display()));
    let socket = unix(&bao.path("bao.sock"));
    User::new(&[("BAO_ADDR", &socket), ("BAO_TOKEN", ROOT)], "").uses(KEY);
    // No proxy of the environment is asked, and no name looked up.
    User::new(&[("VAULT_ADDR", &socket), ("VAULT_TOKEN", ROOT), ("VAULT_PROXY_ADDR", "http://127.0.0.1:1")], "").uses(KEY);
    bao.policy("both", MAY);
    bao.run(&["auth", "enable", "approle"]);
    bao.run(&["write", "auth/approle/role/r", "token_policies=both"]);
    let id = bao.run(&["read", "-field=role_id", "auth/approle/role/r/role-id"]);
    let file = bao.write("secret-id", &bao.run(&["write", "-f", "-field=secret_id", "auth/approle/role/r/secret-id"]));
    let login = format!("[vault.approle]\nrole-id = '{id}'\nsecret-id-file = '{}'", file.display());
    User::new(&[("BAO_ADDR", &socket)], &login).uses(KEY);
}

#[test]
fn a_socket_that_a_stranger_put_into_a_shared_folder_is_sent_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can make a socket of another user's");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let socket = folder.path().join("vault.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    chown(&socket, Some(1234), Some(1234)).unwrap();
    let line = User::new(&[("BAO_ADDR", &unix(&socket)), ("BAO_TOKEN", "a-token-of-this-test")], "").try_wrap(KEY).unwrap_err().line();
    assert!(line.contains("it belongs to user 1234") && line.contains("let it listen in a folder of its own"), "{line}");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// A port that nobody listens at now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server with another listener, which wants certificates of this authority's, and the address of that.
pub fn with_client_certificates(authority: &Authority) -> (Bao, String) {
    let port = free_port();
    let bao = Bao::listening(|folder| {
        let (certificate, key) = authority.server("127.0.0.1").write(folder, "listener");
        std::fs::write(folder.join("authority.pem"), authority.certificate()).unwrap();
        format!(
            "listener \"tcp\" {{\naddress = \"127.0.0.1:{port}\"\ntls_cert_file = \"{}\"\ntls_key_file = \"{}\"\ntls_client_ca_file = \"{}\"\n\
             tls_require_and_verify_client_cert = true\n}}",
            certificate.display(),
            key.display(),
            folder.join("authority.pem").display()
        )
    });
    (bao, format!("https://127.0.0.1:{port}"))
}

#[test]
fn a_client_certificate_is_shown_and_logs_in() {
    let authority = Authority::new("clients of this test");
    let (bao, address) = with_client_certificates(&authority);
    let root = bao.path("authority.pem");
    let (certificate, key) = authority.client("node", &[]).write(&bao.path(""), "client");
    let files = [root, certificate, key].map(|path| path.to_str().unwrap().to_owned());
    let [root, certificate, key] = files.each_ref().map(String::as_str);
    let at = [("BAO_ADDR", address.as_str()), ("BAO_CACERT", root)];
    let shown = [("VAULT_CLIENT_CERT", certificate), ("BAO_CLIENT_KEY", key)];
    let with = |variables: &[&[(&'static str, &str)]], config: &str| {
        let all: Vec<_> = variables.concat();
        User::new(&all, config).try_wrap(KEY).map(drop).map_err(|error| error.line())
    };
    with(&[&at, &shown, &[("BAO_TOKEN", ROOT)]], "").unwrap();
    let configured = format!("[vault]\nclient-certificate = '{certificate}'\nclient-key = '{key}'");
    with(&[&at, &[("BAO_TOKEN", ROOT)]], &configured).unwrap();
    let line = with(&[&at, &[("BAO_TOKEN", ROOT)]], "deadline-seconds = 1").unwrap_err();
    assert!(line.contains("client certificate") && line.contains("CLIENT_CERT"), "{line}");

    bao.policy("both", MAY);
    bao.run(&["auth", "enable", "cert"]);
    let trusted = format!("certificate=@{root}");
    bao.run(&["write", "auth/cert/certs/nodes", &trusted, "allowed_common_names=node", "token_policies=both"]);
    with(&[&at, &shown], "[vault.cert]").unwrap();
    with(&[&at, &shown], "[vault.cert]\nrole = 'nodes'\nmount = 'cert'").unwrap();
    let line = with(&[&at, &shown], "[vault.cert]\nrole = 'others'").unwrap_err();
    assert!(line.contains("the login at auth/cert/login failed: ") && line.contains("below `[vault.cert]`"), "{line}");
    let line = with(&[&at], "[vault.cert]").unwrap_err();
    assert!(line.starts_with("vault.cert: there is no client certificate to log in with; set VAULT_CLIENT_CERT"), "{line}");
    let line = with(&[&at, &[("VAULT_CLIENT_CERT", certificate)]], "[vault.cert]").unwrap_err();
    assert!(line.starts_with("VAULT_CLIENT_CERT: the certificate's private key is missing; set BAO_CLIENT_KEY"), "{line}");
}

/// A proxy of HTTP that connects one client to whom it asks for. It tells what it was asked.
fn tunnel() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        let asked = String::from_utf8(asked).unwrap();
        let mut server = TcpStream::connect(asked.split(' ').nth(1).unwrap()).unwrap();
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        tell.send(asked).unwrap();
        std::io::copy(&mut server, &mut client)
    });
    (address, told)
}

#[test]
fn a_proxy_for_vault_alone_is_used_for_https_and_sees_no_token() {
    let bao = Bao::start();
    let (proxy, asked) = tunnel();
    User::of(&bao, &[("BAO_TOKEN", ROOT), ("VAULT_PROXY_ADDR", &proxy), ("NO_PROXY", "*")], "").wrap(KEY);
    let asked = asked.recv().unwrap();
    assert!(asked.starts_with("CONNECT 127.0.0.1:") && !asked.contains(ROOT), "{asked}");
    // In plain http to this machine, nobody stands in between.
    let server = Scripted::start(obliging());
    User::new(&[("BAO_ADDR", &server.address()), ("BAO_TOKEN", "t-of-this-test"), ("BAO_PROXY_ADDR", "http://127.0.0.1:1")], "").wrap(KEY);
}

/// A standby that names another address as the active server's, with this in front of the path.
fn standby(target: &str) -> Scripted {
    let target = target.to_owned();
    Scripted::start(move |request, _| Reply::new(307, "").header("location", format!("{target}{}", request.path)))
}

#[test]
fn a_standbys_redirect_to_a_listed_address_is_followed_once() {
    let bao = Bao::start();
    let standby = standby(&bao.address());
    let authority = bao.authority();
    let variables = [("BAO_ADDR", standby.address()), ("BAO_TOKEN", ROOT.to_owned()), ("BAO_CACERT", authority.display().to_string())];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let listed = format!("[vault]\nstandby-redirects = ['https://127.0.0.1:1', '{}/']", bao.address());
    User::new(&variables, &listed).uses(KEY);
    assert_eq!(standby.take_paths(), ["/v1/transit/encrypt/k", "/v1/transit/decrypt/k"]);
    // A login goes the same way: a standby has acted upon nothing.
    bao.policy("both", MAY);
    bao.run(&["auth", "enable", "approle"]);
    bao.run(&["write", "auth/approle/role/r", "token_policies=both"]);
    let id = bao.run(&["read", "-field=role_id", "auth/approle/role/r/role-id"]);
    let secret = bao.run(&["write", "-f", "-field=secret_id", "auth/approle/role/r/secret-id", "num_uses=1"]);
    let file = bao.write("secret-id", &secret);
    let login = format!("{listed}\n[vault.approle]\nrole-id = '{id}'\nsecret-id-file = '{}'", file.display());
    let without_token: Vec<_> = variables.iter().copied().filter(|(name, _)| *name != "BAO_TOKEN").collect();
    User::new(&without_token, &login).keeps_secret(&secret).uses(KEY);
}

#[test]
fn a_redirect_to_anybody_else_a_second_one_and_one_of_a_login_to_elsewhere_are_not_followed() {
    let elsewhere = Scripted::start(obliging());
    let listed = Scripted::start(obliging());
    let user = |server: &Scripted, config: &str| {
        let error = User::of_scripted(server, config).try_wrap(KEY).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.line());
        error.line()
    };
    let config = format!("[vault]\nstandby-redirects = ['{}']", listed.address());
    let line = user(&standby(&elsewhere.address()), &config);
    assert!(line.contains(&elsewhere.address()) && line.contains("which is none of `standby-redirects`"), "{line}");
    let line = user(&standby(&elsewhere.address()), "");
    assert!(line.contains("which is never followed") && line.contains("list it in `standby-redirects` below `[vault]`"), "{line}");
    for location in ["", "/v1/transit/encrypt/k", "http://user:hunter2@127.0.0.1:1/v1/transit/encrypt/k", "\u{fc}", "javascript:alert(1)"] {
        let server = Scripted::start(move |_, _| Reply::new(307, "").header("location", location));
        let line = user(&server, &config);
        assert!(line.contains("307") && !line.contains("hunter2"), "{location}: {line}");
    }
    let prefix = format!("{}/v1/sys/../", listed.address());
    user(&standby(&prefix), &config);
    for status in [301, 302, 303, 308] {
        let target = format!("{}/v1/transit/encrypt/k", listed.address());
        let server = Scripted::start(move |_, _| Reply::new(status, "").header("location", &target));
        assert!(user(&server, &config).contains("which is never followed"), "{status}");
    }
    assert!(elsewhere.take_paths().is_empty() && listed.take_paths().is_empty());
    // Two that name each other.
    let second = standby(&listed.address());
    let config = format!("[vault]\nstandby-redirects = ['{}', '{}']", listed.address(), second.address());
    let line = user(&standby(&second.address()), &config);
    assert!(line.contains("answered with a second redirect") && listed.take_paths().is_empty(), "{line}");
}
