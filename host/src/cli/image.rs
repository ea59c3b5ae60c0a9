//! Finds the wrapped keys in an image's manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ocicrypt_kms::error::printable;
use ocicrypt_kms::protocol::bytes;
use ocicrypt_kms::{Error, shown};
use rustix::fs::OFlags;
use serde::Deserialize;

/// Annotations that hold wrapped keys start so; what follows names the scheme.
const KEYS: &str = "org.opencontainers.image.enc.keys.";
const PROVIDER: &str = "provider.";
/// The most bytes of a manifest or index: registries refuse larger ones.
const MAX_MANIFEST: u64 = 4 << 20;
/// Indexes may hold indexes, but not without end.
const MAX_DEPTH: usize = 4;
/// The most manifests and indexes that are read.
const MAX_MANIFESTS: usize = 1024;
/// The most bytes of all of them.
const MAX_BYTES: usize = 64 << 20;
/// The most layers, and annotations with wrapped keys, that are listed. Each of these is looked at in a sandbox.
const MAX_LISTED: usize = 4096;

/// The wrapped keys of one layer.
pub(super) struct Layer {
    /// The layer's digest.
    pub digest: String,
    /// The scheme or provider, and its decoded annotations; `None` for one that isn't base64.
    pub keys: Vec<(String, Vec<Option<Vec<u8>>>)>,
}

/// A manifest or an index of the OCI image specification, as far as it matters here: it has one of the two.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

/// What a manifest of an index is for.
#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// What an image consists of, as far as it is here.
pub(super) struct Image {
    /// The layers of all manifests.
    pub layers: Vec<Layer>,
    /// The manifests that an index lists and that are elsewhere: digest and platform.
    pub elsewhere: Vec<String>,
}

/// What is in `image`: `oci:FOLDER[:TAG]`, a file with a manifest or an index, or `-` for one on standard input.
pub(super) fn read_image(image: &str) -> Result<Image, Error> {
    let mut listing = Listing::new(image);
    match image.strip_prefix("oci:") {
        Some(layout) => listing.read_layout(layout)?,
        None if image == "-" => listing.read_manifest(&read(std::io::stdin(), image)?)?,
        None => {
            let place = shown::path(image).to_string();
            listing.read_manifest(&read(File::open(image).map_err(|error| wrong(&place, error.to_string()))?, &place)?)?;
        }
    }
    Ok(Image { layers: listing.layers, elsewhere: listing.elsewhere })
}

/// What has been found of an image. It was made by anybody, and may list whatever it likes, itself too: so all of it is counted.
struct Listing<'a> {
    image: &'a str,
    layers: Vec<Layer>,
    elsewhere: Vec<String>,
    /// Digests of manifests and indexes that were read: each is read once.
    read: BTreeSet<String>,
    bytes: usize,
    listed: usize,
}

impl<'a> Listing<'a> {
    fn new(image: &'a str) -> Self {
        Self { image, layers: Vec::new(), elsewhere: Vec::new(), read: BTreeSet::new(), bytes: 0, listed: 0 }
    }

    /// Follows a layout's index to its manifests.
    fn read_layout(&mut self, layout: &str) -> Result<(), Error> {
        let (folder, tag) = match layout.split_once(':') {
            Some((folder, tag)) => (Path::new(folder), Some(tag)),
            None => (Path::new(layout), None),
        };
        let mut descriptors = self.parse(&read_blob(&folder.join("index.json"))?, layout)?.manifests.unwrap_or_default();
        let name = |descriptor: &Descriptor| descriptor.annotations.get("org.opencontainers.image.ref.name").cloned();
        descriptors.retain(|descriptor| tag.is_none() || name(descriptor).as_deref() == tag);
        if descriptors.is_empty() {
            return Err(wrong(layout, "the layout has no such image".into()));
        }
        // Not by recursion, so that what waits to be read is in one place: level by level.
        let mut depth = 0;
        while !descriptors.is_empty() {
            let mut below = Vec::new();
            for Descriptor { digest, .. } in descriptors {
                below.extend(self.read_listed(folder, digest)?);
            }
            depth += 1;
            if depth > MAX_DEPTH && !below.is_empty() {
                return Err(self.too_much(&format!("indexes within each other deeper than {MAX_DEPTH} levels")));
            }
            descriptors = below;
        }
        Ok(())
    }

    /// Reads a manifest or an index that an index lists, unless it was read before. Gives what it lists itself.
    fn read_listed(&mut self, folder: &Path, digest: String) -> Result<Vec<Descriptor>, Error> {
        if self.read.contains(&digest) {
            return Ok(Vec::new());
        }
        if self.read.len() >= MAX_MANIFESTS {
            return Err(self.too_much(&format!("more than {MAX_MANIFESTS} manifests and indexes")));
        }
        let manifest = self.parse(&read_blob(&blob_path(folder, &digest)?)?, &digest)?;
        self.read.insert(digest);
        self.list(manifest.layers.unwrap_or_default())?;
        Ok(manifest.manifests.unwrap_or_default())
    }

    fn read_manifest(&mut self, text: &[u8]) -> Result<(), Error> {
        let manifest = self.parse(text, self.image)?;
        for descriptor in manifest.manifests.unwrap_or_default() {
            self.count(1)?;
            self.elsewhere.push(named(&descriptor));
        }
        self.list(manifest.layers.unwrap_or_default())
    }

    fn parse(&mut self, text: &[u8], place: &str) -> Result<Manifest, Error> {
        self.bytes += text.len();
        if self.bytes > MAX_BYTES {
            return Err(self.too_much(&format!("manifests and indexes of more than {MAX_BYTES} bytes")));
        }
        let no_manifest = |reason: String| wrong(place, format!("it is no image manifest and no index ({reason})"));
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(no_manifest("no JSON object".into()));
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(|error| no_manifest(format!("line {}", error.line())))?;
        if manifest.layers.is_none() && manifest.manifests.is_none() {
            return Err(no_manifest("it has neither `layers` nor `manifests`".into()));
        }
        Ok(manifest)
    }

    fn list(&mut self, layers: Vec<Descriptor>) -> Result<(), Error> {
        for descriptor in layers {
            let annotations = wrapped_keys(&descriptor).map(|(_, value)| value.split(',').count()).sum::<usize>();
            self.count(1 + annotations)?;
            self.layers.push(layer(descriptor));
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), Error> {
        self.listed += more;
        if self.listed > MAX_LISTED {
            return Err(self.too_much(&format!("more than {MAX_LISTED} layers and annotations with wrapped keys")));
        }
        Ok(())
    }

    fn too_much(&self, what: &str) -> Error {
        wrong(self.image, format!("it has {what}, more than is looked at"))
    }
}

/// A digest names a file of the layout, and nothing outside of it.
fn blob_path(folder: &Path, digest: &str) -> Result<PathBuf, Error> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match digest.split_once(':') {
        Some((algorithm, hex)) if plain(algorithm) && plain(hex) => Ok(folder.join("blobs").join(algorithm).join(hex)),
        _ => Err(wrong(digest, "it is not a digest".into())),
    }
}

/// A manifest by its digest, and what it is for.
fn named(descriptor: &Descriptor) -> String {
    let platform = descriptor.platform.as_ref().map(|Platform { os, architecture, variant }| {
        let variant = variant.iter().map(|variant| format!("/{variant}")).collect::<String>();
        format!(" {os}/{architecture}{variant}")
    });
    format!("{}{}", descriptor.digest, platform.unwrap_or_default())
}

fn layer(descriptor: Descriptor) -> Layer {
    let decode = |value: &str| value.split(',').map(|element| bytes::decode(element).map(|bytes| bytes.to_vec())).collect();
    let keys = wrapped_keys(&descriptor).map(|(scheme, value)| (scheme.to_owned(), decode(value))).collect();
    Layer { keys, digest: descriptor.digest }
}

/// The annotations of a layer that hold wrapped keys, each by its scheme or provider.
fn wrapped_keys(descriptor: &Descriptor) -> impl Iterator<Item = (&str, &str)> {
    descriptor.annotations.iter().filter_map(|(name, value)| {
        let scheme = name.strip_prefix(KEYS)?;
        Some((scheme.strip_prefix(PROVIDER).unwrap_or(scheme), value.as_str()))
    })
}

/// Reads a file of a layout. Whoever made that may have put something else there, a pipe that nobody writes to, say.
fn read_blob(path: &Path) -> Result<Vec<u8>, Error> {
    let place = shown::path(path).to_string();
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = file.map_err(|error| wrong(&place, error.to_string()))?;
    let data = file.metadata().map_err(|error| wrong(&place, error.to_string()))?;
    if !data.is_file() {
        return Err(wrong(&place, "it is no file".into()));
    }
    read(file, &place)
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
    Error::InvalidInput { reason: format!("{}: {reason}", printable(place, 256)), hint: hint.into() }
}
