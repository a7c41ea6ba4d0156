//! One run: threads started, told when to begin, their results put together.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::client::{Client, Clock, Finished, Opened};
use crate::errors::{Errors, Fault};
use crate::latency::{Interval, Mailbox, Recorder};
use crate::plan::{NS_PER_S, Plan, PlanError, Timeline};
use crate::report::{CpuTime, Outcome};
use crate::saved::SavedRun;

/// Threads leave a second's histogram when they get to it; the progress line waits this long.
const PROGRESS_DELAY_NS: u64 = 30_000_000;

/// A line of progress.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// Something the user should know before the results.
    Warning(String),
    /// The warm-up has begun, of this many seconds.
    Warmup(f64),
    /// A measured second has passed.
    Second {
        /// Which, from 1.
        second: u64,
        /// ACKs in it.
        frames: u64,
        /// Median latency of them.
        p50_ns: u64,
        /// 99th percentile.
        p99_ns: u64,
        /// Errors and violations so far.
        errors: u64,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::report::{Grouped, Micros};
        match self {
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Warmup(seconds) => write!(f, "warming up for {seconds} s, not counted"),
            Self::Second {
                second,
                frames,
                p50_ns,
                p99_ns,
                errors,
            } => write!(
                f,
                "{second:>3}s  {} frames/s  p50 {} us  p99 {} us  errors {}",
                Grouped(*frames),
                Micros(*p50_ns),
                Micros(*p99_ns),
                Grouped(*errors)
            ),
        }
    }
}

/// Why a run could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// A setting is out of its range.
    Plan(PlanError),
    /// No connection could be opened.
    NoConnection {
        /// The agent's address.
        target: String,
        /// What the first attempt met.
        reason: String,
    },
    /// A thread could not be pinned.
    Pin {
        /// To this core.
        core: usize,
        /// The system's words.
        reason: String,
    },
    /// The system refused something else.
    System(String),
    /// The run was ended before it began.
    Stopped,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(error) => error.fmt(f),
            Self::NoConnection { target, reason } => write!(
                f,
                "no connection to the agent at {target}: {reason}; check that it runs and listens \
                 there, or give its address with --target"
            ),
            Self::Pin { core, reason } => write!(
                f,
                "--cores: cannot pin a thread to core {core}: {reason}; this process may use {}",
                usable_cores()
            ),
            Self::System(reason) => f.write_str(reason),
            Self::Stopped => f.write_str("interrupted before the run began"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<PlanError> for RunError {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

/// What a thread says to the main one.
enum Report {
    Opened(Result<Opened, RunError>),
    Finished,
}

/// Drives the agent as the plan says, calling `progress` once a second, until the end or until
/// `stop` is set.
///
/// # Errors
///
/// If the plan is wrong or no connection could be opened. What goes wrong later is counted in the
/// results.
pub fn run(
    plan: &Plan,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<SavedRun, RunError> {
    plan.check()?;
    let clock = Clock::start();
    let engine_id = engine_id();
    let open_loop = plan.rate.is_some();
    let mailboxes: Vec<_> = (0..plan.threads).map(|_| Mailbox::new(open_loop)).collect();
    std::thread::scope(|scope| {
        let (reports, inbox) = mpsc::channel();
        let mut threads = Vec::new();
        for (thread, mailbox) in mailboxes.iter().enumerate() {
            let (go, going) = mpsc::channel();
            let (reports, engine_id) = (reports.clone(), &engine_id);
            let body = move || {
                let client = pin(plan, thread).and_then(|()| {
                    Client::new(plan, thread, clock, engine_id, mailbox, stop)
                        .map_err(|error| RunError::System(format!("epoll: {error}")))
                });
                let mut client = match client {
                    Ok(client) => client,
                    Err(error) => {
                        let _ = reports.send(Report::Opened(Err(error)));
                        return None;
                    }
                };
                let _ = reports.send(Report::Opened(Ok(client.open_all())));
                // The main thread drops its end where there is nothing to run.
                let timeline: Timeline = going.recv().ok()?;
                let finished = client.run(timeline);
                let _ = reports.send(Report::Finished);
                Some(finished)
            };
            let spawned = std::thread::Builder::new()
                .name(format!("loadgen-{thread}"))
                .spawn_scoped(scope, body)
                .map_err(|error| RunError::System(format!("starting a thread: {error}")))?;
            threads.push((spawned, go));
        }
        // So that the inbox tells when the last thread is gone, should it panic.
        drop(reports);
        let opened = wait_until_open(plan, stop, &inbox)?;
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        let warnings = opening_warnings(plan, &opened);
        for warning in &warnings {
            progress(&Progress::Warning(warning.clone()));
        }
        if !plan.warmup.is_zero() {
            progress(&Progress::Warmup(plan.warmup.as_secs_f64()));
        }
        let started_unix_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let timeline = Timeline::new(plan, clock.now_ns());
        let mut joined = Vec::new();
        for (thread, go) in threads {
            let _ = go.send(timeline);
            joined.push(thread);
        }
        let watched = watch(plan, clock, timeline, &inbox, &mailboxes, progress);
        let mut sum = watched.sum;
        let mut errors = Errors::default();
        let (mut bytes_in, mut bytes_out, mut unsent) = (0, 0, 0);
        let mut end_ns = timeline.measure_ns;
        let mut frames_by_second = Vec::new();
        for (thread, mailbox) in joined.into_iter().zip(&mailboxes) {
            mailbox.collect(&mut sum);
            let finished = thread
                .join()
                .map_err(|_| RunError::System("a thread of the generator panicked".to_owned()))?;
            let Some(finished) = finished else { continue };
            let Finished {
                recorder,
                frames_by_second: seconds,
                unsent: left,
                end_ns: end,
            } = finished;
            let Recorder {
                interval,
                errors: more,
                bytes_in: received,
                bytes_out: sent,
                ..
            } = recorder;
            sum.merge(&interval);
            errors.merge(more);
            bytes_in += received;
            bytes_out += sent;
            unsent += left;
            end_ns = end_ns.max(end);
            add_seconds(&mut frames_by_second, &seconds);
        }
        Ok(SavedRun::new(
            plan,
            Outcome {
                interval: sum,
                errors,
                bytes_in,
                bytes_out,
                unsent,
                measured_ns: end_ns - timeline.measure_ns.min(end_ns),
                frames_by_second,
                cpu: watched.cpu,
                cpu_window_ns: watched.cpu_window_ns,
                connections: opened.running,
                sequential: opened.sequential,
                started_unix_s,
                warnings,
            },
        ))
    })
}

/// The cores this process may use, for people.
fn usable_cores() -> String {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return "those that taskset -p says".to_owned();
    };
    let cores = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core));
    cores
        .map(|core| core.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

fn pin(plan: &Plan, thread: usize) -> Result<(), RunError> {
    let Some(&core) = plan.cores.get(thread % plan.cores.len().max(1)) else {
        return Ok(());
    };
    let fail = |reason: String| RunError::Pin { core, reason };
    if core >= CpuSet::MAX_CPU {
        return Err(fail(format!("the highest is {}", CpuSet::MAX_CPU - 1)));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| fail(std::io::Error::from(error).to_string()))
}

/// Waits for every thread's first attempts, and adds them up.
fn wait_until_open(
    plan: &Plan,
    stop: &AtomicBool,
    inbox: &mpsc::Receiver<Report>,
) -> Result<Opened, RunError> {
    let mut sum = Opened {
        running: 0,
        sequential: 0,
        fault: None,
    };
    let mut count = 0;
    while count < plan.threads {
        match inbox.recv() {
            Ok(Report::Opened(opened)) => {
                let opened = opened?;
                sum.running += opened.running;
                sum.sequential += opened.sequential;
                sum.fault = sum.fault.or(opened.fault);
                count += 1;
            }
            Ok(Report::Finished) => {}
            Err(_) => {
                return Err(RunError::System(
                    "a thread of the generator panicked".to_owned(),
                ));
            }
        }
    }
    // Without a fault it was the signal that ended the attempts, and not the agent.
    if sum.running == 0 && sum.fault.is_none() && stop.load(Ordering::Relaxed) {
        return Err(RunError::Stopped);
    }
    if sum.running == 0 {
        let reason = sum.fault.map_or_else(
            || format!("nothing within {:?}", plan.connect_timeout),
            |Fault { text, .. }| text,
        );
        let target = plan.target.to_string();
        return Err(RunError::NoConnection { target, reason });
    }
    Ok(sum)
}

fn opening_warnings(plan: &Plan, opened: &Opened) -> Vec<String> {
    let mut warnings = Vec::new();
    if opened.running < plan.connections {
        let reason = opened
            .fault
            .as_ref()
            .map_or(String::new(), |fault| format!(": {fault}"));
        warnings.push(format!(
            "only {} of {} connections could be opened{reason}",
            opened.running, plan.connections
        ));
    }
    if opened.sequential > 0 {
        warnings.push(format!(
            "the agent does not announce pipelining: 1 NOTIFY in flight per connection instead of \
             {}, as HAProxy does",
            plan.in_flight
        ));
    }
    warnings
}

/// What the main thread has when all threads are done.
struct Watched {
    sum: Interval,
    /// Of the measured time.
    cpu: CpuTime,
    cpu_window_ns: u64,
}

/// Prints progress and measures CPU time until every thread is done.
fn watch(
    plan: &Plan,
    clock: Clock,
    timeline: Timeline,
    inbox: &mpsc::Receiver<Report>,
    mailboxes: &[Mailbox],
    progress: &mut dyn FnMut(&Progress),
) -> Watched {
    let mut sum = Interval::new(plan.rate.is_some());
    let mut second_sum = sum.clone();
    let mut running = plan.threads;
    let (mut cpu_start, mut cpu_end) = (None, None);
    let mut second = 1;
    while running > 0 {
        let progress_ns = timeline.measure_ns + second * NS_PER_S + PROGRESS_DELAY_NS;
        let mut wake_ns = progress_ns;
        if cpu_start.is_none() {
            wake_ns = wake_ns.min(timeline.measure_ns);
        }
        if cpu_end.is_none() {
            wake_ns = wake_ns.min(timeline.end_ns);
        }
        let wait = Duration::from_nanos(wake_ns.saturating_sub(clock.now_ns()));
        match inbox.recv_timeout(wait) {
            Ok(Report::Finished) => running -= 1,
            Ok(Report::Opened(_)) => {}
            Err(RecvTimeoutError::Timeout) => {}
            // A thread that panicked reports nothing; joining it will tell.
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = clock.now_ns();
        if cpu_start.is_none() && now >= timeline.measure_ns {
            cpu_start = Some((now, CpuTime::of_process()));
        }
        if cpu_end.is_none() && (now >= timeline.end_ns || running == 0) {
            cpu_end = Some((now, CpuTime::of_process()));
        }
        // The threads may be done before the line of the last second is due.
        let passed_ns = timeline.measure_ns + second * NS_PER_S;
        let last = running == 0 && now >= timeline.end_ns;
        if now < progress_ns && !(last && now >= passed_ns) {
            continue;
        }
        if passed_ns <= timeline.end_ns {
            second_sum.clear();
            let errors = mailboxes
                .iter()
                .map(|mailbox| mailbox.collect(&mut second_sum))
                .sum();
            progress(&Progress::Second {
                second,
                frames: second_sum.frames,
                p50_ns: second_sum.corrected.value_at_quantile(0.5),
                p99_ns: second_sum.corrected.value_at_quantile(0.99),
                errors,
            });
            sum.merge(&second_sum);
        }
        second += 1;
    }
    let (start_ns, start) = cpu_start.unwrap_or((0, CpuTime::default()));
    let (end_ns, end) = cpu_end.unwrap_or((start_ns, start));
    Watched {
        sum,
        cpu: end.since(start),
        cpu_window_ns: end_ns - start_ns.min(end_ns),
    }
}

fn add_seconds(sum: &mut Vec<u64>, more: &[u64]) {
    if sum.len() < more.len() {
        sum.resize(more.len(), 0);
    }
    for (one, more) in sum.iter_mut().zip(more) {
        *one += more;
    }
}

/// Text of the form of a version 4 UUID; one a process, as HAProxy 3.1 and later have it.
fn engine_id() -> String {
    // Two hash states have random keys, which is all that is needed here.
    let [high, low] = [0_u8, 1].map(|seed| RandomState::new().hash_one(seed));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0x0fff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_ids_have_the_form_of_a_uuid() {
        let id = engine_id();
        let lens: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lens, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, engine_id());
    }

    #[test]
    fn a_second_as_a_line() {
        let second = Progress::Second {
            second: 3,
            frames: 412_345,
            p50_ns: 38_000,
            p99_ns: 112_400,
            errors: 0,
        };
        let wanted = "  3s  412 345 frames/s  p50 38.0 us  p99 112 us  errors 0";
        assert_eq!(second.to_string(), wanted);
    }
}
