//! Recipes: the YAML files as written, and resolving them into a [`Pipeline`].
//!
//! Types named `*File` hold what the user wrote. Resolving checks the values, fills in defaults and
//! finds and hashes the inputs. Settings that need no resolving are defined next to the step or
//! source that reads them.

pub(crate) mod guess;
pub(crate) mod id_list;
mod judgement_choice;
mod limit;
mod locate;
mod pipeline;
mod sniff;
mod source;
mod source_kind;

pub use locate::Locate;
pub use pipeline::{Pipeline, PipelineFile, SplitFile};
pub use source::{HhPart, SourceFile, SourceFiles};
pub use source_kind::SourceKind;
