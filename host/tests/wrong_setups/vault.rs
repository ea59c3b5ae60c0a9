use std::os::unix::net::UnixListener;

use ocicrypt_kms_testing::bao::{Bao, ROOT};
use ocicrypt_kms_testing::certificates::Authority;
use ocicrypt_kms_testing::scripted::{Reply, Scripted};

use crate::vault::user::User;
use crate::vault::{replies, ways};

const KEY: &str = "openbao://transit/k";

/// One set-up: what it is, the line that it is answered with, and what that has to say, parts between bars.
type Row = (&'static str, fn(&Bao) -> String, &'static str);

/// The line that a user gets who wraps with a key.
fn wrapping(user: &User, uri: &str) -> String {
    user.try_wrap(uri).expect_err(uri).line()
}

/// The same of a user of this server who has this token.
fn with_token(bao: &Bao, token: &str, uri: &str) -> String {
    wrapping(&User::with_token(bao, token), uri)
}

/// The same of somebody who may do all.
fn as_root(bao: &Bao, uri: &str) -> String {
    with_token(bao, ROOT, uri)
}

/// The same of somebody with these variables, and no other of this server's.
fn with(variables: &[(&str, &str)], config: &str) -> String {
    wrapping(&User::new(variables, &format!("deadline-seconds = 2\n{config}")), KEY)
}

/// The same of somebody whose only mistake is in these variables or this configuration.
fn but(bao: &Bao, variables: &[(&str, &str)], config: &str) -> String {
    wrapping(&User::of(bao, variables, &format!("deadline-seconds = 2\n{config}")), KEY)
}

const LIMITED: &str = "path \"transit/+/k\" { capabilities = [\"update\"] }";

/// A token that may only use the key `k`.
fn limited(bao: &Bao) -> String {
    bao.token(LIMITED)
}

/// What is said of the key when a packet that it made is unwrapped, after this was done to the server.
fn unwrapping(bao: &Bao, key: &str, meanwhile: &[&[&str]], unwraps: &str) -> String {
    bao.run(&["write", "-f", &format!("transit/keys/{key}")]);
    let annotation = User::root(bao).wrap(&format!("openbao://transit/{key}"));
    meanwhile.iter().for_each(|command| drop(bao.run(command)));
    User::root(bao).try_unwrap(unwraps, &annotation).unwrap_err().line()
}

const NOT_NOW: &str = "the token has not expired or been used up|bao token lookup";

const ROWS: &[Row] = &[
    (
        "expired token",
        |bao| {
            let token = limited(bao);
            bao.run(&["token", "revoke", &token]);
            with_token(bao, &token, KEY)
        },
        NOT_NOW,
    ),
    ("made-up token", |bao| with_token(bao, "not-a-token-of-this-server", KEY), NOT_NOW),
    (
        "token with a space in it",
        |bao| but(bao, &[("VAULT_TOKEN", "two words")], ""),
        "VAULT_TOKEN: it does not hold a token, which is one word of printable ASCII",
    ),
    (
        "token with an umlaut in it",
        |bao| but(bao, &[("VAULT_TOKEN", "t\u{fc}")], ""),
        "VAULT_TOKEN: it does not hold a token, which is one word of printable ASCII",
    ),
    (
        "token in quotes",
        |bao| but(bao, &[("VAULT_TOKEN", "\"hvs.t\"")], ""),
        "VAULT_TOKEN: it does not hold a token, which is one word of printable ASCII without quotes",
    ),
    (
        "~/.vault-token that can't be looked at",
        |bao| {
            let home = bao.path("home");
            std::fs::create_dir_all(&home).unwrap();
            let _ = std::os::unix::fs::symlink(".vault-token", home.join(".vault-token"));
            but(bao, &[("HOME", home.to_str().unwrap())], "")
        },
        "the credentials in /|/home/.vault-token: Too many levels of symbolic links|see `[vault]`",
    ),
    ("HOME is no folder", |bao| but(bao, &[("HOME", "/dev/null")], ""), "there is no token for Vault; set BAO_TOKEN"),
    (
        "policy lacks decrypt",
        |bao| {
            let user = User::with_token(bao, &bao.token("path \"transit/encrypt/k\" { capabilities = [\"update\"] }"));
            let annotation = user.wrap(KEY);
            user.try_unwrap(KEY, &annotation).unwrap_err().line()
        },
        "policy with path \"transit/decrypt/k\" { capabilities = [\"update\"] }",
    ),
    (
        "token with use-limit 1",
        |bao| {
            bao.policy("both", "path \"transit/+/k\" { capabilities = [\"update\"] }");
            let user = User::with_token(bao, &bao.run(&["token", "create", "-field=token", "-policy=both", "-use-limit=1"]));
            user.wrap(KEY);
            wrapping(&user, KEY)
        },
        "been used up (`bao token lookup` shows `num_uses`",
    ),
    (
        "wrong mount, root token",
        |bao| as_root(bao, "openbao://nosuch/k"),
        "no handler for route|check that a transit engine is mounted at nosuch/ (`bao secrets list`)",
    ),
    ("wrong mount, other token", |bao| with_token(bao, &limited(bao), "openbao://nosuch/k"), "403|check that the mount nosuch/"),
    ("path of the API, root token", |bao| as_root(bao, "openbao://transit/keys/k"), "path of the API|write openbao://transit/k"),
    (
        "path of the API, other token",
        |bao| with_token(bao, &limited(bao), "openbao://transit/keys/k"),
        "write openbao://transit/k|else check",
    ),
    ("whole path of the API", |bao| as_root(bao, "openbao://v1/transit/encrypt/k"), "write openbao://transit/k"),
    (
        "key missing, wrap",
        |bao| as_root(bao, "openbao://transit/missing"),
        "check the key's name, or create it: bao write -f transit/keys/missing",
    ),
    (
        "key was deleted, unwrap",
        |bao| {
            unwrapping(
                bao,
                "gone",
                &[&["write", "transit/keys/gone/config", "deletion_allowed=true"], &["delete", "transit/keys/gone"]],
                "openbao://transit/gone",
            )
        },
        "a new one can't unwrap what it wrapped|restore it from a backup (bao write transit/restore/gone",
    ),
    (
        "ed25519 key",
        |bao| {
            bao.run(&["write", "transit/keys/signs", "type=ed25519"]);
            as_root(bao, "openbao://transit/signs")
        },
        "name a key that encrypts, such as one of the type aes256-gcm96",
    ),
    (
        "key for signatures of an elliptic curve",
        |bao| {
            bao.run(&["write", "transit/keys/curve", "type=ecdsa-p256"]);
            as_root(bao, "openbao://transit/curve")
        },
        "name a key that encrypts",
    ),
    (
        "symmetric key with algorithm",
        |bao| as_root(bao, "openbao://transit/k?algorithm=RSA-OAEP-256"),
        "is not an RSA key|leave `algorithm` out",
    ),
    (
        "derived key",
        |bao| {
            bao.run(&["write", "transit/keys/derived", "derived=true"]);
            as_root(bao, "openbao://transit/derived")
        },
        "derived=true, which is not supported; name another key",
    ),
    ("KV mount in place of transit", |bao| as_root(bao, "openbao://secret/k"), "404|check that a transit engine is mounted at secret/"),
    (
        "address of a web server (scripted)",
        |_| {
            let server = Scripted::start(|_, _| Reply::new(405, "<html>Not Allowed</html>"));
            with(&[("BAO_ADDR", &server.address()), ("BAO_TOKEN", "t-of-this-test")], "")
        },
        "405 Method Not Allowed: the answer is not one of Vault or OpenBao; check the address (VAULT_ADDR, BAO_ADDR",
    ),
    (
        "https:// to a plain port",
        |_| {
            let port = ways::free_port();
            let _bao = Bao::listening(|_| format!("listener \"tcp\" {{\naddress = \"127.0.0.1:{port}\"\ntls_disable = true\n}}"));
            with(&[("BAO_ADDR", &format!("https://127.0.0.1:{port}")), ("BAO_TOKEN", ROOT)], "")
        },
        "InvalidContentType|what answers there doesn't speak TLS: plain http|check the address's port and scheme",
    ),
    (
        "https:// to a server that says nothing (scripted)",
        |_| {
            let server = Scripted::always(Reply::new(200, "{}"));
            with(&[("BAO_ADDR", &server.address().replace("http:", "https:")), ("BAO_TOKEN", "t-of-this-test")], "")
        },
        "in the middle of the TLS handshake|that it speaks TLS there|port",
    ),
    (
        "http:// to a TLS port",
        |bao| with(&[("BAO_ADDR", &bao.address().replace("https:", "http:")), ("BAO_TOKEN", "t-of-this-test")], ""),
        "speaks TLS at this port|write https:// in place of http:// in its address",
    ),
    (
        "port closed",
        |_| with(&[("BAO_ADDR", "https://127.0.0.1:1"), ("BAO_TOKEN", "t-of-this-test")], ""),
        "127.0.0.1:1 can't be reached: Connection refused|address",
    ),
    ("DNS failure", |_| with(&[("BAO_ADDR", "https://vault.invalid"), ("BAO_TOKEN", "t-of-this-test")], ""), "vault.invalid|address"),
    (
        "CA missing",
        |bao| with(&[("BAO_ADDR", &bao.address()), ("BAO_TOKEN", ROOT)], ""),
        "UnknownIssuer|name the authority that signed it in VAULT_CACERT, BAO_CACERT or `ca-file`",
    ),
    (
        "VAULT_CACERT: no such file",
        |bao| but(bao, &[("BAO_TOKEN", ROOT), ("BAO_CACERT", "/nope.pem")], ""),
        "the certificate authorities in /nope.pem: No such file",
    ),
    (
        "VAULT_CACERT: no PEM",
        |bao| {
            let file = bao.write("no.pem", "no certificate\n");
            but(bao, &[("BAO_TOKEN", ROOT), ("BAO_CACERT", file.to_str().unwrap())], "")
        },
        "no.pem: |no certificate in PEM",
    ),
    (
        "VAULT_SKIP_VERIFY=true",
        |bao| with(&[("BAO_ADDR", &bao.address()), ("BAO_TOKEN", ROOT), ("VAULT_SKIP_VERIFY", "true")], ""),
        "VAULT_SKIP_VERIFY is never honoured|name the authority",
    ),
    (
        "VAULT_CAPATH",
        |bao| with(&[("BAO_ADDR", &bao.address()), ("BAO_TOKEN", ROOT), ("VAULT_CAPATH", bao.path("").to_str().unwrap())], ""),
        "name the authority that signed it in VAULT_CACERT",
    ),
    (
        "wrong namespace",
        |bao| but(bao, &[("BAO_TOKEN", ROOT), ("BAO_NAMESPACE", "nosuch")], ""),
        "check that a transit engine is mounted at transit/|and the namespace",
    ),
    (
        "VAULT_ADDR unset",
        |_| with(&[("BAO_TOKEN", "t-of-this-test")], ""),
        "no address of its server is known; set BAO_ADDR, or `address` below `[vault]`",
    ),
    ("VAULT_ADDR without scheme", |_| with(&[("VAULT_ADDR", "vault.example:8200")], ""), "VAULT_ADDR: |write https:// in front of it"),
    ("VAULT_ADDR in quotes", |_| with(&[("VAULT_ADDR", "'https://vault.example'")], ""), "VAULT_ADDR: |leave the quotes out"),
    (
        "VAULT_ADDR of the API",
        |_| with(&[("VAULT_ADDR", "https://vault.example:8200/v1/")], ""),
        "VAULT_ADDR: its path has Vault's own /v1 in it; leave that out",
    ),
    (
        "plain http to another host",
        |_| with(&[("VAULT_ADDR", "http://vault.example:8200")], ""),
        "VAULT_ADDR: |allowed only to loopback; use https",
    ),
    (
        "VAULT_ADDR=unix:// with a relative path",
        |_| with(&[("VAULT_ADDR", "unix://run/vault.sock")], ""),
        "VAULT_ADDR: it names no Unix socket; write unix:///PATH",
    ),
    (
        "VAULT_ADDR=unix:///… where nothing listens",
        |_| with(&[("VAULT_ADDR", "unix:///nonexistent/vault.sock"), ("BAO_TOKEN", "t-of-this-test")], ""),
        "the socket /nonexistent/vault.sock: No such file|start what listens there, or correct the address",
    ),
    (
        "VAULT_ADDR=unix:///… of a file",
        |bao| with(&[("VAULT_ADDR", &ways::unix(&bao.authority())), ("BAO_TOKEN", "t-of-this-test")], ""),
        "vault-ca.pem is no socket; name the one that a listener of type unix has",
    ),
    (
        "VAULT_ADDR=unix:///… where nobody listens any more",
        |bao| {
            let socket = bao.path("left.sock");
            drop(UnixListener::bind(&socket).unwrap());
            with(&[("VAULT_ADDR", &ways::unix(&socket)), ("BAO_TOKEN", "t-of-this-test")], "")
        },
        "the socket /|/left.sock can't be reached: Connection refused|nobody listens there any more: start it",
    ),
    (
        "server wants a client certificate",
        |_| {
            let authority = Authority::new("clients of this test");
            let (bao, address) = ways::with_client_certificates(&authority);
            let root = bao.path("authority.pem");
            with(&[("BAO_ADDR", &address), ("BAO_TOKEN", ROOT), ("BAO_CACERT", root.to_str().unwrap())], "")
        },
        "client certificate|CLIENT_CERT",
    ),
    (
        "client certificate without its key",
        |bao| but(bao, &[("BAO_TOKEN", ROOT), ("VAULT_CLIENT_CERT", "/c.pem")], ""),
        "VAULT_CLIENT_CERT: |set BAO_CLIENT_KEY",
    ),
    (
        "client certificate: no such file",
        |bao| but(bao, &[("BAO_TOKEN", ROOT), ("VAULT_CLIENT_CERT", "/c.pem"), ("VAULT_CLIENT_KEY", "/k.pem")], ""),
        "/k.pem: No such file",
    ),
    (
        "client certificate: another one's key",
        |bao| {
            let authority = Authority::new("clients of this test");
            let [(certificate, _), (_, key)] = ["a", "b"].map(|name| authority.client(name, &[]).write(&bao.path(""), name));
            let files = [("VAULT_CLIENT_CERT", certificate.to_str().unwrap()), ("VAULT_CLIENT_KEY", key.to_str().unwrap())];
            but(bao, &[&[("BAO_TOKEN", ROOT)], &files[..]].concat(), "")
        },
        "the client certificate in /|/a.|/b.|the key is not the certificate's",
    ),
    (
        "client certificate: a certificate in place of the key",
        |bao| {
            let (certificate, _) = Authority::new("clients of this test").client("c", &[]).write(&bao.path(""), "c");
            let file = certificate.to_str().unwrap();
            but(bao, &[("BAO_TOKEN", ROOT), ("VAULT_CLIENT_CERT", file), ("VAULT_CLIENT_KEY", file)], "")
        },
        "the client certificate in /|name a certificate and its private key, both in PEM, and the key unencrypted",
    ),
    (
        "client certificate that has expired",
        |_| {
            let authority = Authority::new("clients of this test");
            let (bao, address) = ways::with_client_certificates(&authority);
            let root = bao.path("authority.pem");
            let (certificate, key) = authority.client_until("old", 2020).write(&bao.path(""), "old");
            let files = [root, certificate, key].map(|path| path.to_str().unwrap().to_owned());
            let [root, certificate, key] = files.each_ref().map(String::as_str);
            let at = [("BAO_ADDR", address.as_str()), ("BAO_TOKEN", ROOT), ("BAO_CACERT", root)];
            with(&[&at[..], &[("BAO_CLIENT_CERT", certificate), ("BAO_CLIENT_KEY", key)]].concat(), "")
        },
        "the server refuses this client's certificate|in place of /|/old.|has not expired",
    ),
    (
        "a proxy where nobody listens",
        |bao| but(bao, &[("BAO_TOKEN", ROOT), ("VAULT_PROXY_ADDR", "http://127.0.0.1:1")], ""),
        "Connection refused|through the proxy `127.0.0.1:1` of VAULT_PROXY_ADDR|check the proxy in VAULT_PROXY_ADDR, or unset it",
    ),
    (
        "a proxy of SOCKS",
        |bao| but(bao, &[("BAO_TOKEN", ROOT), ("VAULT_PROXY_ADDR", "socks5://127.0.0.1:1080")], ""),
        "VAULT_PROXY_ADDR: proxies of SOCKS are not supported",
    ),
    (
        "standby answers 307 (scripted)",
        |bao| {
            let (address, path) = (bao.address(), "/v1/transit/encrypt/k");
            let target = format!("{address}{path}");
            let server = Scripted::start(move |_, _| Reply::new(307, "").header("location", &target));
            with(&[("BAO_ADDR", &server.address()), ("BAO_TOKEN", "t-of-this-test")], "")
        },
        "a redirect (307 Temporary Redirect) to `https://127.0.0.1:|name the active server's address, or list it in `standby-redirects`",
    ),
    (
        "agent with auto-auth, no token",
        |bao| {
            let proxy = bao.proxy(Some(LIMITED));
            with(&[("BAO_ADDR", &proxy.address)], "")
        },
        "there is no token for Vault; set BAO_TOKEN|an Agent or Proxy with auto-auth|`auth = \"none\"`",
    ),
    (
        "agent without auto-auth",
        |bao| {
            let proxy = bao.proxy(None);
            with(&[("BAO_ADDR", &proxy.address)], "[vault]\nauth = 'none'")
        },
        "no token was sent|use_auto_auth_token = true",
    ),
    ("token-file missing", |bao| but(bao, &[], "[vault]\ntoken-file = '/nope'"), "the credentials in /nope: No such file|see `[vault]`"),
    (
        "two ways to get a token",
        |bao| but(bao, &[], "[vault]\nauth = 'none'\ntoken-file = '/nope'"),
        "`auth` and `token-file` are both configured",
    ),
    (
        "secret id missing",
        |bao| but(bao, &[], "[vault.approle]\nrole-id = 'r'\nsecret-id-file = '/nope'"),
        "the credentials in /nope: No such file|see `[vault]`",
    ),
    (
        "secret id that is none",
        |bao| {
            bao.run(&["auth", "enable", "approle"]);
            let file = bao.write("secret-id", "not-a-secret-id");
            but(bao, &[], &format!("[vault.approle]\nrole-id = 'r'\nsecret-id-file = '{}'", file.display()))
        },
        "the login at auth/approle/login failed: |check `role-id`, the secret id and `mount` below `[vault.approle]`",
    ),
    (
        "kubernetes login outside a pod",
        |bao| but(bao, &[], "[vault.kubernetes]\nrole = 'node'"),
        "/var/run/secrets/kubernetes.io/serviceaccount/token: No such file|see `[vault]`",
    ),
    (
        "jwt method not mounted",
        |bao| {
            let file = bao.write("jwt", "e30.e30.e30");
            but(bao, &[], &format!("[vault.jwt]\nrole = 'r'\ntoken-file = '{}'", file.display()))
        },
        "the login at auth/jwt/login failed|check that the role `r`|`mount` below `[vault.jwt]`",
    ),
    ("cert login without a certificate", |bao| but(bao, &[], "[vault.cert]"), "vault.cert: |set VAULT_CLIENT_CERT and VAULT_CLIENT_KEY"),
    (
        "version below min_decryption_version",
        |bao| {
            unwrapping(
                bao,
                "old",
                &[&["write", "-f", "transit/keys/old/rotate"], &["write", "transit/keys/old/config", "min_decryption_version=2"]],
                "openbao://transit/old",
            )
        },
        "bao write transit/keys/old/config min_decryption_version=1",
    ),
    (
        "packet of openbao://, named hashivault://",
        |bao| unwrapping(bao, "k", &[], "hashivault://transit/k"),
        "openbao://transit/k|name a key",
    ),
    (
        "a server that says no more than no (scripted)",
        |_| {
            let server = Scripted::start(|_, _| replies::error(403, "permission denied"));
            with(&[("BAO_ADDR", &server.address()), ("BAO_TOKEN", "t-of-this-test")], "")
        },
        "403 Forbidden: permission denied; check that the mount transit/",
    ),
];

#[test]
fn each_is_answered_with_the_thing_and_the_remedy() {
    let bao = Bao::start();
    let wrong: Vec<_> = ROWS
        .iter()
        .filter_map(|(name, line, says)| {
            let line = line(&bao);
            let missing: Vec<_> = says.split('|').filter(|part| !line.contains(part)).collect();
            (!missing.is_empty()).then(|| format!("{name}: {line}\n    lacks {missing:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
