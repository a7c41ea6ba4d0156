//! The samples of dist/ for browser validation, as `ringspoa spoe-config` prints them.
//!
//! What an agent declares is not enough for it: that solutions may wait while requests do not takes two
//! engines, and the rules have to agree with the page.

use std::fmt::Write as _;
use std::time::Duration;

use ringspoa::HaproxyVersion;
use ringspoa::agents::challenge::{ChallengeSettings, LevelSettings};

macro_rules! sample {
    ($folder:literal) => {
        Sample {
            folder: $folder,
            main: include_str!(concat!("../dist/", $folder, "/challenge.cfg")),
            spoe: include_str!(concat!("../dist/", $folder, "/challenge.spoe.cfg")),
        }
    };
}

/// What the samples have, to be put in its place.
pub(crate) const PATH: &str = "/.challenge";
const SERVER: &str = "    server ringspoa unix@/run/ringspoa/ringspoa.sock ";
const CHROOT: &str = "    # Looked for inside `chroot`, if the global section has one.\n";
const VERIFY: Duration = Duration::from_secs(6);

/// Types of levels that a provider is asked for.
const CAPTCHAS: [&str; 4] = ["captcha", "turnstile", "hcaptcha", "recaptcha"];

/// How long the provider of a captcha has, unless the level says something else.
const CAPTCHA_S: u64 = 5;

/// How long the provider of a level's captcha has, if it has one.
pub(crate) fn captcha_timeout(level: &LevelSettings) -> Option<Duration> {
    let kind = level.kind.as_deref()?;
    let timeout = level.timeout_s.unwrap_or(CAPTCHA_S);
    CAPTCHAS
        .contains(&kind)
        .then(|| Duration::from_secs(timeout))
}

/// The samples of one side of 3.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    folder: &'static str,
    main: &'static str,
    spoe: &'static str,
}

impl Sample {
    pub(crate) fn of(version: HaproxyVersion) -> Self {
        if version.has_multiplexer() {
            sample!("haproxy-3.1")
        } else {
            sample!("haproxy-2.6")
        }
    }

    /// The SPOE file. Solutions wait for as long as `settings` and the deadline let the agent wait.
    pub(crate) fn spoe(self, settings: &ChallengeSettings, deadline: Option<Duration>) -> String {
        let levels = settings.realms.iter().flat_map(|realm| &realm.levels);
        let captcha = levels.filter_map(captcha_timeout).max().unwrap_or_default();
        let longest = captcha.max(deadline.unwrap_or_default());
        let room = (longest / 5).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let timeout = VERIFY.max(longest.saturating_add(room));
        let sampled = format!("    timeout    processing {}s\n", VERIFY.as_secs());
        let wanted = format!("    timeout    processing {}ms\n", timeout.as_millis());
        if timeout == VERIFY {
            return self.spoe.to_owned();
        }
        self.spoe.replace(&sampled, &wanted)
    }

    /// The filters and rules of a frontend.
    pub(crate) fn frontend(self, settings: &ChallengeSettings) -> String {
        let filters = self.main.find("    filter spoe engine challenge config");
        let rules = self.main.get(filters.unwrap_or_default()..);
        let rules = rules.and_then(|rules| rules.split_once("    default_backend "));
        let mut text = format!(
            "    # As in dist/{0}/challenge.cfg; dist/{0}/challenge-fail-closed.cfg lets nobody pass without an answer.\n",
            self.folder
        );
        let beside = self
            .main
            .lines()
            .skip_while(|line| !line.starts_with("# Beside it"));
        for line in beside.take_while(|line| line.starts_with('#')) {
            let _ = writeln!(text, "    {line}");
        }
        text.push_str(rules.map_or("", |(rules, _)| rules.trim_end()));
        text.push('\n');
        match &settings.path {
            Some(path) => text.replace(PATH, path),
            None => text,
        }
    }

    /// The engines' backends, and the tables that rules count in.
    pub(crate) fn backends(self, address: &str) -> String {
        // After the sample's application.
        let (_, rest) = self.main.split_once("\nbackend app\n").unwrap_or_default();
        let (_, rest) = rest.split_once("\n\n").unwrap_or_default();
        let text = rest.replace(SERVER, &format!("    server ringspoa {address} "));
        if address.contains('/') {
            return text;
        }
        text.replace(CHROOT, "")
    }
}
