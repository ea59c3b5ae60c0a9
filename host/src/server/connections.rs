//! The connections that are open: whose each is, how many there may be, and how somebody else than its client ends one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::party::Party;
use super::tls::Shown;
use crate::caller::Caller;

/// All open connections of a server.
pub(super) struct Connections {
    table: Mutex<Table>,
    max: usize,
    max_of_one: usize,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Entry>,
    next: u64,
    /// How many each party has.
    of: HashMap<Party, usize>,
}

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Full {
    #[error("there are as many connections as there may be; raise `max-connections`")]
    All,
    #[error("its caller has as many connections as one may have; raise `max-connections-per-caller`")]
    Share,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Entry {
    pub caller: Arc<Caller>,
    /// The certificates that its client has shown, by TLS.
    pub shown: Option<Arc<Shown>>,
    close: watch::Sender<bool>,
}

/// What a connection holds as long as it is open.
pub(super) struct Open {
    connections: Arc<Connections>,
    number: u64,
    caller: Arc<Caller>,
    party: Party,
    close: watch::Receiver<bool>,
}

impl Connections {
    /// None yet, and as many as `max` at a time, `max_of_one` of them of one party.
    pub fn new(max: u32, max_of_one: u32) -> Self {
        Self { table: Mutex::default(), max: max as usize, max_of_one: max_of_one as usize }
    }

    /// Notes a connection, until what this returns is dropped.
    pub fn enter(self: &Arc<Self>, caller: Caller, shown: Option<Shown>) -> Result<Open, Full> {
        let (sender, close) = watch::channel(false);
        let (party, caller) = (Party::from(&caller), Arc::new(caller));
        let mut table = self.table();
        if table.open.len() >= self.max {
            return Err(Full::All);
        }
        let of_party = table.of.entry(party.clone()).or_default();
        if *of_party >= self.max_of_one {
            return Err(Full::Share);
        }
        *of_party += 1;
        let number = table.next;
        table.next += 1;
        table.open.insert(number, Entry { caller: caller.clone(), shown: shown.map(Arc::new), close: sender });
        drop(table);
        Ok(Open { connections: self.clone(), number, caller, party, close })
    }

    /// Those that are open now.
    pub fn all(&self) -> Vec<Entry> {
        self.table().open.values().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Has the connection closed at once, whatever is under way on it.
    pub fn close(&self) {
        self.close.send_replace(true);
    }
}

impl Open {
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Turns true when the connection is to be closed.
    pub fn close(&self) -> watch::Receiver<bool> {
        self.close.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut table = self.connections.table();
        table.open.remove(&self.number);
        if let Some(of_party) = table.of.get_mut(&self.party) {
            *of_party -= 1;
            if *of_party == 0 {
                table.of.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Caller {
        Caller::Peer { uid, gid: 0, pid: Some(7) }
    }

    #[test]
    fn a_connection_is_known_while_it_is_open_and_told_to_close() {
        let connections = Arc::new(Connections::new(2, 2));
        let [first, second] = [1, 2].map(|uid| connections.enter(user(uid), None).unwrap_or_else(|full| panic!("{full}")));
        let entries = connections.all();
        assert_eq!(entries.len(), 2);
        let of_first = entries.iter().find(|entry| entry.caller.to_string() == "uid:1").unwrap();
        of_first.close();
        assert_eq!((*first.close().borrow(), *second.close().borrow()), (true, false));
        drop(first);
        assert_eq!(connections.all().len(), 1);
        // One that is gone meanwhile is closed already.
        of_first.close();
        drop(second);
        assert!(connections.all().is_empty() && connections.table().of.is_empty());
    }

    #[test]
    fn one_caller_can_not_have_all_connections() {
        let connections = Arc::new(Connections::new(4, 3));
        let enter = |uid| connections.enter(user(uid), None);
        let mut open: Vec<_> = (0..3).map(|_| enter(1).ok().unwrap()).collect();
        assert_eq!(enter(1).err(), Some(Full::Share));
        open.push(enter(2).ok().unwrap());
        assert_eq!(enter(3).err(), Some(Full::All));
        drop(open.remove(0));
        assert!(enter(1).is_ok());
    }
}
