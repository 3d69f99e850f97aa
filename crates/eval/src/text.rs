//! How varied texts are, by their words.

use std::collections::HashSet;

/// Words of the runs that [`repetition`] counts (arXiv 1908.04319).
const REPEATED: usize = 4;

/// Distinct runs of `n` words among all of them, over all texts (arXiv 1510.03055); None if no text has as many words.
pub(crate) fn distinct(texts: &[&str], n: usize) -> Option<f64> {
    let words: Vec<Vec<&str>> = texts.iter().map(|text| text.split_whitespace().collect()).collect();
    share_of_distinct(words.iter().flat_map(|words| words.windows(n)))
}

/// The share of a text's runs of four words that stand in it before; None if it has fewer words.
pub(crate) fn repetition(text: &str) -> Option<f64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    share_of_distinct(words.windows(REPEATED)).map(|distinct| 1.0 - distinct)
}

fn share_of_distinct<'a>(runs: impl Iterator<Item = &'a [&'a str]>) -> Option<f64> {
    let (mut distinct, mut all) = (HashSet::new(), 0_usize);
    for run in runs {
        distinct.insert(run);
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
        assert_eq!(distinct(&["a b a", "a b"], 2), Some(2.0 / 3.0), "runs do not cross texts");
        assert_eq!(distinct(&["a", ""], 2), None);
        assert_eq!(repetition("a b c d e f"), Some(0.0));
        assert_eq!(repetition("a a a a a"), Some(0.5));
        assert_eq!(repetition("a b c"), None);
    }
}
