//! What is said after `gateway keys`.
use std::collections::BTreeMap;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Export,
    Import,
    List,
    New,
    Prune,
    Rehash,
    Revoke,
    Rotate,
    Show,
}

/// What is to be done with keys.
#[derive(Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) what: What,
    /// A key's id, or a file.
    pub(crate) subject: String,
    options: BTreeMap<&'static str, String>,
}

/// The options that say which store: but for the first they are for a server.
const STORE: [&str; 5] = ["--store", "--set", "--namespace", "--password-file", "--roots"];

/// Whether a store is on a server, and no file.
pub(super) fn is_server(store: &str) -> bool {
    store.starts_with("redis://") || store.starts_with("rediss://")
}

impl What {
    const ALL: [(&str, Self); 9] = [
        ("export", Self::Export),
        ("import", Self::Import),
        ("list", Self::List),
        ("new", Self::New),
        ("prune", Self::Prune),
        ("rehash", Self::Rehash),
        ("revoke", Self::Revoke),
        ("rotate", Self::Rotate),
        ("show", Self::Show),
    ];

    /// What it is done to, if that has to be said.
    fn subject(self) -> Option<&'static str> {
        match self {
            Self::Import => Some("FILE"),
            Self::Revoke | Self::Rotate | Self::Show => Some("ID"),
            Self::Export | Self::List | Self::New | Self::Prune | Self::Rehash => None,
        }
    }

    /// The options that it knows besides those of a store.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Export | Self::Revoke | Self::Show => &[],
            Self::Import => &["--replace"],
            Self::List => &["--owner"],
            Self::New => &[
                "--owner",
                "--scopes",
                "--roles",
                "--plan",
                "--notes",
                "--not-before",
                "--expires",
                "--prefix",
                "--pepper",
            ],
            Self::Prune => &["--older"],
            Self::Rehash => &["--pepper"],
            Self::Rotate => &["--overlap", "--expires", "--pepper"],
        }
    }
}

impl Order {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let names = What::ALL.map(|(name, _)| format!("`{name}`")).join(", ");
        let [name, words @ ..] = words else { return Err(format!("`keys` needs one of {names}")) };
        let found = What::ALL.iter().find(|(known, _)| known == name);
        let what = found.ok_or_else(|| format!("`keys` can do one of {names}, not `{name}`"))?.1;
        let (subject, mut words) = match (what.subject(), words) {
            (None, words) => (String::new(), words),
            (Some(_), [subject, words @ ..]) if !subject.starts_with("--") => ((*subject).to_owned(), words),
            (Some(subject), _) => return Err(format!("`keys {name}` needs {subject}")),
        };
        let mut options = BTreeMap::new();
        while let [word, rest @ ..] = words {
            let known = STORE.iter().chain(what.options()).find(|known| *known == word);
            let option = *known.ok_or_else(|| format!("`keys {name}` does not know `{word}`"))?;
            let (value, rest) = match rest {
                rest if option == "--replace" => ("", rest),
                [value, rest @ ..] if !value.starts_with("--") => (*value, rest),
                _ => return Err(format!("`{option}` needs a value")),
            };
            if options.insert(option, value.to_owned()).is_some() {
                return Err(format!("`{option}` stands there twice"));
            }
            words = rest;
        }
        let owner = options.get("--owner").filter(|owner| !owner.trim().is_empty());
        if what == What::New && owner.is_none() {
            return Err("`keys new` needs `--owner NAME`".to_owned());
        }
        let is_server = options.get("--store").is_some_and(|store| is_server(store));
        match STORE[1..].iter().find(|option| options.contains_key(*option)) {
            Some(option) if !is_server => {
                Err(format!("`{option}` is for a `--store` on a server, `redis://...`"))
            }
            _ => Ok(Self { what, subject, options }),
        }
    }

    pub(crate) fn get(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }
}
