//! Author and time of a judgement.

use serde::{Deserialize, Serialize};

use crate::table::{ids::Id, timestamp::Timestamp};

/// Group and time of the judgements in a prompt group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    /// Salted hash of the user or conversation.
    pub(crate) group: Option<Id>,
    /// Time of the judgements.
    pub(crate) time: Option<Timestamp>,
}

impl LogEntry {
    /// Returns whether the source gives neither group nor time.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}
