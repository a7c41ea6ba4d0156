//! Solutions: what solves a challenge of each kind, what does not, and that one solution gives one token.

use ringspoa::agents::challenge::{
    Algorithm, CHALLENGE_LEN, Class, Failure, MAX_BODY_LEN, MAX_CAPTCHA_BODY_LEN, Reason,
    SupportId, TokenId, Visit,
};
use sha2::{Digest, Sha256};

use super::*;

#[test]
fn a_solution_sent_a_thousand_times_gives_one_token() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let body = solved_body(&issue(&keys, POW, &visit));
    let (token, text) = submit(&keys, body.as_bytes(), &visit).unwrap();
    for time in 0..1000 {
        let later = after(visit, time % u64::from(TTL_S));
        let (again, again_text) = submit(&keys, body.as_bytes(), &later).unwrap();
        assert_eq!((again, again_text.as_str()), (token, text.as_str()));
    }
    assert_eq!((token.issued, token.expires), (NOW_S, NOW_S + DURATION_S));
    // Nobody else can send it.
    let others = [
        (from(visit, "203.0.113.8"), Failure::Address),
        (
            Visit {
                user_agent: Some(b"other"),
                ..visit
            },
            Failure::UserAgent,
        ),
    ];
    for (other, failure) in others {
        assert_eq!(submitted(&keys, body.as_bytes(), &other), Err(failure));
    }
}

#[test]
fn another_solution_of_the_same_challenge_gives_the_same_token() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, POW, &visit);
    let nonces = solve(issued.as_bytes()).unwrap();
    let (_, text) = submit(
        &keys,
        solution_body(issued.as_str(), &nonces).as_bytes(),
        &visit,
    )
    .unwrap();
    let mut others = nonces.clone();
    others[3] = (nonces[3] + 1..)
        .find(|&nonce| head(issued.as_bytes(), 3, nonce) < TARGET)
        .unwrap();
    let body = solution_body(issued.as_str(), &others);
    let (_, other) = submit(&keys, body.as_bytes(), &visit).unwrap();
    assert_eq!(other.as_str(), text.as_str());
}

/// 64 hashes in 4 parts: 16 for each.
const TARGET: u64 = 1 << 60;

/// The first 64 bits of a part's hash, by the words of the format.
fn head(challenge: &[u8; CHALLENGE_LEN], part: u32, nonce: u64) -> u64 {
    let seed = Sha256::new().chain_update("pow1").chain_update(challenge);
    let hash = Sha256::new()
        .chain_update(seed.finalize())
        .chain_update(part.to_be_bytes())
        .chain_update(nonce.to_be_bytes());
    u64::from_be_bytes(*hash.finalize().first_chunk().unwrap())
}

#[test]
fn work_that_is_not_done_is_refused_in_each_part() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, POW, &visit);
    let nonces = solve(issued.as_bytes()).unwrap();
    let submitted = |nonces: &[u64]| {
        let body = solution_body(issued.as_str(), nonces);
        submitted(&keys, body.as_bytes(), &visit)
    };
    assert_eq!(submitted(&nonces), Ok(()));
    for part in 0..4 {
        assert!(head(issued.as_bytes(), part, nonces[part as usize]) < TARGET);
        // One bit short of it.
        let short = (0..)
            .find(|&nonce| (TARGET..2 * TARGET).contains(&head(issued.as_bytes(), part, nonce)))
            .unwrap();
        let mut wrong = nonces.clone();
        wrong[part as usize] = short;
        assert_eq!(submitted(&wrong), Err(Failure::Work), "part {part}");
    }
    for &nonce in &nonces {
        assert_eq!(submitted(&[nonce; 4]), Err(Failure::Work));
    }
    let mut turned = nonces.clone();
    turned.rotate_left(1);
    assert_eq!(submitted(&turned), Err(Failure::Work));
    assert_eq!(submitted(&[0; 4]), Err(Failure::Work));
    assert_eq!(submitted(&nonces[..3]), Err(Failure::Solution));
    assert_eq!(
        submitted(&[&nonces[..], &nonces[..1]].concat()),
        Err(Failure::Solution)
    );
    assert_eq!(submitted(&[]), Err(Failure::Solution));
    // What solves one challenge solves no other.
    let terms = Terms::of(POW, &levels()[1], TTL_S);
    let other = keys.issue(&terms, ChallengeId([9; 12]), &visit).unwrap();
    let body = solution_body(other.as_str(), &nonces);
    assert_eq!(
        super::submitted(&keys, body.as_bytes(), &visit),
        Err(Failure::Work)
    );
}

#[test]
fn the_work_of_a_challenge_counts_whatever_its_level_says() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let terms = |work, parts| Terms {
        work,
        parts,
        ..Terms::of(POW, &levels()[1], TTL_S)
    };
    let judged = |work, parts, nonces: &[u64]| {
        let issued = keys.issue(&terms(work, parts), ID, &visit).unwrap();
        let body = solution_body(issued.as_str(), nonces);
        submitted(&keys, body.as_bytes(), &visit)
    };
    // One hash a part, or less, is any.
    for (work, parts) in [(1, 1), (0, 1), (1, 4), (7, 4), (1, 50)] {
        assert_eq!(
            judged(work, parts, &vec![5; parts.into()]),
            Ok(()),
            "{work} {parts}"
        );
    }
    // As many as there can be are more than anybody has done.
    assert_eq!(judged(u32::MAX, 1, &[5]), Err(Failure::Work));
    // A challenge of no part, or of more than there are, is solved by nothing.
    for parts in [0, 51, 255] {
        for count in [0, 1, 50, 51] {
            assert_eq!(judged(1, parts, &vec![5; count]), Err(Failure::Solution));
        }
    }
    // Half of the hashes do for 2, and the half is exact.
    let issued = keys.issue(&terms(2, 1), ID, &visit).unwrap();
    for nonce in 0..64 {
        let is_low = head(issued.as_bytes(), 0, nonce) < 1 << 63;
        assert_eq!(judged(2, 1, &[nonce]).is_ok(), is_low);
    }
}

#[test]
fn nonces_have_one_form() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let terms = Terms {
        work: 1,
        parts: 2,
        ..Terms::of(POW, &levels()[1], TTL_S)
    };
    let issued = keys.issue(&terms, ID, &visit).unwrap();
    let judged = |solution: &[u8]| {
        let body = [issued.as_str().as_bytes(), b".", solution].concat();
        submitted(&keys, &body, &visit)
    };
    for good in [
        "0,0",
        "f,a",
        "0123456789abcdef,ffffffffffffffff",
        "00,0000000000000000",
    ] {
        assert_eq!(judged(good.as_bytes()), Ok(()), "{good}");
    }
    for bad in [
        "",
        ",",
        "0",
        "0,",
        ",0",
        "0,0,",
        "0,0,0",
        ",0,0",
        "F,0",
        "0x1,0",
        "-1,0",
        "+1,0",
        " 0,0",
        "0, 0",
        "0,0 ",
        "0,0\n",
        "0;0",
        "0.0",
        "g,0",
        "`,0",
        "/,0",
        ":,0",
        "0,00000000000000000",
        "1ffffffffffffffff,0",
        "\0,0",
        "0,\u{e9}",
    ] {
        assert_eq!(judged(bad.as_bytes()), Err(Failure::Solution), "{bad:?}");
    }
    assert_eq!(judged(b"\xff,0"), Err(Failure::Solution));
}

#[test]
fn derivations_are_as_good_as_hashes() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, PBKDF2, &visit);
    let nonces = solve(issued.as_bytes()).unwrap();
    let submitted = |nonces: &[u64]| {
        let body = solution_body(issued.as_str(), nonces);
        submitted(&keys, body.as_bytes(), &visit)
    };
    let body = solution_body(issued.as_str(), &nonces);
    let (token, _) = submit(&keys, body.as_bytes(), &visit).unwrap();
    assert_eq!((token.class(), token.level), (Class::Pbkdf2, PBKDF2));
    // With 2 derivations a part every second nonce is wrong: some are found for each part.
    for part in 0..2 {
        let wrong = (0..64)
            .map(|nonce| {
                let mut others = nonces.clone();
                others[part] = nonce;
                submitted(&others)
            })
            .filter(|result| *result == Err(Failure::Work))
            .count();
        assert!(
            (8..56).contains(&wrong),
            "{wrong} of 64 are wrong in part {part}"
        );
    }
    assert_eq!(submitted(&nonces[..1]), Err(Failure::Solution));
    assert_eq!(
        submitted(&[nonces[0], nonces[1], 0]),
        Err(Failure::Solution)
    );
}

#[test]
fn a_captcha_is_for_its_provider_to_judge() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, CAPTCHA, &visit);
    let body = format!("{}.a-token.of_the.provider", issued.as_str());
    let opened = keys
        .open(&Submission::parse(body.as_bytes()).unwrap(), &visit)
        .unwrap();
    assert_eq!(opened.challenge().algorithm, Algorithm::Captcha);
    let Ok(Step::AskProvider(proof)) = opened.judge() else {
        panic!("nobody else knows");
    };
    assert_eq!(proof.token(), "a-token.of_the.provider");
    assert_eq!(proof.challenge().level, CAPTCHA);
    let pending = proof.pending();
    assert_eq!(pending.challenge(), &issued.challenge);
    let (token, text) = keys
        .clearance(&pending.accepted(), DURATION_S, &visit)
        .unwrap();
    assert_eq!((token.class(), token.level), (Class::Captcha, CAPTCHA));
    assert_eq!(validated(&keys, text.as_str(), CAPTCHA, &visit), Ok(()));
    // A provider is asked about no more than a text without blanks.
    for bad in ["", " ", "a b", "a\nb", "a&b=c\r", "\u{e9}", "a\0"] {
        let body = format!("{}.{bad}", issued.as_str());
        assert_eq!(
            submitted(&keys, body.as_bytes(), &visit),
            Err(Failure::Solution)
        );
    }
    let body = [issued.as_str().as_bytes(), b".\xff"].concat();
    assert_eq!(submitted(&keys, &body, &visit), Err(Failure::Solution));
}

#[test]
fn nothing_solves_a_puzzle_but_its_solution() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = after(visit(&scope), 5);
    for level in [POW, PBKDF2, CAPTCHA] {
        let issued = issue(&keys, level, &visit);
        // As who comes without a script does.
        let submission = Submission::without_solution(issued.as_str().as_bytes()).unwrap();
        let judged = keys.open(&submission, &visit).unwrap().judge();
        assert_eq!(judged.unwrap_err(), Failure::Solution, "level {level}");
    }
    let early = issue(&keys, WAIT, &before(visit, 5));
    for more in ["0", " ", "."] {
        let body = format!("{}.{more}", early.as_str());
        assert_eq!(
            submitted(&keys, body.as_bytes(), &visit),
            Err(Failure::Solution)
        );
    }
    let wait = solve(early.as_bytes());
    assert_eq!(wait, None, "there is nothing to compute");
    assert_eq!(solve(issue(&keys, CAPTCHA, &visit).as_bytes()), None);
    assert_eq!(solve(&[0; CHALLENGE_LEN]), None);
}

#[test]
fn a_body_is_as_long_as_its_kind_may_be() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let fill = |issued: &Issued, len: usize| {
        let mut body = format!("{}.", issued.as_str());
        body.extend(std::iter::repeat_n('x', len - body.len()));
        body
    };
    let captcha = issue(&keys, CAPTCHA, &visit);
    let body = |issued: &Issued, len| submitted(&keys, fill(issued, len).as_bytes(), &visit);
    assert_eq!(body(&captcha, MAX_CAPTCHA_BODY_LEN), Ok(()));
    assert_eq!(
        body(&captcha, MAX_CAPTCHA_BODY_LEN + 1),
        Err(Failure::Format)
    );
    for level in [WAIT, POW, PBKDF2] {
        let issued = issue(&keys, level, &before(visit, 5));
        assert_eq!(body(&issued, MAX_BODY_LEN), Err(Failure::Solution));
        assert_eq!(body(&issued, MAX_BODY_LEN + 1), Err(Failure::Format));
        assert_eq!(body(&issued, MAX_CAPTCHA_BODY_LEN), Err(Failure::Format));
    }
    // The longest solution of the most parts fits.
    let terms = Terms {
        work: 1,
        parts: 50,
        ..Terms::of(POW, &levels()[1], TTL_S)
    };
    let issued = keys.issue(&terms, ID, &visit).unwrap();
    let longest = solution_body(issued.as_str(), &[u64::MAX; 50]);
    assert_eq!(submitted(&keys, longest.as_bytes(), &visit), Ok(()));
}

#[test]
fn a_support_id_is_the_same_of_a_challenge_and_its_token() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let issued = issue(&keys, POW, &visit);
    let (token, _) = submit(&keys, solved_body(&issued).as_bytes(), &visit).unwrap();
    let id = SupportId::from(issued.challenge.id);
    assert_eq!(id, SupportId::from(token.id));
    for (bytes, text) in [
        ([0; 8], "0000-0000-0000"),
        ([0xff; 8], "ZZZZ-ZZZZ-ZZZZ"),
        // 00001 00010 ... 01100 and four bits that are not shown.
        (
            [0x08, 0x86, 0x42, 0x98, 0xe8, 0x4a, 0x96, 0xcf],
            "1234-5678-9ABC",
        ),
    ] {
        let id = SupportId::from(TokenId(bytes));
        assert_eq!(id.as_str(), text);
        assert_eq!(format!("{id} {id:?}"), format!("{text} SupportId({text})"));
    }
}

#[test]
fn a_token_for_one_request_is_no_solution_and_the_other_way_round() {
    let (keys, scope) = (realm(), scope_of("shop.test"));
    let visit = visit(&scope);
    let text = cleared(&keys, &visit);
    let issued = issue(&keys, POW, &visit);
    assert_eq!(
        submitted(&keys, format!("{text}.0").as_bytes(), &visit),
        Err(Failure::Format)
    );
    assert_eq!(
        validated(&keys, issued.as_str(), 1, &visit),
        Err(Reason::Malformed)
    );
    assert_eq!(
        validated(&keys, &issued.as_str()[..64], 1, &visit),
        Err(Reason::Mac)
    );
}
