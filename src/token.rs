//! `ringspoa token`: makes clearance tokens by hand, and says what one says.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use ringspoa::agents::challenge::{Challenges, OperatorToken, SupportId, Token, TokenId};
use ringspoa::agents::remediation::parse_duration;

use crate::config::Settings;

/// A token for years is a password that nobody changes.
const MAX_DURATION_S: i64 = 366 * 86_400;

/// Tokens of the `[challenge]` table: make one for a program, or say what one says.
///
/// Exit codes: 0 when printed, 1 if it cannot be written, 2 for bad flags or files that cannot be read;
/// inspect has 1 for what is no token, or none that counts.
#[derive(Debug, Args)]
pub(crate) struct Tokens {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mint(Mint),
    Inspect(Inspect),
}

/// Print a token for what is no browser: a monitor, a test, a program of your own.
///
/// Whoever sends it as the realm's cookie passes, as in curl -b clearance=TOKEN. It cannot be called back
/// but by its id in HAProxy, or with the key that signed it: keep its life short.
#[derive(Debug, Args)]
struct Mint {
    /// Configuration file of `ringspoa serve`, with the keys
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Host that it is for; of a trusted domain, it is for all of its hosts
    #[arg(long, value_name = "NAME")]
    host: String,
    /// Realm [default: default]
    #[arg(long, value_name = "NAME")]
    realm: Option<String>,
    /// Level that it is good for, and all below [default: the highest]
    #[arg(long, value_name = "N")]
    level: Option<u8>,
    /// Where it is good from: an address, which stands for its network where the realm binds to networks
    /// [default: anywhere]
    #[arg(long, value_name = "ADDR")]
    address: Option<IpAddr>,
    /// The only User-Agent that it is good with [default: any]
    #[arg(long, value_name = "TEXT")]
    user_agent: Option<String>,
    /// How long it is good, as in 12h or 30d, a year at most
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration_s)]
    duration: u32,
}

/// Say what a token says, and whether it is one.
///
/// With --config and --host its signature is checked, but not who sends it, as that is not known here.
#[derive(Debug, Args)]
struct Inspect {
    /// The token, or the value of the cookie, which may have two; - for standard input
    #[arg(value_name = "TOKEN")]
    token: String,
    /// Configuration file of `ringspoa serve`, with the keys
    #[arg(long, value_name = "FILE", requires = "host")]
    config: Option<PathBuf>,
    /// Host that it was given by
    #[arg(long, value_name = "NAME", requires = "config")]
    host: Option<String>,
    /// Realm [default: whichever it is of]
    #[arg(long, value_name = "NAME", requires = "config")]
    realm: Option<String>,
}

fn duration_s(text: &str) -> Result<u32, String> {
    let ns = parse_duration(text).map_err(|error| duration_error(text, error))?;
    let s = ns / 1_000_000_000;
    let s = Some(s).filter(|s| (1..=MAX_DURATION_S).contains(s));
    s.and_then(|s| u32::try_from(s).ok())
        .ok_or_else(|| "want 1s to 366d".to_owned())
}

/// What days are not written as, and the most of them.
fn duration_error(text: &str, error: impl std::fmt::Display) -> String {
    match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{error}: the longest unit is d, as in 30d, and the most is 366d")
        }
        _ => error.to_string(),
    }
}

/// Runs the command; `usage` is the exit code for bad flags and files that cannot be read.
pub(crate) fn run(arguments: &Tokens, usage: u8) -> ExitCode {
    let printed = match &arguments.command {
        Command::Mint(mint) => mint.text().map(|text| (text, true)),
        Command::Inspect(inspect) => inspect.text(),
    };
    let (text, is_good) = match printed {
        Ok(printed) => printed,
        Err(error) => {
            crate::complain(&error);
            return ExitCode::from(usage);
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            crate::complain(&format!("cannot write the token: {error}"));
            ExitCode::FAILURE
        }
        _ if is_good => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn challenges(file: &Path) -> Result<Challenges, String> {
    let settings = Settings::load(file).map_err(|error| error.to_string())?;
    let settings = settings
        .challenge
        .ok_or_else(|| format!("{}: there is no [challenge] table in it", file.display()))?;
    Challenges::new(&settings).map_err(|error| format!("{}: challenge: {error}", file.display()))
}

fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Mint {
    fn text(&self) -> Result<String, String> {
        let challenges = challenges(&self.config)?;
        let mut id = [0; 8];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut id))
            .map_err(|error| format!("/dev/urandom: {error}"))?;
        let wanted = OperatorToken {
            realm: self.realm.as_deref(),
            level: self.level,
            host: &self.host,
            address: self.address,
            user_agent: self.user_agent.as_deref(),
            duration_s: self.duration,
        };
        let made = challenges.operator_token(&wanted, TokenId(id), now_unix_s());
        let (token, text, realm) = made.map_err(|error| format!("--{error}"))?;
        let is_shared = token.flags.is_shared();
        let [plain, over_tls] =
            [false, true].map(|is_secure| realm.cookie_name(is_secure, is_shared));
        let names = match plain == over_tls {
            true => plain.to_owned(),
            false => format!("{over_tls} over TLS, {plain} without"),
        };
        // Not on stdout, which is for the token alone.
        let _ = writeln!(
            io::stderr(),
            "ringspoa: send it as the cookie {names}; its id is {}",
            token.id
        );
        Ok(format!("{}\n", text.as_str()))
    }
}

impl Inspect {
    /// What to print, and whether all of it counts.
    fn text(&self) -> Result<(String, bool), String> {
        let mut read = String::new();
        let value = match &*self.token {
            "-" => {
                let stdin = io::stdin().take(64 * 1024).read_to_string(&mut read);
                stdin.map_err(|error| format!("standard input: {error}"))?;
                read.trim()
            }
            token => token,
        };
        // As it stands in a header.
        let value = value.split_once('=').map_or(value, |(_, value)| value);
        let challenges = self.config.as_deref().map(challenges).transpose()?;
        let now = now_unix_s();
        let (mut text, mut is_good) = (String::new(), true);
        for (index, token) in value.split('.').enumerate() {
            if index > 0 {
                text.push('\n');
            }
            if let Some(support_id) = support_id(token) {
                let _ = write!(
                    text,
                    "{support_id} is a support ID, and no token: it names a challenge and the token that came of \
                     it. Nothing is stored, so look for it in the logs:\n  \
                     HAProxy's      grep support_id={support_id}, with the samples' log-format; reason and result \
                     say why\n  \
                     ringspoa's     grep {support_id}, at log-level debug; an address there is a pseudonym\n"
                );
                is_good = false;
                continue;
            }
            let Some(said) = Token::unverified(token) else {
                let len = token.len();
                let _ = writeln!(
                    text,
                    "no token: want 64 characters of base64url, here are {len}"
                );
                is_good = false;
                continue;
            };
            say(&mut text, &said, now);
            is_good &= said.left_s(now) > 0;
            let (Some(challenges), Some(host)) = (&challenges, &self.host) else {
                let _ = writeln!(text, "signature   not checked: --config and --host do that");
                continue;
            };
            let found = challenges.inspect(token, self.realm.as_deref(), host, now);
            let line = match found.map_err(|error| format!("--{error}"))? {
                Some(found) => match found.fault {
                    None => format!("good, of realm {}", found.realm.name()),
                    Some(fault) => {
                        is_good = false;
                        format!(
                            "of realm {}, but it does not count: {}",
                            found.realm.name(),
                            fault.as_str()
                        )
                    }
                },
                None => {
                    is_good = false;
                    format!(
                        "none of {}'s for {host}",
                        self.realm.as_deref().unwrap_or("any realm")
                    )
                }
            };
            let _ = writeln!(text, "signature   {line}");
        }
        Ok((text, is_good))
    }
}

/// What may be a support ID, as it is written in logs.
fn support_id(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_uppercase();
    let is_one = text.len() == 14
        && text
            .bytes()
            .enumerate()
            .all(|(place, byte)| match place % 5 {
                4 => byte == b'-',
                _ => byte.is_ascii_alphanumeric(),
            });
    is_one.then_some(text)
}

fn say(text: &mut String, token: &Token, now: u64) {
    let flags = token.flags;
    let bound = [
        (
            flags.binds_address(),
            if flags.is_ipv6() {
                "IPv6 address"
            } else {
                "IPv4 address"
            },
        ),
        (flags.binds_user_agent(), "user agent"),
        (flags.binds_tls(), "TLS"),
    ];
    let bound: Vec<_> = bound
        .iter()
        .filter(|(is_bound, _)| *is_bound)
        .map(|(_, what)| *what)
        .collect();
    let bound = match bound.is_empty() {
        true => "nothing".to_owned(),
        false => bound.join(", "),
    };
    let left = match token.left_s(now) {
        0 => "over".to_owned(),
        left => format!("{left} s left"),
    };
    let scope = match flags.is_shared() {
        true => "all hosts of a trusted domain",
        false => "one host",
    };
    let rows = [
        ("id", token.id.to_string()),
        ("support id", SupportId::from(token.id).to_string()),
        ("key", token.key_id.to_string()),
        ("level", token.level.to_string()),
        ("class", token.class().as_str().to_owned()),
        ("bound to", bound),
        ("for", scope.to_owned()),
        (
            "issued",
            format!("{}, {} s ago", token.issued, token.age_s(now)),
        ),
        ("expires", format!("{}, {left}", token.expires)),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<12}{value}");
    }
}
