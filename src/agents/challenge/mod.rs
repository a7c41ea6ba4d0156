//! Browser validation: is this a browser whose owner bothers to wait, compute, or look at a picture?
//!
//! Who is to prove it gets a challenge; who solved it gets a clearance token in a cookie. Both are signed
//! and neither is stored: any instance with the same keys goes on where another left off.
//!
//! ```text
//! keyring     keys, what is derived of them, and their states for each level of a realm
//! level       what a level asks for; its bytes are in every signature
//! scope       whom a cookie is for: one host, or a domain that the operator trusts
//! binding     whom a token is for: tags of address, user agent and TLS
//! challenge   sign, read and verify challenges
//! puzzle      what solves them, and a solver to hold against it
//! token       clearance tokens, and what they are refused for
//! page        the page that visitors see, and languages, what it says
//! cookie      their names, candidates in a request, and the header that sets them
//! support_id  what a visitor can read out over the telephone
//!
//! settings    a configuration as it is written
//! realm       a configuration that was checked
//! work        how much is asked for under load
//! crawlers    who comes from where it says
//! messages    what HAProxy sends and gets
//! reply       room for texts of answers
//! engine      decisions: what is valid, what is asked for, what becomes of it
//! verifier    threads for what takes longer
//! operator    tokens by hand
//! agent       all of it on cores, with clocks, counters and calls to providers
//! ```
//!
//! All but the last two is pure: the second of now and random bytes are arguments, and nothing that a
//! visitor sends before a solution is found right makes it allocate.

mod agent;
mod binding;
#[allow(
    clippy::module_inception,
    reason = "it is of challenges, after which the room is called"
)]
mod challenge;
mod cookie;
mod counts;
mod crawlers;
mod engine;
mod keyring;
mod languages;
mod level;
pub mod messages;
mod operator;
mod page;
mod puzzle;
mod realm;
mod reply;
mod scope;
mod settings;
mod support_id;
mod token;
mod verifier;
mod work;

pub use super::common::hosts::{HostPattern, PatternError, PatternFault};
pub use agent::{ChallengeAgent, Clock, StartError};
pub use binding::{BindingError, BindingRules, Tags, Visit};
pub use challenge::{
    Algorithm, CHALLENGE_LEN, CHALLENGE_TEXT_LEN, Challenge, ChallengeId, Failure, Issued,
    MAX_BODY_LEN, MAX_CAPTCHA_BODY_LEN, Opened, ReturnSignature, Submission, Terms,
};
pub use cookie::{
    CookieAttributes, CookieNameError, CookieNames, CookieValue, Cookies, MAX_CANDIDATES,
    MAX_COOKIES_LEN, SameSite,
};
pub use counts::{
    ChallengeCounts, CrawlerLabels, IssuedLabels, LevelLabels, ProviderLabels, SOLVE_BOUNDS_S,
    SolveTimes, SubmittedLabels, ValidatedLabels,
};
pub use crawlers::{Bot, Crawler, Crawlers, NetworksError, crawler_networks};
pub use engine::{
    Answer, Asking, Deferred, Engine, IssueRequest, Now, Outcome, ProviderOutcome, Shown,
    Validation, Verification, Via,
};
pub use keyring::{Key, KeyError, Keyring, RealmKeys};
pub use level::{Level, LevelError, MAX_PARTS, Method};
pub use operator::{Inspected, OperatorToken, OperatorTokenError};
pub use page::{CaptchaOrigins, NoJsPage, Page, PageError};
pub use puzzle::{Pbkdf2Job, Pending, Proof, Solved, Step, solution_body, solve};
pub use realm::{Challenges, NoJs, Realm, RealmLevel};
pub use scope::{HostError, Scope, ScopeRules, TrustedDomainError};
pub use settings::{
    AdaptiveSettings, BindSettings, ChallengeSettings, CrawlerSettings, KeySettings, LevelSettings,
    Moment, Prefix, RealmSettings, SettingsError, Texts,
};
pub use support_id::SupportId;
pub use token::{
    Class, Flags, Reason, Refusal, TOKEN_LEN, TOKEN_TEXT_LEN, Token, TokenId, TokenText,
};

pub use crate::agents::common::outside::{EndpointId, EndpointKind, EndpointNeed, OutsideRequest};
pub use crate::agents::common::secret::Secret;
pub use work::AdaptiveWork;

/// How far the clocks of two agents may be apart, in seconds: what is from further in the future does not
/// count.
pub const CLOCK_TOLERANCE_S: u64 = 60;
