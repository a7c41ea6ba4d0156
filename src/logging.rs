//! Log lines to stderr: text for people and journald, or JSON.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// `level: message`, for journald with the priority in front that it takes off.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("log-format '{text}': want text or json")),
        }
    }
}

/// What is logged: a level, or levels by target as in `warn,ringspoa=debug`.
pub(crate) fn parse_level(text: &str) -> Result<Targets, String> {
    let wrong = || {
        format!(
            "log-level '{text}': want error, warn, info, debug, trace or off, or a list as in warn,ringspoa=debug"
        )
    };
    // An empty one would be `error`.
    if text.is_empty() {
        return Err(wrong());
    }
    if let Ok(level) = text.parse::<LevelFilter>() {
        return Ok(Targets::new().with_default(level));
    }
    // A list without a level would be read as a target's name, and everything of it logged.
    if !text.contains('=') {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// Changes what is logged.
pub(crate) type LevelHandle = Handle<Targets, Registry>;

/// Begins to log. Once a process.
pub(crate) fn start(format: LogFormat, level: Targets) -> LevelHandle {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(level);
    let sink = Arc::new(Sink::new(io::stderr(), format));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || SinkWriter(Arc::clone(&sink)))
        // A full disk must not become a panic.
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => lines.event_format(Text::new()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    handle
}

/// Takes lines and never waits: those that its reader has no room for are lost. A log daemon that
/// hangs must not stop a core in the middle of its answers.
struct Sink<W> {
    out: Mutex<Out<W>>,
    format: LogFormat,
}

struct Out<W> {
    to: W,
    /// Lines lost since the last that was written.
    lost: u64,
    /// Whether the last one was cut short.
    is_cut: bool,
}

/// A pipe that can be written to has room for so much (PIPE_BUF), and a socket for more.
const ROOM: usize = 4096;

impl<W: Write + AsFd> Sink<W> {
    const fn new(to: W, format: LogFormat) -> Self {
        let out = Out {
            to,
            lost: 0,
            is_cut: false,
        };
        Self {
            out: Mutex::new(out),
            format,
        }
    }

    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        let out = &mut *self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_room(&out.to) {
            out.lost += 1;
            return Ok(());
        }
        if out.is_cut {
            out.to.write_all(b"\n")?;
            out.is_cut = false;
        }
        let lost = std::mem::take(&mut out.lost);
        if lost > 0 {
            let what = format!("{lost} log lines were lost: stderr had no room for them");
            match self.format {
                LogFormat::Text => writeln!(out.to, "warn: {what}")?,
                LogFormat::Json => {
                    writeln!(out.to, "{{\"level\":\"WARN\",\"message\":\"{what}\"}}")?;
                }
            }
        }
        for part in line.chunks(ROOM) {
            if !has_room(&out.to) {
                out.is_cut = true;
                out.lost += 1;
                return Ok(());
            }
            out.to.write_all(part)?;
        }
        Ok(())
    }
}

/// Whether a write would not have to wait. It may fail, which is quick too.
pub(crate) fn has_room(to: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Writes to a sink that is shared.
struct SinkWriter<W>(Arc<Sink<W>>);

impl<W: Write + AsFd> Write for SinkWriter<W> {
    /// A whole line, as tracing-subscriber writes them.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_line(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Text {
    for_journal: bool,
}

impl Text {
    fn new() -> Self {
        let for_journal =
            std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal();
        Self { for_journal }
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (priority, level) = match *event.metadata().level() {
            Level::ERROR => (3, "error"),
            Level::WARN => (4, "warn"),
            Level::INFO => (6, "info"),
            Level::DEBUG => (7, "debug"),
            Level::TRACE => (7, "trace"),
        };
        if self.for_journal {
            write!(line, "<{priority}>")?;
        }
        write!(line, "{level}: ")?;
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        // What others say stands in messages: a line break in it must not begin a line of its own.
        for (index, part) in text.split(['\n', '\r']).enumerate() {
            let before = if index == 0 { "" } else { "\n    " };
            write!(line, "{before}{part}")?;
        }
        writeln!(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_nobody_takes_are_lost_and_counted() {
        use std::io::Read;
        use std::os::unix::net::UnixStream;
        let told = "10 log lines were lost: stderr had no room for them";
        for (format, told) in [
            (LogFormat::Text, format!("warn: {told}")),
            (
                LogFormat::Json,
                format!("{{\"level\":\"WARN\",\"message\":\"{told}\"}}"),
            ),
        ] {
            let (here, mut there) = UnixStream::pair().unwrap();
            let sink = Sink::new(here, format);
            let lines = (0..).take_while(|_| {
                sink.write_line(&[b"x".repeat(9999), b"\n".to_vec()].concat())
                    .unwrap();
                sink.out.lock().unwrap().lost == 0
            });
            assert!(lines.count() > 2);
            for _ in 0..9 {
                sink.write_line(b"lost\n").unwrap();
            }
            let mut taken = vec![0; 4 << 20];
            let len = there.read(&mut taken).unwrap();
            assert!(!taken[..len].ends_with(b"lost\n"));
            sink.write_line(b"kept\n").unwrap();
            drop(sink);
            let mut rest = String::new();
            there.read_to_string(&mut rest).unwrap();
            assert!(rest.lines().any(|line| line == told), "{rest}");
            assert!(rest.ends_with("\nkept\n"), "{rest}");
        }
    }

    #[test]
    fn levels_and_lists_of_levels() {
        for text in [
            "info",
            "off",
            "ERROR",
            "warn,ringspoa=debug",
            "ringspoa::server=trace",
        ] {
            parse_level(text).unwrap();
        }
        for text in ["", "loud", "info,warn", "ringspoa=loud"] {
            let error = parse_level(text).unwrap_err();
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
    }
}
