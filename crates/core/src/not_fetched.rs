//! Inputs that a plan names but does not need.

/// Error of an address whose content is not on this machine, where nothing may be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not fetched; run the command without --dry-run, or `prospect prepare` for data, to download it"
)]
pub struct NotFetched(
    /// `hf://` address.
    pub String,
);

impl NotFetched {
    /// Returns the address if `error` is, or was caused by, this error.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_found_behind_other_errors() {
        let missing = NotFetched("hf://a/b".to_owned());
        assert_eq!(NotFetched::find(&missing), Some(&missing));
        let behind = std::io::Error::other(missing.clone());
        assert_eq!(NotFetched::find(&std::io::Error::other("full disk")), None);
        // An I/O error shows the source of its cause, not the cause itself.
        assert_eq!(behind.get_ref().and_then(|cause| cause.downcast_ref()), Some(&missing));
    }
}
