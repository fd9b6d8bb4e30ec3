//! Sessions shared within a process: one for each bundle and what is fed and fetched, counted by the handles that use it.

use std::collections::HashMap;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use once_cell::sync::{Lazy, OnceCell};

use crate::bundle::digest_of;
use crate::options::Operation;
use crate::session::Session;
use crate::values::Port;
use crate::{Error, ErrorKind, Result, runtime};

/// Sessions kept although no handle uses them, and for how long.
const MAX_IDLE: usize = 2;
const MAX_IDLE_TIME: Duration = Duration::from_secs(600);
const MAX_REMEMBERED: usize = 256;

/// What a session is made from: digest of the bundle, tensors that are fed and fetched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) digest: String,
    pub(crate) feeds: Vec<(String, Port)>,
    pub(crate) fetches: Vec<(String, Port)>,
    /// Where it runs for blocks of rows.
    pub(crate) operation: Option<Operation>,
    pub(crate) allow_unsafe_ops: bool,
}

#[derive(Default)]
struct Entry {
    session: Arc<OnceCell<Session>>,
    leases: usize,
    idle_since: Option<Instant>,
}

static SESSIONS: Lazy<Mutex<HashMap<Key, Entry>>> = Lazy::new(Mutex::default);
static DIGESTS: Lazy<Mutex<HashMap<FileState, String>>> = Lazy::new(Mutex::default);

/// The use of a shared session, given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    key: Key,
    session: Arc<OnceCell<Session>>,
}

/// The session of a key; `load` runs once however many ask at the same time, and again after it failed.
pub(crate) fn lease(key: Key, load: impl FnOnce() -> Result<Session>) -> Result<Lease> {
    let session = {
        let mut sessions = lock(&SESSIONS);
        let entry = sessions.entry(key.clone()).or_default();
        entry.leases += 1;
        entry.idle_since = None;
        entry.session.clone()
    };
    let lease = Lease { key, session };
    lease.session.get_or_try_init(load)?;
    Ok(lease)
}

impl Lease {
    pub(crate) fn session(&self) -> Result<&Session> {
        self.session
            .get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "A session was used before it was loaded."))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let dropped = {
            let mut sessions = lock(&SESSIONS);
            if let Some(entry) = sessions.get_mut(&self.key) {
                entry.leases = entry.leases.saturating_sub(1);
                if entry.leases == 0 {
                    entry.idle_since = Some(Instant::now());
                }
            }
            take_idle(&mut sessions, Instant::now())
        };
        // Closing a session takes time: not under the lock.
        if !dropped.is_empty() {
            drop(dropped);
            runtime::return_freed_memory();
        }
    }
}

/// Removes what has been idle too long, was never loaded, or is more than may wait.
fn take_idle(sessions: &mut HashMap<Key, Entry>, now: Instant) -> Vec<Entry> {
    let mut idle: Vec<(Instant, Key)> = sessions
        .iter()
        .filter(|(_, entry)| entry.leases == 0)
        .filter_map(|(key, entry)| entry.idle_since.map(|since| (since, key.clone())))
        .collect();
    idle.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
    let mut kept = 0;
    let mut taken = Vec::new();
    for (since, key) in idle {
        let loaded = sessions.get(&key).is_some_and(|entry| entry.session.get().is_some());
        if loaded && kept < MAX_IDLE && now.duration_since(since) < MAX_IDLE_TIME {
            kept += 1;
        } else {
            taken.extend(sessions.remove(&key));
        }
    }
    taken
}

/// What tells whether a file is still the one that was hashed.
#[derive(PartialEq, Eq, Hash)]
struct FileState {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// SHA-256 of a bundle, computed once for each state of the file.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let Ok(found) = path.metadata() else { return digest_of(path) };
    let state = FileState {
        device: found.dev(),
        inode: found.ino(),
        length: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    };
    if let Some(known) = lock(&DIGESTS).get(&state) {
        return Ok(known.clone());
    }
    let digest = digest_of(path)?;
    let mut digests = lock(&DIGESTS);
    if digests.len() >= MAX_REMEMBERED {
        digests.clear();
    }
    digests.insert(state, digest.clone());
    Ok(digest)
}

fn lock<T, L: Deref<Target = Mutex<T>>>(mutex: &'static L) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
