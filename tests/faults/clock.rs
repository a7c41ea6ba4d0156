//! The wall clock jumps, as when a machine wakes up or somebody sets it. Nothing but what is shown
//! of it depends on it.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::fixture::{DRIVERS, Folder, Launch, Server, Stream, Traffic, sh};

/// Adds the seconds in a file to CLOCK_REALTIME, for the process that it is loaded into.
const JUMPING_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        FILE *file = fopen(getenv("JUMP_FILE"), "r");
        long seconds;
        if (file && fscanf(file, "%ld", &seconds) == 1)
            time->tv_sec += seconds;
        if (file)
            fclose(file);
    }
    return result;
}
"#;

const YEARS: i64 = 10 * 365 * 24 * 3600;

/// Ten years ahead and back, and before 1970: answers, timeouts, reloads and the drain go on as
/// before.
#[test]
fn the_wall_clock_jumps() {
    let folder = Folder::new();
    let source = folder.write("clock.c", JUMPING_CLOCK);
    let library = folder.file("clock.so");
    sh(
        "cc -shared -fPIC -O1 -o \"$2\" \"$1\"",
        &[source.as_os_str(), library.as_os_str()],
    );
    for driver in DRIVERS {
        let jump = folder.write("jump", "0");
        let mut server = Launch::new(&folder)
            .environment("LD_PRELOAD", library.clone())
            .environment("JUMP_FILE", jump)
            .arguments(&["--driver", driver, "--idle-timeout-ms", "2000"])
            .arguments(&["--hello-timeout-ms", "300", "--drain-timeout-ms", "400"])
            .start();
        let traffic = Traffic::start(&server);
        let mut idle = server.peer();
        let idle_since = Instant::now();
        let shown = |server: &Server| {
            server.signal(Signal::SIGHUP);
            let reloads = server.lines("reloaded; ");
            server.await_line("reloaded; ", reloads + 1);
            server.metrics().get("reload_time_seconds")
        };
        let honest = shown(&server);
        for jump in [YEARS, -YEARS, -100 * YEARS, 0] {
            folder.replace("jump", jump.to_string());
            traffic.goes_on();
            // That the process does see the jump.
            let off = shown(&server) - honest;
            // A clock before the start shows the start.
            let expected = jump.max(0) as f64;
            assert!(
                (off - expected).abs() < 60.0,
                "{driver}: {off} s after a jump of {jump} s"
            );
            let (began, mut silent) = (Instant::now(), server.connect().expect("it listens"));
            assert!(Stream::is_ended(&mut silent));
            let took = began.elapsed();
            assert!(
                (Duration::from_millis(250)..Duration::from_secs(2)).contains(&took),
                "hello timeout after {took:?}"
            );
        }
        assert_eq!(idle.goodbye().expect("it is told"), 2);
        let idle_for = idle_since.elapsed();
        assert!(idle_for >= Duration::from_millis(1900), "{idle_for:?}");
        traffic.goes_on();
        traffic.may_end();
        let began = Instant::now();
        server.signal(Signal::SIGTERM);
        folder.replace("jump", YEARS.to_string());
        let asked = traffic.await_goodbye();
        assert_eq!(server.await_end().code(), Some(0));
        println!("{driver}: {asked}, drained in {:?}", began.elapsed());
    }
}
