//! Overview of a dataset: the tables, charts and examples of its summary.

mod quality;

use prospect_data::{BalancedClassWeights, Manifest, Message, Split};
use prospect_query::{
    DatasetSummary, Example, LengthHistogram, Lengths, Rejections, RowCounts, SplitSummary, TextLengths,
};
use prospect_report::overview::{
    self, ContentBlock, Conversation, ConversationTurn, DisplayTable, HistogramSeries, Overview, Section,
    TableCell, grouped,
};

/// Builds the overview of a dataset.
pub(crate) fn overview(name: &str, summary: &DatasetSummary) -> Overview {
    let DatasetSummary { groups, splits, rejected, examples, manifest } = summary;
    let section = |title: &str, blocks: Vec<ContentBlock>| Section { title: title.to_owned(), blocks };
    let lead = |(split, of): (&Split, &SplitSummary)| {
        format!(
            "{split}: {} rows ({} desirable, {} undesirable), {} pairs",
            grouped(of.counts.desirable + of.counts.undesirable),
            grouped(of.counts.desirable),
            grouped(of.counts.undesirable),
            grouped(of.counts.pairs)
        )
    };
    let counts = groups.iter().map(|group| {
        let RowCounts { desirable, undesirable, pairs } = group.counts;
        vec![
            TableCell::Text(group.split.to_string()),
            TableCell::Text(group.source.clone()),
            TableCell::Text(group.domain.clone()),
            TableCell::count(desirable),
            TableCell::count(undesirable),
            share(desirable, desirable + undesirable),
            TableCell::count(pairs),
        ]
    });
    let heads = ["split", "source", "domain", "desirable", "undesirable", "share desirable", "pairs"];
    let mut rows = vec![table("", &heads, counts)];
    rows.extend(quality::logs(manifest));
    let texts = examples.iter().map(example).collect();
    Overview {
        title: format!("Dataset {name}"),
        lead: splits.iter().map(lead).collect(),
        warnings: manifest.warnings.clone(),
        sections: vec![
            section("Rows and pairs", rows),
            section("Class balance", vec![balance(summary), weights_note(manifest)]),
            section("Lengths", lengths(summary)),
            section("Noise", vec![noise(summary)]),
            section("Source quality", quality::quality(manifest)),
            section("Contradictory labels", contradictions(manifest)),
            section("Rejected rows", rejections(rejected, manifest)),
            section("Examples", vec![ContentBlock::Conversations(texts)]),
            section("All counts", manifest_document(manifest)),
        ],
    }
}

fn table(title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<TableCell>>) -> ContentBlock {
    let columns = heads.iter().map(|head| (*head).to_owned()).collect();
    ContentBlock::Table(DisplayTable { title: title.to_owned(), columns, rows: rows.collect() })
}

fn share(part: u64, whole: u64) -> TableCell {
    TableCell::Share(part as f64 / whole.max(1) as f64)
}

fn ratio(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "–".to_owned() }
}

/// Builds the table of rows per class, and of their ratio by count and by weight.
fn balance(summary: &DatasetSummary) -> ContentBlock {
    let rows = summary.splits.iter().map(|(split, of)| {
        let RowCounts { desirable, undesirable, .. } = of.counts;
        vec![
            TableCell::Text(split.to_string()),
            TableCell::count(desirable),
            TableCell::count(undesirable),
            TableCell::Number(ratio(desirable as f64 / undesirable as f64)),
            TableCell::Number(ratio(of.weights.0 / of.weights.1)),
        ]
    });
    table("", &["split", "desirable", "undesirable", "desirable / undesirable", "by row weights"], rows)
}

/// Describes the class weights that balance unequal classes.
fn weights_note(manifest: &Manifest) -> ContentBlock {
    ContentBlock::Note(match manifest.class_weights {
        None => "All training rows have one class: KTO's class weights have nothing to balance.".to_owned(),
        Some(BalancedClassWeights { desirable_weight, undesirable_weight, balance, unweighted_balance }) => {
            format!(
                "In training (λ_D·n_D)/(λ_U·n_U) is {} with weights of 1 and {} with `desirable_weight: {}` and \
                 `undesirable_weight: {}`; the KTO paper recommends 1 to 4/3, its later versions 1 to 3/2.",
                ratio(unweighted_balance),
                ratio(balance),
                ratio(desirable_weight),
                ratio(undesirable_weight),
            )
        }
    })
}

fn lengths(summary: &DatasetSummary) -> Vec<ContentBlock> {
    let mut rows = Vec::new();
    let mut blocks = Vec::new();
    for (split, of) in &summary.splits {
        let units = [("characters", Some(&of.characters)), ("tokens", of.tokens.as_ref())];
        for (unit, lengths) in units.into_iter().filter_map(|(unit, lengths)| Some((unit, lengths?))) {
            let TextLengths { prompt, desirable, undesirable } = lengths;
            for (what, lengths) in [
                ("prompt", prompt),
                ("desirable completion", desirable),
                ("undesirable completion", undesirable),
            ] {
                rows.extend(length_row(*split, unit, what, lengths));
            }
            let prompts = histogram(*split, unit, "prompt", &[("prompts", prompt)]);
            let completions = [("desirable", desirable), ("undesirable", undesirable)];
            blocks
                .extend([prompts, histogram(*split, unit, "completion", &completions)].into_iter().flatten());
        }
    }
    let heads = ["split", "text", "unit", "mean", "shortest", "median", "95th percentile", "longest"];
    blocks.insert(0, table("", &heads, rows.into_iter()));
    blocks
}

fn length_row(split: Split, unit: &str, what: &str, lengths: &Lengths) -> Option<Vec<TableCell>> {
    let quantile = |share| lengths.quantile(share).map(|length| TableCell::count(length as u64));
    Some(vec![
        TableCell::Text(split.to_string()),
        TableCell::Text(what.to_owned()),
        TableCell::Text(unit.to_owned()),
        TableCell::Number(format!("{:.1}", lengths.mean()?)),
        quantile(0.0)?,
        quantile(0.5)?,
        quantile(0.95)?,
        quantile(1.0)?,
    ])
}

fn histogram(split: Split, unit: &str, what: &str, of: &[(&str, &Lengths)]) -> Option<ContentBlock> {
    let shown: Vec<_> = of.iter().filter(|(_, lengths)| lengths.count() > 0).collect();
    if shown.is_empty() {
        return None;
    }
    let lengths: Vec<_> = shown.iter().map(|(_, lengths)| *lengths).collect();
    let LengthHistogram { width, open, counts } = LengthHistogram::new(&lengths);
    let series = shown.iter().zip(counts);
    Some(ContentBlock::Histogram(overview::HistogramChart {
        name: format!("{split}-{what}-{unit}"),
        title: format!("Length of {what}s, {split}"),
        label: unit.to_owned(),
        width,
        open,
        series: series
            .map(|((name, _), counts)| HistogramSeries { name: (*name).to_owned(), counts })
            .collect(),
    }))
}

/// Builds the table of rows by kind of noise.
fn noise(summary: &DatasetSummary) -> ContentBlock {
    let rows = summary.splits.iter().flat_map(|(split, of)| {
        of.noise.iter().map(move |(kind, counts)| {
            let all = of.counts.desirable + of.counts.undesirable;
            vec![
                TableCell::Text(split.to_string()),
                TableCell::Text(kind.clone()),
                TableCell::count(counts.desirable),
                TableCell::count(counts.undesirable),
                share(counts.desirable + counts.undesirable, all),
                TableCell::count(counts.pairs),
            ]
        })
    });
    let heads = ["split", "noise", "desirable before", "undesirable before", "share of the split", "pairs"];
    table("", &heads, rows)
}

/// Describes the completions with both labels, and the effect of each policy on them.
fn contradictions(manifest: &Manifest) -> Vec<ContentBlock> {
    let counts = &manifest.contradictions;
    if counts.completions == 0 {
        return vec![ContentBlock::Note(
            "No completion has both labels: every policy gives the same rows.".to_owned(),
        )];
    }
    let used = manifest.contradiction_policy();
    let note = format!(
        "Completions with both labels: {}, in {} input rows. Rows that each policy drops, and pairs that lose a side:",
        grouped(counts.completions),
        grouped(counts.rows)
    );
    let rows = counts.policies.iter().map(|effect| {
        let policy = effect.policy;
        vec![
            TableCell::Text(if used == Some(policy) {
                format!("{policy} (used here)")
            } else {
                policy.to_string()
            }),
            TableCell::count(effect.desirable),
            TableCell::count(effect.undesirable),
            TableCell::count(effect.pairs),
        ]
    });
    vec![
        ContentBlock::Note(note),
        table("", &["policy", "desirable rows", "undesirable rows", "pairs"], rows),
    ]
}

fn rejections(rejected: &Rejections, manifest: &Manifest) -> Vec<ContentBlock> {
    if rejected.rows == 0 {
        return vec![ContentBlock::Note("No row was rejected.".to_owned())];
    }
    let by = |counts: &std::collections::BTreeMap<String, u64>| {
        let mut counts: Vec<_> = counts.iter().map(|(what, rows)| (what.clone(), *rows)).collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let read = manifest.reading.read;
        counts
            .into_iter()
            .map(move |(what, rows)| vec![TableCell::Text(what), TableCell::count(rows), share(rows, read)])
    };
    let examples = rejected.examples.iter().map(|row| {
        let place = format!("{}:{}", row.file, row.line);
        [&row.reason, &place, &row.detail].map(|text| TableCell::Text(text.clone())).to_vec()
    });
    vec![
        table("By reason", &["reason", "rows", "share of rows read"], by(&rejected.by_reason)),
        table("By file", &["file", "rows", "share of rows read"], by(&rejected.by_file)),
        table("First row of each reason", &["reason", "file and line", "detail"], examples),
    ]
}

fn example(row: &Example) -> Conversation {
    let label = |label: bool| if label { "desirable" } else { "undesirable" };
    let mut facts = vec![row.split.to_string(), label(row.label).to_owned()];
    if row.noise != "none" {
        facts.push(format!("noise {}, {} before", row.noise, label(row.original_label)));
    }
    facts.extend([row.source.clone(), row.domain.clone()]);
    facts.extend(row.score.map(|score| format!("score {score}")));
    facts.push(row.id.clone());
    let turn = |marked: bool| {
        move |message: &Message| ConversationTurn {
            role: message.role.clone(),
            content: message.content.clone(),
            marked,
        }
    };
    let turns = row.prompt.iter().map(turn(false)).chain(row.completion.iter().map(turn(true)));
    Conversation { facts, turns: turns.collect() }
}

fn manifest_document(manifest: &Manifest) -> Vec<ContentBlock> {
    serde_json::to_value(manifest).ok().map(ContentBlock::Document).into_iter().collect()
}
