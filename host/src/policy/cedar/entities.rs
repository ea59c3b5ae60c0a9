//! The caller and the key as Cedar's entities. Ids and attributes are values, never parsed as Cedar: no text of a caller or an image can become
//! anything else than a string.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use ocicrypt_kms_protocol::Operation;

use crate::caller::{Caller, Identity};
use crate::key_uri::{Arn, AwsKey, GcpKey, Key, KeyUri};
use crate::policy::keys::root;

/// A type of the schema.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Kind {
    Action,
    User,
    Group,
    Spiffe,
    TrustDomain,
    Dns,
    Domain,
    Subject,
    Anonymous,
    Key,
    Folder,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Action,
        Self::User,
        Self::Group,
        Self::Spiffe,
        Self::TrustDomain,
        Self::Dns,
        Self::Domain,
        Self::Subject,
        Self::Anonymous,
        Self::Key,
        Self::Folder,
    ];

    /// The type's name in policies.
    fn name(self) -> &'static EntityTypeName {
        static NAMES: LazyLock<HashMap<Kind, EntityTypeName>> = LazyLock::new(|| {
            let name = |kind: Kind| format!("Kms::{kind:?}").parse().expect("it is an identifier below another");
            Kind::ALL.into_iter().map(|kind| (kind, name(kind))).collect()
        });
        &NAMES[&self]
    }

    /// The entity of this type with this id, whatever stands in it.
    pub fn uid(self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.name().clone(), EntityId::new(id))
    }

    /// The type of an entity, unless the schema has none such.
    pub fn of(uid: &EntityUid) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == uid.type_name())
    }
}

type Attributes = HashMap<String, RestrictedExpression>;

fn text(name: &str, value: &str) -> (String, RestrictedExpression) {
    (name.to_owned(), RestrictedExpression::new_string(value.to_owned()))
}

/// An entity with attributes that are plain values, which are all that there is here.
fn entity(uid: EntityUid, attributes: Attributes, mut parents: HashSet<EntityUid>) -> Entity {
    parents.remove(&uid);
    Entity::new(uid, attributes, parents).expect("a plain value has nothing to evaluate that could fail")
}

/// The caller. Its own entity is the name that says most, the other names are its parents.
pub(super) fn principal(caller: &Caller) -> Entity {
    match caller {
        Caller::Process => user(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        Caller::Peer { uid, gid, .. } => user(*uid, *gid),
        Caller::Certificate(identity) => certificate(identity),
        Caller::Anonymous => Entity::with_uid(Kind::Anonymous.uid("anonymous")),
    }
}

fn user(uid: u32, gid: u32) -> Entity {
    let number = |name: &str, number: u32| (name.to_owned(), RestrictedExpression::new_long(number.into()));
    let attributes = HashMap::from([number("uid", uid), number("gid", gid)]);
    entity(Kind::User.uid(&uid.to_string()), attributes, HashSet::from([Kind::Group.uid(&gid.to_string())]))
}

fn certificate(identity: &Identity) -> Entity {
    let dns: Vec<String> = identity.dns.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect();
    let mut names: HashSet<_> = dns.iter().map(|name| Kind::Dns.uid(name)).collect();
    names.extend(dns.iter().flat_map(|name| domains(name)).map(|domain| Kind::Domain.uid(domain)));
    // No subject is nobody's name, and not one that all have who have none.
    names.extend((!identity.subject.is_empty()).then(|| Kind::Subject.uid(&identity.subject)));
    match (&identity.spiffe, dns.first()) {
        (Some(spiffe), _) => spiffe_id(spiffe, names),
        (None, Some(dns)) => entity(Kind::Dns.uid(dns), Attributes::new(), names),
        (None, None) => entity(Kind::Subject.uid(&identity.subject), Attributes::new(), names),
    }
}

fn spiffe_id(id: &str, mut names: HashSet<EntityUid>) -> Entity {
    let rest = id.strip_prefix("spiffe://").unwrap_or(id);
    let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    names.insert(Kind::TrustDomain.uid(trust_domain));
    entity(Kind::Spiffe.uid(id), HashMap::from([text("trust_domain", trust_domain), text("path", path)]), names)
}

/// The domains that a DNS name is below.
fn domains(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}

/// What a key is to be used for.
pub(super) fn action(operation: Operation) -> Entity {
    Entity::new_no_attrs(Kind::Action.uid(operation.as_str()), HashSet::from([Kind::Action.uid("use")]))
}

/// The entity that a key is, whatever else its URI says.
pub(super) fn key_uid(key: &KeyUri) -> EntityUid {
    Kind::Key.uid(key.identity())
}

/// The key, in the folders of its URI.
pub(super) fn resource(key: &KeyUri) -> Entity {
    let mut attributes: Attributes = parts(key.key()).into_iter().filter_map(|(name, value)| Some(text(name, value?))).collect();
    attributes.extend([text("uri", key.identity()), text("service", key.service().as_str())]);
    entity(key_uid(key), attributes, folders(key.identity()).map(|folder| Kind::Folder.uid(folder)).collect())
}

/// The beginnings of a key URI that a pattern of the `keys` list can have, without its `*`.
fn folders(identity: &str) -> impl Iterator<Item = &str> {
    let root = root(identity).map_or_else(|| identity.find("://").map_or(0, |end| end + 3), str::len);
    identity.match_indices('/').map(|(slash, _)| &identity[..=slash]).filter(move |folder| folder.len() >= root)
}

/// What the schema's attributes are of a key; some only if its URI says them.
fn parts(key: &Key) -> Vec<(&'static str, Option<&str>)> {
    match key {
        Key::Gcp(GcpKey { project, location, key_ring, key, version }) => vec![
            ("name", Some(key)),
            ("project", Some(project)),
            ("location", Some(location)),
            ("key_ring", Some(key_ring)),
            ("version", version.as_deref()),
        ],
        Key::Azure(key) => vec![("name", Some(&key.key)), ("vault", Some(key.vault())), ("version", key.version.as_deref())],
        Key::Aws(AwsKey { key_id, arn }) => {
            let arn = arn.as_ref();
            let part = |part: fn(&Arn) -> &str| arn.map(part);
            vec![("name", part(Arn::name).or(Some(key_id))), ("account", part(|arn| &arn.account)), ("region", part(|arn| &arn.region))]
        }
        Key::Vault(key) => vec![("name", Some(&key.key)), ("mount", Some(&key.mount))],
        Key::Local(key) => vec![("name", Some(&key.name))],
        Key::HttpKms(key) => vec![("name", Some(&key.key)), ("endpoint", Some(&key.endpoint))],
        Key::Other(key) => vec![("name", key.segments.last().map(String::as_str))],
    }
}
