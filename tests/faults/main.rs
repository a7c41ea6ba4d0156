//! The fault table: the real binary under each fault that an operator meets, and what was promised
//! for it. In every row no answer is lost that was due, nothing crashes, memory stays bounded.
//!
//! | file | faults |
//! |---|---|
//! | `peers` | no descriptors left; peers that do not read, say nothing, or come by the thousand |
//! | `restarts` | kill -9; addresses that are not to be had |
//! | `reloads` | lists and configuration files that are no such thing; a storm of SIGHUP |
//! | `hand_overs` | new processes that do not come to serve; signals meanwhile |
//! | `logs` | nobody takes the log |
//! | `clock` | the wall clock jumps |
//! | `memory` | what memory is bounded by, and what happens below that bound |
//! | `admin` | hostile requests to the admin listener |
//! | `fixture`, `haproxy` | processes, peers, traffic |

mod admin;
mod clock;
mod fixture;
mod hand_overs;
mod haproxy;
mod logs;
mod memory;
mod peers;
mod reloads;
mod restarts;
