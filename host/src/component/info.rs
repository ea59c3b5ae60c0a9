//! What a component is made of, and what it could reach: read from the file, without compiling it.

use std::collections::BTreeSet;

use wasmparser::{BinaryReaderError, ComponentExternalKind, Encoding, Parser, Payload};

use crate::digest::Digest;
use crate::error::printable;
use crate::sandbox::Sandbox;

/// The most names of one kind that are kept of a component.
const MAX_NAMES: usize = 256;
/// The most bytes of one name that are shown.
const MAX_NAME: usize = 128;
/// What this program calls.
const PROVIDER: &str = "ocicrypt:keyprovider/provider@0.1.";

/// What a component's file says of it.
#[derive(Clone, Debug)]
pub struct Info {
    /// The file's digest.
    pub digest: Digest,
    /// The file's length in bytes.
    pub length: usize,
    /// What it imports, in the file's order.
    pub imports: Vec<Import>,
    /// The names of what it exports.
    pub exports: Vec<String>,
    /// The tools that say to have made it or a part of it, such as `processed-by: wit-component 0.258.0`.
    pub producers: Vec<String>,
}

/// Something that a component imports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Import {
    /// Its name, without control characters.
    pub name: String,
    /// What it gives a component, in words; `None` if this program has nothing of that name.
    pub reach: Option<&'static str>,
}

/// Why a file says nothing of a component.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotReadable {
    /// A module without a component around it.
    #[error("it is a core WebAssembly module; make it a component with `wasm-tools component new`")]
    Module,
    /// Something else, or damaged.
    #[error("it is not a WebAssembly component: {0}")]
    Malformed(String),
    /// Hostile or generated without limit.
    #[error("it has more than {MAX_NAMES} imports, exports or producers")]
    TooMany,
}

impl Info {
    /// Reads a component's sections. Says nothing about whether its code is valid.
    ///
    /// # Errors
    /// If it isn't a component.
    pub fn of(component: &[u8]) -> Result<Self, NotReadable> {
        let mut read = Sections::default();
        for payload in Parser::new(0).parse_all(component) {
            read.payload(payload.map_err(|error| malformed(&error))?)?;
        }
        let Sections { imports, exports, producers, .. } = read;
        let imports = imports.into_iter().map(|name| Import { reach: reach(&name), name: shown(&name) }).collect();
        let producers = producers.into_iter().collect();
        Ok(Self { digest: Digest::of(component), length: component.len(), imports, exports, producers })
    }

    /// Whether this is the built-in component.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.digest == Sandbox::built_in_digest()
    }

    /// Whether it is a key provider all of whose imports this program has; else the reason.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn fits(&self) -> Result<(), String> {
        let unknown = self.imports.iter().find(|import| import.reach.is_none());
        match (unknown, self.exports.iter().any(|name| name.starts_with(PROVIDER))) {
            (Some(import), _) => Err(format!("it imports {}, which this program has not", import.name)),
            (None, false) => Err(format!("it does not export {PROVIDER}0")),
            (None, true) => Ok(()),
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Sections {
    /// How many modules and components are around what is read.
    depth: usize,
    imports: Vec<String>,
    exports: Vec<String>,
    producers: BTreeSet<String>,
}

impl Sections {
    fn payload(&mut self, payload: Payload<'_>) -> Result<(), NotReadable> {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if self.depth == 0 => return Err(NotReadable::Module),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if self.depth == 0 => {
                for import in section {
                    push(&mut self.imports, import.map_err(|error| malformed(&error))?.name.name.to_owned())?;
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 0 => {
                for export in section {
                    let export = export.map_err(|error| malformed(&error))?;
                    if export.kind != ComponentExternalKind::Type {
                        push(&mut self.exports, shown(export.name.name))?;
                    }
                }
            }
            Payload::CustomSection(section) if section.name() == "producers" => {
                self.producers(section.data(), section.data_offset());
            }
            _ => {}
        }
        match self.producers.len() <= MAX_NAMES {
            true => Ok(()),
            false => Err(NotReadable::TooMany),
        }
    }

    /// A section that says nothing intelligible says nothing.
    fn producers(&mut self, data: &[u8], offset: usize) {
        let reader = wasmparser::BinaryReader::new(data, offset);
        let Ok(fields) = wasmparser::ProducersSectionReader::new(reader) else { return };
        for field in fields.into_iter().flatten() {
            let values = field.values.into_iter().flatten().take(MAX_NAMES);
            self.producers.extend(values.map(|value| shown(&format!("{}: {} {}", field.name, value.name, value.version))));
        }
    }
}

fn push(names: &mut Vec<String>, name: String) -> Result<(), NotReadable> {
    names.push(name);
    match names.len() <= MAX_NAMES {
        true => Ok(()),
        false => Err(NotReadable::TooMany),
    }
}

fn malformed(error: &BinaryReaderError) -> NotReadable {
    NotReadable::Malformed(shown(&error.to_string()))
}

/// A name out of a file that may be hostile.
fn shown(name: &str) -> String {
    printable(name, MAX_NAME)
}

/// What an import gives a component; `None` if this program has nothing of that name.
fn reach(name: &str) -> Option<&'static str> {
    let (interface, version) = name.split_once('@')?;
    let (package, interface) = interface.split_once('/')?;
    match (package, interface) {
        ("ocicrypt:keyprovider", "kms") if version.starts_with("0.1.") => Some("keys that the host lends it, one use each"),
        ("ocicrypt:keyprovider", "kms-http") if version.starts_with("0.1.") && cfg!(feature = "http-kms") => {
            Some("HTTP to endpoints of the configuration, within the rules there; the host adds the credential")
        }
        ("ocicrypt:keyprovider", "types") if version.starts_with("0.1.") => Some("nothing: types of what is said"),
        _ if !version.starts_with("0.2.") => None,
        ("wasi:random", "random" | "insecure" | "insecure-seed") => Some("random numbers"),
        ("wasi:clocks", "wall-clock" | "monotonic-clock") => Some("clocks: they stand still at 1970-01-01"),
        ("wasi:filesystem", "types" | "preopens") => Some("files: nothing is granted"),
        ("wasi:sockets", "network" | "instance-network" | "ip-name-lookup" | "tcp" | "tcp-create-socket" | "udp" | "udp-create-socket") => {
            Some("the network: nothing is granted")
        }
        ("wasi:cli", "environment") => Some("environment and arguments: both are empty"),
        ("wasi:cli", "exit") => Some("its own end"),
        ("wasi:cli", "stdin" | "stdout" | "stderr") => Some("standard input and output: empty, and thrown away"),
        ("wasi:cli", "terminal-input" | "terminal-output" | "terminal-stdin" | "terminal-stdout" | "terminal-stderr") => {
            Some("a terminal: there is none")
        }
        ("wasi:io", "error" | "poll" | "streams") => Some("nothing by itself: streams of what else it reaches, and waiting"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        Component, ComponentImportSection, ComponentTypeRef, ComponentTypeSection, EntityType, ImportSection, InstanceType, Module,
        ModuleSection, NestedComponentSection, TypeSection,
    };

    use super::*;
    use crate::sandbox::BUILT_IN;

    /// A component that imports instances of these names, with nothing in them.
    fn importing<'a>(names: impl IntoIterator<Item = &'a str>) -> Component {
        let mut types = ComponentTypeSection::new();
        types.instance(&InstanceType::new());
        let mut imports = ComponentImportSection::new();
        for name in names {
            imports.import(name, ComponentTypeRef::Instance(0));
        }
        let mut component = Component::new();
        component.section(&types).section(&imports);
        component
    }

    fn info(component: Component) -> Result<Info, NotReadable> {
        Info::of(&component.finish())
    }

    #[test]
    fn the_built_in_component_reaches_keys_and_random_numbers() {
        let info = Info::of(BUILT_IN).unwrap();
        let mut imports: Vec<_> = info.imports.iter().map(|import| (import.name.as_str(), import.reach.unwrap())).collect();
        imports.sort_unstable();
        assert_eq!(imports[0], ("ocicrypt:keyprovider/kms@0.1.0", "keys that the host lends it, one use each"));
        assert_eq!(imports[1].0, "ocicrypt:keyprovider/types@0.1.0");
        assert_eq!(imports[2], ("wasi:random/random@0.2.6", "random numbers"));
        assert_eq!((imports.len(), info.exports.as_slice()), (3, ["ocicrypt:keyprovider/provider@0.1.0".to_owned()].as_slice()));
        assert!(info.is_built_in() && info.fits().is_ok());
        assert!(info.producers.iter().any(|producer| producer.starts_with("processed-by: wit-component ")), "{:?}", info.producers);
    }

    #[test]
    fn an_import_that_nobody_knows_does_not_fit() {
        let import = |name: &str| info(importing([name])).unwrap();
        for name in ["wasi:http/outgoing-handler@0.2.6", "wasi:clocks/wall-clock@0.3.0", "ocicrypt:keyprovider/kms@0.2.0", "acme:x/y@0.2.0"]
        {
            assert_eq!(import(name).fits().unwrap_err(), format!("it imports {name}, which this program has not"));
        }
        assert!(import("wasi:clocks/wall-clock@0.2.0").fits().unwrap_err().contains("does not export"));
    }

    #[test]
    #[cfg(feature = "http-kms")]
    fn a_component_that_reaches_endpoints_says_so() {
        let info = info(importing(["ocicrypt:keyprovider/kms-http@0.1.0"])).unwrap();
        assert!(info.imports[0].reach.unwrap().starts_with("HTTP to endpoints of the configuration"), "{:?}", info.imports);
    }

    #[test]
    fn what_is_inside_of_a_component_is_not_its_own() {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        imports.import("a", "b", EntityType::Function(0));
        let mut module = Module::new();
        module.section(&types).section(&imports);
        let inner = importing(["wasi:cli/environment@0.2.0"]);
        let mut component = Component::new();
        component.section(&NestedComponentSection(&inner)).section(&ModuleSection(&module));
        assert_eq!(info(component).unwrap().imports, []);
    }

    #[test]
    fn what_is_no_component_says_so() {
        assert_eq!(Info::of(&Module::new().finish()).unwrap_err(), NotReadable::Module);
        for bytes in [b"".as_slice(), b"\x7fELF", &BUILT_IN[..BUILT_IN.len() / 2]] {
            assert!(matches!(Info::of(bytes), Err(NotReadable::Malformed(_))), "{} bytes", bytes.len());
        }
        let many: Vec<_> = (0..=MAX_NAMES).map(|n| format!("a{n}")).collect();
        assert_eq!(info(importing(many.iter().map(String::as_str))).unwrap_err(), NotReadable::TooMany);
    }

    #[test]
    fn damaged_components_are_refused_without_a_panic() {
        for position in (0..BUILT_IN.len()).step_by(97) {
            let mut damaged = BUILT_IN.to_vec();
            damaged[position] ^= 0xff;
            let _ = Info::of(&damaged);
        }
    }
}
