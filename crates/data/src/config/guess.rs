//! Guess of the columns of a file with names of its own, for the advice of an error.

use std::path::Path;

/// Words in the names of columns, most telling first.
const PROMPT: [&str; 6] = ["prompt", "question", "query", "instruction", "input", "request"];
const COMPLETION: [&str; 8] =
    ["completion", "response", "answer", "reply", "output", "assistant", "generation", "text"];
const LABEL: [&str; 8] = ["label", "thumb", "feedback", "like", "vote", "rating", "reaction", "good"];

/// Returns the end of an error about a file of unknown kind: a command to try if its columns look
/// like a prompt, a completion and a label, else an example of the settings.
pub(crate) fn guess(file: &Path, columns: &[String]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    match find(columns) {
        Some([prompt, completion, label]) => {
            let name = file.file_stem().unwrap_or_default().display();
            format!(
                "; for thumbs in these columns: `prospect prepare {} --out data/{name} --set source.kind=labels --set \
                 'source.columns={{prompt: {prompt}, completion: {completion}, label: {label}}}'`",
                file.display()
            )
        }
        None => "; for thumbs: `--set source.kind=labels --set 'source.columns={prompt: NAME, completion: NAME, label: \
                 NAME}'`, with `prospect prepare`"
            .to_owned(),
    }
}

/// Finds three different columns for prompt, completion and label, if their names are words.
fn find(columns: &[String]) -> Option<[&str; 3]> {
    let mut found: Vec<&str> = Vec::new();
    for words in [&PROMPT[..], &COMPLETION, &LABEL] {
        let column = words.iter().find_map(|word| {
            let has_word = |column: &&String| {
                column.to_lowercase().contains(word) && !found.contains(&column.as_str()) && is_plain(column)
            };
            columns.iter().find(has_word)
        })?;
        found.push(column);
    }
    found.try_into().ok()
}

/// Returns true for names that YAML and a shell read as they are.
fn is_plain(column: &str) -> bool {
    !column.is_empty() && column.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(columns: &[&str]) -> String {
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        guess(Path::new("logs/app.csv"), &columns)
    }

    #[test]
    fn columns_are_guessed_by_the_words_in_their_names() {
        let columns = "{prompt: Question, completion: bot_answer, label: Thumbs}";
        let text = guessed(&["id", "Question", "bot_answer", "Thumbs"]);
        assert!(
            text.contains(columns) && text.contains("prepare logs/app.csv --out data/app --set"),
            "{text}"
        );
        let text = guessed(&["user_prompt", "reply", "liked"]);
        assert!(text.contains("{prompt: user_prompt, completion: reply, label: liked}"), "{text}");
        for columns in [&["a", "b"][..], &["prompt", "my answer", "label"]] {
            assert!(guessed(columns).contains("prompt: NAME"), "{columns:?}");
        }
        assert_eq!(guessed(&[]), "");
    }
}
