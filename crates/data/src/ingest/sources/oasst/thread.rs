//! Reconstructs conversations from messages linked by parent id, and collects the ranked replies.

use crate::{
    Message as Turn,
    ingest::{
        raw::{RawCompletion, Remark},
        sources::{
            oasst::{Oasst, RankPairing, message::OasstMessage},
            per_record::Draft,
            tree::MessageTree,
        },
    },
};

/// A message and its judged replies.
#[derive(Debug, Default)]
pub(super) struct Thread {
    /// Draft of the replies, if at least two are ranked, or, when ratings are the score, if one is
    /// rated.
    pub(super) draft: Option<Draft>,
    /// Remarks on the message.
    pub(super) remarks: Vec<Remark>,
    /// True if the message is a turn or a completion of any draft.
    pub(super) in_group: bool,
}

/// Returns the thread of each message.
pub(super) fn threads(messages: &[OasstMessage], oasst: &Oasst) -> Vec<Thread> {
    let ids = messages.iter().map(|message| (message.id.as_str(), message.parent.as_deref()));
    let conversations = Conversations { messages, tree: MessageTree::new(ids), oasst };
    let left_out = conversations.tree.follow(|index| oasst.filter(&messages[index]));
    let mut replies: Vec<Vec<usize>> = vec![Vec::new(); messages.len()];
    for (index, message) in messages.iter().enumerate() {
        if message.assistant
            && left_out[index].is_none()
            && let Some(parent) = conversations.tree.parent(index)
        {
            replies[parent].push(index);
        }
    }
    let mut threads: Vec<Thread> = Vec::new();
    threads.resize_with(messages.len(), Thread::default);
    for (index, replies) in replies.into_iter().enumerate() {
        let mut remarks: Vec<Remark> = left_out[index].map(Remark::Filtered).into_iter().collect();
        let judged = conversations.judged(&replies, &mut remarks);
        let draft = conversations.draft(index, &judged, &mut remarks);
        if draft.is_some() {
            let path = conversations.tree.path(index);
            path.chain(judged).for_each(|message| threads[message].in_group = true);
        }
        (threads[index].draft, threads[index].remarks) = (draft, remarks);
    }
    threads
}

struct Conversations<'a> {
    messages: &'a [OasstMessage],
    tree: MessageTree,
    oasst: &'a Oasst,
}

impl Conversations<'_> {
    fn score(&self, reply: &OasstMessage) -> Option<f64> {
        match &self.oasst.rating {
            Some(rating) => reply.rating(rating),
            None => reply.rank.map(|rank| -(rank as f64)),
        }
    }

    /// Returns the judged ones of a message's replies, best first, and adds remarks on them.
    fn judged(&self, replies: &[usize], remarks: &mut Vec<Remark>) -> Vec<usize> {
        let rank = |reply: &usize| self.messages[*reply].rank;
        let judged = |reply: &usize| rank(reply).is_some() || self.score(&self.messages[*reply]).is_some();
        if replies.len() > 1 && replies.iter().any(|reply| rank(reply).is_none()) {
            remarks.push(Remark::Noted("unranked_replies"));
        }
        let mut judged: Vec<usize> = replies.iter().copied().filter(judged).collect();
        judged.sort_by_key(|reply| rank(reply).unwrap_or(i64::MAX));
        judged
    }

    /// Builds the draft of a message's judged replies, and adds remarks on them.
    fn draft(&self, index: usize, judged: &[usize], remarks: &mut Vec<Remark>) -> Option<Draft> {
        let judged: Vec<&OasstMessage> = judged.iter().map(|reply| &self.messages[*reply]).collect();
        let ranks: Vec<Option<i64>> = judged.iter().map(|reply| reply.rank).collect();
        let apart =
            |two: &[Option<i64>]| matches!(two, [Some(one), Some(other)] if other.saturating_sub(*one) > 1);
        if ranks.windows(2).any(apart) {
            remarks.push(Remark::Noted("rank_gap"));
        }
        let mut pairs = Vec::new();
        for (chosen, better) in judged.iter().enumerate() {
            for (rejected, worse) in judged.iter().enumerate().skip(chosen + 1) {
                let (Some(high), Some(low)) = (better.rank, worse.rank) else { continue };
                let paired = match self.oasst.ranks {
                    RankPairing::Adjacent => high.checked_add(1) == Some(low),
                    RankPairing::All => high < low,
                };
                if paired && better.text == worse.text {
                    remarks.push(Remark::Filtered("identical_replies"));
                } else if paired {
                    pairs.push((chosen, rejected));
                }
            }
        }
        let rated = self.oasst.rating.is_some() && judged.iter().any(|reply| self.score(reply).is_some());
        if pairs.is_empty() && !rated {
            return None;
        }
        let completion = |reply: &&OasstMessage| RawCompletion {
            messages: vec![Turn::assistant(reply.text.as_str())],
            score: self.score(reply),
            label: None,
        };
        let draft = Draft {
            domain: None,
            prompt: self.conversation(index),
            completions: judged.iter().map(completion).collect(),
            pairs,
        };
        remarks.extend(draft.remarks());
        Some(draft)
    }

    /// Returns the turns from the root to a message whose path is sound.
    fn conversation(&self, index: usize) -> Vec<Turn> {
        let mut turns: Vec<Turn> = self
            .tree
            .path(index)
            .map(|index| {
                let message = &self.messages[index];
                let turn = if message.assistant { Turn::assistant } else { Turn::user };
                turn(message.text.clone())
            })
            .collect();
        turns.reverse();
        turns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::ingest::sources::tests::{Collected, read};

    fn message(id: &str, parent: Option<&str>, rank: Option<i64>) -> Value {
        let role = if rank.is_some() || id.starts_with('a') { "assistant" } else { "prompter" };
        json!({"message_id": id, "parent_id": parent, "text": format!("text {id}"), "role": role, "lang": "en",
            "rank": rank, "review_result": true, "deleted": false, "synthetic": false})
    }

    fn flat(source: &str, messages: &[Value]) -> Collected {
        let lines: Vec<String> = messages.iter().map(Value::to_string).collect();
        read(source, "a.jsonl", lines.join("\n").as_bytes())
    }

    fn pairs(reading: &Collected) -> Vec<(&str, &str)> {
        let mut pairs = Vec::new();
        for group in &reading.groups {
            let text = |index: usize| group.completions[index].messages[0].content.as_str();
            pairs.extend(group.pairs.iter().map(|(chosen, rejected)| (text(*chosen), text(*rejected))));
        }
        pairs
    }

    /// A question with four replies, ranked 0, 1, 3 and not at all and listed worst first; the
    /// conversation continues below the best.
    fn replies() -> Vec<Value> {
        vec![
            message("a3", Some("p"), Some(3)),
            message("p", None, None),
            message("a1", Some("p"), Some(1)),
            message("a0", Some("p"), Some(0)),
            message("a-", Some("p"), None),
            message("q", Some("a0"), None),
            message("b1", Some("q"), Some(1)),
            message("b0", Some("q"), Some(0)),
        ]
    }

    #[test]
    fn adjacent_ranks_leave_gaps_and_all_ranks_bridge_them() {
        let adjacent = flat("{}", &replies());
        assert_eq!(pairs(&adjacent), [("text a0", "text a1"), ("text b0", "text b1")]);
        assert_eq!((adjacent.counts.noted["rank_gap"], adjacent.counts.noted["unranked_replies"]), (1, 1));
        let below: Vec<&str> = adjacent.groups[1].prompt.iter().map(|turn| turn.content.as_str()).collect();
        assert_eq!(below, ["text p", "text a0", "text q"]);
        let all = flat("{ranks: all}", &replies());
        let expected =
            [("text a0", "text a1"), ("text a0", "text a3"), ("text a1", "text a3"), ("text b0", "text b1")];
        assert_eq!(pairs(&all), expected);
        assert_eq!(all.groups[0].completions[0].score, Some(0.0));
    }

    #[test]
    fn a_tree_and_its_flat_messages_give_the_same() {
        let nested = json!({"message_tree_id": "p", "prompt": {"message_id": "p", "text": "text p", "role": "prompter", "lang": "en", "replies": [
            {"message_id": "a1", "text": "text a1", "role": "assistant", "lang": "en", "rank": 1},
            {"message_id": "a0", "text": "text a0", "role": "assistant", "lang": "en", "rank": 0, "replies": [
                {"message_id": "q", "text": "text q", "role": "prompter", "lang": "en", "replies": [
                    {"message_id": "b0", "text": "text b0", "role": "assistant", "lang": "en", "rank": 0},
                    {"message_id": "b1", "text": "text b1", "role": "assistant", "lang": "en", "rank": 1}]}]},
            {"message_id": "a3", "text": "text a3", "role": "assistant", "lang": "en", "rank": 3},
            {"message_id": "a-", "text": "text a-", "role": "assistant", "lang": "en"}]}});
        let (tree, flat) = (flat("{}", &[nested]), flat("{}", &replies()));
        assert_eq!((pairs(&tree), &tree.counts.noted), (pairs(&flat), &flat.counts.noted));
        assert_eq!((tree.counts.read, flat.counts.read), (1, 8));
    }

    #[test]
    fn replies_in_a_message_without_a_tree_around_it_are_read() {
        let reply = |id: &str, rank: Option<i64>, replies: Value| json!({"message_id": id, "text": format!("text {id}"), "role": "assistant", "lang": "en", "rank": rank, "replies": replies});
        let question = |id: &str, parent: Option<&str>, replies: Value| json!({"message_id": id, "parent_id": parent, "text": format!("text {id}"), "role": "prompter", "lang": "en", "replies": replies});
        let below =
            question("q", None, json!([reply("b1", Some(1), json!([])), reply("b0", Some(0), json!(null))]));
        let nested = question(
            "p",
            None,
            json!([reply("a1", Some(1), json!([])), reply("a0", Some(0), json!([below]))]),
        );
        let expected = [("text a0", "text a1"), ("text b0", "text b1")];
        let reading = flat("{}", std::slice::from_ref(&nested));
        assert_eq!(pairs(&reading), expected);
        assert_eq!((reading.counts.read, reading.counts.kept), (1, 1));
        // The replies may have rows of their own too, and be spread over rows.
        let both = flat("{}", &[nested, message("a1", Some("p"), Some(1))]);
        assert_eq!(pairs(&both), expected);
        assert_eq!((both.counts.kept, both.counts.filtered["repeated_message"]), (1, 1));
        let parts = [
            question("p", None, json!([reply("a1", Some(1), json!([]))])),
            message("a0", Some("p"), Some(0)),
            question(
                "q",
                Some("a0"),
                json!([reply("b1", Some(1), json!([])), reply("b0", Some(0), json!([]))]),
            ),
        ];
        assert_eq!(pairs(&flat("{}", &parts)), expected);
    }

    #[test]
    fn ranks_and_flags_are_read_from_tables_too() {
        let table = "message_id,parent_id,text,role,lang,rank,deleted,labels\n\
                     p,,question,prompter,en,,False,\n\
                     a,p,good,assistant,en,0.0,False,\"{'name': ['quality'], 'value': [0.75], 'count': [1]}\"\n\
                     b,p,bad,assistant,en,1.0,False,\"{\"\"quality\"\": {\"\"value\"\": 0.25}}\"\n\
                     c,p,worse,assistant,en,2.0,True,not asked for\n";
        let reading = read("{drop_deleted: true}", "a.csv", table.as_bytes());
        assert_eq!(pairs(&reading), [("good", "bad")]);
        assert_eq!((reading.counts.kept, reading.counts.filtered["deleted"]), (3, 1));
        let reading = read("{drop_deleted: true, rating: quality}", "a.csv", table.as_bytes());
        assert_eq!(reading.counts.rejected_by_reason["wrong_type"], 1);
        assert_eq!(reading.groups[0].completions[0].score, Some(0.75));
        assert_eq!(reading.groups[0].completions[1].score, Some(0.25));
        let floats = replies();
        let floats: Vec<String> = floats
            .iter()
            .map(|row| {
                row.to_string()
                    .replace("\"rank\":0,", "\"rank\":0.0,")
                    .replace("\"rank\":1,", "\"rank\":\"1\",")
            })
            .collect();
        let floats = read("{}", "a.jsonl", floats.join("\n").as_bytes());
        assert_eq!(pairs(&floats), pairs(&flat("{}", &replies())));
    }

    #[test]
    fn filters_take_the_conversation_below_with_them() {
        let mut messages = replies();
        messages[3]["lang"] = json!("de");
        let reading = flat("{}", &messages);
        assert!(pairs(&reading).is_empty());
        let filtered = &reading.counts.filtered;
        assert_eq!((filtered["other_language"], filtered["after_a_message_left_out"]), (1, 3));
        for (key, value, option, why) in [
            ("deleted", json!(true), "drop_deleted", "deleted"),
            ("synthetic", json!(true), "drop_synthetic", "synthetic"),
            ("review_result", json!(null), "only_reviewed", "not_reviewed"),
        ] {
            let mut messages = replies();
            messages[2][key] = value;
            assert_eq!(pairs(&flat("{}", &messages)).len(), 2);
            let reading = flat(&format!("{{{option}: true}}"), &messages);
            assert_eq!((pairs(&reading).len(), reading.counts.filtered[why]), (1, 1));
        }
    }

    #[test]
    fn orphans_circles_and_repeated_messages_are_counted() {
        let messages = [
            message("p", None, None),
            message("p", None, None),
            message("x", Some("nowhere"), None),
            message("a0", Some("x"), Some(0)),
            message("c", Some("d"), None),
            message("d", Some("c"), None),
            message("e", Some("e"), None),
        ];
        let reading = flat("{kind: oasst}", &messages);
        let filtered: Vec<_> =
            reading.counts.filtered.iter().map(|(why, count)| (why.as_str(), *count)).collect();
        let expected = [
            ("after_a_message_left_out", 2),
            ("cycle", 2),
            ("no_judgement", 1),
            ("orphan", 1),
            ("repeated_message", 1),
        ];
        assert_eq!(filtered, expected);
    }

    #[test]
    fn ratings_can_be_the_score() {
        let mut messages = replies();
        messages[0]["labels"] = json!({"name": ["spam", "quality"], "value": [0.0, 0.25], "count": [1, 1]});
        messages[4]["labels"] = json!({"quality": {"value": 0.75, "count": 3}});
        let source = "{kind: oasst, rating: quality, binarise: {by: threshold, at: 0.5}}";
        let reading = flat(source, &messages);
        let labels: Vec<_> = reading.groups[0].completions.iter().map(|reply| reply.label).collect();
        assert_eq!(labels, [None, None, Some(false), Some(true)]);
    }

    proptest! {
        #[test]
        fn any_graph_of_messages_is_read(edges in proptest::collection::vec((0u8..12, proptest::option::of(0u8..14), proptest::option::of(0i64..4)), 0..24)) {
            let messages: Vec<Value> = edges
                .iter()
                .map(|(id, parent, rank)| message(&id.to_string(), parent.map(|p| p.to_string()).as_deref(), *rank))
                .collect();
            let reading = flat("{kind: oasst, ranks: all}", &messages);
            prop_assert_eq!(reading.counts.read as usize, messages.len());
        }
    }
}
