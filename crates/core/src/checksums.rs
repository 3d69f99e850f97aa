//! BLAKE3 hashes of files, recorded when they are written and checked when they are read.
//!
//! | files | place of the hash | functions |
//! |---|---|---|
//! | folders: datasets, weights, adapters, records of a run, reports | [`FILE`] in the folder | [`record`], [`check`], [`find_damage`] |
//! | checkpoints, which are written one at a time | name of the file | [`write_named`], [`check_named`] |
//! | files of many records | end of each record | [`record_hash`] |
//!
//! Hashes find damage (bad disks, interrupted copies) and accidental edits. They do not protect
//! against attackers, who can replace a hash along with its file.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::files::{hash_file, write_renamed, write_whole};

/// Name of the file with the hashes of a folder, in the format of `b3sum`.
///
/// A line is a hash, two spaces and a path relative to the folder.
pub const FILE: &str = "BLAKE3SUMS";

/// Digits of the hash in a file's name.
const NAME_DIGITS: usize = 16;

/// File that differs from its recorded hash, or whose hash cannot be read.
///
/// Callers add what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ChecksumError {
    /// The contents differ from the recorded hash.
    #[error("{} is damaged or was changed: its BLAKE3 hash is {found}, not {expected} as recorded", file.display())]
    Mismatch {
        /// File.
        file: PathBuf,
        /// Recorded hash.
        expected: String,
        /// Hash of the contents.
        found: String,
    },
    /// No hash is recorded for the file.
    #[error("{}: no hash is recorded for it in {place}", file.display())]
    Unrecorded {
        /// File.
        file: PathBuf,
        /// Place that should record its hash.
        place: String,
    },
    /// A file of hashes cannot be parsed.
    #[error("{} is damaged: line {line} is not a hash, two spaces and a file name", sums.display())]
    Malformed {
        /// File of hashes.
        sums: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Hashes files of a folder and writes [`FILE`] there, atomically.
///
/// An earlier [`FILE`] is replaced, so the files must be all those that [`check`] is called for.
pub fn record(folder: &Path, names: &[impl AsRef<str>]) -> io::Result<()> {
    let mut hashes = BTreeMap::new();
    for name in names {
        hashes.insert(name.as_ref(), hash_file(&folder.join(name.as_ref()))?);
    }
    write_whole(&folder.join(FILE), |writer| {
        hashes.iter().try_for_each(|(name, hash)| writeln!(writer, "{hash}  {name}"))
    })
}

/// Checks a file of a folder against its hash in [`FILE`].
pub fn check(folder: &Path, name: &str) -> Result<(), ChecksumError> {
    let file = folder.join(name);
    match read(folder)?.get(name) {
        Some(expected) => compare(file, expected),
        None => Err(ChecksumError::Unrecorded { file, place: folder.join(FILE).display().to_string() }),
    }
}

/// Checks all files that [`FILE`] of a folder lists. Returns an error for each damaged one.
pub fn find_damage(folder: &Path) -> Result<Vec<ChecksumError>, ChecksumError> {
    let damage = |(name, expected): (String, String)| compare(folder.join(name), &expected).err();
    Ok(read(folder)?.into_iter().filter_map(damage).collect())
}

/// Reads [`FILE`] of a folder: hashes by name.
fn read(folder: &Path) -> Result<BTreeMap<String, String>, ChecksumError> {
    let sums = folder.join(FILE);
    let text = fs_err::read(&sums)?;
    parse(&String::from_utf8_lossy(&text)).map_err(|line| ChecksumError::Malformed { sums, line })
}

/// Parses the lines of [`FILE`] to hashes by name. The error is the number of the first bad line.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut hashes = BTreeMap::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let entry = line.strip_suffix('\n').and_then(|line| line.split_once("  "));
        let is_hash = |hash: &str| {
            hash.len() == 2 * blake3::OUT_LEN
                && hash.bytes().all(|digit| b"0123456789abcdef".contains(&digit))
        };
        let (hash, name) = entry.filter(|(hash, name)| is_hash(hash) && !name.is_empty()).ok_or(index + 1)?;
        hashes.insert(name.to_owned(), hash.to_owned());
    }
    Ok(hashes)
}

/// Compares the hash of `file` with `expected`, or with as many digits as `expected` has.
fn compare(file: PathBuf, expected: &str) -> Result<(), ChecksumError> {
    let mut found = hash_file(&file)?;
    found.truncate(expected.len());
    if found == expected {
        return Ok(());
    }
    Err(ChecksumError::Mismatch { file, expected: expected.to_owned(), found })
}

/// Writes a file `STEM-HASH.EXTENSION` atomically and returns its path.
///
/// HASH is the first 16 digits of the hash. `write` receives a temporary path.
pub fn write_named<E: From<io::Error>>(
    folder: &Path,
    stem: &str,
    extension: &str,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let ((), path) = write_renamed(&folder.join(stem), |aside| {
        write(aside)?;
        let hash = hash_file(aside)?;
        Ok::<_, E>(((), folder.join(format!("{stem}-{}.{extension}", &hash[..NAME_DIGITS]))))
    })?;
    Ok(path)
}

/// Checks a file against the hash in its name.
pub fn check_named(file: &Path) -> Result<(), ChecksumError> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    match stem.rsplit_once('-') {
        Some((_, expected)) if expected.len() == NAME_DIGITS => compare(file.to_owned(), expected),
        _ => Err(ChecksumError::Unrecorded { file: file.to_owned(), place: "its name".to_owned() }),
    }
}

/// Returns the hash that ends a record: the first eight bytes of the BLAKE3 hash of the rest.
pub fn record_hash(bytes: &[u8]) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `check` on a copy of `file` for every byte that is changed, and for lost bytes.
    fn damaged(file: &Path, mut check: impl FnMut(&str)) {
        let whole = fs_err::read(file).unwrap();
        for at in 0..whole.len() {
            for change in [1, 0x20, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fs_err::write(file, bytes).unwrap();
                check(&format!("byte {at} of {}, {change:#x}", whole.len()));
            }
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs_err::write(file, &whole[..length]).unwrap();
            check(&format!("{length} of {} bytes", whole.len()));
        }
        fs_err::write(file, [whole.as_slice(), b"\n"].concat()).unwrap();
        check("one byte more");
        fs_err::write(file, whole).unwrap();
    }

    #[test]
    fn any_change_of_a_file_or_of_its_recorded_hash_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a.bin", "below/b.json"];
        fs_err::create_dir(folder.path().join("below")).unwrap();
        fs_err::write(folder.path().join("a.bin"), [0, 255, 3]).unwrap();
        fs_err::write(folder.path().join("below/b.json"), "{}\n").unwrap();
        record(folder.path(), &names).unwrap();
        let checks = || names.map(|name| check(folder.path(), name).map_err(|error| error.to_string()));
        assert_eq!(checks(), [Ok(()), Ok(())]);
        for (index, name) in names.iter().enumerate() {
            damaged(&folder.path().join(name), |what| {
                let error = checks()[index].clone().unwrap_err();
                assert!(error.contains(name) && error.contains("BLAKE3 hash"), "{what}: {error}");
                assert_eq!(checks()[1 - index], Ok(()), "{what}: the other file is intact");
            });
        }
        damaged(&folder.path().join(FILE), |what| {
            assert!(checks().iter().any(Result::is_err), "{what}");
        });
        assert_eq!(checks(), [Ok(()), Ok(())]);
        assert!(find_damage(folder.path()).unwrap().is_empty());
        fs_err::remove_file(folder.path().join("below/b.json")).unwrap();
        let [missing] = &find_damage(folder.path()).unwrap()[..] else { panic!("one damaged file") };
        assert!(missing.to_string().contains("b.json"), "{missing}");

        fs_err::write(folder.path().join("c"), "").unwrap();
        let error = check(folder.path(), "c").unwrap_err().to_string();
        assert!(error.contains("no hash is recorded") && error.contains(FILE), "{error}");
        fs_err::remove_file(folder.path().join("a.bin")).unwrap();
        assert!(checks()[0].clone().unwrap_err().contains("a.bin"), "a missing file is named");
    }

    #[test]
    fn the_format_is_that_of_b3sum() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("b"), "abc").unwrap();
        fs_err::write(folder.path().join("a"), "").unwrap();
        record(folder.path(), &["b", "a"]).unwrap();
        // BLAKE3 of "" is the first of its published test vectors.
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262  a\n\
                        6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85  b\n";
        assert_eq!(fs_err::read_to_string(folder.path().join(FILE)).unwrap(), expected);
    }

    #[test]
    fn any_change_of_a_file_that_is_named_by_its_hash_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_named(folder.path(), "step-1", "bin", |aside| fs_err::write(aside, "abc")).unwrap();
        assert_eq!(path, folder.path().join("step-1-6437b3ac38465133.bin"));
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
        check_named(&path).unwrap();
        damaged(&path, |what| {
            let error = check_named(&path).unwrap_err().to_string();
            assert!(error.contains("step-1-") && error.contains("not 6437b3ac38465133"), "{what}: {error}");
        });
        fs_err::rename(&path, folder.path().join("step-1.bin")).unwrap();
        let error = check_named(&folder.path().join("step-1.bin")).unwrap_err().to_string();
        assert!(error.contains("no hash is recorded"), "{error}");

        let failed = write_named(folder.path(), "step-2", "bin", |_| Err(io::Error::other("stop")));
        assert_eq!(failed.unwrap_err().to_string(), "stop");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }
}
