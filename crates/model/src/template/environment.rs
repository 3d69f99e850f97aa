//! The Jinja environment of transformers, with limits on work and output.

use std::{borrow::Cow, io};

use minijinja::{Environment, Error, ErrorKind, Value, syntax::SyntaxConfig};
use minijinja_contrib::globals;

use super::{clock, methods, python};

/// Name of the template in its environment.
pub(super) const NAME: &str = "chat";

/// Work that one rendering may do: instructions, plus one per 64 bytes of text that they produce.
const FUEL: u64 = 3_000_000;

/// Bytes that one rendering may write.
const OUTPUT_LIMIT: usize = 16 << 20;

/// Compiles a chat template.
pub(super) fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|output, _, value| {
        let text = python::str(value)?;
        output.write_str(&text).map_err(|_| Error::new(ErrorKind::WriteFailure, "cannot write"))
    });
    environment.add_filter("tojson", python::tojson);
    environment.add_filter("string", |value: &Value| python::str(value));
    // `none` has no items in Python.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("strftime_now", |format: &str| clock::strftime_now(format));
    environment.add_function("cycler", globals::cycler);
    environment.add_function("joiner", globals::joiner);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned(NAME, without_generation_tags(source).into_owned())?;
    Ok(environment)
}

/// Replaces `{% generation %}` … `{% endgeneration %}`, which mark the assistant's text for
/// transformers, by blocks without effect. White-space control stays.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    let mut replaced = String::new();
    let mut copied = 0;
    for (start, _) in source.match_indices("{%") {
        let inside = &source[start + 2..];
        let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside).trim_start();
        let new =
            [("generation", "with"), ("endgeneration", "endwith")].into_iter().find_map(|(old, new)| {
                let rest = inside.strip_prefix(old)?;
                let end = rest.trim_start();
                let end = end.strip_prefix(['-', '+']).unwrap_or(end);
                end.starts_with("%}").then_some((source.len() - inside.len(), old.len(), new))
            });
        if let Some((at, length, new)) = new {
            replaced.push_str(&source[copied..at]);
            replaced.push_str(new);
            copied = at + length;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(source);
    }
    replaced.push_str(&source[copied..]);
    Cow::Owned(replaced)
}

/// Output of a rendering, at most [`OUTPUT_LIMIT`] bytes.
#[derive(Default)]
pub(super) struct LimitedOutput(pub(super) Vec<u8>);

impl io::Write for LimitedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT {
            return Err(io::Error::other(format!("the template writes more than {OUTPUT_LIMIT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns true if a rendering hit a limit.
pub(super) fn is_limit(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure)
}

/// Describes an error of compiling or rendering.
pub(super) fn describe(error: &Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => format!(
            "rendering takes more than {FUEL} steps; the template loops without end, or the conversation is too long for it"
        ),
        _ => format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generation_tags_are_replaced() {
        let source = "{%- generation -%}a{% endgeneration %}{{ generation }}{% set generation = 1 %}";
        let expected = "{%- with -%}a{% endwith %}{{ generation }}{% set generation = 1 %}";
        assert_eq!(without_generation_tags(source), expected);
        let plain = "{% if add_generation_prompt %}x{% endif %}";
        assert_eq!(without_generation_tags(plain), plain);
    }
}
