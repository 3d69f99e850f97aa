//! A page of facts about one thing: sections of tables, histograms and texts, as plain values.
//!
//! The same [`Overview`] becomes lines for a terminal ([`Overview::text`]) and a self-contained page
//! ([`Overview::html`]). Everything in it may come from data: control characters are written out, HTML is escaped.

use serde_json::Value;

use crate::ReportError;

mod histogram;
mod html;
mod lines;

/// A page of facts about one thing.
#[derive(Debug, Clone)]
pub struct Overview {
    /// What it is about.
    pub title: String,
    /// What there is to say first.
    pub lead: Vec<String>,
    /// What a reader should be warned of.
    pub warnings: Vec<String>,
    /// The sections, in order.
    pub sections: Vec<Section>,
}

/// Part of an overview.
#[derive(Debug, Clone)]
pub struct Section {
    /// What it is about, in one to three words.
    pub title: String,
    /// What it shows.
    pub blocks: Vec<Block>,
}

/// Something shown.
#[derive(Debug, Clone)]
pub enum Block {
    /// A sentence.
    Note(String),
    /// A table.
    Table(Table),
    /// How often lengths or the like occur.
    Histogram(Histogram),
    /// Conversations to read.
    Texts(Vec<Text>),
    /// A JSON document; only the page shows it.
    Document(Value),
}

/// A table.
#[derive(Debug, Clone)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The heads of its columns.
    pub columns: Vec<String>,
    /// Its rows, each with a cell a column.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number, already in words.
    Number(String),
    /// A share of a whole, 0 to 1: a percentage, with a bar on the page.
    Share(f64),
}

/// How often values occur, for one or more series over the same bins.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// Names it within the page.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// What is on the x axis, with its unit.
    pub label: String,
    /// Width of a bin; the first begins at 0.
    pub width: usize,
    /// Whether the last bin holds everything beyond it too.
    pub open: bool,
    /// Names and counts of the series.
    pub series: Vec<(String, Vec<u64>)>,
}

/// A conversation to read.
#[derive(Debug, Clone)]
pub struct Text {
    /// What is to know of it, in a few words each.
    pub facts: Vec<String>,
    /// Who says what.
    pub turns: Vec<Turn>,
}

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Who speaks.
    pub role: String,
    /// What is said.
    pub content: String,
    /// Whether this turn is what the row is about.
    pub marked: bool,
}

impl Cell {
    /// A number.
    pub fn count(number: u64) -> Self {
        Self::Number(grouped(number))
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Number(text) => prospect_core::visible::visible(text).into_owned(),
            Self::Share(share) => crate::text::percent(*share),
        }
    }
}

/// A count with thin groups of three digits: `1 234 567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

impl Overview {
    /// The facts as lines for a terminal or a file.
    pub fn text(&self) -> String {
        lines::text(self)
    }

    /// The facts as one HTML document that needs nothing beside it.
    pub fn html(&self) -> Result<String, ReportError> {
        html::page(self)
    }
}

#[cfg(test)]
mod tests;
