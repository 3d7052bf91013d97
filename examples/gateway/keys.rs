//! `gateway keys new`.
use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use portcullis::{authn::api_key::mint, time::parse_duration_or_days};

use crate::arguments::NewKey;

pub(crate) fn new(order: NewKey) -> ExitCode {
    match make(order) {
        Ok((key, entry)) => {
            println!("{key}\n{}", entry.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The key, and what is kept of it.
fn make(order: NewKey) -> Result<(String, String), String> {
    let expires = order.expires.as_deref().map(end).transpose()?;
    let minted =
        mint(order.prefix.as_deref().unwrap_or("pc"), order.owner).map_err(|error| error.to_string())?;
    let minted = minted.with(|entry| {
        let entry = entry.scopes(order.scopes).roles(order.roles);
        let entry = order.plan.into_iter().fold(entry, |entry, plan| entry.plan(plan));
        expires.into_iter().fold(entry, |entry, end| entry.expires(end))
    });
    Ok((minted.reveal().to_owned(), minted.entry().to_yaml()))
}

fn end(after: &str) -> Result<SystemTime, String> {
    let after = parse_duration_or_days(after).map_err(|error| format!("--expires: {error}"))?;
    let end = SystemTime::now().checked_add(after).filter(|_| after > Duration::ZERO);
    end.ok_or_else(|| "--expires: expected a time such as `90d`".to_owned())
}
