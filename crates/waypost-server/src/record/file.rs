//! A file that lines are appended to, put aside when it is large.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The rights of a new file: it names who writes to whom.
const MODE: u32 = 0o640;

/// A file that is opened when it is written to.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    rotate: u64,
    keep: usize,
    open: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    size: u64,
    /// A device or pipe is neither put aside nor mended.
    regular: bool,
}

impl RecordFile {
    pub(super) fn new(path: PathBuf, rotate: u64, keep: usize) -> Self {
        Self { path, rotate, keep, open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next write opens it anew.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Opens it, if it is not open. A line that a crash left unfinished is ended.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.opened().map(|_| ())
    }

    fn opened(&mut self) -> io::Result<&mut Opened> {
        if self.open.is_none() {
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).mode(MODE).open(&self.path)?;
            let found = file.metadata()?;
            let (mut size, regular) = (found.len(), found.is_file());
            if regular && size > 0 && last_octet(&self.path)? != b'\n' {
                file.write_all(b"\n")?;
                size += 1;
            }
            return Ok(self.open.insert(Opened { file, size, regular }));
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("not open"))
    }

    /// Appends whole lines: all of them, or none.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let octets = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let rotate = self.rotate;
        let opened = self.opened()?;
        if opened.regular && opened.size > 0 && opened.size.saturating_add(octets) > rotate {
            self.put_aside()?;
        }
        let opened = self.opened()?;
        match opened.file.write_all(lines) {
            Ok(()) => {
                opened.size = opened.size.saturating_add(octets);
                Ok(())
            }
            Err(error) => {
                // Half a line is taken back; if that fails too, it is ended when the file is opened.
                if opened.regular {
                    let _ = opened.file.set_len(opened.size);
                }
                self.open = None;
                Err(error)
            }
        }
    }

    /// `FILE` becomes `FILE.1`, that one `FILE.2`; the oldest is removed.
    fn put_aside(&mut self) -> io::Result<()> {
        self.open = None;
        if self.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.numbered(1))
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn last_octet(path: &Path) -> io::Result<u8> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    let [last] = last;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_put_aside_and_the_oldest_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let mut file = RecordFile::new(path.clone(), 10, 2);
        for line in ["1234\n", "5678\n", "abcd\n", "efghijklmnop\n", "qrst\n", "u\n"] {
            file.write(line.as_bytes()).unwrap();
        }
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(text("r").unwrap(), "qrst\nu\n");
        assert_eq!(text("r.1").unwrap(), "efghijklmnop\n");
        assert_eq!(text("r.2").unwrap(), "abcd\n");
        assert_eq!(text("r.3"), None);

        let mut none = RecordFile::new(path, 4, 0);
        none.write(b"new\n").unwrap();
        assert_eq!(text("r").unwrap(), "new\n");
        assert_eq!(text("r.1").unwrap(), "efghijklmnop\n");
    }

    #[test]
    fn a_line_that_a_crash_cut_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        std::fs::write(&path, "{\"id\":").unwrap();
        let mut file = RecordFile::new(path.clone(), 100, 2);
        file.write(b"whole\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{\"id\":\nwhole\n");
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_file_may_be_moved_away() {
        let mut full = RecordFile::new("/dev/full".into(), 100, 2);
        assert_eq!(full.write(b"x\n").unwrap_err().kind(), io::ErrorKind::StorageFull);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let mut file = RecordFile::new(path.clone(), 100, 2);
        file.write(b"1\n").unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        file.write(b"2\n").unwrap();
        file.close();
        file.write(b"3\n").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("moved")).unwrap(), "1\n2\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "3\n");
    }
}
