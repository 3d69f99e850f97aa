//! Group, time and split of a record, in the columns that the recipe names.

use serde_json::Value;

use crate::{
    Split,
    ingest::{
        raw::{Flaw, RejectReason},
        sources::{
            columns::{Columns, FoundValue, RecordField},
            excerpt::excerpt_value,
            files::named_split,
            json::{Object, wrong_type},
        },
    },
    table::{group_salt::GroupSalt, log_entry::LogEntry, timestamp::Timestamp},
};

/// Group, time and split of a record. It holds the name of the group, which must not be stored.
#[derive(Default)]
pub(crate) struct RecordLog {
    group: Option<String>,
    time: Option<Timestamp>,
    /// Split that the record names; None if the recipe maps no column to it.
    pub(crate) split: Option<Split>,
}

impl RecordLog {
    /// Reads the columns that the recipe maps to group and time. Null and empty values count as
    /// absent.
    pub(crate) fn read(columns: &Columns, record: &Object) -> Result<Self, Flaw> {
        let group = columns.find(record, RecordField::Group).map_or(Ok(None), group)?;
        let time = columns.find(record, RecordField::Time).map_or(Ok(None), time)?;
        let split = columns.mapping(RecordField::Split).map(|_| split(columns, record)).transpose()?;
        Ok(Self { group, time, split })
    }

    /// Replaces the name of the group by its salted hash.
    pub(crate) fn entry(&self, salt: &GroupSalt) -> LogEntry {
        LogEntry { group: self.group.as_deref().map(|name| salt.hash(name)), time: self.time }
    }
}

fn split(columns: &Columns, record: &Object) -> Result<Split, Flaw> {
    let found = columns.need(record, RecordField::Split)?;
    found.value.as_str().and_then(named_split).ok_or_else(|| Flaw {
        reason: RejectReason::BadValue,
        detail: format!(
            "`{}` is {}, expected train, test or validation",
            found.name,
            excerpt_value(found.value)
        ),
    })
}

/// Returns a text, or a number as text. A whole number is the same group with and without `.0`.
/// The flaw of other values does not quote them.
fn group(found: FoundValue<'_>) -> Result<Option<String>, Flaw> {
    let name = match found.value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(whole) if number.is_f64() && whole.fract() == 0.0 && whole.abs() < 1e15 => {
                (whole as i64).to_string()
            }
            _ => number.to_string(),
        },
        other => return Err(wrong_type(found.name, other, "a text or a number")),
    };
    Ok((!name.is_empty()).then_some(name))
}

fn time(found: FoundValue<'_>) -> Result<Option<Timestamp>, Flaw> {
    let time = match found.value {
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => Timestamp::from_text(text),
        Value::Number(number) => number.as_f64().and_then(Timestamp::from_number),
        other => return Err(wrong_type(found.name, other, "a time")),
    };
    time.map(Some).ok_or_else(|| Flaw {
        reason: RejectReason::BadValue,
        detail: format!(
            "`{}` is {}, expected ISO 8601 (2024-05-01T12:30:00Z) or seconds or milliseconds since 1970",
            found.name,
            excerpt_value(found.value)
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::ingest::sources::tests::{Collected, read};

    fn logged(rows: &[serde_json::Value]) -> Collected {
        let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
        read("{columns: {group: meta.user, time: at}}", "a.jsonl", lines.join("\n").as_bytes())
    }

    #[test]
    fn groups_are_hashed_and_equal_however_they_are_written() {
        let row = |user: serde_json::Value| json!({"prompt": "p", "completion": "c", "label": 1, "meta": {"user": user}});
        let users =
            [json!(12), json!(12.0), json!(" 12 "), json!("13"), json!(""), json!(null), json!({"id": 7})];
        let reading = logged(&users.map(row));
        let groups: Vec<_> = reading.groups.iter().map(|group| group.log.group).collect();
        assert!(groups[0].is_some() && groups[..3].iter().all(|group| *group == groups[0]));
        assert!(groups[3].is_some() && groups[3] != groups[0]);
        assert_eq!(groups[4..], [None, None]);
        assert_eq!(reading.rejected[0].detail, "`meta.user` is an object, expected a text or a number");
    }

    #[test]
    fn times_are_read_in_every_kind_and_unclear_ones_rejected() {
        let rows = [
            json!({"prompt": "p", "completion": "c", "label": 1, "at": "2024-05-01 10:00"}),
            json!({"prompt": "p", "completion": "c", "label": 1, "at": 1_714_557_600}),
            json!({"prompt": "p", "completion": "c", "label": 1}),
            json!({"prompt": "p", "completion": "c", "label": 1, "at": "01/05/2024"}),
            json!({"prompt": "p", "completion": "c", "label": 1, "at": true}),
            json!({"prompt": "p", "completion": "", "label": 1, "at": "soon"}),
        ];
        let reading = logged(&rows);
        let times: Vec<_> =
            reading.groups.iter().map(|group| group.log.time.map(|time| time.to_string())).collect();
        let noon = Some("2024-05-01T10:00:00Z".to_owned());
        assert_eq!(times, [noon.clone(), noon.clone(), None]);
        let reasons: Vec<&str> = reading.rejected.iter().map(|row| row.reason.as_str()).collect();
        assert_eq!(reasons, ["bad_value", "wrong_type", "bad_value+empty_completion"]);
        for (source, row) in [
            (
                "{columns: {time: at}}",
                json!({"prompt": "p", "chosen": "a", "rejected": "b", "at": 1_714_557_600_000_u64}),
            ),
            (
                "{columns: {time: at}, binarise: {by: best_and_worst}}",
                json!({"prompt": "p", "completions": ["a", "b"], "scores": [1, 2], "at": "2024-05-01T10:00Z"}),
            ),
        ] {
            let reading = read(source, "a.jsonl", row.to_string().as_bytes());
            assert_eq!(reading.groups[0].log.time.map(|time| time.to_string()), noon, "{row}");
        }
    }
}
