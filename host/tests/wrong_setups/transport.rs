//! TLS, proxies and certificate authorities: each row holds for all services, and for what gives credentials to them.
//!
//! All servers are scripted: what is tried happens before a service says anything.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use ocicrypt_kms_fakes::gcp::FakeGcp;
use ocicrypt_kms_testing::azure_cli;
use ocicrypt_kms_testing::certificates::{Authority, Issued, Purpose, Usage, beginning_of, self_signed};
use ocicrypt_kms_testing::messages::wrapping;
use ocicrypt_kms_testing::program::{Program, refusal};
use ocicrypt_kms_testing::scripted::{Reply, Scripted};
use ocicrypt_kms_testing::tunnel::{Recording, Tunnels};
use tokio_rustls::rustls::ServerConfig;

/// A service as its users set it up.
struct Service {
    /// The service, or what it gets credentials from.
    name: &'static str,
    key: &'static str,
    /// Has the program call this address.
    point_at: fn(&mut Program, &str),
    /// The variable that names a file of certificate authorities.
    authorities: &'static str,
    /// What the error says to do about an authority that isn't trusted.
    advice: &'static str,
    /// Whether the address may be one of plain http.
    may_be_plain: bool,
}

const OF_VAULT: &str = "name the authority that signed it in VAULT_CACERT, BAO_CACERT or `ca-file` below `[vault]`";
const OF_AWS: &str = "name the authority that signed it in AWS_CA_BUNDLE, `ca_bundle` of the profile or SSL_CERT_FILE, or add it to the system's (update-ca-certificates)";
const OF_SYSTEM: &str = "name the authority that signed it in SSL_CERT_FILE, or add it to the system's (update-ca-certificates)";
const AWS_KEY: &str = "awskms:///arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const AZURE_KEY: &str = "azurekms://team.vault.azure.net/k";
const CONFIG: &str = ".config/ocicrypt-kms/config.toml";

fn services() -> Vec<Service> {
    vec![
        Service {
            name: "Vault",
            key: "hashivault://transit/k",
            point_at: |program, url| {
                program.set("VAULT_ADDR", url);
                program.set("VAULT_TOKEN", "hvs.token");
            },
            authorities: "VAULT_CACERT",
            advice: OF_VAULT,
            may_be_plain: true,
        },
        Service {
            name: "OpenBao",
            key: "openbao://transit/k",
            point_at: |program, url| {
                program.set("BAO_ADDR", url);
                program.set("BAO_TOKEN", "s.token");
            },
            authorities: "BAO_CACERT",
            advice: OF_VAULT,
            may_be_plain: true,
        },
        Service {
            name: "AWS",
            key: AWS_KEY,
            point_at: |program, url| {
                program.set("AWS_ENDPOINT_URL_KMS", url);
                program.set("AWS_ACCESS_KEY_ID", "id");
                program.set("AWS_SECRET_ACCESS_KEY", "secret");
            },
            authorities: "SSL_CERT_FILE",
            advice: OF_AWS,
            may_be_plain: true,
        },
        Service {
            name: "AWS, a container's credentials",
            key: AWS_KEY,
            point_at: |program, url| {
                program.set("AWS_EC2_METADATA_DISABLED", "true");
                program.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/credentials"));
            },
            authorities: "SSL_CERT_FILE",
            advice: OF_AWS,
            may_be_plain: false,
        },
        Service {
            name: "Azure",
            key: AZURE_KEY,
            point_at: |program, url| {
                let folder = program.home().to_owned();
                azure_cli::log_in(&folder, "vault", "token", std::time::Duration::from_secs(3600));
                azure_cli::variables(&folder).into_iter().for_each(|(name, value)| program.set(name, value));
                program.write(CONFIG, format!("deadline-seconds = 3\n[azure]\nendpoint = '{url}'\n"));
            },
            authorities: "SSL_CERT_FILE",
            advice: OF_SYSTEM,
            may_be_plain: true,
        },
        Service {
            name: "Azure, the tokens of an application",
            key: AZURE_KEY,
            point_at: |program, url| {
                program.set("AZURE_AUTHORITY_HOST", url);
                program.set("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000000");
                program.set("AZURE_CLIENT_ID", "00000000-0000-0000-0000-000000000001");
                program.set("AZURE_CLIENT_SECRET", "hunter2");
            },
            authorities: "SSL_CERT_FILE",
            advice: OF_SYSTEM,
            may_be_plain: false,
        },
        Service {
            name: "Google",
            key: "gcpkms://projects/p/locations/global/keyRings/r/cryptoKeys/k",
            point_at: |program, url| {
                let file = FakeGcp::start().service_account_file(program.home());
                program.set("GOOGLE_APPLICATION_CREDENTIALS", file);
                program.set("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", url);
            },
            authorities: "SSL_CERT_FILE",
            advice: OF_SYSTEM,
            may_be_plain: true,
        },
    ]
}

/// Does the same with each, at the same time: some of them try again until the deadline.
fn each(test: impl Fn(&Service) + Sync) {
    std::thread::scope(|scope| {
        let test = &test;
        services().into_iter().for_each(|service| drop(scope.spawn(move || test(&service))));
    });
}

/// A server that answers these bytes to whatever comes.
fn blunt(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A client that has left gets nothing.
            let _ = stream.read(&mut [0; 1 << 10]).and_then(|_| stream.write_all(answer));
        }
    });
    address.to_string()
}

impl Service {
    /// A user of the service, at this address.
    fn program(&self, url: &str) -> Program {
        let mut program = Program::new();
        program.write(CONFIG, "deadline-seconds = 3\n");
        program.set("AWS_REGION", "eu-central-1");
        (self.point_at)(&mut program, url);
        program
    }

    /// The line of the error when that user wraps.
    fn line(&self, program: &Program) -> String {
        let output = program.run_logged(&[], &wrapping(&[self.key]), |text, place| assert!(!text.contains("hunter2"), "{place}: {text}"));
        let (_, line) = refusal(&output);
        assert!(line.starts_with(self.key), "{}: {line}", self.name);
        line
    }

    /// The same for a server that is called `localhost`, whose authority is the one with this certificate.
    fn line_of(&self, server: &Scripted, authority: &str) -> String {
        let mut program = self.program(&server.address().replace("127.0.0.1", "localhost"));
        let file = program.write("authority.pem", authority);
        program.set(self.authorities, file);
        self.line(&program)
    }
}

/// A server that says no to everything.
fn server(config: Arc<ServerConfig>) -> Scripted {
    Scripted::with_tls(config, |_, _| Reply::new(418, "{}"))
}

fn of(issued: Issued) -> Arc<ServerConfig> {
    issued.server_config()
}

/// The lines for all services say each of these, and nothing of the network.
fn assert_told(server: &Scripted, authority: &str, says: &[&str]) {
    each(|service| {
        let line = service.line_of(server, authority);
        for text in says {
            let text = if text.is_empty() { service.advice } else { text };
            assert!(line.contains(text), "{}: {text}: {line}", service.name);
        }
        assert!(!line.contains("check the network") && !line.contains("new secret"), "{}: {line}", service.name);
    });
    assert!(server.requests().is_empty());
}

#[test]
fn what_is_the_matter_with_a_certificate_is_told_with_what_to_do() {
    let authority = Authority::new("services");
    let trusted = &authority.certificate();
    let names = "write a name that the certificate has into the service's address";
    for (config, says) in [
        (of(Authority::new("others").server("localhost")), &["(UnknownIssuer)", ""][..]),
        (of(Authority::new("services").server("localhost")), &["(BadSignature)", ""]),
        (
            of(authority.server_until("localhost", 2020)),
            &["expired at 2020-12-31T00:00:00Z, and it is ", "(Expired)", "renew the server's certificate"],
        ),
        (
            of(authority.server_from("localhost", 2999)),
            &["valid from 2999-01-01T00:00:00Z on", "(NotValidYet)", "set this machine's clock"],
        ),
        (of(authority.server("kms.example")), &["kms.example", "not for localhost (NotValidForName)", names]),
        (
            of(self_signed("localhost", |_| {})),
            &["`openssl req -x509` makes (CaUsedAsEndEntity)", "name a file that holds exactly this certificate in "],
        ),
        (of(authority.client("localhost", &[])), &["not for servers (InvalidPurpose)", "serverAuth"]),
        (authority.server("localhost").mutual_config(&authority), &["wants a client certificate (CertificateRequired)"]),
    ] {
        assert_told(&server(config), trusted, says);
    }
}

#[test]
fn a_server_that_speaks_another_protocol_is_told_from_one_that_is_away() {
    let authority = Authority::new("services").certificate();
    let plain = blunt(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let says = "plain http, or another protocol (InvalidContentType); check the address's port and scheme";
    each(|service| {
        let mut program = service.program(&format!("https://{plain}"));
        program.set(service.authorities, program.write("authority.pem", &authority));
        let line = service.line(&program);
        assert!(line.contains(says) && !line.contains("check the network"), "{}: {line}", service.name);
    });
    let silent = blunt(b"");
    each(|service| {
        let mut program = service.program(&format!("https://{silent}"));
        program.set(service.authorities, program.write("authority.pem", &authority));
        let line = service.line(&program);
        assert!(
            line.contains("closed the connection in the middle of the TLS handshake; check that the address"),
            "{}: {line}",
            service.name
        );
    });
    // As servers of Go say it (Vault's and OpenBao's are), and as those that only close.
    let says = "Client sent an HTTP request to an HTTPS server.\n";
    let go = Scripted::always(Reply::new(400, says));
    let others = server(of(Authority::new("services").server("localhost")));
    for address in [go.address(), others.address().replace("https:", "http:")] {
        each(|service| {
            if service.may_be_plain {
                let line = service.line(&service.program(&address));
                let says = "was asked in plain http and speaks TLS at this port; write https:// in place of http://";
                assert!(line.contains(says), "{}: {line}", service.name);
            }
        });
    }
}

#[test]
fn a_certificate_that_vouches_for_itself_is_taken_if_a_configured_file_holds_it() {
    let taken = |issued: Issued, file: &str| {
        services()
            .iter()
            .map(|service| {
                let server = server(issued.server_config());
                let line = service.line_of(&server, file);
                (!server.requests().is_empty(), line)
            })
            .collect::<Vec<_>>()
    };
    let certificate = self_signed("localhost", |_| {});
    let file = certificate.certificate.clone();
    for (is_taken, line) in taken(certificate, &file) {
        assert!(is_taken, "{line}");
    }
    let with_usages = self_signed("localhost", |params| {
        params.key_usages = vec![Usage::DigitalSignature, Usage::KeyCertSign];
        params.extended_key_usages = vec![Purpose::ServerAuth];
    });
    let beside_others = Authority::new("services").certificate() + &with_usages.certificate;
    assert!(taken(with_usages, &beside_others).iter().all(|(is_taken, _)| *is_taken));
    for (issued, says) in [
        (self_signed("kms.example", |_| {}), "(NotValidForName)"),
        (self_signed("localhost", |params| params.not_after = beginning_of(2020, 1, 1)), "(Expired)"),
        (self_signed("localhost", |params| params.not_before = beginning_of(2999, 1, 1)), "(NotValidYet)"),
        (self_signed("localhost", |params| params.key_usages = vec![Usage::KeyCertSign]), "(InvalidPurpose)"),
        (self_signed("localhost", |params| params.extended_key_usages = vec![Purpose::ClientAuth]), "(InvalidPurpose)"),
    ] {
        let file = issued.certificate.clone();
        for (is_taken, line) in taken(issued, &file) {
            assert!(!is_taken && line.contains(says) && !line.contains("check the network"), "{says}: {line}");
        }
    }
    // Another certificate of the same name, and of the same key.
    let (one, other) = (self_signed("localhost", |_| {}), self_signed("localhost", |_| {}));
    for (is_taken, line) in taken(one, &other.certificate) {
        assert!(!is_taken && line.contains("CaUsedAsEndEntity"), "{line}");
    }
}

#[test]
fn a_machine_without_authorities_is_told_which_package_and_which_variable() {
    let certificate = Authority::new("services").server("localhost");
    let tls = server(certificate.server_config());
    let says = ["ca-certificates", "SSL_CERT_FILE"];
    for service in services().iter().filter(|service| service.authorities == "SSL_CERT_FILE") {
        let mut program = service.program(&tls.address());
        let garbage = program.write("garbage.pem", "garbage");
        let broken = program.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
        for file in [Path::new("/nope"), &garbage, &broken, Path::new("/dev/null")] {
            program.set("SSL_CERT_FILE", file);
            let output = program.run(&[], &wrapping(&[service.key]));
            let (_, line) = refusal(&output);
            assert!(says.iter().all(|text| line.contains(text)), "{}: {}: {line}", service.name, file.display());
            assert!(!line.contains("check the network") && !line.contains("new secret") && !line.contains("unexpected error"), "{line}");
        }
    }
    assert_eq!(tls.requests().len(), 0);
}

#[test]
fn plain_http_to_this_machine_needs_no_authorities() {
    for service in services().iter().filter(|service| service.may_be_plain) {
        let plain = Scripted::always(Reply::new(418, "{}"));
        let mut program = service.program(&plain.address());
        program.set("SSL_CERT_FILE", "/nope");
        let line = service.line(&program);
        assert!(!plain.requests().is_empty(), "{}: {line}", service.name);
    }
}

/// The address is that of a server that only the proxy reaches.
const ELSEWHERE: &str = "https://kms.invalid:8200";

#[test]
fn all_services_go_through_a_proxy_or_not_by_the_same_rules() {
    let authority = Authority::new("services");
    each(|service| {
        let tls = server(authority.server("kms.invalid").server_config());
        let proxy = Recording::start(Tunnels::ToInPieces(tls.address()["https://".len()..].parse().unwrap(), 7));
        let address = proxy.address();
        let url = format!("http://user:hunter2@{address}");
        for (variables, is_used) in [
            (&[("HTTPS_PROXY", &*url)][..], true),
            (&[("https_proxy", &address)], true),
            (&[("ALL_PROXY", &url)], true),
            (&[("all_proxy", &address)], true),
            (&[("HTTPS_PROXY", &url), ("NO_PROXY", "kms.example,10.0.0.0/8,kms.invalid:443,*.kms.invalid")], true),
            (&[("HTTPS_PROXY", ""), ("ALL_PROXY", &url)], false),
            (&[("HTTP_PROXY", &url), ("http_proxy", &url)], false),
            (&[("HTTPS_PROXY", &url), ("NO_PROXY", "*")], false),
            (&[("https_proxy", &url), ("no_proxy", "kms.example, .invalid")], false),
            (&[("HTTPS_PROXY", &url), ("NO_PROXY", "*.invalid")], false),
            (&[("HTTPS_PROXY", &url), ("NO_PROXY", "KMS.invalid:8200")], false),
        ] {
            let mut program = service.program(ELSEWHERE);
            let config = std::fs::read_to_string(program.home().join(CONFIG)).unwrap();
            program.write(CONFIG, if is_used { config } else { config.replace("seconds = 3", "seconds = 1") });
            program.set(service.authorities, program.write("authority.pem", authority.certificate()));
            variables.iter().for_each(|(name, value)| program.set(name, value));
            let line = service.line(&program);
            let heads = proxy.take_heads();
            assert_eq!(!heads.is_empty(), is_used, "{}, {variables:?}: {line}", service.name);
            assert_eq!(is_used, !tls.take_paths().is_empty(), "{}, {variables:?}: {line}", service.name);
            let has_user = variables[0].1 == url;
            for head in heads {
                assert!(head.starts_with("CONNECT kms.invalid:8200 HTTP/1.1\r\n"), "{head}");
                assert_eq!(head.contains("Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n"), has_user, "{head}");
                assert!(!head.to_lowercase().contains("token") && !head.contains("\r\nAuthorization"), "{head}");
            }
        }
    });
}

#[test]
fn what_is_on_this_machine_needs_no_proxy() {
    let authority = Authority::new("services");
    let proxy = Recording::start(Tunnels::Refuses(403));
    let url = format!("http://{}", proxy.address());
    each(|service| {
        let tls = server(authority.server("localhost").server_config());
        let plain = Scripted::always(Reply::new(418, "{}"));
        for (server, is_tried) in [(&tls, true), (&plain, service.may_be_plain)] {
            let mut program = service.program(&server.address().replace("127.0.0.1", "localhost"));
            program.set(service.authorities, program.write("authority.pem", authority.certificate()));
            for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
                program.set(name, &url);
            }
            if is_tried {
                let line = service.line(&program);
                assert!(!server.requests().is_empty(), "{}: {line}", service.name);
            }
        }
    });
    assert!(proxy.take_heads().is_empty());
}

#[test]
fn a_proxy_that_does_not_help_is_named_without_its_password() {
    let authority = Authority::new("services").certificate();
    let tls = server(Authority::new("others").server("kms.invalid").server_config());
    let (wants, refuses) = (Recording::start(Tunnels::Refuses(407)), Recording::start(Tunnels::Refuses(403)));
    let leads = Recording::start(Tunnels::To(tls.address()["https://".len()..].parse().unwrap()));
    let (to_wants, to_refuses, to_leads) = (wants.address(), refuses.address(), leads.address());
    for (value, says) in [
        ("socks5://user:hunter2@localhost:1080", &["HTTPS_PROXY: it names a SOCKS proxy", "NO_PROXY"][..]),
        ("socks5h://localhost", &["HTTPS_PROXY: it names a SOCKS proxy", "http://HOST:PORT"]),
        ("http://user:hun#hunter2@localhost:1", &["HTTPS_PROXY: it is not the address of a proxy", "%XX"]),
        (
            "http://user:hunter2@127.0.0.1:1",
            &[
                "through the proxy `127.0.0.1:1` of HTTPS_PROXY, can't be reached",
                "Connection refused",
                "check the proxy in HTTPS_PROXY, or list kms.invalid in NO_PROXY",
            ],
        ),
        (&format!("http://user:hunter2@{to_wants}"), &["the proxy wants a user and a password (407); write them into HTTPS_PROXY"]),
        (&format!("http://user:hunter2@{to_refuses}"), &["the proxy refuses to connect to it; check the proxy in HTTPS_PROXY"]),
        (&format!("http://user:hunter2@{to_leads}"), &["through the proxy", "(UnknownIssuer)", ""]),
        (
            &format!("https://user:hunter2@{to_leads}"),
            &["through the proxy", "in the middle of the TLS handshake", "that the proxy in HTTPS_PROXY is one for https://"],
        ),
    ] {
        each(|service| {
            let mut program = service.program(ELSEWHERE);
            program.set(service.authorities, program.write("authority.pem", &authority));
            program.set("HTTPS_PROXY", value);
            let output =
                program.run_logged(&[], &wrapping(&[service.key]), |text, place| assert!(!text.contains("hunter2"), "{place}: {text}"));
            let (_, line) = refusal(&output);
            for text in says {
                let text = if text.is_empty() { service.advice } else { text };
                assert!(line.contains(text), "{}: {text}: {line}", service.name);
            }
            assert!(!line.contains("check the network"), "{}: {line}", service.name);
        });
    }
}
