//! The command line.
use std::{ffi::OsString, path::PathBuf};

use crate::keys::Order;

pub(crate) const USAGE: &str = "\
usage: gateway                         a demonstration: three upstreams, and a gateway before them
       gateway --config FILE           serve what the file says, and follow its changes
       gateway check FILE              say what is wrong with a file; exits with 0 or 1
       gateway keys new --owner NAME   make an API key; prints it once, then its entry for the key file
                [--scopes A,B] [--roles A,B] [--plan NAME] [--notes TEXT] [--not-before 1d] [--expires 90d]
                [--prefix WORD] [--pepper NAME=FILE] [STORE]
       gateway keys list STORE         all keys, and when they were last used [--owner NAME]
       gateway keys show ID STORE      what is kept of a key
       gateway keys rotate ID STORE    make the next key, and let the old one end
                [--overlap 7d] [--expires 90d] [--pepper NAME=FILE]
       gateway keys revoke ID STORE    take a key back, everywhere within two seconds
       gateway keys export STORE       a backup, which is a key file
       gateway keys import FILE STORE  put a backup back; what is revoked stays revoked [--replace]
       gateway keys rehash STORE       put the hashes under a pepper --pepper NAME=FILE
       gateway keys prune STORE        forget keys that have ended [--older 90d]
                STORE is --store FILE, or --store redis://USER@HOST:PORT/DB --set NAME
                [--namespace NAME] [--password-file FILE] [--roots FILE], or rediss://
       gateway explain                 the layers in their order, each with its reason
       gateway schema                  the JSON Schema of the file

signals: SIGHUP looks at the file again; SIGTERM and SIGINT (Ctrl-C) drain, a second one cuts
environment: PORTCULLIS_LOG=warn leaves the access log out; else off, error, info, debug, trace
exits with 0 if it was done, 1 if it could not be, 2 if it was not understood";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Demo,
    Serve { config: PathBuf },
    Check { file: PathBuf },
    Keys(Order),
    Explain,
    Schema,
    Help,
    Version,
}

impl Command {
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let arguments: Vec<OsString> = arguments.collect();
        // The name of a file need not be UTF-8.
        match &*arguments {
            _ if arguments.iter().any(|word| word == "--help" || word == "-h") => return Ok(Self::Help),
            [word, file] if word == "--config" => return Ok(Self::Serve { config: file.into() }),
            [word, file] if word == "check" => return Ok(Self::Check { file: file.into() }),
            _ => {}
        }
        let words: Option<Vec<&str>> = arguments.iter().map(|argument| argument.to_str()).collect();
        match *words.ok_or("arguments are UTF-8, but for the names of files")? {
            [] => Ok(Self::Demo),
            ["keys", ref words @ ..] => Order::parse(words).map(Self::Keys),
            ["explain"] => Ok(Self::Explain),
            ["schema"] => Ok(Self::Schema),
            ["help"] => Ok(Self::Help),
            ["--version" | "-V"] => Ok(Self::Version),
            [word @ ("--config" | "check"), ..] => Err(format!("`{word}` needs one file")),
            [word @ ("explain" | "schema" | "help" | "--version" | "-V"), more, ..] => {
                Err(format!("`{word}` takes nothing more, and what is `{more}`?"))
            }
            [word, ..] => Err(format!("what does `{word}` mean here?")),
        }
    }
}
