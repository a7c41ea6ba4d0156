//! The configuration file and the texts of flags.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use ringspoa::{Connection, Cores, Driver, ListenAddress};

#[path = "../../../../src/config.rs"]
#[allow(
    unused,
    clippy::all,
    reason = "the binary's module, of which only reading is wanted"
)]
mod settings;

use settings::{FallbackVariable, Settings};

/// A file is refused with a text, or gives settings that every part of the server takes.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let settings = match Settings::parse(text, Path::new("ringspoa.toml")) {
        Ok(settings) => settings,
        Err(error) => return check_error(&error, "ringspoa.toml"),
    };
    // What flags say wins, and flags that say nothing change nothing.
    let settings = Settings::default().or(settings);
    match settings.server_config() {
        Err(error) => check_error(&error, ""),
        Ok(config) => {
            assert_eq!(config.check(), Ok(()));
            assert_ne!(config.idle_timeout, Some(Duration::ZERO));
            let connection = Connection::new(config.limits, Duration::ZERO);
            assert!(!connection.is_full(), "a connection without a NOTIFY");
        }
    }
}

fn check_error(error: &dyn Display, part: &str) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.contains(part), "{text:?}");
}

/// The text of a flag is refused with a text that repeats it, or means the same however often it is
/// written and read.
pub fn flags(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match parse::<ListenAddress>(text) {
        Some(address @ ListenAddress::Tcp(_)) => {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        Some(ListenAddress::Unix { path, mode, .. }) => {
            let without_options = format!("unix:{}", path.display());
            let Ok(ListenAddress::Unix { path: again, .. }) = without_options.parse() else {
                panic!("{without_options} is an address");
            };
            assert!(again == path && !path.as_os_str().is_empty());
            assert!(mode.is_none_or(|mode| mode <= 0o777));
        }
        None => {}
    }
    if let Some(Cores::List(list)) = parse(text) {
        assert!(
            !list.is_empty() && list.is_sorted_by(|a, b| a < b),
            "{list:?}"
        );
        // A few keep the target fast, and are as good as all 8192.
        let few = &list[..list.len().min(100)];
        let text: Vec<_> = few.iter().map(ToString::to_string).collect();
        assert_eq!(text.join(",").parse(), Ok(Cores::List(few.to_vec())));
    }
    if parse::<Driver>(text).is_some() {
        assert!(["auto", "io_uring", "epoll"].contains(&text));
    }
    match FallbackVariable::from_flag(text) {
        Err(error) => assert!(error.contains("SCOPE.NAME=TEXT")),
        Ok(variable) => {
            let settings = Settings {
                fallback: Some(vec![variable]),
                ..Settings::default()
            };
            if let Err(error) = settings.server_config() {
                check_error(&error, "fallback");
            }
        }
    }
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            check_error(&error, text);
            None
        }
    }
}
