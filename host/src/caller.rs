//! Who asks for an exchange, as far as the host itself can tell.

use std::fmt;

/// Who asks for an exchange. Nothing in it is a claim of the message.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Caller {
    /// This process: a program that uses the library, or the user who started the command.
    #[default]
    Process,
    /// A process of this machine, as the kernel reports it of a Unix socket (`SO_PEERCRED`).
    Peer {
        /// The user.
        uid: u32,
        /// The user's group.
        gid: u32,
        /// The process, where it is one that this process can see.
        pid: Option<i32>,
    },
    /// Whoever holds the key of a certificate that the client CA issued.
    Certificate(Box<Identity>),
    /// Anybody who reaches the address.
    Anonymous,
}

/// The names in a client's certificate, each exactly as it is there. They come from whoever signed it. A server reads none that has control
/// characters; a program that fills this in by itself shouldn't either.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Identity {
    /// The subject, as RFC 4514 writes distinguished names: `CN=node,O=admins`. Empty if there is none.
    pub subject: String,
    /// The SPIFFE id, which is the only URI then.
    pub spiffe: Option<String>,
    /// The DNS names, in lower case.
    pub dns: Vec<String>,
}

impl fmt::Display for Caller {
    /// What logs and records call it: `process`, `uid:1000`, the SPIFFE id, `dns:NAME`, `subject:NAME` or `anonymous`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("process"),
            Self::Peer { uid, .. } => write!(f, "uid:{uid}"),
            Self::Certificate(identity) => identity.fmt(f),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.spiffe, self.dns.first()) {
            (Some(spiffe), _) => f.write_str(spiffe),
            (None, Some(dns)) => write!(f, "dns:{dns}"),
            (None, None) => write!(f, "subject:{}", self.subject),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_called_by_the_name_that_says_most() {
        let mut identity = Identity { subject: "CN=node-1".into(), ..Identity::default() };
        let name = |identity: &Identity| Caller::Certificate(Box::new(identity.clone())).to_string();
        assert_eq!(name(&identity), "subject:CN=node-1");
        identity.dns = vec!["node-1.example".into(), "other.example".into()];
        assert_eq!(name(&identity), "dns:node-1.example");
        identity.spiffe = Some("spiffe://example/node".into());
        assert_eq!(name(&identity), "spiffe://example/node");
        assert_eq!(Caller::Peer { uid: 7, gid: 8, pid: None }.to_string(), "uid:7");
    }
}
