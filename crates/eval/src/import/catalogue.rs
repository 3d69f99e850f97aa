//! Runs, prompts and completions of a sweep, by the names that other tools know them by.

use std::collections::BTreeMap;

use prospect_runs::{Experiment, Generation, Opponent, PlannedRun, RunsError, SweepDir, run_names};

use super::rows::{
    ComparedRow, ITSELF, NO_PROMPT, NO_RUN, NO_TEXT, OTHER_TEXT, SEVERAL_RUNS, Side, Skip, UNFINISHED,
};
use crate::judge::baseline;

/// Name of the preferred completions in exports.
const CHOSEN: [&str; 2] = ["chosen", "target"];

/// A run with its generations by prompt.
pub(super) struct KnownRun<'a> {
    pub(super) planned: &'a PlannedRun,
    is_finished: bool,
    generations: BTreeMap<String, Generation>,
}

/// Runs and prompts of a sweep.
pub(super) struct Catalogue<'a> {
    experiment: &'a Experiment,
    pub(super) runs: Vec<KnownRun<'a>>,
    /// Indices of runs by id and by exported name.
    names: BTreeMap<String, usize>,
    /// Prompt ids by id, text and instruction.
    prompts: BTreeMap<String, String>,
}

/// One side of a comparison, matched.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Party {
    Run(usize),
    Target,
    Baseline,
    Model(String),
}

/// A comparison, matched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matched {
    pub(super) run: usize,
    pub(super) opponent: Opponent,
    pub(super) prompt_id: String,
    pub(super) score: Option<f64>,
    pub(super) characters: Option<[usize; 2]>,
}

impl<'a> Catalogue<'a> {
    /// Reads the generations of all runs.
    pub(super) fn read(sweep: &SweepDir, experiment: &'a Experiment) -> Result<Self, RunsError> {
        let (mut runs, mut names, mut prompts) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let exported: BTreeMap<&str, String> = run_names(experiment).into_iter().collect();
        for (index, planned) in experiment.runs.iter().enumerate() {
            let directory = sweep.run(&planned.id);
            let is_finished = directory.is_finished();
            let generations = if is_finished { directory.generations()? } else { Vec::new() };
            for generation in &generations {
                for text in
                    [generation.prompt_id.as_str(), generation.prompt.as_str(), generation.instruction()]
                {
                    prompts.insert(text.trim().to_owned(), generation.prompt_id.clone());
                }
            }
            let generations = generations.into_iter().map(|own| (own.prompt_id.clone(), own)).collect();
            names.insert(planned.id.clone(), index);
            names.extend(exported.get(planned.id.as_str()).map(|name| (name.clone(), index)));
            runs.push(KnownRun { planned, is_finished, generations });
        }
        Ok(Self { experiment, runs, names, prompts })
    }

    /// Finds a finished run by its id or exported name.
    pub(super) fn run(&self, name: &str) -> Result<usize, Skip> {
        let index = *self.names.get(name.trim()).ok_or(NO_RUN)?;
        if self.runs[index].is_finished { Ok(index) } else { Err(UNFINISHED) }
    }

    /// Returns the id of the run that a path or an argument of another tool contains.
    pub(super) fn run_within(&self, text: &str) -> Option<&'a str> {
        let words = text.split(['/', '\\', ',', '=', '"', ' ']).flat_map(|word| word.split("__"));
        let indices = words.filter_map(|word| self.names.get(word));
        indices.last().map(|index| self.runs[*index].planned.id.as_str())
    }

    /// Finds a prompt of a run by its id or text.
    pub(super) fn prompt_of(&self, run: usize, text: &str) -> Result<&str, Skip> {
        let id = self.prompts.get(text.trim()).ok_or(NO_PROMPT)?;
        if self.runs[run].generations.contains_key(id) { Ok(id) } else { Err(NO_PROMPT) }
    }

    /// Matches a comparison. The run is the side that is no opponent: neither the baseline, nor the
    /// preferred completion, nor a model outside of the sweep.
    pub(super) fn matched(&self, row: &ComparedRow, against: &Opponent) -> Result<Matched, Skip> {
        let prompt_id = self.prompts.get(row.prompt.trim()).ok_or(NO_PROMPT)?;
        let own = self.party(&row.own, prompt_id)?;
        let other = match &row.other {
            Some(side) => self.party(side, prompt_id)?,
            None => self.default_party(against)?,
        };
        let texts = [Some(&row.own), row.other.as_ref()].map(|side| side.and_then(|side| side.text.as_ref()));
        let is_reversed = match (&own, &other) {
            (Party::Run(own), Party::Run(other)) => self.is_baseline_of(*own, *other),
            (Party::Run(_), _) => false,
            (_, Party::Run(_)) => true,
            _ => return Err(NO_RUN),
        };
        let score = row.score.map(|score| if is_reversed { 1.0 - score } else { score });
        let (own, other, texts) =
            if is_reversed { (other, own, [texts[1], texts[0]]) } else { (own, other, texts) };
        let Party::Run(run) = own else { return Err(NO_RUN) };
        let opponent = self.opponent(run, other)?;
        let lengths = [
            self.length(Some(run), prompt_id, texts[0])?,
            self.opponent_length(run, &opponent, prompt_id, texts[1])?,
        ];
        let characters = lengths[0].zip(lengths[1]).map(|(own, other)| [own, other]);
        Ok(Matched { run, opponent, prompt_id: prompt_id.clone(), score, characters })
    }

    fn default_party(&self, against: &Opponent) -> Result<Party, Skip> {
        Ok(match against {
            Opponent::Target => Party::Target,
            Opponent::Baseline => Party::Baseline,
            Opponent::Run(name) => Party::Run(self.run(name)?),
            Opponent::Model(name) => Party::Model(name.clone()),
        })
    }

    fn party(&self, side: &Side, prompt_id: &str) -> Result<Party, Skip> {
        if let Some(name) = side.name.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
            return match self.run(name) {
                Err(UNFINISHED) => Err(UNFINISHED),
                Ok(run) => Ok(Party::Run(run)),
                Err(_) if CHOSEN.contains(&name) => Ok(Party::Target),
                Err(_) if name == "baseline" => Ok(Party::Baseline),
                Err(_) => Ok(Party::Model(name.to_owned())),
            };
        }
        let text = side.text.as_deref().ok_or(NO_RUN)?.trim();
        let of = |run: &KnownRun<'_>| run.generations.get(prompt_id).cloned();
        let said: Vec<usize> = (0..self.runs.len())
            .filter(|run| of(&self.runs[*run]).is_some_and(|own| own.completion.trim() == text))
            .collect();
        let is_chosen =
            self.runs.iter().filter_map(of).any(|own| own.chosen.is_some_and(|chosen| chosen.trim() == text));
        match said.as_slice() {
            [run] => Ok(Party::Run(*run)),
            [] if is_chosen => Ok(Party::Target),
            [] => Err(NO_TEXT),
            _ => Err(SEVERAL_RUNS),
        }
    }

    /// True if `own` is the baseline run that `other` is compared with.
    fn is_baseline_of(&self, own: usize, other: usize) -> bool {
        self.baseline_of(other) == Some(self.runs[own].planned.id.as_str())
    }

    fn baseline_of(&self, run: usize) -> Option<&str> {
        baseline(self.experiment, self.runs[run].planned)
    }

    fn opponent(&self, run: usize, other: Party) -> Result<Opponent, Skip> {
        match other {
            Party::Target => Ok(Opponent::Target),
            Party::Model(name) => Ok(Opponent::Model(name)),
            Party::Baseline => self.baseline_of(run).map(|_| Opponent::Baseline).ok_or(ITSELF),
            Party::Run(other) if other == run => Err(ITSELF),
            Party::Run(other) => {
                let id = &self.runs[other].planned.id;
                let is_baseline = self.baseline_of(run) == Some(id.as_str());
                Ok(if is_baseline { Opponent::Baseline } else { Opponent::Run(id.clone()) })
            }
        }
    }

    /// Characters of a run's completion, which must be `text` if that is given.
    fn length(
        &self,
        run: Option<usize>,
        prompt_id: &str,
        text: Option<&String>,
    ) -> Result<Option<usize>, Skip> {
        let run = run.ok_or(NO_RUN)?;
        let completion = &self.runs[run].generations.get(prompt_id).ok_or(NO_PROMPT)?.completion;
        same_length(completion, text)
    }

    fn opponent_length(
        &self,
        run: usize,
        opponent: &Opponent,
        prompt_id: &str,
        text: Option<&String>,
    ) -> Result<Option<usize>, Skip> {
        let id = match opponent {
            Opponent::Model(_) => return Ok(text.map(|text| text.chars().count())),
            Opponent::Target => {
                let chosen = self.runs[run].generations.get(prompt_id).and_then(|own| own.chosen.as_ref());
                return same_length(chosen.ok_or(NO_PROMPT)?, text);
            }
            Opponent::Baseline => self.baseline_of(run).ok_or(ITSELF)?,
            Opponent::Run(id) => id.as_str(),
        };
        self.length(self.names.get(id).copied(), prompt_id, text)
    }
}

/// Characters of a completion, which must be the judged `text` if that is given.
fn same_length(completion: &str, text: Option<&String>) -> Result<Option<usize>, Skip> {
    match text {
        Some(text) if text.trim() != completion.trim() => Err(OTHER_TEXT),
        _ => Ok(Some(completion.chars().count())),
    }
}
