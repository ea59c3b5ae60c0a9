//! Components that aren't built in: which ones run, with what digest, and what WASI gives them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ocicrypt_kms::config::Component as ComponentSettings;
use ocicrypt_kms::policy::{Denial, Permit, Policy, Request};
use ocicrypt_kms::sandbox::{BUILT_IN, Sandbox};
use ocicrypt_kms::{Builder, Config, Digest, Environment, Error, ErrorKind, Instances, KeyProvider};
use ocicrypt_kms_testing::guest;
use ocicrypt_kms_testing::messages::{OPTS_DATA, annotation_of, keyunwrap, keywrap, opts_data_of};
use ocicrypt_kms_testing::program::{Program, answer, refusal};
use wasm_encoder::{Component, ComponentImportSection, ComponentTypeRef, ComponentTypeSection, ComponentValType, InstanceType};

/// A component with WASI.
fn curious() -> &'static [u8] {
    guest::component("curious")
}

fn digest() -> Digest {
    Digest::of(curious())
}

/// The built-in component, and something after it that changes nothing but its digest: a custom section `x` without content.
fn other_of_built_in() -> Vec<u8> {
    [BUILT_IN, &[0, 2, 1, b'x']].concat()
}

/// What the component with WASI finds in a place.
fn found(place: &str) -> Result<String, Error> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let sandbox = SANDBOX.get_or_init(|| Arc::new(Sandbox::compile(curious(), Instances::Pooled(4)).unwrap())).clone();
    looking(place, ComponentSettings::default(), |builder| builder.sandbox(sandbox))
}

/// The same, as `build` has it run.
fn looking(place: &str, component: ComponentSettings, build: impl FnOnce(Builder) -> Builder) -> Result<String, Error> {
    let options = [("look".to_owned(), place.to_owned())].into();
    let config = Config { options, component, deadline_seconds: 3, ..Config::default() };
    let home = tempfile::tempdir().unwrap();
    let builder = KeyProvider::builder(config).environment(Environment::of([("HOME", home.path())]));
    let provider = build(builder).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(provider.exchange(&keywrap(&[("kmscrypt", &["local://a"])], OPTS_DATA))) {
        Err(Error::NoMatchingKey { reason, .. }) => Ok(reason),
        other => other.map(|answer| panic!("it was answered {}", String::from_utf8_lossy(&answer))),
    }
}

#[test]
fn there_are_no_files() {
    assert_eq!(found("files").unwrap(), "0 folders");
}

#[test]
fn there_is_no_environment() {
    assert!(std::env::vars().next().is_some(), "this process has one");
    assert_eq!(found("environment").unwrap(), "[] [] None");
}

#[test]
fn no_address_can_be_reached_and_no_name_looked_up() {
    let told = found("sockets").unwrap();
    assert_eq!((told.matches("access-denied").count(), told.matches("permanent-resolver-failure").count()), (4, 1), "{told}");
}

#[test]
fn clocks_stand_still() {
    assert_eq!(found("clocks").unwrap(), "(0, 0) (0, 0)");
}

#[test]
fn standard_input_is_empty_and_standard_output_thrown_away() {
    assert_eq!(found("standard input and output").unwrap(), "true true");
}

#[test]
fn what_wasi_hands_out_is_bounded() {
    for place in ["much randomness", "streams without end", "the end of the process"] {
        let error = found(place).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Component, "{place}: {error}");
    }
}

#[test]
fn a_component_that_sleeps_is_left_at_the_deadline() {
    let start = Instant::now();
    let error = found("a long sleep").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// A component that imports an instance of this name, which exports a function `x`.
fn importing(name: &str) -> Vec<u8> {
    let mut instance = InstanceType::new();
    instance.ty().function().params::<_, ComponentValType>([]).result(None);
    instance.export("x", ComponentTypeRef::Func(0));
    let mut types = ComponentTypeSection::new();
    types.instance(&instance);
    let mut imports = ComponentImportSection::new();
    imports.import(name, ComponentTypeRef::Instance(0));
    let mut component = Component::new();
    component.section(&types).section(&imports);
    component.finish()
}

#[test]
fn an_import_of_neither_the_world_nor_wasi_is_refused_by_name() {
    for import in
        ["acme:spy/net@1.0.0", "wasi:http/outgoing-handler@0.2.6", "wasi:clocks/wall-clock@0.3.0", "ocicrypt:keyprovider/kms-http@0.2.0"]
    {
        let error = Sandbox::compile(&importing(import), Instances::OneShot).err().unwrap();
        assert!(error.line().contains("the sandbox can't be set up") && error.line().contains(import), "{}", error.line());
    }
}

/// Whether a component of these bytes is taken, as a library is asked.
fn built(bytes: &[u8], digest: Option<Digest>, policy: Option<Arc<dyn Policy>>) -> Result<Digest, Error> {
    let component = ComponentSettings { cache: false, ..ComponentSettings::default() };
    let builder = KeyProvider::builder(Config { component, ..Config::default() }).environment(Environment::of([("HOME", "/")]));
    let builder = policy.into_iter().fold(builder, |builder, policy| builder.policy(policy));
    builder.component(bytes.to_vec(), digest).build().map(|provider| provider.component())
}

/// A policy that was written for one component.
struct Pinned(Digest);

impl Policy for Pinned {
    fn decide(&self, _: &Request<'_>) -> Result<Permit, Denial> {
        Err(Denial::default())
    }

    fn pins(&self, component: Digest) -> bool {
        component == self.0
    }
}

#[test]
fn a_component_runs_only_with_its_digest() {
    assert_eq!(built(curious(), Some(digest()), None).unwrap(), digest());
    let line = built(curious(), None, None).unwrap_err().line();
    assert!(line.contains("can publish the keys") && line.contains(&format!("--component-sha256 {}", digest())), "{line}");
    let other = Digest::of(b"another");
    let line = built(curious(), Some(other), None).unwrap_err().line();
    assert!(line.contains(&format!("its SHA-256 digest is {}, not {other}", digest())), "{line}");
}

#[test]
fn a_policy_that_was_written_for_a_component_stands_for_its_digest() {
    assert_eq!(built(curious(), None, Some(Arc::new(Pinned(digest())))).unwrap(), digest());
    let error = built(curious(), None, Some(Arc::new(Pinned(Digest::of(b"another"))))).unwrap_err();
    assert!(error.line().contains("only with its digest"), "{}", error.line());
    // A digest that was given is compared, whatever a policy says.
    let error = built(curious(), Some(Digest::of(b"another")), Some(Arc::new(Pinned(digest())))).unwrap_err();
    assert!(error.line().contains("its SHA-256 digest is"), "{}", error.line());
}

#[test]
fn the_built_in_component_needs_no_digest_and_keeps_one_that_is_given() {
    assert_eq!(built(BUILT_IN, None, None).unwrap(), Digest::of(BUILT_IN));
    let line = built(BUILT_IN, Some(digest()), None).unwrap_err().line();
    assert!(line.contains(&format!("not {}", digest())), "{line}");
}

#[test]
fn nothing_is_parsed_of_a_file_whose_digest_is_wrong() {
    let line = built(b"no component at all", Some(digest()), None).unwrap_err().line();
    assert!(line.contains("its SHA-256 digest is") && !line.contains("sandbox"), "{line}");
    let line = built(b"no component at all", Some(Digest::of(b"no component at all")), None).unwrap_err().line();
    assert!(line.contains("the sandbox can't be set up"), "{line}");
}

/// The program, with a key and a component's file.
struct Home {
    program: Program,
    file: String,
    digest: String,
}

impl Home {
    fn with(component: &[u8]) -> Self {
        let mut program = Program::new();
        let cache = program.home().join("cache");
        program.set("XDG_CACHE_HOME", cache);
        assert!(program.run(&["keygen", "team"], b"").status.success());
        let file = program.write("component.wasm", component).display().to_string();
        Self { program, file, digest: Digest::of(component).to_string() }
    }

    fn flags(&self) -> [&str; 4] {
        ["--component", &self.file, "--component-sha256", &self.digest]
    }

    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        refusal(&self.program.run(arguments, &wrapping()))
    }

    /// Names of the files in the cache of compiled code.
    fn cached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.program.home().join("cache/ocicrypt-kms/components"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn wrapping() -> Vec<u8> {
    keywrap(&[("kmscrypt", &["local://team"])], OPTS_DATA)
}

#[test]
fn the_program_runs_another_component_and_keeps_its_compiled_code() {
    let home = Home::with(&other_of_built_in());
    let annotation = annotation_of(&answer(home.program.run(&home.flags(), &wrapping())));
    let cached = home.cached();
    assert!(cached.len() == 1 && cached[0].starts_with(&home.digest) && cached[0].ends_with(".cwasm"), "{cached:?}");
    // The code from the cache does the same, and what it wrapped the built-in component unwraps.
    let unwrapping = keyunwrap(&[("kmscrypt", &["local://team"])], &annotation);
    assert_eq!(opts_data_of(&answer(home.program.run(&home.flags(), &unwrapping))), OPTS_DATA);
    assert_eq!(opts_data_of(&answer(home.program.run(&[], &unwrapping))), OPTS_DATA);
    assert_eq!(home.cached(), cached);
}

#[test]
fn the_configuration_names_a_component_and_flags_come_before_it() {
    let home = Home::with(&other_of_built_in());
    let settings = format!("[component]\nfile = '{}'\nsha256 = '{}'\ncache = false\n", home.file, home.digest);
    let config = home.program.write("config.toml", &settings).display().to_string();
    answer(home.program.run(&["--config", &config], &wrapping()));
    assert!(home.cached().is_empty(), "no cache was asked for");
    let wrong = Digest::of(b"another").to_string();
    let (code, line) = home.refused(&["--config", &config, "--component-sha256", &wrong]);
    assert!(code == 2 && line.contains(&home.digest) && line.contains(&wrong), "{line}");
}

#[test]
fn the_program_refuses_a_component_without_its_digest() {
    let home = Home::with(&other_of_built_in());
    let (code, line) = home.refused(&["--component", &home.file]);
    assert!(code == 2 && line.contains(&format!("--component-sha256 {}", home.digest)), "{line}");
    let (code, line) = home.refused(&["--component-sha256", &home.digest]);
    assert!(code == 2 && line.contains("the built-in component: its SHA-256 digest is"), "{line}");
    let (code, line) = home.refused(&["--component-sha256", "abc"]);
    assert!(code == 2 && line.contains("it is not a SHA-256 digest"), "{line}");
    let built_in = Digest::of(BUILT_IN).to_string();
    answer(home.program.run(&["--component-sha256", &built_in], &wrapping()));
}

#[test]
fn a_file_that_is_too_long_is_not_read_to_its_end() {
    let home = Home::with(b"");
    std::fs::File::options().write(true).open(&home.file).unwrap().set_len(1 << 40).unwrap();
    let (code, line) = home.refused(&home.flags());
    assert!(code == 2 && line.contains("it is longer than"), "{line}");
}

#[test]
fn limits_of_other_components_are_those_of_the_configuration() {
    let within = |place: &str, memory_mib, cpu_milliseconds| {
        let settings = ComponentSettings { memory_mib, cpu_milliseconds, ..ComponentSettings::default() };
        looking(place, settings, |builder| builder.component(curious().to_vec(), Some(digest())))
    };
    assert_eq!(within("memory", 16, 1000).unwrap(), "8388608 bytes");
    assert_eq!(within("memory", 4, 1000).unwrap_err().kind(), ErrorKind::Component);
    let line = within("an end", 4, 50).unwrap_err().line();
    assert!(line.contains("ran for more than 50 ms"), "{line}");
}

#[test]
fn component_info_says_what_a_component_reaches_and_how_to_run_it() {
    let home = Home::with(curious());
    let said = String::from_utf8(answer(home.program.run(&["component", "info"], b""))).unwrap();
    assert!(said.contains("built in  yes") && said.contains("imports   wasi:random/random@0.2.6: random numbers\n"), "{said}");
    assert!(said.contains("runs      yes, without further flags") && !said.contains("wasi:cli"), "{said}");
    let said = String::from_utf8(answer(home.program.run(&["component", "info", &home.file], b""))).unwrap();
    assert!(said.contains("wasi:filesystem/preopens@0.2.6: files: nothing is granted\n"), "{said}");
    assert!(said.contains(&format!("--component {} --component-sha256 {}", home.file, home.digest)), "{said}");
    let json: serde_json::Value =
        serde_json::from_slice(&answer(home.program.run(&["component", "info", "--json", &home.file], b""))).unwrap();
    assert_eq!((json["sha256"].as_str(), json["built-in"].as_bool()), (Some(home.digest.as_str()), Some(false)));
    assert_eq!(json["flags"], serde_json::json!(home.flags()));
}

#[test]
fn component_info_shows_a_hostile_file_without_its_control_characters() {
    let name = format!("a:b/c\u{1b}[2J\u{202e}{}", "x".repeat(10_000));
    let producers = [b"\x01\x0cprocessed-by\x01".as_slice(), &leb(name.len()), name.as_bytes(), b"\x011"].concat();
    let section = [&leb("producers".len()), b"producers".as_slice(), &producers].concat();
    let component = [b"\0asm\x0d\0\x01\0\0".as_slice(), &leb(section.len()), &section].concat();
    let home = Home::with(&component);
    let said = String::from_utf8(answer(home.program.run(&["component", "info", &home.file], b""))).unwrap();
    assert!(said.contains("processed-by: a:b/c [2J ") && said.len() < 1000, "{said}");
    assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said}");
    assert!(said.contains("runs      no: it does not export ocicrypt:keyprovider/provider@0.1.0"), "{said}");
    let (code, line) = home.refused(&["component", "info", "/dev/null"]);
    assert!(code == 2 && line.contains("it is not a WebAssembly component"), "{line}");
}

/// A length as WebAssembly writes it.
fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
