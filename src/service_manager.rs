//! What systemd, or another service manager with its protocol, gives and is told.

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use ringspoa::InheritedSocket;
use sd_notify::NotifyState;

/// The name of the admin listener's socket.
pub(crate) const ADMIN: &str = "admin";

/// Sockets that the service manager listens on for us (LISTEN_FDS).
pub(crate) fn sockets_of_service_manager() -> Result<Vec<InheritedSocket>, Box<dyn Error>> {
    let mut names: VecDeque<String> = env::var("LISTEN_FDNAMES")
        .unwrap_or_default()
        .split(':')
        .map(str::to_owned)
        .collect();
    let descriptors = sd_notify::listen_fds()?;
    let sockets = descriptors.map(|raw| InheritedSocket {
        name: match names.pop_front().as_deref() {
            Some(ADMIN) => ADMIN.to_owned(),
            _ => String::new(),
        },
        owned_file: None,
        is_lent: true,
        // SAFETY: the protocol of LISTEN_FDS gives this process these descriptors, open and its
        // own; they are taken once, here.
        socket: unsafe { OwnedFd::from_raw_fd(raw) },
    });
    Ok(sockets.collect())
}

/// How often the service manager wants to hear that we are alive, if it does.
///
/// Not by `sd_notify::watchdog_enabled`, which wants WATCHDOG_PID: that names the process before
/// a hand-over, and is gone after it.
pub(crate) fn watchdog() -> Option<Duration> {
    let own_pid = std::process::id().to_string();
    if env::var("WATCHDOG_PID").is_ok_and(|pid| pid != own_pid) {
        return None;
    }
    let timeout_us: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(timeout_us) / 3).filter(|interval| !interval.is_zero())
}

pub(crate) fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!("telling the service manager: {error}");
    }
}
