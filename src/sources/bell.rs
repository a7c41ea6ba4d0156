//! How a thread of a source is waited for, asked and ended.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a thread is told while it waits for its next turn.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    rings: Condvar,
}

/// What it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rung {
    /// To end.
    pub(super) is_stopped: bool,
    /// To begin its next turn now, and with it from the beginning.
    pub(super) is_asked: bool,
    /// To begin no turn.
    is_held: bool,
}

impl Bell {
    pub(super) fn ask(&self) {
        self.ring(|rung| rung.is_asked = true);
    }

    /// Has it wait until it is [let go](Self::let_go), whatever it is asked meanwhile.
    pub(super) fn hold(&self) {
        self.ring(|rung| rung.is_held = true);
    }

    /// Has it begin its next turn.
    pub(super) fn let_go(&self) {
        self.ring(|rung| {
            rung.is_held = false;
            rung.is_asked = true;
        });
    }

    pub(super) fn stop(&self) {
        self.ring(|rung| rung.is_stopped = true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.rung
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_stopped
    }

    fn ring(&self, change: impl FnOnce(&mut Rung)) {
        change(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        self.rings.notify_all();
    }

    /// Waits until it is rung or this long, and then for as long as it is held. To have been asked is
    /// forgotten with it.
    pub(super) fn wait(&self, bound: Duration) -> Rung {
        let until = after(bound);
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut left = until.saturating_duration_since(Instant::now());
            if rung.is_held && !rung.is_stopped {
                // Until it is rung.
                left = Duration::from_secs(3_600);
            } else if rung.is_stopped || rung.is_asked || left.is_zero() {
                let told = *rung;
                rung.is_asked = false;
                return told;
            }
            let (again, _) = self
                .rings
                .wait_timeout(rung, left)
                .unwrap_or_else(PoisonError::into_inner);
            rung = again;
        }
    }
}

/// The moment after this long, or one that nobody lives to see.
pub(super) fn after(bound: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    let now = Instant::now();
    now.checked_add(bound).unwrap_or(now + CENTURY)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_asks_is_heard_once_and_who_stops_for_ever() {
        let bell = Arc::new(Bell::default());
        assert_eq!(bell.wait(Duration::from_millis(1)), Rung::default());
        bell.ask();
        assert!(bell.wait(Duration::MAX).is_asked);
        bell.ask();
        let long = Duration::from_secs(60);
        assert!(bell.wait(long).is_asked);
        assert_eq!(bell.wait(Duration::ZERO), Rung::default());
        bell.hold();
        bell.ask();
        let other = Arc::clone(&bell);
        let held = std::thread::spawn(move || other.wait(Duration::ZERO));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!held.is_finished());
        bell.let_go();
        assert!(held.join().unwrap().is_asked);
        let other = Arc::clone(&bell);
        let waiting = std::thread::spawn(move || other.wait(long));
        bell.stop();
        assert!(waiting.join().unwrap().is_stopped);
        assert!(bell.is_stopped() && bell.wait(long).is_stopped);
    }
}
