//! TensorBoard event files: TFRecords with one protobuf `Event` each.
//!
//! Scalars need six fields, which are encoded here without a protobuf library. Runs record no wall
//! time, so use steps as the horizontal axis.

use std::{io::Write, path::Path};

use prospect_core::files::write_whole;
use prospect_runs::MetricsRecord;

use super::NamedRun;
use crate::ReportError;

/// Writes `NAME/events.out.tfevents.…` for every run with metrics, and returns the number of runs.
pub(super) fn write(named: &[NamedRun<'_>], folder: &Path) -> Result<usize, ReportError> {
    let mut runs = 0;
    for NamedRun { name, run } in named.iter().filter(|named| !named.run.metrics.is_empty()) {
        let path = folder.join(name).join("events.out.tfevents.0000000000.prospect");
        write_whole(&path, |writer| writer.write_all(&events(&run.metrics)))?;
        runs += 1;
    }
    Ok(runs)
}

/// Encodes an event file: a version record, then one event for each record.
fn events(records: &[MetricsRecord]) -> Vec<u8> {
    let mut file = Vec::new();
    // Event.file_version = 3
    add_record(&mut file, &bytes(3, b"brain.Event:2"));
    for record in records {
        // Event.step = 2, Event.summary = 5, Summary.value = 1
        let values = record.values.iter().flat_map(|(name, value)| bytes(1, &scalar(name, *value)));
        let mut event = vec![2 << 3];
        add_varint(&mut event, record.step);
        event.extend(bytes(5, &values.collect::<Vec<u8>>()));
        add_record(&mut file, &event);
    }
    file
}

/// Encodes `Summary.Value`: tag = 1, simple_value = 2 (float).
fn scalar(name: &str, value: f64) -> Vec<u8> {
    let mut message = bytes(1, name.as_bytes());
    message.push(2 << 3 | 5);
    message.extend((value as f32).to_le_bytes());
    message
}

/// Encodes a length-delimited protobuf field.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![field << 3 | 2];
    add_varint(&mut message, content.len() as u64);
    message.extend(content);
    message
}

fn add_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// Appends a TFRecord: length, checksum of the length, content, checksum of the content.
fn add_record(file: &mut Vec<u8>, content: &[u8]) {
    let length = (content.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(crc32c(&length)).to_le_bytes());
    file.extend(content);
    file.extend(masked(crc32c(content)).to_le_bytes());
}

/// Masks a checksum as TFRecord requires: rotates it and adds a constant.
///
/// CRCs of data that contains CRCs would be weak otherwise.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Computes CRC-32C (Castagnoli), one byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |sum, byte| sum >> 8 ^ TABLE[(sum as u8 ^ byte) as usize])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use prospect_runs::RecordKind;

    use super::*;

    /// Splits an event file into records, with an independent bitwise checksum.
    fn frames(mut file: &[u8]) -> Vec<&[u8]> {
        let check = |bytes: &[u8]| -> [u8; 4] {
            let mut register = u64::from(u32::MAX);
            for byte in bytes {
                for bit in 0..8 {
                    let carry = (register ^ u64::from(byte >> bit)) & 1;
                    register = (register >> 1) ^ (carry * 0x82f6_3b78);
                }
            }
            let sum = register as u32 ^ u32::MAX;
            sum.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
        };
        let mut found = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            assert_eq!(file[8..12], check(&file[..8]));
            let content = &file[12..12 + length];
            assert_eq!(file[12 + length..16 + length], check(content));
            found.push(content);
            file = &file[16 + length..];
        }
        found
    }

    #[derive(Debug, PartialEq)]
    enum ProtobufField<'a> {
        Number(u64),
        Float(f32),
        Bytes(&'a [u8]),
    }

    fn fields(mut message: &[u8]) -> Vec<(u64, ProtobufField<'_>)> {
        fn varint(message: &mut &[u8]) -> u64 {
            let length = message.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let (head, rest) = message.split_at(length);
            *message = rest;
            head.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
        }
        let mut found = Vec::new();
        while !message.is_empty() {
            let key = varint(&mut message);
            let field = match key & 7 {
                0 => ProtobufField::Number(varint(&mut message)),
                2 => {
                    let length = varint(&mut message) as usize;
                    let (head, rest) = message.split_at(length);
                    message = rest;
                    ProtobufField::Bytes(head)
                }
                5 => {
                    let (head, rest) = message.split_at(4);
                    message = rest;
                    ProtobufField::Float(f32::from_le_bytes(head.try_into().unwrap()))
                }
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, field));
        }
        found
    }

    #[test]
    fn checksums_match_the_standard() {
        // RFC 3720, B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn event_files_round_trip() {
        let record = |kind, step, values: &[(&str, f64)]| MetricsRecord {
            kind,
            step,
            values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        };
        let long = "x".repeat(300);
        let records = [
            record(RecordKind::Eval, 0, &[("eval_loss", 0.5)]),
            record(RecordKind::Train, 300, &[("loss", -0.25), ("rewards/chosen", 1e-3)]),
            record(RecordKind::Train, 70_000, &[(&long, 3.0)]),
        ];
        let file = events(&records);
        let frames = frames(&file);
        assert_eq!(fields(frames[0]), [(3, ProtobufField::Bytes(b"brain.Event:2"))]);
        for (record, frame) in records.iter().zip(&frames[1..]) {
            let event = fields(frame);
            let [(2, ProtobufField::Number(step)), (5, ProtobufField::Bytes(summary))] = event.as_slice()
            else {
                panic!("{event:?}")
            };
            assert_eq!(*step, record.step);
            for ((number, value), (name, expected)) in fields(summary).iter().zip(&record.values) {
                let (1, ProtobufField::Bytes(value)) = (number, value) else { panic!("{value:?}") };
                let tag = (1, ProtobufField::Bytes(name.as_bytes()));
                assert_eq!(fields(value), [tag, (2, ProtobufField::Float(*expected as f32))]);
            }
            assert_eq!(fields(summary).len(), record.values.len());
        }
        assert_eq!(frames.len(), 1 + records.len());
    }
}
