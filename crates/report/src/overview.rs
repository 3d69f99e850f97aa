//! A page of facts about one thing: sections of tables, histograms and texts, as plain values.
//!
//! The same [`Overview`] becomes lines for a terminal ([`Overview::text`]) and a self-contained page
//! ([`Overview::html`]). Everything in it may come from data: control characters are written out, HTML is escaped.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{ReportError, figure::Figure, text};

mod curves;
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
    /// Curves over one variable.
    Curves(Curves),
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

/// Curves over one variable.
#[derive(Debug, Clone)]
pub struct Curves {
    /// Names it within the page.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// How to read it, in a sentence or two.
    pub caption: String,
    /// What is on the x axis, with its unit.
    pub x_label: String,
    /// What is on the y axis, with its unit.
    pub y_label: String,
    /// Values of y worth a line across, with a word each.
    pub rules: Vec<(f64, String)>,
    /// Names and points of the curves.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
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

impl Block {
    /// The figure that it is, if it is one.
    fn figure(&self) -> Option<Figure> {
        match self {
            Self::Histogram(of) => Some(histogram::figure(of)),
            Self::Curves(of) => Some(curves::figure(of)),
            _ => None,
        }
    }
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

/// A duration to read: `8.2 s`, `42 s`, `3 min 5 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    text::duration(seconds).replace('\u{a0}', " ")
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

    /// Writes the page into the folder `out`, with every figure as SVG and PNG beside it, and returns the page's path.
    pub fn write(&self, out: &Path) -> Result<PathBuf, ReportError> {
        for block in self.sections.iter().flat_map(|section| &section.blocks) {
            if let Some(figure) = block.figure() {
                crate::write_figure(&figure, out)?;
            }
        }
        let page = out.join("index.html");
        crate::write_text(&page, &self.html()?)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
