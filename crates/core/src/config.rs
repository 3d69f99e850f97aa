//! Strict YAML configuration: overrides by dotted path, errors with file, line and key.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

/// Error in a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration")]
    Read(#[from] std::io::Error),
    /// There is no such file.
    #[error("{path} does not exist: {advice}")]
    NoSuchFile {
        /// Path as given.
        path: String,
        /// Advice: the way out.
        advice: String,
    },
    /// The text is not valid YAML.
    #[error("{}: not valid YAML: {message}", place(.file, *.line, ""))]
    Syntax {
        /// File that the text came from.
        file: String,
        /// Line of the error, if the parser reports it.
        line: Option<usize>,
        /// Parser's message.
        message: String,
    },
    /// A key is unknown or missing, or its value has the wrong type.
    #[error("{}: {message}{}", place(.file, *.line, .key), suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    Field {
        /// File that the document came from.
        file: String,
        /// Line of the key; None if the value comes from an override.
        line: Option<usize>,
        /// Dotted path of the key.
        key: String,
        /// Description of the problem.
        message: String,
        /// Known key closest to a misspelt one.
        suggestion: Option<String>,
    },
    /// An override is not `KEY=VALUE`, or its path passes through a value that is not a mapping.
    #[error("cannot set `{given}`: {message}")]
    Override {
        /// Override as given.
        given: String,
        /// Description of the problem.
        message: String,
    },
}

fn place(file: &str, line: Option<usize>, key: &str) -> String {
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    if key.is_empty() || key == "." { format!("{file}{line}") } else { format!("{file}{line}: `{key}`") }
}

/// YAML document, or part of one, with its origin.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    text: String,
    value: Value,
    /// Dotted path of `value` within `text`; empty for a whole document.
    root: String,
    /// Dotted paths whose value comes from an override.
    replaced: Vec<String>,
}

impl Document {
    /// Reads and parses the file at `path`.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        Self::from_text(&path.display().to_string(), &fs_err::read_to_string(path)?)
    }

    /// Parses `text`; error messages refer to it as `name`.
    pub fn from_text(name: &str, text: &str) -> Result<Self, ConfigError> {
        let value = serde_yaml::from_str(text).map_err(|error| {
            let line = error.location().map(|location| location.line());
            ConfigError::Syntax { file: name.to_owned(), line, message: error.to_string() }
        })?;
        let (name, text) = (name.to_owned(), text.to_owned());
        Ok(Self { name, text, value, root: String::new(), replaced: Vec::new() })
    }

    /// Returns the value of a top-level key as a document of its own; empty if the key is absent.
    /// Its errors refer to lines of the whole file.
    #[must_use]
    pub fn part(&self, key: &str) -> Self {
        Self { value: self.value.get(key).cloned().unwrap_or_default(), root: self.full(key), ..self.clone() }
    }

    /// Returns the path of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Iterates over the top-level keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.value.as_mapping().into_iter().flat_map(Mapping::keys).filter_map(Value::as_str)
    }

    /// Returns the folder of the file, which relative paths in the document start from.
    pub fn folder(&self) -> PathBuf {
        Path::new(&self.name).parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// Applies an override as written on the command line: `dotted.key=VALUE`, where VALUE is YAML.
    pub fn set_text(&mut self, given: &str) -> Result<(), ConfigError> {
        let fail =
            |message: &str| ConfigError::Override { given: given.to_owned(), message: message.to_owned() };
        let (key, value) =
            given.split_once('=').ok_or_else(|| fail("write KEY=VALUE, with KEY a dotted path"))?;
        let value = serde_yaml::from_str(value).map_err(|error| fail(&error.to_string()))?;
        self.set(key, value)
    }

    /// Sets the value at a dotted path, creating missing mappings.
    pub fn set(&mut self, key: &str, value: Value) -> Result<(), ConfigError> {
        let fail = |message: String| ConfigError::Override { given: key.to_owned(), message };
        if key.split('.').any(|part| part.trim().is_empty()) {
            return Err(fail("the key has an empty part".to_owned()));
        }
        let mut node = &mut self.value;
        for part in key.split('.') {
            if node.is_null() {
                *node = Value::Mapping(Mapping::new());
            }
            let Value::Mapping(mapping) = node else {
                return Err(fail(format!("the parent of `{part}` is not a mapping")));
            };
            node = mapping.entry(Value::String(part.to_owned())).or_insert(Value::Null);
        }
        *node = value;
        self.replaced.push(self.full(key));
        Ok(())
    }

    fn full(&self, key: &str) -> String {
        if self.root.is_empty() { key.to_owned() } else { format!("{}.{key}", self.root) }
    }

    /// Returns the line (from 1) of a dotted key, or None if its value comes from an override. The
    /// key may be written as nested mappings or, as in an experiment's settings, as one key with
    /// dots.
    pub fn line(&self, key: &str) -> Option<usize> {
        let key = self.full(key);
        if self.is_replaced(&key) {
            None
        } else {
            line_of_word(&self.text, &key).or_else(|| line_of(&self.text, &key))
        }
    }

    /// Returns true if the value at a full path comes from an override.
    fn is_replaced(&self, key: &str) -> bool {
        self.replaced.iter().any(|other| key == other || key.starts_with(&format!("{other}.")))
    }

    /// Prefixes a message with the file and the line of the first key that it names in backticks.
    pub fn blame(&self, message: &str) -> String {
        place(&self.name, self.line_of_named(message), "") + ": " + message
    }

    /// Returns the line of the first key that a message names in backticks, or None if its value
    /// comes from an override.
    pub fn line_of_named(&self, message: &str) -> Option<usize> {
        let words = quoted(message);
        let keys = words.iter().map(|word| word.split(':').next().unwrap_or(word));
        let mut lines = keys.map(|key| (self.line(key), self.is_replaced(&self.full(key))));
        lines.find(|(line, replaced)| line.is_some() || *replaced)?.0
    }

    /// Deserialises the document as a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(self.value.clone()).map_err(|error| {
            let mut key = error.path().to_string();
            let message = error.inner().to_string();
            let unknown =
                quoted(&message).into_iter().next().filter(|_| message.starts_with("unknown field"));
            if let Some(field) = &unknown
                && key.rsplit('.').next() != Some(field)
            {
                key = if key == "." { field.clone() } else { format!("{key}.{field}") };
            }
            // A missing key has no line of its own; report the mapping that lacks it.
            let (line, key) = if key == "." {
                (line_of(&self.text, &self.root), self.root.clone())
            } else {
                (self.line(&key), self.full(&key))
            };
            ConfigError::Field { file: self.name.clone(), line, suggestion: nearest(&message), key, message }
        })
    }
}

/// Returns the words between backticks in a serde message.
fn quoted(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the expected word nearest to `x` in "unknown field/variant `x`, expected one of `a`,
/// `b`".
fn nearest(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let words = quoted(message);
    let (given, known) = words.split_first()?;
    closest(given, known.iter().map(String::as_str)).map(str::to_owned)
}

/// Returns the known word that `given` is most likely a misspelling of, if any is similar enough.
pub fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let of_given = letters(given);
    known
        .into_iter()
        // Of words at the same distance, the one with the same letters: `kot` is `kto`, not `aot`.
        .map(|word| (strsim::damerau_levenshtein(given, word), letters(word) != of_given, word))
        .filter(|(distance, _, word)| *distance <= 2.max(word.len() / 3))
        .min()
        .map(|(.., word)| word)
}

/// Returns the end of an error about an unknown name: "; did you mean `x`?", or nothing if no known
/// name is similar.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(given, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Returns the line (from 1) of a dotted path in block-style YAML.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let parts: Vec<&str> = path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect();
    let (mut depth, mut parent, mut parent_indent) = (0, None, None);
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start().trim_start_matches("- ").trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if parent_indent.is_some_and(|parent| indent <= parent) {
            break;
        }
        let part = parts.get(depth)?;
        if content.strip_prefix(part).is_some_and(|rest| rest.trim_start().starts_with(':')) {
            // The keys of a flow mapping `{a: 1}` are on the line of the parent.
            parent = content.contains('{').then_some(number + 1);
            parent_indent = Some(indent);
            depth += 1;
            if depth == parts.len() {
                return Some(number + 1);
            }
        }
    }
    parent
}

/// Returns the first line outside comments with a dotted key followed by a colon, in block or flow
/// style.
fn line_of_word(text: &str, key: &str) -> Option<usize> {
    if !key.contains('.') {
        return None;
    }
    let holds = |line: &str| {
        let code = line.split(" #").next().unwrap_or(line);
        !code.trim_start().starts_with('#')
            && code.match_indices(key).any(|(at, _)| {
                code[..at].chars().next_back().is_none_or(|before| " {,-\t".contains(before))
                    && code[at + key.len()..].trim_start().starts_with(':')
            })
    };
    text.lines().position(holds).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        keep: f64,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        seed: u64,
        inner: Inner,
    }

    #[test]
    fn overrides_replace_and_create() {
        let mut document = Document::from_text("a.yaml", "seed: 1\n").unwrap();
        document.set_text("inner.keep=0.5").unwrap();
        document.set_text("seed=3").unwrap();
        assert_eq!(document.read::<Outer>().unwrap(), Outer { seed: 3, inner: Inner { keep: 0.5 } });
    }

    #[test]
    fn a_misspelt_key_names_file_line_and_the_right_word() {
        let document = Document::from_text("a.yaml", "# c\nseed: 1\ninner:\n  kep: 1\n").unwrap();
        let error = document.read::<Outer>().unwrap_err().to_string();
        assert_eq!(
            error,
            "a.yaml:4: `inner.kep`: unknown field `kep`, expected `keep`; did you mean `keep`?"
        );
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let document = Document::from_text("a.yaml", "seed: x\ninner: {keep: 1}\n").unwrap();
        let error = document.read::<Outer>().unwrap_err().to_string();
        assert!(error.starts_with("a.yaml:1: `seed`: invalid type"), "{error}");
    }

    #[test]
    fn a_part_names_lines_of_the_whole() {
        let document = Document::from_text("a.yaml", "x: 0\ntrain:\n  seed: 1\n  inner: {kep: 1}\n").unwrap();
        let mut part = document.part("train");
        let error = part.read::<Outer>().unwrap_err().to_string();
        assert!(error.starts_with("a.yaml:4: `train.inner.kep`: unknown field `kep`"), "{error}");
        part.set_text("inner={keep: x}").unwrap();
        let error = part.read::<Outer>().unwrap_err().to_string();
        assert!(error.starts_with("a.yaml: `train.inner.keep`: invalid type"), "{error}");
        let error = document.part("none").read::<Outer>().unwrap_err().to_string();
        assert!(error.starts_with("a.yaml: `none`: missing field `seed`"), "{error}");
    }

    #[test]
    fn a_message_is_blamed_on_the_line_of_the_key_it_names() {
        let text = "# seed: 9\nseed: 1\ninner: {keep: 2}\nlinked:\n  kto: { train.inner.keep: 3 }\n";
        let document = Document::from_text("a.yaml", text).unwrap();
        for (message, line) in [
            ("`seed: 1` is odd", Some(2)),
            ("with `x`, `inner.keep` is wrong", Some(3)),
            ("`train.inner.keep` is wrong", Some(5)),
            ("all is wrong", None),
        ] {
            assert_eq!(document.line_of_named(message), line, "{message}");
        }
        assert_eq!(document.blame("`seed` is odd"), "a.yaml:2: `seed` is odd");
        assert_eq!(document.blame("odd"), "a.yaml: odd");

        // An override has no line, and the line of another key would mislead.
        let mut document = document;
        document.set_text("seed=3").unwrap();
        assert_eq!(document.line_of_named("`seed` does not go with `inner.keep`"), None);
    }

    #[test]
    fn bad_overrides_are_errors() {
        let mut document = Document::from_text("a.yaml", "seed: 1\n").unwrap();
        assert!(document.set_text("seed").is_err());
        assert!(document.set_text("seed.x=1").is_err());
        assert!(document.set_text("a..b=1").is_err());
    }
}
