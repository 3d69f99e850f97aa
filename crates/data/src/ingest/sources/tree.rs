//! Trees of messages that are linked by the id of their parent, as chat applications store them.
//!
//! A message can be used only if every message from it to the root can.

use std::collections::HashMap;

/// Reason for leaving out a message whose ancestor is left out.
pub(crate) const AFTER_A_MESSAGE_LEFT_OUT: &str = "after_a_message_left_out";

/// Messages with their parents. Messages are named by their index.
pub(crate) struct MessageTree {
    parents: Vec<Parent>,
    /// True for a message whose id an earlier one has.
    repeated: Vec<bool>,
}

/// Parent of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parent {
    None,
    /// Its id is not that of any message.
    Missing,
    Message(usize),
}

/// State of a message's path to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathStatus {
    Unknown,
    /// On the path being followed; meeting it again means a cycle.
    Open,
    /// Every message on the path is used.
    Sound,
    /// Some message on the path is dropped.
    Broken,
}

impl MessageTree {
    /// Links messages, given as id and id of the parent. Of messages with one id, the first counts.
    pub(crate) fn new<'a>(messages: impl Iterator<Item = (&'a str, Option<&'a str>)> + Clone) -> Self {
        let mut by_id = HashMap::new();
        for (index, (id, _)) in messages.clone().enumerate() {
            by_id.entry(id).or_insert(index);
        }
        let parent = |parent: Option<&str>| match parent {
            None => Parent::None,
            Some(id) => by_id.get(id).map_or(Parent::Missing, |index| Parent::Message(*index)),
        };
        let repeated = messages.clone().enumerate().map(|(index, (id, _))| by_id.get(id) != Some(&index));
        Self { repeated: repeated.collect(), parents: messages.map(|(_, id)| parent(id)).collect() }
    }

    /// Returns the parent of a message, if it is known.
    pub(crate) fn parent(&self, index: usize) -> Option<usize> {
        match self.parents.get(index) {
            Some(Parent::Message(parent)) => Some(*parent),
            _ => None,
        }
    }

    /// Returns the messages from one that is used to the root.
    pub(crate) fn path(&self, index: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(index), |index| self.parent(*index))
    }

    /// Follows every message to its root. Returns the reason for leaving it out, or None if it is
    /// used. `filter` judges a message on its own.
    pub(crate) fn follow(&self, filter: impl Fn(usize) -> Option<&'static str>) -> Vec<Option<&'static str>> {
        let mut reasons = vec![None; self.parents.len()];
        let mut paths = vec![PathStatus::Unknown; self.parents.len()];
        for start in 0..self.parents.len() {
            let (mut trail, mut next) = (Vec::new(), Some(start));
            // State of the path above the trail.
            let mut above = Ok(());
            while let Some(index) = next {
                match paths[index] {
                    PathStatus::Unknown => {
                        paths[index] = PathStatus::Open;
                        trail.push(index);
                        next = self.parent(index);
                        if self.parents[index] == Parent::Missing {
                            above = Err("orphan");
                        }
                    }
                    PathStatus::Open => {
                        above = Err("cycle");
                        break;
                    }
                    PathStatus::Sound => break,
                    PathStatus::Broken => {
                        above = Err(AFTER_A_MESSAGE_LEFT_OUT);
                        break;
                    }
                }
            }
            for index in trail.into_iter().rev() {
                let repeated = self.repeated[index].then_some("repeated_message");
                let why = repeated.or_else(|| filter(index)).or(above.err());
                paths[index] = if why.is_some() { PathStatus::Broken } else { PathStatus::Sound };
                if why.is_some() {
                    above = Err(AFTER_A_MESSAGE_LEFT_OUT);
                }
                reasons[index] = why;
            }
        }
        reasons
    }
}
