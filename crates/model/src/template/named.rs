//! The templates of a checkpoint: one, or several with names.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::ModelError;

/// Name of the template that conversations use.
const DEFAULT: &str = "default";

/// Value of `chat_template` in `tokenizer_config.json`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum TemplateField {
    /// One template.
    One(String),
    /// Templates with names.
    List(Vec<NamedTemplate>),
    /// Templates by name.
    Map(BTreeMap<String, String>),
}

/// Template with a name.
#[derive(Deserialize)]
pub(crate) struct NamedTemplate {
    name: String,
    template: String,
}

/// Templates by name. The only template of most checkpoints is called `default`.
#[derive(Default)]
pub(crate) struct NamedTemplates(BTreeMap<String, String>);

impl From<TemplateField> for NamedTemplates {
    fn from(field: TemplateField) -> Self {
        Self(match field {
            TemplateField::One(template) => [(DEFAULT.to_owned(), template)].into(),
            TemplateField::List(list) => {
                list.into_iter().map(|NamedTemplate { name, template }| (name, template)).collect()
            }
            TemplateField::Map(map) => map,
        })
    }
}

impl NamedTemplates {
    /// Reads the template files of a checkpoint. As in transformers, they replace the templates of
    /// `tokenizer_config.json`.
    pub(crate) fn from_folder(folder: &Path, field: Option<TemplateField>) -> Result<Self, ModelError> {
        let mut templates = BTreeMap::new();
        let file = folder.join("chat_template.jinja");
        if file.exists() {
            templates.insert(DEFAULT.to_owned(), fs_err::read_to_string(file)?);
        }
        for path in additional_templates(folder)? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            templates.insert(name, fs_err::read_to_string(&path)?);
        }
        Ok(if templates.is_empty() { field.map(Self::from).unwrap_or_default() } else { Self(templates) })
    }

    /// Returns the template called `default`; None if there are no templates at all.
    pub(crate) fn into_default(mut self) -> Result<Option<String>, ModelError> {
        let default = self.0.remove(DEFAULT);
        if default.is_none() && !self.0.is_empty() {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            return Err(ModelError::Template(format!(
                "the weights come with the templates {}, but none is called `default`: save one of them to a \
                 file and set `chat_template:` to it",
                names.join(", ")
            )));
        }
        Ok(default)
    }
}

/// Lists the files of `additional_chat_templates/`, sorted.
pub(crate) fn additional_templates(folder: &Path) -> Result<Vec<std::path::PathBuf>, ModelError> {
    let folder = folder.join("additional_chat_templates");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs_err::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<Result<Vec<_>, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Option<String>, ModelError> {
        NamedTemplates::from(serde_json::from_str::<TemplateField>(json).unwrap()).into_default()
    }

    #[test]
    fn the_template_called_default_is_used() {
        let list = r#"[{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]"#;
        for json in [r#""d""#, list, r#"{"default": "d", "rag": "r"}"#] {
            assert_eq!(parse(json).unwrap().unwrap(), "d", "{json}");
        }
        let error = parse(r#"[{"name": "rag", "template": "r"}]"#).unwrap_err().to_string();
        assert!(error.contains("rag") && error.contains("chat_template:"), "{error}");
    }

    #[test]
    fn files_replace_the_templates_of_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let read = || {
            let field = TemplateField::One("config".to_owned());
            NamedTemplates::from_folder(folder.path(), Some(field)).unwrap().into_default()
        };
        assert_eq!(read().unwrap().unwrap(), "config");
        let additional = folder.path().join("additional_chat_templates");
        fs_err::create_dir(&additional).unwrap();
        fs_err::write(additional.join("tool_use.jinja"), "tools").unwrap();
        assert!(read().unwrap_err().to_string().contains("tool_use"));
        fs_err::write(folder.path().join("chat_template.jinja"), "file").unwrap();
        assert_eq!(read().unwrap().unwrap(), "file");
    }
}
