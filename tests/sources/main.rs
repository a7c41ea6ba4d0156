//! The sources of decisions against files, and against stubs of a LAPI, which do what the real one of
//! tests/crowdsec cannot be made to do.

mod files;
mod lapi;
mod stub;
mod usage;
