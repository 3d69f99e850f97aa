//! Salted hashes that stand for groups (users, conversations). The names of groups are never
//! stored.

use std::fmt;

use crate::table::ids::Id;

/// Key of the hashes.
#[derive(Clone, Copy)]
pub(crate) struct GroupSalt([u8; 32]);

impl GroupSalt {
    /// Derives the salt from a pipeline's seed. It is no secret: whoever has the recipe can look up
    /// names that can be guessed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(blake3::derive_key("prospect 2026 group salt from seed v1", &seed.to_le_bytes()))
    }

    /// Derives the salt from a text that should be secret.
    pub(crate) fn from_secret(secret: &str) -> Self {
        Self(blake3::derive_key("prospect 2026 group salt v1", secret.as_bytes()))
    }

    /// Hashes the name of a group.
    pub(crate) fn hash(&self, name: &str) -> Id {
        Id::from_hash(blake3::keyed_hash(&self.0, name.as_bytes()))
    }

    /// Returns a hash that identifies the salt without revealing it.
    pub(crate) fn fingerprint(&self) -> String {
        Id::from_hash(blake3::hash(&self.0)).to_string()
    }
}

impl fmt::Debug for GroupSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSalt")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_depend_on_name_and_salt_and_stay_what_they_are() {
        let (seed, secret) = (GroupSalt::from_seed(0), GroupSalt::from_secret("s"));
        assert_eq!(seed.hash("ann"), GroupSalt::from_seed(0).hash("ann"));
        let others = [seed.hash("bob"), secret.hash("ann"), GroupSalt::from_seed(1).hash("ann")];
        assert!(others.iter().all(|other| *other != seed.hash("ann")));
        assert_ne!(secret.fingerprint(), GroupSalt::from_secret("t").fingerprint());
        assert!(!format!("{secret:?}").contains(char::is_numeric));
    }
}
