//! Completions of all policies to the same prompts, side by side.

use prospect_core::visible::clipped;
use prospect_runs::{Generation, GenerationSource};
use serde::Serialize;

use super::first_and_last_x;
use crate::{
    format,
    sweep_data::{RunGroup, SweepData},
};

/// Maximum number of prompts on the page.
const MAX_PROMPTS: usize = 24;
/// Maximum number of policies per prompt.
const MAX_POLICIES: usize = 12;
/// Maximum number of characters of a text.
const MAX_CHARACTERS: usize = 1500;

/// A prompt with the completions of the policies.
#[derive(Serialize)]
pub(crate) struct PromptView {
    id: String,
    text: String,
    chosen: Option<String>,
    completions: Vec<CompletionView>,
}

#[derive(Serialize)]
struct CompletionView {
    policy: String,
    facts: Vec<String>,
    text: String,
}

/// Returns the prompts of the first seed of each series and x value.
///
/// With more than [`MAX_POLICIES`] policies, only the first and the last x value are included.
pub(crate) fn prompts(sweep: &SweepData) -> Vec<PromptView> {
    let mut groups = sweep.run_groups();
    for group in &mut groups {
        group.runs.retain(|run| !run.generations.is_empty());
        group.runs.truncate(1);
    }
    groups.retain(|group| !group.runs.is_empty());
    first_and_last_x(&mut groups, MAX_POLICIES);
    let Some(first) = groups.first().and_then(|group| group.runs.first()) else { return Vec::new() };
    let prompt = |prompt: &Generation| PromptView {
        id: prompt.prompt_id.chars().take(12).collect(),
        text: clipped(&prompt.prompt, MAX_CHARACTERS).into_owned(),
        chosen: prompt.chosen.as_deref().map(|chosen| clipped(chosen, MAX_CHARACTERS).into_owned()),
        completions: groups
            .iter()
            .filter_map(|group| CompletionView::new(sweep, group, &prompt.prompt_id))
            .collect(),
    };
    first.generations.iter().take(MAX_PROMPTS).map(prompt).collect()
}

/// Returns a sentence on each file that completions were imported from.
pub(crate) fn sources(sweep: &SweepData) -> Vec<String> {
    let mut files: Vec<(&GenerationSource, Vec<String>)> = Vec::new();
    for run in &sweep.runs {
        let Some(source) = &run.generation_source else { continue };
        match files.iter_mut().find(|(known, _)| known.blake3 == source.blake3) {
            Some((_, runs)) => runs.push(sweep.run_name(run)),
            None => files.push((source, vec![sweep.run_name(run)])),
        }
    }
    let sentence = |(source, runs): &(&GenerationSource, Vec<String>)| {
        let model = match source.model.as_str() {
            "" => String::new(),
            model => format!(", model {model}"),
        };
        let digits = source.blake3.get(..16).unwrap_or(&source.blake3);
        format!(
            "Generated outside of this sweep and imported from {} (BLAKE3 {digits}{model}): {}.",
            source.file,
            runs.join("; ")
        )
    };
    files.iter().map(sentence).collect()
}

impl CompletionView {
    /// Creates the view of the completion of a group's first run to a prompt.
    fn new(sweep: &SweepData, group: &RunGroup<'_>, prompt_id: &str) -> Option<Self> {
        let run = group.runs.first()?;
        let generation = run.generations.iter().find(|generation| generation.prompt_id == prompt_id)?;
        let mut facts = vec![generation.mode.to_string(), format::count(generation.tokens, "token")];
        if !generation.ended {
            facts.push("truncated".to_owned());
        }
        facts.extend(generation.utility.map(|utility| format!("utility {}", format::number(utility))));
        let at_x = if sweep.x.values().len() < 2 { String::new() } else { format!(" at {}", group.x_name) };
        Some(Self {
            policy: format!("{}{at_x}", group.series),
            facts,
            text: clipped(&generation.completion, MAX_CHARACTERS).into_owned(),
        })
    }
}
