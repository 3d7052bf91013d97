//! What is taken down.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_changed_is_no_longer_given() {
    for (method, status, forgotten) in [
        ("POST", 201, true),
        ("PUT", 204, true),
        ("DELETE", 303, true),
        ("POST", 409, false),
        ("POST", 500, false),
        ("OPTIONS", 200, false),
    ] {
        let world = World::new(Stale::new());
        assert!(world.keeps(&[], || get("/a?page=2"), 0).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(Request::builder().method(method).uri("/a").body(Body::empty()).unwrap()).await;
        world.fails();
        assert_eq!(world.ask(get("/a?page=2")).await.old, !forgotten, "{method} {status}");
        assert!(world.keeps(&[], || get("/a?page=2"), 0).await, "what comes after is kept");
    }
    // What was asked for before, and comes after.
    let world = World::new(Stale::new());
    world.serves(|_| public(Body::new(Script::new([Step::Data("old"), Step::Pending, Step::Data("er")]))));
    let before = world.send(get("/a")).await;
    world.ask(Request::post("/a").body(Body::empty()).unwrap()).await;
    assert_eq!(before.into_body().collect().await.unwrap().to_bytes(), "older");
    world.fails();
    assert!(!world.ask(get("/a")).await.old);
    assert_eq!(world.stale.kept(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_no_longer_given() {
    for (status, forgotten) in [
        (204, true),
        (301, true),
        (401, true),
        (403, true),
        (404, true),
        (410, true),
        (304, false),
        (400, false),
        (408, false),
        (429, false),
        (500, false),
    ] {
        let world = World::new(Stale::new());
        assert!(world.keeps(&[], || get("/a"), 0).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(get("/a")).await;
        world.fails();
        assert_eq!(world.ask(get("/a")).await.old, !forgotten, "{status}");
    }
    let world = World::new(Stale::new());
    assert!(world.keeps(&[], || get("/a"), 0).await);
    assert!(!world.keeps(&[("cache-control", "no-store")], || get("/a"), 0).await);
    // HEAD tells it, too, but not by what it says of good answers.
    for (status, forgotten) in [(410, true), (200, false), (500, false)] {
        let world = World::new(Stale::new());
        assert!(world.keeps(&[], || get("/a"), 0).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(Request::head("/a").body(Body::empty()).unwrap()).await;
        world.fails();
        assert_eq!(world.ask(get("/a")).await.old, !forgotten, "HEAD {status}");
    }
}

/// Somebody is reading it still while it is taken down.
#[tokio::test(start_paused = true)]
async fn what_is_taken_down_while_it_is_read_does_not_come_back() {
    for status in [401, 403, 404, 410] {
        let world = World::new(Stale::new());
        let served = || public(Body::new(Script::new([Step::Data("se"), Step::Pending, Step::Data("cret")])));
        world.serves(move |_| served());
        let (slow, other) = (world.send(get("/a")).await, world.send(get("/b")).await);
        world.serves(move |_| Response::builder().status(status).body(Body::empty()).unwrap());
        world.ask(get("/a")).await;
        for response in [slow, other] {
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "secret");
        }
        world.fails();
        assert!(!world.ask(get("/a")).await.old, "{status}");
        assert!(world.ask(get("/b")).await.old, "{status}");
        // What is asked for after is another.
        assert!(world.keeps(&[], || get("/a"), 0).await);
    }
}
