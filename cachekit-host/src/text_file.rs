//! Small text files that speak for plugins: read whole, within a bound, and never waited for.

use std::fs::{File, Metadata};
use std::io::{Error, Read, Result};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The text of a regular file of at most `max` bytes, with what the system says of the file; `None` if there is none.
pub(crate) fn read(path: &Path, max: u64) -> Result<Option<(String, Metadata)>> {
    // O_NONBLOCK: opening a pipe that was planted here must not hang.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(Error::other(format!("it has more than {max} bytes")));
    }
    Ok(Some((text, meta)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_none_and_what_is_odd_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        assert!(read(&path, 4).unwrap().is_none());
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap().unwrap().0, "four");
        assert!(read(&path, 3).unwrap_err().to_string().contains("more than 3 bytes"));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(read(&path, 4).is_err());
        assert!(read(dir.path(), 4).unwrap_err().to_string().contains("regular"));
    }
}
