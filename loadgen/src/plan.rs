//! What a run does: checked settings, and the times an open loop keeps.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ringspoa::spop::MIN_MAX_FRAME_SIZE;

use crate::expect::{Expectation, MAX_EXPECTATIONS};
use crate::profile::Profile;

pub(crate) const NS_PER_S: u64 = 1_000_000_000;

/// Bounds the memory of a connection's slots: 6 MiB.
const MAX_IN_FLIGHT: usize = 100_000;

/// Keeps the schedule's arithmetic inside 64 bits, at one NOTIFY a nanosecond.
const MAX_RATE: u64 = NS_PER_S;

/// A day: longer is a slip of the unit.
const MAX_DURATION: Duration = Duration::from_secs(86_400);

/// Where the agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("no path after 'unix:'".to_owned());
            }
            return Ok(Self::Unix(path.into()));
        }
        if text.contains('/') {
            return Err(format!("for a Unix socket write unix:{text}"));
        }
        let hint = "write HOST:PORT, such as 127.0.0.1:9000, or unix:PATH";
        let mut addresses = text
            .to_socket_addrs()
            .map_err(|error| format!("{error}: {hint}"))?;
        addresses
            .next()
            .map(Self::Tcp)
            .ok_or_else(|| hint.to_owned())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The settings of a run. [`Plan::new`] has a default for everything but agent and profile.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The agent.
    pub target: Target,
    /// What to send.
    pub profile: Profile,
    /// Connections, all opened before the run starts; default 1. At least one a thread.
    pub connections: usize,
    /// NOTIFYs in flight on one connection; default 20, HAProxy's own number. At most 100 000; one
    /// costs 48 bytes and its frame.
    pub in_flight: usize,
    /// NOTIFYs a second over all connections, for an open loop; default none: a closed loop.
    pub rate: Option<u64>,
    /// Time before anything is counted; default 1 s.
    pub warmup: Duration,
    /// Measured time; default 10 s.
    pub duration: Duration,
    /// How long to wait for ACKs after that; default 1 s.
    pub drain: Duration,
    /// How long a connection may take to open, HELLO included; default 5 s.
    pub connect_timeout: Duration,
    /// Threads, each with its share of the connections; default 1.
    pub threads: usize,
    /// Cores to pin the threads to, in turn; default none: not pinned.
    pub cores: Vec<usize>,
    /// In an open loop, whether to poll for the last microseconds before a NOTIFY is due; default
    /// true. Costs up to a core a thread where NOTIFYs are due more than some 20 000 times a
    /// second. Without it the time a core takes to wake up, 40 us in a virtual machine, is in the
    /// latencies.
    pub polling: bool,
    /// The `max-frame-size` to offer, in bytes without prefix; default 16 380, HAProxy's.
    pub max_frame_size: u32,
    /// What every ACK must set; default nothing. At most 64.
    pub expectations: Vec<Expectation>,
}

/// A setting out of its range: the flag, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    flag: &'static str,
    text: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.flag, self.text)
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// The defaults.
    #[must_use]
    pub const fn new(target: Target, profile: Profile) -> Self {
        Self {
            target,
            profile,
            connections: 1,
            in_flight: 20,
            rate: None,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            drain: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            threads: 1,
            cores: Vec::new(),
            polling: true,
            max_frame_size: 16_380,
            expectations: Vec::new(),
        }
    }

    /// Checks every setting and what they ask of each other.
    ///
    /// # Errors
    ///
    /// The first that is out of its range.
    pub fn check(&self) -> Result<(), PlanError> {
        let ensure = |met: bool, flag: &'static str, text: &dyn fmt::Display| {
            if met {
                return Ok(());
            }
            let text = text.to_string();
            Err(PlanError { flag, text })
        };
        let connections = self.connections;
        ensure(connections >= 1, "--connections", &"must be at least 1")?;
        let in_range = (1..=MAX_IN_FLIGHT).contains(&self.in_flight);
        ensure(
            in_range,
            "--in-flight",
            &format_args!("must be 1 to {MAX_IN_FLIGHT}"),
        )?;
        let in_range = self.rate.is_none_or(|rate| (1..=MAX_RATE).contains(&rate));
        ensure(
            in_range,
            "--rate",
            &format_args!("must be 1 to {MAX_RATE} a second"),
        )?;
        let text = "must be more than 0 s and at most a day";
        let in_range = !self.duration.is_zero() && self.duration <= MAX_DURATION;
        ensure(in_range, "--duration", &text)?;
        for (flag, value) in [
            ("--warmup", self.warmup),
            ("--drain", self.drain),
            ("--connect-timeout", self.connect_timeout),
        ] {
            ensure(
                value <= MAX_DURATION,
                flag,
                &"must be at most a day (in seconds)",
            )?;
        }
        let in_range = (1..=connections).contains(&self.threads);
        let text = format_args!("must be 1 to {connections}, the number of --connections");
        ensure(in_range, "--threads", &text)?;
        let in_range = (MIN_MAX_FRAME_SIZE..=1 << 30).contains(&self.max_frame_size);
        let text = format_args!("must be {MIN_MAX_FRAME_SIZE} to {} bytes", 1 << 30);
        ensure(in_range, "--max-frame-size", &text)?;
        let frame_len = self.profile.max_frame_len();
        let text = format_args!(
            "NOTIFYs of up to {frame_len} bytes do not fit --max-frame-size {}: make the profile \
             smaller or the frame larger",
            self.max_frame_size
        );
        ensure(
            frame_len <= self.max_frame_size as usize,
            "--profile",
            &text,
        )?;
        let text = format_args!("at most {MAX_EXPECTATIONS} are possible");
        let in_range = self.expectations.len() <= MAX_EXPECTATIONS;
        ensure(in_range, "--expect", &text)
    }

    /// The connections of one thread: those whose number is `thread` modulo the threads.
    pub(crate) fn connections_of(&self, thread: usize) -> usize {
        (self.connections - thread).div_ceil(self.threads)
    }
}

/// When the parts of a run are, in nanoseconds of its clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    /// The first NOTIFY, and the start of the warm-up.
    pub(crate) start_ns: u64,
    /// Counting starts.
    pub(crate) measure_ns: u64,
    /// Counting and sending end.
    pub(crate) end_ns: u64,
    /// What is not answered now is not waited for any more.
    pub(crate) drained_ns: u64,
}

impl Timeline {
    pub(crate) fn new(plan: &Plan, start_ns: u64) -> Self {
        let measure_ns = start_ns + nanoseconds(plan.warmup);
        let end_ns = measure_ns + nanoseconds(plan.duration);
        Self {
            start_ns,
            measure_ns,
            end_ns,
            drained_ns: end_ns + nanoseconds(plan.drain),
        }
    }
}

/// A duration as nanoseconds. One of 584 years and more is not told apart from that.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The intended times of one thread's NOTIFYs in an open loop.
///
/// NOTIFY `i` of the whole run is due `i / rate` seconds after the start, and connection `i` modulo
/// the connections owes it, so the threads together keep uniform intervals. All of it is
/// arithmetic: a backlog is an index that lies behind, of no memory.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    start_ns: u64,
    rate: u64,
    connections: u64,
    threads: u64,
    thread: u64,
    /// Of the thread's connections, which owes the next NOTIFY.
    connection: u64,
    /// The index of the first NOTIFY of this round over all connections.
    round: u64,
    due_ns: u64,
}

impl Schedule {
    pub(crate) fn new(plan: &Plan, thread: usize, rate: u64, start_ns: u64) -> Self {
        let mut schedule = Self {
            start_ns,
            rate,
            connections: plan.connections as u64,
            threads: plan.threads as u64,
            thread: thread as u64,
            connection: 0,
            round: 0,
            due_ns: 0,
        };
        schedule.due_ns = schedule.time_of(schedule.index());
        schedule
    }

    fn index(&self) -> u64 {
        self.round + self.thread + self.connection * self.threads
    }

    /// Seconds and rest apart, so that the product stays inside 64 bits.
    fn time_of(&self, index: u64) -> u64 {
        let (seconds, rest) = (index / self.rate, index % self.rate);
        self.start_ns + seconds * NS_PER_S + rest * NS_PER_S / self.rate
    }

    /// When the next NOTIFY is due.
    #[inline]
    pub(crate) const fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// The next NOTIFY was sent.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.connection += 1;
        if self.thread + self.connection * self.threads >= self.connections {
            self.connection = 0;
            self.round += self.connections;
        }
        self.due_ns = self.time_of(self.index());
    }

    /// How many are due before `end_ns` from here on; the schedule is used up by that.
    pub(crate) fn drain_before(&mut self, end_ns: u64) -> u64 {
        // Whole rounds at once; what is left of one is walked.
        let own = (self.connections - self.thread).div_ceil(self.threads);
        let mut count = 0;
        while self.connection != 0 && self.due_ns < end_ns {
            self.advance();
            count += 1;
        }
        if self.due_ns < end_ns {
            let span = u128::from(end_ns - self.start_ns);
            let indices = (span * u128::from(self.rate)).div_ceil(u128::from(NS_PER_S));
            let indices = u64::try_from(indices).unwrap_or(u64::MAX);
            let rounds = indices.saturating_sub(self.round) / self.connections;
            let rounds = rounds.saturating_sub(1);
            self.round += rounds * self.connections;
            count += rounds * own;
            self.due_ns = self.time_of(self.index());
        }
        while self.due_ns < end_ns {
            self.advance();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connections: usize, threads: usize) -> Plan {
        let target = "127.0.0.1:1".parse().unwrap();
        Plan {
            connections,
            threads,
            ..Plan::new(target, Profile::ip(None, None))
        }
    }

    #[test]
    fn the_threads_together_keep_uniform_intervals() {
        for (connections, threads) in [(1, 1), (5, 2), (7, 3), (4, 4)] {
            let plan = plan(connections, threads);
            let (rate, start_ns) = (3_000, 17);
            let mut times = Vec::new();
            for thread in 0..threads {
                let mut schedule = Schedule::new(&plan, thread, rate, start_ns);
                while schedule.due_ns() < start_ns + NS_PER_S {
                    times.push(schedule.due_ns());
                    schedule.advance();
                }
            }
            times.sort_unstable();
            let wanted: Vec<u64> = (0..rate).map(|i| start_ns + i * NS_PER_S / rate).collect();
            assert_eq!(
                times, wanted,
                "{connections} connections, {threads} threads"
            );
        }
    }

    #[test]
    fn what_is_left_is_counted_without_walking_it() {
        for (connections, threads) in [(1, 1), (5, 2), (7, 3)] {
            let plan = plan(connections, threads);
            let mut left = 0;
            let mut sent = 0;
            for thread in 0..threads {
                let mut schedule = Schedule::new(&plan, thread, 10_000, 5);
                for _ in 0..thread + 3 {
                    schedule.advance();
                    sent += 1;
                }
                left += schedule.drain_before(5 + NS_PER_S / 2);
                assert!(schedule.due_ns() >= 5 + NS_PER_S / 2);
            }
            assert_eq!(
                left + sent,
                5_000,
                "{connections} connections, {threads} threads"
            );
        }
        // A day at the highest rate.
        let mut schedule = Schedule::new(&plan(3, 1), 0, MAX_RATE, 0);
        assert_eq!(schedule.drain_before(86_400 * NS_PER_S), 86_400 * MAX_RATE);
    }

    #[test]
    fn connections_are_spread_evenly() {
        let plan = plan(7, 3);
        assert_eq!(
            [0, 1, 2].map(|thread| plan.connections_of(thread)),
            [3, 2, 2]
        );
    }

    #[test]
    fn settings_out_of_range_name_their_flag() {
        let wrong = |change: fn(&mut Plan)| {
            let mut plan = plan(2, 1);
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        assert!(plan(2, 2).check().is_ok());
        assert!(wrong(|plan| plan.connections = 0).starts_with("--connections: "));
        assert!(wrong(|plan| plan.in_flight = 0).starts_with("--in-flight: "));
        assert!(wrong(|plan| plan.rate = Some(0)).starts_with("--rate: "));
        assert!(wrong(|plan| plan.duration = Duration::ZERO).starts_with("--duration: "));
        assert!(wrong(|plan| plan.threads = 3).starts_with("--threads: "));
        assert!(wrong(|plan| plan.max_frame_size = 255).starts_with("--max-frame-size: "));
        let too_large = wrong(|plan| {
            plan.profile = Profile::http(None, None);
            plan.max_frame_size = 300;
        });
        assert!(
            too_large.starts_with("--profile: NOTIFYs of up to "),
            "{too_large}"
        );
    }

    #[test]
    fn targets_are_read() {
        let unix = "unix:/run/agent.sock".parse::<Target>().unwrap();
        assert_eq!(unix, Target::Unix("/run/agent.sock".into()));
        assert_eq!(unix.to_string(), "unix:/run/agent.sock");
        let tcp = "127.0.0.1:9000".parse::<Target>().unwrap();
        assert_eq!(tcp.to_string(), "127.0.0.1:9000");
        assert!("unix:".parse::<Target>().is_err());
        assert!("9000".parse::<Target>().unwrap_err().contains("HOST:PORT"));
    }
}
