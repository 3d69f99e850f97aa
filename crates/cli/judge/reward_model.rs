//! `--reward-model`: one from the Hub or a folder, or one to train from a model recipe.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use prospect_core::config::Document;
use prospect_eval::judge::{Judge, PretrainedRewardModel, RewardModel, RewardModelSource};
use prospect_model::{ModelFile, SequenceClassifier, device};
use prospect_runs::SweepDir;
use prospect_train::TrainFile;

use crate::locate::SOURCES;

const TRAINING: &str = "\
objective: dpo
learning_rate: 1e-4
num_train_epochs: 3
batch_size: 32
max_length: 512
";

/// Opens the reward model that `given` names: an `hf://` address or a folder of a sequence
/// classifier, or a model recipe, which is trained with `settings`.
pub(super) fn open(sweep: &SweepDir, given: &Path, settings: &[String]) -> anyhow::Result<Box<dyn Judge>> {
    let text = given.display().to_string();
    let is_address = prospect_hub::is_address(&text);
    if !is_address && !given.is_dir() {
        return Ok(Box::new(trained(sweep, text, settings)?));
    }
    if !settings.is_empty() {
        return Err(anyhow!(
            "--set has no effect on {text}, which is a trained reward model; leave it out, or give a model recipe"
        ));
    }
    let (source, folder) = if is_address {
        let folder = fetch(&text)?;
        (RewardModelSource::hub(&text, &folder), folder)
    } else {
        (RewardModelSource::folder(given), given.to_owned())
    };
    let model = PretrainedRewardModel::open(source, &folder, &device::by_local_rank(0)?, beside(sweep));
    Ok(Box::new(model.with_context(|| format!("cannot judge with {text}"))?))
}

/// Fetches a model of the Hub, after its `config.json` has been checked.
fn fetch(address: &str) -> anyhow::Result<PathBuf> {
    let config = prospect_hub::fetch(&format!("{}/config.json", address.trim_end_matches('/')))?;
    SequenceClassifier::check_config(config.parent().unwrap_or(Path::new("")))
        .with_context(|| format!("cannot judge with {address}"))?;
    Ok(prospect_hub::fetch(address)?)
}

/// Returns the folder of the sweep, in which sweeps share caches.
fn beside(sweep: &SweepDir) -> &Path {
    sweep.path().parent().unwrap_or(Path::new(""))
}

fn trained(sweep: &SweepDir, from: String, settings: &[String]) -> anyhow::Result<RewardModel> {
    let recipe = (SOURCES.recipe)(&from)?.read::<ModelFile>()?.resolve(SOURCES.locate)?;
    let mut training = Document::from_text("--set", TRAINING)?;
    settings.iter().try_for_each(|given| training.set_text(given))?;
    let settings = training.read::<TrainFile>()?.resolve()?;
    let mut continued = BTreeSet::new();
    for run in sweep.experiment().context("cannot read the sweep")?.runs {
        continued.extend(sweep.run(&run.id).generations()?.into_iter().map(|said| said.prompt_id));
    }
    let references = beside(sweep).join(".reference");
    Ok(RewardModel::new(from, recipe, settings, continued, &references)?)
}
