//! Tests of the output of overviews.

use super::*;
use crate::render::figure::Content;

const HOSTILE: &str = "<script>alert('x')</script>\u{1b}[31m\u{202e}";

fn histogram_series(name: &str, counts: Vec<u64>) -> HistogramSeries {
    HistogramSeries { name: name.to_owned(), counts }
}

fn overview() -> Overview {
    let table = DisplayTable {
        title: "By domain".to_owned(),
        columns: ["Domain", "Rows", "Desirable"].map(str::to_owned).to_vec(),
        rows: vec![
            vec![TableCell::Text("askdocs".to_owned()), TableCell::count(1_234_567), TableCell::Share(0.25)],
            vec![TableCell::Text(HOSTILE.to_owned()), TableCell::count(9), TableCell::Share(1.0)],
        ],
    };
    let histogram = HistogramChart {
        name: "prompts".to_owned(),
        title: "Prompts".to_owned(),
        label: "characters".to_owned(),
        width: 10,
        open: true,
        series: vec![histogram_series("all", vec![1, 8, 4, 0, 1]), histogram_series(HOSTILE, vec![0; 5])],
    };
    let chart = LineChart {
        name: "gradients".to_owned(),
        title: "Gradients".to_owned(),
        caption: HOSTILE.to_owned(),
        x_label: "reward".to_owned(),
        y_label: "gradient".to_owned(),
        rules: vec![ChartRule { y: 0.5, label: "half".to_owned() }],
        series: vec![LineSeries {
            name: HOSTILE.to_owned(),
            points: vec![(-1.0, 0.2), (0.0, 1.0), (1.0, 0.4)],
        }],
    };
    let turn =
        |role: &str, content: String, marked| ConversationTurn { role: role.to_owned(), content, marked };
    let conversation = Conversation {
        facts: vec!["train".to_owned(), HOSTILE.to_owned()],
        turns: vec![turn("user", "Hi\nthere".to_owned(), false), turn(HOSTILE, HOSTILE.repeat(300), true)],
    };
    Overview {
        title: HOSTILE.to_owned(),
        lead: vec!["two rows".to_owned()],
        warnings: vec![HOSTILE.to_owned()],
        sections: vec![
            Section {
                title: "Counts".to_owned(),
                blocks: vec![ContentBlock::Note(HOSTILE.to_owned()), ContentBlock::Table(table)],
            },
            Section { title: "Lengths".to_owned(), blocks: vec![ContentBlock::Histogram(histogram)] },
            Section { title: "Curves".to_owned(), blocks: vec![ContentBlock::LineChart(chart)] },
            Section {
                title: "Examples".to_owned(),
                blocks: vec![ContentBlock::Conversations(vec![conversation])],
            },
            Section {
                title: "Manifest".to_owned(),
                blocks: vec![ContentBlock::Document(serde_json::json!({ HOSTILE: HOSTILE }))],
            },
        ],
    }
}

#[test]
fn the_page_escapes_everything_and_needs_nothing() {
    let html = overview().html().unwrap();
    if let Some(kept) = std::env::var_os("KEEP_REPORT") {
        fs_err::write(std::path::Path::new(&kept).join("overview.html"), &html).unwrap();
    }
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
    assert!(!html.contains('\u{1b}') && !html.contains('\u{202e}') && html.contains("\\u{1b}"));
    assert!(!html.contains("http:") && !html.contains("https:"));
    assert!(html.contains("Content-Security-Policy\" content=\"default-src 'none'"));
    for text in [
        "1\u{202f}234\u{202f}567",
        "25.0\u{a0}%",
        "<svg",
        "Bin width 10. The last bin includes",
        "more characters",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert_eq!(html, overview().html().unwrap());
}

#[test]
fn lines_are_safe_for_a_terminal() {
    let text = overview().text();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
    insta::assert_snapshot!(text.lines().take(16).collect::<Vec<_>>().join("\n"));
    assert!(!text.contains("Manifest"));
}

#[test]
fn an_empty_overview_is_a_page() {
    let empty =
        Overview { title: String::new(), lead: Vec::new(), warnings: Vec::new(), sections: Vec::new() };
    assert!(empty.html().unwrap().contains("<h1></h1>"));
    let histogram = HistogramChart {
        name: "h".to_owned(),
        title: "h".to_owned(),
        label: "tokens".to_owned(),
        width: 1,
        open: false,
        series: vec![histogram_series("all", vec![0])],
    };
    let block = ContentBlock::Histogram(histogram);
    let sections = vec![Section { title: "Lengths".to_owned(), blocks: vec![block] }];
    assert!(Overview { sections, ..empty }.html().unwrap().contains("<svg"));
}

#[test]
fn a_rule_far_from_flat_curves_is_inside_the_figure() {
    let flat = LineChart {
        name: "flat".to_owned(),
        title: "Flat".to_owned(),
        caption: String::new(),
        x_label: "share".to_owned(),
        y_label: "probability".to_owned(),
        rules: vec![ChartRule { y: 0.5, label: "one half".to_owned() }],
        series: vec![LineSeries { name: "kto".to_owned(), points: vec![(0.5, 1.0), (0.9, 1.0)] }],
    };
    let figure = line_chart::figure(&flat);
    let Content::Plot { y, .. } = &figure.panels[0].content else { panic!("{figure:?}") };
    assert!(y.low <= 0.5 && y.high >= 1.0, "{} to {}", y.low, y.high);
}
