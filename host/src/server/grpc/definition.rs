//! What `proto/keyprovider.proto` says, in Rust: one message each way, and the service's description for reflection. It is short enough to be
//! written by hand; the test compares the two.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};

/// The full name of the service, in both protocols.
pub(in crate::server) const SERVICE: &str = "keyprovider.KeyProviderService";
/// Its methods.
pub(super) const METHODS: [&str; 2] = ["WrapKey", "UnWrapKey"];

/// What a client asks.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::server) struct Input {
    /// The message that a key provider program gets on standard input.
    #[prost(bytes = "vec", tag = "1")]
    pub message: Vec<u8>,
}

/// What it is answered.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::server) struct Output {
    /// The answer that a key provider program writes to standard output.
    #[prost(bytes = "vec", tag = "1")]
    pub message: Vec<u8>,
}

/// The description of the file, as a compiler of protobuf writes it.
pub(super) fn description() -> FileDescriptorSet {
    let (package, service) = SERVICE.split_once('.').unwrap_or_default();
    let message = |name: &str, field: &str| DescriptorProto {
        name: Some(name.into()),
        field: vec![FieldDescriptorProto {
            name: Some(field.into()),
            number: Some(1),
            label: Some(Label::Optional.into()),
            r#type: Some(Type::Bytes.into()),
            json_name: Some(field.into()),
            ..FieldDescriptorProto::default()
        }],
        ..DescriptorProto::default()
    };
    let method = |name: &str| MethodDescriptorProto {
        name: Some(name.into()),
        input_type: Some(format!(".{package}.keyProviderKeyWrapProtocolInput")),
        output_type: Some(format!(".{package}.keyProviderKeyWrapProtocolOutput")),
        ..MethodDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("keyprovider.proto".into()),
        package: Some(package.into()),
        message_type: vec![
            message("keyProviderKeyWrapProtocolInput", "KeyProviderKeyWrapProtocolInput"),
            message("keyProviderKeyWrapProtocolOutput", "KeyProviderKeyWrapProtocolOutput"),
        ],
        service: vec![ServiceDescriptorProto {
            name: Some(service.into()),
            method: METHODS.map(method).into(),
            ..ServiceDescriptorProto::default()
        }],
        syntax: Some("proto3".into()),
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// The file that a description is of, line by line.
    fn lines(file: &FileDescriptorProto) -> Vec<String> {
        let local = |name: &str| name.strip_prefix(&format!(".{}.", file.package())).unwrap().to_owned();
        let mut lines = vec![format!("syntax = \"{}\";", file.syntax()), format!("package {};", file.package())];
        for message in &file.message_type {
            lines.push(format!("message {} {{", message.name()));
            for field in &message.field {
                assert_eq!((field.r#type(), field.label(), field.json_name()), (Type::Bytes, Label::Optional, field.name()));
                lines.push(format!("bytes {} = {};", field.name(), field.number()));
            }
            lines.push("}".into());
        }
        for service in &file.service {
            lines.push(format!("service {} {{", service.name()));
            for method in &service.method {
                assert!(!method.client_streaming() && !method.server_streaming());
                let (input, output) = (local(method.input_type()), local(method.output_type()));
                lines.push(format!("rpc {}({input}) returns ({output}) {{}};", method.name()));
            }
            lines.push("}".into());
        }
        lines
    }

    #[test]
    fn what_is_written_here_is_what_the_file_says() {
        let text = include_str!("../../../proto/keyprovider.proto");
        let said: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).collect();
        assert_eq!(lines(&description().file[0]), said);
    }

    #[test]
    fn a_message_is_its_first_field() {
        assert_eq!(Input { message: b"{}".into() }.encode_to_vec(), b"\x0a\x02{}");
        assert_eq!(Output::decode(b"\x0a\x02{}".as_slice()).unwrap().message, b"{}");
    }
}
