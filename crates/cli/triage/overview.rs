//! Results of a triage as tables for the terminal, and as a page with texts.

use prospect_core::visible::clipped;
use prospect_data::{ItemKind, Message};
use prospect_report::overview::{
    ContentBlock, Conversation, ConversationTurn, DisplayTable, HistogramChart, HistogramSeries, Overview,
    Section, TableCell, grouped,
};
use prospect_runs::Estimate;
use prospect_sweep::{RankedItem, Ranking};

use super::summary::{PolicyResults, TriageSummary};

/// Rows of the terminal's table, unless asked for others.
const ROWS: usize = 20;

/// Judgements with texts on the page, unless asked for others.
const TEXTS: usize = 200;

/// Characters of a prompt in a table.
const EXCERPT: usize = 48;

/// Bins of the disagreement, in percent.
const BIN: usize = 5;

/// Builds the overview for the terminal, without texts.
pub(super) fn terminal(summary: &TriageSummary, ranking: &Ranking, show: Option<usize>) -> Overview {
    let rows = section("Judgements to look at", vec![table_of(ranking, show.unwrap_or(ROWS))]);
    Overview { sections: sections(summary, ranking).into_iter().chain([rows]).collect(), ..head(summary) }
}

/// Builds the page.
pub(super) fn page(name: &str, summary: &TriageSummary, ranking: &Ranking, show: Option<usize>) -> Overview {
    let ranked = ranking.items.iter().filter(|item| item.rank.is_some());
    let texts: Vec<Conversation> = ranked.take(show.unwrap_or(TEXTS)).map(conversation).collect();
    let note = format!(
        "The {} judgements to look at first. Drop or flip those that are wrong with `exclude` and `flip` of \
         the recipe of {name}; suspects.txt has their entries.",
        texts.len()
    );
    let texts =
        section("Judgements to look at", vec![ContentBlock::Note(note), ContentBlock::Conversations(texts)]);
    Overview { sections: sections(summary, ranking).into_iter().chain([texts]).collect(), ..head(summary) }
}

fn section(title: &str, blocks: Vec<ContentBlock>) -> Section {
    Section { title: title.to_owned(), blocks }
}

fn head(summary: &TriageSummary) -> Overview {
    let mut lead = vec![format!(
        "{} judgements, {} with a signal against their label",
        grouped(summary.judgements as u64),
        grouped(summary.with_signals as u64)
    )];
    let mut warnings = Vec::new();
    for results in &summary.policies {
        let kind = plural(results.kind);
        if results.is_at_chance() {
            warnings.push(format!(
                "held-out policies are not shown to rank {kind} better than chance, so the order of {kind} may mean nothing; \
                 train longer, use a better model or more data"
            ));
        }
        let unscored = results.judgements - results.scored;
        if unscored > 0 {
            lead.push(format!("{unscored} {kind} are too long for the policies and have no score"));
        }
    }
    if summary.policies.is_empty() {
        lead.push("ranked by signals only; --model ranks all judgements by held-out policies".to_owned());
    }
    Overview { title: format!("Labels of {}", summary.dataset), lead, warnings, sections: Vec::new() }
}

fn plural(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Pair => "pairs",
        ItemKind::Thumb => "thumbs",
    }
}

/// Formats a share with its interval, in percent.
fn percent(estimate: Estimate) -> String {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(|share| 100.0 * share);
    format!("{value:.1} % ({low:.1} to {high:.1})")
}

fn table(title: &str, heads: &[&str], rows: Vec<Vec<TableCell>>) -> ContentBlock {
    let columns = heads.iter().map(|head| (*head).to_owned()).collect();
    ContentBlock::Table(DisplayTable { title: title.to_owned(), columns, rows })
}

/// Sections that the terminal and the page share.
fn sections(summary: &TriageSummary, ranking: &Ranking) -> Vec<Section> {
    let rows = summary.signals.iter().map(|count| {
        let cell = |text: &str| TableCell::Text(text.to_owned());
        vec![
            cell(&count.signal.to_string()),
            cell(count.signal.describe()),
            TableCell::count(count.judgements as u64),
        ]
    });
    let mut sections = vec![section(
        "Signals without a model",
        vec![table("", &["signal", "meaning", "judgements"], rows.collect())],
    )];
    if !summary.policies.is_empty() {
        let mut blocks: Vec<ContentBlock> = summary.policies.iter().flat_map(policy_notes).collect();
        blocks.push(histogram(ranking));
        sections.push(section("Held-out policies", blocks));
    }
    sections.extend(known_flips(summary));
    sections
}

fn policy_notes(results: &PolicyResults) -> Vec<ContentBlock> {
    let PolicyResults { kind, scored, agreement, flipped_at_most, no_bound, .. } = results;
    let what = match kind {
        ItemKind::Pair => "share of pairs that held-out policies rank as labelled",
        ItemKind::Thumb => "AUC of thumbs under held-out policies",
    };
    let share = match (flipped_at_most, no_bound) {
        (Some(bound), _) => format!(
            "at most {:.1} % of the {scored} {} have flipped labels (upper end of a 95 % interval; sure mistakes of the \
             policies count as flips)",
            100.0 * bound,
            plural(*kind)
        ),
        (None, reason) => format!("no bound on flipped labels: {}", reason.unwrap_or_default()),
    };
    vec![ContentBlock::Note(format!("{what}: {}", percent(*agreement))), ContentBlock::Note(share)]
}

/// Builds the histogram of disagreements.
fn histogram(ranking: &Ranking) -> ContentBlock {
    let mut counts = vec![0; 100 / BIN];
    for disagreement in ranking.items.iter().filter_map(|item| item.disagreement) {
        let bin = ((100.0 * disagreement) as usize / BIN).min(counts.len() - 1);
        counts[bin] += 1;
    }
    ContentBlock::Histogram(HistogramChart {
        name: "disagreement".to_owned(),
        title: "Disagreement of held-out policies".to_owned(),
        label: "probability of the opposite label, in percent".to_owned(),
        width: BIN,
        open: false,
        series: vec![HistogramSeries { name: "judgements".to_owned(), counts }],
    })
}

/// Builds the section that compares the ranking with flips that noise made.
fn known_flips(summary: &TriageSummary) -> Option<Section> {
    let mut rows = Vec::new();
    for results in &summary.policies {
        let Some(known) = &results.known_flips else { continue };
        let row = |measure: String, value: Estimate| {
            let kind = TableCell::Text(plural(results.kind).to_owned());
            vec![kind, TableCell::Text(measure), TableCell::Number(percent(value))]
        };
        let base = known.flipped as f64 / results.scored as f64;
        let cells = |text: &str| TableCell::Text(text.to_owned());
        rows.push(vec![
            cells(plural(results.kind)),
            cells("labels that noise flipped"),
            TableCell::Number(format!("{} of {} ({:.1} %)", known.flipped, results.scored, 100.0 * base)),
        ]);
        rows.push(row("AUC of the ranking".to_owned(), known.auc));
        rows.extend(
            known
                .precision
                .iter()
                .map(|precision| row(format!("precision in the top {}", precision.top), precision.share)),
        );
    }
    (!rows.is_empty()).then(|| section("Known flips", vec![table("", &["", "measure", "value"], rows)]))
}

/// Builds the table of the judgements to look at.
fn table_of(ranking: &Ranking, show: usize) -> ContentBlock {
    let ranked: Vec<&RankedItem> =
        ranking.items.iter().filter(|item| item.rank.is_some()).take(show).collect();
    if ranked.is_empty() {
        return ContentBlock::Note("Nothing speaks against any label.".to_owned());
    }
    let rows = ranked.into_iter().map(|ranked| {
        let RankedItem { item, score, disagreement, rank, .. } = ranked;
        let number = |value: Option<f64>, digits: usize| {
            TableCell::Number(value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}")))
        };
        let prompt = item.prompt.last().map_or("", |message| message.content.as_str());
        vec![
            TableCell::count(rank.unwrap_or_default() as u64),
            TableCell::Text(item.id.clone()),
            TableCell::Text(label(ranked).to_owned()),
            number(*disagreement, 3),
            number(*score, 2),
            TableCell::Text(ranked.row().signals()),
            TableCell::Text(clipped(&prompt.replace('\n', " "), EXCERPT).into_owned()),
        ]
    });
    let heads = ["rank", "id", "label", "disagreement", "score", "signals", "prompt"];
    table("", &heads, rows.collect())
}

fn label(ranked: &RankedItem) -> &'static str {
    match (ranked.item.kind, ranked.item.label) {
        (ItemKind::Pair, _) => "pair",
        (ItemKind::Thumb, true) => "desirable",
        (ItemKind::Thumb, false) => "undesirable",
    }
}

/// Builds the texts of a judgement.
fn conversation(ranked: &RankedItem) -> Conversation {
    let RankedItem { item, fold, score, disagreement, rank } = ranked;
    let mut facts = vec![format!("rank {}", rank.unwrap_or_default()), label(ranked).to_owned()];
    facts.extend(disagreement.map(|value| format!("disagreement {value:.3}")));
    facts.extend(score.map(|value| format!("score {value:.2}")));
    facts.extend(item.signals.iter().map(ToString::to_string));
    facts.extend(item.counterpart.as_ref().map(|id| format!("see {id}")));
    facts.extend(fold.map(|fold| format!("fold {fold}")));
    facts.extend([item.split.to_string(), item.source.clone(), item.domain.clone()]);
    for (name, value) in ["score of the source", "of the rejected completion"].into_iter().zip(item.scores) {
        facts.extend(value.map(|value| format!("{name} {value}")));
    }
    facts.push(item.id.clone());
    facts.retain(|fact| !fact.is_empty());
    let turn = |role: &str, message: &Message, marked: bool| ConversationTurn {
        role: role.to_owned(),
        content: message.content.clone(),
        marked,
    };
    let mut turns: Vec<ConversationTurn> =
        item.prompt.iter().map(|message| turn(&message.role, message, false)).collect();
    let preferred = if item.rejected.is_some() { "chosen" } else { label(ranked) };
    turns.extend(item.completion.iter().map(|message| turn(preferred, message, true)));
    turns.extend(item.rejected.iter().flatten().map(|message| turn("rejected", message, true)));
    Conversation { facts, turns }
}
