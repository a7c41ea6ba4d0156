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
//! ```
//!
//! All of it is pure: the second of now and random bytes are arguments, and nothing that a visitor sends
//! makes it allocate.

mod binding;
mod challenge;
mod cookie;
mod keyring;
mod languages;
mod level;
mod page;
mod puzzle;
mod scope;
mod support_id;
mod token;

pub use super::hosts::{HostPattern, PatternError, PatternFault};
pub use binding::{BindingError, BindingRules, Tags, Visit};
pub use challenge::{
    Algorithm, CHALLENGE_LEN, CHALLENGE_TEXT_LEN, Challenge, ChallengeId, Failure, Issued,
    MAX_BODY_LEN, MAX_CAPTCHA_BODY_LEN, Opened, ReturnSignature, Submission, Terms,
};
pub use cookie::{
    CookieAttributes, CookieNameError, CookieNames, CookieValue, Cookies, MAX_CANDIDATES,
    MAX_COOKIES_LEN, SameSite,
};
pub use keyring::{Key, KeyError, Keyring, RealmKeys};
pub use level::{Level, LevelError, MAX_PARTS, Method};
pub use page::{CaptchaOrigins, NoJsPage, Page, PageError};
pub use puzzle::{Pbkdf2Job, Pending, Proof, Solved, Step, solution_body, solve};
pub use scope::{HostError, Scope, ScopeRules, TrustedDomainError};
pub use support_id::SupportId;
pub use token::{
    Class, Flags, Reason, Refusal, TOKEN_LEN, TOKEN_TEXT_LEN, Token, TokenId, TokenText,
};

/// How far the clocks of two agents may be apart, in seconds: what is from further in the future does not
/// count.
pub const CLOCK_TOLERANCE_S: u64 = 60;
