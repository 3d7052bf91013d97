//! Who waits, in which order and for how long.

use super::*;

/// Who comes while others wait does not overtake them, and they are served in their order.
#[tokio::test(start_paused = true)]
async fn a_queue_is_fair() {
    let limit = queued(2, Queue::new(some(3)));
    let (first, second) = (held(&limit), held(&limit));
    let mut waiting = [waits(&limit), waits(&limit), waits(&limit)];
    assert!(matches!(ask(&limit), Got::Refused), "the queue is full");
    assert_eq!(limit.handle().refused(), 1);
    drop(first);
    assert!(matches!(ask(&limit), Got::Waits(_)), "a place is free, and somebody waits for it");
    let one = look(&mut waiting[0]).unwrap().unwrap();
    assert!(look(&mut waiting[1]).is_none());
    drop((one, second));
    assert!(look(&mut waiting[1]).unwrap().is_ok() && look(&mut waiting[2]).unwrap().is_ok());
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_has_other_orders() {
    let limit = queued(1, Queue::new(some(3)).order(Order::Newest));
    let first = held(&limit);
    let (mut one, mut two) = (waits(&limit), waits(&limit));
    drop(first);
    assert!(look(&mut one).is_none());
    drop(look(&mut two).unwrap().unwrap());
    assert!(look(&mut one).unwrap().is_ok());

    use Priority::{Critical, High, Low, Normal};
    let limit = queued(1, Queue::new(some(3)).order(Order::Priority));
    let first = held(&limit);
    let mut low = waits_as(&limit, important(Low));
    let mut normal = waits_as(&limit, important(Normal));
    let mut another = waits_as(&limit, important(Normal));
    assert!(matches!(ask_as(&limit, important(Low)), Got::Refused), "nobody is less important");
    let mut high = waits_as(&limit, important(High));
    assert!(look(&mut low).unwrap().is_err(), "it gave way");
    let mut critical = waits_as(&limit, important(Critical));
    assert!(look(&mut another).unwrap().is_err(), "the newest of the least important");
    drop(first);
    for wait in [&mut critical, &mut high, &mut normal] {
        drop(look(wait).unwrap().unwrap());
    }
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end() {
    let limit = queued(1, Queue::new(some(5)).timeout(100 * MS));
    let app = limit.layer().layer(service_fn(|_: Request<()>| async {
        sleep(80 * MS).await;
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    }));
    let ask = |request| {
        let app = app.clone();
        tokio::spawn(async move {
            let response = app.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            response.into_body().collect().await.unwrap();
            (status, tokio::time::Instant::now())
        })
    };
    let begin = tokio::time::Instant::now();
    let mut hurried = Request::new(());
    hurried.extensions_mut().insert(Deadline::at(begin + 10 * MS));
    let calls = [Request::new(()), Request::new(()), Request::new(()), hurried].map(ask);
    let mut ended = Vec::new();
    for call in calls {
        let (status, at) = call.await.unwrap();
        ended.push((status, (at - begin).as_millis()));
    }
    // The timer has a resolution of 1 ms.
    ended.iter_mut().for_each(|(_, ms)| *ms -= *ms % 10);
    assert_eq!(ended, [(200, 80), (200, 160), (503, 100), (503, 10)]);
    assert_eq!((limit.handle().timed_out(), limit.handle().queued()), (2, 3));
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_stands_is_cut() {
    let limit = queued(1, Queue::new(some(100)).codel(5 * MS, 50 * MS));
    let mut running = Some(held(&limit));
    let (mut waiting, mut dropped) = (VecDeque::new(), 0);
    // 2 come in the time of 1.
    for _ in 0..40 {
        waiting.push_back(waits(&limit));
        waiting.push_back(waits(&limit));
        advance(4 * MS).await;
        drop(running.take());
        waiting.retain_mut(|wait| match look(wait) {
            Some(Ok(held)) => {
                running = Some(held);
                false
            }
            Some(Err(())) => {
                dropped += 1;
                false
            }
            None => true,
        });
    }
    let handle = limit.handle();
    assert!(dropped > 10, "{dropped}");
    assert!(handle.queue_delay() <= 20 * MS, "{:?}", handle.queue_delay());
    assert_eq!(handle.in_flight(), 1);
}

/// What a queue does, said slowly.
#[derive(Default)]
struct Model {
    in_flight: usize,
    waiting: VecDeque<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any sequence of coming, leaving and going away gives the places of the obvious model, in its order.
    #[test]
    fn it_does_what_the_model_does(
        most in 1_usize..4,
        length in 1_usize..4,
        keyed: bool,
        steps in proptest::collection::vec((0_u8..3, 0_usize..8), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let builder = fixed(u32::try_from(most).unwrap()).queue(Queue::new(some(u32::try_from(length).unwrap())));
        let limit = if keyed { builder.by(Key::tuple([])) } else { builder }.build().unwrap();
        let mut model = Model::default();
        let (mut places, mut queue) = (Vec::new(), Vec::new());
        for (id, (what, which)) in steps.into_iter().enumerate() {
            match what {
                0 => match ask(&limit) {
                    Got::Held(held) => {
                        prop_assert!(model.in_flight < most && model.waiting.is_empty());
                        model.in_flight += 1;
                        places.push(held);
                    }
                    Got::Waits(wait) => {
                        prop_assert!(model.in_flight == most && model.waiting.len() < length);
                        model.waiting.push_back(id);
                        queue.push((id, wait));
                    }
                    Got::Refused => prop_assert!(model.in_flight == most && model.waiting.len() == length),
                },
                1 if !places.is_empty() => {
                    let at = which % places.len();
                    drop(places.swap_remove(at));
                    model.in_flight -= 1;
                    if let Some(next) = model.waiting.pop_front() {
                        model.in_flight += 1;
                        let at = queue.iter().position(|(id, _)| *id == next).unwrap();
                        let (_, mut wait) = queue.swap_remove(at);
                        let told = look(&mut wait);
                        prop_assert!(matches!(told, Some(Ok(_))), "the one who came first has it");
                        places.extend(told.and_then(Result::ok));
                    }
                }
                2 if !queue.is_empty() => {
                    let (id, _) = queue.swap_remove(which % queue.len());
                    model.waiting.retain(|other| *other != id);
                }
                _ => {}
            }
            prop_assert_eq!(limit.handle().in_flight() as usize, model.in_flight);
            prop_assert_eq!(limit.handle().waiting() as usize, model.waiting.len());
        }
    }
}
