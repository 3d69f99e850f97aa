//! Directory of one run.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use fs_err::File;
use prospect_core::{
    checksums,
    errors::chain,
    files::{open_to_append, write_json, write_whole},
};
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use crate::{
    Generation, GenerationSource, ImportedScore, Judgement, MetricsRecord, PairOutcome, PolicySample,
    QuestionOutcome, RunConfig, RunsError, ThumbOutcome,
    json::{read_json, read_json_if_exists, read_lines, write_lines},
    last,
};

/// State of a run as recorded in `status.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum State {
    /// Started and not ended. After an interruption the run resumes from its last checkpoint.
    Running,
    /// Complete: all files exist.
    Finished,
    /// Ended with an error.
    Failed,
    /// Stopped before its last step, as the experiment asks for.
    Stopped,
}

impl State {
    /// Name of the state of a run that has no status yet.
    pub const NOT_STARTED: &str = "not started";
}

/// `status.json` of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// State of the run.
    pub state: State,
    /// Wall-clock seconds of work. For a running run, those before it was last resumed.
    pub seconds: f64,
    /// Tokens of training steps. For a running run, those before it was last resumed.
    pub tokens: u64,
    /// Reason for a failure or an early stop.
    #[serde(default, alias = "error", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Files of a complete run that later commands only read, and that do not depend on the machine.
const RECORDS: [&str; 6] =
    ["metrics.jsonl", "pairs.jsonl", "thumbs.jsonl", "generations.jsonl", "samples.jsonl", "questions.jsonl"];

/// Directory of one run.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Run directory at `path`, which need not exist.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Id of the run: the name of the directory.
    pub fn id(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Folder of the checkpoints of an unfinished run.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Empties the directory, and writes `config.json` and the status of a running run.
    pub fn begin(&self, config: &RunConfig) -> Result<(), RunsError> {
        if self.path.exists() {
            fs_err::remove_dir_all(&self.path)?;
        }
        fs_err::create_dir_all(&self.path)?;
        write_json(&self.path.join("config.json"), config)?;
        self.set_status(&Status { state: State::Running, seconds: 0.0, tokens: 0, reason: None })
    }

    /// Prepares the directory for resuming after step `step`, which was reached after `seconds` and
    /// `tokens`. Removes records of later steps.
    pub fn resume(&self, step: u64, seconds: f64, tokens: u64) -> Result<(), RunsError> {
        let mut records = self.metrics()?;
        records.retain(|record| record.step <= step);
        write_lines(&self.path.join("metrics.jsonl"), &records)?;
        let mut samples = self.samples()?;
        if !samples.is_empty() {
            samples.retain(|sample| sample.step <= step);
            write_lines(&self.samples_file(), &samples)?;
        }
        if self.error_log().exists() {
            fs_err::remove_file(self.error_log())?;
        }
        self.set_status(&Status { state: State::Running, seconds, tokens, reason: None })
    }

    /// Records that the run failed after `seconds`. Keeps the files written so far.
    pub fn fail(&self, error: &(dyn std::error::Error + 'static), seconds: f64) -> Result<(), RunsError> {
        let causes = chain(error);
        write_whole(&self.error_log(), |file| writeln!(file, "error: {}", causes.join("\n  caused by: ")))?;
        self.end(State::Failed, causes.join(": "), seconds)
    }

    /// Records that the run was stopped early after `seconds`. Keeps the files written so far.
    pub fn stop(&self, reason: String, seconds: f64) -> Result<(), RunsError> {
        self.end(State::Stopped, reason, seconds)
    }

    fn end(&self, state: State, reason: String, seconds: f64) -> Result<(), RunsError> {
        // Unreadable metrics must not prevent the status from being written.
        let records = self.metrics().unwrap_or_default();
        let tokens = last(&records, "num_tokens").unwrap_or(0.0) as u64;
        self.set_status(&Status { state, seconds, tokens, reason: Some(reason) })
    }

    /// Records the hashes of the records of a complete run, which no longer change.
    pub fn record_hashes(&self) -> Result<(), RunsError> {
        let names = RECORDS.into_iter().filter(|name| self.path.join(name).exists());
        Ok(checksums::record(&self.path, &names.collect::<Vec<_>>())?)
    }

    /// Reads every record of the run. The error names the file and the line that cannot be read.
    pub fn check_records(&self) -> Result<(), RunsError> {
        self.config()?;
        self.status()?;
        self.metrics()?;
        self.pairs()?;
        self.thumbs()?;
        self.generations()?;
        self.samples()?;
        self.questions()?;
        self.judgements()?;
        self.scores()?;
        Ok(())
    }

    /// Path of the file with the error of a failed run and all of its causes.
    pub fn error_log(&self) -> PathBuf {
        self.path.join("error.log")
    }

    /// Writes `status.json`.
    pub fn set_status(&self, status: &Status) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("status.json"), status)?)
    }

    /// Reads `status.json`; None if the run has never started.
    pub fn status(&self) -> Result<Option<Status>, RunsError> {
        read_json_if_exists(&self.path.join("status.json"))
    }

    /// Invalidates the attribute cache of network file systems, so that files written by other
    /// machines become visible. Clients cache a folder's entries, missing ones included, until the
    /// folder is opened.
    pub fn invalidate_cache(&self) {
        for folder in self.path.ancestors().take(2) {
            // A missing folder has no cached entries.
            let _ = std::fs::read_dir(folder);
        }
    }

    /// Returns true if the run is complete.
    pub fn is_finished(&self) -> bool {
        self.state() == Some(State::Finished)
    }

    /// Returns true if the run was stopped before its last step.
    pub fn is_stopped(&self) -> bool {
        self.state() == Some(State::Stopped)
    }

    /// Returns true if the run ended with an error.
    pub fn has_failed(&self) -> bool {
        self.state() == Some(State::Failed)
    }

    fn state(&self) -> Option<State> {
        self.status().ok().flatten().map(|status| status.state)
    }

    /// Reads `config.json`.
    pub fn config(&self) -> Result<RunConfig, RunsError> {
        read_json(&self.path.join("config.json"))
    }

    /// β of the run's objective; see [`RunConfig::beta`].
    pub fn beta(&self) -> Result<Option<f64>, RunsError> {
        Ok(self.config()?.beta())
    }

    /// Opens `metrics.jsonl` for appending.
    pub fn metrics_writer(&self) -> Result<MetricsWriter, RunsError> {
        let file = open_to_append(&self.path.join("metrics.jsonl"))?;
        Ok(MetricsWriter { writer: BufWriter::new(file) })
    }

    /// Reads `metrics.jsonl`; empty if it does not exist. An incomplete last line is ignored.
    pub fn metrics(&self) -> Result<Vec<MetricsRecord>, RunsError> {
        read_lines(&self.path.join("metrics.jsonl"))
    }

    /// Writes `pairs.jsonl`.
    pub fn write_pairs(&self, pairs: &[PairOutcome]) -> Result<(), RunsError> {
        write_lines(&self.path.join("pairs.jsonl"), pairs)
    }

    /// Reads `pairs.jsonl`, the held-out pairs under the trained policy; empty if it does not
    /// exist.
    pub fn pairs(&self) -> Result<Vec<PairOutcome>, RunsError> {
        read_lines(&self.path.join("pairs.jsonl"))
    }

    /// Writes `thumbs.jsonl`.
    pub fn write_thumbs(&self, thumbs: &[ThumbOutcome]) -> Result<(), RunsError> {
        write_lines(&self.path.join("thumbs.jsonl"), thumbs)
    }

    /// Reads `thumbs.jsonl`, the held-out thumbs under the trained policy; empty if it does not
    /// exist.
    pub fn thumbs(&self) -> Result<Vec<ThumbOutcome>, RunsError> {
        read_lines(&self.path.join("thumbs.jsonl"))
    }

    /// Writes `generations.jsonl`.
    pub fn write_generations(&self, generations: &[Generation]) -> Result<(), RunsError> {
        write_lines(&self.path.join("generations.jsonl"), generations)
    }

    /// Reads `generations.jsonl`, the trained policy's completions of held-out prompts; empty if it
    /// does not exist.
    pub fn generations(&self) -> Result<Vec<Generation>, RunsError> {
        read_lines(&self.path.join("generations.jsonl"))
    }

    fn samples_file(&self) -> PathBuf {
        self.path.join("samples.jsonl")
    }

    /// Appends to `samples.jsonl`.
    pub fn append_samples(&self, samples: &[PolicySample]) -> Result<(), RunsError> {
        let mut text = Vec::new();
        for sample in samples {
            serde_json::to_writer(&mut text, sample).map_err(std::io::Error::from)?;
            text.push(b'\n');
        }
        let mut file = open_to_append(&self.samples_file())?;
        Ok(file.write_all(&text)?)
    }

    /// Reads `samples.jsonl`, completions drawn during training; empty if it does not exist.
    pub fn samples(&self) -> Result<Vec<PolicySample>, RunsError> {
        read_lines(&self.samples_file())
    }

    /// Writes `questions.jsonl`.
    pub fn write_questions(&self, questions: &[QuestionOutcome]) -> Result<(), RunsError> {
        write_lines(&self.path.join("questions.jsonl"), questions)
    }

    /// Reads `questions.jsonl`, the answers of the start and of the trained policy; empty if it
    /// does not exist.
    pub fn questions(&self) -> Result<Vec<QuestionOutcome>, RunsError> {
        read_lines(&self.path.join("questions.jsonl"))
    }

    /// Replaces the generations of a complete run by those of another engine.
    pub fn import_generations(
        &self,
        generations: &[Generation],
        source: &GenerationSource,
    ) -> Result<(), RunsError> {
        write_json(&self.path.join("generations.json"), source)?;
        self.write_generations(generations)?;
        self.record_hashes()
    }

    /// Reads `generations.json`; None if the run made its generations itself.
    pub fn generation_source(&self) -> Result<Option<GenerationSource>, RunsError> {
        read_json_if_exists(&self.path.join("generations.json"))
    }

    /// Writes `judgements.jsonl`.
    pub fn write_judgements(&self, judgements: &[Judgement]) -> Result<(), RunsError> {
        write_lines(&self.path.join("judgements.jsonl"), judgements)
    }

    /// Reads `judgements.jsonl`, the judges' scores of the generations; empty if it does not exist.
    pub fn judgements(&self) -> Result<Vec<Judgement>, RunsError> {
        read_lines(&self.path.join("judgements.jsonl"))
    }

    /// Writes `scores.jsonl`.
    pub fn write_scores(&self, scores: &[ImportedScore]) -> Result<(), RunsError> {
        write_lines(&self.path.join("scores.jsonl"), scores)
    }

    /// Reads `scores.jsonl`, scores of other tools; empty if it does not exist.
    pub fn scores(&self) -> Result<Vec<ImportedScore>, RunsError> {
        read_lines(&self.path.join("scores.jsonl"))
    }
}

/// Appends records to a run's `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    writer: BufWriter<File>,
}

impl MetricsWriter {
    /// Appends one record and flushes it, so that readers see whole lines. Values that are not
    /// finite are left out, since JSON cannot represent them.
    pub fn append(&mut self, record: &MetricsRecord) -> Result<(), RunsError> {
        let mut record = record.clone();
        record.values.retain(|_, value| value.is_finite());
        let mut line = serde_json::to_vec(&record).map_err(std::io::Error::from)?;
        line.push(b'\n');
        self.writer.write_all(&line)?;
        Ok(self.writer.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GenerationMode, RecordKind};

    #[test]
    fn files_of_a_run_are_written_resumed_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::at(folder.path().join("r"));
        assert_eq!(run.status().unwrap(), None);
        run.begin(&RunConfig { seed: 7, ..RunConfig::default() }).unwrap();
        assert_eq!(run.config().unwrap().seed, 7);
        assert!(!run.is_finished());
        let record =
            MetricsRecord { kind: RecordKind::Train, step: 1, values: [("loss".to_owned(), 0.5)].into() };
        run.metrics_writer().unwrap().append(&record).unwrap();
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record));
        let mut text = fs_err::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        text.push_str("{\"kind\":\"tr");
        fs_err::write(run.path().join("metrics.jsonl"), &text).unwrap();
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record));
        let later =
            MetricsRecord { kind: RecordKind::Train, step: 2, values: [("loss".to_owned(), 0.4)].into() };
        run.resume(1, 2.0, 30).unwrap();
        run.metrics_writer().unwrap().append(&later).unwrap();
        assert_eq!(run.metrics().unwrap(), [record.clone(), later]);
        let sample = |step| PolicySample {
            step,
            prompt_id: "p".to_owned(),
            completion: "yo".to_owned(),
            tokens: 2,
            ended: true,
            kl: 0.25,
            log_ratio: -0.5,
            utility: None,
        };
        run.append_samples(&[sample(0)]).unwrap();
        run.append_samples(&[sample(1), sample(2)]).unwrap();
        run.resume(1, 2.0, 30).unwrap();
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record));
        assert_eq!(run.samples().unwrap(), [sample(0), sample(1)]);

        let cause = prospect_core::config::ConfigError::Read(std::io::Error::other("the disk is full"));
        run.fail(&cause, 5.0).unwrap();
        let status = run.status().unwrap().unwrap();
        assert_eq!((status.state, status.seconds), (State::Failed, 5.0));
        assert_eq!(status.reason.unwrap(), "cannot read the configuration: the disk is full");
        let log = fs_err::read_to_string(run.error_log()).unwrap();
        assert_eq!(log, "error: cannot read the configuration\n  caused by: the disk is full\n");
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record), "records stay");
        run.resume(1, 2.0, 30).unwrap();
        assert!(!run.error_log().exists());

        let generation = Generation {
            prompt_id: "p".to_owned(),
            prompt: "user: hi\n\nthere".to_owned(),
            completion: "\"yo\"".to_owned(),
            tokens: 4,
            ended: true,
            mode: GenerationMode::Nucleus,
            chosen: None,
            utility: Some(0.5),
            chosen_utility: None,
        };
        run.write_generations(std::slice::from_ref(&generation)).unwrap();
        assert_eq!(run.generations().unwrap(), [generation]);
        fs_err::write(run.path().join("pairs.jsonl"), "{\"pair_id\": \"a\", \"prompt_id\": \"b\"}\n")
            .unwrap();
        assert!(run.pairs().unwrap_err().to_string().contains("missing field `source`"));
        fs_err::write(run.path().join("metrics.jsonl"), format!("x\n{text}")).unwrap();
        assert!(run.metrics().unwrap_err().to_string().contains("metrics.jsonl:1"));
    }
}
