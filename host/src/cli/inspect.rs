//! `ocicrypt-kms inspect IMAGE`: whom an image's layer keys are wrapped for.

use std::fmt::Write;

use ocicrypt_kms::error::printable;
use ocicrypt_kms::{Config, Error, KeyProvider, PacketInfo};

use super::image::{Image, Layer, read_image};
use super::{Options, block_on, print};

#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// oci:FOLDER[:TAG], a file with a manifest, or - for a manifest on standard input; of an index, its manifests are named
    image: String,
}

impl Inspect {
    pub(super) fn run(self, options: Options) -> Result<(), Error> {
        let provider = KeyProvider::builder(options.over(Config::default())).build()?;
        let Image { layers, elsewhere } = read_image(&self.image)?;
        let text = block_on(false, async {
            let mut text = listed(&elsewhere);
            if layers.is_empty() && elsewhere.is_empty() {
                text.push_str("a manifest or an index that lists nothing\n");
            }
            for layer in &layers {
                describe(&provider, layer, &mut text).await;
            }
            text
        })?;
        print(text.as_bytes())
    }
}

/// The manifests of an index, and how to look at one of them. Their layers are in other files.
fn listed(elsewhere: &[String]) -> String {
    let mut text = String::new();
    for manifest in elsewhere {
        writeln!(text, "manifest {}", printable(manifest, 1024)).expect("a string can be written");
    }
    if !elsewhere.is_empty() {
        text.push_str("an index, whose manifests say which layers are encrypted: skopeo inspect --raw docker://IMAGE@DIGEST | ocicrypt-kms inspect -\n");
    }
    text
}

/// Everything shown came with the image, so it is shown as text of outside origin.
async fn describe(provider: &KeyProvider, layer: &Layer, text: &mut String) {
    let mut line =
        |indent: usize, line: String| writeln!(text, "{:indent$}{}", "", printable(&line, 1024)).expect("a string can be written");
    let state = if layer.keys.is_empty() { "not encrypted" } else { "encrypted" };
    line(0, format!("layer {} {state}", layer.digest));
    for (scheme, annotations) in &layer.keys {
        for annotation in annotations {
            line(2, scheme.clone());
            let packets = match annotation {
                Some(annotation) => provider.inspect(annotation).await,
                None => Err(Error::InvalidInput { reason: "the annotation is not base64".into(), hint: String::new() }),
            };
            match packets {
                Ok(packets) => packets.iter().for_each(|packet| line(4, packet_line(packet))),
                Err(error) => line(4, format!("nothing that this provider reads: {error}")),
            }
        }
    }
}

fn packet_line(packet: &PacketInfo) -> String {
    let attributes: String = packet.attributes.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{} {} {} bytes{attributes}", packet.key_uri, packet.wrap_type, packet.wrapped_length)
}
