//! `ringspoa import`: that what it writes is what the other configuration says, is accepted by
//! `ringspoa serve --check`, and that nothing is passed over in silence.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("ringspoa-import-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn import(&self, text: &str) -> Imported {
        let path = self.write("bouncer.yaml", text);
        Imported::of(command().arg(path).output().unwrap())
    }

    /// What `ringspoa serve --check` says to a configuration.
    fn check(&self, toml: &str) -> Result<(), String> {
        let path = self.write("checked.toml", toml);
        let output = Command::new(env!("CARGO_BIN_EXE_ringspoa"))
            .args(["serve", "--check", "--config"])
            .arg(path)
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringspoa"));
    command.args(["import", "crowdsec"]);
    command
}

struct Imported {
    code: Option<i32>,
    toml: String,
    told: String,
}

impl Imported {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            toml: String::from_utf8(output.stdout).unwrap(),
            told: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Its lines that say something.
    fn settings(&self) -> Vec<&str> {
        let lines = self.toml.lines();
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }
}

const LEAST: &str =
    "listen_tcp: 127.0.0.1:9000\napi_url: http://127.0.0.1:8080/\napi_key: key-of-lapi\n";

#[test]
fn a_configuration_is_taken_over() {
    let folder = Folder::new("whole");
    let hosts = folder.0.join("hosts");
    fs::create_dir(&hosts).unwrap();
    fs::write(
        hosts.join("b.yaml"),
        "host: b.example\nban: {contact_us_url: 'https://b.example/help'}\n",
    )
    .unwrap();
    fs::write(hosts.join("a.yaml"), "host: '*.a.example'\n").unwrap();
    fs::write(hosts.join("c.yml"), "host: c.example\n").unwrap();
    let imported = folder.import(&format!(
        r#"
log_mode: stdout
log_level: warning
listen_tcp: :9000
listen_unix: {0}/spoa.sock
api_url: http://127.0.0.1:8080/
api_key: 00123
update_frequency: 1m30s
insecure_skip_verify: yes
scopes: [ip, range, country]
origins:
  - cscli
  - "lists:a \"b\""
scenarios_containing: [ssh]
scenarios_not_containing: [http]
appsec_url: http://127.0.0.1:7422/
appsec_timeout: 300ms
prometheus:
  enabled: true
  listen_addr: 127.0.0.1
  listen_port: 60601
hosts:
  - host: "shop.example"
    captcha:
      provider: turnstile
      site_key: site
      secret_key: secret
      signing_key: 0123456789abcdef0123456789abcdef
      fallback_remediation: allow
      timeout: 7
      pending_ttl: 10m
      passed_ttl: 12h
      cookie: {{secure: always, http_only: false}}
    appsec:
      url: http://127.0.0.1:7423/
      api_key: key-of-appsec
      timeout: 100ms
      always_send: true
hosts_dir: {0}/hosts
"#,
        folder.0.display()
    ));
    assert_eq!(imported.code, Some(0));
    // Where the socket of the bouncer was, the packaged service may have none.
    assert_eq!(imported.told.lines().count(), 1, "{}", imported.told);
    for part in ["listen_unix: the packaged service", "unix@/run/ringspoa/"] {
        assert!(imported.told.contains(part), "{}", imported.told);
    }
    let socket = format!("unix:{}/spoa.sock,mode=660", folder.0.display());
    let listen = format!(r#"listen = ["0.0.0.0:9000", "[::]:9000", "{socket}"]"#);
    assert_eq!(
        imported.settings(),
        [
            &*listen,
            r#"admin-listen = "127.0.0.1:60601""#,
            r#"log-level = "warn""#,
            "agent-deadline-ms = 400",
            "[remediation]",
            r#"state-file = "/var/lib/ringspoa/decisions""#,
            "[remediation.crowdsec]",
            r#"url = "http://127.0.0.1:8080/""#,
            r#"key = "00123""#,
            "insecure = true",
            "update-frequency-ms = 90000",
            r#"scopes = ["ip", "range", "country"]"#,
            r#"origins = ["cscli", "lists:a \"b\""]"#,
            r#"scenarios-containing = ["ssh"]"#,
            r#"scenarios-not-containing = ["http"]"#,
            "[remediation.appsec]",
            r#"url = "http://127.0.0.1:7422/""#,
            r#"api-key = "00123""#,
            r#"timeout = "300ms""#,
            "[[remediation.host]]",
            r#"host = "shop.example""#,
            "[remediation.host.captcha]",
            r#"provider = "turnstile""#,
            r#"site-key = "site""#,
            r#"secret-key = "secret""#,
            r#"fallback-remediation = "allow""#,
            r#"signing-key = "0123456789abcdef0123456789abcdef""#,
            "timeout = 7",
            r#"pending-ttl = "10m""#,
            r#"passed-ttl = "12h""#,
            "[remediation.host.captcha.cookie]",
            r#"secure = "always""#,
            "http-only = false",
            "[remediation.host.appsec]",
            r#"url = "http://127.0.0.1:7423/""#,
            r#"api-key = "key-of-appsec""#,
            r#"timeout = "100ms""#,
            "always-send = true",
            "[[remediation.host]]",
            r#"host = "*.a.example""#,
            "[[remediation.host]]",
            r#"host = "b.example""#,
            "[remediation.host.ban]",
            r#"contact-us-url = "https://b.example/help""#,
        ]
    );
    folder.check(&imported.toml).unwrap();
}

#[test]
fn a_local_file_and_the_environment_have_their_say() {
    let folder = Folder::new("local");
    folder.write(
        "bouncer.yaml.local",
        "api_key: ${RINGSPOA_TEST_KEY}\nprometheus: {listen_port: '6061'}\n",
    );
    let path = folder.write(
        "bouncer.yaml",
        &format!(
            "{LEAST}prometheus: {{enabled: true, listen_addr: 127.0.0.1, listen_port: 6060}}\n\
             origins: ['${{RINGSPOA_TEST_UNSET}}']\n"
        ),
    );
    let output = command()
        .arg(&path)
        .env("RINGSPOA_TEST_KEY", "a\"key\"")
        .env_remove("RINGSPOA_TEST_UNSET")
        .output();
    let imported = Imported::of(output.unwrap());
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    for line in [
        r#"key = "a\"key\"""#,
        r#"admin-listen = "127.0.0.1:6061""#,
        r#"origins = ["${RINGSPOA_TEST_UNSET}"]"#,
    ] {
        assert!(imported.settings().contains(&line), "{}", imported.toml);
    }
    assert!(
        imported
            .told
            .contains("${RINGSPOA_TEST_UNSET} is not set here, so the outcome has this text"),
        "{}",
        imported.told
    );
    assert!(
        !imported.told.contains("RINGSPOA_TEST_KEY"),
        "{}",
        imported.told
    );
    assert!(
        imported
            .toml
            .contains("# ${RINGSPOA_TEST_UNSET} WAS NOT SET"),
        "{}",
        imported.toml
    );
    folder.check(&imported.toml).unwrap();
}

/// Nor is it passed over later.
#[test]
fn a_key_that_is_a_variables_name_is_told_by_check() {
    let folder = Folder::new("variable");
    let text = LEAST.replace("key-of-lapi", "${RINGSPOA_TEST_UNSET}");
    let imported = folder.import(&text);
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    let path = folder.write("checked.toml", &imported.toml);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringspoa"));
    let checked = command.args(["serve", "--check", "--config"]).arg(path);
    let checked = Imported::of(checked.output().unwrap());
    assert_eq!((checked.code, &*checked.toml), (Some(0), "valid\n"));
    let part = "warning: remediation: crowdsec: key is a variable's name";
    assert!(checked.told.contains(part), "{}", checked.told);
}

#[test]
fn databases_are_taken_over_where_they_are() {
    let folder = Folder::new("databases");
    let imported = folder.import(&format!("{LEAST}city_database_path: /nowhere/city.mmdb\n"));
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    assert!(
        imported
            .toml
            .contains("city-database = \"/nowhere/city.mmdb\""),
        "{}",
        imported.toml
    );
    assert!(
        imported.told.contains("/nowhere/city.mmdb"),
        "it is not there: {}",
        imported.told
    );
}

/// Newer bouncers have the databases in a table, and older ones called the signing key otherwise.
#[test]
fn newer_and_older_names_are_taken_over() {
    let folder = Folder::new("names");
    let imported = folder.import(&format!(
        "{LEAST}geo: {{asn: /nowhere/asn.mmdb, city: /nowhere/city.mmdb, stat: true, sta: 1}}\n\
         hosts:\n  - host: a.example\n    captcha: {{provider: hcaptcha, site_key: a, secret_key: b, \
         cookie_secret: 0123456789abcdef0123456789abcdef}}\n"
    ));
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    for line in [
        r#"city-database = "/nowhere/city.mmdb""#,
        r#"asn-database = "/nowhere/asn.mmdb""#,
        r#"signing-key = "0123456789abcdef0123456789abcdef""#,
    ] {
        assert!(imported.settings().contains(&line), "{}", imported.toml);
    }
    assert!(
        imported.told.contains("geo.sta: is no key of the bouncer"),
        "{}",
        imported.told
    );
    for key in ["geo.stat:", "cookie_secret"] {
        assert!(!imported.told.contains(key), "{}", imported.told);
    }
}

#[test]
fn what_has_no_counterpart_is_told_and_left_as_a_comment() {
    let folder = Folder::new("without");
    let imported = folder.import(&format!(
        "{LEAST}\
log_mode: file
log_max_backups: 3
log_max_files: 3
compress_logs: true
log_compression: true
retry_initial_connect: true
pprof: {{enabled: true}}
workers: [{{name: a}}]
appsec_timeout: 1s
update_frequancy: 10s
\"odd\\nkey = 1\": secret-of-a-stranger
prometheus: {{enabled: false, listen_prot: 1}}
hosts:
  - host: a.example
    log_level: debug
    captcha:
      provider: hcaptcha
      site_key: site
      secret_key: secret-of-hcaptcha
      signing_key: 0123456789abcdef0123456789abcdef
      pending_ttl: soon
      passed_ttl: 7d
      grace_period: 1h
      cookie: {{secure: no}}
    appsec: {{url: 'http://127.0.0.1:7422/'}}
  - host: b.example
    appsec: {{always_send: true}}
"
    ));
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    for part in [
        "line 4: log_mode, log_max_files, log_max_backups, compress_logs, log_compression: the log goes to stderr",
        "retry_initial_connect:",
        "pprof:",
        "workers:",
        "appsec_timeout:",
        "update_frequancy: is no key of the bouncer; did you mean update_frequency?",
        "oddkey = 1: is no key of the bouncer",
        "prometheus.listen_prot: is no key of the bouncer; did you mean listen_port?",
        "hosts[0].log_level:",
        "hosts[0].captcha.pending_ttl:",
        "hosts[0].captcha.passed_ttl: the bouncer takes 7d for its default, 24h",
        "hosts[0].captcha.grace_period:",
        "hosts[0].captcha.cookie.secure:",
        "hosts[0].appsec.url: has no api_key",
        "hosts[1].appsec.always_send:",
    ] {
        assert!(imported.told.contains(part), "{part} in {}", imported.told);
        // The same in the file, without the place.
        let key = part.split_once(": ").map_or(part, |(first, rest)| {
            if first.starts_with("line") {
                rest
            } else {
                part
            }
        });
        assert!(
            imported.toml.contains(&format!("# {key}")),
            "{key} in {}",
            imported.toml
        );
    }
    for secret in ["secret-of", "key-of-lapi", "0123456789abcdef"] {
        assert!(!imported.told.contains(secret), "{}", imported.told);
    }
    assert!(
        !imported.toml.contains("secret-of-a-stranger"),
        "{}",
        imported.toml
    );
    folder.check(&imported.toml).unwrap();
}

#[test]
fn a_captcha_that_cannot_work_is_told() {
    let folder = Folder::new("captcha");
    let imported = folder.import(&format!(
        "{LEAST}hosts: [{{host: a.example, captcha: {{provider: hcaptcha, site_key: a}}}}]\n"
    ));
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    let error = folder.check(&imported.toml).unwrap_err();
    let error = error.trim().trim_start_matches("ringspoa: ");
    assert!(
        imported.told.contains(&format!(
            "`ringspoa serve --check` would refuse the outcome on this machine: {error}"
        )),
        "{error} in {}",
        imported.told
    );
}

#[test]
fn a_certificate_stands_for_a_key() {
    let folder = Folder::new("certificate");
    let imported = folder.import(
        "listen_tcp: localhost:9000\napi_url: https://127.0.0.1:8080/\ncert_path: /nowhere/a.pem\n\
         key_path: /nowhere/a.key\nca_cert_path: /nowhere/ca.pem\nappsec_url: http://127.0.0.1:7422/\n",
    );
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    for line in [
        r#"listen = ["127.0.0.1:9000"]"#,
        r#"certificate = "/nowhere/a.pem""#,
        r#"private-key = "/nowhere/a.key""#,
        r#"ca-file = "/nowhere/ca.pem""#,
    ] {
        assert!(imported.settings().contains(&line), "{}", imported.toml);
    }
    for part in [
        "appsec_url: has no key",
        "would refuse the outcome on this machine",
        "/nowhere/",
    ] {
        assert!(imported.told.contains(part), "{}", imported.told);
    }
}

#[test]
fn what_cannot_be_read_or_would_not_start_is_refused() {
    let folder = Folder::new("refused");
    for (text, part) in [
        ("a: [", "bouncer.yaml line"),
        ("- a\n", "the file is a list: want a table"),
        (
            "api_url: a\napi_key: b\n",
            "neither listen_tcp nor listen_unix",
        ),
        (
            "listen_tcp: a:1\n",
            "line 1: listen_tcp: names are not looked up",
        ),
        (
            "listen_tcp: 127.0.0.1:1\napi_key: b\n",
            "api_url: is missing",
        ),
        (
            "listen_tcp: 127.0.0.1:1\napi_url: a\n",
            "want either api_key, or both",
        ),
        (
            &format!("{LEAST}cert_path: a\n"),
            "want either api_key, or both",
        ),
        (
            &format!("{LEAST}log_mode: syslog\n"),
            "line 4: log_mode: want file or stdout",
        ),
        (
            &format!("{LEAST}log_level: loud\n"),
            "log_level: want trace",
        ),
        (
            &format!("{LEAST}update_frequency: 10\n"),
            "update_frequency: ",
        ),
        (
            &format!("{LEAST}update_frequency: 0s\n"),
            "want more than 0",
        ),
        (
            &format!("{LEAST}insecure_skip_verify: maybe\n"),
            "want true or false",
        ),
        (
            &format!("{LEAST}origins: {{a: b}}\n"),
            "origins has a table in it",
        ),
        (
            &format!("{LEAST}hosts: a\n"),
            "hosts is a text: want a list",
        ),
        (
            &format!("{LEAST}hosts: [{{captcha: {{}}}}]\n"),
            "hosts[0].host: is missing",
        ),
        (
            &format!("{LEAST}hosts_dir: /nowhere/hosts\n"),
            "hosts_dir: cannot read /nowhere/hosts",
        ),
        (
            &format!("{LEAST}prometheus: {{enabled: true}}\n"),
            "prometheus.listen_port: is missing",
        ),
    ] {
        let imported = folder.import(text);
        assert_eq!((imported.code, &*imported.toml), (Some(2), ""), "{text}");
        assert!(
            imported.told.contains(part),
            "{} lacks {part}",
            imported.told
        );
        assert!(!imported.told.contains("key-of-lapi"), "{}", imported.told);
    }
    let output = command().arg(folder.0.join("missing.yaml")).output();
    let imported = Imported::of(output.unwrap());
    assert_eq!(imported.code, Some(2));
    assert!(imported.told.contains("cannot read"), "{}", imported.told);
}

#[test]
fn a_file_is_for_its_owner_alone_and_replaces_none() {
    let folder = Folder::new("output");
    let from = folder.write("bouncer.yaml", LEAST);
    let to = folder.0.join("ringspoa.toml");
    let import = || {
        Imported::of(
            command()
                .arg(&from)
                .arg("--output")
                .arg(&to)
                .output()
                .unwrap(),
        )
    };
    let imported = import();
    assert_eq!((imported.code, &*imported.toml), (Some(0), ""));
    // The packaged service is nobody who runs tests.
    let told = format!("chown ringspoa {}\n", to.display());
    assert!(imported.told.ends_with(&told), "{}", imported.told);
    assert_eq!(imported.told.lines().count(), 1, "{}", imported.told);
    let mode = fs::metadata(&to).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&to).unwrap();
    assert!(text.contains("key-of-lapi"), "{text}");
    folder.check(&text).unwrap();
    fs::write(&to, "mine").unwrap();
    let imported = import();
    assert_eq!(imported.code, Some(1));
    assert!(
        imported.told.contains("is there already"),
        "{}",
        imported.told
    );
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
}

/// 32 bytes.
const SECRET: &str = "YSBrZXkgb2YgdGVzdHMsIHRoZSBmaXJzdCBvZiB0aGU=";

fn berghain(folder: &Folder, text: &str) -> Imported {
    let path = folder.write("config.yaml", text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringspoa"));
    Imported::of(
        command
            .args(["import", "berghain"])
            .arg(path)
            .output()
            .unwrap(),
    )
}

#[test]
fn a_configuration_of_berghain_is_taken_over() {
    let folder = Folder::new("berghain");
    let imported = berghain(
        &folder,
        &format!(
            "
secret: {SECRET}
listen: unix:///run/berghain/spop.sock
default:
  levels:
    - {{type: none, duration: 1h, countdown: 0}}
    - {{type: pow, duration: 24h}}
frontend:
  shop:
    trusted_domains: [shop.example]
    levels:
      - type: turnstile
        duration: 12h
        countdown: 2
        sitekey: site
        secret: hush
        verify_url: https://captcha.example/verify
        skip_hostname_check: true
pprof: true
reputation: {{enabled: true}}
"
        ),
    );
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    for part in [
        "listen = [\"unix:/run/berghain/spop.sock,mode=660\"]",
        "path = \"/cdn-cgi/challenge-platform/challenge\"",
        "cookie = \"berghain\"",
        "name = \"shop\"",
        "trusted-domains = [\"shop.example\"]",
        "type = \"wait\"\nwait-s = 3\nduration-s = 3600",
        "type = \"pow\"",
        "work = 65536\nduration-s = 86400",
        "provider = \"turnstile\"\nsite-key = \"site\"\nsecret-key = \"hush\"",
        "verify-url = \"https://captcha.example/verify\"\nskip-hostname-check = true",
    ] {
        assert!(
            imported.toml.contains(part),
            "{part} is not in\n{}",
            imported.toml
        );
    }
    for part in ["pprof", "countdown"] {
        assert!(imported.told.contains(part), "{part}: {}", imported.told);
    }
    assert!(
        imported.told.contains("reputation: not taken over"),
        "{}",
        imported.told
    );
    assert!(!imported.told.contains("reputation: is no key"));
    assert!(!imported.told.contains(SECRET) && !imported.told.contains("hush"));
    // Where there is a folder for its socket.
    let here = imported
        .toml
        .replace("/run/berghain", folder.0.to_str().unwrap());
    assert_eq!(folder.check(&here), Ok(()));
}

/// The secret of its sample, which everybody knows, is written as it is, and no server starts with it.
#[test]
fn the_sample_secret_of_berghain_is_refused() {
    let folder = Folder::new("berghain-sample");
    let imported = berghain(
        &folder,
        "secret: JMal0XJRROOMsMdPqggG2tR56CTkpgN3r47GgUN/WSQ=\n\
         listen: unix:///run/berghain/spop.sock\n\
         default: {levels: [{type: pow, duration: 1h}]}\n",
    );
    assert_eq!(imported.code, Some(0), "{}", imported.told);
    for part in ["would refuse", "sample", "openssl rand"] {
        assert!(imported.told.contains(part), "{part}: {}", imported.told);
    }
    let here = imported
        .toml
        .replace("/run/berghain", folder.0.to_str().unwrap());
    let error = folder.check(&here).unwrap_err();
    assert!(error.contains("sample"), "{error}");
}

#[test]
fn what_berghain_would_refuse_is_refused() {
    let folder = Folder::new("berghain-wrong");
    let level = "levels: [{type: pow, duration: 1h}]";
    for (text, part) in [
        (format!("default: {{{level}}}"), "secret: is missing"),
        (format!("secret: {SECRET}"), "neither default nor frontend"),
        (
            format!("secret: {SECRET}\ndefault: {{levels: []}}"),
            "has none",
        ),
        (
            format!("secret: {SECRET}\ndefault: {{trusted_domains: [a.example]}}"),
            "has no levels",
        ),
        (
            format!("secret: {SECRET}\ndefault: {{levels: [{{type: dance, duration: 1h}}]}}"),
            "want none, pow",
        ),
        (
            format!("secret: {SECRET}\ndefault: {{levels: [{{type: pow}}]}}"),
            "duration: is missing",
        ),
        (
            format!(
                "secret: {SECRET}\ndefault: {{levels: [{{type: pow, duration: 1h, countdown: 10}}]}}"
            ),
            "0 to 9",
        ),
        (
            format!(
                "secret: {SECRET}\ndefault: {{levels: [{{type: hcaptcha, duration: 1h, sitekey: a}}]}}"
            ),
            "hcaptcha needs it",
        ),
        (
            format!("secret: {SECRET}\ndefault: {{{level}}}\nfrontend: {{default: {{{level}}}}}"),
            "would be the realm default",
        ),
    ] {
        let imported = berghain(&folder, &text);
        assert_eq!((imported.code, &*imported.toml), (Some(2), ""), "{text}");
        assert!(imported.told.contains(part), "{text}: {}", imported.told);
    }
}
