//! What an agent sends the load generator.

use std::sync::OnceLock;

use ringspoa::spop::AgentHello;
use ringspoa_loadgen::{ErrorKind, Plan, Profile, replay};

/// NOTIFYs in flight.
const IN_FLIGHT: usize = 4;

/// An agent's bytes are counted as the ACKs, errors and faults they are, whatever pieces they come in.
/// The first byte says how long those are, and whether a valid HELLO goes before the bytes.
pub fn session(data: &[u8]) {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    let plan = PLAN.get_or_init(plan);
    let Some((&head, bytes)) = data.split_first() else {
        return;
    };
    let mut hello = [0; 128];
    let len = AgentHello {
        version: b"2.0",
        max_frame_size: 300,
        capabilities: b"pipelining",
    }
    .encode(&mut hello)
    .expect("there is room");
    let with_hello = head & 1 == 1;
    let hello = if with_hello { &hello[..len] } else { &[] };
    let whole = replay(plan, &[hello, bytes]);
    let (frames, in_flight, errors, fault) = &whole;
    assert!(*in_flight <= IN_FLIGHT);
    if with_hello {
        assert_eq!(
            *in_flight,
            IN_FLIGHT - if fault.is_some() { count(*frames) } else { 0 }
        );
        assert_eq!(errors.count(ErrorKind::Handshake), 0);
    }
    // At most one error for the frame, one for its ids, one for its actions, one for its values.
    assert!(errors.total() <= 4 * (bytes.len() as u64 / 11));
    assert_eq!(errors.total() == 0, errors.examples().is_empty());
    assert!(fault.as_ref().is_none_or(|text| !text.is_empty()));
    // What is open after a piece depends on where it ends, so cut what is answered by no more.
    if *frames <= IN_FLIGHT as u64 && errors.count(ErrorKind::UnknownId) == 0 {
        let pieces: Vec<_> = bytes.chunks(1 + usize::from(head >> 1)).collect();
        let cut = replay(plan, &[&[hello][..], &pieces].concat());
        assert_eq!(
            (cut.0, &cut.2, &cut.3),
            (*frames, errors, fault),
            "cut differently"
        );
    }
}

fn count(frames: u64) -> usize {
    usize::try_from(frames).unwrap_or(usize::MAX).min(IN_FLIGHT)
}

fn plan() -> Plan {
    let target = "127.0.0.1:1".parse().expect("it is an address");
    let mut plan = Plan::new(target, Profile::ip(None, None));
    plan.in_flight = IN_FLIGHT;
    plan.expectations = vec!["txn.remediation=ban|allow".parse().expect("it is one")];
    plan
}
