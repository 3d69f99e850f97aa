//! Overviews: facts about a dataset, plan or device as tables, charts and conversations.
//!
//! An [`Overview`] is formatted as text for a terminal ([`Overview::text`]) and as a self-contained
//! HTML page ([`Overview::html`]). Its strings may come from untrusted data: control characters are
//! escaped in both, and HTML is escaped in the page.

mod histogram_chart;
mod html;
mod line_chart;
mod terminal;

use std::path::{Path, PathBuf};

use prospect_core::visible::visible;
use serde_json::Value;

use crate::{
    ReportError, format,
    render::{figure::Figure, image::write_figure},
};

/// Facts about one subject.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Subject.
    pub title: String,
    /// Introductory lines.
    pub lead: Vec<String>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Sections in order.
    pub sections: Vec<Section>,
}

/// A section of an overview.
#[derive(Debug, Clone)]
pub struct Section {
    /// Title of one to three words.
    pub title: String,
    /// Content in order.
    pub blocks: Vec<ContentBlock>,
}

/// A content block of a section.
#[derive(Debug, Clone)]
pub enum ContentBlock {
    /// A sentence.
    Note(String),
    /// A table.
    Table(DisplayTable),
    /// A histogram.
    Histogram(HistogramChart),
    /// A line chart, which only the page shows.
    LineChart(LineChart),
    /// Conversations.
    Conversations(Vec<Conversation>),
    /// A JSON document, which only the page shows.
    Document(Value),
}

/// A table.
#[derive(Debug, Clone)]
pub struct DisplayTable {
    /// Title; may be empty.
    pub title: String,
    /// Column headings.
    pub columns: Vec<String>,
    /// Rows with one cell per column.
    pub rows: Vec<Vec<TableCell>>,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum TableCell {
    /// Text, aligned left.
    Text(String),
    /// A formatted number, aligned right.
    Number(String),
    /// A share from 0 to 1, shown as a percentage, with a bar in the page.
    Share(f64),
}

/// Histograms of one or more series over the same bins.
#[derive(Debug, Clone)]
pub struct HistogramChart {
    /// Name of the figure, unique in the page.
    pub name: String,
    /// Title.
    pub title: String,
    /// Label of the x axis, with its unit.
    pub label: String,
    /// Bin width; the first bin starts at 0.
    pub width: usize,
    /// True if the last bin includes all larger values.
    pub open: bool,
    /// Series, with the same number of bins.
    pub series: Vec<HistogramSeries>,
}

/// A series of a histogram.
#[derive(Debug, Clone)]
pub struct HistogramSeries {
    /// Name in the legend.
    pub name: String,
    /// Counts by bin.
    pub counts: Vec<u64>,
}

/// A line chart.
#[derive(Debug, Clone)]
pub struct LineChart {
    /// Name of the figure, unique in the page.
    pub name: String,
    /// Title.
    pub title: String,
    /// Caption of one or two sentences.
    pub caption: String,
    /// Label of the x axis, with its unit.
    pub x_label: String,
    /// Label of the y axis, with its unit.
    pub y_label: String,
    /// Horizontal lines.
    pub rules: Vec<ChartRule>,
    /// Curves.
    pub series: Vec<LineSeries>,
}

/// A horizontal line across a chart.
#[derive(Debug, Clone)]
pub struct ChartRule {
    /// Position on the y axis.
    pub y: f64,
    /// Label beside the line.
    pub label: String,
}

/// A curve of a line chart.
#[derive(Debug, Clone)]
pub struct LineSeries {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y) by rising x.
    pub points: Vec<(f64, f64)>,
}

/// A conversation, such as a prompt and its completion.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// Facts about the conversation, of a few words each.
    pub facts: Vec<String>,
    /// Turns in order.
    pub turns: Vec<ConversationTurn>,
}

/// A turn of a conversation.
#[derive(Debug, Clone)]
pub struct ConversationTurn {
    /// Speaker, such as `user` or `assistant`.
    pub role: String,
    /// Text of the turn.
    pub content: String,
    /// Highlights the turn, such as the completion that was judged.
    pub marked: bool,
}

impl ContentBlock {
    /// Returns the figure of a chart.
    fn figure(&self) -> Option<Figure> {
        match self {
            Self::Histogram(chart) => Some(histogram_chart::figure(chart)),
            Self::LineChart(chart) => Some(line_chart::figure(chart)),
            _ => None,
        }
    }
}

impl TableCell {
    /// Creates a cell with a count.
    pub fn count(number: u64) -> Self {
        Self::Number(grouped(number))
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Number(text) => visible(text).into_owned(),
            Self::Share(share) => format::percent(*share),
        }
    }
}

/// Formats a duration: `8.2 s`, `42 s`, `3 min 5 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    format::duration(seconds).replace('\u{a0}', " ")
}

/// Formats a count in groups of three digits, separated by thin spaces: `1 234 567`.
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
    /// Returns the overview as text for a terminal or a file.
    pub fn text(&self) -> String {
        terminal::text(self)
    }

    /// Returns the overview as one self-contained HTML document.
    pub fn html(&self) -> Result<String, ReportError> {
        html::page(self)
    }

    /// Writes the page and its figures (SVG and PNG) into the folder `out`, and returns the path of
    /// the page.
    pub fn write(&self, out: &Path) -> Result<PathBuf, ReportError> {
        for block in self.sections.iter().flat_map(|section| &section.blocks) {
            if let Some(figure) = block.figure() {
                write_figure(&figure, out)?;
            }
        }
        let page = out.join("index.html");
        crate::write_text(&page, &self.html()?)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
