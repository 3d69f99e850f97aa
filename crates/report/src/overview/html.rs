//! Overviews as HTML pages.

use prospect_core::visible::clipped;
use serde::Serialize;

use super::{
    ContentBlock, Conversation, ConversationTurn, DisplayTable, Overview, Section, TableCell,
    histogram_chart, line_chart,
};
use crate::{
    ReportError, format,
    render::{document::JsonDocument, figure_view::FigureView, templates},
};

/// Maximum number of characters of a turn.
const MAX_CHARACTERS: usize = 4000;

/// Returns the page as one HTML document.
pub(super) fn page(overview: &Overview) -> Result<String, ReportError> {
    let sections = overview.sections.iter().map(SectionView::new).collect::<Result<_, _>>()?;
    let page = OverviewPage {
        title: overview.title.clone(),
        lead: overview.lead.clone(),
        warnings: overview.warnings.clone(),
        sections,
    };
    templates::render("overview.html", page)
}

#[derive(Serialize)]
struct OverviewPage {
    title: String,
    lead: Vec<String>,
    warnings: Vec<String>,
    sections: Vec<SectionView>,
}

#[derive(Serialize)]
struct SectionView {
    title: String,
    anchor: String,
    blocks: Vec<ContentBlockView>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ContentBlockView {
    Note { text: String },
    Table { title: String, columns: Vec<ColumnHeading>, rows: Vec<Vec<TableCellView>> },
    Figure { figure: FigureView },
    Conversations { conversations: Vec<ConversationView> },
    Document { document: JsonDocument },
}

#[derive(Serialize)]
struct ColumnHeading {
    name: String,
    /// Aligns the column right.
    number: bool,
}

#[derive(Serialize)]
struct TableCellView {
    text: String,
    number: bool,
    /// Width of the bar of a share, in percent.
    bar: Option<String>,
}

#[derive(Serialize)]
struct ConversationView {
    facts: Vec<String>,
    turns: Vec<ConversationTurnView>,
}

#[derive(Serialize)]
struct ConversationTurnView {
    role: String,
    content: String,
    marked: bool,
}

impl SectionView {
    fn new(section: &Section) -> Result<Self, ReportError> {
        let anchor = section
            .title
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
        Ok(Self {
            title: section.title.clone(),
            anchor: anchor.collect(),
            blocks: section.blocks.iter().map(ContentBlockView::new).collect::<Result<_, _>>()?,
        })
    }
}

impl ContentBlockView {
    fn new(block: &ContentBlock) -> Result<Self, ReportError> {
        Ok(match block {
            ContentBlock::Note(text) => Self::Note { text: text.clone() },
            ContentBlock::Table(table) => Self::table(table),
            ContentBlock::Histogram(chart) => {
                Self::Figure { figure: FigureView::new(&histogram_chart::figure(chart))? }
            }
            ContentBlock::LineChart(chart) => {
                Self::Figure { figure: FigureView::new(&line_chart::figure(chart))? }
            }
            ContentBlock::Conversations(conversations) => Self::Conversations {
                conversations: conversations.iter().map(ConversationView::new).collect(),
            },
            ContentBlock::Document(value) => Self::Document { document: JsonDocument::new(value) },
        })
    }

    fn table(table: &DisplayTable) -> Self {
        let number = |column: usize| {
            let cell = table.rows.first().and_then(|row| row.get(column));
            cell.is_some_and(|cell| matches!(cell, TableCell::Number(_)))
        };
        let column =
            |(index, name): (usize, &String)| ColumnHeading { name: name.clone(), number: number(index) };
        let cell = |cell: &TableCell| TableCellView {
            text: cell.text(),
            number: matches!(cell, TableCell::Number(_)),
            bar: match cell {
                TableCell::Share(share) => Some(format::fixed(share.clamp(0.0, 1.0) * 100.0, 1)),
                _ => None,
            },
        };
        Self::Table {
            title: table.title.clone(),
            columns: table.columns.iter().enumerate().map(column).collect(),
            rows: table.rows.iter().map(|row| row.iter().map(cell).collect()).collect(),
        }
    }
}

impl ConversationView {
    fn new(conversation: &Conversation) -> Self {
        let turn = |turn: &ConversationTurn| ConversationTurnView {
            role: turn.role.clone(),
            content: clipped(&turn.content, MAX_CHARACTERS).into_owned(),
            marked: turn.marked,
        };
        Self { facts: conversation.facts.clone(), turns: conversation.turns.iter().map(turn).collect() }
    }
}
