//! What is kept: whole bodies, and as much as there is room for.

use super::*;

#[tokio::test(start_paused = true)]
async fn only_whole_bodies_are_kept() {
    use Step::{Data, Fail, LastData, Pending, Trailers};
    for (length, steps, kept) in [
        (None, &[Data("ab"), Pending, Data("cd")][..], Some("abcd")),
        (None, &[Data("ab"), LastData("cd")], Some("abcd")),
        (None, &[], Some("")),
        (Some("4"), &[Data("ab"), Data("cd")], Some("abcd")),
        (Some("5"), &[Data("ab"), Data("cd")], None),
        (Some("9"), &[Data("ab"), Data("cd")], None),
        (Some("many"), &[Data("ab")], None),
        (None, &[Data("ab"), Fail], None),
        (None, &[Data("ab"), Trailers("0")], None),
        (None, &[Data("abcd"), Data("efghi")], None),
        (None, &[Data("abcd"), Data("efgh")], Some("abcdefgh")),
    ] {
        let world = World::new(Stale::new().max_body(8));
        world.serves(move |_| {
            let mut response = public(Body::new(Script::new(steps.to_vec()).untold()));
            length.map(|length| response.headers_mut().insert("content-length", length.parse().unwrap()));
            response
        });
        world.ask(get("/")).await;
        world.fails();
        let told = world.ask(get("/")).await;
        assert_eq!(told.old.then_some(&*told.text), kept, "{length:?} {steps:?}");
        assert_eq!(world.stale.kept(), (u64::from(kept.is_some()), u64::from(kept.is_none())));
        assert_eq!(world.stale.store.recordings.taken(), 0);
    }
    // Nobody has read it to its end.
    let world = World::new(Stale::new());
    world.serves(|_| public(Body::new(Script::new([Data("ab"), Data("cd")]))));
    let mut body = world.send(get("/")).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    world.fails();
    assert!(!world.ask(get("/")).await.old);
    assert_eq!(world.stale.store.recordings.taken(), 0);
}

/// Servers stop to ask for frames when there were as many bytes as `Content-Length` has said.
#[tokio::test(start_paused = true)]
async fn a_body_ends_where_its_length_says() {
    let world = World::new(Stale::new());
    world.serves(|_| {
        let mut response = public(Body::new(Script::new([Step::Data("abcd"), Step::End]).untold()));
        response.headers_mut().insert("content-length", "4".parse().unwrap());
        response
    });
    let mut body = world.send(get("/")).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    world.fails();
    assert_eq!(world.ask(get("/")).await.text, "abcd");
}

#[tokio::test(start_paused = true)]
async fn it_stays_within_its_bounds() {
    const MOST: usize = 64 * 1024;
    let world = World::new(Stale::new().max_bytes(MOST).max_body(4096).max_entries(64));
    let mut open = Vec::new();
    for n in 0..2_000_usize {
        let (size, byte) = (n * 37 % 6_000, n as u8);
        world.serves(move |_| public(Body::new(Full::new(Bytes::from(vec![byte; size])))));
        let long = "k".repeat(n % 900);
        let mut response = world.send(get(&format!("/{n}?{long}"))).await;
        if n % 5 == 0 {
            // Read once, and left there.
            let frame = response.body_mut().frame().await;
            assert_eq!(frame.is_some(), size > 0);
            open.push(response);
            open.drain(..open.len().saturating_sub(50));
        } else {
            response.into_body().collect().await.unwrap();
        }
        assert!(world.stale.bytes() <= MOST, "{} bytes", world.stale.bytes());
        assert!(world.stale.entries() <= 64);
    }
    // Bodies that never end take no more than their share.
    world.serves(|_| public(Body::new(Script::new([Step::Data("abc"), Step::Data("d")]).untold())));
    for n in 0..20_000 {
        let mut response = world.send(get(&format!("/open/{n}"))).await;
        response.body_mut().frame().await.unwrap().unwrap();
        open.push(response);
    }
    assert!(world.stale.store.recordings.taken() <= MOST / 4);
    drop(open);
    assert_eq!(world.stale.store.recordings.taken(), 0);
    assert!(world.stale.kept().0 > 1_000 && world.stale.bytes() <= MOST);
}

/// Four who read large answers slowly, as much as there is room for: for two seconds nobody else's is kept, but no longer.
#[tokio::test(start_paused = true)]
async fn who_reads_slowly_gives_way() {
    const SIZE: usize = 1 << 16;
    let world = World::new(Stale::new().max_bytes(17 * SIZE).max_body(SIZE));
    let full = || Body::new(Full::new(Bytes::from(vec![7; SIZE])).map_err(|never| match never {}));
    world.serves(move |_| {
        let first = Script::new([Step::Data("x".repeat(SIZE - 8).leak()), Step::End]);
        public(Body::new(first.untold()))
    });
    let mut slow = Vec::new();
    for n in 0..4 {
        let mut response = world.send(get(&format!("/slow/{n}"))).await;
        response.body_mut().frame().await.unwrap().unwrap();
        slow.push(response);
    }
    let taken = world.stale.store.recordings.taken();
    assert!(taken > 4 * (SIZE - 8) && taken <= 17 * SIZE / 4, "{taken}");
    world.serves(move |_| public(full()));
    let keeps = async |path: &str| {
        let before = world.stale.kept().0;
        world.ask(get(path)).await;
        world.stale.kept().0 > before
    };
    assert!(!keeps("/early").await);
    advance(Duration::from_secs(2)).await;
    assert!(keeps("/late").await);
    // One has given way, and is read to its end for all that; what did not have to is kept.
    let mut kept = Vec::new();
    for response in slow {
        let before = world.stale.kept().0;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.is_empty());
        kept.push(world.stale.kept().0 > before);
    }
    assert_eq!(kept, [false, true, true, true]);
    assert_eq!(world.stale.store.recordings.taken(), 0);
    world.fails();
    assert_eq!(world.ask(get("/late")).await.text.len(), SIZE);
}

/// An empty body, a frame at a time, and a cap of nothing at all.
#[tokio::test(start_paused = true)]
async fn a_store_without_room_keeps_nothing() {
    let world = World::new(Stale::new().max_bytes(0));
    assert!(!world.keeps(&[], || get("/"), 0).await);
    assert_eq!(world.stale.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_as_long_as_a_clone_of_its_store() {
    let before = World::new(Stale::new());
    before.serves(|_| good(&[], "good"));
    before.ask(get("/")).await;
    let after = World::new(before.stale.clone());
    assert!(after.ask(get("/")).await.old);
    assert!(!World::new(before.stale.clone().max_bytes(1 << 20)).ask(get("/")).await.old, "it begins empty");
}
