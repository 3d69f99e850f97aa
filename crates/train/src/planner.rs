//! Memory planner: training settings that fit a memory budget, and a benchmark that checks the
//! plan.

pub mod benchmark;
mod fit;

pub use fit::{PlanRequest, TrainPlan};
