//! What becomes of berghain's configuration.
//!
//! Its levels are ours by other names. What it does not bind cookies to, its messages do not say either, so
//! that its wiring goes on working with the bindings that are on by default here.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Fields, Importer, Notes, Section, Value, checked, expand, read, tcp};

/// Where its page asks, which is fixed in it.
const PATH: &str = "/cdn-cgi/challenge-platform/challenge";

/// The work of its only puzzle: 16 bits of zeros.
const POW_WORK: u32 = 1 << 16;

/// What its page waits at a level without a puzzle, in seconds, before it counts down.
const NONE_WAIT_S: i64 = 3;

/// The countdown where none is given, and the longest.
const COUNTDOWN_S: i64 = 3;
const MAX_COUNTDOWN_S: i64 = 9;

/// The TOML, and what to say about it.
pub(super) fn berghain(path: &Path) -> Result<(String, Vec<String>), String> {
    let mut root = read(path)?;
    let notes = Notes::default();
    let mut head = Section::default();
    head.comment(&format!(
        "Made by `ringspoa import berghain` from {}",
        path.display()
    ));
    expand(&mut root, path, &notes, &mut head);
    let root = Fields::new(&root, "")?;
    let text = Importer { notes: &notes }.berghain(&root, head)?;
    checked(&text, &notes)?;
    Ok((text, notes.0.into_inner()))
}

impl Importer<'_> {
    fn berghain(&self, root: &Fields<'_>, mut top: Section) -> Result<String, String> {
        let address = root.filled("listen")?.unwrap_or("unix://./spop.sock");
        let listen = listen(address).map_err(|error| root.bad("listen", &error))?;
        if listen.iter().any(|address| address.starts_with("unix:")) {
            top.comment(
                "The folder of the socket has to be there, and HAProxy in the socket's group.",
            );
        }
        if !address.starts_with("tcp://") && !path_of(address).starts_with('/') {
            let reason =
                "is below the folder that the server is started in: better have the whole path";
            self.tell(&mut top, root, "listen", reason);
        }
        top.texts("listen", &listen);

        let mut challenge = Section::table("[challenge]");
        challenge.comment("Where its page, and HAProxy's rules for it, have it. Of your own, /.challenge is no path");
        challenge.comment(
            "that belongs to somebody else: give it to `ringspoa page` and HAProxy's rules, too.",
        );
        challenge.text("path", PATH);
        challenge.0 += &self.key(root)?.0;

        let mut names = BTreeSet::new();
        if let Some(block) = root.table("default")? {
            names.insert("default".to_owned());
            challenge.0 += &self.realm("default", &block)?.0;
        }
        if let Some(frontends) = root.table("frontend")? {
            for (name, node) in &frontends.entries {
                if !names.insert((*name).to_owned()) {
                    return Err(format!(
                        "{}: frontend.{name} would be the realm default: rename the frontend, or leave \
                         `default` out",
                        node.place
                    ));
                }
                let block = Fields::new(node, &format!("frontend.{name}."))?;
                challenge.0 += &self.realm(name, &block)?.0;
            }
        }
        if names.is_empty() {
            return Err(format!(
                "{}: there is neither default nor frontend, and so nothing to challenge for",
                root.place
            ));
        }
        let mut unused = Section::default();
        let reason = "not taken over: scores of addresses are none of ringspoa's, which has `adaptive` for networks \
                      that ask much";
        self.without(&mut unused, root, &[("reputation", reason)]);
        self.rest_of(&mut unused, root, "berghain");
        if !unused.0.is_empty() {
            unused.0 = format!("\n# Not taken over:\n{}", unused.0);
        }
        Ok([top, unused, challenge].map(|section| section.0).concat())
    }

    fn key(&self, root: &Fields<'_>) -> Result<Section, String> {
        let mut key = Section::table("[[challenge.key]]");
        let Some(secret) = root.filled("secret")? else {
            return Err(format!(
                "{}: secret: is missing, as `openssl rand -base64 32` prints one",
                root.place
            ));
        };
        key.comment("Cookies of berghain are of another form: visitors are challenged once more.");
        key.plain("id", 1);
        key.text("secret", secret);
        Ok(key)
    }

    fn realm(&self, name: &str, block: &Fields<'_>) -> Result<Section, String> {
        let mut realm = Section::table("[[challenge.realm]]");
        realm.text("name", name);
        realm.text("cookie", "berghain");
        let trusted = block.texts("trusted_domains")?;
        if !trusted.is_empty() {
            realm.texts("trusted-domains", &trusted);
        }
        realm.comment(
            "IPv6 addresses count by their /64, so that privacy addresses may change: 64 is the",
        );
        realm.comment("default, and the most.");
        let Some(node) = block.get("levels") else {
            let name = block.prefix.trim_end_matches('.');
            return Err(format!("{}: {name} has no levels", block.place));
        };
        let Value::List(levels) = &node.value else {
            let what = format!("is {}: want a list of levels", node.value.what());
            return Err(block.wrong(node, "levels", &what));
        };
        if levels.is_empty() {
            return Err(block.bad("levels", "has none: want one at least"));
        }
        self.rest_of(&mut realm, block, "berghain");
        for (index, level) in levels.iter().enumerate() {
            let level = Fields::new(level, &format!("{}levels[{index}].", block.prefix))?;
            realm.0 += &self.level(&level)?.0;
        }
        Ok(realm)
    }

    fn level(&self, level: &Fields<'_>) -> Result<Section, String> {
        let mut section = Section::table("[[challenge.realm.level]]");
        let kind = level.filled("type")?;
        let countdown = match level.filled("countdown")? {
            None => COUNTDOWN_S,
            Some(text) => text
                .parse()
                .ok()
                .filter(|s| (0..=MAX_COUNTDOWN_S).contains(s))
                .ok_or_else(|| level.bad("countdown", "want 0 to 9 seconds"))?,
        };
        match kind {
            Some("none") => {
                section
                    .comment("`none` let everybody in who asked. Here the wait is checked, too.");
                section.text("type", "wait");
                section.plain("wait-s", NONE_WAIT_S + countdown);
            }
            Some("pow") => {
                section.text("type", "pow");
                section.comment("As much as its puzzle. This page solves 1048576 in the time that it took for that.");
                section.plain("work", POW_WORK);
            }
            Some(provider @ ("turnstile" | "hcaptcha" | "recaptcha")) => {
                section.text("type", "captcha");
                section.text("provider", provider);
                for (from, to) in [("sitekey", "site-key"), ("secret", "secret-key")] {
                    let text = level.filled(from)?.ok_or_else(|| {
                        level.bad(from, &format!("is missing: {provider} needs it"))
                    })?;
                    section.text(to, text);
                }
                if let Some(url) = level.filled("verify_url")? {
                    section.text("verify-url", url);
                }
                if let Some(skips) = level.flag("skip_hostname_check")? {
                    section.plain("skip-hostname-check", skips);
                }
            }
            Some(_) => {
                let what = "want none, pow, turnstile, hcaptcha or recaptcha";
                return Err(level.bad("type", what));
            }
            None => {
                return Err(level.bad(
                    "type",
                    "is missing: want none, pow, turnstile, hcaptcha or recaptcha",
                ));
            }
        }
        let Some((_, ns)) = level.duration("duration")? else {
            return Err(level.bad("duration", "is missing, as in 24h"));
        };
        section.plain("duration-s", (ns / 1_000_000_000).max(1));
        if kind != Some("none") && level.get("countdown").is_some() && countdown > 0 {
            let reason = "the page goes on as soon as the solution is accepted";
            self.tell(&mut section, level, "countdown", reason);
        }
        self.rest_of(&mut section, level, "berghain");
        Ok(section)
    }
}

/// The path of a socket, of what is no TCP address.
fn path_of(address: &str) -> &str {
    address.strip_prefix("unix://").unwrap_or(address)
}

/// Where to listen, of what it has there.
fn listen(address: &str) -> Result<Vec<String>, String> {
    if let Some(address) = address.strip_prefix("tcp://") {
        return tcp(address);
    }
    let path = path_of(address);
    if path.contains(',') {
        return Err("a comma cannot be in the path of a socket".to_owned());
    }
    Ok(vec![format!("unix:{path},mode=660")])
}
