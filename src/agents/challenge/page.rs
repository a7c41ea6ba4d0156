//! The page that visitors see, with what is a site's own filled in.
//!
//! ```text
//! page/challenge.html   the built page; its markers are described in page/README.md
//! page/strings/*.json   what it says, by name; it knows texts by their numbers alone
//! ```
//!
//! It refuses to know what is challenged, and how: the page asks that itself, or HAProxy writes it in.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::languages::{self, Language};

const TEMPLATE: &str = include_str!("page/challenge.html");

/// All texts by their names, in the language that the others are translations of.
const TEXTS: &str = include_str!("page/strings/en.json");

/// What of a challenge's page is a site's own.
///
/// ```
/// use ringspoa::agents::challenge::Page;
///
/// let page = Page {
///     site: "Example Shop".to_owned(),
///     contact: Some("mailto:help@shop.example".to_owned()),
///     ..Page::default()
/// };
/// let html = page.for_haproxy()?;
/// assert!(html.contains("Example Shop"));
/// assert!(html.contains("%[var(txn.challenge.response)]"));
/// # Ok::<(), ringspoa::agents::challenge::PageError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where challenges are asked for, and solutions sent: `path` of the settings. Default `/.challenge`.
    pub path: String,
    /// Whether it asks `path` and `/ok` if its cookie arrives, to tell visitors who block cookies so. Default
    /// true; false for rules of HAProxy that have no such path.
    pub probe: bool,
    /// The site's name. Default none.
    pub site: String,
    /// Where visitors get help: a URL of `https`, `http`, `mailto` or `tel`, or a path. Default none.
    pub contact: Option<String>,
    /// The language for all visitors, as in `de`. Default the one that each browser asks for.
    pub language: Option<String>,
    /// Texts in the place of its own, JSON: an object by the names that `page/strings/en.json` has, for all
    /// languages, or in one by a language's code for that. Default none.
    pub strings: Option<String>,
    /// What browsers without JavaScript are offered, in pages for HAProxy's `lf-file`. Default nothing.
    pub no_js: NoJsPage,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            path: "/.challenge".to_owned(),
            probe: true,
            site: String::new(),
            contact: None,
            language: None,
            strings: None,
            no_js: NoJsPage::Off,
        }
    }
}

/// What browsers without JavaScript are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoJsPage {
    /// A sentence that asks for JavaScript.
    #[default]
    Off,
    /// The page goes on by itself after the wait.
    Refresh,
    /// There is a link to go on by after the wait.
    Link,
}

/// For whom a page is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// In a log-format string `%` begins an expression, `%%` is one.
    LogFormat,
}

impl Page {
    /// All texts by their names, in English, as JSON: what [`strings`](Self::strings) can replace.
    pub const TEXTS: &str = TEXTS;

    /// The page as a file that is served as it is: it asks for its challenge itself.
    ///
    /// # Errors
    ///
    /// A setting that cannot be.
    pub fn plain(&self) -> Result<String, PageError> {
        if self.no_js != NoJsPage::Off {
            return Err(PageError::NoJsOfPlainPage);
        }
        self.render(Form::Plain)
    }

    /// The page as a file for `lf-file` of HAProxy, which writes into it what the agent answered to the
    /// message `issue`, under the prefix `challenge`.
    ///
    /// # Errors
    ///
    /// A setting that cannot be.
    pub fn for_haproxy(&self) -> Result<String, PageError> {
        self.render(Form::LogFormat)
    }

    /// The value of a `Content-Security-Policy` header that lets in what a page needs and nothing else, and
    /// the scripts and frames of a captcha's provider if there is one.
    #[must_use]
    pub fn content_security_policy(captcha: Option<CaptchaOrigins>) -> String {
        let hash = |tag: &str| {
            let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
            let text = TEMPLATE
                .split_once(&start)
                .and_then(|(_, rest)| rest.split_once(&end));
            let (text, _) = text.expect("the page has one of each");
            format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
        };
        let (script, style) = (hash("script"), hash("style"));
        let (scripts, frames, connects, styles) = captcha.map_or(("", "", "", ""), |captcha| {
            let CaptchaOrigins {
                scripts,
                frames,
                connects,
                styles,
            } = captcha;
            (scripts, frames, connects, styles)
        });
        let frames = match frames {
            "" => String::new(),
            frames => format!("frame-src{frames}; "),
        };
        format!(
            "default-src 'none'; script-src {script} 'wasm-unsafe-eval'{scripts}; style-src {style}{styles}; \
             img-src data:; connect-src 'self'{connects}; worker-src blob:; {frames}base-uri 'none'; \
             form-action 'self'; frame-ancestors 'self'"
        )
    }

    fn render(&self, form: Form) -> Result<String, PageError> {
        self.check()?;
        let own = |text: &str| match form {
            Form::Plain => text.to_owned(),
            Form::LogFormat => text.replace('%', "%%"),
        };
        let of_haproxy = |expression: &'static str| match form {
            Form::Plain => "",
            Form::LogFormat => expression,
        };
        // What is not there is not written, and said otherwise: no level above `nojs-max-level` is passed so.
        let (refresh, no_script) = match self.no_js {
            NoJsPage::Off => (
                "",
                "<p>Please turn JavaScript on for this site, and load the page again.</p>",
            ),
            NoJsPage::Refresh => (
                "<noscript><meta http-equiv=\"refresh\" content=\"%[var(txn.challenge.nojs_wait)];url=%[var(txn.challenge.nojs_url)]\"></noscript>",
                concat!(
                    "<p>JavaScript is off: %[var(txn.challenge.nojs_wait,0),bool,iif(the page opens by itself in,",
                    "please turn it on for this site and load the page again)]",
                    "%[var(txn.challenge.nojs_wait),regsub(^,' '),concat(' seconds')].</p>"
                ),
            ),
            NoJsPage::Link => (
                "",
                concat!(
                    "<p>JavaScript is off: %[var(txn.challenge.nojs_wait,0),bool,iif(please go on after,",
                    "please turn it on for this site and load the page again)]",
                    "%[var(txn.challenge.nojs_wait),regsub(^,' '),concat(' seconds')].</p>",
                    "%[var(txn.challenge.nojs_url),regsub(^,'<a class=\"b\" href=\"'),concat('\">Continue</a>')]"
                ),
            ),
        };
        let contact = self.contact.as_deref().map_or_else(String::new, |contact| {
            format!("<a id=\"k\" href=\"{}\">Contact</a>", escaped(contact))
        });
        let config = self.config()?.to_string().replace('<', "\\u003c");
        let values = [
            (
                "lang",
                own(&escaped(
                    self.language.as_deref().unwrap_or(languages::OF_PAGE),
                )),
            ),
            ("method", of_haproxy("%[method]").to_owned()),
            ("refresh", refresh.to_owned()),
            ("site", own(&escaped(&self.site))),
            ("noscript", no_script.to_owned()),
            (
                "sid",
                of_haproxy("%[var(txn.challenge.support_id)]").to_owned(),
            ),
            ("contact", own(&contact)),
            ("config", own(&config)),
            (
                "challenge",
                of_haproxy("%[var(txn.challenge.response)]").to_owned(),
            ),
        ];
        // In one pass, so that what is filled in is never taken for a marker.
        let mut page = String::with_capacity(TEMPLATE.len() + 1024);
        let mut rest = TEMPLATE;
        while let Some((before, after)) = rest.split_once("{{") {
            page += before;
            let found = after.split_once("}}").and_then(|(name, after)| {
                let value = values.iter().find(|(known, _)| *known == name);
                value.map(|(_, value)| (value, after))
            });
            match found {
                Some((value, after)) => {
                    page += value;
                    rest = after;
                }
                // Braces of the script.
                None => {
                    page += "{{";
                    rest = after;
                }
            }
        }
        page += rest;
        Ok(page)
    }

    fn check(&self) -> Result<(), PageError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let path = &self.path;
        if !path.starts_with('/') || path.starts_with("//") || !path.bytes().all(is_plain) {
            return Err(PageError::Path);
        }
        if self.site.chars().any(char::is_control) {
            return Err(PageError::Site);
        }
        if let Some(contact) = &self.contact {
            let schemes = ["https://", "http://", "mailto:", "tel:"];
            let is_url = schemes.iter().any(|scheme| contact.starts_with(scheme));
            let is_path = contact.starts_with('/') && !contact.starts_with("//");
            let is_clean = |c: char| !c.is_control() && !c.is_whitespace() && c != '\\';
            if !(is_url || is_path) || !contact.chars().all(is_clean) {
                return Err(PageError::Contact);
            }
        }
        match self.language.as_deref() {
            Some(code) if Language::of(code).is_none() => Err(PageError::Language),
            _ => Ok(()),
        }
    }

    /// What the page's script is told.
    fn config(&self) -> Result<Value, PageError> {
        let mut config = Map::new();
        config.insert("path".to_owned(), json!(self.path));
        config.insert("probe".to_owned(), json!(self.probe));
        let code = self.language.as_deref().unwrap_or(languages::OF_PAGE);
        let mut texts = Map::new();
        if let Some(language) = Language::of(code) {
            texts.insert(code.to_owned(), json!(language.joined));
        }
        if let Some(strings) = &self.strings {
            let (of_all, of_languages) = replacements(strings)?;
            if !of_all.is_empty() {
                config.insert("strings".to_owned(), Value::Object(of_all));
            }
            texts.extend(of_languages);
        }
        config.insert("texts".to_owned(), Value::Object(texts));
        if self.language.is_some() {
            config.insert("lang".to_owned(), json!(code));
        }
        Ok(Value::Object(config))
    }
}

/// Texts for all languages by their numbers, and whole languages by their codes.
type Replacements = (Map<String, Value>, Map<String, Value>);

/// What replaces texts, of texts by their names.
fn replacements(strings: &str) -> Result<Replacements, PageError> {
    let texts: Map<String, Value> = serde_json::from_str(TEXTS).expect("the page's own texts");
    let mut names: Vec<_> = texts.keys().map(String::as_str).collect();
    names.sort_unstable();
    let given: Map<String, Value> =
        serde_json::from_str(strings).map_err(|error| PageError::Json(error.to_string()))?;
    let number = |name: &str, value: &Value| {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(PageError::UnknownText(name.to_owned()));
        };
        match value.as_str() {
            // A bar is what stands between texts.
            Some(text) if !text.contains('|') => Ok(place.to_string()),
            _ => Err(PageError::NoText(name.to_owned())),
        }
    };
    let (mut of_all, mut of_languages) = (Map::new(), Map::new());
    for (name, value) in given {
        match (Language::of(&name), value) {
            (Some(language), Value::Object(replaced)) => {
                let mut texts = language.texts.clone();
                for (name, value) in replaced {
                    number(&name, &value)?;
                    texts.insert(name, value);
                }
                of_languages.insert(name, json!(languages::joined(&texts)));
            }
            (_, value) => {
                of_all.insert(number(&name, &value)?, value);
            }
        }
    }
    Ok((of_all, of_languages))
}

/// For elements and attributes of HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// What a captcha's provider needs to be let in by a `Content-Security-Policy`: sources, each with a space
/// in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptchaOrigins {
    scripts: &'static str,
    frames: &'static str,
    connects: &'static str,
    styles: &'static str,
}

impl CaptchaOrigins {
    /// Those of the providers that are known: `turnstile`, `hcaptcha` and `recaptcha`.
    #[must_use]
    pub fn of(provider: &str) -> Option<Self> {
        Some(match provider {
            "turnstile" => Self {
                scripts: " https://challenges.cloudflare.com",
                frames: " https://challenges.cloudflare.com",
                connects: "",
                styles: "",
            },
            "hcaptcha" => Self {
                scripts: " https://hcaptcha.com https://*.hcaptcha.com",
                frames: " https://hcaptcha.com https://*.hcaptcha.com",
                connects: " https://hcaptcha.com https://*.hcaptcha.com",
                styles: " https://hcaptcha.com https://*.hcaptcha.com",
            },
            "recaptcha" => Self {
                scripts: " https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/",
                frames: " https://www.google.com/recaptcha/ https://recaptcha.google.com/recaptcha/",
                connects: "",
                styles: "",
            },
            _ => return None,
        })
    }
}

/// Why a page cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageError {
    /// The path.
    Path,
    /// The site's name.
    Site,
    /// Where visitors get help.
    Contact,
    /// The language.
    Language,
    /// Texts that are not an object of JSON, and what is wrong with it.
    Json(String),
    /// A text of a name that there is none of.
    UnknownText(String),
    /// A value that is none.
    NoText(String),
    /// A page that is served as it is cannot know where visitors without JavaScript go on.
    NoJsOfPlainPage,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("path: want one as in /.challenge, of letters, digits and -._~/"),
            Self::Site => f.write_str("site: a name cannot have control characters"),
            Self::Contact => f.write_str(
                "contact: want an address of https, http, mailto or tel, or a path, without spaces",
            ),
            Self::Language => write!(f, "language: want one of {}", languages::codes().collect::<Vec<_>>().join(", ")),
            Self::Json(error) => write!(f, "strings: want an object of JSON: {error}"),
            Self::UnknownText(name) => write!(
                f,
                "strings: there is no text {name:?}; want the names of the page's own, or codes of languages"
            ),
            Self::NoText(name) => write!(f, "strings: {name:?} has no text as its value, or one with a '|' in it"),
            Self::NoJsOfPlainPage => f.write_str(
                "no-js: only a page for HAProxy's lf-file can have it: its address is another each time",
            ),
        }
    }
}

impl std::error::Error for PageError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_filled_in_and_nothing_else_changes() {
        for marker in [
            "lang",
            "method",
            "refresh",
            "site",
            "noscript",
            "sid",
            "contact",
            "config",
            "challenge",
        ] {
            let count = TEMPLATE.matches(&format!("{{{{{marker}}}}}")).count();
            assert_eq!(count, 1, "{marker}");
        }
        let page = Page::default();
        let plain = page.plain().unwrap();
        assert!(plain.contains(r#"{"path":"/.challenge","probe":true,"texts":{"en":"about # s|"#));
        assert!(!plain.contains("%[") && !plain.contains("txn.challenge"));
        let for_haproxy = page.for_haproxy().unwrap();
        for expression in [
            "%[method]",
            "%[var(txn.challenge.support_id)]",
            "%[var(txn.challenge.response)]",
        ] {
            assert_eq!(for_haproxy.matches(expression).count(), 1, "{expression}");
        }
        assert_eq!(
            for_haproxy.matches('%').count(),
            3,
            "HAProxy expands nothing else"
        );
        for (element, end) in [("<script>", "</script>"), ("<style>", "</style>")] {
            let of = |page: &str| {
                let (_, rest) = page.split_once(element).unwrap();
                rest.split_once(end).unwrap().0.to_owned()
            };
            assert_eq!(
                of(TEMPLATE),
                of(&for_haproxy),
                "{element}: its hash is in the policy"
            );
        }
    }

    #[test]
    fn a_site_cannot_break_out_of_its_place() {
        let page = Page {
            site: "</main><script>\"&100% {{config}}".to_owned(),
            contact: Some("https://a.example/?a=1&b=%20\"".to_owned()),
            strings: Some(r#"{"de": {}}"#.to_owned()),
            language: Some("de".to_owned()),
            no_js: NoJsPage::Refresh,
            ..Page::default()
        };
        let html = page.for_haproxy().unwrap();
        assert!(html.contains("&lt;/main&gt;&lt;script&gt;&quot;&amp;100%% {{config}}"));
        assert!(html.contains("href=\"https://a.example/?a=1&amp;b=%%20&quot;\""));
        assert!(html.contains(r#""lang":"de""#));
        assert!(html.contains(
            "content=\"%[var(txn.challenge.nojs_wait)];url=%[var(txn.challenge.nojs_url)]\""
        ));
        assert_eq!(page.plain(), Err(PageError::NoJsOfPlainPage));
    }

    #[test]
    fn texts_are_found_by_name() {
        let texts: Map<String, Value> = serde_json::from_str(TEXTS).unwrap();
        let mut names: Vec<_> = texts.keys().collect();
        names.sort();
        let (name, number) = (names[3], "3");
        let page = |strings: String| {
            let page = Page {
                strings: Some(strings),
                ..Page::default()
            };
            page.plain()
        };
        let html = page(format!(
            r#"{{"{name}": "</script>", "fr": {{"{name}": "b"}}}}"#
        ))
        .unwrap();
        let expected = format!(r#""strings":{{"{number}":"\u003c/script>"}}"#);
        assert!(html.contains(&expected), "{expected}");
        assert!(html.contains(r#""fr":"environ # s|"#) && html.contains("|b|"));
        for (strings, part) in [
            (r#"{"nothing": "a"}"#.to_owned(), "no text \"nothing\""),
            (format!(r#"{{"{name}": 1}}"#), "has no text"),
            (r#"{"xx": {}}"#.to_owned(), "no text \"xx\""),
            (
                r#"{"fr": {"nothing": "a"}}"#.to_owned(),
                "no text \"nothing\"",
            ),
            (format!(r#"{{"{name}": "a|b"}}"#), "'|' in it"),
            ("[]".to_owned(), "want an object"),
        ] {
            let error = page(strings).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for path in ["", "challenge", "//evil.example", "/a b", "/a\"", "/%2e"] {
            let page = Page {
                path: path.to_owned(),
                ..Page::default()
            };
            assert_eq!(page.plain(), Err(PageError::Path), "{path}");
        }
        for contact in [
            "javascript:alert(1)",
            "//evil.example",
            "help",
            "https://a b",
        ] {
            let page = Page {
                contact: Some(contact.to_owned()),
                ..Page::default()
            };
            assert_eq!(page.plain(), Err(PageError::Contact), "{contact}");
        }
        let page = Page {
            language: Some("xx".to_owned()),
            ..Page::default()
        };
        assert_eq!(page.plain(), Err(PageError::Language));
    }

    #[test]
    fn every_language_keeps_the_budget() {
        for code in languages::codes() {
            let page = Page {
                language: Some(code.to_owned()),
                ..Page::default()
            };
            let sent = page.plain().unwrap();
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, sent.as_bytes()).unwrap();
            let compressed = encoder.finish().unwrap().len();
            // HAProxy sends 15,360 bytes at most, by default, and fills in the challenge.
            assert!(sent.len() <= 12_000, "{code}: {} bytes", sent.len());
            assert!(compressed <= 5_000, "{code}: {compressed} bytes after gzip");
        }
    }

    #[test]
    fn the_policy_lets_nothing_else_in() {
        let policy = Page::content_security_policy(None);
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert!(!policy.contains("unsafe-inline") && !policy.contains("http"));
        let policy = Page::content_security_policy(CaptchaOrigins::of("turnstile"));
        assert_eq!(
            policy.matches("https://challenges.cloudflare.com").count(),
            2
        );
        assert_eq!(CaptchaOrigins::of("custom"), None);
    }
}
