//! Judgements of a prepared dataset that look wrong: signals that need no model, folds to judge
//! each judgement by a policy that never trained on it, and the table of results.

mod cut_off;
mod folds;
mod items;
mod near;
mod signals;
mod table;

pub use folds::{Fold, write_folds};
pub use items::{ItemKind, TriageItem, read_items};
pub use signals::{Signal, mark};
pub use table::{TriageRow, write_table};

#[cfg(test)]
mod tests;
