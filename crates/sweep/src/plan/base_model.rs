//! Experiments about base models, and models that are none.

use prospect_model::{ModelStage, Recipe};
use prospect_runs::TrainedStart;

use super::SweepPlan;
use crate::config::BaseModel;

/// Describes a model that is no base model, or whose stage is unknown.
fn trained_start(recipe: &Recipe) -> Option<TrainedStart> {
    let stage = recipe.start();
    (stage != Some(ModelStage::Base)).then(|| TrainedStart {
        weights: recipe.name.clone(),
        stage: stage.map(|stage| stage.name().to_owned()),
        source: recipe.stage_source.clone(),
    })
}

/// Refuses a model that is no base model where the experiment requires one.
pub(crate) fn check(need: Option<BaseModel>, recipe: &Recipe) -> Result<(), String> {
    match trained_start(recipe) {
        Some(start) if need == Some(BaseModel::Required) => Err(format!(
            "`base_model: required`, but the model is {start}: use a base model, give its `model.stage`, or set \
             base_model=preferred to train anyway with a warning in the verdict"
        )),
        _ => Ok(()),
    }
}

impl SweepPlan {
    /// Returns the models that are no base models, if the experiment is about base models.
    pub(super) fn trained_starts(&self) -> Vec<TrainedStart> {
        let models = self.base_model.map_or(&[][..], |_| &self.models);
        models.iter().filter_map(trained_start).collect()
    }
}
