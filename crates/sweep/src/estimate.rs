//! Estimates of memory, time and training length, before anything is trained.

mod cards;
mod evaluation;
mod lengths;
mod memory;
mod prices;
mod remaining;
mod schedule;
mod tests_cost;
mod time;

pub use cards::{ASSUMED_RATE, CARDS, CardEstimate, CardFit, completion_operations, estimate_cards};
pub use evaluation::EvaluationCost;
pub use memory::{MemoryEstimate, Parallelism, estimate_memory};
pub use prices::{DeviceCost, DevicePrice, PricesFile};
pub use remaining::{RemainingWork, TrainingCost, remaining_work};
pub use schedule::{SeriesSchedule, TrainingSchedule, training_schedule};
pub(crate) use schedule::{completions_per_epoch, count_dataset};
pub use time::{RunGroupCost, RunStart, SweepCost, estimate_time};
