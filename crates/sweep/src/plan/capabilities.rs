//! Capability tests of a plan.

use std::sync::Arc;

use prospect_core::{files::fingerprint, not_fetched::NotFetched};
use prospect_eval::LoadedTest;

use crate::{
    SweepError,
    config::{LoadedExperiment, RecipeSources, TestError},
};

/// Capability tests that every run takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlannedTests {
    /// Tests whose files are on this machine.
    loaded: Arc<[LoadedTest]>,
    /// Addresses that are not on this machine. The tests can be planned, not run.
    missing: Vec<String>,
    /// Hash of everything that results depend on; None without tests.
    pub(super) fingerprint: Option<String>,
}

impl PlannedTests {
    /// Reads the questions of all tests.
    pub(super) fn new(
        experiment: &LoadedExperiment,
        sources: &RecipeSources<'_>,
    ) -> Result<Self, SweepError> {
        let evaluate = &experiment.raw.evaluate;
        let (mut loaded, mut missing) = (Vec::new(), Vec::new());
        for test in evaluate.tests() {
            let blame = |message: &dyn std::fmt::Display| {
                experiment.located_error(&format!("`{}`: {message}", test.key()))
            };
            match test.request(sources.locate) {
                Ok(request) => loaded.push(request.load().map_err(|error| blame(&error))?),
                Err(TestError::Setting(message)) => return Err(blame(&message)),
                Err(TestError::Locate(error)) => match NotFetched::find(&*error) {
                    Some(NotFetched(address)) => missing.push(address.clone()),
                    None => return Err(blame(&error)),
                },
            }
        }
        let fingerprints: Vec<&String> = loaded.iter().map(|test| &test.record.fingerprint).collect();
        let fingerprint = match (fingerprints.is_empty(), missing.is_empty()) {
            (true, true) => None,
            (_, true) => Some(fingerprint(&fingerprints)?),
            // Provisional, like the dataset of a recipe whose inputs are missing.
            (_, false) => Some(fingerprint(&(&evaluate.choices, &evaluate.exact))?),
        };
        Ok(Self { loaded: loaded.into(), missing, fingerprint })
    }

    /// Returns the tests whose files are on this machine.
    pub(crate) fn loaded(&self) -> &[LoadedTest] {
        &self.loaded
    }

    /// Returns the addresses that are not on this machine.
    pub(crate) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Returns all tests.
    ///
    /// # Errors
    /// The files of a test are not on this machine.
    pub(crate) fn all(&self) -> Result<&[LoadedTest], SweepError> {
        match self.missing.first() {
            Some(address) => Err(NotFetched(address.clone()).into()),
            None => Ok(&self.loaded),
        }
    }

    /// Describes each test in a line: its questions, and rows that cannot be used.
    pub(super) fn describe(&self) -> impl Iterator<Item = String> {
        self.loaded.iter().map(|test| {
            let record = &test.record;
            let rejected: Vec<String> =
                record.rejected.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
            let rejected = if rejected.is_empty() {
                String::new()
            } else {
                format!("; not usable: {}", rejected.join(", "))
            };
            let (name, layout) = (&record.name, &record.layout);
            format!(
                "test {name}: {} of {} questions (layout {layout}){rejected}",
                record.questions, record.rows
            )
        })
    }
}
