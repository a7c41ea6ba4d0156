//! Taking connections, and giving each to the core that has the fewest.

use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use super::io::{CancelHandle, CoreListener, Socket, sleep};
use super::worker::{Inbound, REST, Worker};
use crate::agent::Agent;

/// Connections taken before others have their turn.
const ACCEPT_BATCH: usize = 32;

/// How long to leave accept alone after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<A: Agent + 'static> Worker<A> {
    /// Accepts until cancelled.
    pub(super) async fn accept(self: Rc<Self>, listener: Rc<CoreListener>, cancel: CancelHandle) {
        let mut accepted = 0_usize;
        loop {
            match listener.accept(cancel.clone()).await {
                Ok(socket) => {
                    self.place(socket);
                    // On epoll a queue that is never empty is accepted from without a pause, and
                    // nobody else runs.
                    accepted += 1;
                    if !self.is_io_uring && accepted.is_multiple_of(ACCEPT_BATCH) {
                        sleep(REST).await;
                    }
                }
                Err(_) if self.drain_by.get().is_some() => return,
                // The cores share a Unix listener, and another one was told to drain first.
                Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => return,
                Err(error) => {
                    self.refusals.warn(format_args!(
                        "accept failed, next try in {ACCEPT_PAUSE:?}: {error}"
                    ));
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a new connection to the core that has the fewest.
    fn place(self: &Rc<Self>, socket: Socket) {
        match self.placement.place(self.index) {
            None => {
                self.counters.connections_refused.add(1);
                let max = self.config.max_connections;
                self.refusals.warn(format_args!(
                    "connection closed at once: {max} are open, which is max-connections"
                ));
            }
            Some(target) if target == self.index => self.adopt(socket),
            Some(target) => {
                // The core is gone when this fails, in a drain; dropping the socket closes it.
                if self.inboxes[target]
                    .unbounded_send(Inbound::Connection(socket))
                    .is_err()
                {
                    self.placement.leave(target);
                }
            }
        }
    }
}
