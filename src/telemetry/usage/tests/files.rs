//! What is kept and written in files.

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-usage-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn to_file(scratch: &Scratch, rotate: u64) -> UsageMeter {
    UsageMeter::builder().sink(UsageFile::new(scratch.0.join("usage.jsonl")).rotate(rotate)).build()
}

#[tokio::test]
async fn a_file_is_found_again_after_it_was_renamed() {
    let scratch = Scratch::new("renamed");
    let meter = to_file(&scratch, u64::MAX);
    meter.start().await.unwrap();
    for name in ["one", "two"] {
        ask(&meter, "acme", 200).await;
        assert!(meter.flush(PATIENCE).await);
        fs::rename(scratch.0.join("usage.jsonl"), scratch.0.join(name)).unwrap();
    }
    let ids = ["one", "two"].map(|name| {
        let lines = scratch.lines(name);
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((lines.len(), &line["requests"]), (1, &1.into()));
        line["id"].as_str().unwrap().to_owned()
    });
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_file_is_renamed_before_it_is_too_large_and_a_torn_line_is_ended() {
    let scratch = Scratch::new("rotated");
    fs::write(scratch.0.join("usage.jsonl"), "{\"id\":\"torn").unwrap();
    let meter = to_file(&scratch, 600);
    meter.start().await.unwrap();
    for _ in 0..4 {
        ask(&meter, "acme", 200).await;
        assert!(meter.flush(PATIENCE).await);
    }
    let files = fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap().path());
    let files: Vec<_> = files.filter(|path| !path.ends_with("usage.jsonl.lock")).collect();
    assert!(files.len() > 1, "{files:?}");
    let texts: Vec<_> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    assert!(texts.iter().all(|text| text.len() <= 600 && text.ends_with('\n')));
    let lines = || texts.iter().flat_map(|text| text.lines());
    let whole = lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert_eq!((whole, lines().count()), (4, 5));
}

#[tokio::test]
async fn what_was_sealed_outlives_the_process() {
    let scratch = Scratch::new("spool");
    let spool = scratch.0.join("spool");
    let meter = |sink: &Flaky| UsageMeter::builder().sink(sink.clone()).spool(&spool).build();
    let (before, after) = (Flaky::failing(u32::MAX), Flaky::default());
    let first = meter(&before);
    first.start().await.unwrap();
    for sealed in 1..=2 {
        ask(&first, "acme", 200).await;
        // A machine at work may not come to it in the time that is given.
        for _ in 0..100 {
            assert!(!first.flush(Duration::from_millis(100)).await);
            if fs::read_dir(&spool).unwrap().count() == sealed {
                break;
            }
        }
    }
    drop(first);
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 2);
    let second = meter(&after);
    second.start().await.unwrap();
    assert!(second.flush(PATIENCE).await);
    let mut told: Vec<_> = before.came();
    told.sort();
    told.dedup();
    let mut came = after.came();
    came.sort();
    assert!(came.len() == 2 && told.iter().all(|event| came.contains(event)), "{came:?}");
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "what all have is not kept");
}

fn spooled(scratch: &Scratch, sink: &Flaky) -> UsageMeter {
    UsageMeter::builder().sink(sink.clone()).spool(scratch.0.join("spool")).build()
}

/// What a process before has left: a batch of this many requests.
fn leave(scratch: &Scratch, name: &str, requests: u64) {
    fs::create_dir_all(scratch.0.join("spool")).unwrap();
    let event = format!(
        "{{\"id\":\"{name}-0\",\"subject\":\"\\\"requests\\\":9\",\"requests\":{requests},\"units\":1,\"bytes\":2}}\n"
    );
    fs::write(scratch.0.join("spool").join(format!("{name}.jsonl")), event).unwrap();
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_delivers_all_the_same() {
    let (scratch, sink) = (Scratch::new("impatient"), Flaky::default());
    leave(&scratch, "old-1", 1);
    let meter = spooled(&scratch, &sink);
    drop(futures_util::FutureExt::now_or_never(meter.start()));
    ask(&meter, "acme", 200).await;
    assert!(meter.flush(PATIENCE).await);
    assert_eq!(sink.came().len(), 2);
}

/// The first request begins it, and what a process before has left is delivered too.
#[tokio::test]
async fn nobody_has_to_start_it() {
    let (scratch, sink) = (Scratch::new("unstarted"), Flaky::default());
    leave(&scratch, "old-1", 1);
    let meter = spooled(&scratch, &sink);
    ask(&meter, "acme", 200).await;
    let all_came = async {
        while sink.came().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_came).await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_spool_that_cannot_be_read_is_tried_again_and_what_is_no_batch_is_put_aside() {
    let (scratch, sink) = (Scratch::new("faulty"), Flaky::default());
    leave(&scratch, "old-2", 1);
    fs::write(scratch.0.join("spool/old-1.jsonl"), b"\xff").unwrap();
    fs::rename(scratch.0.join("spool"), scratch.0.join("aside")).unwrap();
    std::os::unix::fs::symlink(scratch.0.join("later"), scratch.0.join("spool")).unwrap();
    let meter = spooled(&scratch, &sink);
    meter.start().await.unwrap_err();
    ask(&meter, "acme", 200).await;
    assert!(!meter.flush(Duration::from_millis(200)).await, "what lies there is not known");
    assert_eq!(sink.came().len(), 1, "what is new is delivered");
    fs::rename(scratch.0.join("aside"), scratch.0.join("later")).unwrap();
    assert!(meter.flush(PATIENCE).await);
    assert_eq!(sink.came().len(), 2);
    let left: Vec<_> =
        fs::read_dir(scratch.0.join("spool")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["old-1.bad"]);
}

#[tokio::test]
async fn what_the_spool_does_not_take_is_counted_and_delivered() {
    let (scratch, sink) = (Scratch::new("gone"), Flaky::default());
    let meter = spooled(&scratch, &sink);
    meter.start().await.unwrap();
    fs::remove_dir_all(scratch.0.join("spool")).unwrap();
    ask(&meter, "acme", 200).await;
    assert!(meter.flush(PATIENCE).await);
    assert_eq!((meter.counts().unspooled, sink.came().len()), (1, 1));
}

#[tokio::test]
async fn what_is_given_up_leaves_the_spool_and_its_requests_are_counted() {
    let (scratch, sink) = (Scratch::new("bounded"), Flaky::failing(u32::MAX));
    for batch in 0..5 {
        leave(&scratch, &format!("old-{batch}"), 7);
    }
    let meter = UsageMeter::builder().sink(sink).spool(scratch.0.join("spool")).max_waiting(200).build();
    meter.start().await.unwrap();
    let counts = &meter.counts().sinks[0];
    assert!(counts.lost_batches > 0 && counts.waiting as u64 + counts.lost_batches == 5, "{counts:?}");
    assert_eq!(counts.lost_requests, 7 * counts.lost_batches);
    assert_eq!(fs::read_dir(scratch.0.join("spool")).unwrap().count(), counts.waiting);
}

#[tokio::test]
async fn a_batch_that_comes_again_overwrites_no_file() {
    let scratch = Scratch::new("again");
    let file = UsageFile::new(scratch.0.join("usage.jsonl")).rotate(10);
    let batches = ["a", "b"].map(|id| UsageBatch::left(id, format!("{{\"id\":\"{id}-0\"}}\n")));
    for batch in [0, 1, 1, 0, 1, 1] {
        file.deliver(&batches[batch]).await.unwrap();
    }
    let files =
        fs::read_dir(&scratch.0).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let lines = files.fold(0, |lines, text| lines + text.lines().count());
    assert_eq!(lines, 6);
}

#[tokio::test]
async fn a_file_that_another_writes_to_waits() {
    let scratch = Scratch::new("two");
    let file = UsageFile::new(scratch.0.join("usage.jsonl"));
    let batch = UsageBatch::left("a", "{}\n".into());
    let other = fs::File::create(scratch.0.join("usage.jsonl.lock")).unwrap();
    other.lock().unwrap();
    file.deliver(&batch).await.unwrap_err();
    other.unlock().unwrap();
    file.deliver(&batch).await.unwrap();
    assert_eq!(scratch.lines("usage.jsonl").len(), 1);
}
