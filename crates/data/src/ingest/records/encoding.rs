//! Character encodings of text files: detection, and decoding to UTF-8.
//!
//! UTF-16 is recognised by its byte order mark, or by the zero bytes of its first letters. A table
//! that is not UTF-8 is Windows-1252 if its other letters stand alone among ASCII, as those of
//! Western European languages do; no other encoding is guessed. What cannot be decoded becomes
//! bytes that are not UTF-8, so that the row is rejected as such.

use std::io::{self, BufRead, Read};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Character encoding of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TextEncoding {
    /// UTF-8.
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16, little-endian unless a byte order mark says otherwise.
    #[serde(rename = "utf-16")]
    Utf16,
    /// Windows-1252, which contains Latin-1.
    #[serde(rename = "windows-1252")]
    Windows1252,
}

/// Encoding with its byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf16Le,
    Utf16Be,
    Windows1252,
}

/// Statistics of bytes that tell encodings apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct ByteCounts {
    /// Letters of several bytes that are valid UTF-8.
    letters: u64,
    /// Places that are not valid UTF-8.
    invalid: u64,
    /// Bytes in these places.
    high: u64,
    /// Bytes that follow another one.
    adjacent: u64,
    /// Bytes that Windows-1252 does not define.
    undefined: u64,
}

/// Characters of the bytes 0x80 to 0x9F in Windows-1252; zero where it defines none.
const WINDOWS_1252: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’', '“',
    '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// Byte that is never part of UTF-8.
const NOT_UTF8: u8 = 0xff;

impl Charset {
    /// Returns the encoding of a text that begins with `start`; None for UTF-8. `given` is the
    /// encoding that the recipe names.
    pub(super) fn detect(start: &[u8], given: Option<TextEncoding>) -> Option<Self> {
        let big_endian = match *start {
            [0xff, 0xfe, ..] => Some(false),
            [0xfe, 0xff, ..] => Some(true),
            [first, 0, second, 0, ..] if first != 0 && second != 0 => Some(false),
            [0, first, 0, second, ..] if first != 0 && second != 0 => Some(true),
            _ => None,
        };
        let utf16 = |big_endian: bool| if big_endian { Self::Utf16Be } else { Self::Utf16Le };
        match given {
            Some(TextEncoding::Utf8) => None,
            Some(TextEncoding::Windows1252) => Some(Self::Windows1252),
            Some(TextEncoding::Utf16) => Some(utf16(big_endian.unwrap_or_default())),
            None => big_endian.map(utf16),
        }
    }

    /// Returns the name under which files in this encoding are counted.
    pub(super) fn remark(self) -> &'static str {
        match self {
            Self::Utf16Le | Self::Utf16Be => "utf_16",
            Self::Windows1252 => "windows_1252",
        }
    }
}

/// Reads a text that does not begin as UTF-16 to its end. Returns Windows-1252, None for UTF-8, or
/// as error the reason why it is neither.
pub(super) fn examine(text: &mut dyn BufRead) -> io::Result<Result<Option<Charset>, String>> {
    let mut counts = ByteCounts::default();
    let mut carry: Vec<u8> = Vec::new();
    let mut after_high = false;
    loop {
        let bytes = text.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            // A letter that is not complete at the end is a cut, not another encoding.
            return Ok(counts.verdict());
        }
        if carry.is_empty() && bytes.is_ascii() {
            after_high = false;
        } else {
            carry.extend_from_slice(bytes);
            let rest = counts.add(&carry, &mut after_high);
            carry.drain(..rest);
        }
        text.consume(length);
    }
}

impl ByteCounts {
    /// Counts bytes up to a letter that is not complete. Returns their number.
    fn add(&mut self, bytes: &[u8], after_high: &mut bool) -> usize {
        let mut start = 0;
        while let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) {
            let (valid, skipped) = match std::str::from_utf8(rest) {
                Ok(_) => (rest.len(), 0),
                Err(error) => match error.error_len() {
                    Some(length) => (error.valid_up_to(), length),
                    None => (error.valid_up_to(), 0),
                },
            };
            *after_high &= valid == 0;
            self.letters += rest[..valid].iter().filter(|byte| **byte >= 0xc0).count() as u64;
            self.invalid += u64::from(skipped > 0);
            self.classify(&rest[valid..valid + skipped], after_high);
            start += valid + skipped;
            if skipped == 0 {
                break;
            }
        }
        start
    }

    fn classify(&mut self, bytes: &[u8], after_high: &mut bool) {
        for byte in bytes {
            let high = !byte.is_ascii();
            self.high += u64::from(high);
            self.adjacent += u64::from(high && *after_high);
            self.undefined += u64::from(matches!(byte, 0x81 | 0x8d | 0x8f | 0x90 | 0x9d));
            *after_high = high;
        }
    }

    fn verdict(&self) -> Result<Option<Charset>, String> {
        // Some damage in a text that is UTF-8 elsewhere makes it no other encoding.
        if self.invalid == 0 || (self.letters > 0 && self.letters >= self.invalid) {
            return Ok(None);
        }
        if self.undefined == 0 && 2 * self.adjacent <= self.high {
            return Ok(Some(Charset::Windows1252));
        }
        Err("the text is neither UTF-8 nor UTF-16 nor Windows-1252; convert it, for example with `iconv -f \
             ENCODING -t UTF-8`"
            .to_owned())
    }
}

/// Reader that decodes to UTF-8.
pub(super) struct TextDecoder<R> {
    inner: R,
    charset: Charset,
    /// Bytes of a character that is not complete.
    carry: Vec<u8>,
    decoded: Vec<u8>,
    /// Decoded bytes that were read.
    read: usize,
}

impl<R: BufRead> TextDecoder<R> {
    pub(super) fn new(inner: R, charset: Charset) -> Self {
        Self { inner, charset, carry: Vec::new(), decoded: Vec::new(), read: 0 }
    }

    /// Decodes the next bytes; at the end, leaves nothing decoded.
    fn refill(&mut self) -> io::Result<()> {
        self.decoded.clear();
        self.read = 0;
        while self.decoded.is_empty() {
            let bytes = self.inner.fill_buf()?;
            let length = bytes.len();
            if length == 0 {
                if !self.carry.is_empty() {
                    self.carry.clear();
                    self.decoded.push(NOT_UTF8);
                }
                return Ok(());
            }
            match self.charset {
                Charset::Windows1252 => windows_1252(bytes, &mut self.decoded),
                Charset::Utf16Le => utf16(bytes, u16::from_le_bytes, &mut self.carry, &mut self.decoded),
                Charset::Utf16Be => utf16(bytes, u16::from_be_bytes, &mut self.carry, &mut self.decoded),
            }
            self.inner.consume(length);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for TextDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.decoded.len() {
            self.refill()?;
        }
        let count = (&self.decoded[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

fn windows_1252(bytes: &[u8], into: &mut Vec<u8>) {
    for byte in bytes {
        let letter = match byte {
            0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
            _ => char::from(*byte),
        };
        if letter == '\0' && *byte != 0 {
            into.push(NOT_UTF8);
        } else {
            push(letter, into);
        }
    }
}

/// Decodes UTF-16; an incomplete character at the end stays in `carry`.
fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, carry: &mut Vec<u8>, into: &mut Vec<u8>) {
    carry.extend_from_slice(bytes);
    let (pairs, _) = carry.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    let is_cut = units.last().is_some_and(|last| (0xd800..0xdc00).contains(last));
    let whole = units.len() - usize::from(is_cut);
    for letter in char::decode_utf16(units[..whole].iter().copied()) {
        match letter {
            Ok(letter) => push(letter, into),
            Err(_) => into.push(NOT_UTF8),
        }
    }
    carry.drain(..2 * whole);
}

fn push(letter: char, into: &mut Vec<u8>) {
    into.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8], charset: Charset, portion: usize) -> Vec<u8> {
        let mut text = Vec::new();
        let inner = BufReader::with_capacity(portion, bytes);
        TextDecoder::new(inner, charset).read_to_end(&mut text).unwrap();
        text
    }

    fn verdict(bytes: &[u8], portion: usize) -> Result<Option<Charset>, String> {
        examine(&mut BufReader::with_capacity(portion, bytes)).unwrap()
    }

    #[test]
    fn western_european_text_is_told_from_damage_and_from_other_encodings() {
        for portion in [1, 2, 7, 1000] {
            assert_eq!(verdict("grün, naïve, 東京".as_bytes(), portion), Ok(None));
            assert_eq!(verdict(b"gr\xfcn, na\xefve \x93so\x94", portion), Ok(Some(Charset::Windows1252)));
            assert_eq!(verdict(b"\xc3\xa9, and one bad byte: \xff, and a cut: \xc3", portion), Ok(None));
            // Cyrillic in Windows-1251, Japanese in Shift JIS.
            assert!(verdict(b"\xcf\xf0\xe8\xe2\xe5\xf2", portion).is_err());
            assert!(verdict(b"\x93\x8c\x8b\x9e\x82\xcd", portion).is_err());
        }
    }

    #[test]
    fn undefined_bytes_and_lone_surrogates_become_bytes_that_are_not_utf8() {
        assert_eq!(decode(b"\x80 \x81 \xe9", Charset::Windows1252, 2), b"\xe2\x82\xac \xff \xc3\xa9");
        let lone = [0x61, 0x00, 0x00, 0xd8, 0x62, 0x00];
        assert_eq!(decode(&lone, Charset::Utf16Le, 3), b"a\xffb");
        assert_eq!(decode(&[0x61, 0x00, 0x62], Charset::Utf16Le, 3), b"a\xff");
    }

    #[test]
    fn the_encoding_is_told_by_a_mark_or_by_zero_bytes_and_the_recipe_has_the_last_word() {
        assert_eq!(Charset::detect(b"\xff\xfea\0", None), Some(Charset::Utf16Le));
        assert_eq!(Charset::detect(b"\xfe\xff\0a", None), Some(Charset::Utf16Be));
        assert_eq!(Charset::detect(b"a\0,\0", None), Some(Charset::Utf16Le));
        assert_eq!(Charset::detect(b"\0a\0,", None), Some(Charset::Utf16Be));
        assert_eq!(Charset::detect(b"a,b", None), None);
        assert_eq!(Charset::detect(b"\xff\xfea\0", Some(TextEncoding::Utf8)), None);
        assert_eq!(Charset::detect(b"a,b", Some(TextEncoding::Windows1252)), Some(Charset::Windows1252));
    }

    proptest! {
        #[test]
        fn any_text_in_utf16_is_decoded_whatever_the_portions(text in "\\PC{0,40}", portion in 1usize..9) {
            let units: Vec<u16> = text.encode_utf16().collect();
            let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            prop_assert_eq!(decode(&little, Charset::Utf16Le, portion), text.as_bytes());
            prop_assert_eq!(decode(&big, Charset::Utf16Be, portion), text.as_bytes());
        }
    }
}
