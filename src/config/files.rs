//! The files of a configuration: read once for each look, and remembered by what was in them.
use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

use crate::file;

/// The most bytes of a file that is read.
pub(super) const LARGEST: u64 = 1 << 20;

/// What was in each file that was asked for, as a hash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files(BTreeMap<PathBuf, Seen>);

/// The hash of a file, and the most bytes that were to be read of it.
type Seen = (u64, u64);

impl Files {
    /// Reads a file and remembers it. The error says what is wrong without naming the file.
    pub(super) fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        self.read_up_to(path, LARGEST)
    }

    /// As [`read`](Self::read), with another bound. One of whole MiB.
    pub(super) fn read_up_to(&mut self, path: &Path, most: u64) -> Result<Vec<u8>, String> {
        let content = file::slurp(path, most);
        self.0.insert(path.to_owned(), (print(&content), most));
        content
    }

    /// Reads them all again: what is in them now.
    pub(super) fn again(&self) -> Self {
        let look =
            |(path, (_, most)): (&PathBuf, &Seen)| (path.clone(), (print(&file::slurp(path, *most)), *most));
        Self(self.0.iter().map(look).collect())
    }
}

pub(super) fn print(content: &Result<Vec<u8>, String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn slurp(path: &Path) -> Result<Vec<u8>, String> {
    file::slurp(path, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_seen_whatever_the_clock_says() {
        let directory = std::env::temp_dir().join(format!("portcullis-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (one, two) = (directory.join("one"), directory.join("two"));
        std::fs::write(&one, "a").unwrap();
        let mut files = Files::default();
        assert_eq!(files.read(&one).unwrap(), b"a");
        assert_eq!(files.read(&two).unwrap_err(), "cannot be read: no such file");
        assert_eq!(files.read(&directory).unwrap_err(), "cannot be read: not a file");
        assert_eq!(files.again(), files);
        std::fs::write(&one, "b").unwrap();
        let changed = files.again();
        assert_ne!(changed, files);
        std::fs::write(&one, "a").unwrap();
        assert_eq!(files.again(), files, "as it was");
        std::fs::write(&two, "").unwrap();
        assert_ne!(files.again(), files, "a file that was missing");
        std::fs::write(&two, vec![b' '; 1 << 20]).unwrap();
        assert_eq!(files.read(&two).unwrap().len(), 1 << 20);
        std::fs::write(&two, vec![b' '; (1 << 20) + 1]).unwrap();
        assert_eq!(files.read(&two).unwrap_err(), "is larger than 1 MiB");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
