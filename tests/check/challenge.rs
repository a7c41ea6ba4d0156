//! Browser validation: two engines of one prefix, and rules with variables of their own.

use std::fs;
use std::time::Duration;

use ringspoa::agents::challenge::messages::declaration;
use ringspoa::haproxy_config::{
    ChallengeFacts, CheckOptions, ConfigFile, Finding, RealmFacts, Severity, check,
};

use crate::fixture::{Folder, Verdict, haproxy, root};

/// Findings that there are with browser validation alone.
pub(crate) const IDS: [&str; 4] = [
    "challenge-level",
    "challenge-path",
    "challenge-tls",
    "file-missing",
];

const MAIN: &str = "challenge.cfg";
const ENGINES: &str = "challenge.spoe.cfg";

/// The samples for 3.1 and later.
fn samples() -> [String; 2] {
    [MAIN, ENGINES]
        .map(|name| fs::read_to_string(root().join("dist/haproxy-3.1").join(name)).unwrap())
}

fn options() -> CheckOptions {
    CheckOptions::default()
        .with_agents([declaration()])
        .with_version("3.2".parse().unwrap())
}

fn found(main: &str, engines: &str, options: &CheckOptions) -> Vec<Finding> {
    let files = [
        ConfigFile::new(MAIN, main),
        ConfigFile::new(ENGINES, engines),
    ];
    check(&files, options).findings
}

/// The samples with this text for that, in whichever file has it.
fn changed(from: &str, to: &str) -> [String; 2] {
    let [main, engines] = samples();
    assert!(main.contains(from) || engines.contains(from), "{from}");
    [main.replacen(from, to, 1), engines.replacen(from, to, 1)]
}

#[track_caller]
fn one(found: &[Finding], file: &str, id: &str, text: &str) {
    let [finding] = found else {
        panic!("{id} alone is expected: {found:#?}");
    };
    assert_eq!((&*finding.file, finding.id), (file, id), "{finding}");
    assert!(finding.to_string().contains(text), "{finding} lacks {text}");
}

#[test]
fn variables_that_nothing_sets_are_named_though_two_engines_have_their_prefix() {
    for options in [options(), options().with_agent(declaration())] {
        for (from, to, text) in [
            (
                "var(txn.challenge.valid)",
                "var(txn.challenge.vaild)",
                "did you mean 'valid'?",
            ),
            (
                "var(txn.challenge.bot)",
                "var(txn.challenge.zzz)",
                "nothing sets txn.challenge.zzz:",
            ),
            (
                "var(txn.challenge.error)",
                "var(txn.challenge.eror)",
                "did you mean 'error'?",
            ),
        ] {
            let [main, engines] = changed(from, to);
            one(
                &found(&main, &engines, &options),
                MAIN,
                "variable-unknown",
                text,
            );
        }
        let [main, engines] = changed("var(txn.challenge.bot)", "var(sess.challenge.bot)");
        one(
            &found(&main, &engines, &options),
            MAIN,
            "variable-scope",
            "in scope txn",
        );
    }
}

/// With an engine of the prefix that is not known, anything may be set.
#[test]
fn an_unknown_agent_of_the_prefix_may_set_what_it_likes() {
    let [main, engines] = changed("var(txn.challenge.bot)", "var(txn.challenge.vaild)")
        .map(|text| text.replace("txn.challenge.", "txn.edge."));
    let engines = engines.replace("var-prefix challenge", "var-prefix edge");
    one(
        &found(&main, &engines, &options()),
        MAIN,
        "variable-unknown",
        "'valid'?",
    );
    let main = main.replacen(
        "    filter spoe",
        "    filter spoe engine other config /etc/haproxy/challenge.spoe.cfg\n    filter spoe",
        1,
    );
    let engines = format!(
        "{engines}\n[other]\nspoe-agent other\n    groups other\n    option var-prefix edge\n    \
         option set-on-error error\n    timeout processing 1s\n    use-backend challenge-spoa\n\
         spoe-message other\n    args a=src\nspoe-group other\n    messages other\n"
    );
    let found = found(&main, &engines, &options());
    assert!(
        found
            .iter()
            .all(|finding| !finding.id.starts_with("variable")),
        "{found:#?}"
    );
}

#[test]
fn variables_of_the_rules_own_are_held_against_what_the_rules_set() {
    for (from, to, file, id, text) in [
        (
            " var(txn.ask.clear)",
            " var(txn.ask.claer)",
            MAIN,
            "variable-unknown",
            "'txn.ask.clear'?",
        ),
        (
            " var(txn.ask.level)",
            " var(txn.aks.level)",
            MAIN,
            "variable-unknown",
            "'txn.ask.level'?",
        ),
        (
            "nav=var(txn.ask.nav)",
            "nav=var(txn.ask.nva)",
            ENGINES,
            "variable-unknown",
            "'txn.ask.nav'?",
        ),
        (
            "nav=var(txn.ask.nav)",
            "nav=var(req.ask.nav)",
            ENGINES,
            "variable-scope",
            "in scope txn",
        ),
    ] {
        let [main, engines] = changed(from, to);
        one(&found(&main, &engines, &options()), file, id, text);
        // Whatever Lua sets.
        let lua = format!("global\n    lua-load /etc/haproxy/a.lua\n\n{main}");
        assert_eq!(found(&lua, &engines, &options()), [], "{to}");
    }
    for (from, to) in [
        ("nav=var(txn.ask.nav)", "nav=var(txn.ask.other)"),
        ("nav=var(txn.ask.nav)", "nav=var(txn.elsewhere.nva)"),
        ("nav=var(txn.ask.nav)", "nav=var(proc.ask.nav)"),
    ] {
        let [main, engines] = changed(from, to);
        assert_eq!(found(&main, &engines, &options()), [], "{to}");
    }
    let [main, engines] = changed("nav=var(txn.ask.nav)", "nav=var(txn.ask.nva)");
    // Another file may set it, or the engine's name, or a rule with a name from the environment.
    let environment = main.replacen(
        "http-request set-var(txn.ask.nav) bool(false)",
        "http-request set-var(txn.ask.nav) bool(false)\n    http-request \"set-var(txn.ask.$NAME)\" bool(false)",
        1,
    );
    let decided = main.replacen(
        "http-request set-var(txn.ask.nav) bool(false)",
        "http-request set-var(txn.ask.nav) bool(false)\n.if defined(A)\n    \
         http-request set-var(txn.ask.nva) bool(false)\n.endif",
        1,
    );
    for main in [environment, decided] {
        let found = found(&main, &engines, &options());
        assert!(
            found.iter().all(|finding| finding.id != "variable-unknown"),
            "{found:#?}"
        );
    }
}

/// berghain's layout, whose engines are known by their messages alone.
#[test]
fn variables_of_berghains_rules_are_judged_where_a_slip_is_likely() {
    let backend = |name: &str| {
        format!(
            "backend {name}\n    mode spop\n    option spop-check\n    timeout connect 1s\n    \
             server a 127.0.0.1:9000 check\n"
        )
    };
    let main = |name: &str| {
        format!(
            "defaults\n    mode http\n    timeout connect 5s\nfrontend www\n    \
             http-request set-var(req.berghain.level) int(1)\n    \
             filter spoe engine berghain config {ENGINES}\n    \
             http-request send-spoe-group berghain validate\n    \
             http-request deny if !{{ var(txn.berghain.{name}) -m bool }}\n{}",
            backend("spoa")
        )
    };
    let engines = "[berghain]\nspoe-agent berghain\n    groups validate\n    option var-prefix berghain\n    \
                   option set-on-error error\n    timeout processing 1s\n    use-backend spoa\n\
                   spoe-message validate\n    args frontend=fe_name level=var(req.berghain.level) src=src \
                   host=req.hdr(Host) cookie=req.cook(berghain)\nspoe-group validate\n    messages validate\n";
    assert_eq!(found(&main("valid"), engines, &options()), []);
    // It may be another agent's.
    assert_eq!(found(&main("verdict"), engines, &options()), []);
    one(
        &found(&main("vaild"), engines, &options()),
        MAIN,
        "variable-unknown",
        "did you mean 'valid'?",
    );
}

/// What says how to use an answer must not have everybody refused who has one.
#[test]
fn the_first_use_of_a_variable_refuses_nobody() {
    let [main, engines] = samples();
    let main: String = main
        .lines()
        .filter(|line| !line.contains("txn.challenge."))
        .map(|line| format!("{line}\n"))
        .collect();
    let found = found(&main, &engines, &options());
    let unread: Vec<_> = found
        .iter()
        .filter(|one| one.id == "variable-unread")
        .collect();
    let [finding] = unread[..] else {
        panic!("one is expected: {found:#?}");
    };
    assert_eq!(
        finding.fix,
        "add an acl that reads one, and rules that use it, as in acl is_valid var(txn.challenge.valid) -m bool"
    );
}

/// As berghain's configuration has it: no fault, and what it costs is said.
#[test]
fn two_engines_with_one_backend_work() {
    let [main, engines] = changed(
        "use-backend challenge-verify-spoa",
        "use-backend challenge-spoa",
    );
    let found = found(&main, &engines, &options());
    one(
        &found,
        ENGINES,
        "backend-shared",
        "too: that works, and costs connections",
    );
    assert_eq!(found[0].severity, Severity::Note);
}

/// One realm with two levels.
fn facts() -> ChallengeFacts {
    let mut realm = RealmFacts::default();
    realm.name = "default".to_owned();
    realm.levels = 2;
    let mut facts = ChallengeFacts::default();
    facts.path = "/.challenge".to_owned();
    facts.realms.push(realm);
    facts
}

fn with(change: impl Fn(&mut ChallengeFacts)) -> CheckOptions {
    let mut facts = facts();
    change(&mut facts);
    let mut options = options();
    options.challenge = Some(facts);
    options
}

#[test]
fn the_samples_agree_with_the_settings() {
    for folder in ["haproxy-2.6", "haproxy-3.1"] {
        for name in [MAIN, "challenge-fail-closed.cfg"] {
            let read =
                |name| fs::read_to_string(root().join("dist").join(folder).join(name)).unwrap();
            let options = with(|facts| {
                facts.realms[0].captcha_timeout = Some(Duration::from_secs(5));
            });
            let version = if folder == "haproxy-2.6" {
                "3.0"
            } else {
                "3.2"
            };
            let options = options
                .with_version(version.parse().unwrap())
                .with_deadline(Duration::from_millis(5500));
            assert_eq!(
                found(&read(name), &read(ENGINES), &options),
                [],
                "{folder} {name}"
            );
        }
    }
}

#[test]
fn levels_that_the_realm_does_not_have_are_noted() {
    const SET: &str = "set-var(txn.ask.level) int(1)";
    let [main, engines] = changed(SET, "set-var(txn.ask.level) int(3)");
    let note = found(&main, &engines, &with(|_| {}));
    one(
        &note,
        MAIN,
        IDS[0],
        "level 3 is asked for, and the realm has 2 levels: the last",
    );
    assert_eq!(note[0].severity, Severity::Note);
    // The realm of the frontend counts, and no other.
    let of_frontend = |name: &str, levels| {
        with(|facts| {
            let mut realm = facts.realms[0].clone();
            (realm.name, realm.levels) = (name.to_owned(), levels);
            facts.realms.push(realm);
        })
    };
    assert_eq!(found(&main, &engines, &of_frontend("www", 3)), []);
    one(
        &found(&main, &engines, &of_frontend("api", 3)),
        MAIN,
        IDS[0],
        "2 levels",
    );
    let [main, engines] = changed("level=var(txn.ask.level)", "level=int(3)");
    one(
        &found(&main, &engines, &with(|_| {})),
        ENGINES,
        IDS[0],
        "level 3",
    );
    let [main, engines] = changed(SET, "set-var(txn.ask.level) int(2)");
    assert_eq!(found(&main, &engines, &with(|_| {})), []);
}

#[test]
fn the_paths_of_rules_and_settings_are_the_same() {
    let [main, engines] = samples();
    let moved = main.replace("/.challenge", "/.other");
    let other = with(|facts| facts.path = "/.other".to_owned());
    assert_eq!(found(&moved, &engines, &other), []);
    let text =
        "the rules take the page's requests at /.challenge, and path of [challenge] is /.other";
    one(&found(&main, &engines, &other), MAIN, IDS[1], text);
    one(
        &found(&moved, &engines, &with(|_| {})),
        MAIN,
        IDS[1],
        "write path = \"/.other\"",
    );
    // A part of another path is none.
    let part = with(|facts| facts.path = "/challenge".to_owned());
    one(
        &found(&main, &engines, &part),
        MAIN,
        IDS[1],
        "is /challenge",
    );
    // Files may have any.
    let of_file = moved.replace(
        "acl is_endpoint path /.other",
        "acl is_endpoint path -f /etc/haproxy/paths.lst\n    acl is_endpoint path /.other",
    );
    assert_eq!(found(&of_file, &engines, &with(|_| {})), []);
    let regular = main.replace("/.challenge", "/other").replacen(
        "    filter",
        "    http-request deny if { path_reg ^/\\.challenge$ }\n    filter",
        1,
    );
    assert_eq!(found(&regular, &engines, &with(|_| {})), []);
}

#[test]
fn levels_for_tls_want_tls() {
    let tls = with(|facts| facts.realms[0].needs_tls = true);
    let [main, engines] = samples();
    one(
        &found(&main, &engines, &tls),
        MAIN,
        IDS[2],
        "no bind line has ssl",
    );
    for (from, to) in [
        (
            "bind :80\n",
            "bind :80\n    bind :443 ssl crt /etc/haproxy/site.pem\n",
        ),
        ("bind :80\n", "bind 127.0.0.1:80\n"),
        ("bind :80\n", "bind :80 accept-proxy\n"),
        ("bind :80\n", "bind \"$LISTEN\"\n"),
        ("secure=ssl_fc", "secure=bool(true)"),
    ] {
        let [main, engines] = changed(from, to);
        assert_eq!(found(&main, &engines, &tls), [], "{to}");
    }
}

#[test]
fn solutions_wait_for_a_captcha() {
    let slow = |seconds| {
        with(|facts| facts.realms[0].captcha_timeout = Some(Duration::from_secs(seconds)))
    };
    let [main, engines] = samples();
    assert_eq!(found(&main, &engines, &slow(5)), []);
    let short = found(&main, &engines, &slow(6));
    one(
        &short,
        ENGINES,
        "timeout-processing-short",
        "raise timeout processing to 7s",
    );
    assert!(
        engines
            .lines()
            .nth(short[0].line - 1)
            .unwrap()
            .contains("processing 6s")
    );
}

/// berghain's second engine is in a backend, and its realm is still the frontend's.
#[test]
fn the_realm_is_of_the_frontend_where_a_backend_asks() {
    let main = format!(
        "defaults\n    mode http\n    timeout connect 5s\nfrontend shop\n    bind :80\n    \
         default_backend challenges\nbackend challenges\n    http-request set-var(req.berghain.level) int(2)\n    \
         filter spoe engine berghain_challenge config {ENGINES}\n    \
         http-request send-spoe-group berghain_challenge challenge\n    \
         http-request return status 200 lf-string %[var(txn.berghain.response)]\nbackend spoa\n    mode spop\n    \
         option spop-check\n    timeout connect 1s\n    server a 127.0.0.1:9000 check\n"
    );
    let engines = "[berghain_challenge]\nspoe-agent berghain_challenge\n    groups challenge\n    \
                   option var-prefix berghain\n    option set-on-error error\n    timeout processing 2s\n    \
                   use-backend spoa\nspoe-message challenge\n    args frontend=fe_name \
                   level=var(req.berghain.level) src=src host=req.hdr(Host) method=method body=req.body\n\
                   spoe-group challenge\n    messages challenge\n";
    let of = |name: &str, seconds| {
        with(|facts| {
            let mut realm = facts.realms[0].clone();
            facts.realms[0].levels = 1;
            realm.name = name.to_owned();
            realm.captcha_timeout = Some(Duration::from_secs(seconds));
            facts.realms.push(realm);
        })
    };
    let ids = |options: &CheckOptions| {
        let found = found(&main, engines, options);
        let ids = found.iter().map(|one| one.id);
        ids.filter(|id| *id != "body-not-buffered")
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&of("shop", 1)), [""; 0]);
    assert_eq!(ids(&of("shop", 2)), ["timeout-processing-short"]);
    assert_eq!(ids(&of("challenges", 2)), ["challenge-level"]);
}

/// What answers at once need not wait for the deadline that the other engine is for.
#[test]
fn a_deadline_is_for_the_engine_that_waits() {
    let [main, engines] = samples();
    let options = |ms| options().with_deadline(Duration::from_millis(ms));
    assert_eq!(found(&main, &engines, &options(5900)), []);
    let late = found(&main, &engines, &options(5999));
    assert_eq!(late.len(), 2, "{late:#?}");
    assert!(late.iter().all(|one| one.id == "timeout-processing-short"));
}

/// The command has it from the table.
#[test]
fn the_command_reads_the_table() {
    let folder = Folder::new();
    let [main, engines] = changed("bind :80\n", "bind 192.0.2.1:80\n");
    let main = main.replace("int(1) if is_probe", "int(4) if is_probe");
    folder.write(MAIN, &main);
    folder.write(ENGINES, &engines);
    folder.write(
        "ringspoa.toml",
        "listen = 'unix:/run/ringspoa/ringspoa.sock'\n[challenge]\npath = '/.other'\n[[challenge.realm]]\n\
         [[challenge.realm.level]]\ntype = 'pbkdf2'\n[[challenge.realm.level]]\ntype = 'captcha'\n\
         timeout-s = 9\n",
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringspoa"))
        .args([
            "check",
            "--config",
            "ringspoa.toml",
            "--haproxy",
            "3.2",
            MAIN,
            ENGINES,
        ])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains(": 0 errors, 3 warnings, 1 note\n"), "{out}");
    for id in IDS[..3].iter().chain(&["timeout-processing-short"]) {
        assert!(out.contains(&format!("[{id}]")), "{id}: {out}");
    }
}

/// Beside what was read the page has to be, as HAProxy has it; of other folders nothing is said.
#[test]
fn a_page_that_is_not_there_is_missed() {
    let folder = Folder::new();
    let [main, engines] = samples();
    // The samples' lines of the log go where the global section says.
    let main = format!("global\n    log stdout format raw local0\n{main}");
    let here = folder.0.display().to_string();
    folder.write(MAIN, &main.replace("/etc/haproxy", &here));
    folder.write(ENGINES, &engines);
    folder.write("challenge-never.lst", "");
    let check = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringspoa"))
            .args(["check", "--haproxy", "3.2", MAIN])
            .current_dir(&folder.0)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let out = check();
    let line =
        format!("error[file-missing]: {here}/challenge.html is not there: HAProxy does not start");
    assert!(
        out.contains(&line) && out.contains(": 1 error, 0 warnings"),
        "{out}"
    );
    assert!(
        out.contains("fix: make it: ringspoa page --output"),
        "{out}"
    );
    assert_eq!(haproxy("3.2", &folder.0, MAIN).0, Verdict::Refuses);
    folder.write("challenge.html", "a page");
    assert!(check().contains(": 0 errors, 0 warnings"), "{}", check());
    assert_eq!(haproxy("3.2", &folder.0, MAIN).0, Verdict::Accepts);
    // As it is before it is installed.
    folder.write(MAIN, &main.replace("/etc/haproxy", "/etc"));
    assert!(check().contains(": 0 errors, 0 warnings"), "{}", check());
}
