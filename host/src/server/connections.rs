//! The connections that are open: whose each is, and how somebody else than its client ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::tls::Shown;
use crate::caller::Caller;

/// All open connections of a server.
#[derive(Default)]
pub(super) struct Connections(Mutex<Table>);

#[derive(Default)]
struct Table {
    open: HashMap<u64, Entry>,
    next: u64,
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
    close: watch::Receiver<bool>,
}

impl Connections {
    /// Notes a connection, until what this returns is dropped.
    pub fn enter(self: &Arc<Self>, caller: Caller, shown: Option<Shown>) -> Open {
        let (sender, close) = watch::channel(false);
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.open.insert(number, Entry { caller: Arc::new(caller), shown: shown.map(Arc::new), close: sender });
        Open { connections: self.clone(), number, close }
    }

    /// Those that are open now.
    pub fn all(&self) -> Vec<Entry> {
        self.table().open.values().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Has the connection closed at once, whatever is under way on it.
    pub fn close(&self) {
        self.close.send_replace(true);
    }
}

impl Open {
    /// Turns true when the connection is to be closed.
    pub fn close(&self) -> watch::Receiver<bool> {
        self.close.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_known_while_it_is_open_and_told_to_close() {
        let connections = Arc::new(Connections::default());
        let [first, second] = [1, 2].map(|uid| connections.enter(Caller::Peer { uid, gid: 0, pid: None }, None));
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
        assert!(connections.all().is_empty());
    }
}
