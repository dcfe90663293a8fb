//! Downloads from a hub on this machine into a cache in a temporary folder.

#![allow(clippy::unwrap_used)] // helpers outside of test functions may unwrap too

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use common::hub::{COMMIT, FakeHub, Reply, Repo, Request};
use common::vectors;
use millrace_weights::{Checkpoint, HubOptions, resolve};

fn is_weights(request: &Request) -> bool {
    request.method == "GET" && request.path.ends_with("model.safetensors")
}

/// A correct hub whose answers `change` may alter.
fn hub_with(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> (FakeHub, Repo) {
    let repo = Repo::new();
    let served = repo.clone();
    (FakeHub::start(move |request| change(request, served.answer(request))), repo)
}

fn good_hub() -> (FakeHub, Repo) {
    hub_with(|_, reply| reply)
}

fn error(result: millrace_weights::Result<std::path::PathBuf>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(!message.contains('\n'), "one sentence: {message}");
    message
}

/// Every link of the snapshot leads to a blob with the right content, and nothing half-done is left.
fn assert_complete(home: &Path, repo: &Repo) {
    let model = home.join("hub/models--org--name");
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let path = model.join("snapshots").join(COMMIT).join(file);
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../blobs").join(repo.etag(file)), "{file}");
        assert_eq!(fs::read(&path).unwrap(), repo.files[file], "{file}");
    }
    let blobs: Vec<_> = fs::read_dir(model.join("blobs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(blobs.len(), 3, "{blobs:?}");
}

#[test]
fn a_fresh_download_and_then_the_cache() {
    let (hub, repo) = good_hub();
    let home = tempfile::tempdir().unwrap();
    let options = hub.options(home.path());
    let folder = resolve("org/name", None, &options).unwrap();
    assert_eq!(folder, options.cache.join("models--org--name/snapshots").join(COMMIT));
    assert_complete(home.path(), &repo);
    assert!(!folder.join("README.md").exists(), "only what is needed");
    assert_eq!(fs::read_to_string(options.cache.join("models--org--name/refs/main")).unwrap(), COMMIT);
    Checkpoint::open(&folder).unwrap().tensor("a").unwrap().expect_shape(&[750_000]).unwrap();

    let before = hub.seen().len();
    assert_eq!(resolve("org/name", Some("main"), &options).unwrap(), folder);
    assert_eq!(hub.seen().len(), before + 1, "one question, no file again");

    // A blob that another program removed is fetched again.
    fs::remove_file(options.cache.join("models--org--name/blobs").join(repo.etag("tokenizer.json"))).unwrap();
    resolve("org/name", None, &options).unwrap();
    assert_complete(home.path(), &repo);
    assert_eq!(hub.count("GET", "model.safetensors"), 1);
}

#[test]
fn sharded_weights_come_by_their_index() {
    let mut repo = Repo::new();
    let weights = repo.files.remove("model.safetensors").unwrap();
    repo.files.insert("part-1.safetensors".into(), weights);
    repo.files.insert("part-2.safetensors".into(), vectors(&[("b", &[1.0])]));
    repo.files.insert("unused.safetensors".into(), vectors(&[("c", &[1.0])]));
    let index = r#"{"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}"#;
    repo.files.insert("model.safetensors.index.json".into(), index.into());
    let hub = FakeHub::start(move |request| repo.answer(request));
    let home = tempfile::tempdir().unwrap();
    let folder = resolve("org/name", None, &hub.options(home.path())).unwrap();
    assert_eq!(Checkpoint::open(&folder).unwrap().names().count(), 2);
    assert_eq!(hub.count("HEAD", "unused.safetensors"), 0);

    fs::remove_file(folder.join("part-2.safetensors")).unwrap();
    let message = error(resolve("org/name", None, &offline(&hub, home.path())));
    assert!(message.contains("part-2.safetensors is missing"), "{message}");
}

#[test]
fn revisions_have_references_of_their_own() {
    let (hub, _) = good_hub();
    let home = tempfile::tempdir().unwrap();
    let options = hub.options(home.path());
    resolve("org/name", Some("v1/x"), &options).unwrap();
    let reference = options.cache.join("models--org--name/refs/v1/x");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    resolve("org/name", Some(COMMIT), &options).unwrap();
    let message = error(resolve("org/name", Some("v9"), &options));
    assert_eq!(message, format!("{} has no revision v9 of model org/name: check the spelling", hub.url));
    for bad in ["../../x", "/etc", "a//b", ""] {
        assert!(error(resolve("org/name", Some(bad), &options)).contains("names no model"), "{bad}");
    }
}

fn offline(hub: &FakeHub, home: &Path) -> HubOptions {
    HubOptions { offline: true, ..hub.options(home) }
}

#[test]
fn offline_uses_the_cache_and_nothing_else() {
    let (hub, repo) = good_hub();
    let home = tempfile::tempdir().unwrap();
    let offline = offline(&hub, home.path());
    let message = error(resolve("org/name", None, &offline));
    assert!(message.starts_with("org/name (revision main) is not complete in "), "{message}");
    assert!(message.contains("never downloaded; unset HF_HUB_OFFLINE"), "{message}");
    let folder = resolve("org/name", None, &hub.options(home.path())).unwrap();
    let before = hub.seen().len();
    assert_eq!(resolve("org/name", None, &offline).unwrap(), folder);
    assert_eq!(resolve("org/name", Some(COMMIT), &offline).unwrap(), folder);
    let blob = offline.cache.join("models--org--name/blobs").join(repo.etag("model.safetensors"));
    fs::rename(&blob, blob.with_extension("incomplete")).unwrap();
    let message = error(resolve("org/name", None, &offline));
    assert!(message.contains("model.safetensors"), "{message}");
    assert_eq!(hub.seen().len(), before, "not one request");
}

#[test]
fn a_hub_out_of_reach_leaves_the_cache_usable() {
    let (hub, _) = good_hub();
    let home = tempfile::tempdir().unwrap();
    // A server that hangs up on everybody.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let dead = HubOptions { endpoint: format!("http://127.0.0.1:{port}"), ..hub.options(home.path()) };
    let message = error(resolve("org/name", None, &dead));
    assert!(
        message.starts_with(&format!("could not fetch {}/api/models/org/name", dead.endpoint)),
        "{message}"
    );
    let folder = resolve("org/name", None, &hub.options(home.path())).unwrap();
    assert_eq!(resolve("org/name", None, &dead).unwrap(), folder);
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let cuts = AtomicUsize::new(0);
    let (hub, repo) = hub_with(move |request, reply| {
        let cut = is_weights(request) && cuts.fetch_add(1, Ordering::SeqCst) < 3;
        Reply { cut: cut.then_some(700_000), ..reply }
    });
    let home = tempfile::tempdir().unwrap();
    // Each transfer brings something, so three cuts do not exhaust two retries.
    resolve("org/name", None, &hub.options(home.path())).unwrap();
    assert_complete(home.path(), &repo);
    let ranges: Vec<_> = hub.seen().iter().filter(|r| is_weights(r)).map(Request::range).collect();
    assert_eq!(ranges, [None, Some(700_000), Some(1_400_000), Some(2_100_000)]);
}

#[test]
fn a_later_process_resumes_too() {
    let broken = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&broken);
    let (hub, repo) = hub_with(move |request, reply| match switch.load(Ordering::SeqCst) {
        0 => reply,
        // The first answer brings a megabyte, then nothing more comes.
        _ if is_weights(request) => {
            Reply { cut: Some(if request.range().is_some() { 0 } else { 1_000_000 }), ..reply }
        }
        _ => reply,
    });
    let home = tempfile::tempdir().unwrap();
    let options = hub.options(home.path());
    let message = error(resolve("org/name", None, &options));
    assert!(message.contains("after 1000000 of 3000"), "{message}");
    assert!(message.contains("running the same command again resumes"), "{message}");
    let partial =
        options.cache.join("models--org--name/blobs").join(repo.etag("model.safetensors") + ".incomplete");
    assert_eq!(fs::metadata(&partial).unwrap().len(), 1_000_000);
    assert!(
        !options.cache.join("models--org--name/refs").exists(),
        "an incomplete snapshot is not announced"
    );

    broken.store(0, Ordering::SeqCst);
    resolve("org/name", None, &options).unwrap();
    assert_complete(home.path(), &repo);
    assert_eq!(hub.seen().iter().rfind(|r| is_weights(r)).unwrap().range(), Some(1_000_000));
}

#[test]
fn servers_without_ranges_send_everything_again() {
    let cuts = AtomicUsize::new(0);
    let whole = Repo::new().weights().to_vec();
    let (hub, repo) = hub_with(move |request, reply| {
        if !is_weights(request) {
            return reply;
        }
        let cut = (cuts.fetch_add(1, Ordering::SeqCst) == 0).then_some(500_000);
        let headers = reply.headers.into_iter().filter(|(name, _)| *name != "Content-Range").collect();
        Reply { status: 200, headers, body: whole.clone(), cut }
    });
    let home = tempfile::tempdir().unwrap();
    resolve("org/name", None, &hub.options(home.path())).unwrap();
    assert_complete(home.path(), &repo);
}

#[test]
fn a_wrong_range_is_not_stitched_together() {
    let cuts = AtomicUsize::new(0);
    let (hub, _) = hub_with(move |request, reply| {
        if !is_weights(request) {
            return reply;
        }
        match cuts.fetch_add(1, Ordering::SeqCst) {
            0 => Reply { cut: Some(500_000), ..reply },
            _ => Reply { headers: vec![("Content-Range", "bytes 400000-3000000/3000001".into())], ..reply },
        }
    });
    let home = tempfile::tempdir().unwrap();
    let message = error(resolve("org/name", None, &hub.options(home.path())));
    assert!(
        message.contains("model.safetensors of org/name arrived damaged (the server sent another range"),
        "{message}"
    );
}

#[test]
fn busy_servers_are_asked_again() {
    let tries = AtomicUsize::new(0);
    let (hub, repo) = hub_with(move |_, reply| match tries.fetch_add(1, Ordering::SeqCst) % 3 {
        0 => Reply::status(503),
        1 => Reply::status(429),
        _ => reply,
    });
    let home = tempfile::tempdir().unwrap();
    resolve("org/name", None, &hub.options(home.path())).unwrap();
    assert_complete(home.path(), &repo);
}

#[test]
fn refusals_say_what_to_do() {
    let message = |status: u16, code: &'static str, token: Option<&str>| {
        let hub = FakeHub::start(move |_| Reply::status(status).with("X-Error-Code", code));
        let home = tempfile::tempdir().unwrap();
        let options = HubOptions { token: token.map(String::from), ..hub.options(home.path()) };
        let message = error(resolve("org/name", None, &options));
        assert_eq!(hub.seen().len(), 1, "refusals are not retried");
        message.replace(&hub.url, "HUB")
    };
    assert_eq!(
        message(401, "RepoNotFound", None),
        "HUB refuses access to org/name (401): it does not exist or is not public; check the name, or set HF_TOKEN to a token that may read it"
    );
    assert!(message(401, "", Some("hf_x")).contains("the token (HF_TOKEN or $HF_HOME/token) is not valid"));
    assert!(message(403, "GatedRepo", Some("hf_x")).contains("accept its conditions on its web page"));
    assert_eq!(message(404, "RepoNotFound", None), "HUB has no model org/name: check the spelling");
    assert!(message(404, "", None).contains("model org/name with revision main"));
    assert!(message(418, "", None).contains("its status is 418"));
}

#[test]
fn the_token_stays_with_the_hub() {
    let repo = Repo::new();
    let content = repo.weights().to_vec();
    let cdn = FakeHub::start(move |request| {
        let begin = request.range().unwrap_or(0);
        let etag = "\"of-the-cdn\"";
        Reply { body: content[begin..].to_vec(), ..Reply::status(200) }.with("ETag", etag)
    });
    let (etag, size, target) = (repo.etag("model.safetensors"), repo.weights().len(), cdn.url.clone());
    let (hub, repo) = hub_with(move |request, reply| {
        if !request.path.ends_with("model.safetensors") {
            return reply;
        }
        Reply::status(302)
            .with("Location", format!("{target}/blob?signature=1"))
            .with("X-Linked-Etag", format!("\"{etag}\""))
            .with("X-Linked-Size", size.to_string())
    });
    let home = tempfile::tempdir().unwrap();
    let options = HubOptions { token: Some("hf_secret".into()), ..hub.options(home.path()) };
    resolve("org/name", None, &options).unwrap();
    assert_complete(home.path(), &repo);
    assert!(hub.seen().iter().all(|r| r.header("authorization") == Some("Bearer hf_secret")));
    let at_cdn = cdn.seen();
    assert_eq!((at_cdn.len(), at_cdn[0].path.as_str()), (1, "/blob?signature=1"), "HEAD stays at the hub");
    assert_eq!(at_cdn[0].header("authorization"), None);
}

#[test]
fn redirects_within_the_hub_keep_the_token() {
    let (hub, repo) = hub_with(|request, reply| {
        let moved = request.path.strip_prefix("/moved");
        match moved {
            Some(path) => Repo::new().answer(&Request { path: path.into(), ..request.clone() }),
            None if request.path.contains("/resolve/") => {
                Reply::status(307).with("Location", format!("/moved{}", request.path))
            }
            None => reply,
        }
    });
    let home = tempfile::tempdir().unwrap();
    let options = HubOptions { token: Some("hf_secret".into()), ..hub.options(home.path()) };
    resolve("org/name", None, &options).unwrap();
    assert_complete(home.path(), &repo);
    assert!(hub.seen().iter().all(|r| r.header("authorization").is_some()));
}

#[test]
fn endless_redirects_end() {
    let hub = FakeHub::start(|request| Reply::status(302).with("Location", request.path.clone()));
    let home = tempfile::tempdir().unwrap();
    let message = error(resolve("org/name", None, &hub.options(home.path())));
    assert!(message.contains("it redirects too often"), "{message}");
}

#[test]
fn damaged_files_are_not_kept() {
    let problem = |change: fn(Reply) -> Reply| {
        let (hub, repo) =
            hub_with(move |request, reply| if is_weights(request) { change(reply) } else { reply });
        let home = tempfile::tempdir().unwrap();
        let options = hub.options(home.path());
        let message = error(resolve("org/name", None, &options));
        let blob = options.cache.join("models--org--name/blobs").join(repo.etag("model.safetensors"));
        assert!(!blob.exists(), "{message}");
        let folder = options.cache.join("models--org--name/snapshots").join(COMMIT);
        assert!(!folder.join("model.safetensors").exists(), "{message}");
        message
    };
    let flipped = problem(|mut reply| {
        reply.body[1000] ^= 1;
        reply
    });
    assert!(
        flipped.starts_with("model.safetensors of org/name arrived damaged (its SHA-256 is "),
        "{flipped}"
    );
    let longer = problem(|mut reply| {
        reply.body.push(0);
        reply
    });
    assert!(longer.contains("more than the announced 30000"), "{longer}");
    let shorter = problem(|mut reply| {
        reply.body.truncate(10);
        reply
    });
    assert!(shorter.contains("of 30000"), "{shorter}");
    let changed = problem(|reply| Reply { headers: vec![("ETag", "\"other\"".into())], ..reply });
    assert!(changed.contains("its etag changed while it was fetched"), "{changed}");
}

#[test]
fn hostile_answers_are_refused() {
    let message = |change: fn(&Request, Reply) -> Reply| {
        let (hub, _) = hub_with(change);
        let home = tempfile::tempdir().unwrap();
        let message = error(resolve("org/name", None, &hub.options(home.path())));
        let outside: Vec<_> = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(outside.iter().all(|name| name == "hub"), "{outside:?}");
        message
    };
    let traversal = message(|request, reply| match request.path.starts_with("/api") {
        true => Reply {
            body: String::from_utf8(reply.body)
                .unwrap()
                .replace("README.md", "../../../../evil.json")
                .into_bytes(),
            ..Reply::status(200)
        },
        false => reply,
    });
    assert!(traversal.contains("which could lead out of the cache"), "{traversal}");
    let commit = message(|_, reply| Reply {
        body: String::from_utf8_lossy(&reply.body).replace(COMMIT, "../../x").into_bytes(),
        ..Reply::status(200)
    });
    assert!(commit.contains("its commit id is not one"), "{commit}");
    let etag = message(|request, reply| match request.method.as_str() {
        "HEAD" => Reply { headers: vec![("ETag", "\"../../../evil\"".into())], ..reply },
        _ => reply,
    });
    assert!(etag.contains("it has no usable etag"), "{etag}");
    let html = message(|_, _| Reply { body: b"<html>".to_vec(), ..Reply::status(200) });
    assert!(html.contains("it is not the description of a model"), "{html}");
    let scheme = message(|_, _| Reply::status(302).with("Location", "file:///etc/passwd"));
    assert!(scheme.contains("its status is 302"), "{scheme}");
    let scheme = message(|_, _| Reply::status(302).with("Location", "ftp://127.0.0.1/x"));
    assert!(scheme.contains("not secure"), "{scheme}");
}

#[test]
fn two_at_once_download_once() {
    let (hub, repo) = good_hub();
    let home = tempfile::tempdir().unwrap();
    let options = hub.options(home.path());
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                resolve("org/name", None, &options).unwrap();
            });
        }
    });
    assert_complete(home.path(), &repo);
    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        assert_eq!(hub.count("GET", file), 1, "{file}");
    }
}

#[test]
fn paths_are_not_looked_up() {
    let (hub, _) = good_hub();
    let home = tempfile::tempdir().unwrap();
    let options = hub.options(home.path());
    let folder = home.path().join("model");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), "{}").unwrap();
    assert_eq!(resolve(folder.to_str().unwrap(), None, &options).unwrap(), folder);
    assert_eq!(resolve(folder.join("config.json").to_str().unwrap(), None, &options).unwrap(), folder);
    let gone = home.path().join("gone");
    assert!(error(resolve(gone.to_str().unwrap(), None, &options)).contains("no such file or folder"));
    assert!(error(resolve("just-a-name", None, &options)).contains("a Hub id has the form ORG/NAME"));
    assert!(hub.seen().is_empty());
}

#[test]
fn a_model_larger_than_the_disk_is_noticed_before_it_is_fetched() {
    let (hub, _) = hub_with(|request, reply| match request.method.as_str() {
        "HEAD" if request.path.ends_with("model.safetensors") => {
            reply.with("X-Linked-Size", (1u64 << 60).to_string())
        }
        _ => reply,
    });
    let home = tempfile::tempdir().unwrap();
    let message = error(resolve("org/name", None, &hub.options(home.path())));
    assert!(
        message.starts_with("no space left for org/name: 1152921504606846976 more bytes are needed under "),
        "{message}"
    );
    assert!(message.contains("set HF_HOME to a larger disk"), "{message}");
    assert_eq!(hub.count("GET", "model.safetensors"), 0);
}

/// The disk fills up in the middle of a transfer: a real one, where this user may mount a small tmpfs.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_meanwhile_leaves_a_resumable_state() {
    let home = tempfile::tempdir().unwrap();
    let Some(_mount) = TmpFs::mount(home.path(), "6m") else {
        eprintln!("skipped: this user may not mount; /dev/full is tested in any case");
        return;
    };
    let filler = home.path().join("filler");
    let path = filler.clone();
    let (hub, repo) = hub_with(move |request, reply| {
        // After the check for room, and before the bytes: someone else takes the space.
        if is_weights(request) && request.range().is_none() {
            fs::write(&path, vec![0; 4 << 20]).unwrap();
        }
        reply
    });
    let options = hub.options(home.path());
    let message = error(resolve("org/name", None, &options));
    assert!(message.starts_with("no space left for model.safetensors: "), "{message}");
    assert!(message.contains("run the same command again to resume"), "{message}");
    fs::remove_file(&filler).unwrap();
    resolve("org/name", None, &options).unwrap();
    assert_complete(home.path(), &repo);
    assert!(hub.seen().iter().rfind(|r| is_weights(r)).unwrap().range().unwrap() > 0, "resumed");
}

/// A small file system of its own.
#[cfg(target_os = "linux")]
struct TmpFs<'a>(&'a Path);

#[cfg(target_os = "linux")]
impl<'a> TmpFs<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        let size = format!("size={size}");
        let mut command = std::process::Command::new("mount");
        let status = command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        status.is_ok_and(|s| s.success()).then_some(Self(at))
    }
}

#[cfg(target_os = "linux")]
impl Drop for TmpFs<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}
