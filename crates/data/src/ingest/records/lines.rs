//! JSON Lines: one object per line.

use crate::{
    DataError,
    ingest::{
        raw::{Flaw, RejectReason},
        records::{MAX_RECORD_BYTES, RecordHandler, text::InputText},
    },
};

/// Calls `each` for every line that is not blank. Returns the number of blank lines.
pub(super) fn read(text: &mut InputText, each: &mut RecordHandler<'_>) -> Result<u64, DataError> {
    let (mut number, mut blank, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        if text.line(&mut line, MAX_RECORD_BYTES)? == 0 {
            return Ok(blank);
        }
        number += 1;
        if line.len() == MAX_RECORD_BYTES && line.last() != Some(&b'\n') {
            let longer = skip_line(text, &mut line)?;
            if longer {
                each(number, Err(too_long()))?;
                text.records += 1;
                continue;
            }
        }
        match line.trim_ascii() {
            [] => blank += 1,
            content => each(number, Ok(content))?,
        }
        text.records += 1;
    }
}

/// Skips the rest of a line. Returns true if it held more than white space.
fn skip_line(text: &mut InputText, line: &mut Vec<u8>) -> Result<bool, DataError> {
    let mut longer = false;
    loop {
        let kept = line.len();
        let read = text.line(line, 1 << 16)?;
        let ended = read == 0 || line.last() == Some(&b'\n');
        longer |= line.get(kept..).is_some_and(|rest| !rest.trim_ascii().is_empty());
        line.truncate(kept);
        if ended {
            return Ok(longer);
        }
    }
}

pub(super) fn too_long() -> Flaw {
    Flaw { reason: RejectReason::TooLong, detail: format!("longer than {} MiB", MAX_RECORD_BYTES >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::records::{
        FileNotes,
        tests::{records, sound},
    };

    #[test]
    fn marks_blank_lines_and_carriage_returns_are_tolerated() {
        let (lines, notes) = records("a.jsonl", b"\xef\xbb\xbfa\r\n\r\n  \nb").unwrap();
        assert_eq!(lines, [(1, Ok("a".to_owned())), (4, Ok("b".to_owned()))]);
        assert_eq!(notes, FileNotes { byte_order_mark: true, blank_lines: 2, ..FileNotes::default() });
        assert!(sound("a.jsonl", "").is_empty());
    }

    #[test]
    fn a_line_longer_than_the_longest_is_rejected_and_the_next_one_read() {
        let mut text = vec![b'x'; MAX_RECORD_BYTES + 5];
        text.extend(b"\nnext\n");
        let mut fits = vec![b'y'; MAX_RECORD_BYTES];
        text.append(&mut fits);
        text.extend(b"\r\n");
        let (lines, _) = records("a.jsonl", &text).unwrap();
        assert_eq!(lines[0], (1, Err(too_long())));
        assert_eq!(lines[1], (2, Ok("next".to_owned())));
        assert_eq!((lines[2].0, lines[2].1.as_ref().unwrap().len()), (3, MAX_RECORD_BYTES));
    }
}
