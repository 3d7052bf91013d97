//! `gateway keys`: API keys, from their making to their end.
mod order;
mod store;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use portcullis::{
    authn::api_key::{KeyAdmin, KeyEntry, Minted, Pepper, Rotation, mint},
    time::{format_utc, parse_duration_or_days},
};

pub(crate) use order::{Order, What};

use crate::fail;

/// Why something was not done.
type Failed = Box<dyn std::error::Error>;

pub(crate) fn run(order: Order) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Failed::from).and_then(|runtime| runtime.block_on(done(order)));
    // A key that nobody got is lost, and that is no success.
    match done.and_then(|told| Ok(io::stdout().write_all(told.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!("gateway: {error}")),
    }
}

/// Does it, and says what is to be printed.
async fn done(order: Order) -> Result<String, Failed> {
    let pepper = order.get("--pepper").map(pepper).transpose()?;
    let id = order.subject.as_str();
    if order.what == What::New {
        let minted = new(&order)?;
        let Some(admin) = store::open(&order, true)? else {
            return Ok(shown(&pepper.iter().fold(minted, Minted::peppered)));
        };
        return Ok(shown(&with_pepper(admin, pepper).create(minted).await?));
    }
    let admin = store::open(&order, order.what == What::Import)?.ok_or("`--store` is needed")?;
    let admin = with_pepper(admin, pepper.clone());
    Ok(match order.what {
        What::New => String::new(),
        What::List => listed(&admin.list().await?, order.get("--owner")),
        What::Show => admin.find(id).await?.to_yaml(),
        What::Rotate => {
            let rotation = Rotation::overlap(time(&order, "--overlap")?.unwrap_or_default());
            let end = moment(&order, "--expires")?;
            shown(&admin.rotate(id, end.into_iter().fold(rotation, Rotation::expires)).await?)
        }
        What::Revoke => {
            admin.revoke(id).await?;
            admin.find(id).await?.to_yaml()
        }
        What::Export => file(&admin.list().await?),
        What::Import => {
            let restored = admin.restore(store::read(id)?, order.has("--replace")).await?;
            format!("{} put back, {} kept as they were\n", restored.put, restored.kept)
        }
        What::Rehash => {
            let count = admin.rehash(&pepper.ok_or("`--pepper NAME=FILE` is needed")?).await?;
            format!("{count} hashes are under the pepper now\n")
        }
        What::Prune => {
            let older = time(&order, "--older")?.unwrap_or_default();
            let before = SystemTime::now().checked_sub(older).ok_or("--older: too long ago")?;
            format!("{} keys forgotten\n", admin.prune(before).await?)
        }
    })
}

fn with_pepper(admin: KeyAdmin, pepper: Option<Pepper>) -> KeyAdmin {
    pepper.into_iter().fold(admin, KeyAdmin::pepper)
}

/// A key as the order says.
fn new(order: &Order) -> Result<Minted, Failed> {
    let owner = order.get("--owner").unwrap_or_default();
    let (begin, end) = (moment(order, "--not-before")?, moment(order, "--expires")?);
    if begin.zip(end).is_some_and(|(begin, end)| end <= begin) {
        return Err("it would end before it begins: `--expires` counts from now, too".into());
    }
    let (scopes, roles) = (list(order, "--scopes")?, list(order, "--roles")?);
    let minted = mint(order.get("--prefix").unwrap_or("pc"), owner)?;
    Ok(minted.with(|entry| {
        let entry = entry.scopes(scopes).roles(roles);
        let entry = order.get("--plan").into_iter().fold(entry, KeyEntry::plan);
        let entry = order.get("--notes").into_iter().fold(entry, KeyEntry::notes);
        let entry = begin.into_iter().fold(entry, KeyEntry::not_before);
        end.into_iter().fold(entry, KeyEntry::expires)
    }))
}

/// Words between commas, of which one may end the list; none if nothing is written. One with a space in it would be read
/// as two by whoever is told of them.
fn list<'o>(order: &'o Order, name: &str) -> Result<Vec<&'o str>, Failed> {
    let said = order.get(name).unwrap_or_default().trim();
    let said = said.strip_suffix(',').unwrap_or(said);
    if said.is_empty() {
        return Ok(Vec::new());
    }
    let words: Vec<_> = said.split(',').map(str::trim).collect();
    match words.iter().all(|word| !word.is_empty() && !word.contains(char::is_whitespace)) {
        true => Ok(words),
        false => Err(format!("{name}: expected words with commas between them").into()),
    }
}

/// The key on its own line, once, and what is kept of it.
fn shown(minted: &Minted) -> String {
    format!("{}\n{}", minted.reveal(), minted.entry().to_yaml())
}

fn listed(entries: &[KeyEntry], owner: Option<&str>) -> String {
    let now = SystemTime::now();
    let when = |at: Option<SystemTime>| at.map_or_else(|| "-".to_owned(), format_utc);
    let mut told =
        format!("{:12}  {:8}  {:20}  {:20}  OWNER, SCOPES\n", "ID", "STATE", "EXPIRES", "LAST USED");
    for entry in entries.iter().filter(|entry| owner.is_none_or(|owner| entry.owner() == owner)) {
        let (end, used) = (when(entry.end()), when(entry.last_use()));
        let (state, scopes) = (entry.state(now).label(), entry.scope_list().join(" "));
        // What people wrote may hold anything.
        let owner = entry.owner().escape_debug();
        told += &format!(
            "{:12}  {state:8}  {end:20}  {used:20}  {owner}: {}\n",
            entry.id(),
            scopes.escape_debug()
        );
    }
    told
}

/// The form of a key file, which is that of a backup.
fn file(entries: &[KeyEntry]) -> String {
    let items: String = entries.iter().map(KeyEntry::to_yaml).collect();
    if items.is_empty() { "keys: []\n".to_owned() } else { format!("keys:\n{items}") }
}

fn pepper(said: &str) -> Result<Pepper, Failed> {
    let (name, file) = said.split_once('=').ok_or("--pepper: expected NAME=FILE")?;
    let secret = std::fs::read(file).map_err(|error| format!("--pepper: {file}: {error}"))?;
    Ok(Pepper::new(name, &secret)?)
}

fn time(order: &Order, name: &str) -> Result<Option<Duration>, Failed> {
    let read = |text| parse_duration_or_days(text).map_err(|error| format!("{name}: {error}").into());
    order.get(name).map(read).transpose()
}

/// So long after now.
fn moment(order: &Order, name: &str) -> Result<Option<SystemTime>, Failed> {
    let Some(after) = time(order, name)? else { return Ok(None) };
    let at = SystemTime::now().checked_add(after).filter(|_| after > Duration::ZERO);
    Ok(Some(at.ok_or_else(|| format!("{name}: expected a time such as `90d`"))?))
}
