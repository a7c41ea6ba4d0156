//! The flags that say what load to make, shared by every command that makes one.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use ringspoa_loadgen::{Expectation, Plan, Profile, Target};

/// The load: how many, how fast, how long, of what.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// NOTIFYs a second over all connections: an open loop.
    #[arg(long, value_name = "R")]
    rate: Option<u64>,
    /// Seconds to measure.
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    duration: Duration,
    #[command(flatten)]
    traffic: TrafficArgs,
}

/// The load but for its rate and how long it lasts, which a sweep chooses itself.
#[derive(Debug, Args)]
pub(crate) struct TrafficArgs {
    /// Connections to open.
    #[arg(long, value_name = "N")]
    connections: usize,
    /// NOTIFYs in flight on each connection; HAProxy has at most 20.
    #[arg(long, value_name = "D")]
    in_flight: usize,
    /// Seconds before that, not counted.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    warmup: Duration,
    /// Seconds to wait for ACKs after that.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    drain: Duration,
    /// Seconds a connection may take to open.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, allow_negative_numbers = true)]
    connect_timeout: Duration,
    #[command(flatten)]
    message: MessageArgs,
    /// Threads to share the connections.
    #[arg(long, value_name = "T", default_value_t = 1)]
    threads: usize,
    /// Cores to pin the threads to, as in "0,2-3".
    #[arg(long, value_name = "LIST", value_parser = cores)]
    cores: Option<Cores>,
    /// With --rate, sleeps until a NOTIFY is due instead of polling for the last microseconds: less
    /// CPU, but the time a core takes to wake up is in the latencies.
    #[arg(long)]
    no_polling: bool,
    /// The max-frame-size to offer, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 16_380)]
    max_frame_size: u32,
    /// A variable every ACK must set: [SCOPE.]NAME=VALUE[|VALUE...]. Repeatable. A fixed
    /// value mostly needs a fixed address, see --ip.
    #[arg(long, value_name = "VAR=VALUE")]
    expect: Vec<Expectation>,
}

/// What the NOTIFYs say.
#[derive(Debug, Args)]
pub(crate) struct MessageArgs {
    /// What to send: an address; a request; or what a TOML file says.
    #[arg(long, value_name = "ip|http|FILE.toml", default_value = "ip")]
    profile: String,
    /// Sends the (first) message under this name.
    #[arg(long, value_name = "NAME")]
    message: Option<String>,
    /// Sends this address always, instead of a mix of which half is in documentation networks.
    #[arg(long, value_name = "ADDR")]
    ip: Option<IpAddr>,
}

impl MessageArgs {
    /// The profile of these flags.
    pub(crate) fn profile(&self) -> Result<Profile, String> {
        Profile::load(&self.profile, self.message.as_deref(), self.ip)
            .map_err(|error| format!("--profile: {error}"))
    }
}

impl LoadArgs {
    /// The plan these flags describe, against one agent.
    pub(crate) fn plan(&self, target: &Target) -> Result<Plan, String> {
        let plan = self.traffic.plan(target, self.rate, self.duration)?;
        plan.check().map_err(|error| error.to_string())?;
        Ok(plan)
    }
}

impl TrafficArgs {
    /// The plan these flags describe at a rate; not checked yet.
    pub(crate) fn plan(
        &self,
        target: &Target,
        rate: Option<u64>,
        duration: Duration,
    ) -> Result<Plan, String> {
        let profile = self.message.profile()?;
        Ok(Plan {
            connections: self.connections,
            in_flight: self.in_flight,
            rate,
            warmup: self.warmup,
            duration,
            drain: self.drain,
            connect_timeout: self.connect_timeout,
            threads: self.threads,
            cores: self.cores.clone().unwrap_or_default().0,
            polling: !self.no_polling,
            max_frame_size: self.max_frame_size,
            expectations: self.expect.clone(),
            ..Plan::new(target.clone(), profile)
        })
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = number
        .parse()
        .map_err(|_| "write seconds, such as 10 or 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "write seconds, such as 10 or 0.5".to_owned())
}

/// Cores, in a type of its own since clap would take a list for a flag given several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cores(Vec<usize>);

fn cores(text: &str) -> Result<Cores, String> {
    let hint = || "write core numbers as taskset takes them, such as 0,2-3".to_owned();
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| hint());
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(hint());
        }
        cores.extend((first..=last).map(usize::from));
    }
    Ok(Cores(cores))
}
