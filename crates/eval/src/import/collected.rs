//! Matched rows of a file, averaged by run and prompt.

use std::collections::{BTreeMap, BTreeSet};

use prospect_core::sample::mean;
use prospect_runs::{ImportedScore, Judgement, Opponent, RunsError, SweepDir};

use super::{
    catalogue::Catalogue,
    rows::{ELSEWHERE, Entry, Question, ScoredRow, Skip},
};

/// Key of a comparison within a run.
type ComparisonKey = (Opponent, String);

/// Task and question of a score within a run.
type ScoreKey = (String, String);

/// Rows of one comparison.
#[derive(Default)]
struct Comparisons {
    rows: Vec<usize>,
    scores: Vec<f64>,
    characters: Option<[usize; 2]>,
}

/// Rows of one score.
#[derive(Default)]
struct Scores {
    rows: Vec<usize>,
    values: Vec<f64>,
    lower_is_better: bool,
}

/// Judgements of a file by run.
#[derive(Default)]
pub(super) struct Collected {
    /// Reason why each row does not count, if it does not.
    skips: Vec<Option<Skip>>,
    comparisons: BTreeMap<usize, BTreeMap<ComparisonKey, Comparisons>>,
    scores: BTreeMap<usize, BTreeMap<ScoreKey, Scores>>,
}

impl Collected {
    /// Matches the rows of a file.
    pub(super) fn new(
        catalogue: &Catalogue<'_>,
        rows: Vec<Result<Vec<Entry>, Skip>>,
        against: &Opponent,
    ) -> Self {
        let mut collected = Self::default();
        for (row, entries) in rows.into_iter().enumerate() {
            let mut result = entries.as_ref().map(|_| ()).map_err(|skip| *skip);
            let mut used = false;
            for entry in entries.unwrap_or_default() {
                match collected.add(catalogue, row, &entry, against) {
                    Ok(()) => used = true,
                    Err(skip) => result = Err(skip),
                }
            }
            collected.skips.push(result.err().filter(|_| !used));
        }
        collected
    }

    fn add(
        &mut self,
        catalogue: &Catalogue<'_>,
        row: usize,
        entry: &Entry,
        against: &Opponent,
    ) -> Result<(), Skip> {
        match entry {
            Entry::Comparison(compared) => {
                let matched = catalogue.matched(compared, against)?;
                let own = self.comparisons.entry(matched.run).or_default();
                let own = own.entry((matched.opponent, matched.prompt_id)).or_default();
                own.rows.push(row);
                own.scores.extend(matched.score);
                own.characters = own.characters.or(matched.characters);
            }
            Entry::Score(ScoredRow { run, task, question, score, lower_is_better }) => {
                let run = catalogue.run(run)?;
                let question = match question {
                    Question::Id(id) => id.clone(),
                    Question::Prompt(text) => catalogue.prompt_of(run, text)?.to_owned(),
                };
                let own = self.scores.entry(run).or_default().entry((task.clone(), question)).or_default();
                own.rows.push(row);
                own.values.push(*score);
                own.lower_is_better = *lower_is_better;
            }
        }
        Ok(())
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.skips.len()
    }

    /// Number of rows that count.
    pub(super) fn used(&self) -> usize {
        self.skips.iter().filter(|skip| skip.is_none()).count()
    }

    /// Numbers of rows that do not count, by reason.
    pub(super) fn skipped(&self) -> BTreeMap<String, usize> {
        let mut skipped = BTreeMap::new();
        for skip in self.skips.iter().flatten() {
            *skipped.entry((*skip).to_owned()).or_default() += 1;
        }
        skipped
    }

    /// Adds the judgements to the run directories, in the place of those of the `replaced` imports.
    /// Rows that another import has judged already do not count.
    pub(super) fn write(
        &mut self,
        sweep: &SweepDir,
        catalogue: &Catalogue<'_>,
        judge: &str,
        import: &str,
        replaced: &[String],
    ) -> Result<(), RunsError> {
        let is_replaced = |id: &str| id == import || replaced.iter().any(|old| old == id);
        for (index, run) in catalogue.runs.iter().enumerate() {
            let directory = sweep.run(&run.planned.id);
            let mut judgements = directory.judgements()?;
            let before = judgements.len();
            judgements.retain(|old| !old.import.as_deref().is_some_and(is_replaced));
            let own = self.comparisons.remove(&index).unwrap_or_default();
            if judgements.len() < before || !own.is_empty() {
                self.add_judgements(&mut judgements, own, judge, import);
                directory.write_judgements(&judgements)?;
            }
            let mut scores = directory.scores()?;
            let before = scores.len();
            scores.retain(|old| !is_replaced(&old.import));
            let own = self.scores.remove(&index).unwrap_or_default();
            if scores.len() < before || !own.is_empty() {
                self.add_scores(&mut scores, own, judge, import);
                directory.write_scores(&scores)?;
            }
        }
        Ok(())
    }

    fn add_judgements(
        &mut self,
        judgements: &mut Vec<Judgement>,
        own: BTreeMap<ComparisonKey, Comparisons>,
        judge: &str,
        import: &str,
    ) {
        let known: BTreeSet<(Opponent, String)> = judgements
            .iter()
            .filter(|old| old.judge == judge && old.step.is_none())
            .map(|old| (old.opponent.clone(), old.prompt_id.clone()))
            .collect();
        for (key, Comparisons { rows, scores, characters }) in own {
            if known.contains(&key) {
                self.skip(&rows);
                continue;
            }
            let (opponent, prompt_id) = key;
            judgements.push(Judgement {
                judge: judge.to_owned(),
                opponent,
                prompt_id,
                step: None,
                score: mean(scores),
                reward: None,
                characters,
                import: Some(import.to_owned()),
            });
        }
    }

    fn add_scores(
        &mut self,
        all: &mut Vec<ImportedScore>,
        own: BTreeMap<ScoreKey, Scores>,
        judge: &str,
        import: &str,
    ) {
        let is_own = |old: &&ImportedScore| old.judge == judge;
        let known: BTreeSet<ScoreKey> =
            all.iter().filter(is_own).map(|old| (old.task.clone(), old.question.clone())).collect();
        for (key, Scores { rows, values, lower_is_better }) in own {
            let Some(score) = mean(values).filter(|_| !known.contains(&key)) else {
                self.skip(&rows);
                continue;
            };
            let (task, question) = key;
            let (judge, import) = (judge.to_owned(), import.to_owned());
            all.push(ImportedScore { judge, task, question, score, lower_is_better, import });
        }
    }

    fn skip(&mut self, rows: &[usize]) {
        for row in rows {
            self.skips[*row] = Some(ELSEWHERE);
        }
    }
}
