//! Near duplicates with opposite labels, by MinHash of prompts and completions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::{ItemKind, TriageItem};
use crate::{
    Message,
    table::minhash::{Banding, Signature},
};

/// Smallest similarity of two completions, and of the last turns of their prompts.
const TEXTS: f64 = 0.8;

/// Smallest similarity of two prompts: they share most of a long conversation easily.
const PROMPTS: f64 = 0.9;

/// Most completions with the opposite label that one is compared with in a bucket.
const COMPARED: usize = 64;

/// Signatures of a prompt.
struct PromptSignatures {
    whole: Signature,
    last_turn: Signature,
}

impl PromptSignatures {
    fn new(prompt: &[Message]) -> Self {
        Self {
            whole: Signature::new(prompt),
            last_turn: Signature::new(&prompt[prompt.len().saturating_sub(1)..]),
        }
    }

    fn is_near(&self, other: &Self) -> bool {
        self.whole.similarity(&other.whole) >= PROMPTS && self.last_turn.similarity(&other.last_turn) >= TEXTS
    }
}

/// Signatures of the completions of a judgement: chosen and rejected, or one.
struct Sides {
    completion: Signature,
    rejected: Option<Signature>,
}

impl Sides {
    fn new(item: &TriageItem) -> Self {
        Self {
            completion: Signature::new(&item.completion),
            rejected: item.rejected.as_deref().map(Signature::new),
        }
    }
}

/// Returns pairs of judgements of one kind, by index, that nearly duplicate each other and have
/// opposite labels: thumbs up and down, or pairs with exchanged sides. Exact duplicates are not
/// among them. A heuristic: prompts are compared with one prompt of each bucket only.
pub(super) fn opposites(items: &[TriageItem]) -> BTreeSet<(usize, usize)> {
    let clusters = prompt_clusters(items);
    let mut sizes = vec![0; items.len()];
    for cluster in &clusters {
        sizes[*cluster] += 1;
    }
    // A judgement alone in its cluster needs no signatures.
    let sides: Vec<Option<Sides>> = items
        .par_iter()
        .zip(&clusters)
        .map(|(item, cluster)| (sizes[*cluster] > 1).then(|| Sides::new(item)))
        .collect();
    // Preferred and rejected completions by prompt cluster and band.
    let banding = Banding::for_threshold(TEXTS);
    let mut buckets: HashMap<(ItemKind, usize, usize, u64), [Vec<usize>; 2]> = HashMap::new();
    for (index, (item, sides)) in items.iter().zip(&sides).enumerate() {
        let Some(sides) = sides else { continue };
        let mut file = |signature: &Signature, preferred: bool| {
            for (band, hash) in banding.buckets(signature) {
                let bucket = buckets.entry((item.kind, clusters[index], band, hash)).or_default();
                bucket[usize::from(preferred)].push(index);
            }
        };
        file(&sides.completion, item.label);
        if let Some(rejected) = &sides.rejected {
            file(rejected, false);
        }
    }
    let candidates: BTreeSet<(usize, usize)> = buckets
        .into_values()
        .flat_map(|[rejected, preferred]| {
            let pairs = preferred.into_iter().flat_map(move |up| {
                let others = rejected.iter().filter(move |down| **down != up).take(COMPARED);
                others.map(move |down| (up.min(*down), up.max(*down))).collect::<Vec<_>>()
            });
            pairs.collect::<Vec<_>>()
        })
        .collect();
    let prompts = |index: usize| PromptSignatures::new(&items[index].prompt);
    candidates
        .into_par_iter()
        .filter(|(one, other)| match (&sides[*one], &sides[*other]) {
            (Some(first), Some(second)) => is_opposite(first, second, [&items[*one], &items[*other]]),
            _ => false,
        })
        .filter(|(one, other)| {
            items[*one].prompt_id == items[*other].prompt_id || prompts(*one).is_near(&prompts(*other))
        })
        .collect()
}

/// Returns whether completions nearly agree with the labels exchanged.
fn is_opposite(one: &Sides, other: &Sides, items: [&TriageItem; 2]) -> bool {
    let [first, second] = items;
    match (&one.rejected, &other.rejected) {
        (Some(rejected), Some(other_rejected)) => {
            let crossed = [one.completion.similarity(other_rejected), rejected.similarity(&other.completion)];
            let straight =
                [one.completion.similarity(&other.completion), rejected.similarity(other_rejected)];
            let is_exact = first.prompt_id == second.prompt_id
                && Some(&first.completion) == second.rejected.as_ref()
                && Some(&second.completion) == first.rejected.as_ref();
            !is_exact
                && crossed.iter().all(|similarity| *similarity >= TEXTS)
                && crossed.iter().sum::<f64>() > straight.iter().sum::<f64>()
        }
        (None, None) => {
            first.label != second.label
                && first.content_id != second.content_id
                && one.completion.similarity(&other.completion) >= TEXTS
        }
        _ => false,
    }
}

/// Returns the cluster of the prompt of each judgement: near duplicates share one.
fn prompt_clusters(items: &[TriageItem]) -> Vec<usize> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        first.entry(&item.prompt_id).or_insert(index);
    }
    let distinct: Vec<usize> = first.values().copied().collect();
    let signatures: Vec<PromptSignatures> =
        distinct.par_iter().map(|index| PromptSignatures::new(&items[*index].prompt)).collect();
    let banding = Banding::for_threshold(PROMPTS);
    let mut clusters: Vec<usize> = (0..distinct.len()).collect();
    let mut leaders: HashMap<(usize, u64), usize> = HashMap::new();
    for (prompt, signature) in signatures.iter().enumerate() {
        for bucket in banding.buckets(&signature.whole) {
            let leader = *leaders.entry(bucket).or_insert(prompt);
            if leader != prompt && signature.is_near(&signatures[leader]) {
                join(&mut clusters, prompt, leader);
            }
        }
    }
    let position: BTreeMap<&str, usize> = first.keys().copied().zip(0..).collect();
    items
        .iter()
        .map(|item| position.get(&*item.prompt_id).map_or(0, |prompt| root(&clusters, *prompt)))
        .collect()
}

fn root(clusters: &[usize], mut prompt: usize) -> usize {
    while clusters[prompt] != prompt {
        prompt = clusters[prompt];
    }
    prompt
}

fn join(clusters: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root(clusters, one), root(clusters, other));
    clusters[one.max(other)] = one.min(other);
}
