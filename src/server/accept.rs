//! Taking connections, and giving each to the core that has the fewest.

use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;

use super::io::{CancelHandle, CoreListener, Socket, sleep};
use super::listen::BACKLOG;
use super::worker::{Inbound, REST, Worker};
use crate::agent::Agent;

/// Connections taken before others have their turn.
const ACCEPT_BATCH: usize = 32;

/// How long to leave accept alone after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<A: Agent + 'static> Worker<A> {
    /// Accepts until cancelled.
    pub(super) async fn accept(
        self: Rc<Self>,
        index: usize,
        listener: Rc<CoreListener>,
        cancel: CancelHandle,
    ) {
        let mut accepted = 0_usize;
        loop {
            match listener.accept(cancel.clone()).await {
                Ok(socket) => {
                    self.place(socket, index);
                    // On epoll a queue that is never empty is accepted from without a pause, and
                    // nobody else runs.
                    accepted += 1;
                    if !self.is_io_uring && accepted.is_multiple_of(ACCEPT_BATCH) {
                        sleep(REST).await;
                    }
                }
                Err(_) if self.drain_by.get().is_some() => {
                    // The kernel wakes one of those that wait for a connection. If that was this
                    // task, another process would not learn of it.
                    if self.hands_over.get() {
                        self.empty_queue(index, &listener);
                    }
                    return;
                }
                // The cores share a Unix listener, and another one was told to drain first.
                Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => return,
                Err(error) => {
                    self.counters.accept_errors.add(1);
                    self.refusals.warn(format_args!(
                        "accept failed, next try in {ACCEPT_PAUSE:?}: {error}"
                    ));
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes what waits to be accepted before a listener is closed, which would reset it.
    pub(super) fn empty_queue(self: &Rc<Self>, index: usize, listener: &CoreListener) {
        // What comes meanwhile is not waited for: it may come all the time.
        for _ in 0..BACKLOG {
            let Ok(socket) = listener.try_accept() else {
                return;
            };
            self.place(socket, index);
        }
    }

    /// Gives a new connection to the core that has the fewest.
    fn place(self: &Rc<Self>, socket: Socket, listener: usize) {
        match self.placement.place(self.index, Some(listener)) {
            None => {
                self.counters.connections_refused.add(1);
                self.refusals.warn(format_args!(
                    "connection closed at once: max-connections, or max-connections-per-listener, is reached"
                ));
            }
            Some(place) if place.core == self.index => self.adopt(socket, place),
            Some(place) => {
                let inbox = &self.inboxes[place.core];
                if let Err(error) = inbox.unbounded_send(Inbound::Connection(socket, place)) {
                    // The core is gone, in a drain; dropping the socket closes it.
                    if let Inbound::Connection(_, place) = error.into_inner() {
                        self.placement.leave(place);
                    }
                }
            }
        }
    }
}
