//! What becomes of bodies and errors.

use std::any::Any;

use http_body::Body as HttpBody;

use super::stage::{ErrorOf, Found, Stage, ensure, frames};
use crate::testing::{Contract, ProbeError, Subject, probe::Piece};

pub(super) async fn bodies<L: Subject>(contract: &Contract<L>) -> Found {
    let scripts: [&[Piece]; 4] = [
        &[],
        &[Piece::Data("abc")],
        &[Piece::Data("ab"), Piece::Data("c"), Piece::Trailer("t")],
        &[Piece::Trailer("t")],
    ];
    for (caller, script) in scripts.into_iter().enumerate() {
        let stage = Stage::new(contract);
        stage.shared.act(|s| s.frames = script.to_vec());
        let answer = stage.send(&mut stage.service(), u32::try_from(caller).unwrap_or_default()).await;
        let body = answer.map_err(|_| "an error for no reason".to_owned())?.into_body();
        let data: u64 = script.iter().map(|piece| piece.bytes()).sum();
        if !contract.inexact_bodies {
            let hint = body.size_hint().exact();
            ensure(hint == Some(data), || format!("size_hint {hint:?} for {data} bytes"))?;
            let ended = body.is_end_stream();
            ensure(ended == script.is_empty(), || format!("is_end_stream {ended} before {script:?}"))?;
        }
        let expected: Vec<String> = script
            .iter()
            .map(|piece| match piece {
                Piece::Data(text) => format!("data {text}"),
                Piece::Trailer(value) => format!("trailer {value}"),
            })
            .collect();
        let got = frames(body).await?;
        ensure(got == expected, || format!("{expected:?} became {got:?}"))?;
    }
    Ok(())
}

pub(super) async fn errors<L: Subject>(contract: &Contract<L>) -> Found {
    let stage = Stage::new(contract);
    stage.shared.act(|script| script.fails = true);
    match stage.send(&mut stage.service(), 1).await {
        Ok(_) => Err("an error of the inner service became an answer".into()),
        Err(error) => ensure((&error as &dyn Any).is::<ProbeError>(), || {
            format!("the error type became {}", std::any::type_name::<ErrorOf<L>>())
        }),
    }
}
