//! Error chains.

use std::error::Error;

/// Returns the message of an error and of each of its causes, outermost first. A cause is skipped
/// if the message before it already ends with it.
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string) {
        if !causes.last().is_some_and(|before| before.ends_with(&cause)) {
            causes.push(cause);
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    #[test]
    fn causes_are_told_once() {
        let read = ConfigError::Read(std::io::Error::other("no such file"));
        assert_eq!(chain(&read), ["cannot read the configuration", "no such file"]);
        assert_eq!(chain(&std::io::Error::other(read)), ["cannot read the configuration", "no such file"]);
    }
}
