//! A plan for those who read it: on a terminal, and in a report.

use std::collections::BTreeSet;

use prospect_runs::{DataUse, PlannedRun, Stage, SweepDir};
use serde_json::{Value, json};

use super::{Plan, Run, describe};
use crate::{Only, RunState, SweepError, search::RUNG};

impl Plan {
    /// The plan as the report needs it, with manifests of its datasets. Of a search, there are the runs of each rung that it
    /// has come to, and once it is over, those of the trials that have won.
    pub(crate) fn record(
        &self,
        commands: &[String],
        manifests: &[Value],
        rungs: &[Vec<Run>],
        won: &[Run],
    ) -> Result<prospect_runs::Experiment, SweepError> {
        let json = |value: serde_json::Result<Value>| value.map_err(std::io::Error::from);
        let base = json!({
            "models": json(serde_json::to_value(&self.models))?,
            "evaluate": json(serde_json::to_value(self.evaluate))?,
            "sft": json(serde_json::to_value(self.sft.iter().map(|sft| &sft.settings).collect::<Vec<_>>()))?,
            "train": json(serde_json::to_value(self.runs.first().map(|run| &run.train)))?,
        });
        let [x, series] = self.axes.clone();
        let planned = |run: &Run| PlannedRun {
            id: run.id.clone(),
            settings: run.settings.clone(),
            seed: run.seed,
            data: run.dataset,
        };
        let search = self.search.map(|search| prospect_runs::Search {
            trials: search.trials,
            rungs: rungs.iter().map(|runs| runs.iter().map(planned).collect()).collect(),
        });
        let runs = if search.is_some() { won } else { &self.runs };
        let data = self.datasets.iter().zip(manifests);
        Ok(prospect_runs::Experiment {
            name: self.name.clone(),
            question: self.question.clone(),
            commands: commands.to_vec(),
            x,
            series,
            baseline: self.baseline.clone(),
            reference: self.reference.clone(),
            stages: self.sft.iter().map(|sft| Stage { name: "sft".to_owned(), id: sft.id.clone() }).collect(),
            data: data
                .map(|(dataset, manifest)| DataUse { path: dataset.path.clone(), manifest: manifest.clone() })
                .collect(),
            runs: runs.iter().map(planned).collect(),
            search,
            base,
        })
    }

    /// The plan as text: every run of `only`, and what of it is there.
    pub fn describe(&self, sweep: &SweepDir, only: &Only) -> String {
        let mut lines = vec![
            self.question.clone(),
            format!(
                "{} runs over {} datasets and {} models; shared stages: {}",
                self.foreseen().len(),
                self.datasets.len(),
                self.models.len(),
                if self.sft.is_empty() { "none".to_owned() } else { format!("{} SFT", self.sft.len()) },
            ),
        ];
        let held = sweep.claims().held().unwrap_or_default();
        let state =
            |id: &str| RunState::of(sweep.run(id).status().ok().flatten().as_ref(), held.contains_key(id));
        for sft in &self.sft {
            lines.push(format!("  {}  sft, shared  {}", sft.id, state(&sft.id)));
        }
        for run in self.runs.iter().filter(|run| only.takes(run)) {
            let settings = describe(&run.settings);
            lines.push(format!("  {}  {settings}, seed {}  {}", run.id, run.seed, state(&run.id)));
        }
        for (later, rung) in self.later.iter().zip(2..) {
            let trials = self.search.map_or(0, |search| search.trials_in(rung - 1));
            let cells = later.iter().filter_map(|run| run.trial).map(|trial| trial.cell);
            let cells = cells.collect::<BTreeSet<_>>().len();
            let runs =
                self.foreseen().iter().filter(|run| run.settings.get(RUNG) == Some(&rung.into())).count();
            lines.push(format!(
                "  then rung {rung}: {runs} runs, of the best {trials} in each of {cells} series and places"
            ));
        }
        lines.join("\n")
    }
}
