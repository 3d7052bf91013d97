use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::Replay;
use crate::body::{
    Body,
    script::{Channel, Script, Step},
};

/// What a reader of a body has had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Had {
    bytes: Vec<u8>,
    trailers: bool,
    ended: bool,
    failed: bool,
}

impl Had {
    fn whole(steps: &[Step]) -> Self {
        let bytes = steps.iter().filter_map(|step| match step {
            Step::Data(text) => Some(text.bytes()),
            _ => None,
        });
        let trailers = steps.iter().any(|step| matches!(step, Step::Trailers(_)));
        Self { bytes: bytes.flatten().collect(), trailers, ended: true, failed: false }
    }

    fn is_over(&self) -> bool {
        self.ended || self.failed
    }

    /// Polls once.
    fn read(&mut self, body: &mut Body) {
        if self.is_over() {
            return;
        }
        let (most, was_at_end) = (body.size_hint().upper(), body.is_end_stream());
        match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => {}
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Err(_))) => self.failed = true,
            Poll::Ready(Some(Ok(frame))) => {
                assert!(!was_at_end, "a frame after the end");
                match frame.into_data() {
                    Ok(data) => {
                        assert!(most.is_none_or(|most| data.len() as u64 <= most));
                        self.bytes.extend_from_slice(&data);
                    }
                    Err(_) => self.trailers = true,
                }
            }
        }
    }

    fn read_out(mut self, body: &mut Body) -> Self {
        while !self.is_over() {
            self.read(body);
        }
        self
    }
}

fn replay(steps: &[Step]) -> Replay {
    Replay::new(Body::new(Script::new(steps.iter().cloned())), 64).unwrap()
}

const SCRIPTS: &[&[Step]] = &[
    &[Step::Data("ab"), Step::Pending, Step::Data("c"), Step::Data("def"), Step::End],
    &[Step::Data("ab"), Step::Pending, Step::Data("c"), Step::Trailers("0")],
    &[Step::Pending, Step::Data("abc")],
    &[Step::Data("a"), Step::Trailers("0")],
    &[Step::Pending, Step::Trailers("0")],
    &[Step::Pending, Step::End],
];

/// A retry before, in the midst of and after the body, a second one likewise, and the attempt before polled in between.
#[test]
fn each_attempt_sees_exactly_the_bytes_whenever_it_begins() {
    for steps in SCRIPTS {
        let most = steps.len() + 2;
        let moments = (0..=most).flat_map(|a| (0..=most).flat_map(move |b| (0..=2).map(move |c| (a, b, c))));
        for (first, second, late) in moments {
            let whole = Had::whole(steps);
            let replay = replay(steps);
            let (mut one, mut had) = (replay.body().unwrap(), Had::default());
            (0..first).for_each(|_| had.read(&mut one));
            assert!(whole.bytes.starts_with(&had.bytes), "{steps:?} {first}");

            let (mut two, mut again) = (replay.body().unwrap(), Had::default());
            assert!(replay.give_up_older());
            for _ in 0..second {
                // Its connection has not heard yet that it was given up.
                (0..late).for_each(|_| had.read(&mut one));
                again.read(&mut two);
            }
            assert!(whole.bytes.starts_with(&again.bytes), "{steps:?} {first} {second}");
            assert!(second == 0 || late == 0 || had.is_over(), "a given up reader goes on");

            let mut three = replay.body().unwrap();
            assert!(replay.give_up_older());
            if late == 1 {
                drop((one, two));
            }
            let end = Had::default().read_out(&mut three);
            assert_eq!(end, whole, "{steps:?} {first} {second} {late}");
            assert!(three.is_end_stream());
        }
    }
}

proptest! {
    /// Two attempts at once, in any order: each has all of it.
    #[test]
    fn attempts_that_read_at_once_have_the_same(
        script in 0..SCRIPTS.len(),
        turns in prop::collection::vec(any::<bool>(), 0..24),
        begins in 0..8_usize,
    ) {
        let replay = replay(SCRIPTS[script]);
        let (mut one, mut had) = (replay.body().unwrap(), Had::default());
        (0..begins).for_each(|_| had.read(&mut one));
        let (mut two, mut other) = (replay.body().unwrap(), Had::default());
        for turn in turns {
            if turn { had.read(&mut one) } else { other.read(&mut two) }
        }
        let whole = Had::whole(SCRIPTS[script]);
        prop_assert_eq!(had.read_out(&mut one), whole.clone());
        prop_assert_eq!(other.read_out(&mut two), whole);
    }

    /// Whatever the pieces, the cap and the moment: all of it, or no second body.
    #[test]
    fn the_cap_is_kept(pieces in prop::collection::vec(0..9_usize, 0..9), most in 0..40_usize, reads in 0..12) {
        const TEXT: &str = "abcdefgh";
        let steps: Vec<_> = pieces.iter().map(|len| Step::Data(&TEXT[..*len])).chain([Step::End]).collect();
        let whole = Had::whole(&steps);
        let replay = Replay::new(Body::new(Script::new(steps).untold()), most).unwrap();
        let (mut one, mut had) = (replay.body().unwrap(), Had::default());
        (0..reads).for_each(|_| had.read(&mut one));
        prop_assert!(whole.bytes.starts_with(&had.bytes));
        prop_assert_eq!(replay.is_whole(), had.bytes.len() <= most);
        let again = replay.body();
        prop_assert_eq!(again.is_some(), replay.is_whole());
        if let Some(mut again) = again {
            prop_assert_eq!(Had::default().read_out(&mut again), whole);
        } else {
            prop_assert_eq!(had.read_out(&mut one), whole);
        }
    }
}

#[test]
fn a_body_that_is_too_long_goes_on_alone() {
    let steps: Vec<_> = (0..9).map(|_| Step::Data("12345678")).collect();
    let replay = Replay::new(Body::new(Script::new(steps.clone()).untold()), 64).unwrap();
    let (mut one, mut behind) = (replay.body().unwrap(), replay.body().unwrap());
    assert_eq!(Had::default().read_out(&mut one), Had::whole(&steps));
    assert!(!replay.is_whole() && replay.body().is_none());
    assert!(Had::default().read_out(&mut behind).failed, "it would miss something");
    // One that says so is not even begun.
    let said = Replay::new(Body::new(Script::new(steps)), 64).unwrap_err();
    assert_eq!(said.size_hint().exact(), Some(72));
}

/// What was too long in the meantime takes nobody's connection away.
#[test]
fn nobody_is_given_up_for_a_body_that_lacks_its_beginning() {
    let steps: Vec<_> = (0..9).map(|_| Step::Data("12345678")).collect();
    let replay = Replay::new(Body::new(Script::new(steps.clone()).untold()), 64).unwrap();
    let (mut one, mut had) = (replay.body().unwrap(), Had::default());
    let late = replay.body().unwrap();
    (0..9).for_each(|_| had.read(&mut one));
    assert!(!replay.give_up_older());
    drop(late);
    assert_eq!(had.read_out(&mut one), Had::whole(&steps));
}

#[test]
fn a_body_that_breaks_off_is_not_had_again() {
    let replay = replay(&[Step::Data("ab"), Step::Fail]);
    let (mut one, mut other) = (replay.body().unwrap(), replay.body().unwrap());
    assert!(Had::default().read_out(&mut one).failed);
    assert!(replay.body().is_none());
    assert!(Had::default().read_out(&mut other).failed);
}

#[test]
fn once_nobody_can_ask_again_the_last_one_goes_on() {
    let replay = replay(&[Step::Data("ab"), Step::Data("cd"), Step::Data("ef"), Step::End]);
    let mut first = replay.body().unwrap();
    Had::default().read(&mut first);
    let mut last = replay.body().unwrap();
    assert!(replay.give_up_older());
    drop((replay, first));
    assert_eq!(Had::default().read_out(&mut last).bytes, b"abcdef");
}

/// Who goes on alone may wait for more for hours.
#[test]
fn nothing_is_kept_for_one_that_is_alone() {
    let replay = replay(&[Step::Data("12345678"), Step::Data("ab"), Step::End]);
    let (mut alone, mut had) = (replay.body().unwrap(), Had::default());
    had.read(&mut alone);
    let freed = allocation_counter::measure(|| drop(replay));
    assert!(freed.bytes_current <= -8, "{freed:?}");
    assert_eq!(had.read_out(&mut alone).bytes, b"12345678ab");
}

#[test]
fn sizes_are_those_of_the_whole() {
    let replay = replay(&[Step::Data("ab"), Step::Data("cd"), Step::Trailers("0")]);
    let mut one = replay.body().unwrap();
    assert_eq!(one.size_hint().exact(), Some(4));
    Had::default().read(&mut one);
    assert_eq!(one.size_hint().exact(), Some(2));
    let two = replay.body().unwrap();
    assert_eq!((two.size_hint().exact(), two.is_end_stream()), (Some(4), false));
    // In HTTP/1.1 trailers are sent only with a body that does not tell its length.
    let whole = Had::default().read_out(&mut replay.body().unwrap());
    let mut again = replay.body().unwrap();
    assert!(whole.trailers);
    assert_eq!((again.size_hint().lower(), again.size_hint().upper()), (4, None));
    assert_eq!(Had::default().read_out(&mut again), whole);
    assert_eq!(again.size_hint().exact(), Some(0));
    let none = Replay::new(Body::empty(), 0).unwrap();
    assert!(none.body().unwrap().is_end_stream());
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The source knows of one who waits. If that one goes, or gets something, the others look again.
#[tokio::test]
async fn nobody_is_forgotten() {
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    let replay = Replay::new(Body::new(Channel(receive)), 64).unwrap();
    let [one, two] = [(), ()].map(|()| Arc::new(Count(AtomicUsize::new(0))));
    let woken = |count: &Arc<Count>| count.0.load(Ordering::Relaxed);
    let waits = |body: &mut Body, count: &Arc<Count>| {
        let waker = Waker::from(Arc::clone(count));
        Pin::new(body).poll_frame(&mut Context::from_waker(&waker)).is_pending()
    };
    let (mut first, mut second) = (replay.body().unwrap(), replay.body().unwrap());
    assert!(waits(&mut first, &one) && waits(&mut second, &two));
    drop(second);
    assert_eq!(woken(&one), 1, "the source would have woken the one that is gone");
    let mut third = replay.body().unwrap();
    assert!(waits(&mut first, &one) && waits(&mut third, &two));
    send.send("ab").unwrap();
    assert!(!waits(&mut third, &two));
    assert_eq!(woken(&one), 2, "there is something to read");
    assert!(!waits(&mut first, &one));
    // Who is given up is told so, and lets go of its connection.
    assert!(waits(&mut first, &one));
    assert!(replay.give_up_older());
    assert_eq!(woken(&one), 3);
    assert!(Had::default().read_out(&mut first).failed);
    let last = replay.body().unwrap();
    drop(send);
    assert_eq!(last.collect().await.unwrap().to_bytes(), "ab");
}

/// A waker with which a reader of the same tape goes.
struct Holder(#[expect(dead_code, reason = "it is only dropped")] std::sync::Mutex<Option<Body>>);

impl Wake for Holder {
    fn wake(self: Arc<Self>) {}
}

/// A task may go with the last of its wakers, and have the other body: nothing is dropped under the lock.
#[test]
fn a_waker_may_take_a_reader_along() {
    let (_sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let replay = Replay::new(Body::new(Channel(receiver)), 100).unwrap();
    let mut first = replay.body().unwrap();
    for _ in 0..2 {
        let holder = Arc::new(Holder(std::sync::Mutex::new(replay.body())));
        let waker = Waker::from(holder);
        let polled = Pin::new(&mut first).poll_frame(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        // From here on the tape has the only one, and lets it go for the next.
    }
    drop(first);
}
