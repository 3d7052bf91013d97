//! Files that are replaced as a whole.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::chance::Chance;

/// A new file, which only its owner can read.
pub(crate) fn fresh(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Has the names in a file's directory last, as what is in the file does.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Puts a whole file in the place of another, with its permissions.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", Chance::new().tag()));
    let beside = PathBuf::from(beside);
    let written = fresh(&beside).and_then(|mut file| {
        file.write_all(text)?;
        if let Ok(before) = path.metadata() {
            file.set_permissions(before.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_directory(path)
    });
    if written.is_err() {
        // Nobody else has it.
        let _ = fs::remove_file(&beside);
    }
    written
}
