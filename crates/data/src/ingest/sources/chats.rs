//! Exports of chat applications: conversations whose replies have thumbs. Read are Open WebUI
//! (feedback and chats), LibreChat (conversations and messages), ChatGPT (conversations with
//! `message_feedback.json`), FastChat (votes) and FastGPT (messages).
//!
//! The prompt of a rated reply is the path from the first message to it, whatever follows. A thumb
//! gives a label; opposite thumbs on replies to the same message also give a pair, even if the
//! export has them in different records.

mod chatgpt;
mod fastchat;
mod fastgpt;
mod librechat;
mod message;
mod openwebui;
mod replies;

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use crate::{
    DataError, Split,
    ingest::{
        raw::{Flaw, RawGroup, RawRow, RejectReason, Remark, RowSink},
        shard::ShardFilter,
        sources::{
            columns::Columns,
            files::HashedFile,
            json::{self, Object},
            per_record::{Draft, SourceContext},
            record_log::RecordLog,
            thumb_words::ThumbWords,
        },
    },
    table::timestamp::Timestamp,
};
use message::{Chat, ChatMessage, Rating};
use replies::{RatedReply, Replies};

/// Settings of the source.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Chats {
    #[serde(skip_serializing_if = "Columns::is_empty")]
    pub(crate) columns: Columns,
    #[serde(skip_serializing_if = "ThumbWords::is_empty")]
    pub(crate) words: ThumbWords,
    /// Pairs a reply with a thumb up with the unrated replies to the same message.
    pub(crate) unrated_siblings_lose: bool,
}

/// Contents of a record.
enum ChatRecord {
    /// A conversation with its ratings.
    Chat(Chat),
    /// A message of a conversation that other records continue.
    Message { chat: String, message: Box<ChatMessage>, rating: Option<Value> },
    /// A message that follows the one before it in its conversation: by time, else by record.
    Next { chat: String, message: Box<ChatMessage>, time: Option<Timestamp>, ratings: Vec<Rating> },
    /// A rating of a message in another record.
    Rating { chat: String, rating: Rating },
    /// Judged replies without a tree.
    Judged(Draft),
    /// A record that holds no judgement.
    Unjudged(&'static str),
}

/// Returns the name of the application whose export a record belongs to, if it is one of them.
pub(crate) fn application(record: &Object) -> Option<&'static str> {
    if openwebui::is_feedback(record) {
        Some("Open WebUI, feedback export")
    } else if openwebui::is_chat(record) {
        Some("Open WebUI, chat export")
    } else if librechat::is_conversation(record) || librechat::is_message(record) {
        Some("LibreChat")
    } else if chatgpt::is_conversation(record) || chatgpt::is_rating(record) {
        Some("ChatGPT, data export")
    } else if fastchat::is_vote(record) {
        Some("FastChat, votes")
    } else if fastgpt::is_message(record) {
        Some("FastGPT, messages")
    } else {
        None
    }
}

fn parse(record: &Object) -> Result<ChatRecord, Flaw> {
    if openwebui::is_feedback(record) {
        openwebui::feedback(record).map(ChatRecord::Chat)
    } else if openwebui::is_chat(record) {
        openwebui::chat(record).map(ChatRecord::Chat)
    } else if librechat::is_conversation(record) {
        librechat::conversation(record).map(ChatRecord::Chat)
    } else if librechat::is_message(record) {
        librechat::message(record)
    } else if chatgpt::is_conversation(record) {
        Ok(ChatRecord::Chat(chatgpt::conversation(record)))
    } else if chatgpt::is_rating(record) {
        chatgpt::rating(record)
    } else if fastchat::is_vote(record) {
        fastchat::vote(record)
    } else if fastgpt::is_message(record) {
        fastgpt::message(record)
    } else {
        let detail = "not a record of Open WebUI, LibreChat, ChatGPT, FastChat or FastGPT".to_owned();
        Err(Flaw { reason: RejectReason::MissingField, detail })
    }
}

/// A row to be passed on, with its groups still to come.
struct PendingRow {
    row: RawRow,
    split: Option<Split>,
    log: RecordLog,
}

/// Reads all files of the source. Rows follow at the end, since records can share a conversation.
pub(crate) fn read<'a>(
    files: &'a [HashedFile],
    chats: &Chats,
    context: &dyn Fn(&'a HashedFile) -> SourceContext<'a>,
    into: &mut ShardFilter<'_>,
) -> Result<(), DataError> {
    let mut reading =
        Reading { chats, rows: Vec::new(), replies: Replies::default(), open: OpenChats::default() };
    if files.len() > 1 {
        for file in files {
            let _ = file.for_each_record(None, &mut |_, record| {
                let rating = record.and_then(json::parse::<Object>).ok().filter(chatgpt::is_rating);
                if let Some(Ok(ChatRecord::Rating { chat, rating })) = rating.map(|record| parse(&record)) {
                    reading.open.ratings.entry(chat).or_default().push(rating);
                }
                Ok(())
            })?;
        }
    }
    for file in files {
        let name: Arc<str> = file.name().into();
        let notes = file.for_each_record(None, &mut |line, record| {
            reading.take(record, file.split, &name, line);
            Ok(())
        })?;
        notes.remarks().for_each(|(remark, times)| into.remark(remark, times));
    }
    reading.finish_open();
    let Reading { rows, replies, .. } = reading;
    let mut drafts: HashMap<usize, Vec<Draft>> = HashMap::new();
    let mut remarks: HashMap<usize, Vec<Remark>> = HashMap::new();
    for (row, draft, noted) in replies.into_drafts(chats.unrated_siblings_lose) {
        remarks.entry(row).or_default().extend(draft.remarks().into_iter().chain(noted));
        drafts.entry(row).or_default().push(draft);
    }
    let Some(first) = files.first() else { return Ok(()) };
    let context = context(first);
    let finished = rows.into_iter().enumerate().map(|(index, PendingRow { mut row, split, log })| {
        row.remarks.extend(remarks.remove(&index).unwrap_or_default());
        if let Ok(groups) = &mut row.outcome {
            let log = log.entry(&context.salt);
            let group = |draft: Draft| RawGroup { log, ..draft.group(split, &context) };
            groups.extend(drafts.remove(&index).unwrap_or_default().into_iter().map(group));
        }
        row
    });
    into.rows(finished.collect())
}

/// Conversations whose messages or ratings are in several records.
#[derive(Default)]
struct OpenChats {
    /// Conversations in order of appearance.
    chats: Vec<OpenChat>,
    by_key: HashMap<String, usize>,
    /// Ratings of messages in other records.
    ratings: HashMap<String, Vec<Rating>>,
}

/// A conversation with one message in each of several records.
struct OpenChat {
    chat: Chat,
    /// Row of each message.
    rows: Vec<usize>,
    /// Time of each message, if messages follow each other; empty if they name their parents.
    times: Vec<Option<Timestamp>>,
}

impl OpenChats {
    /// Returns the conversation of this name.
    fn chat(&mut self, name: String) -> &mut OpenChat {
        let index = *self.by_key.entry(name.clone()).or_insert(self.chats.len());
        if index == self.chats.len() {
            self.chats.push(OpenChat { chat: Chat::new(name), rows: Vec::new(), times: Vec::new() });
        }
        &mut self.chats[index]
    }
}

impl OpenChat {
    /// Makes each message the parent of the next one, if they name no parents.
    fn link(&mut self) {
        if self.times.is_empty() {
            return;
        }
        let mut order: Vec<usize> = (0..self.chat.messages.len()).collect();
        if self.times.iter().all(Option::is_some) {
            order.sort_by_key(|index| self.times[*index]);
        }
        for two in order.windows(2) {
            self.chat.messages[two[1]].parent = Some(self.chat.messages[two[0]].id.clone());
        }
    }
}

/// State of reading the files.
struct Reading<'a> {
    chats: &'a Chats,
    rows: Vec<PendingRow>,
    replies: Replies,
    open: OpenChats,
}

impl Reading<'_> {
    fn take(&mut self, record: Result<&[u8], Flaw>, split: Option<Split>, file: &Arc<str>, line: usize) {
        let index = self.rows.len();
        let outcome = Ok(Vec::new());
        let row = RawRow { file: file.clone(), line, outcome, remarks: Vec::new(), in_other_rows: false };
        self.rows.push(PendingRow { row, split, log: RecordLog::default() });
        let parsed = record.and_then(json::parse::<Object>).and_then(|record| {
            self.rows[index].log = RecordLog::read(&self.chats.columns, &record)?;
            parse(&record)
        });
        match parsed {
            Err(flaw) => self.rows[index].row.outcome = Err(vec![flaw]),
            Ok(ChatRecord::Unjudged(why)) => self.rows[index].row.remarks.push(Remark::Filtered(why)),
            Ok(ChatRecord::Judged(draft)) => match draft.flaws() {
                flaws if flaws.is_empty() => self.replies.add_draft(index, draft),
                flaws => self.rows[index].row.outcome = Err(flaws),
            },
            Ok(ChatRecord::Chat(mut chat)) => {
                chat.ratings.extend(self.open.ratings.get(&chat.key).cloned().unwrap_or_default());
                self.judge(index, chat);
            }
            Ok(ChatRecord::Message { chat, message, rating }) => {
                let open = self.open.chat(chat);
                let rating = rating.map(|value| Rating { message: message.id.clone(), value });
                open.chat.ratings.extend(rating);
                open.chat.messages.push(*message);
                open.rows.push(index);
            }
            Ok(ChatRecord::Next { chat, message, time, ratings }) => {
                let open = self.open.chat(chat);
                open.chat.ratings.extend(ratings);
                open.chat.messages.push(*message);
                open.times.push(time);
                open.rows.push(index);
            }
            Ok(ChatRecord::Rating { chat, .. }) => {
                // It was read before; here it is only counted as a row.
                let known = self.open.ratings.contains_key(&chat);
                let row = &mut self.rows[index].row;
                if known {
                    row.in_other_rows = true;
                } else {
                    let detail = "a rating without the file of its conversation; read both files (`join`)";
                    let flaw = Flaw { reason: RejectReason::MissingField, detail: detail.to_owned() };
                    row.outcome = Err(vec![flaw]);
                }
            }
        }
    }

    /// Adds the rated replies of a conversation to those of a row.
    fn judge(&mut self, row: usize, chat: Chat) {
        let judged = chat.judge(&self.chats.words);
        let PendingRow { row: raw, .. } = &mut self.rows[row];
        raw.remarks.extend(judged.remarks);
        if judged.replies.is_empty() && !judged.flaws.is_empty() {
            raw.outcome = Err(judged.flaws);
            return;
        }
        raw.remarks.extend(judged.flaws.iter().map(|flaw| Remark::Filtered(flaw.reason.into())));
        for reply in judged.replies {
            let other = self.replies.add(row, reply);
            self.rows[row].row.in_other_rows |= other;
        }
    }

    /// Judges the conversations that are in several records.
    fn finish_open(&mut self) {
        for mut open in std::mem::take(&mut self.open.chats) {
            open.link();
            let OpenChat { chat, rows, .. } = open;
            let Some(first) = rows.first().copied() else { continue };
            let before = self.replies.len();
            self.judge(first, chat);
            if self.replies.len() > before {
                rows.iter().skip(1).for_each(|row| self.rows[*row].row.in_other_rows = true);
            }
        }
    }
}
