//! HTML templates, their style sheet and the script of the report page.

mod content_hash;

use minijinja::{Environment, syntax::SyntaxConfig, value::Serde};
use prospect_core::visible::visible;
use serde::Serialize;

use crate::ReportError;

/// Script that sorts and filters tables; the page is readable without it.
pub(crate) const SCRIPT: &str = include_str!("../../templates/script.js");

/// Returns the script's source expression for a Content-Security-Policy, `'sha256-…'`.
///
/// The policy allows only the script with this hash.
pub(crate) fn script_source() -> String {
    content_hash::source_expression(SCRIPT)
}

/// Renders a template with `data`, and escapes control characters.
pub(crate) fn render(template: &str, data: impl Serialize) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    // Names that end in `.html` enable HTML escaping.
    environment.add_template("parts.html", include_str!("../../templates/parts.html.j2"))?;
    environment.add_template("style.css", include_str!("../../templates/style.css"))?;
    environment.add_template("report.html", include_str!("../../templates/report.html.j2"))?;
    environment.add_template("frontier.html", include_str!("../../templates/frontier.html.j2"))?;
    environment.add_template("measures.html", include_str!("../../templates/measures.html.j2"))?;
    environment.add_template("retention.html", include_str!("../../templates/retention.html.j2"))?;
    environment.add_template("learning.html", include_str!("../../templates/learning.html.j2"))?;
    environment.add_template("scores.html", include_str!("../../templates/scores.html.j2"))?;
    environment.add_template("overview.html", include_str!("../../templates/overview.html.j2"))?;
    environment.add_template("compare.html", include_str!("../../templates/compare.html.j2"))?;
    environment.add_template("list.html", include_str!("../../templates/list.html.j2"))?;
    let html = environment.get_template(template)?.render(Serde(data))?;
    // Names and texts are untrusted input.
    Ok(visible(&html).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_can_be_inlined() {
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        assert!(SCRIPT.chars().all(|c| c == '\n' || !c.is_control()));
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("fetch") && !SCRIPT.contains("eval("));
    }
}
