//! `ringspoa serve`: one process from its start to its end, and what it is told meanwhile.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringspoa::agents::remediation::{AddressTable, RemediationAgent};
use ringspoa::{
    Admin, Agent, AgentPair, InheritedSocket, Server, ServerHandle, Shows, Stats, WorkerPanicked,
    receive_listeners,
};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::challenge::Challenge;
use crate::config::{NO_LIST, Prepared, Privileges, Settings, UsageError};
use crate::lines::{log_start, ranges, summary, warn_at_start, warn_if_empty};
use crate::logging::LevelHandle;
use crate::remediation::Remediation;
use crate::service_manager::{ADMIN, sockets_of_service_manager, tell_service_manager, watchdog};
use crate::shown::{Lists, STUCK_AFTER, Shown};

/// Set for a process that another one starts to hand over to; its standard input is the channel.
const HAND_OVER: &str = "RINGSPOA_HAND_OVER";

/// Its value where the service manager said where to listen, and not the settings.
const ACTIVATED: &str = "activated";

/// How long a new process may take until it serves: a long list takes a second or two.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How often cores are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What the process is told, and by whom.
enum Wake {
    Signal(i32),
    /// What SIGHUP asked for has been read.
    Read(Box<Result<(Settings, Prepared), UsageError>>),
    Ended(Box<Result<Stats, WorkerPanicked>>),
    HandedOver(Result<(Pid, usize), String>),
}

/// Where settings come from, again at each reload.
pub(crate) type Source = Arc<dyn Fn() -> Result<Settings, UsageError> + Send + Sync>;

/// The process that everything goes to, for a signal that comes meanwhile.
type Successor = Arc<Mutex<Progress>>;

/// How far a hand-over is.
#[derive(Clone, Copy)]
enum Progress {
    /// There is none, or no process yet.
    None,
    /// It does not serve yet.
    Starts(Pid),
    /// It serves; what is left goes over.
    Serves(Pid),
    /// It is not to serve: this process was told to end.
    CalledOff,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far a reload is that SIGHUP asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Once,
    /// More SIGHUPs came meanwhile, so what is read may be of before them.
    Again,
}

/// A process that serves.
struct Serving {
    handle: ServerHandle,
    shown: Arc<Shown>,
    admin: Option<Admin>,
    lists: Lists,
    remediation: Option<Arc<Remediation>>,
    challenge: Option<Arc<Challenge>>,
    source: Source,
    settings: Settings,
    levels: LevelHandle,
    /// Whether the service manager said where to listen, and not the settings.
    activated: bool,
    /// What to start for a hand-over: as it was found when this process started.
    executable: PathBuf,
    arguments: Vec<OsString>,
    successor: Successor,
}

/// Serves until told to end.
pub(crate) fn run(
    source: Source,
    settings: Settings,
    prepared: Prepared,
    levels: LevelHandle,
) -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit();
    // Before anything listens, so that a signal never finds the default action.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2])?;
    let executable = env::current_exe()?;
    let arguments = env::args_os().skip(1).collect();

    let channel = hand_over_channel()?;
    let mut inherited = match &channel {
        Some(channel) => receive_listeners(channel)?,
        None => sockets_of_service_manager()?,
    };
    let Prepared {
        mut config,
        table,
        origin,
        admin_listen,
        privileges,
        remediation,
        challenge,
    } = prepared;
    let admin_socket = inherited
        .iter()
        .position(|socket| socket.name == ADMIN)
        .map(|index| inherited.remove(index));
    // That of the process before, unless it is to be elsewhere now.
    let admin_socket = admin_socket.filter(|socket| match (&channel, &admin_listen) {
        // What the service manager listens on wins over the settings, here too.
        (Some(_), Some(wanted)) if !socket.is_lent => socket
            .address()
            .is_ok_and(|at| at.to_string() == wanted.to_string()),
        _ => true,
    });
    // Also of the process before, which may have been given its sockets.
    let activated = match channel {
        Some(_) => env::var_os(HAND_OVER).is_some_and(|how| how == ACTIVATED),
        None => !inherited.is_empty(),
    };
    if activated {
        // What the service manager listens on is what is to be served.
        config.listen = inherited
            .iter()
            .map(InheritedSocket::address)
            .collect::<Result<_, _>>()?;
        config.listen.dedup();
    }

    let lists: Lists = Arc::new(Mutex::new(Arc::new(table)));
    let remediation = remediation
        .map(|remediation| Remediation::start(remediation, config.agent_deadline))
        .transpose()?;
    let challenge = challenge
        .map(|challenge| Challenge::start(challenge, config.agent_deadline))
        .transpose()?;
    let server = {
        let (lists, remediation) = (Arc::clone(&lists), remediation.clone());
        let challenge = challenge.clone();
        Server::start_with(config.clone(), inherited, move |_core| {
            let addresses: Box<dyn Agent> = match &remediation {
                Some(remediation) => remediation.agent(),
                None => Box::new(RemediationAgent::new(Arc::clone(&lock(&lists)))),
            };
            let agent: Box<dyn Agent> = match &challenge {
                Some(challenge) => Box::new(AgentPair::new(challenge.agent(), addresses)),
                None => addresses,
            };
            Ok(agent)
        })?
    };
    let handle = server.handle();
    let shown = Shown::new(
        handle.clone(),
        Arc::clone(&lists),
        remediation.clone(),
        challenge.clone(),
    );
    let shown = Arc::new(shown);
    let admin = match (&admin_listen, admin_socket) {
        (None, None) => None,
        (address, socket) => {
            let at = match (address, &socket) {
                (Some(address), _) => address.clone(),
                (None, Some(socket)) => socket.address()?,
                (None, None) => unreachable!("matched above"),
            };
            let shows: Arc<dyn Shows> = shown.clone();
            match Admin::start(&at, socket, shows) {
                Ok(admin) => Some(admin),
                // What it listens on is the process before's as well, which goes on with it.
                Err(error) if channel.is_some() => return Err(error.into()),
                Err(error) => {
                    handle.drain();
                    let _ = server.join();
                    return Err(error.into());
                }
            }
        }
    };
    privileges.drop_to()?;
    let what = {
        let table = lock(&lists);
        if remediation.is_none() {
            warn_if_empty(&table, &origin);
        }
        what_is_served(
            remediation.as_deref(),
            challenge.as_deref(),
            &table,
            &origin,
        )
    };
    log_start(&server, &config, admin.as_ref(), &what);
    warn_at_start(&server, &config, admin.as_ref());
    let serving = Serving {
        handle: handle.clone(),
        shown,
        admin,
        lists,
        remediation: remediation.clone(),
        challenge: challenge.clone(),
        source,
        settings,
        levels,
        activated,
        executable,
        arguments,
        successor: Arc::new(Mutex::new(Progress::None)),
    };

    let (wake, woken) = mpsc::channel();
    if let Some(channel) = channel {
        // In the background: the process before may have tickets out on some connections.
        let handle = handle.clone();
        std::thread::spawn(move || match handle.receive_connections(&channel) {
            Ok(count) => tracing::info!("took {count} connections over from the process before"),
            Err(error) => tracing::warn!("the process before ended early: {error}"),
        });
    }
    {
        let wake = wake.clone();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let _ = wake.send(Wake::Signal(signal));
            }
        });
    }
    {
        let wake = wake.clone();
        std::thread::spawn(move || {
            let _ = wake.send(Wake::Ended(Box::new(server.join())));
        });
    }
    tell_service_manager(&[NotifyState::Ready]);
    let result = serving.watch(&wake, &woken);
    if let Some(remediation) = remediation {
        remediation.stop();
    }
    if let Some(challenge) = challenge {
        challenge.stop();
    }
    result
}

impl Serving {
    /// Does what it is told, until the server has ended.
    fn watch(
        mut self,
        wake: &mpsc::Sender<Wake>,
        woken: &mpsc::Receiver<Wake>,
    ) -> Result<(), Box<dyn Error>> {
        let watchdog = watchdog();
        let look = watchdog.map_or(LOOK, |interval| interval.min(LOOK));
        let mut warned = false;
        let mut draining = false;
        let mut handing_over = false;
        // Told to end while handing over.
        let mut ending = false;
        let mut reading = Reading::No;
        loop {
            let wake_up = match woken.recv_timeout(look) {
                Err(RecvTimeoutError::Timeout) => {
                    let stuck = self.shown.stuck();
                    if stuck.is_empty() {
                        warned = false;
                        if watchdog.is_some() {
                            tell_service_manager(&[NotifyState::Watchdog]);
                        }
                    } else if !warned {
                        warned = true;
                        tracing::error!("stuck for {STUCK_AFTER:?} or more: cores {stuck:?}");
                    }
                    continue;
                }
                result => result?,
            };
            match wake_up {
                Wake::Signal(SIGHUP) if draining || ending => {
                    tracing::warn!("SIGHUP ignored: the server is ending");
                }
                Wake::Signal(SIGHUP) if reading == Reading::Again => {}
                Wake::Signal(SIGHUP) if reading == Reading::Once => {
                    tracing::info!("SIGHUP while a reload still reads: another one follows it");
                    reading = Reading::Again;
                }
                Wake::Signal(SIGHUP) => {
                    reading = Reading::Once;
                    self.read(wake.clone());
                }
                Wake::Read(_) if draining => {}
                Wake::Read(read) => {
                    self.reload(*read);
                    let again = reading == Reading::Again;
                    reading = Reading::No;
                    if again {
                        reading = Reading::Once;
                        self.read(wake.clone());
                    }
                }
                Wake::Signal(SIGUSR2) if draining || handing_over => {
                    tracing::warn!("SIGUSR2 ignored: the server is ending or being handed over");
                }
                Wake::Signal(SIGUSR2) => {
                    handing_over = true;
                    self.hand_over(wake.clone());
                }
                Wake::Signal(_) if draining || ending => {
                    if ending {
                        self.end_successor();
                    }
                    return Err("ended by a second signal".into());
                }
                // The listeners are the new process's too: a drain would close them to both.
                Wake::Signal(_) if handing_over => {
                    ending = true;
                    self.call_off();
                }
                Wake::Signal(_) => {
                    draining = true;
                    self.drain();
                }
                Wake::HandedOver(Ok((pid, count))) => {
                    tracing::info!("{count} connections handed over to process {pid}");
                    if ending {
                        self.end_successor();
                    }
                    // What it was given is its own now.
                    if let Some(admin) = self.admin.take() {
                        admin.hand_over();
                    }
                    draining = true;
                }
                Wake::HandedOver(Err(_)) if ending => {
                    draining = true;
                    self.drain();
                }
                Wake::HandedOver(Err(why)) => {
                    handing_over = false;
                    self.handle.note_failed_hand_over();
                    tracing::error!("the hand-over failed, this process goes on: {why}");
                }
                Wake::Ended(stats) => {
                    if handing_over && !draining {
                        // The word that all went over is on its way.
                        continue_after_hand_over(woken);
                        if ending {
                            self.end_successor();
                        }
                        if let Some(admin) = self.admin.take() {
                            admin.hand_over();
                        }
                        draining = true;
                    }
                    tracing::info!(
                        "process {} ended; {}",
                        std::process::id(),
                        summary(&(*stats)?)
                    );
                    return if draining {
                        Ok(())
                    } else {
                        Err("all workers ended".into())
                    };
                }
            }
        }
    }

    /// Begins the end.
    fn drain(&self) {
        let config = self.handle.config();
        let most = config.drain_timeout;
        match config.drain_notice {
            Duration::ZERO => tracing::info!("draining, for {most:?} at most"),
            notice => {
                tracing::info!("draining: health checks fail for {notice:?}, then {most:?} at most")
            }
        }
        tell_service_manager(&[NotifyState::Stopping]);
        self.handle.drain();
    }

    /// Ends a new process that does not serve yet; one that does is told once it has everything.
    fn call_off(&self) {
        let mut progress = lock(&self.successor);
        match *progress {
            Progress::Serves(pid) => {
                tracing::info!("process {pid} is told to end too, once it has the connections");
            }
            before => {
                tracing::info!("the hand-over is called off: told to end");
                *progress = Progress::CalledOff;
                if let Progress::Starts(pid) = before {
                    // It is not waited for as long as it is noted here, so the id is its own.
                    let _ = kill(pid, Signal::SIGKILL);
                }
            }
        }
    }

    /// Tells the process that was handed over to, if there is one, to end as we were told.
    fn end_successor(&self) {
        if let Progress::Starts(pid) | Progress::Serves(pid) = *lock(&self.successor) {
            let _ = kill(pid, Signal::SIGTERM);
        }
    }

    /// Reads everything anew, in the background: a long list takes a while, a file system that hangs
    /// for ever, and neither may keep SIGTERM or the watchdog waiting.
    fn read(&self, wake: mpsc::Sender<Wake>) {
        let reloading = NotifyState::monotonic_usec_now()
            .map(|now| vec![NotifyState::Reloading, now])
            .unwrap_or_default();
        tell_service_manager(&reloading);
        let source = Arc::clone(&self.source);
        std::thread::spawn(move || {
            let read = source().and_then(|settings| {
                let prepared = settings.prepare()?;
                prepared.check()?;
                Ok((settings, prepared))
            });
            let _ = wake.send(Wake::Read(Box::new(read)));
        });
    }

    /// Puts what was read in force if all of it is valid.
    fn reload(&mut self, read: Result<(Settings, Prepared), UsageError>) {
        match self.try_reload(read) {
            Ok(what) => tracing::info!("reloaded; {what}"),
            Err(error) => {
                tracing::error!("reload failed, all stays as it was: {error}");
                if let Some(remediation) = &self.remediation {
                    remediation.look_at_databases();
                }
            }
        }
        tell_service_manager(&[NotifyState::Ready]);
    }

    fn try_reload(
        &mut self,
        read: Result<(Settings, Prepared), UsageError>,
    ) -> Result<String, Box<dyn Error>> {
        // What fails before the server is asked is not counted there.
        let uncounted = |error: Box<dyn Error>| {
            self.handle.note_failed_reload();
            error
        };
        let (settings, prepared) = read.map_err(|error| uncounted(error.into()))?;
        let Prepared {
            config,
            table,
            origin,
            remediation,
            challenge,
            ..
        } = prepared;
        let is_bouncer = self.remediation.is_some();
        // Which agents there are, and the bouncer's sources, only a new start can change.
        let mut waiting = match is_bouncer == remediation.is_some() {
            true => Vec::new(),
            false => vec!["remediation"],
        };
        let challenge_waits = self.challenge.is_some() != challenge.is_some();
        if !is_bouncer {
            warn_if_empty(&table, &origin);
        }
        // Each takes itself back again unless all of it came about.
        let challenges = match (&self.challenge, challenge) {
            (Some(current), Some(prepared)) => {
                let before = current.replace(prepared, config.agent_deadline);
                Some((current, before.map_err(uncounted)?))
            }
            _ => None,
        };
        let put_challenges_back = || {
            if let Some((current, before)) = challenges {
                current.put_back(before);
            }
        };
        let bouncer = match (&self.remediation, remediation) {
            (Some(current), Some(prepared)) => {
                match current.replace(prepared, config.agent_deadline) {
                    Ok((before, settings)) => {
                        waiting.extend(settings);
                        Some((current, before))
                    }
                    Err(error) => {
                        put_challenges_back();
                        return Err(uncounted(error));
                    }
                }
            }
            _ => None,
        };
        let mut what = what_is_served(
            self.remediation.as_deref(),
            self.challenge.as_deref(),
            &table,
            &origin,
        );
        let swap = |table| {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *lists, table)
        };
        let old = swap(Arc::new(table));
        match self.handle.reload(config) {
            Ok(mut restart_needed) => {
                // Freed here, and not on a core.
                drop(old);
                restart_needed.retain(|name| *name != "listen" || !self.activated);
                restart_needed.extend(self.settings.restart_needed(&settings));
                restart_needed.extend(waiting);
                if challenge_waits {
                    restart_needed.push("challenge");
                }
                let level = settings.log_level().map_err(|error| error.to_string())?;
                let _ = self.levels.reload(level);
                if !restart_needed.is_empty() {
                    let keys = restart_needed.iter().map(|name| match *name {
                        // The library's durations carry their unit in their type.
                        "busy_poll" => "busy-poll-us".to_owned(),
                        name => name.replace('_', "-"),
                    });
                    let names = keys.collect::<Vec<_>>().join(", ");
                    let _ = write!(
                        what,
                        "; these settings are used after a restart or SIGUSR2: {names}"
                    );
                }
                Ok(what)
            }
            Err(error) => {
                swap(old);
                if let Some((current, before)) = bouncer {
                    current.put_back(before);
                }
                put_challenges_back();
                Err(error.into())
            }
        }
    }

    /// Starts the binary anew and gives it everything, in the background.
    fn hand_over(&self, wake: mpsc::Sender<Wake>) {
        tracing::info!("handing over to a new process");
        let mut command = Command::new(&self.executable);
        command
            .args(&self.arguments)
            .env(HAND_OVER, if self.activated { ACTIVATED } else { "yes" })
            // These name this process.
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES");
        let handle = self.handle.clone();
        let successor = Arc::clone(&self.successor);
        *lock(&successor) = Progress::None;
        let admin = self.admin.as_ref();
        let admin = admin.map(|admin| admin.socket(ADMIN)).transpose();
        let remediation = self.remediation.clone();
        std::thread::spawn(move || {
            // The new process asks from its start on, and begins with what this one has kept.
            if let Some(remediation) = &remediation {
                remediation.pause();
            }
            let result = admin
                .map_err(|error| error.to_string())
                .and_then(|admin| hand_over_to(command, &handle, &successor, admin));
            if let (Err(_), Some(remediation)) = (&result, &remediation) {
                remediation.resume();
            }
            let _ = wake.send(Wake::HandedOver(result));
        });
    }
}

/// What there is to be answered, for the lines of a start and a reload.
fn what_is_served(
    remediation: Option<&Remediation>,
    challenge: Option<&Challenge>,
    table: &AddressTable,
    origin: &str,
) -> String {
    let addresses = match remediation {
        Some(remediation) => Some(remediation.summary()),
        None if origin == NO_LIST => None,
        None => Some(ranges(table, origin)),
    };
    let parts = [challenge.map(Challenge::summary), addresses];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Waits for the word on a hand-over whose server has ended already.
fn continue_after_hand_over(woken: &mpsc::Receiver<Wake>) {
    while let Ok(wake) = woken.recv_timeout(START_PATIENCE) {
        if let Wake::HandedOver(result) = wake {
            match result {
                Ok((pid, count)) => {
                    tracing::info!("{count} connections handed over to process {pid}");
                }
                Err(why) => tracing::error!("the hand-over ended early: {why}"),
            }
            return;
        }
    }
}

/// The whole hand-over; the new process's id and how many connections it got.
fn hand_over_to(
    mut command: Command,
    handle: &ServerHandle,
    successor: &Successor,
    admin: Option<InheritedSocket>,
) -> Result<(Pid, usize), String> {
    let (here, there) = UnixStream::pair().map_err(|error| error.to_string())?;
    command.stdin(Stdio::from(OwnedFd::from(there)));
    let (mut child, pid) = {
        let mut progress = lock(successor);
        if matches!(*progress, Progress::CalledOff) {
            return Err("called off".to_owned());
        }
        let child = command.spawn().map_err(|error| {
            format!("cannot start {}: {error}", command.get_program().display())
        })?;
        let pid = Pid::from_raw(child.id().cast_signed());
        *progress = Progress::Starts(pid);
        (child, pid)
    };
    // Its end of the channel is held by the command too.
    drop(command);
    let ready = here
        .set_read_timeout(Some(START_PATIENCE))
        .and_then(|()| handle.send_listeners(&here, admin.into_iter().collect()))
        .and_then(|()| handle.await_ready(&here));
    {
        let mut progress = lock(successor);
        let is_called_off = matches!(*progress, Progress::CalledOff);
        if let (Ok(()), false) = (&ready, is_called_off) {
            *progress = Progress::Serves(pid);
        } else if !is_called_off {
            *progress = Progress::None;
        }
        if is_called_off || ready.is_err() {
            drop(progress);
            let end = end_of(&mut child);
            return Err(match ready {
                Err(error) => format!("{end}: {error}"),
                Ok(()) => end,
            });
        }
    }
    tell_service_manager(&[NotifyState::MainPid(child.id())]);
    match handle.send_connections(&here) {
        Ok(count) => Ok((pid, count)),
        Err(error) => {
            // It serves, so it is not called back; what did not go over is closed with us.
            tracing::error!("the new process took not all connections: {error}");
            Ok((pid, 0))
        }
    }
}

/// How a new process that does not serve came to its end.
fn end_of(child: &mut Child) -> String {
    std::thread::sleep(Duration::from_millis(50));
    match child.try_wait() {
        Ok(Some(status)) => format!("the new process ended with {status}, see its lines above"),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            "the new process did not come to serve, and was killed".to_owned()
        }
    }
}

/// The channel to the process before, if there is one.
fn hand_over_channel() -> Result<Option<UnixStream>, Box<dyn Error>> {
    if env::var_os(HAND_OVER).is_none() {
        return Ok(None);
    }
    let channel = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(Some(UnixStream::from(channel)))
}

/// A connection is a descriptor, and the usual soft limit of 1024 is there for programs that use
/// `select`.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

/// Lets threads that stand behind others for a while come back afterwards, as they could before.
fn keep_usual_nice_value() {
    // 20 less the nice value.
    const USUAL: u64 = 20;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NICE)
        && soft < USUAL
    {
        // Without CAP_SYS_RESOURCE it is refused, and they stay where they are.
        let _ = setrlimit(Resource::RLIMIT_NICE, USUAL, hard.max(USUAL));
    }
}

impl Privileges {
    /// Gives up all others. To be called once everything is opened.
    fn drop_to(&self) -> Result<(), Box<dyn Error>> {
        use nix::unistd::{getegid, geteuid, setgid, setgroups, setuid};
        if let Some(group) = self.group
            && group != getegid()
        {
            setgroups(&[group]).map_err(|error| format!("cannot give up groups: {error}"))?;
            setgid(group).map_err(|error| format!("cannot become group {group}: {error}"))?;
        }
        if let Some(user) = self.user
            && user != geteuid()
        {
            if self.group.is_none() {
                setgroups(&[]).map_err(|error| format!("cannot give up groups: {error}"))?;
            }
            keep_usual_nice_value();
            setuid(user).map_err(|error| format!("cannot become user {user}: {error}"))?;
        }
        Ok(())
    }
}
