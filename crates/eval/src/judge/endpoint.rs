//! A language model behind an OpenAI-compatible address.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use prospect_core::{
    errors::chain,
    files::fingerprint,
    visible::{clipped, visible},
};
use serde_json::{Value, json};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, Uri},
    tls::{RootCerts, TlsConfig},
};

use super::{
    Comparison, Judge, JudgeError,
    answers::Answers,
    pace::Pace,
    question::{Preferred, Question, preferred},
};

/// How to ask.
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// The address up to its version, such as `https://api.openai.com/v1`.
    pub address: String,
    /// The model's name there.
    pub model: String,
    /// The key, where one is needed.
    pub key: Option<String>,
    /// What is asked.
    pub question: Question,
    /// Tokens of an answer.
    pub max_tokens: u32,
    /// Requests a minute (any number).
    pub per_minute: Option<u32>,
    /// Requests under way at once.
    pub at_once: NonZeroUsize,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How often a request is sent that gets no answer.
    pub tries: NonZeroUsize,
    /// The first wait before a request is sent again; each further one is twice as long.
    pub wait: Duration,
}

/// A judge behind an address. Both orders of the two responses are asked: a judge that prefers whatever comes first
/// decides nothing.
#[derive(Debug)]
pub struct Endpoint {
    options: EndpointOptions,
    url: String,
    answers: Answers,
    pace: Pace,
    agent: Agent,
    /// Comparisons whose two orders were answered differently.
    undecided: usize,
    judged: usize,
}

/// Why a request has no answer.
enum Refused {
    /// It may have one later, at the earliest after this wait.
    ForNow(String, Option<Duration>),
    /// It never will.
    ForGood(String),
}

impl Endpoint {
    /// A judge that keeps its answers in the file `answers`.
    pub fn new(options: EndpointOptions, answers: &Path) -> Result<Self, JudgeError> {
        let url = format!("{}/chat/completions", options.address.trim_end_matches('/'));
        let failed = |error: &dyn std::fmt::Display| JudgeError::Endpoint {
            address: options.address.clone(),
            message: error.to_string(),
        };
        let parsed: Uri = url.parse().map_err(|error| failed(&error))?;
        if parsed.host().is_none() || !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(failed(&"not an http:// or https:// address"));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .timeout_global(Some(options.timeout))
            .user_agent(concat!("prospect/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let (answers, pace) = (Answers::at(answers)?, Pace::new(options.per_minute));
        Ok(Self { options, url, answers, pace, agent, undecided: 0, judged: 0 })
    }

    /// Where the answers of a model about a sweep are kept.
    pub fn answers_file(sweep: &Path, model: &str) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        sweep.join("judges").join(format!("{}.jsonl", model.chars().map(plain).collect::<String>()))
    }

    /// The score of one order: whether the policy's completion is preferred.
    fn ask(&self, comparison: &Comparison, policy_first: bool) -> Result<Option<f64>, JudgeError> {
        let Comparison { prompt, completion, other, .. } = comparison;
        let [first, second] = if policy_first { [completion, other] } else { [other, completion] };
        let EndpointOptions { model, question, max_tokens, .. } = &self.options;
        let body = json!({
            "model": model,
            "messages": [{ "role": "user", "content": question.about(prompt, first, second) }],
            "temperature": 0,
            "max_tokens": max_tokens,
        });
        let key = fingerprint(&body)?;
        let answer = if let Some(answer) = self.answers.get(&key) {
            answer
        } else {
            let answer = self.fetch(&body)?;
            self.answers.put(key, answer.clone())?;
            answer
        };
        Ok(preferred(&answer)
            .map(|preferred| f64::from(u8::from((preferred == Preferred::First) == policy_first))))
    }

    /// The model's answer, asked for again while that may help.
    fn fetch(&self, body: &Value) -> Result<String, JudgeError> {
        let failed =
            |message: String| JudgeError::Endpoint { address: self.options.address.clone(), message };
        let mut wait = self.options.wait;
        for tries_left in (0..self.options.tries.get()).rev() {
            self.pace.wait();
            match self.request(body) {
                Ok(answer) => return Ok(answer),
                Err(Refused::ForNow(_, least)) if tries_left > 0 => {
                    thread::sleep(least.map_or(wait, |least| least.max(wait)));
                    wait *= 2;
                }
                Err(Refused::ForNow(message, _)) => {
                    return Err(failed(format!("{message} ({} tries)", self.options.tries)));
                }
                Err(Refused::ForGood(message)) => return Err(failed(message)),
            }
        }
        Err(failed("no answer".to_owned()))
    }

    fn request(&self, body: &Value) -> Result<String, Refused> {
        let mut request = self.agent.post(&self.url);
        if let Some(key) = &self.options.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let broken = |error: ureq::Error| Refused::ForNow(chain(&error).join(": "), None);
        let mut response = request.send_json(body).map_err(broken)?;
        let status = response.status();
        let wait = retry_after(&response);
        let text = response.body_mut().read_to_string().map_err(broken)?;
        if !status.is_success() {
            let message = format!("{status}: {}", visible(&clipped(text.trim(), 300)));
            let for_now = status.is_server_error()
                || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
            return Err(if for_now { Refused::ForNow(message, wait) } else { Refused::ForGood(message) });
        }
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        let content = answer.as_ref().and_then(|answer| answer.pointer("/choices/0/message/content"));
        match content.and_then(Value::as_str) {
            Some(content) => Ok(content.to_owned()),
            None => Err(Refused::ForGood(format!(
                "the reply holds no choices[0].message.content: {}",
                visible(&clipped(text.trim(), 300))
            ))),
        }
    }
}

/// The seconds that an endpoint asks to wait.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds.min(600.0)).ok()
}

impl Judge for Endpoint {
    fn name(&self) -> &str {
        &self.options.model
    }

    fn about(&self) -> String {
        let Self { options, undecided, judged, .. } = self;
        format!(
            "The model {} was asked which of two responses is better, each pair in both orders at temperature 0; a pair \
             whose two answers contradict each other counts as a tie ({undecided} of {judged} did in the last call).",
            options.model
        )
    }

    fn judge(&mut self, _: &Path, comparisons: &[Comparison]) -> Result<Vec<Option<f64>>, JudgeError> {
        let next = AtomicUsize::new(0);
        let answered: Mutex<Vec<_>> = Mutex::new(comparisons.iter().map(|_| None).collect());
        let failure = Mutex::new(None);
        let one_after_the_other = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(comparison) = comparisons.get(index) else { break };
                let both = self.ask(comparison, true).and_then(|one| Ok([one, self.ask(comparison, false)?]));
                match both {
                    Ok(both) => answered.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(both),
                    Err(error) => {
                        next.store(comparisons.len(), Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        break;
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.options.at_once.get().min(comparisons.len()) {
                scope.spawn(one_after_the_other);
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let answered = answered.into_inner().unwrap_or_else(PoisonError::into_inner);
        let scores: Vec<Option<f64>> = answered
            .into_iter()
            .map(|both| {
                let [one, other] = both?;
                Some(f64::midpoint(one?, other?))
            })
            .collect();
        self.judged += scores.len();
        self.undecided += scores.iter().filter(|score| **score == Some(0.5)).count();
        Ok(scores)
    }
}
