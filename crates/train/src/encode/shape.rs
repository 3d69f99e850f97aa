//! Prompts in the form that a chat template accepts.
//!
//! A template that refuses system turns gets them at the start of the next user turn, one that
//! refuses consecutive turns of a role gets them joined, and one that refuses a leading turn of the
//! assistant gets the prompt from the first user turn on. Other prompts stay as they are.

use std::borrow::Cow;

use prospect_data::Message;
use prospect_model::{AcceptedTurns, ChatMessage, Tokenizer};

use super::Adaptation;

/// Separator of joined turns.
const SEPARATOR: &str = "\n\n";

/// Requirements of a template on prompts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShapeRules {
    pub(super) accepts: AcceptedTurns,
    /// System turns after the first turn are accepted.
    pub(super) late_system: bool,
}

impl ShapeRules {
    /// Rules for a template.
    pub(super) fn new(accepts: AcceptedTurns) -> Self {
        Self { accepts, late_system: accepts.system }
    }

    /// Rules that every template accepts that accepts the system turn at all.
    pub(super) fn strict(self) -> Self {
        let accepts = AcceptedTurns { repeated: false, assistant_first: false, ..self.accepts };
        Self { accepts, late_system: false }
    }
}

/// Turn of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn<'a> {
    pub(super) role: &'a str,
    pub(super) content: Cow<'a, str>,
}

impl Turn<'_> {
    pub(super) fn as_message(&self) -> ChatMessage<'_> {
        ChatMessage { role: self.role, content: &self.content }
    }
}

/// Prompt whose turns can be left out.
#[derive(Debug)]
pub(super) struct PromptShape<'a> {
    /// Leading system turn, which is never left out.
    system: Option<Cow<'a, str>>,
    turns: Vec<Turn<'a>>,
    rules: ShapeRules,
    adaptation: Adaptation,
}

impl<'a> PromptShape<'a> {
    /// Shapes a prompt. Special tokens in its text are guarded.
    pub(super) fn new(prompt: &'a [Message], rules: ShapeRules, tokenizer: &Tokenizer) -> Self {
        let mut shape = Self { system: None, turns: Vec::new(), rules, adaptation: Adaptation::default() };
        let mut late_system: Option<Cow<'a, str>> = None;
        for (index, message) in prompt.iter().enumerate() {
            let content = tokenizer.guard(&message.content);
            shape.adaptation.markers_as_text |= Tokenizer::is_guarded(&content);
            match message.role.as_str() {
                "system" if index == 0 => {
                    shape.adaptation.system_folded |= !rules.accepts.system;
                    shape.system = Some(content);
                }
                "system" if !rules.late_system => {
                    shape.adaptation.system_folded = true;
                    late_system = Some(join(late_system, content));
                }
                "user" => shape.push("user", join(late_system.take(), content)),
                role => shape.push(role, content),
            }
        }
        if let Some(late_system) = late_system {
            shape.push("user", late_system);
        }
        shape.adaptation.cut_to_user = shape.starts().first().is_some_and(|start| *start > 0);
        shape
    }

    fn push(&mut self, role: &'a str, content: Cow<'a, str>) {
        match self.turns.last_mut() {
            Some(last) if last.role == role && !self.rules.accepts.repeated => {
                self.adaptation.turns_merged = true;
                last.content = join(Some(std::mem::take(&mut last.content)), content);
            }
            _ => self.turns.push(Turn { role, content }),
        }
    }

    pub(super) fn adaptation(&self) -> Adaptation {
        self.adaptation
    }

    /// Bytes of all turns.
    pub(super) fn bytes(&self) -> usize {
        self.turns.iter().map(|turn| turn.content.len()).sum()
    }

    /// Turns that the prompt may start with, at least one.
    pub(super) fn starts(&self) -> Vec<usize> {
        let is_start = |turn: &Turn<'_>| self.rules.accepts.assistant_first || turn.role == "user";
        let starts = self.turns.iter().enumerate().filter(|(_, turn)| is_start(turn));
        let starts: Vec<usize> = starts.map(|(index, _)| index).collect();
        if starts.is_empty() { vec![0] } else { starts }
    }

    /// Returns the system turn and the turns from `start` on.
    pub(super) fn turns_from(&self, start: usize) -> Vec<Turn<'_>> {
        let rest = self.turns.get(start..).unwrap_or_default();
        let borrowed =
            rest.iter().map(|turn| Turn { role: turn.role, content: Cow::Borrowed(&*turn.content) });
        let Some(system) = self.system.as_deref() else { return borrowed.collect() };
        let system = Cow::Borrowed(system);
        if self.rules.accepts.system {
            return std::iter::once(Turn { role: "system", content: system }).chain(borrowed).collect();
        }
        let mut turns: Vec<Turn<'_>> = borrowed.collect();
        match turns.first_mut() {
            Some(first) if first.role == "user" => {
                first.content = join(Some(system), std::mem::take(&mut first.content));
            }
            _ => turns.insert(0, Turn { role: "user", content: system }),
        }
        turns
    }
}

fn join<'a>(before: Option<Cow<'a, str>>, after: Cow<'a, str>) -> Cow<'a, str> {
    match before {
        None => after,
        Some(before) => Cow::Owned([&*before, SEPARATOR, &*after].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(accepts: [bool; 3], roles: &str) -> (Vec<String>, Adaptation, Vec<usize>) {
        let [system, repeated, assistant_first] = accepts;
        let messages: Vec<Message> = roles
            .chars()
            .zip(1..)
            .map(|(role, number)| {
                let role = match role {
                    's' => "system",
                    'u' => "user",
                    _ => "assistant",
                };
                Message { role: role.to_owned(), content: number.to_string() }
            })
            .collect();
        let rules = ShapeRules::new(AcceptedTurns { system, repeated, assistant_first });
        let tokenizer = Tokenizer::bytes().unwrap();
        let shape = PromptShape::new(&messages, rules, &tokenizer);
        let starts = shape.starts();
        let turns = shape.turns_from(starts[0]);
        let turns = turns.iter().map(|turn| format!("{}:{}", &turn.role[..1], turn.content)).collect();
        (turns, shape.adaptation(), starts)
    }

    #[test]
    fn accepted_prompts_stay_as_they_are() {
        let (turns, adaptation, starts) = shaped([true, true, true], "sauus");
        assert_eq!(turns, ["s:1", "a:2", "u:3", "u:4", "s:5"]);
        assert_eq!(adaptation, Adaptation::default());
        assert_eq!(starts, [0, 1, 2, 3]);
    }

    #[test]
    fn refused_turns_are_folded_joined_and_cut() {
        let none = [false, false, false];
        let (turns, adaptation, starts) = shaped(none, "sauuaau");
        assert_eq!(turns, ["u:1\n\n3\n\n4", "a:5\n\n6", "u:7"]);
        let all = Adaptation {
            turns_merged: true,
            system_folded: true,
            cut_to_user: true,
            ..Adaptation::default()
        };
        assert_eq!(adaptation, all);
        assert_eq!(starts, [1, 3]);
        assert_eq!(shaped(none, "uasu").0, ["u:1", "a:2", "u:3\n\n4"]);
        assert_eq!(shaped(none, "uas").0, ["u:1", "a:2", "u:3"]);
        assert_eq!(shaped(none, "s").0, ["u:1"]);
        assert_eq!(shaped(none, "a").0, ["a:1"], "nothing to cut to");
        assert_eq!(shaped([true, false, true], "suua").0, ["s:1", "u:2\n\n3", "a:4"]);
    }
}
