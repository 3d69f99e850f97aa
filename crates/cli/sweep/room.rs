//! Whether a sweep fits into memory: what its plan says of it, and the check before it starts.

use anyhow::bail;
use prospect_core::{memory, progress::say};
use prospect_model::{Place, device};
use prospect_report::overview::{ContentBlock, DisplayTable, Section, TableCell};
use prospect_sweep::{Plan, Room, Spread, rooms};

use crate::plan::{overhead, shown};

/// Bytes that runs may take, where they are known: of this machine, or of the GPU that is this process's.
fn there(spread: Spread, number: usize) -> anyhow::Result<Option<(u64, &'static str)>> {
    let place = Place::here();
    let (bytes, whose) = match place {
        // How many ranks share this machine's memory, a launcher does not say.
        Place::Cpu if spread.ranks > 1 => return Ok(None),
        Place::Cpu => (memory::of_this_machine(), "this machine"),
        Place::Gpu => (device::facts(&device::numbered(number)?)?.free, "the GPU"),
    };
    Ok(bytes.map(|bytes| (bytes.saturating_sub(overhead(place)), whose)))
}

/// What each model takes at most under each objective, as a part of the plan.
pub(super) fn section(plan: &Plan, spread: Spread) -> anyhow::Result<Section> {
    let columns =
        ["model", "objective", "runs at once", "micro-batch", "blocks recomputed", "memory at most"];
    let row = |room: &Room| {
        vec![
            TableCell::Text(room.model.clone()),
            TableCell::Text(room.objective.clone()),
            TableCell::count(room.side_by_side as u64),
            TableCell::count(room.way.micro_batch_size as u64),
            TableCell::Text(format!("{} of {}", room.way.recomputed, room.blocks)),
            TableCell::Number(shown(room.most())),
        ]
    };
    let table = DisplayTable {
        title: String::new(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rooms(plan, spread)?.iter().map(row).collect(),
    };
    Ok(Section {
        title: "Memory, if every sequence is as long as it may be".to_owned(),
        blocks: vec![ContentBlock::Table(table)],
    })
}

/// Refuses a plan of which weights, gradients and moments alone do not fit on the device of this number, and says where long
/// sequences may not.
pub(super) fn check(plan: &Plan, spread: Spread, number: usize) -> anyhow::Result<()> {
    let Some((there, whose)) = there(spread, number)? else { return Ok(()) };
    let rooms = rooms(plan, spread)?;
    let largest = |size: fn(&Room) -> u64| rooms.iter().max_by_key(|room| size(room));
    let what = |room: &Room| {
        let at_once =
            if room.side_by_side > 1 { format!("{} runs of ", room.side_by_side) } else { String::new() };
        format!("{at_once}{} on {}", room.objective, room.model)
    };
    if let Some(room) = largest(Room::least).filter(|room| room.least() > there) {
        bail!(
            "{} take {} for weights, gradients and the optimizer alone, and {whose} has {} for them: lower --jobs, train an \
             adapter (model.lora), keep frozen weights in fewer bits (model.quantization), or take a smaller model; `prospect plan` \
             shows what fits",
            what(room),
            shown(room.least()),
            shown(there)
        );
    }
    if let Some(room) = largest(Room::most).filter(|room| room.most() > there) {
        say(format!(
            "{} may take {} where all sequences are as long as they may be, and {whose} has {}: if it runs out, lower --jobs or \
             train.micro_batch_size, or set --memory",
            what(room),
            shown(room.most()),
            shown(there)
        ));
    }
    Ok(())
}
