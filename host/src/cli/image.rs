//! Finds the wrapped keys in an image's manifests.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ocicrypt_kms::Error;
use ocicrypt_kms::protocol::bytes;
use serde::Deserialize;

/// Annotations that hold wrapped keys start so; what follows names the scheme.
const KEYS: &str = "org.opencontainers.image.enc.keys.";
const PROVIDER: &str = "provider.";
/// The most bytes of a manifest or index: registries refuse larger ones.
const MAX_MANIFEST: u64 = 4 << 20;
/// Indexes may hold indexes, but not without end.
const MAX_DEPTH: u32 = 4;

/// The wrapped keys of one layer.
pub(super) struct Layer {
    /// The layer's digest.
    pub digest: String,
    /// The scheme or provider, and its decoded annotations; `None` for one that isn't base64.
    pub keys: Vec<(String, Vec<Option<Vec<u8>>>)>,
}

/// A manifest or an index of the OCI image specification, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The layers of `image`: `oci:FOLDER[:TAG]`, a manifest file, or `-` for a manifest on standard input.
pub(super) fn layers(image: &str) -> Result<Vec<Layer>, Error> {
    match image.strip_prefix("oci:") {
        Some(layout) => layout_layers(layout),
        None if image == "-" => Ok(parse(&read(std::io::stdin(), image)?, image)?.layers.into_iter().map(layer).collect()),
        None => Ok(parse(&read_file(Path::new(image))?, image)?.layers.into_iter().map(layer).collect()),
    }
}

/// Follows a layout's index to its manifests.
fn layout_layers(layout: &str) -> Result<Vec<Layer>, Error> {
    let (folder, tag) = match layout.split_once(':') {
        Some((folder, tag)) => (PathBuf::from(folder), Some(tag)),
        None => (PathBuf::from(layout), None),
    };
    let index = folder.join("index.json");
    let mut descriptors = parse(&read_file(&index)?, layout)?.manifests;
    let name = |descriptor: &Descriptor| descriptor.annotations.get("org.opencontainers.image.ref.name").cloned();
    descriptors.retain(|descriptor| tag.is_none() || name(descriptor).as_deref() == tag);
    if descriptors.is_empty() {
        return Err(wrong(layout, "the layout has no such image".into()));
    }
    follow(&folder, descriptors, MAX_DEPTH)
}

fn follow(folder: &Path, descriptors: Vec<Descriptor>, depth: u32) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    for descriptor in descriptors {
        let blob = blob_path(folder, &descriptor.digest)?;
        let manifest = parse(&read_file(&blob)?, &descriptor.digest)?;
        layers.extend(manifest.layers.into_iter().map(layer));
        if depth > 0 && !manifest.manifests.is_empty() {
            layers.extend(follow(folder, manifest.manifests, depth - 1)?);
        }
    }
    Ok(layers)
}

/// A digest names a file of the layout, and nothing outside of it.
fn blob_path(folder: &Path, digest: &str) -> Result<PathBuf, Error> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match digest.split_once(':') {
        Some((algorithm, hex)) if plain(algorithm) && plain(hex) => Ok(folder.join("blobs").join(algorithm).join(hex)),
        _ => Err(wrong(digest, "it is not a digest".into())),
    }
}

fn layer(descriptor: Descriptor) -> Layer {
    let decode = |value: &str| value.split(',').map(|element| bytes::decode(element).map(|bytes| bytes.to_vec())).collect();
    let keys = |(name, value): (&String, &String)| {
        let scheme = name.strip_prefix(KEYS)?;
        Some((scheme.strip_prefix(PROVIDER).unwrap_or(scheme).to_owned(), decode(value)))
    };
    Layer { keys: descriptor.annotations.iter().filter_map(keys).collect(), digest: descriptor.digest }
}

fn parse(text: &[u8], place: &str) -> Result<Manifest, Error> {
    serde_json::from_slice(text).map_err(|error| wrong(place, format!("it is no image manifest (line {})", error.line())))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let place = path.display().to_string();
    read(File::open(path).map_err(|error| wrong(&place, error.to_string()))?, &place)
}

fn read(from: impl Read, place: &str) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let length = from.take(MAX_MANIFEST + 1).read_to_end(&mut text).map_err(|error| wrong(place, error.to_string()))?;
    match length as u64 > MAX_MANIFEST {
        true => Err(wrong(place, format!("it is longer than {MAX_MANIFEST} bytes"))),
        false => Ok(text),
    }
}

fn wrong(place: &str, reason: String) -> Error {
    let hint = "name an image as oci:FOLDER[:TAG], or pipe a manifest in: skopeo inspect --raw docker://… | ocicrypt-kms inspect -";
    Error::InvalidInput { reason: format!("{place}: {reason}"), hint: hint.into() }
}
