//! A load generator that costs little: blocking sockets, requests written beforehand, answers read and not parsed.
//!
//!     cargo run --release -p millrace-server --example http_load -- 127.0.0.1:8100 --connections 64 --seconds 10 \
//!         --tokens 64 --stream
//!
//! It counts the ends of answers, and of a stream its events, and fails if an answer isn't what was asked for.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for measurements, used by developers"
)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

/// What the command line says.
#[derive(Clone)]
struct Plan {
    address: String,
    path: String,
    connections: usize,
    seconds: f64,
    tokens: usize,
    stream: bool,
    chat: bool,
}

/// What one connection has seen.
#[derive(Default)]
struct Seen {
    answers: usize,
    events: usize,
    bytes: usize,
    /// Seconds per answer.
    times: Vec<f32>,
}

fn main() {
    let plan = plan();
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let threads: Vec<_> = (0..plan.connections)
        .map(|_| {
            let (plan, stop) = (plan.clone(), stop.clone());
            thread::Builder::new().stack_size(128 << 10).spawn(move || talk(&plan, &stop)).unwrap()
        })
        .collect();
    thread::sleep(Duration::from_secs_f64(plan.seconds));
    stop.store(true, Relaxed);
    let mut all = Seen::default();
    for thread in threads {
        let seen = thread.join().unwrap();
        all.answers += seen.answers;
        all.events += seen.events;
        all.bytes += seen.bytes;
        all.times.extend(seen.times);
    }
    let seconds = begun.elapsed().as_secs_f64();
    all.times.sort_unstable_by(f32::total_cmp);
    let at = |share: f64| all.times.get((all.times.len() as f64 * share) as usize).map(|time| time * 1e3);
    println!(
        "{}",
        json!({
            "requests_per_second": (all.answers as f64 / seconds).round(),
            "tokens_per_second": ((all.answers * plan.tokens) as f64 / seconds).round(),
            "events_per_second": (all.events as f64 / seconds).round(),
            "megabytes_per_second": (all.bytes as f64 / seconds / 1e6).round(),
            "p50_ms": at(0.5), "p99_ms": at(0.99), "seconds": seconds, "answers": all.answers,
            "connections": plan.connections, "tokens": plan.tokens, "stream": plan.stream, "path": plan.path,
        })
    );
}

fn plan() -> Plan {
    let mut args = std::env::args().skip(1);
    let mut plan = Plan {
        address: args.next().unwrap_or_else(|| "127.0.0.1:8100".into()),
        path: "/v1/chat/completions".into(),
        connections: 64,
        seconds: 10.0,
        tokens: 16,
        stream: false,
        chat: true,
    };
    while let Some(flag) = args.next() {
        let mut value = || args.next().unwrap();
        match flag.as_str() {
            "--connections" => plan.connections = value().parse().unwrap(),
            "--seconds" => plan.seconds = value().parse().unwrap(),
            "--tokens" => plan.tokens = value().parse().unwrap(),
            "--stream" => plan.stream = true,
            "--text" => {
                plan.chat = false;
                plan.path = "/v1/completions".into();
            }
            _ => panic!("there is no flag {flag}"),
        }
    }
    plan
}

/// One request after the other until told to stop.
fn talk(plan: &Plan, stop: &AtomicBool) -> Seen {
    let request = request(plan);
    let mut socket = TcpStream::connect(&plan.address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut seen = Seen::default();
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        socket.write_all(&request).unwrap();
        let events = if plan.stream {
            stream(&mut socket, &mut buffer, &mut seen.bytes)
        } else {
            whole(&mut socket, &mut buffer, &mut seen.bytes)
        };
        // A stream of n tokens has at least one event each but for those that only complete a character.
        assert!(!plan.stream || events * 10 >= plan.tokens * 9, "a stream of {events} events");
        seen.answers += 1;
        seen.events += events;
        seen.times.push(begun.elapsed().as_secs_f32());
    }
    seen
}

fn request(plan: &Plan) -> Vec<u8> {
    let mut body =
        json!({"model": "mock", "max_tokens": plan.tokens, "temperature": 0, "stream": plan.stream});
    let text = "Tell me about foxes and dogs, and what they do all day. Be brief, and give two examples.";
    if plan.chat {
        body["messages"] = json!([{"role": "user", "content": text}]);
    } else {
        body["prompt"] = text.into();
    }
    let body = body.to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        plan.path,
        plan.address,
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Reads an answer with a length.
fn whole(socket: &mut TcpStream, buffer: &mut [u8], bytes: &mut usize) -> usize {
    let (mut filled, mut expected) = (0, None);
    loop {
        let read = socket.read(&mut buffer[filled..]).unwrap();
        assert!(read > 0, "the server hung up");
        filled += read;
        if expected.is_none()
            && let Some(end) = find(&buffer[..filled], b"\r\n\r\n")
        {
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            expected = Some(end + 4 + length.parse::<usize>().unwrap());
        }
        if expected.is_some_and(|expected| filled >= expected) {
            *bytes += filled;
            return 1;
        }
    }
}

/// Reads a stream up to the end of its last chunk; says how many events it had.
fn stream(socket: &mut TcpStream, buffer: &mut [u8], bytes: &mut usize) -> usize {
    const END: &[u8] = b"\r\n0\r\n\r\n";
    let mut events = 0;
    // The end of what was read before, where a pattern may have begun.
    let mut kept = 0;
    loop {
        let read = socket.read(&mut buffer[kept..]).unwrap();
        assert!(read > 0, "the server hung up");
        *bytes += read;
        let filled = kept + read;
        let fresh = &buffer[..filled];
        // `data` counts once: what is kept is shorter than a line, and is counted with what follows it.
        let safe = filled.saturating_sub(END.len());
        events += fresh[..safe].windows(6).filter(|window| *window == b"data: ").count();
        if fresh.ends_with(END) {
            return events;
        }
        // Windows that end in the kept part are looked at next time, from five bytes before it.
        let from = safe.saturating_sub(5);
        buffer.copy_within(from..filled, 0);
        kept = filled - from;
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}
