//! Token ids of a tokenizer against the rows of an embedding.

use crate::{ChatTemplate, ModelError, Tokenizer};

/// Checks that the embedding, of `rows` rows, has a row for every token that a text can contain.
///
/// Tokens added to a tokenizer after training often have none, such as a padding token. They are
/// accepted unless text is encoded to them: as part of the vocabulary, as beginning or end of a
/// sequence, or because the chat template writes them.
pub(crate) fn check_token_ids(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    rows: usize,
) -> Result<(), ModelError> {
    let beyond = tokenizer.tokens_from(rows);
    let is_needed = |token: &str, added: bool| {
        !added
            || token == tokenizer.eos_token()
            || token == tokenizer.bos_token()
            || token == template.bos_token()
            || template.source().contains(token)
    };
    if let Some((token, id, _)) = beyond.iter().find(|(token, _, added)| is_needed(token, *added)) {
        return Err(ModelError::Tokenizer(format!(
            "token `{token}` has id {id}, but the model's embedding has only {rows} rows; use the model's own \
             tokenizer, or save the model again after `model.resize_token_embeddings(len(tokenizer))`"
        )));
    }
    if let Some((token, id, _)) = beyond.first() {
        tracing::warn!(
            "the model's embedding has {rows} rows, so {} added tokens of the tokenizer cannot be used, such as \
             `{token}` ({id})",
            beyond.len()
        );
    }
    Ok(())
}
