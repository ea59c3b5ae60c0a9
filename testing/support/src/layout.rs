//! Image layouts: making one, and reading what skopeo made of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use ocicrypt_kms::protocol::bytes;
use serde_json::Value;

use crate::checkout;
use crate::program::text_of;

const KEYS: &str = "org.opencontainers.image.enc.keys.";

/// One layer of an image.
#[derive(Debug, Eq, PartialEq)]
pub struct Layer {
    /// What the manifest says it is.
    pub media_type: String,
    /// Its bytes, as they are stored.
    pub blob: Vec<u8>,
    /// The schemes that its key is wrapped by, as the annotations name them.
    pub schemes: Vec<String>,
}

/// Writes an image of so many layers.
pub fn make(folder: &Path, layers: usize) {
    text_of(Command::new(checkout::path("tools/make-image")).arg(folder).arg(layers.to_string()));
}

/// The layers of the one image in a layout.
pub fn layers(folder: &Path) -> Vec<Layer> {
    let manifest = manifest(folder);
    let layers = manifest["layers"].as_array().expect("layers");
    let read = |layer: &Value| Layer {
        media_type: text(&layer["mediaType"]),
        blob: std::fs::read(blob(folder, &layer["digest"])).expect("a blob"),
        schemes: members(layer).filter_map(|(name, _)| name.strip_prefix(KEYS).map(str::to_owned)).collect(),
    };
    layers.iter().map(read).collect()
}

/// What a scheme wrote into the annotation of each layer that has one, decoded.
pub fn annotations(folder: &Path, scheme: &str) -> Vec<Vec<u8>> {
    let manifest = manifest(folder);
    let layers = manifest["layers"].as_array().expect("layers");
    let values = layers.iter().filter_map(|layer| layer["annotations"][format!("{KEYS}{scheme}")].as_str());
    values.map(|value| bytes::decode(value).expect("base64").to_vec()).collect()
}

/// The digests of the layers, as the manifest names them.
pub fn digests(folder: &Path) -> Vec<String> {
    manifest(folder)["layers"].as_array().expect("layers").iter().map(|layer| text(&layer["digest"])).collect()
}

/// The image's configuration, which holds the digest of each layer's content.
pub fn config(folder: &Path) -> Value {
    json(&blob(folder, &manifest(folder)["config"]["digest"]))
}

fn manifest(folder: &Path) -> Value {
    let index = json(&folder.join("index.json"));
    let images = index["manifests"].as_array().expect("manifests");
    assert_eq!(images.len(), 1, "the layout holds one image");
    json(&blob(folder, &images[0]["digest"]))
}

fn members(descriptor: &Value) -> impl Iterator<Item = (&String, &Value)> {
    descriptor["annotations"].as_object().into_iter().flatten()
}

fn blob(folder: &Path, digest: &Value) -> PathBuf {
    folder.join("blobs").join(text(digest).replace(':', "/"))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
