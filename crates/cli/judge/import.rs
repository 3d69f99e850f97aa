//! `prospect judge --import`: judgements that other tools or people made.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use prospect_eval::exchange::import_generations;
use prospect_eval::import::{ColumnRole, ImportOptions, describe_skipped, import_judgements};
use prospect_runs::{Opponent, SweepDir};

use crate::{output, output::say, report};

/// Options of an import.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct ImportArgs {
    /// Import judgements: annotations of AlpacaEval, a folder of lm-evaluation-harness, or a table
    ///
    /// The format is recognised by the content. A table (CSV, TSV, JSON Lines, parquet) has
    /// comparisons of two runs, comparisons of one run with --against, or scores of runs. A file
    /// that is imported again replaces what it gave before.
    #[arg(long, value_name = "FILE", group = "judge", num_args = 1..)]
    import: Vec<PathBuf>,
    /// Import completions that another engine made of `prospect export --format prompts`
    ///
    /// They become the generations of their runs, and are judged and reported like those.
    #[arg(long, value_name = "FILE", group = "judge", num_args = 1..)]
    import_generations: Vec<PathBuf>,
    /// Replace generations that runs made themselves, and remove the judgements of those
    #[arg(long, requires = "import_generations")]
    replace: bool,
    /// Name of the imported judge [default: the annotator, the tool, or the name of the file]
    #[arg(long, value_name = "NAME", requires = "import")]
    name: Option<String>,
    /// Meaning of a column of an imported table, as in `--column prompt=Question`
    ///
    /// Meanings: prompt, question, run, opponent, first, second, first_text, second_text, win,
    /// score and task.
    #[arg(long = "column", value_name = "MEANING=COLUMN", requires = "import")]
    columns: Vec<String>,
    /// Run that imported results of lm-evaluation-harness belong to, by name or id
    ///
    /// Default: the run whose adapter or model was evaluated.
    #[arg(long, value_name = "RUN", requires = "import")]
    run: Option<String>,
}

impl ImportArgs {
    /// True if there are files to import.
    pub(super) fn is_given(&self) -> bool {
        !self.import.is_empty() || !self.import_generations.is_empty()
    }

    /// Imports the files, updates the report, and prints the path of its page.
    pub(super) fn run(
        &self,
        sweep: Option<&Path>,
        against: &Opponent,
        out: Option<&Path>,
    ) -> anyhow::Result<()> {
        let (sweep, files) = self.sweep_and_files(sweep)?;
        let sweep = report::open_sweep(sweep)?;
        let options = self.options(against)?;
        let claim = sweep.claims().take("judge")?;
        let claim = claim.ok_or_else(|| {
            anyhow!("another process is judging {}; wait for it to end", sweep.path().display())
        })?;
        for path in files {
            if self.import.is_empty() {
                self.import_generations_of(&sweep, path)?;
            } else {
                import_judgements_of(&sweep, path, &options)?;
            }
        }
        drop(claim);
        let place = report::ReportPlace::new(&sweep, out)?;
        output::print(report::summarise_and_render(&sweep, &place, None)?.display())?;
        Ok(())
    }

    fn import_generations_of(&self, sweep: &SweepDir, path: &Path) -> anyhow::Result<()> {
        let imported = import_generations(sweep, path, self.replace)?;
        let skipped = left_out(&imported.skipped);
        let removed = match imported.judgements_removed {
            0 => String::new(),
            removed => format!("; {removed} judgements of replaced generations removed"),
        };
        say(format!(
            "{}: {} completions of {} imported{skipped}{removed}",
            path.display(),
            imported.used,
            output::counted(imported.runs, "run")
        ));
        Ok(())
    }

    /// Returns the sweep and the files. Without a sweep, it was written after the files, which take
    /// all words that follow.
    fn sweep_and_files<'a>(&'a self, sweep: Option<&'a Path>) -> anyhow::Result<(&'a Path, &'a [PathBuf])> {
        let files = if self.import.is_empty() { &self.import_generations } else { &self.import };
        match (sweep, files.as_slice()) {
            (Some(sweep), files) => Ok((sweep, files)),
            (None, [files @ .., sweep]) if !files.is_empty() => Ok((sweep, files)),
            _ => bail!("no sweep: write its name first, as in `prospect judge NAME --import FILE`"),
        }
    }

    fn options(&self, against: &Opponent) -> anyhow::Result<ImportOptions> {
        let column = |given: &String| {
            let (role, column) =
                given.split_once('=').with_context(|| format!("--column {given}: write MEANING=COLUMN"))?;
            match role.parse::<ColumnRole>() {
                Ok(role) => Ok((role, column.to_owned())),
                Err(message) => bail!("--column {given}: {message}"),
            }
        };
        Ok(ImportOptions {
            name: self.name.clone(),
            against: against.clone(),
            run: self.run.clone(),
            columns: self.columns.iter().map(column).collect::<anyhow::Result<_>>()?,
        })
    }
}

fn import_judgements_of(sweep: &SweepDir, path: &Path, options: &ImportOptions) -> anyhow::Result<()> {
    for file in import_judgements(sweep, path, options)? {
        let import = &file.import;
        let skipped = left_out(&import.skipped);
        let replaced = if file.replaced { ", in place of an earlier import" } else { "" };
        say(format!(
            "{}: {} of {} rows imported as {} ({}){replaced}{skipped}",
            import.file, import.used, import.rows, file.judge, import.format
        ));
    }
    Ok(())
}

/// Describes the rows that do not count.
fn left_out(skipped: &BTreeMap<String, usize>) -> String {
    if skipped.is_empty() { String::new() } else { format!("; left out: {}", describe_skipped(skipped)) }
}
