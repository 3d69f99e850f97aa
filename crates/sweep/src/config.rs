//! Experiment files: the types they are read into, and the settings of each combination.

mod capabilities;
mod combinations;
mod documents;
mod exclude;
mod experiment;
mod groups;
mod loaded;
mod recipes;
mod schema;
mod search;
mod seeds;
mod stop;

pub(crate) use capabilities::TestError;
pub use capabilities::{ChoicesFile, ExactFile, ShotsFile};
pub(crate) use combinations::Choice;
pub(crate) use documents::RunDocuments;
pub(crate) use exclude::{included_combinations, is_seed_excluded, same_value};
pub use experiment::{
    BaseModel, BaselineFile, CheckpointsFile, EvaluateFile, ExperimentFile, GenerationsFile, PrimaryFile,
    ReferenceFile, ReferencesFile, ReportFile,
};
pub use groups::Groups;
pub use loaded::LoadedExperiment;
pub use recipes::{RecipeSources, prepared_dataset};
pub use search::{DrawnFile, HalvingFile, SearchFile};
pub use seeds::SeedsFile;
pub use stop::{AccuracyFloor, StopFile};
