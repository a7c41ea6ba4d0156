//! What a configuration comes to: hosts, AppSec, words and who is always let through.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use super::appsec::AppSec;
use super::captcha::HostCaptcha;
use super::problem::{Problem, Problems};
use super::settings::{AppSecSettings, HostSettings};
use super::table::AddressTable;
use super::words::RemediationWords;
use crate::agents::common::hosts::{HostPattern, HostTable};
use crate::agents::common::outside::{EndpointNeed, Endpoints};

/// What is configured for a host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// What happens where a captcha is due.
    pub captcha: HostCaptcha,
    /// Where whoever is turned away can complain; may be empty.
    pub contact_us_url: String,
    /// What is asked about its requests: its own AppSec or that of all hosts.
    pub appsec: Option<AppSec>,
}

/// What a [`Policy`] is made of.
#[derive(Debug, Default)]
pub struct PolicySettings {
    /// The hosts, each with the place of its settings for what is said of them: a file, or its number.
    pub hosts: Vec<(String, HostSettings)>,
    /// The AppSec of all hosts.
    pub appsec: Option<AppSecSettings>,
    /// What words of decisions and of AppSec mean.
    pub words: RemediationWords,
    /// Addresses that pass whatever decisions and AppSec say.
    pub allowed: AddressTable,
}

/// Decides about connections and requests. Does not change; shared by all cores.
#[derive(Debug, Default)]
pub struct Policy {
    pub(super) hosts: HostTable<Host>,
    pub(super) appsec: Option<AppSec>,
    pub(super) words: RemediationWords,
    pub(super) allowed: AddressTable,
    endpoints: Vec<EndpointNeed>,
}

impl Policy {
    /// Checks settings. What is wrong with them but leaves them of use is returned beside the policy.
    ///
    /// # Errors
    ///
    /// A host without a pattern of its names, or with one that is none.
    pub fn new(settings: PolicySettings) -> Result<(Self, Vec<Problem>), PolicyError> {
        let (mut endpoints, mut found) = (Endpoints::default(), Vec::new());
        let appsec = settings.appsec.and_then(|settings| {
            let mut problems = Problems::new("all hosts", &mut found);
            AppSec::of_settings(&settings, None, &mut endpoints, &mut problems)
        });
        let mut hosts: Vec<(HostPattern, Host)> = Vec::with_capacity(settings.hosts.len());
        let mut places: HashMap<String, String> = HashMap::new();
        for (place, settings) in settings.hosts {
            let pattern = settings.host.as_deref().unwrap_or_default();
            let error = |reason: String| PolicyError {
                place: place.clone(),
                reason,
            };
            if pattern.is_empty() {
                return Err(error("is missing: name the host, or * for all".to_owned()));
            }
            let pattern = HostPattern::new(pattern).map_err(|e| error(e.to_string()))?;
            let mut problems = Problems::new(place.as_str(), &mut found);
            match places.entry(pattern.as_str().to_ascii_lowercase()) {
                Entry::Occupied(first) => problems.error(
                    "host",
                    format_args!("is that of {} too, which is taken instead", first.get()),
                ),
                Entry::Vacant(entry) => {
                    entry.insert(place.clone());
                }
            }
            let host = Host::of_settings(&settings, appsec.as_ref(), &mut endpoints, &mut problems);
            hosts.push((pattern, host));
        }
        let policy = Self {
            hosts: HostTable::new(hosts),
            appsec,
            words: settings.words,
            allowed: settings.allowed,
            endpoints: endpoints.0,
        };
        Ok((policy, found))
    }

    /// Who is asked by the questions that decisions come with; a question has the
    /// [index](super::EndpointId::index) of one.
    #[must_use]
    pub fn endpoints(&self) -> &[EndpointNeed] {
        &self.endpoints
    }

    /// The hosts.
    #[must_use]
    pub const fn hosts(&self) -> &HostTable<Host> {
        &self.hosts
    }

    /// What words mean: for tables of decisions.
    #[must_use]
    pub const fn words(&self) -> &RemediationWords {
        &self.words
    }
}

impl Host {
    fn of_settings(
        settings: &HostSettings,
        common: Option<&AppSec>,
        endpoints: &mut Endpoints,
        problems: &mut Problems<'_>,
    ) -> Self {
        let captcha = settings
            .captcha
            .as_ref()
            .map(|captcha| HostCaptcha::of_settings(captcha, endpoints, problems));
        let ban = settings.ban.as_ref();
        let contact_us_url = ban.and_then(|ban| ban.contact_us_url.clone());
        let is_fit = |url: &String| problems.is_fit_for_page("ban.contact_us_url", url);
        let contact_us_url = contact_us_url.filter(is_fit).unwrap_or_default();
        let appsec = match &settings.appsec {
            Some(appsec) => AppSec::of_settings(appsec, common, endpoints, problems),
            None => common.cloned(),
        };
        Self {
            captcha: captcha.unwrap_or_default(),
            contact_us_url,
            appsec,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The place of the host's settings.
    pub place: String,
    /// What is wrong with its `host`.
    pub reason: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: host: {}", self.place, self.reason)
    }
}

impl std::error::Error for PolicyError {}
