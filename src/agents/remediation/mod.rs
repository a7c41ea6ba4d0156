//! IP remediation: is this address banned?
//!
//! `decisions` reads lists, `table` looks addresses up, `agent` speaks SPOE. `dataset` keeps decisions of
//! several sources, with their origins and ends, and `files` reads them.
//!
//! The rest (feature `remediation`) is what CrowdSec's bouncer for HAProxy does beside that, as pure
//! functions: `messages` has what comes and goes, `policy` what is configured, `hosts` finds it for a
//! host, `captcha` and `appsec` know those two, `decide` puts all together, `outside` in the room above is how
//! it has others asked, `geo` tells where an address is by the segments of `places`, and `bouncer` is the agent
//! that does it.

mod agent;
#[cfg(feature = "remediation")]
mod appsec;
#[cfg(feature = "remediation")]
mod bouncer;
#[cfg(feature = "remediation")]
mod captcha;
mod dataset;
#[cfg(feature = "remediation")]
mod decide;
mod decisions;
mod files;
#[cfg(feature = "remediation")]
mod geo;
#[cfg(feature = "remediation")]
pub mod messages;
#[cfg(feature = "remediation")]
mod places;
#[cfg(feature = "remediation")]
mod policy;
#[cfg(feature = "remediation")]
mod problem;
#[cfg(feature = "remediation")]
mod settings;
mod table;
#[cfg(feature = "remediation")]
mod words;

#[cfg(feature = "remediation")]
pub use super::common::form::{form_field, is_form};
#[cfg(feature = "remediation")]
pub use super::common::hosts::{HostPattern, HostTable, PatternError, PatternFault, host_name};
#[cfg(feature = "remediation")]
pub use super::common::outside::{
    EndpointId, EndpointKind, EndpointNeed, NoAnswer, OutsideAnswer, OutsideRequest, OutsideResult,
};
#[cfg(feature = "remediation")]
pub use super::common::provider::{Provider, ProviderAnswer, judge_provider};
#[cfg(feature = "remediation")]
pub use super::common::secret::Secret;
pub use agent::RemediationAgent;
#[cfg(feature = "remediation")]
pub use appsec::{AppSec, AppSecFailure, AppSecVerdict, FailureAction, InspectedRequest};
#[cfg(feature = "remediation")]
pub use bouncer::{BlockedLabels, Bouncer, BouncerCounts};
#[cfg(feature = "remediation")]
pub use captcha::{
    Binding, CAPTCHA_COOKIE, Captcha, CaptchaAwaiting, CaptchaOutcome, CaptchaStatus, CaptchaStep,
    CaptchaVisit, Claims, CookieAttributes, HostCaptcha, SecureCookie, TokenError, TokenKey,
    uuid_v4,
};
pub use dataset::{
    Changes, CountryCode, Decision, DecisionCount, DecisionKind, DecisionStore, Expiry, Found,
    KindId, Network, NetworkError, Networks, Remediation, Snapshot, SnapshotCell, SnapshotReader,
    Source, SourceId, StoreError, Subject, SubjectError,
};
#[cfg(feature = "remediation")]
pub(crate) use dataset::{MAX_ORIGINS, OTHER_ORIGIN};
#[cfg(feature = "remediation")]
pub use decide::{
    Blocked, CaptchaCount, Counts, Inquiry, Listed, Lookup, Question, Ruling, Verdict,
};
pub use decisions::{ListError, embedded, parse_list};
#[cfg(feature = "challenge")]
pub(in crate::agents) use files::rfc_3339;
pub use files::{
    Defaults, DurationError, OnBadRecord, Summary, parse_csv, parse_duration, parse_lines,
};
#[cfg(feature = "remediation")]
pub use files::{StreamPart, parse_json, parse_stream};
#[cfg(feature = "remediation")]
pub use geo::{GeoDatabase, GeoDatabases, GeoError, Place};
#[cfg(feature = "remediation")]
pub use policy::{Host, Policy, PolicyError, PolicySettings};
#[cfg(feature = "remediation")]
pub use problem::Problem;
#[cfg(feature = "remediation")]
pub use settings::{
    AppSecSettings, BanSettings, BindingSettings, CaptchaSettings, CookieSettings,
    CustomProviderSettings, HostSettings,
};
pub use table::AddressTable;
#[cfg(feature = "remediation")]
pub use words::{RemediationWordError, RemediationWords};
