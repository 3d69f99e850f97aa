//! Language-model judge behind an OpenAI-compatible API.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use prospect_core::{
    backoff::{Backoff, retry_after},
    errors::chain,
    files::fingerprint,
    secret::{Secret, without_credentials},
    visible::{clipped, visible},
};
use serde::{Deserialize, Serialize};
use ureq::{
    Agent,
    http::{StatusCode, Uri},
    tls::{RootCerts, TlsConfig},
};

use super::{
    CompletionPair, Judge, JudgeError, Preference,
    answer_cache::AnswerCache,
    question::{PreferredResponse, Question, parse_answer},
    rate_limit::RateLimiter,
};

/// Options of an [`Endpoint`].
#[derive(Debug, Clone)]
pub struct EndpointOptions {
    /// Base address including the API version, such as `https://api.openai.com/v1`.
    pub address: String,
    /// Name of the model at the endpoint.
    pub model: String,
    /// API key, sent as a bearer token; none is sent if None.
    pub key: Option<Secret>,
    /// Prompt template.
    pub question: Question,
    /// Token limit of an answer.
    pub max_tokens: u32,
    /// Most requests per minute; no limit if None.
    pub per_minute: Option<u32>,
    /// Number of concurrent requests.
    pub at_once: NonZeroUsize,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Most attempts at a request that fails temporarily.
    pub tries: NonZeroUsize,
    /// Wait before the second attempt, give or take a half; it doubles with each further one.
    pub wait: Duration,
}

/// Language-model judge. Each comparison is asked in both orders of the responses, so that a judge
/// with a position bias produces ties.
#[derive(Debug)]
pub struct Endpoint {
    options: EndpointOptions,
    url: String,
    answers: AnswerCache,
    rate_limiter: RateLimiter,
    agent: Agent,
    /// Comparisons whose two orders got contradicting answers.
    undecided: usize,
    judged: usize,
}

/// Error of one request.
enum RequestFailure {
    /// A later attempt may succeed, at the earliest after the given wait.
    Temporary(String, Option<Duration>),
    /// No further attempt can succeed.
    Permanent(String),
}

impl Endpoint {
    /// Judge that caches its answers in the file `answers`.
    pub fn new(options: EndpointOptions, answers: &Path) -> Result<Self, JudgeError> {
        let url = format!("{}/chat/completions", options.address.trim_end_matches('/'));
        let failed = |error: &dyn std::fmt::Display| JudgeError::Endpoint {
            address: without_credentials(&options.address).into_owned(),
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
        let answers = AnswerCache::open(answers)?;
        let rate_limiter = RateLimiter::new(options.per_minute);
        Ok(Self { options, url, answers, rate_limiter, agent, undecided: 0, judged: 0 })
    }

    /// Asks in one order. Returns 1 if the policy's completion is preferred, else 0; None if the
    /// answer is unreadable.
    fn ask(&self, comparison: &CompletionPair, policy_first: bool) -> Result<Option<f64>, JudgeError> {
        let CompletionPair { prompt, completion, other, .. } = comparison;
        let [first, second] = if policy_first { [completion, other] } else { [other, completion] };
        let EndpointOptions { model, question, max_tokens, .. } = &self.options;
        let content = question.fill(prompt, first, second);
        let body = ChatRequest {
            model,
            messages: [RequestMessage { role: "user", content }],
            temperature: 0,
            max_tokens: *max_tokens,
        };
        let key = fingerprint(&body)?;
        let answer = if let Some(answer) = self.answers.get(&key) {
            answer
        } else {
            let answer = self.fetch(&body)?;
            self.answers.put(key, answer.clone())?;
            answer
        };
        Ok(parse_answer(&answer)
            .map(|preferred| f64::from(u8::from((preferred == PreferredResponse::First) == policy_first))))
    }

    /// Sends a request, and retries it while it fails temporarily.
    fn fetch(&self, body: &ChatRequest<'_>) -> Result<String, JudgeError> {
        let tries = u32::try_from(self.options.tries.get()).unwrap_or(u32::MAX);
        let mut backoff = Backoff::new(self.options.wait, tries);
        loop {
            self.rate_limiter.wait();
            match self.request(body) {
                Ok(answer) => return Ok(answer),
                Err(RequestFailure::Temporary(message, asked)) => match backoff.wait(asked) {
                    Some(wait) => thread::sleep(wait),
                    None => return Err(self.failure(&format!("{message} ({tries} tries)"))),
                },
                Err(RequestFailure::Permanent(message)) => return Err(self.failure(&message)),
            }
        }
    }

    /// Returns the error with a message of the server, which may repeat the key that it was sent.
    fn failure(&self, message: &str) -> JudgeError {
        let message = match &self.options.key {
            Some(key) => key.redact(message).into_owned(),
            None => message.to_owned(),
        };
        JudgeError::Endpoint { address: without_credentials(&self.options.address).into_owned(), message }
    }

    fn request(&self, body: &ChatRequest<'_>) -> Result<String, RequestFailure> {
        let mut request = self.agent.post(&self.url);
        if let Some(key) = &self.options.key {
            request = request.header("authorization", key.bearer());
        }
        let transport_error = |error: ureq::Error| RequestFailure::Temporary(chain(&error).join(": "), None);
        let mut response = request.send_json(body).map_err(transport_error)?;
        let status = response.status();
        let wait = response.headers().get("retry-after").and_then(|value| retry_after(value.to_str().ok()?));
        let text = response.body_mut().read_to_string().map_err(transport_error)?;
        if !status.is_success() {
            let message = format!("{status}: {}", visible(&clipped(text.trim(), 300)));
            let is_temporary = status.is_server_error()
                || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
            return Err(if is_temporary {
                RequestFailure::Temporary(message, wait)
            } else {
                RequestFailure::Permanent(message)
            });
        }
        let reply: Option<ChatReply> = serde_json::from_str(&text).ok();
        match reply.and_then(|reply| reply.choices.into_iter().next()) {
            Some(choice) => Ok(choice.message.content),
            None => Err(RequestFailure::Permanent(format!(
                "the reply has no choices[0].message.content: {}",
                visible(&clipped(text.trim(), 300))
            ))),
        }
    }
}

/// Body of a chat-completions request.
#[derive(Serialize)]
struct ChatRequest<'a> {
    model: &'a str,
    messages: [RequestMessage<'a>; 1],
    temperature: u8,
    max_tokens: u32,
}

#[derive(Serialize)]
struct RequestMessage<'a> {
    role: &'a str,
    content: String,
}

/// The part of a chat-completions reply that is read.
#[derive(Deserialize)]
struct ChatReply {
    choices: Vec<ChatChoice>,
}

#[derive(Deserialize)]
struct ChatChoice {
    message: ChatAnswer,
}

#[derive(Deserialize)]
struct ChatAnswer {
    content: String,
}

impl Judge for Endpoint {
    fn name(&self) -> &str {
        &self.options.model
    }

    fn about(&self) -> String {
        let Self { options, undecided, judged, .. } = self;
        format!(
            "The model {} was asked which of two responses is better, each pair in both orders at temperature 0; a pair \
             whose two answers contradict each other is a tie ({undecided} of {judged} in the last call).",
            options.model
        )
    }

    fn judge(
        &mut self,
        _: &Path,
        comparisons: &[CompletionPair],
    ) -> Result<Vec<Option<Preference>>, JudgeError> {
        let next = AtomicUsize::new(0);
        let answered: Mutex<Vec<_>> = Mutex::new(comparisons.iter().map(|_| None).collect());
        let failure = Mutex::new(None);
        let work = || {
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
                scope.spawn(work);
            }
        });
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let answered = answered.into_inner().unwrap_or_else(PoisonError::into_inner);
        let preferences: Vec<Option<Preference>> = answered
            .into_iter()
            .map(|both| {
                let [one, other] = both?;
                Some(Preference { score: f64::midpoint(one?, other?), reward: None })
            })
            .collect();
        self.judged += preferences.len();
        self.undecided += preferences.iter().flatten().filter(|preference| preference.score == 0.5).count();
        Ok(preferences)
    }
}
