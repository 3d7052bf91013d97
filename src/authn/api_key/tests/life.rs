//! The life of keys in a store, whichever store it is.
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

struct World {
    store: Arc<dyn KeyStore>,
    clock: ManualClock,
    admin: KeyAdmin,
}

impl World {
    fn new() -> Self {
        Self::with(Arc::new(MemoryKeyStore::default()))
    }

    fn with(store: Arc<dyn KeyStore>) -> Self {
        let clock = ManualClock::new(at(1_000_000_000));
        let admin = KeyAdmin::shared(Arc::clone(&store)).clock(clock.clock());
        Self { store, clock, admin }
    }

    async fn create(&self, owner: &str) -> Minted {
        self.admin.create(mint("shop", owner).unwrap()).await.unwrap()
    }

    async fn valid(&self, key: &Minted) -> bool {
        let table = KeyTable::new("p", self.admin.list().await.unwrap()).unwrap();
        table.verify(key.reveal(), self.clock.now()).is_ok()
    }
}

#[tokio::test]
async fn a_rotated_key_is_good_for_the_overlap_and_the_next_has_all_that_it_had() {
    let world = World::new();
    let now = world.clock.now();
    let first = mint("shop_live", "acme").unwrap().with(|entry| {
        entry.scopes(["orders.read"]).roles(["buyer"]).plan("gold").notes("ticket 7").expires(now + 90 * DAY)
    });
    let first = world.admin.create(first).await.unwrap();
    world.clock.advance(80 * DAY);
    let second = world.admin.rotate(first.entry().id(), Rotation::overlap(7 * DAY)).await.unwrap();
    assert!(second.reveal().starts_with("shop_live_"));
    let entry = second.entry();
    assert_eq!(
        (entry.owner(), entry.plan_name(), entry.note_text()),
        ("acme", Some("gold"), Some("ticket 7"))
    );
    assert_eq!(
        (entry.scope_list(), entry.role_list()),
        (&["orders.read".to_owned()][..], &["buyer".to_owned()][..])
    );
    // It lives as long as the first was to live.
    assert_eq!(entry.end(), Some(world.clock.now() + 90 * DAY));

    for (days, expected) in
        [(0, (true, true)), (6, (true, true)), (1, (false, true)), (82, (false, true)), (1, (false, false))]
    {
        world.clock.advance(days * DAY);
        assert_eq!((world.valid(&first).await, world.valid(&second).await), expected, "{days}");
    }
    let ended = world.admin.rotate(first.entry().id(), Rotation::overlap(DAY)).await.unwrap_err();
    assert!(matches!(ended, KeyAdminError::Ended(_)), "{ended}");
}

#[tokio::test]
async fn an_overlap_never_lengthens_a_life() {
    let world = World::new();
    let end = world.clock.now() + DAY;
    let first = world.admin.create(mint("a", "x").unwrap().with(|entry| entry.expires(end))).await.unwrap();
    drop(world.admin.rotate(first.entry().id(), Rotation::overlap(Duration::MAX)).await.unwrap());
    assert_eq!(world.admin.find(first.entry().id()).await.unwrap().end(), Some(end));
    // A key that ends, of which it is not known when it was made.
    let old = KeyEntry::new("0123456789ab", KeyHash::of("x"), "acme").expires(end);
    world.admin.restore(vec![old], false).await.unwrap();
    let unknown = world.admin.rotate("0123456789ab", Rotation::overlap(DAY)).await.unwrap_err();
    assert!(matches!(unknown, KeyAdminError::Lifetime(_)), "{unknown}");
    let told = Rotation::overlap(DAY).expires(end + DAY);
    assert_eq!(world.admin.rotate("0123456789ab", told).await.unwrap().entry().end(), Some(end + DAY));
}

#[tokio::test]
async fn a_key_is_not_valid_before_its_time_nor_after_it_was_taken_back() {
    let world = World::new();
    let begin = world.clock.now() + DAY;
    let key =
        world.admin.create(mint("a", "x").unwrap().with(|entry| entry.not_before(begin))).await.unwrap();
    let why = async |world: &World| {
        let table = KeyTable::new("p", world.admin.list().await.unwrap()).unwrap();
        table.verify(key.reveal(), world.clock.now()).err()
    };
    assert_eq!(why(&world).await, Some(InvalidKey::NotYet));
    world.clock.set(begin);
    assert_eq!(why(&world).await, None);
    let id = key.entry().id();
    world.admin.revoke(id).await.unwrap();
    let revoked = world.admin.find(id).await.unwrap();
    assert_eq!((revoked.state(begin), why(&world).await), (KeyState::Revoked, Some(InvalidKey::Revoked)));
    // Also by a clock that is behind, and once for all.
    world.clock.step_back(10 * DAY);
    assert_eq!(why(&world).await, Some(InvalidKey::Revoked));
    world.admin.revoke(id).await.unwrap();
    assert_eq!(world.admin.find(id).await.unwrap().revocation(), Some(begin));
    assert!(matches!(world.admin.revoke("0123456789ab").await, Err(KeyAdminError::Unknown(_))));
}

#[tokio::test]
async fn a_backup_brings_everything_back_but_what_was_revoked() {
    let world = World::new();
    let [kept, revoked, lost] = [world.create("a").await, world.create("b").await, world.create("c").await];
    let backup = world.admin.list().await.unwrap();
    assert_eq!(backup.len(), 3);

    world.admin.revoke(revoked.entry().id()).await.unwrap();
    let list = world.store.read(None).await.unwrap().unwrap();
    world.store.write(list.version, vec![KeyChange::Forget(lost.entry().id().to_owned())]).await.unwrap();
    for replace in [false, true] {
        let restored = world.admin.restore(backup.clone(), replace).await.unwrap();
        assert_eq!((restored.put, restored.kept), if replace { (0, 3) } else { (1, 2) });
        assert!(world.valid(&kept).await && world.valid(&lost).await && !world.valid(&revoked).await);
    }
    // Into an empty store, as after the loss of all.
    let empty = World::new();
    assert_eq!(empty.admin.restore(backup, false).await.unwrap().put, 3);
    assert!(empty.valid(&revoked).await, "the backup was made before");
    // What no table could be made of is not put back, and nothing with it.
    let bad = KeyEntry::new("short", KeyHash::of("x"), "acme");
    let good = KeyEntry::new("0123456789ab", KeyHash::of("x"), "acme");
    assert!(matches!(empty.admin.restore(vec![good, bad], false).await, Err(KeyAdminError::Entry(_))));
    assert_eq!(empty.admin.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn hashes_move_under_a_pepper_without_a_new_key_and_ended_keys_are_forgotten() {
    let world = World::new();
    let pepper = Pepper::new("2026", &[7; 32]).unwrap();
    let (a, b) = (world.create("a").await, world.create("b").await);
    assert_eq!(world.admin.rehash(&pepper).await.unwrap(), 2);
    assert_eq!(world.admin.rehash(&pepper).await.unwrap(), 0);
    let made = world.admin.clone().pepper(pepper.clone()).create(mint("a", "c").unwrap()).await.unwrap();
    assert_eq!(made.entry().hash().pepper(), Some("2026"));
    let entries = world.admin.list().await.unwrap();
    let table = KeyTable::peppered("p", pepper.into(), entries).unwrap();
    assert!([&a, &b, &made].iter().all(|key| table.verify(key.reveal(), world.clock.now()).is_ok()));

    world.admin.revoke(a.entry().id()).await.unwrap();
    assert_eq!(world.admin.prune(world.clock.now()).await.unwrap(), 0);
    world.clock.advance(DAY);
    assert_eq!(world.admin.prune(world.clock.now()).await.unwrap(), 1);
    assert!(matches!(world.admin.find(a.entry().id()).await, Err(KeyAdminError::Unknown(_))));
}

#[tokio::test]
async fn two_who_write_at_once_both_have_written() {
    let world = World::new();
    let list = world.store.read(None).await.unwrap().unwrap();
    let entry = Box::new(mint("a", "x").unwrap().entry().clone());
    drop(world.create("first").await);
    let late = world.store.write(list.version, vec![KeyChange::Put(entry)]).await;
    assert!(matches!(late, Err(KeyStoreError::Conflict)));
    let makes = (0..8).map(|i| {
        let admin = world.admin.clone();
        tokio::spawn(async move { admin.create(mint("a", format!("{i}")).unwrap()).await.unwrap() })
    });
    for make in makes.collect::<Vec<_>>() {
        drop(make.await.unwrap());
    }
    assert_eq!(world.admin.list().await.unwrap().len(), 9);
}

/// A store that can be switched off.
#[derive(Debug, Default)]
struct Switched {
    store: MemoryKeyStore,
    off: AtomicBool,
}

impl Switched {
    fn off<T>(&self) -> Result<(), Result<T, KeyStoreError>> {
        match self.off.load(Ordering::Relaxed) {
            true => Err(Err(KeyStoreError::Unavailable("switched off".into()))),
            false => Ok(()),
        }
    }
}

impl KeyStore for Switched {
    fn read(&self, known: Option<KeyVersion>) -> Asked<'_, Option<KeyList>> {
        match self.off() {
            Ok(()) => self.store.read(known),
            Err(off) => Box::pin(std::future::ready(off)),
        }
    }
    fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Asked<'_, ()> {
        self.store.write(at, changes)
    }
    fn used(&self, uses: Vec<KeyUse>) -> Asked<'_, ()> {
        match self.off() {
            Ok(()) => self.store.used(uses),
            Err(off) => Box::pin(std::future::ready(off)),
        }
    }
}

async fn seconds(seconds: u64) {
    // The follower's work runs when the clock has come to it.
    for _ in 0..seconds * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_in_the_store_is_in_force_within_two_seconds_everywhere() {
    let world = World::new();
    let follow = async || KeyFollower::new("partners", Arc::clone(&world.store)).start().await;
    let instances = [follow().await, follow().await, follow().await];
    let valid = |key: &Minted| {
        instances.each_ref().map(|keys| keys.verify(key.reveal(), world.clock.now()).unwrap().is_ok())
    };
    let key = world.create("acme").await;
    assert_eq!(valid(&key), [false; 3]);
    tokio::time::sleep(Duration::from_millis(1_900)).await;
    assert_eq!(valid(&key), [true; 3]);
    world.admin.revoke(key.entry().id()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_900)).await;
    assert_eq!(valid(&key), [false; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_not_noticed_by_those_who_have_keys() {
    let store = Arc::new(Switched::default());
    let world = World::with(store.clone());
    let key = world.create("acme").await;
    store.off.store(true, Ordering::Relaxed);

    // Nothing was ever read: nobody can say that the key is bad.
    let keys = KeyFollower::new("partners", world.store.clone()).start().await;
    let gate = ApiKey::new(keys.clone()).clock(world.clock.clock());
    let answer = refused(&gate, get().header("x-api-key", key.reveal()));
    assert_eq!(answer.reason(), Reason::KeysUnavailable);
    let http = answer.clone().into_response(Protocol::Http);
    assert_eq!(http.status().as_u16(), 503);
    assert_eq!(http.headers()["retry-after"], "5");
    assert_eq!(answer.into_response(Protocol::Grpc).headers()["grpc-status"], "14");
    assert_eq!(keys.health().keys, None);

    store.off.store(false, Ordering::Relaxed);
    seconds(2).await;
    let passes = || {
        let mut request = get().header("x-api-key", key.reveal()).body(()).unwrap();
        gate.check(&mut Head::of(&mut request)).is_ok()
    };
    assert!(passes());
    store.off.store(true, Ordering::Relaxed);
    seconds(3_600).await;
    assert!(passes());
    let health = keys.health();
    assert!(
        health.keys == Some(1) && health.age > Duration::from_secs(3_590) && health.failures > 3_000,
        "{health:?}"
    );
    store.off.store(false, Ordering::Relaxed);
    seconds(2).await;
    assert!(keys.health().age < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn last_uses_are_told_once_a_minute_and_survive_a_change() {
    let store = Arc::new(Switched::default());
    let world = World::with(store.clone());
    let (key, unused) = (world.create("acme").await, world.create("other").await);
    let keys = KeyFollower::new("partners", world.store.clone()).start().await;
    let last = async |key: &Minted| world.admin.find(key.entry().id()).await.unwrap().last_use();
    let uses = || keys.verify(key.reveal(), world.clock.now()).unwrap().unwrap();

    uses();
    let first = world.clock.now();
    world.clock.advance(Duration::from_secs(59));
    uses();
    assert_eq!(last(&key).await, None, "no request writes");
    // The table is replaced meanwhile; and the store does not answer when it is told first.
    drop(world.create("another").await);
    seconds(2).await;
    store.off.store(true, Ordering::Relaxed);
    seconds(62).await;
    store.off.store(false, Ordering::Relaxed);
    seconds(62).await;
    assert_eq!(last(&key).await, Some(first), "to a minute");
    assert_eq!(last(&unused).await, None);

    world.clock.advance(Duration::from_secs(1));
    uses();
    // The last handle goes, and what it knows is told.
    drop(keys);
    seconds(2).await;
    assert_eq!(last(&key).await, Some(first + Duration::from_secs(60)));
    assert_eq!(Arc::strong_count(&store), 3, "the follower has gone");
}

#[tokio::test(start_paused = true)]
async fn one_bad_entry_takes_no_other_with_it() {
    let world = World::new();
    let pepper = Pepper::new("2026", &[7; 32]).unwrap();
    let good = world.create("good").await;
    drop(world.admin.clone().pepper(pepper).create(mint("a", "bad").unwrap()).await.unwrap());
    let keys = KeyFollower::new("partners", world.store.clone()).start().await;
    assert_eq!(keys.health().keys, Some(1));
    assert!(keys.verify(good.reveal(), world.clock.now()).unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_list_without_a_usable_entry_ends_no_key() {
    let world = World::new();
    let good = world.create("good").await;
    let keys = KeyFollower::new("partners", world.store.clone()).start().await;
    // Somebody has moved all hashes under a pepper that this instance has not been told.
    let pepper = Pepper::new("2026", &[7; 32]).unwrap();
    drop(world.admin.clone().pepper(pepper).create(mint("a", "bad").unwrap()).await.unwrap());
    let list = world.store.read(None).await.unwrap().unwrap();
    let forget = KeyChange::Forget(good.entry().id().to_owned());
    world.store.write(list.version, vec![forget]).await.unwrap();
    seconds(5).await;
    assert!(keys.verify(good.reveal(), world.clock.now()).unwrap().is_ok(), "the last keys go on");
    assert!(keys.health().failures > 0);
}

/// Somebody's store, with a mistake in it.
#[derive(Debug, Default)]
struct Panics {
    own: MemoryKeyStore,
    now: AtomicBool,
}

impl KeyStore for Panics {
    fn read(&self, known: Option<KeyVersion>) -> Asked<'_, Option<KeyList>> {
        assert!(!self.now.load(Ordering::Relaxed), "a mistake");
        self.own.read(known)
    }

    fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Asked<'_, ()> {
        self.own.write(at, changes)
    }

    fn used(&self, _: Vec<KeyUse>) -> Asked<'_, ()> {
        panic!("another mistake")
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_asked_again() {
    let store = Arc::new(Panics::default());
    let world = World::with(store.clone());
    let key = world.create("acme").await;
    store.now.store(true, Ordering::Relaxed);
    let keys = KeyFollower::new("partners", world.store.clone()).start().await;
    assert!(keys.health().keys.is_none() && keys.health().failures == 1);

    store.now.store(false, Ordering::Relaxed);
    seconds(2).await;
    let valid = || keys.verify(key.reveal(), world.clock.now()).unwrap().is_ok();
    assert!(valid());
    store.now.store(true, Ordering::Relaxed);
    seconds(90).await;
    assert!(valid(), "the last keys go on");
    store.now.store(false, Ordering::Relaxed);
    world.admin.revoke(key.entry().id()).await.unwrap();
    seconds(2).await;
    assert!(!valid(), "and no revocation is missed");
}
