//! The command line.
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: gateway                         a demonstration: three upstreams, and a gateway before them
       gateway --config FILE           serve what the file says, and follow its changes
       gateway check FILE              say what is wrong with a file; exits with 0 or 1
       gateway keys new --owner NAME   make an API key; prints it once, then its entry for the key file
                [--scopes A,B] [--roles A,B] [--plan NAME] [--expires 90d] [--prefix WORD]
       gateway explain                 the layers in their order, each with its reason
       gateway schema                  the JSON Schema of the file

signals: SIGHUP looks at the file again; SIGTERM drains, a second one cuts
environment: PORTCULLIS_LOG=warn leaves the access log out; else off, error, info, debug, trace";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Demo,
    Serve { config: PathBuf },
    Check { file: PathBuf },
    NewKey(NewKey),
    Explain,
    Schema,
    Help,
    Version,
}

/// A key that is to be made.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct NewKey {
    pub(crate) owner: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) plan: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) prefix: Option<String>,
}

impl Command {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let arguments: Vec<String> = arguments.collect();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match *words {
            [] => Ok(Self::Demo),
            ["--config", file] => Ok(Self::Serve { config: file.into() }),
            ["check", file] => Ok(Self::Check { file: file.into() }),
            ["keys", "new", ref options @ ..] => NewKey::parse(options).map(Self::NewKey),
            ["explain"] => Ok(Self::Explain),
            ["schema"] => Ok(Self::Schema),
            ["--help" | "-h" | "help"] => Ok(Self::Help),
            ["--version" | "-V"] => Ok(Self::Version),
            ["--config" | "check"] => Err(format!("`{}` needs a file", words[0])),
            ["keys", ..] => Err("`keys` can do one thing: `new`".to_owned()),
            [word, ..] => Err(format!("what does `{word}` mean here?")),
        }
    }
}

impl NewKey {
    fn parse(mut options: &[&str]) -> Result<Self, String> {
        let mut key = Self::default();
        while let [option, rest @ ..] = options {
            let [value, rest @ ..] = rest else { return Err(format!("`{option}` needs a value")) };
            let list = || value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect();
            match *option {
                "--owner" => key.owner = (*value).to_owned(),
                "--scopes" => key.scopes = list(),
                "--roles" => key.roles = list(),
                "--plan" => key.plan = Some((*value).to_owned()),
                "--expires" => key.expires = Some((*value).to_owned()),
                "--prefix" => key.prefix = Some((*value).to_owned()),
                _ => return Err(format!("`keys new` does not know `{option}`")),
            }
            options = rest;
        }
        if key.owner.trim().is_empty() {
            return Err("`keys new` needs `--owner NAME`".to_owned());
        }
        Ok(key)
    }
}
