use millrace_api::openai::batches::{self, State};
use serde_json::json;

use super::*;

fn open(path: &std::path::Path, max_bytes: u64) -> FileStore {
    let path = Some(path.to_owned());
    FileStore::open(&StoreConfig { path, max_bytes, ..StoreConfig::default() }).unwrap()
}

fn file(id: &str, lines: u32, expires_at: u64) -> FileRecord {
    FileRecord {
        id: id.into(),
        owner: "me".into(),
        bytes: 1,
        lines,
        created_at: 1,
        expires_at,
        filename: "a.jsonl".into(),
        purpose: "batch".into(),
    }
}

fn request(name: &str) -> Vec<u8> {
    format!("{{\"custom_id\": \"{name}\"}}\n").into_bytes()
}

/// A file of three requests and an empty line, and a batch over it that has begun.
async fn begun(store: &FileStore) -> String {
    let lines = vec![request("a"), b"\n".to_vec(), request("b"), request("c")];
    assert_eq!(store.append("file-1", 1, lines).await.unwrap(), Room::Enough);
    assert_eq!(store.finish(file("file-1", 4, u64::MAX)).await.unwrap(), Room::Enough);
    let body = json!({"input_file_id": "file-1", "endpoint": "/e", "completion_window": "1h"});
    let order = batches::parse(&body, &["/e"]).unwrap();
    let ids = ["batch_1", "file-2", "file-3"].map(str::to_owned);
    let batch = BatchRecord::new(ids, "me".into(), order, unix_time());
    assert_eq!(store.order(batch).await.unwrap(), Ordered::Done);
    store.change("batch_1", |batch| batch.begin(3, 2)).await.unwrap();
    "batch_1".into()
}

async fn open_lines(store: &FileStore) -> Vec<u32> {
    store.pending("batch_1", 0).await.unwrap().lines.into_iter().map(|(number, _)| number).collect()
}

async fn text(store: &FileStore, file: &str) -> String {
    let lines = store.lines(file, 0).await.unwrap();
    lines.into_iter().map(|(_, line)| String::from_utf8(line).unwrap()).collect()
}

#[tokio::test]
async fn the_next_process_goes_on_where_a_killed_one_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("files.redb");
    let store = open(&path, 1 << 20);
    let batch = begun(&store).await;
    assert_eq!(open_lines(&store).await, [1, 3, 4]);
    store.record(&batch, 4, true, b"C\n".to_vec()).await.unwrap();
    store.record(&batch, 4, false, b"again\n".to_vec()).await.unwrap();
    store.append("file-never-finished", 1, vec![request("x")]).await.unwrap();
    // A copy of the file at this moment is what a killed process leaves.
    let copy = folder.path().join("copy.redb");
    std::fs::copy(&path, &copy).unwrap();

    let store = open(&copy, 1 << 20);
    assert_eq!(store.open_batches().await.unwrap(), ["batch_1"]);
    assert_eq!(open_lines(&store).await, [1, 3]);
    assert!(store.lines("file-never-finished", 0).await.unwrap().is_empty());
    store.record(&batch, 3, false, b"B\n".to_vec()).await.unwrap();
    store.record(&batch, 1, true, b"A\n".to_vec()).await.unwrap();
    assert!(store.file("me", "file-2").await.is_err(), "results are shown at the end");
    store.end(&batch, End::Completed, None).await.unwrap();
    assert_eq!((text(&store, "file-2").await, text(&store, "file-3").await), ("A\nC\n".into(), "B\n".into()));
    assert_eq!(store.file("me", "file-2").await.unwrap().bytes, 4);
    let ended = store.batch("me", &batch).await.unwrap();
    assert_eq!((ended.state, ended.counts.completed, ended.counts.failed), (State::Completed, 2, 1));
    assert!(store.open_batches().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_end_before_its_time_says_what_was_not_run() {
    let store = FileStore::in_memory();
    let batch = begun(&store).await;
    store.record(&batch, 3, true, b"B\n".to_vec()).await.unwrap();
    let unrun = Unrun { code: "batch_expired", message: "Late." };
    store.end(&batch, End::Expired, Some(unrun)).await.unwrap();
    let errors = text(&store, "file-3").await;
    let errors: Vec<serde_json::Value> =
        errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = errors.iter().map(|error| (&error["custom_id"], &error["error"]["code"])).collect();
    assert_eq!(names, [(&json!("a"), &json!("batch_expired")), (&json!("c"), &json!("batch_expired"))]);
    // What comes too late changes nothing.
    store.record(&batch, 1, true, b"A\n".to_vec()).await.unwrap();
    assert_eq!(text(&store, "file-2").await, "B\n");
}

#[tokio::test]
async fn files_are_their_owners_until_they_expire() {
    let store = FileStore::in_memory();
    let batch = begun(&store).await;
    for (id, expires_at) in [("file-4", 1), ("file-5", u64::MAX)] {
        store.finish(file(id, 0, expires_at)).await.unwrap();
    }
    let list = async |owner, limit, after: Option<&str>, ascending| {
        let query = ListQuery { limit, ascending, after: after.map(str::to_owned), purpose: None };
        let page = store.files(owner, query).await.unwrap();
        (page.entries.into_iter().map(|file| file.id).collect::<Vec<_>>(), page.has_more)
    };
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(list("me", 9, None, false).await, (ids(&["file-5", "file-1"]), false));
    assert_eq!(list("me", 1, None, true).await, (ids(&["file-1"]), true));
    assert_eq!(list("me", 9, Some("file-1"), true).await, (ids(&["file-5"]), false));
    assert_eq!(list("you", 9, None, false).await, (ids(&[]), false));
    assert!(store.file("you", "file-1").await.is_err() && store.file("me", "file-4").await.is_err());
    assert!(store.batch("you", &batch).await.is_err());
    assert_eq!(store.delete("you", "file-1").await.unwrap(), Deletion::Unknown);
    assert_eq!(store.delete("me", "file-1").await.unwrap(), Deletion::InUse(batch.clone()));
    store.end(&batch, End::Cancelled, None).await.unwrap();
    assert_eq!(store.delete("me", "file-1").await.unwrap(), Deletion::Done);
    assert!(store.lines("file-1", 0).await.unwrap().is_empty());
    assert_eq!(store.metrics().bytes(), 0);
}

#[tokio::test]
async fn a_full_store_takes_no_more_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("files.redb"), 1000);
    let batch = begun(&store).await;
    assert_eq!(store.append("file-9", 1, vec![vec![b'x'; 900]]).await.unwrap(), Room::Full);
    assert_eq!(store.record(&batch, 1, true, vec![b'x'; 900]).await.unwrap(), Room::Full);
    assert_eq!(store.record(&batch, 1, true, b"A\n".to_vec()).await.unwrap(), Room::Enough);
    assert_eq!(open_lines(&store).await, [3, 4]);
}

#[test]
fn ids_sort_by_their_time() {
    let (first, second) = (new_id("file-"), new_id("file-"));
    assert!(first[..19] <= second[..19] && first != second);
    assert_eq!(first.len(), "file-".len() + 32);
}
