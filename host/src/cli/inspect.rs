//! `ocicrypt-kms inspect IMAGE`: whom an image's layer keys are wrapped for.

use std::fmt::Write;

use ocicrypt_kms::error::printable;
use ocicrypt_kms::{Config, Error, KeyProvider, PacketInfo};

use super::image::{Layer, layers};
use super::{Options, block_on, print};

#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// oci:FOLDER[:TAG], a manifest file, or - for a manifest on standard input
    image: String,
}

impl Inspect {
    pub(super) fn run(self, options: Options) -> Result<(), Error> {
        let provider = KeyProvider::builder(options.over(Config::default())).build()?;
        let layers = layers(&self.image)?;
        let text = block_on(false, async {
            let mut text = String::new();
            for layer in &layers {
                describe(&provider, layer, &mut text).await;
            }
            text
        })?;
        print(text.as_bytes())
    }
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
