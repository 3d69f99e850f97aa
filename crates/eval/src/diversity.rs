//! Lexical diversity of texts.

use std::collections::HashSet;

/// Length of the n-grams that [`repetition`] counts (arXiv 1908.04319).
const REPETITION_N: usize = 4;

/// distinct-n: distinct `n`-grams of words as a share of all, over all texts (arXiv 1510.03055).
/// None if no text has `n` words.
pub(crate) fn distinct(texts: &[&str], n: usize) -> Option<f64> {
    let words: Vec<Vec<&str>> = texts.iter().map(|text| text.split_whitespace().collect()).collect();
    share_of_distinct(words.iter().flat_map(|words| words.windows(n)))
}

/// Share of a text's 4-grams of words that occur earlier in it; None if it has fewer than four
/// words.
pub(crate) fn repetition(text: &str) -> Option<f64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    share_of_distinct(words.windows(REPETITION_N)).map(|distinct| 1.0 - distinct)
}

fn share_of_distinct<'a>(ngrams: impl Iterator<Item = &'a [&'a str]>) -> Option<f64> {
    let (mut distinct, mut all) = (HashSet::new(), 0_usize);
    for ngram in ngrams {
        distinct.insert(ngram);
        all += 1;
    }
    (all > 0).then(|| distinct.len() as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_words_are_not_distinct() {
        assert_eq!(distinct(&["a b a", "b c"], 1), Some(3.0 / 5.0));
        assert_eq!(distinct(&["a b a", "a b"], 2), Some(2.0 / 3.0), "n-grams do not cross texts");
        assert_eq!(distinct(&["a", ""], 2), None);
        assert_eq!(repetition("a b c d e f"), Some(0.0));
        assert_eq!(repetition("a a a a a"), Some(0.5));
        assert_eq!(repetition("a b c"), None);
    }
}
