use super::*;
use crate::tests::{DEFAULT, SyntheticSweep};

fn lines(style: TerminalStyle, synthetic: &SyntheticSweep<'_>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let sweep = synthetic.write(&folder.path().join("sweep"));
    differences(&sweep, style).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_plot_shows_intervals_around_a_line_of_no_difference() {
    let synthetic = SyntheticSweep { xs: &[0.01], series: &["dpo", "kto"], ..DEFAULT };
    let lines = lines(TerminalStyle::Plot { width: 60, is_coloured: false }, &synthetic);
    assert_eq!(
        lines[..3],
        [
            "Difference from dpo in held-out accuracy, points",
            "kto     ░░░░░░░░░░░░░░░░░│──━━━━━━━━●━━━━━━━━─  +2.0, better",
            "     −3.7                0                +3.7",
        ]
    );
}

#[test]
fn rows_fit_every_width_and_colours_are_optional() {
    for width in [0, 40, 57, 80, 110, 500] {
        let plain = lines(TerminalStyle::Plot { width, is_coloured: false }, &DEFAULT);
        let most = width.clamp(WIDTHS[0], WIDTHS[1]);
        let rows = plain.iter().filter(|line| !line.starts_with("Difference"));
        for line in rows {
            assert!(line.chars().count() <= most, "{width}: {line}");
            assert!(!line.contains('\u{1b}'));
        }
        let coloured = lines(TerminalStyle::Plot { width, is_coloured: true }, &DEFAULT).join("\n");
        assert!(coloured.contains("\u{1b}[32m"));
        let bare = coloured.replace("\u{1b}[32m", "").replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
        assert_eq!(
            bare.lines().map(str::trim_end).collect::<Vec<_>>(),
            plain.iter().map(|line| line.trim_end()).collect::<Vec<_>>()
        );
    }
}

#[test]
fn files_get_lines_of_text() {
    let plain = lines(TerminalStyle::Plain, &DEFAULT);
    assert_eq!(plain[1], "  kto, 1\u{a0}%: +2.0 (+0.5 to +3.5), better");
    assert!(plain.iter().all(|line| !line.contains(['━', '░', '\u{1b}'])));
    assert_eq!(lines(TerminalStyle::Plain, &SyntheticSweep { summary: false, ..DEFAULT }), [""; 0]);
}
