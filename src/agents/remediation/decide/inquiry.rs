//! A request that others are asked about.

use std::sync::Arc;

use super::verdict::CaptchaCount;
use super::{Facts, Listed, Lookup, Progress, Verdict};
use crate::agents::common::outside::{NoAnswer, OutsideRequest, OutsideResult};
use crate::agents::common::provider::{ProviderAnswer, judge_provider};
use crate::agents::remediation::appsec::{AppSec, AppSecFailure, AppSecVerdict};
use crate::agents::remediation::captcha::{CaptchaAwaiting, CaptchaStep};
use crate::agents::remediation::dataset::Remediation;
use crate::agents::remediation::policy::{Host, Policy};

/// A request that waits for answers: whom to ask, and what is known meanwhile.
///
/// The caller takes questions with [`poll_question`](Self::poll_question) until there is none, after each
/// answer again, and answers HAProxy with [`verdict`](Self::verdict) once it
/// [`is_settled`](Self::is_settled), or after [`handle_deadline`](Self::handle_deadline).
#[derive(Debug)]
pub struct Inquiry {
    policy: Arc<Policy>,
    rank: Option<usize>,
    country: Option<Box<str>>,
    /// Remediation, word and origin.
    listed: Option<(Remediation, Box<str>, Box<str>)>,
    facts: Facts,
    progress: Progress,
    /// To be asked now.
    questions: Vec<Question>,
    /// Goes on with the provider's answer.
    provider: Option<Box<CaptchaAwaiting>>,
    appsec: Stage,
    /// What AppSec's wish for a captcha would come to.
    if_captcha: Option<CaptchaStep>,
}

/// How far AppSec is.
#[derive(Debug)]
enum Stage {
    /// It has nothing to say any more.
    Over,
    /// It is asked, if it can be, once the captcha is solved.
    AfterCaptcha(Option<OutsideRequest>),
    /// It is being asked.
    Asked,
}

/// What others are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether a captcha was solved; the answer goes to [`Inquiry::handle_provider`].
    Captcha(OutsideRequest),
    /// What is to be done with a request; the answer goes to [`Inquiry::handle_appsec`].
    AppSec(OutsideRequest),
}

impl Inquiry {
    pub(super) fn new(
        policy: &Arc<Policy>,
        rank: Option<usize>,
        lookup: &Lookup<'_>,
        facts: Facts,
        progress: Progress,
        provider: Option<(OutsideRequest, Box<CaptchaAwaiting>)>,
    ) -> Self {
        let (questions, provider) = match provider {
            Some((request, then)) => (vec![Question::Captcha(request)], Some(then)),
            None => (Vec::new(), None),
        };
        Self {
            policy: Arc::clone(policy),
            rank,
            country: lookup.country.map(Into::into),
            listed: lookup
                .listed
                .map(|listed| (listed.remediation, listed.word.into(), listed.origin.into())),
            facts,
            progress,
            questions,
            provider,
            appsec: Stage::Over,
            if_captcha: None,
        }
    }

    /// Has AppSec asked, now or later. Without a question it could not be asked, which is a failure.
    pub(super) fn set_appsec(
        &mut self,
        question: Option<OutsideRequest>,
        is_later: bool,
        if_captcha: Option<CaptchaStep>,
    ) {
        self.if_captcha = if_captcha;
        if is_later {
            self.appsec = Stage::AfterCaptcha(question);
        } else {
            self.ask_appsec(question);
        }
    }

    fn ask_appsec(&mut self, question: Option<OutsideRequest>) {
        self.appsec = Stage::Asked;
        match question {
            Some(question) => self.questions.push(Question::AppSec(question)),
            None => self.fail_appsec(AppSecFailure::NotAsked),
        }
    }

    /// The next question to ask, each once.
    pub fn poll_question(&mut self) -> Option<Question> {
        self.questions.pop()
    }

    /// Takes the provider's answer, or that it gave none. Returns what it means, unless it was not asked.
    pub fn handle_provider(
        &mut self,
        result: &OutsideResult<'_>,
        now_unix_s: u64,
    ) -> Option<ProviderAnswer> {
        let then = self.provider.take()?;
        let captcha = self.host()?.captcha.captcha.as_ref()?;
        let answer = judge_provider(result);
        let outcome = then.complete(captcha, &answer, now_unix_s);
        let is_solved = outcome.remediation < Remediation::Captcha;
        self.progress.captcha = Some(outcome);
        self.progress.solution = Some(match answer {
            ProviderAnswer::Solved => CaptchaCount::Solved,
            _ if answer.is_of_wrong_key() => CaptchaCount::KeyRefused,
            ProviderAnswer::Refused(_) => CaptchaCount::Refused,
            _ if matches!(result, Err(NoAnswer::TimedOut)) => CaptchaCount::TimedOut,
            ProviderAnswer::Unusable(_) => CaptchaCount::Unanswered,
        });
        match std::mem::replace(&mut self.appsec, Stage::Over) {
            Stage::AfterCaptcha(question) if is_solved => self.ask_appsec(question),
            Stage::AfterCaptcha(_) => {}
            stage => self.appsec = stage,
        }
        Some(answer)
    }

    /// Takes AppSec's answer, or that it gave none. Returns what it means, unless it was not asked.
    pub fn handle_appsec(&mut self, result: &OutsideResult<'_>) -> Option<AppSecVerdict> {
        if !matches!(self.appsec, Stage::Asked) {
            return None;
        }
        let verdict = self.appsec()?.judge(result, self.policy.words());
        self.take_appsec(verdict);
        Some(verdict)
    }

    /// Nobody is waited for any longer: who has not answered by now counts as not answering, and nobody
    /// else is asked.
    pub fn handle_deadline(&mut self) {
        if matches!(self.appsec, Stage::Asked) {
            self.fail_appsec(AppSecFailure::TimedOut);
        }
        self.appsec = Stage::Over;
        // What the visitor has without an answer is what is in force already.
        if self.provider.take().is_some() {
            self.progress.solution = Some(CaptchaCount::TimedOut);
        }
        self.questions.clear();
    }

    /// Whether no answer that is still to come would change the verdict. There may be questions even so:
    /// AppSec is to know of some requests that do not pass anyway.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let remediation = self.progress.remediation(self.facts.decided);
        self.provider.is_none()
            && (!matches!(self.appsec, Stage::Asked) || remediation == Remediation::Ban)
    }

    /// What is to be done, as far as is known.
    #[must_use]
    pub fn verdict(&self) -> Verdict<'_> {
        let listed = self.listed.as_ref();
        let lookup = Lookup {
            listed: listed.map(|(remediation, word, origin)| Listed {
                remediation: *remediation,
                word,
                origin,
            }),
            country: self.country.as_deref(),
        };
        Verdict::new(self.host(), &lookup, self.facts, &self.progress)
    }

    /// What came of asking AppSec, once it is known; it may be after the verdict was.
    #[must_use]
    pub fn appsec_outcome(&self) -> Option<Result<Remediation, AppSecFailure>> {
        let appsec = self.progress.appsec?;
        Some(match appsec.failure {
            Some(failure) => Err(failure),
            None => Ok(appsec.remediation),
        })
    }

    fn host(&self) -> Option<&Host> {
        self.policy.hosts.at(self.rank?)
    }

    /// The AppSec that is asked about it, if one is.
    pub(in crate::agents::remediation) fn appsec(&self) -> Option<&AppSec> {
        match self.host() {
            Some(host) => host.appsec.as_ref(),
            None => self.policy.appsec.as_ref(),
        }
    }

    fn fail_appsec(&mut self, failure: AppSecFailure) {
        if let Some(appsec) = self.appsec() {
            let verdict = appsec.failed(failure);
            self.take_appsec(verdict);
        }
    }

    fn take_appsec(&mut self, verdict: AppSecVerdict) {
        self.appsec = Stage::Over;
        self.progress.appsec = Some(verdict);
        if verdict.remediation != Remediation::Captcha {
            return;
        }
        // Without it, the request has come to a captcha before, and solved it or not.
        let Some(step) = self.if_captcha.take() else {
            return;
        };
        let outcome = step.outcome().clone();
        // A fallback takes nothing away; a captcha that was solved leaves `allow`, whatever it was for.
        if !outcome.has_page && outcome.remediation < self.facts.decided {
            return;
        }
        self.progress.captcha = Some(outcome);
        self.progress.is_appsecs = true;
        self.progress.deletion = None;
        if let CaptchaStep::AskProvider { request, then } = step {
            self.questions.push(Question::Captcha(request));
            self.provider = Some(then);
        }
    }
}
