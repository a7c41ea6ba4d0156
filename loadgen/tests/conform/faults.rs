//! One fault at a time, and the rule that must find it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringspoa_loadgen::{ConformPlan, Conformance, Hostile, Profile, Rule, RuleVerdict, conform};

use crate::agent::start;

/// Agents checked at the same time: most of them wait.
const AT_ONCE: usize = 12;

macro_rules! faults {
    ($($name:ident: $($rule:literal => $reason:literal),+;)*) => {
        /// What an agent does wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// Nothing.
            None,
            /// Nothing, but it sets no variable.
            NothingToSay,
            $($name,)*
        }

        /// Each fault, a rule that finds it, and what that must say: anything, where it depends on when
        /// the agent dies.
        const FOUND_BY: &[(Fault, &str, &str)] = &[$($((Fault::$name, $rule, $reason),)+)*];
    };
}

faults! {
    HelloWithoutFin: "H1" => "without FIN";
    HelloWithIds: "H1" => "both must be 0";
    Version21: "H1" => "version \"2.1\"";
    SizeAboveOffer: "H1" => "max-frame-size 16384";
    SizeTooSmall: "H1" => "max-frame-size 128";
    NoFrameSize: "H1" => "no max-frame-size";
    NoCapabilities: "H1" => "no capabilities", "K14" => "no capabilities";
    KeyOfTheSameStart: "H1" => "reads as version";
    HelloInTwoWrites: "H1b" => "20 of the 82 bytes";
    AnnouncesAsync: "H2" => "announces async";
    RefusesNoCapabilities: "H3" => "AGENT-DISCONNECT", "N28" => "AGENT-DISCONNECT";
    WantsEngineId: "H4" => "AGENT-DISCONNECT";
    WantsKnownKeys: "H5" => "AGENT-DISCONNECT";
    ComparesVersionList: "H6" => "AGENT-DISCONNECT";
    AcceptsVersion1: "H6b" => "AGENT-HELLO";
    FixedFrameSize: "H7" => "max-frame-size 16380";
    AcceptsSize255: "H7b" => "AGENT-HELLO";
    RefusesLargeFrames: "H7c" => "AGENT-DISCONNECT";
    HangsOnMissingKeys: "H8" => "without supported-versions";
    WantsUint32: "H9" => "as INT32";
    AcksBeforeHello: "H10" => "ACK 1/1";
    HangsOnFlags: "H11" => "flags 0x00000000";
    HangsOnSecondHello: "H12" => "nothing came";
    OneConnectionAtATime: "H13" => "nor was the connection closed", "N24" => "did not come", "C43" => "not greeted";
    KeepsHalfClosed: "H13" => "nor was the connection closed", "C41" => "nor was the connection closed",
        "F31" => "nor was the connection closed";
    RefusesChecks: "K14" => "AGENT-DISCONNECT", "K15" => "AGENT-DISCONNECT";
    CheckThenDisconnect: "K14" => "AGENT-DISCONNECT";
    CheckRunsHandler: "K14" => "ACK 0/0", "K15" => "ACK 0/0";
    CheckWithOtherFlags: "K14" => "flags 0x00000003";
    AckWithoutFin: "N16" => "without FIN";
    WrongStreamId: "N16" => "stream-id 3";
    Duplicates: "N16" => "one ACK is due";
    IgnoresSecond: "N16" => "did not come";
    IgnoresStreamId0: "N17" => "did not come";
    SwapsIds: "N18" => "frame-id 239";
    FrameIdAlways1: "N18" => "frame-id 1 came", "N25" => "7/1";
    IdsOf8Bits: "N18" => "stream-id 239, frame-id 1 came";
    IdsOf16Bits: "N18" => "stream-id 1,";
    SignedIds: "N18" => "stream-id 18446744071562067969";
    IdsOf32Bits: "N18b" => "ACK 1/1";
    IgnoresEmpty: "N19" => "did not come";
    AckPerMessage: "N20" => "one ACK is due";
    IgnoresTwoMessages: "N20" => "did not come";
    IgnoresMany: "N20" => "did not come";
    RefusesNull: "N21" => "AGENT-DISCONNECT", "N26" => "AGENT-DISCONNECT";
    RefusesUnusedTypes: "N21b" => "AGENT-DISCONNECT";
    HangsOnLargest: "N21c" => "did not come";
    ClosesOnUnknown: "N22" => "closed the connection";
    IgnoresUnknown: "N22" => "did not come";
    OneFramePerRead: "N23" => "of 20 ACKs are missing";
    MixesConnections: "N24" => "connection";
    OneAckPerStream: "N25" => "1 of 2 ACKs are missing";
    DiesOfNoArguments: "N26" => "the agent";
    WaitsForMoreInput: "N28" => "did not come", "N16" => "did not come";
    WantsWholeFrames: "F29" => "AGENT-DISCONNECT";
    LosesFramesBeyond32: "F29b" => "18 of 50 ACKs are missing";
    HangsOnHugeLength: "F30" => "a frame of length 2147483648";
    HangsOnLies: "F32" => "a string of 2^64-1 bytes";
    LosesFragments: "F33" => "otherwise than the whole message";
    AcksEachFragment: "F33b" => "not sent yet";
    AcksStrayFragments: "F34" => "ACK 9/1";
    HangsOnEndlessFragments: "F35" => "2 MiB";
    AcksAborted: "F36" => "gets no ACK";
    HangsOnUnannouncedFragments: "F37" => "nothing came";
    AcksUnknownTypes: "F38" => "ACK 0/0";
    IgnoresDisconnect: "C39" => "did not come", "C40" => "did not come";
    AcksAfterDisconnect: "C39b" => "after AGENT-DISCONNECT ACK 1/1";
    DiesOfReset: "C41" => "";
    OneWriterForAll: "C42" => "did not come";
    GreetsOnlyFew: "C43" => "not greeted";
    Bool31: "A45" => "type byte 0x31";
    String18: "A45b" => "type byte 0x18";
    Int32NotExtended: "A45c" => "INT32 4294967295";
    NameWithDash: "A46" => "has '-'";
    LongName: "A46" => "exceed 61 bytes";
    TooLargeAck: "A47" => "exceeds max-frame-size 256", "H7" => "exceeds max-frame-size 256";
    LargestAck: "A47" => "fill a buffer";
    LongReason: "A50" => "has 272 bytes";
    NoReason: "A50" => "has no message";
    UnknownAction: "A51" => "unknown action type 3";
    CutAction: "A51" => "cannot be parsed";
    UnknownScope: "A51" => "unknown scope 9";
    DiesOfGarbage: "X1" => "seed 7, ";
    HangsOnGarbage: "X1" => "seed 7, frame ";
    AnswersGarbageWithGarbage: "X1" => "seed 7, frame ";
}

/// Checks an agent with this fault by these rules.
fn check(fault: Fault, rules: &[&str]) -> Conformance {
    let agent = start(fault);
    let rules = rules.iter().map(|id| Rule::find(id).unwrap()).collect();
    let plan = ConformPlan {
        rules,
        timeout: Duration::from_secs(1),
        idle_connections: 60,
        hostile: Some(Hostile {
            seed: 7,
            frames: 300,
            ..Hostile::default()
        }),
        ..ConformPlan::new(agent.target.clone(), Profile::ip(None, None))
    };
    conform(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

fn all_rules() -> Vec<&'static str> {
    Rule::all().map(|rule| rule.id).collect()
}

#[test]
fn each_fault_is_found_by_its_rule() {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&(fault, rule, reason)) = FOUND_BY.get(index) else {
                        return;
                    };
                    let report = check(fault, &[rule]);
                    let result = report.rule(rule).unwrap();
                    let said = result.reason.clone().unwrap_or_default();
                    if result.verdict != RuleVerdict::Fail || !said.contains(reason) {
                        let verdict = result.verdict;
                        let text = format!("{fault:?}: {rule} says {verdict:?}: {said}");
                        missed.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Each rule that can fail does, for some fault.
#[test]
fn each_rule_finds_a_fault() {
    let finds: BTreeSet<_> = FOUND_BY.iter().map(|(_, rule, _)| *rule).collect();
    // Not from outside; only with the agent's own time, which has a test of its own; told, not judged.
    let others = ["N27", "C44", "A48", "H13b", "A49"];
    for rule in Rule::all() {
        let finds = finds.contains(rule.id);
        assert_ne!(finds, others.contains(&rule.id), "{}", rule.id);
    }
}

#[test]
fn a_good_agent_keeps_every_rule() {
    let report = check(Fault::None, &all_rules());
    let mut not_applicable = Vec::new();
    for rule in &report.rules {
        match rule.verdict {
            RuleVerdict::Pass => {}
            RuleVerdict::NotApplicable => not_applicable.push(rule.id),
            other => panic!("{}: {other:?}: {:?}", rule.id, rule.reason),
        }
    }
    assert_eq!(not_applicable, ["H13b", "N27", "F37", "C44", "A48", "A49"]);
    assert_eq!((report.failed, report.not_run), (0, 0));
}

/// What depends on what the agent announces or says does not concern one that does not.
#[test]
fn what_the_agent_does_not_do_is_not_judged() {
    let report = check(Fault::NothingToSay, &["A45", "A45b", "A45c", "A46", "A51"]);
    assert_eq!(
        (report.passed, report.failed, report.not_applicable),
        (1, 0, 4)
    );
    let said = report.rule("A45").unwrap().reason.clone().unwrap();
    assert!(said.contains("--profile"), "{said}");

    let report = check(
        Fault::HangsOnUnannouncedFragments,
        &["F33", "F34", "F35", "F36"],
    );
    assert_eq!((report.failed, report.not_applicable), (0, 4));
}

#[test]
fn the_handshake_timer_is_waited_for_when_it_is_known() {
    let agent = start(Fault::None);
    let plan = ConformPlan {
        rules: vec![Rule::find("handshake-timer").unwrap()],
        timeout: Duration::from_millis(200),
        hello_timeout: Some(Duration::from_millis(200)),
        ..ConformPlan::new(agent.target.clone(), Profile::ip(None, None))
    };
    // This agent has none.
    let report = conform(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let said = report.rules[0].reason.clone().unwrap();
    assert_eq!(report.failed, 1);
    assert!(said.contains("must be closed after 200ms"), "{said}");
}

/// An agent that is gone is told once; what it would have been asked is not run.
#[test]
fn a_dead_agent_fails_one_rule() {
    let report = check(Fault::DiesOfReset, &["N16", "C41", "N17", "N18"]);
    let verdicts: Vec<_> = report.rules.iter().map(|rule| rule.verdict).collect();
    assert_eq!(verdicts[..1], [RuleVerdict::Pass]);
    assert_eq!(verdicts[1], RuleVerdict::Fail);
    let dead = report.rule("N18").unwrap();
    assert_ne!(dead.verdict, RuleVerdict::Pass, "{:?}", dead.reason);
}

/// The same seed makes the same frames, and one of them can be sent alone.
#[test]
fn a_malformed_frame_can_be_repeated() {
    let found = check(Fault::HangsOnGarbage, &["X1"]);
    let said = found.rule("X1").unwrap().reason.clone().unwrap();
    let number: String = said
        .trim_start_matches("seed 7, frame ")
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    let agent = start(Fault::HangsOnGarbage);
    let mut hostile = Hostile {
        seed: 7,
        only_frame: number.parse().ok(),
        ..Hostile::default()
    };
    let mut plan = ConformPlan {
        rules: vec![Rule::find("X1").unwrap()],
        timeout: Duration::from_secs(1),
        hostile: Some(hostile.clone()),
        ..ConformPlan::new(agent.target.clone(), Profile::ip(None, None))
    };
    let again = conform(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let said_again = again.rules[0].reason.clone().unwrap();
    assert_eq!(said_again, said);
    let sent = |report: &Conformance| {
        let sent = report.rules[0].exchange.iter();
        let what = format!("frame {number}: ");
        sent.filter(|one| one.what.starts_with(&what))
            .map(|one| one.hex.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(sent(&again).len(), 1);
    // Of another seed it is another frame.
    hostile.seed = 8;
    plan.hostile = Some(hostile);
    let other = conform(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_ne!(sent(&other), sent(&again));
}

#[test]
fn a_run_has_an_end() {
    let agent = start(Fault::HangsOnSecondHello);
    let plan = ConformPlan {
        rules: ["H12", "H1", "N16"]
            .map(|id| Rule::find(id).unwrap())
            .into(),
        timeout: Duration::from_secs(30),
        run_timeout: Duration::from_millis(300),
        ..ConformPlan::new(agent.target.clone(), Profile::ip(None, None))
    };
    let report = conform(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!((report.not_run, report.failed), (3, 0));
    let said = report.rules[0].reason.clone().unwrap();
    assert!(said.contains("--run-timeout"), "{said}");
}
