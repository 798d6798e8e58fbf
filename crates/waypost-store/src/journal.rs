//! A look at the engine's journals before it opens them.
//!
//! The engine cuts a journal off where its frame makes no sense, as after a write that a crash cut short. One bit
//! that turned in the frame looks alike, but then whole batches stand behind it, which were acknowledged. So the
//! frame is walked here first, and nothing is opened, or cut, where a whole batch stands behind a broken one.
//!
//! **In:** the folder of the database. **Out:** nothing, or the damage. **Bounds:** time is linear in the journals;
//! memory is a buffer, and for a broken journal what stands behind the break. **Source:** fjall 3: a batch is
//! `1 count:u32 seqno:u64`, so many of `2 type:u8 compression:u8 keyspace:u64 key:u16 value:u32 stored:u32 key value`
//! or `4 keyspace:u64`, and `3 checksum:u64 "FJL\x03"`; numbers little-endian, zeros behind the last. **Not here:**
//! checksums, which the engine compares itself, and damage of the last batch, which a crash may have cut short.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What ends a batch.
const MAGIC: [u8; 4] = *b"FJL\x03";
/// Octets of what begins a batch: tag, count, number.
const START: usize = 13;
/// Entries that are walked at most in search of a whole batch: a journal of the largest size has fewer, unless
/// somebody wrote it to keep us busy.
const WALKED: usize = 50_000_000;

/// A journal in which a whole batch stands behind a broken one.
#[derive(Debug, thiserror::Error)]
#[error(
    "its journal {} is damaged at octet {at}, and a whole batch, which may be mail that was acknowledged, stands {behind} octets \
     behind that; nothing was changed; put the spool back from a copy, or, to go on without what stands behind, \
     run `truncate -s {at}` on the journal",
    path.display()
)]
pub(crate) struct Damage {
    path: PathBuf,
    /// Where the broken batch begins.
    at: u64,
    /// How far behind that a whole one begins.
    behind: usize,
}

/// Looks at all journals in a folder.
///
/// # Errors
/// [`Damage`], or what the system says.
pub(crate) fn check(folder: &Path) -> io::Result<()> {
    let mut last = None;
    for path in journals(folder)? {
        let mut file = File::open(&path)?;
        let whole = walk(&mut BufReader::new(&file))?;
        last = whole.last.or(last);
        file.seek(SeekFrom::Start(whole.until))?;
        let rest = rest(&mut BufReader::new(&file))?;
        if let Some(behind) = whole_batch(&rest, last) {
            return Err(io::Error::other(Damage { path, at: whole.until, behind }));
        }
    }
    Ok(())
}

/// The journals of a folder, oldest first.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.extension() == Some(OsStr::new("jnl"))) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// What the frame of a journal says is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Whole {
    /// Where the last whole batch ends.
    until: u64,
    /// Its number, if there is one.
    last: Option<u64>,
}

fn walk(journal: &mut (impl BufRead + Seek)) -> io::Result<Whole> {
    let mut whole = Whole::default();
    let mut entries = usize::MAX;
    while let last @ Some(_) = batch(journal, &mut entries)? {
        whole = Whole { until: journal.stream_position()?, last };
    }
    Ok(whole)
}

/// Passes over one batch, whose number this is; `None`: it is broken, or there is none. Takes what it walks off
/// `entries`, and says `None` when they are used up.
fn batch(journal: &mut (impl BufRead + Seek), entries: &mut usize) -> io::Result<Option<u64>> {
    let Some([1, start @ ..]) = take::<START>(journal)? else { return Ok(None) };
    let [c0, c1, c2, c3, number @ ..] = start;
    for _ in 0..u32::from_le_bytes([c0, c1, c2, c3]) {
        let Some(left) = entries.checked_sub(1) else { return Ok(None) };
        *entries = left;
        let is_whole = match take::<1>(journal)? {
            Some([2]) => item(journal)?,
            Some([4]) => take::<8>(journal)?.is_some(),
            _ => false,
        };
        if !is_whole {
            return Ok(None);
        }
    }
    match take::<START>(journal)? {
        Some([3, .., m0, m1, m2, m3]) if [m0, m1, m2, m3] == MAGIC => {
            Ok(Some(u64::from_le_bytes(number)))
        }
        _ => Ok(None),
    }
}

/// Passes over an item behind its tag; whether it is whole.
fn item(journal: &mut (impl BufRead + Seek)) -> io::Result<bool> {
    let Some(head) = take::<20>(journal)? else { return Ok(false) };
    let [0 | 1 | 2 | 4, 0, _, _, _, _, _, _, _, _, k0, k1, a0, a1, a2, a3, stored @ ..] = head
    else {
        return Ok(false);
    };
    if stored != [a0, a1, a2, a3] {
        return Ok(false);
    }
    let octets = u64::from(u16::from_le_bytes([k0, k1])) + u64::from(u32::from_le_bytes(stored));
    skip(journal, octets)
}

/// The next octets, if there are so many.
fn take<const N: usize>(journal: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut octets = [0; N];
    match journal.read_exact(&mut octets) {
        Ok(()) => Ok(Some(octets)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Passes over octets; whether there are so many.
fn skip(journal: &mut (impl BufRead + Seek), octets: u64) -> io::Result<bool> {
    let Some(before_last) = octets.checked_sub(1) else { return Ok(true) };
    journal.seek_relative(i64::try_from(before_last).unwrap_or(i64::MAX))?;
    Ok(take::<1>(journal)?.is_some())
}

/// What stands behind the last whole batch, without the zeros at its end.
fn rest(journal: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let (mut rest, mut zeros) = (Vec::new(), 0);
    loop {
        let some = journal.fill_buf()?;
        if some.is_empty() {
            return Ok(rest);
        }
        match some.iter().rposition(|octet| *octet != 0) {
            None => zeros += some.len(),
            Some(last) => {
                rest.resize(rest.len() + std::mem::take(&mut zeros), 0);
                let (told, behind) = some.split_at(last + 1);
                rest.extend_from_slice(told);
                zeros = behind.len();
            }
        }
        let octets = some.len();
        journal.consume(octets);
    }
}

/// Where a whole batch begins in what is broken at its begin. The number of one that follows `last` is not far
/// behind that: each batch has one. So what somebody wrote into a message is none, unless he knew the number. Where
/// no batch is whole, any number will do.
fn whole_batch(rest: &[u8], last: Option<u64>) -> Option<usize> {
    let octets = u64::try_from(rest.len()).unwrap_or(u64::MAX);
    let follows = |number: u64| last.is_none_or(|last| last < number && number - last <= octets);
    let mut entries = WALKED;
    let starts = rest.windows(START).enumerate();
    let mut plausible = starts.filter_map(|(place, octets)| match octets {
        [1, _, _, _, _, number @ ..] => {
            follows(u64::from_le_bytes(number.try_into().ok()?)).then_some(place)
        }
        _ => None,
    });
    plausible.find(|place| {
        let behind = rest.get(*place..).unwrap_or_default();
        let is_whole = matches!(batch(&mut io::Cursor::new(behind), &mut entries), Ok(Some(_)));
        // Who gave us so much to walk did not do so by chance.
        is_whole || entries == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of some items, each with a key of 8 octets and this value.
    fn written(number: u64, items: u32, value: &[u8]) -> Vec<u8> {
        let mut octets = vec![1];
        octets.extend_from_slice(&items.to_le_bytes());
        octets.extend_from_slice(&number.to_le_bytes());
        for _ in 0..items {
            octets.extend_from_slice(&[2, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
            let length = u32::try_from(value.len()).unwrap().to_le_bytes();
            octets.extend_from_slice(&[length, length].concat());
            octets.extend_from_slice(b"the key.");
            octets.extend_from_slice(value);
        }
        octets.extend_from_slice(b"\x03checksumFJL\x03");
        octets
    }

    /// What `check` says of a journal: where it is damaged.
    fn damaged_at(journal: &[u8]) -> Option<u64> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("3.jnl"), journal).unwrap();
        fs::write(folder.path().join("version"), b"FJL").unwrap();
        let error = check(folder.path()).err()?;
        Some(error.get_ref().unwrap().downcast_ref::<Damage>().unwrap().at)
    }

    #[test]
    fn a_journal_that_ends_anywhere_is_no_damage_o1() {
        assert!(check(Path::new("no/such/folder")).is_ok());
        let first = written(100, 2, b"value");
        let both = [&first[..], &written(103, 1, b"another value")].concat();
        for end in 0..=both.len() {
            let cut = both.get(..end).unwrap();
            let zeros = [cut, &[0; 20_000]].concat();
            assert_eq!((damaged_at(cut), damaged_at(&zeros)), (None, None), "cut at {end}");
            let whole = walk(&mut io::Cursor::new(&zeros)).unwrap();
            let (until, last) = match end {
                _ if end < first.len() => (0, None),
                _ if end < both.len() => (first.len(), Some(100)),
                _ => (both.len(), Some(103)),
            };
            assert_eq!(whole, Whole { until: u64::try_from(until).unwrap(), last }, "cut at {end}");
        }
    }

    #[test]
    fn a_bit_in_a_frame_is_damage_if_a_whole_batch_stands_behind_o1() {
        let before = written(100, 1, b"before");
        let broken = written(101, 2, b"");
        let behind = [written(103, 1, b"behind"), vec![0; 10_000]].concat();
        let at = Some(u64::try_from(before.len()).unwrap());
        let mut told = 0;
        for bit in 0..8 * broken.len() {
            let mut turned = broken.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            let found = damaged_at(&[&before[..], &turned, &behind].concat());
            let walked = walk(&mut io::Cursor::new([&turned[..], &behind].concat())).unwrap();
            let is_whole = walked.last == Some(103);
            assert_eq!(found, (!is_whole).then_some(()).and(at), "bit {bit}");
            told += usize::from(found.is_some());
            // Without anything behind, it may be a write that was cut short.
            assert_eq!(damaged_at(&[&before[..], &turned].concat()), None, "bit {bit}");
            // As the first of all.
            let first = [&turned[..], &behind].concat();
            assert_eq!(damaged_at(&first), (!is_whole).then_some(0), "bit {bit}");
        }
        // Tags, count, kinds, lengths, and what ends it; the other bits are numbers, keys and checksums.
        assert!(told > 200, "{told}");
    }

    #[test]
    fn the_number_of_the_journal_before_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: u32| folder.path().join(format!("{number}.jnl"));
        fs::write(path(9), written(1_000_000, 1, b"before")).unwrap();
        let mut turned = written(1_000_001, 1, b"");
        turned[0] ^= 2;
        for (number, is_damage) in [(1_000_002, true), (1_000_000, false), (2_000_000, false)] {
            fs::write(path(10), [&turned[..], &written(number, 1, b"behind")].concat()).unwrap();
            assert_eq!(check(folder.path()).is_err(), is_damage, "{number}");
        }
    }

    #[test]
    fn what_a_message_holds_is_no_batch_of_ours_and_cannot_keep_us_busy() {
        let before = written(1 << 30, 1, b"before");
        // A write cut short, of a value in which somebody wrote batches with numbers that he guessed.
        for number in [0, 1, 1 << 30, (1 << 30) + 10_000, u64::MAX] {
            let mut cut = written((1 << 30) + 1, 1, &written(number, 1, b"forged"));
            cut.truncate(cut.len() - 5);
            assert_eq!(damaged_at(&[&before[..], &cut].concat()), None, "{number}");
        }
        let start = [&[1][..], &u32::MAX.to_le_bytes(), &101_u64.to_le_bytes()].concat();
        let item = written(101, 1, b"")[START..START + 29].to_vec();
        let many = [start.repeat(200), item.repeat(20_000)].concat();
        assert_eq!(whole_batch(&many, Some(100)), None);
        let mut left = 1_000;
        let mut one = io::Cursor::new(&many[199 * START..]);
        assert_eq!((batch(&mut one, &mut left).unwrap(), left), (None, 0));
    }
}
