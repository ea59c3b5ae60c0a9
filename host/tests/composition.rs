//! The component composed with the adapter of `example/composition`, run by a stock runtime, as `docs/composition.md` says: wasmtime's own
//! program, OpenBao, and this program, which unwraps what the composition wraps.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ocicrypt_kms_fakes::cached;
use ocicrypt_kms_testing::checkout;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, opts_data_of, unwrapping, wrapping};
use ocicrypt_kms_testing::program::{Program, answer, piped};

const KEY: &str = "openbao://transit/k";
const TOKEN: &str = "root-token-of-a-test";

/// An OpenBao without TLS: the runtime takes certificates of the web's authorities alone.
struct Bao {
    process: Child,
    address: String,
}

impl Bao {
    /// Serves a transit engine with the key `k`. Between finding a port and using it, somebody else may take it: hence the attempts.
    fn start(user: &Program) -> Self {
        let bao = (0..5).find_map(|_| Self::try_start(user)).expect("bao server does not start");
        bao.run(user, &["secrets", "enable", "transit"]);
        bao.run(user, &["write", "-f", "transit/keys/k"]);
        bao
    }

    fn try_start(user: &Program) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(cached("python/bin/bao"));
        user.as_user(&mut command);
        command.args(["server", "-dev", "-dev-no-store-token", &format!("-dev-root-token-id={TOKEN}")]);
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap_or_else(|error| panic!("bao can't be started ({error}): run `tools/setup test`"));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let bao = Self { process, address: format!("http://127.0.0.1:{port}") };
        lines.by_ref().find(|line| line.starts_with("Root Token"))?;
        std::thread::spawn(move || lines.for_each(drop));
        Some(bao)
    }

    fn run(&self, user: &Program, arguments: &[&str]) {
        let mut command = Command::new(cached("python/bin/bao"));
        user.as_user(&mut command);
        let output = command.args(arguments).env("BAO_ADDR", &self.address).env("BAO_TOKEN", TOKEN).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The composition with the built-in component, or with that in a file.
fn composed(user: &Program, provider: Option<PathBuf>) -> PathBuf {
    let script = checkout::path("example/composition/build");
    let component = user.home().join("composed.wasm");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let output = Command::new(script).arg(&component).args(provider).env("CARGO_TARGET_DIR", target).output().unwrap();
    assert!(output.status.success(), "{}; run `tools/setup embed`", String::from_utf8_lossy(&output.stderr));
    component
}

/// What the stock runtime makes of a message, with this token.
fn wasmtime(user: &Program, bao: &Bao, token: &str, component: &Path, message: &[u8]) -> Output {
    let mut command = Command::new(cached("embed/bin/wasmtime"));
    user.as_user(&mut command);
    command.args([
        "run",
        "--allow-precompiled",
        "-S",
        "http",
        "--env",
        &format!("BAO_ADDR={}", bao.address),
        "--env",
        &format!("BAO_TOKEN={token}"),
    ]);
    piped(command.arg(component), message)
}

#[test]
fn a_stock_runtime_runs_the_component_with_an_adapter_and_this_program_unwraps_what_it_wraps() {
    let mut user = Program::new();
    let bao = Bao::start(&user);
    let component = composed(&user, None);
    let annotation = annotation_of(&answer(wasmtime(&user, &bao, TOKEN, &component, &wrapping(&[KEY]))));
    let unwrapped = answer(wasmtime(&user, &bao, TOKEN, &component, &unwrapping(&[KEY], &annotation)));
    assert_eq!(opts_data_of(&unwrapped), OPTS_DATA);

    user.set("BAO_ADDR", &bao.address);
    user.set("BAO_TOKEN", TOKEN);
    assert_eq!(opts_data_of(&answer(user.run(&[], &unwrapping(&[KEY], &annotation)))), OPTS_DATA);
    let annotation = annotation_of(&answer(user.run(&[], &wrapping(&[KEY]))));
    let unwrapped = answer(wasmtime(&user, &bao, TOKEN, &component, &unwrapping(&[KEY], &annotation)));
    assert_eq!(opts_data_of(&unwrapped), OPTS_DATA);

    let refused = wasmtime(&user, &bao, "no-token", &component, &wrapping(&[KEY]));
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && refused.stdout.is_empty() && line.contains("403"), "{line}");
}

#[test]
fn the_guest_in_python_wraps_and_unwraps_with_a_key_that_encrypts_by_itself() {
    let user = Program::new();
    let bao = Bao::start(&user);
    let component = composed(&user, Some(cached("guests/python.wasm")));
    let compiled = user.home().join("composed.cwasm");
    let output = Command::new(cached("embed/bin/wasmtime")).arg("compile").arg(&component).arg("-o").arg(&compiled).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = |message: &[u8]| wasmtime(&user, &bao, TOKEN, &compiled, message);
    let annotation = annotation_of(&answer(run(&wrapping(&[KEY]))));
    let packet: serde_json::Value = serde_json::from_slice(&annotation).unwrap();
    assert_eq!((&packet["kid"], &packet["wrap_type"]), (&KEY.into(), &"kms".into()));
    assert_eq!(opts_data_of(&answer(run(&unwrapping(&[], &annotation)))), OPTS_DATA);
    assert!(!run(&unwrapping(&["openbao://transit/other"], &annotation)).status.success());
}
