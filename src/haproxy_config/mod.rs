//! HAProxy's configuration, made from declarations, and held against them.
//!
//! It knows which sections, lines and timeouts each version of HAProxy wants for an agent, how words are
//! quoted in them, and what HAProxy calls the variables: [`SpoeConfig`] makes them. And it knows how
//! HAProxy reads its files, what engines, messages and backends have to do with each other, and which
//! type of argument a sample expression makes: [`check`] finds what does not fit in files that are there.
//! It refuses to know where files lie and what runs: it is given texts, and answers with texts and
//! findings.
//!
//! ```
//! use ringspoa::haproxy_config::{CheckOptions, ConfigFile, HaproxyVersion, check};
//! use ringspoa::{AgentDeclaration, Message, Var};
//!
//! #[derive(Message)]
//! #[spop(name = "score-client")]
//! struct ScoreClient<'a> {
//!     ip: std::net::IpAddr,
//!     #[spop(name = "ua")]
//!     user_agent: Option<&'a str>,
//! }
//!
//! let agent = AgentDeclaration::new("reputation")
//!     .with_message::<ScoreClient<'_>>()
//!     .with_variable(Var::<i64>::txn("score"));
//!
//! let engine = "
//! [reputation]
//! spoe-agent reputation
//!     messages score-client
//!     option set-on-error error
//!     timeout processing 50ms
//!     use-backend agents
//! spoe-message score-client
//!     args ip=src_port ua=req.hdr(user-agent)
//!     event on-frontend-http-request
//! ";
//! let files = [ConfigFile::new("spoe.cfg", engine)];
//! let options = CheckOptions::default()
//!     .with_version(HaproxyVersion::V3_2)
//!     .with_agent(agent);
//! let report = check(&files, &options);
//! assert_eq!(
//!     report.findings[0].to_string(),
//!     "spoe.cfg:9: error[argument-type]: argument ip is INT64 (src_port), and the agent takes IPV4 or \
//!      IPV6 there: it has to be an IP address\n  \
//!      fix: send an IP address, as in ip=src"
//! );
//! ```

#![forbid(unsafe_code)]

mod check;
mod error;
mod fetches;
mod finding;
mod model;
mod read;
mod render;
mod samples;
mod similar;
mod version;
mod words;

pub use check::{
    ChallengeFacts, CheckOptions, IDS, RealmFacts, check, engine_files, guess_version, page_files,
};
pub use error::ConfigTextError;
pub use finding::{Finding, Report, Severity};
pub use read::ConfigFile;
pub use render::SpoeConfig;
pub use samples::sample_types;
pub use version::{HaproxyVersion, HaproxyVersionError};
pub(crate) use words::quoted;
