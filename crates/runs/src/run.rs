//! The directory of one run.

use std::{
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use fs_err::{File, OpenOptions};
use prospect_core::{
    errors::chain,
    files::{write_json, write_whole},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Generation, Judgement, PairOutcome, Record, RunsError, last};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Work has started and not ended; after an interruption the run goes on from its last checkpoint.
    Running,
    /// All files are there.
    Finished,
    /// The run ended with an error.
    Failed,
    /// The run was ended before its last step, as the experiment asks for.
    Stopped,
}

/// `status.json` of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// How far the run has come.
    pub state: State,
    /// Wall-clock seconds of work; of a run that is in work, those before it was taken up.
    pub seconds: f64,
    /// Tokens that passed through the model in training steps; of a run that is in work, those before it was taken up.
    pub tokens: u64,
    /// Why a run failed or was stopped.
    #[serde(default, alias = "error", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How large a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSize {
    /// Models of one family differ in size only, or nearly so.
    pub family: String,
    /// Number of weights, those of an adapter not among them.
    pub parameters: u64,
}

/// `config.json` of a run: its resolved settings, and what it is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config(serde_json::Value);

impl Config {
    /// β of the run's objective, with which log-ratios become rewards; None if it has none.
    pub fn beta(&self) -> Option<f64> {
        let objective = self.0.pointer("/settings/objective")?.as_object()?;
        objective.values().find_map(|options| options.get("beta")?.as_f64())
    }

    /// How large the run's model is, where that was written down.
    pub fn model_size(&self) -> Option<ModelSize> {
        let family = self.0.get("family")?.as_str()?.to_owned();
        Some(ModelSize { family, parameters: self.0.get("parameters")?.as_u64()? })
    }

    /// Optimizer steps that the run takes, where that was written down.
    pub fn steps(&self) -> Option<u64> {
        self.0.get("steps")?.as_u64()
    }
}

/// The directory of one run.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The run directory at `path`, which need not exist yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's id: the directory's name.
    pub fn id(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Where the state of an unfinished run lies.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Empties the directory and writes the resolved settings: the start of work.
    pub fn begin(&self, config: &impl Serialize) -> Result<(), RunsError> {
        if self.path.exists() {
            fs_err::remove_dir_all(&self.path)?;
        }
        fs_err::create_dir_all(&self.path)?;
        write_json(&self.path.join("config.json"), config)?;
        self.set_status(&Status { state: State::Running, seconds: 0.0, tokens: 0, reason: None })
    }

    /// Prepares the directory for going on after step `step`, which took `seconds` and `tokens`: records of later steps go.
    pub fn go_on(&self, step: u64, seconds: f64, tokens: u64) -> Result<(), RunsError> {
        let mut records = self.metrics()?;
        records.retain(|record| record.step <= step);
        write_lines(&self.path.join("metrics.jsonl"), &records)?;
        if self.error_log().exists() {
            fs_err::remove_file(self.error_log())?;
        }
        self.set_status(&Status { state: State::Running, seconds, tokens, reason: None })
    }

    /// Notes that the run ended with an error after `seconds`; what it wrote so far stays.
    pub fn fail(&self, error: &(dyn std::error::Error + 'static), seconds: f64) -> Result<(), RunsError> {
        let causes = chain(error);
        write_whole(&self.error_log(), |file| writeln!(file, "error: {}", causes.join("\n  caused by: ")))?;
        self.end(State::Failed, causes.join(": "), seconds)
    }

    /// Notes that the run was ended before its last step, after `seconds`; what it wrote so far stays.
    pub fn stop(&self, reason: String, seconds: f64) -> Result<(), RunsError> {
        self.end(State::Stopped, reason, seconds)
    }

    fn end(&self, state: State, reason: String, seconds: f64) -> Result<(), RunsError> {
        // What cannot be read does not stand in the way of saying what happened.
        let records = self.metrics().unwrap_or_default();
        let tokens = last(&records, "num_tokens").unwrap_or(0.0) as u64;
        self.set_status(&Status { state, seconds, tokens, reason: Some(reason) })
    }

    /// Where the error of a failed run stands, with all of its causes.
    pub fn error_log(&self) -> PathBuf {
        self.path.join("error.log")
    }

    /// Writes `status.json`.
    pub fn set_status(&self, status: &Status) -> Result<(), RunsError> {
        Ok(write_json(&self.path.join("status.json"), status)?)
    }

    /// The status, if work on the run has ever started.
    pub fn status(&self) -> Result<Option<Status>, RunsError> {
        read_json_if_there(&self.path.join("status.json"))
    }

    /// Has the next look at the run's files see what other machines have written: clients of network file systems keep what
    /// they know of a folder, also that a file is not there, until the folder is opened.
    pub fn look_anew(&self) {
        for folder in self.path.ancestors().take(2) {
            // A folder that is not there holds nothing.
            let _ = std::fs::read_dir(folder);
        }
    }

    /// Whether all of the run's files are there.
    pub fn is_finished(&self) -> bool {
        self.state() == Some(State::Finished)
    }

    /// Whether the run was ended before its last step.
    pub fn is_stopped(&self) -> bool {
        self.state() == Some(State::Stopped)
    }

    /// Whether the run ended with an error.
    pub fn has_failed(&self) -> bool {
        self.state() == Some(State::Failed)
    }

    fn state(&self) -> Option<State> {
        self.status().ok().flatten().map(|status| status.state)
    }

    /// The resolved settings.
    pub fn config(&self) -> Result<Config, RunsError> {
        Ok(Config(read_json(&self.path.join("config.json"))?))
    }

    /// β of the run's objective; see [`Config::beta`].
    pub fn beta(&self) -> Result<Option<f64>, RunsError> {
        Ok(self.config()?.beta())
    }

    /// Opens `metrics.jsonl` for appending.
    pub fn metrics_writer(&self) -> Result<MetricsWriter, RunsError> {
        let file = OpenOptions::new().create(true).append(true).open(self.path.join("metrics.jsonl"))?;
        Ok(MetricsWriter { writer: BufWriter::new(file) })
    }

    /// All records of `metrics.jsonl`; empty if there is none. A line cut short by a kill ends the reading.
    pub fn metrics(&self) -> Result<Vec<Record>, RunsError> {
        read_lines(&self.path.join("metrics.jsonl"))
    }

    /// Writes `pairs.jsonl`.
    pub fn write_pairs(&self, pairs: &[PairOutcome]) -> Result<(), RunsError> {
        write_lines(&self.path.join("pairs.jsonl"), pairs)
    }

    /// The held-out pairs under the trained policy; empty if the run has not come so far.
    pub fn pairs(&self) -> Result<Vec<PairOutcome>, RunsError> {
        read_lines(&self.path.join("pairs.jsonl"))
    }

    /// Writes `generations.jsonl`.
    pub fn write_generations(&self, generations: &[Generation]) -> Result<(), RunsError> {
        write_lines(&self.path.join("generations.jsonl"), generations)
    }

    /// What the trained policy says to held-out prompts; empty if the run has not come so far or was not asked.
    pub fn generations(&self) -> Result<Vec<Generation>, RunsError> {
        read_lines(&self.path.join("generations.jsonl"))
    }

    /// Writes `judgements.jsonl`.
    pub fn write_judgements(&self, judgements: &[Judgement]) -> Result<(), RunsError> {
        write_lines(&self.path.join("judgements.jsonl"), judgements)
    }

    /// What judges said of the generations; empty if none was asked.
    pub fn judgements(&self) -> Result<Vec<Judgement>, RunsError> {
        read_lines(&self.path.join("judgements.jsonl"))
    }
}

/// Appends records to a run's `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    writer: BufWriter<File>,
}

impl MetricsWriter {
    /// Appends one record and flushes it, so that a reader sees whole lines. JSON knows no infinity: a value that is
    /// not finite is left out.
    pub fn append(&mut self, record: &Record) -> Result<(), RunsError> {
        let mut record = record.clone();
        record.values.retain(|_, value| value.is_finite());
        let mut line = serde_json::to_vec(&record).map_err(std::io::Error::from)?;
        line.push(b'\n');
        self.writer.write_all(&line)?;
        Ok(self.writer.flush()?)
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunsError> {
    serde_json::from_slice(&fs_err::read(path)?)
        .map_err(|source| RunsError::Format { file: path.display().to_string(), source })
}

pub(crate) fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RunsError> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<(), RunsError> {
    Ok(write_whole(path, |writer| {
        for value in values {
            serde_json::to_writer(&mut *writer, value)?;
            writer.write_all(b"\n")?;
        }
        Ok(())
    })?)
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RunsError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let lines: Vec<String> = BufReader::new(File::open(path)?).lines().collect::<Result<_, _>>()?;
    let mut values = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            Err(error) if error.is_eof() && index + 1 == lines.len() => break,
            Err(source) => {
                return Err(RunsError::Format { file: format!("{}:{}", path.display(), index + 1), source });
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GenerationMode, Kind};

    #[test]
    fn a_run_goes_through_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::at(folder.path().join("r"));
        assert_eq!(run.status().unwrap(), None);
        run.begin(&serde_json::json!({"beta": 0.1})).unwrap();
        assert!(!run.is_finished());
        let record = Record { kind: Kind::Train, step: 1, values: [("loss".to_owned(), 0.5)].into() };
        run.metrics_writer().unwrap().append(&record).unwrap();
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record));
        let mut text = fs_err::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        text.push_str("{\"kind\":\"tr");
        fs_err::write(run.path().join("metrics.jsonl"), &text).unwrap();
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record));
        let later = Record { kind: Kind::Train, step: 2, values: [("loss".to_owned(), 0.4)].into() };
        run.go_on(1, 2.0, 30).unwrap();
        run.metrics_writer().unwrap().append(&later).unwrap();
        assert_eq!(run.metrics().unwrap(), [record.clone(), later]);
        run.go_on(1, 2.0, 30).unwrap();
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record));

        let cause = prospect_core::config::ConfigError::Read(std::io::Error::other("the disk is full"));
        run.fail(&cause, 5.0).unwrap();
        let status = run.status().unwrap().unwrap();
        assert_eq!((status.state, status.seconds), (State::Failed, 5.0));
        assert_eq!(status.reason.unwrap(), "cannot read the configuration: the disk is full");
        let log = fs_err::read_to_string(run.error_log()).unwrap();
        assert_eq!(log, "error: cannot read the configuration\n  caused by: the disk is full\n");
        assert_eq!(run.metrics().unwrap(), std::slice::from_ref(&record), "what there was stays");
        run.go_on(1, 2.0, 30).unwrap();
        assert!(!run.error_log().exists());

        let generation = Generation {
            prompt_id: "p".to_owned(),
            prompt: "user: hi\n\nthere".to_owned(),
            completion: "\"yo\"".to_owned(),
            tokens: 4,
            ended: true,
            mode: GenerationMode::Nucleus,
            chosen: String::new(),
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
