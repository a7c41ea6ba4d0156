//! `ringspoa page`: writes the page that a challenge is shown on.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use flate2::Compression;
use flate2::write::GzEncoder;
use ringspoa::agents::challenge::{CaptchaOrigins, NoJsPage, Page};

use crate::config::Settings;

/// Write the page that HAProxy shows to those who are challenged.
///
/// It is one file. As it is by default, HAProxy's `lf-file` writes the challenge into it, which saves visitors
/// a round trip; with --plain it is for `file` and `errorfile`, and asks for its challenge itself.
///
/// Exit codes: 0 when written, 1 if it cannot be written, 2 for bad flags or files that cannot be read.
#[derive(Debug, Args)]
pub(crate) struct WritePage {
    /// File to write, in the place of one that is there [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write a page that is served as it is, without expressions of HAProxy in it
    #[arg(long)]
    plain: bool,
    /// Also write a copy compressed by gzip, for `file` with `hdr content-encoding gzip`; wants --plain
    #[arg(long, value_name = "FILE", requires = "plain")]
    gzip: Option<PathBuf>,
    /// Where the page asks for challenges [default: path of the [challenge] table, else /.challenge]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Configuration file of `ringspoa serve`, for `path` alone
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the site
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// Where visitors get help: an address of https, http, mailto or tel, or a path [default: nowhere]
    #[arg(long, value_name = "URL")]
    contact: Option<String>,
    /// Language for all visitors, as in de [default: what each browser asks for]
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// File of texts in the place of the page's own, an object of JSON; --texts prints their names
    #[arg(long, value_name = "FILE")]
    strings: Option<PathBuf>,
    /// What browsers without JavaScript are offered, where the realm has `nojs`
    #[arg(
        long,
        value_name = "off|refresh|link",
        default_value = "off",
        hide_possible_values = true
    )]
    no_js: NoJs,
    /// Do not ask PATH/ok whether the cookie arrives, for rules of HAProxy that have no such path
    #[arg(long)]
    no_probe: bool,
    /// Print the Content-Security-Policy for the page instead of it
    #[arg(long, conflicts_with_all = ["output", "plain", "strings", "texts"])]
    csp: bool,
    /// Let the scripts and frames of this provider in; wants --csp
    #[arg(long, value_name = "turnstile|hcaptcha|recaptcha", requires = "csp")]
    captcha: Option<String>,
    /// Print the page's texts in English, for a file of --strings
    #[arg(long, conflicts_with_all = ["output", "plain", "strings"])]
    texts: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NoJs {
    Off,
    Refresh,
    Link,
}

/// Runs the command; `usage` is the exit code for bad flags and files that cannot be read.
pub(crate) fn run(arguments: &WritePage, usage: u8) -> ExitCode {
    let text = match arguments.text() {
        Ok(text) => text,
        Err(error) => {
            crate::complain(&error);
            return ExitCode::from(usage);
        }
    };
    match arguments.write(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::complain(&error);
            ExitCode::FAILURE
        }
    }
}

impl WritePage {
    fn text(&self) -> Result<String, String> {
        if self.csp {
            let origins = |provider: &String| {
                CaptchaOrigins::of(provider).ok_or_else(|| {
                    format!(
                        "--captcha: '{provider}' is unknown: want turnstile, hcaptcha or recaptcha"
                    )
                })
            };
            let captcha = self.captcha.as_ref().map(origins).transpose()?;
            return Ok(Page::content_security_policy(captcha) + "\n");
        }
        if self.texts {
            return Ok(Page::TEXTS.to_owned());
        }
        let mut page = Page {
            probe: !self.no_probe,
            site: self.site.clone(),
            contact: self.contact.clone(),
            language: self.language.clone(),
            no_js: match self.no_js {
                NoJs::Off => NoJsPage::Off,
                NoJs::Refresh => NoJsPage::Refresh,
                NoJs::Link => NoJsPage::Link,
            },
            ..Page::default()
        };
        if let Some(file) = &self.config {
            let settings = Settings::load(file).map_err(|error| error.to_string())?;
            let challenge = settings.challenge.ok_or_else(|| {
                format!("{}: there is no [challenge] table in it", file.display())
            })?;
            if let Some(path) = challenge.path {
                page.path = path;
            }
        }
        if let Some(path) = &self.path {
            page.path.clone_from(path);
        }
        if let Some(file) = &self.strings {
            let text = fs::read_to_string(file)
                .map_err(|error| format!("--strings: cannot read {}: {error}", file.display()))?;
            page.strings = Some(text);
        }
        let made = match self.plain {
            true => page.plain(),
            false => page.for_haproxy(),
        };
        made.map_err(|error| format!("--{error}"))
    }

    fn write(&self, text: &str) -> Result<(), String> {
        if let Some(path) = &self.gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            let compressed = encoder
                .write_all(text.as_bytes())
                .and_then(|()| encoder.finish())
                .map_err(|error| format!("cannot compress the page: {error}"))?;
            replace(path, &compressed)?;
        }
        match &self.output {
            Some(path) => replace(path, text.as_bytes()),
            None => match io::stdout().write_all(text.as_bytes()) {
                // Whoever reads has seen enough, as `head` does.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                written => written.map_err(|error| format!("cannot write the page: {error}")),
            },
        }
    }
}

/// Writes a file in the place of one that may be there: whoever reads it, as a starting HAProxy, finds the one
/// or the other.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        format!("cannot write {}: {error}", path.display())
    })
}
