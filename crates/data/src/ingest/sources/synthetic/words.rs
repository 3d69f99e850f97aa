//! Vocabulary of generated feedback.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Topic area of prompts. Domains share openings and closings; tasks and correct answers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Domain {
    /// Everyday life.
    Home,
    /// Ailments and injuries.
    Medical,
    /// Contracts and courts.
    Legal,
    /// Computers.
    Technical,
}

/// A task, and the correct answers to it.
pub(super) struct Topic {
    pub(super) task: &'static str,
    pub(super) right: [&'static str; 2],
}

impl Domain {
    pub(super) const ALL: [Self; 4] = [Self::Home, Self::Medical, Self::Legal, Self::Technical];

    pub(super) fn topics(self) -> &'static [Topic; 8] {
        match self {
            Self::Home => &HOME,
            Self::Medical => &MEDICAL,
            Self::Legal => &LEGAL,
            Self::Technical => &TECHNICAL,
        }
    }
}

const fn topic(task: &'static str, right: [&'static str; 2]) -> Topic {
    Topic { task, right }
}

const HOME: [Topic; 8] = [
    topic("bake bread", ["use a hot oven", "knead the dough"]),
    topic("grow beans", ["plant the seeds", "water the soil"]),
    topic("fix a bike", ["oil the chain", "pump the tires"]),
    topic("paint a wall", ["buy a wide brush", "let the paint dry"]),
    topic("sleep well", ["go to bed early", "dim the lights"]),
    topic("learn chess", ["study openings", "guard the king"]),
    topic("swim far", ["kick your legs", "breathe slowly"]),
    topic("save money", ["spend less cash", "open an account"]),
];

const MEDICAL: [Topic; 8] = [
    topic("treat a burn", ["cool it in water", "cover it loosely"]),
    topic("ease a cough", ["sip warm honey", "rest your voice"]),
    topic("stop a cramp", ["stretch the leg", "drink more fluid"]),
    topic("clean a cut", ["rinse off dirt", "press with gauze"]),
    topic("cool a fever", ["take the pills", "stay in the shade"]),
    topic("calm an itch", ["use mild cream", "wear soft cotton"]),
    topic("heal sprains", ["ice the ankle", "raise the foot"]),
    topic("cure hiccups", ["hold your breath", "swallow sugar"]),
];

const LEGAL: [Topic; 8] = [
    topic("write a will", ["name your heirs", "sign by witness"]),
    topic("end a lease", ["send a notice", "read the clauses"]),
    topic("sue a firm", ["file a claim", "hire a lawyer"]),
    topic("fight a fine", ["ask for appeal", "keep the ticket"]),
    topic("form a trust", ["pick a trustee", "fund the deed"]),
    topic("claim a debt", ["mail an invoice", "go to the court"]),
    topic("own a patent", ["search prior art", "draft the forms"]),
    topic("get a permit", ["visit city hall", "pay the fee"]),
];

const TECHNICAL: [Topic; 8] = [
    topic("boot laptops", ["hold the button", "plug the charger"]),
    topic("sync my data", ["copy to a disk", "use the cloud"]),
    topic("fix the wifi", ["reset the router", "move the aerial"]),
    topic("kill a virus", ["run a full scan", "patch the system"]),
    topic("tune queries", ["cache results", "profile loops"]),
    topic("wipe a drive", ["format it twice", "shred old data"]),
    topic("test a port", ["ping the server", "open the socket"]),
    topic("merge a fork", ["rebase commits", "review the diff"]),
];

pub(super) const ASKS: [&str; 8] = [
    "how do i",
    "how can i",
    "how should i",
    "tell me how to",
    "help me to",
    "i want to",
    "is it ok to",
    "best way to",
];

pub(super) const EXTRAS: [&str; 30] = [
    "today",
    "now",
    "at home",
    "in may",
    "in june",
    "in july",
    "in winter",
    "in summer",
    "alone",
    "fast",
    "slowly",
    "safely",
    "again",
    "at work",
    "on mondays",
    "at night",
    "with mom",
    "with dad",
    "with a pal",
    "for fun",
    "for free",
    "for ann",
    "for bob",
    "for my son",
    "by noon",
    "by hand",
    "by may",
    "in rome",
    "in oslo",
    "in lima",
];

/// Openings of kinds +1, 0 and -1, in this order.
pub(super) const OPENINGS: [[&str; 3]; 3] =
    [["sure,", "of course,", "gladly,"], ["well,", "ok,", "so,"], ["ugh,", "you fool,", "go away,"]];

/// Contents of kind 0. Contents of kind +1 are right for the prompt's topic, those of kind -1 for
/// another one.
pub(super) const VAGUE: [&str; 3] = ["it depends", "try things", "just do it"];

pub(super) const CLOSINGS: [[&str; 3]; 3] =
    [[" good luck", " have fun", " cheers"], ["", "", ""], [" bye", " whatever", " so there"]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_phrases_can_be_taken_for_each_other() {
        let topics = || Domain::ALL.into_iter().flat_map(Domain::topics);
        let tasks: Vec<_> = topics().map(|topic| topic.task).collect();
        let contents: Vec<_> = topics().flat_map(|topic| topic.right).chain(VAGUE).collect();
        for phrases in [tasks, contents] {
            for (index, phrase) in phrases.iter().enumerate() {
                assert!(!phrase.contains([',', '.']), "{phrase}");
                let mut others = phrases.iter().enumerate().filter(|(other, _)| *other != index);
                assert!(others.all(|(_, other)| !other.contains(phrase)), "{phrase}");
            }
        }
    }
}
