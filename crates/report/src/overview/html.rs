//! An overview as a page: what the template is given.

use prospect_core::visible::clipped;
use serde::Serialize;

use super::{Block, Cell, Overview, Section, Table, Text, Turn, curves, histogram};
use crate::{
    ReportError,
    page::{Document, FigureView, rendered},
    text,
};

/// Characters of a turn that are shown.
const LONGEST: usize = 4000;

pub(super) fn page(overview: &Overview) -> Result<String, ReportError> {
    let sections = overview.sections.iter().map(SectionView::of).collect::<Result<_, _>>()?;
    let page = PageView {
        title: overview.title.clone(),
        lead: overview.lead.clone(),
        warnings: overview.warnings.clone(),
        sections,
    };
    rendered("overview.html", page)
}

#[derive(Serialize)]
struct PageView {
    title: String,
    lead: Vec<String>,
    warnings: Vec<String>,
    sections: Vec<SectionView>,
}

#[derive(Serialize)]
struct SectionView {
    title: String,
    anchor: String,
    blocks: Vec<BlockView>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum BlockView {
    Note { text: String },
    Table { title: String, columns: Vec<Column>, rows: Vec<Vec<CellView>> },
    Figure { figure: FigureView },
    Texts { texts: Vec<TextView> },
    Document { document: Document },
}

#[derive(Serialize)]
struct Column {
    name: String,
    number: bool,
}

#[derive(Serialize)]
struct CellView {
    text: String,
    number: bool,
    /// Width of the bar, in percent.
    bar: Option<String>,
}

#[derive(Serialize)]
struct TextView {
    facts: Vec<String>,
    turns: Vec<TurnView>,
}

#[derive(Serialize)]
struct TurnView {
    role: String,
    content: String,
    marked: bool,
}

impl SectionView {
    fn of(section: &Section) -> Result<Self, ReportError> {
        let anchor = section
            .title
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
        Ok(Self {
            title: section.title.clone(),
            anchor: anchor.collect(),
            blocks: section.blocks.iter().map(BlockView::of).collect::<Result<_, _>>()?,
        })
    }
}

impl BlockView {
    fn of(block: &Block) -> Result<Self, ReportError> {
        Ok(match block {
            Block::Note(text) => Self::Note { text: text.clone() },
            Block::Table(table) => Self::table(table),
            Block::Histogram(of) => Self::Figure { figure: FigureView::of(&histogram::figure(of))? },
            Block::Curves(of) => Self::Figure { figure: FigureView::of(&curves::figure(of))? },
            Block::Texts(texts) => Self::Texts { texts: texts.iter().map(TextView::of).collect() },
            Block::Document(value) => Self::Document { document: Document::of(value) },
        })
    }

    fn table(table: &Table) -> Self {
        let number = |column: usize| {
            let cell = table.rows.first().and_then(|row| row.get(column));
            cell.is_some_and(|cell| matches!(cell, Cell::Number(_)))
        };
        let column = |(index, name): (usize, &String)| Column { name: name.clone(), number: number(index) };
        let cell = |cell: &Cell| CellView {
            text: cell.text(),
            number: matches!(cell, Cell::Number(_)),
            bar: match cell {
                Cell::Share(share) => Some(text::fixed(share.clamp(0.0, 1.0) * 100.0, 1)),
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

impl TextView {
    fn of(text: &Text) -> Self {
        let turn = |turn: &Turn| TurnView {
            role: turn.role.clone(),
            content: clipped(&turn.content, LONGEST).into_owned(),
            marked: turn.marked,
        };
        Self { facts: text.facts.clone(), turns: text.turns.iter().map(turn).collect() }
    }
}
