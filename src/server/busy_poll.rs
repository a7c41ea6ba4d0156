//! Busy polling: a core looks for input for a while before it sleeps. Waking a sleeping CPU takes
//! longer than a NOTIFY does, so this buys latency at low load, and pays with a whole core.

use std::cell::Cell;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use monoio::net::UnixStream;
use monoio::time::sleep;

use super::peer::Signal;

/// How often timers are looked at on epoll while a core polls, where monoio does so only when no
/// task is ready.
const TIMERS_EVERY: Duration = Duration::from_millis(2);

/// What the task that polls shares with those that read.
#[derive(Default)]
pub(super) struct BusyPoll {
    /// Whether something was read since the last look.
    active: Cell<bool>,
    sleeping: Cell<bool>,
    ended: Cell<bool>,
    woken: Signal,
}

impl BusyPoll {
    /// Something was read: stay awake.
    #[inline]
    pub(super) fn note(&self) {
        self.active.set(true);
        if self.sleeping.replace(false) {
            self.woken.raise();
        }
    }

    pub(super) fn end(&self) {
        self.ended.set(true);
        self.woken.raise();
    }

    /// Keeps its core awake until nothing was read for `limit`, whenever something was.
    pub(super) async fn run(self: Rc<Self>, limit: Duration, is_io_uring: bool) {
        let result = if is_io_uring {
            match Ready::new() {
                Ok(ready) => self.poll_ring(limit, &ready).await,
                Err(error) => Err(error),
            }
        } else {
            self.poll_epoll(limit).await;
            Ok(())
        };
        if let Err(error) = result {
            tracing::warn!("busy polling is off on one core: {error}");
        }
    }

    /// On a ring each look is a whole turn of the event loop, which an operation that is complete
    /// at once keeps from waiting.
    async fn poll_ring(&self, limit: Duration, ready: &Ready) -> io::Result<()> {
        let mut since = Instant::now();
        while self.stays_awake(&mut since, limit).await {
            ready.socket.readable(false).await?;
        }
        Ok(())
    }

    /// On epoll a task that is always ready makes the event loop look without waiting, but past its
    /// timers. For these it is let wait for one that is already due.
    async fn poll_epoll(&self, limit: Duration) {
        let mut since = Instant::now();
        let mut timer = pin!(sleep(TIMERS_EVERY));
        let mut due = Instant::now() + TIMERS_EVERY;
        while self.stays_awake(&mut since, limit).await {
            let now = Instant::now();
            if now >= due {
                timer.as_mut().await;
                timer
                    .as_mut()
                    .reset(monoio::time::Instant::now() + TIMERS_EVERY);
                // Registers it.
                let _ = timer.as_mut().now_or_never();
                // Timers are rounded up to the next millisecond.
                due = now + TIMERS_EVERY + Duration::from_millis(1);
            }
            // Wakes itself from behind the queue. Waking its own task would put it in front of the
            // others in monoio 0.2.4.
            monoio::spawn(async {}).await;
        }
    }

    /// Sleeps when it is time to; false at the end.
    async fn stays_awake(&self, since: &mut Instant, limit: Duration) -> bool {
        let now = Instant::now();
        if self.active.replace(false) {
            *since = now;
        } else if now.duration_since(*since) >= limit {
            self.sleeping.set(true);
            self.woken.wait().await;
            *since = Instant::now();
        }
        !self.ended.get()
    }
}

/// A socket that always has something to read.
struct Ready {
    socket: UnixStream,
    _writer: StdUnixStream,
}

impl Ready {
    fn new() -> io::Result<Self> {
        let (reader, mut writer) = StdUnixStream::pair()?;
        writer.write_all(&[0])?;
        Ok(Self {
            socket: UnixStream::from_std(reader)?,
            _writer: writer,
        })
    }
}
