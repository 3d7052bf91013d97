/// Compares a file of the repository with what it should be; with `BLESS=1` in the environment it is written.
pub(crate) fn bless(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "{} is not current: run the tests once with BLESS=1", path.display());
}
