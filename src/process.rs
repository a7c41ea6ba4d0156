//! What Linux says of this process, under the names that exporters of all kinds have agreed on.

use std::fs;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};
use ringspoa::{Exposition, Family, Kind};

const CPU: Family = Family {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    labels: "",
    help: "CPU time that the process took, user and system.",
};

const OPEN_FDS: Family = Family {
    name: "process_open_fds",
    kind: Kind::Gauge,
    labels: "",
    help: "Descriptors that the process has open; each connection is one.",
};

const MAX_FDS: Family = Family {
    name: "process_max_fds",
    kind: Kind::Gauge,
    labels: "",
    help: "Descriptors that the process may have open.",
};

const RESIDENT: Family = Family {
    name: "process_resident_memory_bytes",
    kind: Kind::Gauge,
    labels: "",
    help: "Memory of the process that is resident.",
};

const START: Family = Family {
    name: "process_start_time_seconds",
    kind: Kind::Gauge,
    labels: "",
    help: "When the process started, in seconds since 1970.",
};

/// In what unit /proc/PID/stat counts: USER_HZ, 100 wherever io_uring and this crate are built.
const TICKS_PER_SECOND: u64 = 100;

/// Writes what can be found out; what /proc does not tell is left out.
pub(crate) fn write_metrics(out: &mut Exposition) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        out.single(
            &CPU,
            seconds(usage.user_time()) + seconds(usage.system_time()),
        );
    }
    if let Some(count) = open_fds() {
        out.single(&OPEN_FDS, count);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        out.single(&MAX_FDS, soft);
    }
    let status = fs::read_to_string("/proc/self/status");
    if let Some(bytes) = status.ok().and_then(|status| resident_bytes(&status)) {
        out.single(&RESIDENT, bytes);
    }
    if let Some(at) = started_at() {
        out.single(&START, at);
    }
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

fn open_fds() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // The folder itself is open while it is read.
    count.checked_sub(1)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let rest = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// In seconds since 1970, on the clock of now.
fn started_at() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    let age = since_boot.checked_sub(started_after_boot(&stat)?)?;
    let at = SystemTime::now().checked_sub(age)?;
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since_1970.as_secs_f64())
}

fn started_after_boot(stat: &str) -> Option<Duration> {
    // The second field is a name in parentheses, which may hold anything; the 22nd is wanted.
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks: u64 = rest.split(' ').nth(22 - 3)?.parse().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let status = "Name:\tringspoa\nVmRSS:\t    6144 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes(status), Some(6144 * 1024));
        assert_eq!(resident_bytes("Name:\tringspoa\n"), None);
        let fields: Vec<_> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b (c) {}\n", fields.join(" "));
        assert_eq!(
            started_after_boot(&stat),
            Some(Duration::from_millis(220)),
            "22 ticks"
        );
        assert_eq!(started_after_boot("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_plausible_numbers() {
        let before = open_fds().unwrap();
        let files: Vec<_> = (0..50)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        // Other tests open and close some meanwhile.
        assert!(open_fds().unwrap() >= before + 30);
        drop(files);
        let age = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64()
            - started_at().unwrap();
        assert!((-0.1..3600.0).contains(&age), "{age}");
        let mut out = Exposition::new();
        write_metrics(&mut out);
        let text = out.into_text();
        for family in [CPU, OPEN_FDS, MAX_FDS, RESIDENT, START] {
            let sample = format!("\n{} ", family.name);
            let value = text.split(&sample).nth(1).expect(&text).lines().next();
            let value: f64 = value.unwrap().parse().unwrap();
            assert!(value >= 0.0 && value.is_finite(), "{text}");
        }
    }
}
