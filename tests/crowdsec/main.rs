//! The sources of decisions against a LAPI of CrowdSec that is real: what its operator does is what a
//! lookup finds. `scripts/install-crowdsec` installs it; without, these tests fail.

mod lapi;
mod real;
