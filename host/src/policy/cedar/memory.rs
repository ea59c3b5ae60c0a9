//! Permits that a policy has given before: to ask Cedar takes longer than all else that a server does for an exchange.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ocicrypt_kms_protocol::Operation;

use crate::caller::{Caller, Identity};
use crate::digest::Digest;
use crate::key_uri::KeyUri;
use crate::policy::{Denial, Origin, Permit, Request};

/// The most permits that are remembered. When there are more, all are forgotten.
const MAX_PERMITS: usize = 1024;
/// The longest that all their texts may be together, in bytes; likewise. A client chooses which keys it names, and how long their context is.
const MAX_TEXT: usize = 1 << 20;

/// The permits of one policy that doesn't look at the time.
#[derive(Default)]
pub(super) struct Memory(Mutex<Permits>);

#[derive(Default)]
struct Permits {
    given: HashMap<Asked, Permit>,
    /// How long the texts of all of them are.
    text: usize,
}

impl Permits {
    fn remember(&mut self, asked: Asked, permit: Permit) {
        let text = asked.text() + permit.rules.iter().map(String::len).sum::<usize>();
        if text > MAX_TEXT {
            return;
        }
        if self.given.len() >= MAX_PERMITS || self.text + text > MAX_TEXT {
            *self = Self::default();
        }
        // Of two that ask at once, the second one finds it there.
        if self.given.insert(asked, permit).is_none() {
            self.text += text;
        }
    }
}

/// All that a policy can look at of a request, but the time.
#[derive(Eq, Hash, PartialEq)]
struct Asked {
    key: KeyUri,
    operation: Operation,
    origin: Origin,
    caller: Caller,
    provider: String,
    component: Digest,
    opened: Vec<KeyUri>,
}

impl Memory {
    /// `None` if the policy could look at the time: then a permit holds for that moment only.
    pub fn of(policy: &str) -> Option<Self> {
        (!super::could_look_at(policy, "time")).then(Self::default)
    }

    /// The permit for this request, or what comes of asking.
    pub fn permit(&self, request: &Request<'_>, ask: impl FnOnce() -> Result<Permit, Denial>) -> Result<Permit, Denial> {
        let asked = Asked::of(request);
        if let Some(permit) = self.permits().given.get(&asked) {
            return Ok(permit.clone());
        }
        let permit = ask()?;
        self.permits().remember(asked, permit.clone());
        Ok(permit)
    }

    fn permits(&self) -> std::sync::MutexGuard<'_, Permits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn of(request: &Request<'_>) -> Self {
        // All of it, so that a part that is added isn't forgotten here.
        let Request { key, operation, origin, caller, provider, component, opened, time: _ } = *request;
        let caller = match caller {
            // A policy can't look at the process, and each client has another.
            Caller::Peer { uid, gid, .. } => Caller::Peer { uid: *uid, gid: *gid, pid: None },
            caller => caller.clone(),
        };
        Self { key: key.clone(), operation, origin, caller, provider: provider.to_owned(), component, opened: opened.to_vec() }
    }

    /// How long its texts are. A key URI is kept in parts, too.
    fn text(&self) -> usize {
        let keys = self.opened.iter().chain([&self.key]).map(|key| 2 * key.canonical().len()).sum::<usize>();
        let caller = match &self.caller {
            Caller::Certificate(identity) => {
                let Identity { subject, spiffe, dns } = identity.as_ref();
                subject.len() + spiffe.as_ref().map_or(0, String::len) + dns.iter().map(String::len).sum::<usize>()
            }
            Caller::Process | Caller::Peer { .. } | Caller::Anonymous => 0,
        };
        keys + caller + self.provider.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::key_uri::Addresses;

    fn uri(text: &str) -> KeyUri {
        KeyUri::parse(text, &Addresses::default()).unwrap()
    }

    fn request<'a>(key: &'a KeyUri, caller: &'a Caller) -> Request<'a> {
        let (operation, origin, component) = (Operation::Wrap, Origin::Parameter, Digest::of(b"a"));
        Request { key, operation, origin, caller, provider: "p", component, opened: &[], time: SystemTime::UNIX_EPOCH }
    }

    fn asks(memory: &Memory, request: &Request<'_>) -> bool {
        let mut asked = false;
        let permit = memory.permit(request, || {
            asked = true;
            Ok(Permit { rules: vec![request.key.canonical().into()] })
        });
        assert_eq!(permit.unwrap().rules, [request.key.canonical()]);
        asked
    }

    #[test]
    fn a_permit_is_remembered_for_the_same_request_and_for_no_other() {
        let (key, other, caller, peer) =
            (uri("local://a"), [uri("local://b")], Caller::Process, Caller::Peer { uid: 1, gid: 1, pid: None });
        let request = request(&key, &caller);
        let memory = Memory::default();
        assert!(asks(&memory, &request) && !asks(&memory, &request));
        assert!(!asks(&memory, &Request { time: SystemTime::now(), ..request }), "the time is looked at by no such policy");
        let context = uri("local://a?context_stage=x");
        for different in [
            Request { key: &other[0], ..request },
            Request { key: &context, ..request },
            Request { operation: Operation::Unwrap, ..request },
            Request { origin: Origin::Annotation, ..request },
            Request { caller: &peer, ..request },
            Request { caller: &Caller::Peer { uid: 1, gid: 2, pid: None }, ..request },
            Request { provider: "q", ..request },
            Request { component: Digest::of(b"b"), ..request },
            Request { opened: &other, ..request },
        ] {
            assert!(asks(&memory, &different) && !asks(&memory, &different), "{different:?}");
        }
        assert!(!asks(&memory, &Request { caller: &Caller::Peer { uid: 1, gid: 1, pid: Some(7) }, ..request }));
    }

    #[test]
    fn a_denial_is_asked_for_each_time_and_permits_are_bounded() {
        let (memory, caller) = (Memory::default(), Caller::Process);
        let key = uri("local://denied");
        for _ in 0..2 {
            assert!(memory.permit(&request(&key, &caller), || Err(Denial::default())).is_err());
        }
        for number in 0..=MAX_PERMITS {
            let key = uri(&format!("local://{number}"));
            assert!(asks(&memory, &request(&key, &caller)));
            assert!(memory.permits().given.len() <= MAX_PERMITS);
        }
    }

    #[test]
    fn permits_are_bounded_by_the_length_of_all_that_they_hold() {
        /// What a policy could be asked with at the longest: keys with long contexts, opened keys, a certificate with many names, a name of its own.
        fn ask(memory: &Memory, number: usize) {
            let key = |more: usize| uri(&format!("local://{number}-{more}?context_a={}", "x".repeat(1900)));
            let opened: Vec<_> = (0..15).map(key).collect();
            let dns = vec![format!("{number}.{}", "n".repeat(200)); 16];
            let caller = Caller::Certificate(Box::new(Identity { subject: "s".repeat(1000), spiffe: Some("i".repeat(2048)), dns }));
            let (key, provider) = (key(16), "p".repeat(128));
            assert!(asks(memory, &Request { opened: &opened, provider: &provider, ..request(&key, &caller) }));
        }
        let held = |memory: &Memory| -> usize {
            let text = |(asked, permit): (&Asked, &Permit)| format!("{:?}{:?}{:?}", asked.caller, asked.opened, permit.rules).len();
            memory.permits().given.iter().map(text).sum()
        };
        let memory = Memory::default();
        for number in 0..MAX_PERMITS {
            ask(&memory, number);
            assert!(held(&memory) < 4 * MAX_TEXT || number % 64 > 0, "{number}: {} bytes", held(&memory));
        }
        let counted = memory.permits().given.iter().map(|(asked, permit)| asked.text() + permit.rules[0].len()).sum::<usize>();
        assert_eq!(memory.permits().text, counted);
        let (key, caller) = (uri("local://k"), Caller::Process);
        let huge = "p".repeat(4 << 20);
        for _ in 0..2 {
            assert!(asks(&memory, &Request { provider: &huge, ..request(&key, &caller) }), "what is longer than all is not remembered");
        }
    }

    #[test]
    fn a_policy_that_could_look_at_the_time_is_not_remembered() {
        for policy in ["permit(principal,action,resource) when { context.time < datetime(\"2030-01-01\") };", "context[\"\\x74ime\"]"] {
            assert!(Memory::of(policy).is_none(), "{policy}");
        }
        assert!(Memory::of("permit(principal, action, resource);").is_some());
    }
}
