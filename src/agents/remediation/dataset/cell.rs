//! Handing snapshots from the thread that makes them to the cores that look things up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::snapshot::Snapshot;

/// The snapshot in force: of decisions, or of something else that is replaced as a whole.
///
/// Cores have a [`SnapshotReader`] each, and pay one load of an unchanged number for each look at the
/// snapshot. What a new one replaces is not freed by a core, which would stall all of its connections
/// for as long as the kernel takes to unmap it, but by whoever calls [`publish`](Self::publish) or
/// [`collect`](Self::collect).
#[derive(Debug)]
pub struct SnapshotCell<T = Snapshot> {
    /// How often a snapshot was published.
    generation: AtomicU64,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    current: Arc<T>,
    /// What readers do not look at any more, with room for [`PUT_ASIDE`] of each reader, so that a core
    /// that puts one here allocates nothing.
    replaced: Vec<Arc<T>>,
    reader_count: usize,
}

impl<T> SnapshotCell<T> {
    /// With this snapshot in force.
    #[must_use]
    pub fn new(snapshot: Arc<T>) -> Arc<Self> {
        Arc::new(Self {
            generation: AtomicU64::new(0),
            state: Mutex::new(State {
                current: snapshot,
                replaced: Vec::new(),
                reader_count: 0,
            }),
        })
    }

    /// A reader, for one core.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> SnapshotReader<T> {
        let mut state = self.lock();
        state.reader_count += 1;
        let room = PUT_ASIDE * state.reader_count;
        state.replaced.reserve(room);
        SnapshotReader {
            // Both under the lock, so that they belong together.
            generation: self.generation.load(Ordering::Relaxed),
            current: Arc::clone(&state.current),
            cell: Arc::clone(self),
        }
    }

    /// Puts a snapshot in force: each core has it with its next look. Frees what was replaced and is no
    /// longer looked at.
    pub fn publish(&self, snapshot: Arc<T>) {
        let before = {
            let mut state = self.lock();
            // Ordered before the snapshot by the lock that readers take to get it.
            self.generation.fetch_add(1, Ordering::Release);
            std::mem::replace(&mut state.current, snapshot)
        };
        // Freed here if no core has it.
        drop(before);
        self.collect();
    }

    /// Frees what cores have put aside since. To be called now and then by a thread that may take its
    /// time, as cores put the last snapshot aside after it was replaced.
    pub fn collect(&self) {
        let replaced = {
            let mut state = self.lock();
            let room = Vec::with_capacity(PUT_ASIDE * state.reader_count);
            std::mem::replace(&mut state.replaced, room)
        };
        // Not under the lock: freeing takes a while.
        drop(replaced);
    }

    /// The snapshot in force, for those who look rarely.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.lock().current)
    }

    /// How often a snapshot was published.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reader puts aside at most between two collections: it takes each snapshot once, there is a
/// collection after each, and the reader may be quicker than the collection after the second. One more
/// when it ends.
const PUT_ASIDE: usize = 3;

/// One core's hold on the snapshot in force.
///
/// A reader keeps its snapshot in memory until it looks again: a core that may be idle for long should
/// look every second or so.
#[derive(Debug)]
pub struct SnapshotReader<T = Snapshot> {
    cell: Arc<SnapshotCell<T>>,
    current: Arc<T>,
    generation: u64,
}

impl<T> SnapshotReader<T> {
    /// The snapshot in force. Does not wait: while another thread publishes or takes one, for some
    /// nanoseconds, it is the one before.
    #[inline]
    pub fn snapshot(&mut self) -> &T {
        if self.cell.generation.load(Ordering::Relaxed) != self.generation {
            self.take();
        }
        &self.current
    }

    #[cold]
    fn take(&mut self) {
        let mut state = match self.cell.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // Only written under the lock, so it belongs to the snapshot.
        self.generation = self.cell.generation.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut self.current, Arc::clone(&state.current));
        state.replaced.push(before);
    }
}

impl<T> Drop for SnapshotReader<T> {
    fn drop(&mut self) {
        let mut state = self.cell.lock();
        state.reader_count -= 1;
        let last = Arc::clone(&state.current);
        state
            .replaced
            .push(std::mem::replace(&mut self.current, last));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    use super::super::{Decision, DecisionStore, Source, SourceId};
    use super::*;

    fn store() -> (DecisionStore, SourceId) {
        let mut store = DecisionStore::with_seed([1, 2]);
        let source = store.add_source(Source::default()).unwrap();
        (store, source)
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// The snapshot that has this id alone.
    fn with_id(store: &mut DecisionStore, source: SourceId, id: i64) -> Arc<Snapshot> {
        store.clear(source);
        let decision = Decision::new(ADDRESS, "ban", "test").with_id(id);
        store.insert(source, &decision).unwrap();
        store.apply(0);
        Arc::clone(store.snapshot())
    }

    fn id(snapshot: &Snapshot) -> i64 {
        snapshot.lookup(ADDRESS).unwrap().id().unwrap()
    }

    #[test]
    fn readers_have_what_was_published_last() {
        let (mut store, source) = store();
        let cell = SnapshotCell::new(with_id(&mut store, source, 1));
        let mut reader = cell.reader();
        assert_eq!(id(reader.snapshot()), 1);
        cell.publish(with_id(&mut store, source, 2));
        let mut late = cell.reader();
        for reader in [&mut reader, &mut late] {
            assert_eq!(id(reader.snapshot()), 2);
        }
        assert_eq!((cell.generation(), id(&cell.current())), (1, 2));
    }

    #[test]
    fn the_updating_thread_frees_what_readers_put_aside() {
        let (mut store, source) = store();
        let first = with_id(&mut store, source, 1);
        let watched = Arc::downgrade(&first);
        let cell = SnapshotCell::new(first);
        let (mut reader, other) = (cell.reader(), cell.reader());
        cell.publish(with_id(&mut store, source, 2));
        assert!(watched.upgrade().is_some(), "two readers have it");
        reader.snapshot();
        drop(other);
        assert_eq!(
            watched.strong_count(),
            2,
            "both were put aside, none was freed"
        );
        cell.collect();
        assert!(watched.upgrade().is_none());
    }

    #[test]
    fn a_reader_does_not_wait_for_the_lock() {
        let (mut store, source) = store();
        let cell = SnapshotCell::new(with_id(&mut store, source, 1));
        let mut reader = cell.reader();
        cell.publish(with_id(&mut store, source, 2));
        let held = cell.state.lock().unwrap();
        assert_eq!(id(reader.snapshot()), 1);
        drop(held);
        assert_eq!(id(reader.snapshot()), 2);
    }

    #[test]
    fn readers_on_other_threads_never_go_back() {
        const PUBLISHED: i64 = 2_000;
        let (mut store, source) = store();
        let first = with_id(&mut store, source, 0);
        let watched = Arc::downgrade(&first);
        let cell = SnapshotCell::new(first);
        let (is_over, begin) = (AtomicBool::new(false), Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (is_over, begin) = (&is_over, &begin);
                let mut reader = cell.reader();
                scope.spawn(move || {
                    begin.wait();
                    let mut last = 0;
                    while !is_over.load(Ordering::Acquire) {
                        let seen = id(reader.snapshot());
                        assert!(seen >= last, "{seen} after {last}");
                        last = seen;
                    }
                    // Without anybody publishing there is no lock but those of other readers.
                    while id(reader.snapshot()) != PUBLISHED {
                        std::thread::yield_now();
                    }
                });
            }
            begin.wait();
            for number in 1..=PUBLISHED {
                cell.publish(with_id(&mut store, source, number));
                let state = cell.state.lock().unwrap();
                assert!(
                    state.replaced.capacity() <= 3 * PUT_ASIDE,
                    "no reader allocated"
                );
            }
            is_over.store(true, Ordering::Release);
        });
        cell.collect();
        assert!(watched.upgrade().is_none());
        assert_eq!(
            Arc::strong_count(&cell.current()),
            3,
            "the cell, the store and this"
        );
    }
}
