//! Downloads from real servers on the loopback interface: whole, cut, stalled, changed, wrong, through a proxy.
#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sparkdl_core::{Error, ErrorKind, Result, download};

fn content() -> Vec<u8> {
    (0..700_000_u32).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Request {
    line: String,
    headers: HashMap<String, String>,
}

impl Request {
    /// The first byte asked for, where the server may go on: it still has the version that the client knows.
    fn start(&self, tag: &str) -> Option<usize> {
        (self.headers.get("if-range")? == tag).then_some(())?;
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

fn request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(std::result::Result::ok);
    let line = lines.next()?;
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| {
        line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
    });
    Some(Request { line, headers: headers.collect() })
}

/// Answers each connection once and notes what was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer, seen) = (stream.unwrap(), answer.clone(), seen.clone());
                std::thread::spawn(move || {
                    let Some(request) = request(&stream) else { return };
                    let number = seen.lock().unwrap().len();
                    let known = Request { line: request.line.clone(), headers: request.headers.clone() };
                    seen.lock().unwrap().push(known);
                    answer(number, &request, &mut stream);
                });
            }
        });
        Server { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}/weights/some.h5", self.address)
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    // The client may have gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Sends the content, or what is missing of it; at most `limit` bytes of it.
fn serve(request: &Request, stream: &mut TcpStream, tag: &str, body: &[u8], limit: usize) -> usize {
    let (status, start, range) = match request.start(tag) {
        Some(start) => (
            "206 Partial Content",
            start,
            format!("Content-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len()),
        ),
        None => ("200 OK", 0, String::new()),
    };
    let part = &body[start..];
    let headers = format!("Content-Length: {}\r\nETag: {tag}\r\n{range}", part.len());
    let sent = part.len().min(limit);
    send(stream, status, &headers, &part[..sent]);
    sent
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("sparkdl-download-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn target(&self) -> PathBuf {
        self.0.join("some.h5")
    }

    /// Everything but the lock.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(url: &str, file: &Path, changed: &[(&str, &str)]) -> Vec<(String, String)> {
    let hash = sha256(&content());
    let mut options: HashMap<&str, &str> = [
        ("url", url),
        ("hash", &hash),
        ("hashAlgorithm", "sha256"),
        ("maxBytes", "10000000"),
        ("connectSeconds", "10"),
        ("stallSeconds", "10"),
        ("retries", "0"),
        ("pauseMillis", "1"),
        ("httpProxy", ""),
        ("httpsProxy", ""),
        // The proxy of the machine that runs the tests is not theirs.
        ("noProxy", "127.0.0.1"),
        ("advice", ", or ask a friend"),
    ]
    .into();
    options.insert("file", file.to_str().unwrap());
    options.extend(changed.iter().copied());
    options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn fetch(url: &str, folder: &Folder, changed: &[(&str, &str)]) -> Result<()> {
    download::fetch(&options(url, &folder.target(), changed), &mut || Ok(()))
}

fn refusal(result: Result<()>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    error.report()
}

#[test]
fn a_file_is_fetched_once_and_used_offline_from_a_folder_that_is_read_only() {
    let folder = Folder::new("once");
    let server = Server::start(|_, request, stream| {
        serve(request, stream, "\"1\"", &content(), usize::MAX);
    });
    fetch(&server.url(), &folder, &[]).unwrap();
    fs::remove_file(folder.0.join(".some.h5.lock")).unwrap();
    fetch("http://127.0.0.1:9/some.h5", &folder, &[]).unwrap();
    assert_eq!(server.count(), 1);
    // Nothing was written the second time, not even a lock.
    assert!(!folder.0.join(".some.h5.lock").exists());
    assert_eq!(fs::read(folder.target()).unwrap(), content());
    assert_eq!(folder.names(), ["some.h5"]);
}

#[test]
fn redirects_are_followed_to_a_bound() {
    let folder = Folder::new("redirect");
    let server = Server::start(|_, request, stream| {
        if request.line.contains("/weights/some.h5") {
            send(stream, "302 Found", "Location: ../there?x=1\r\nContent-Length: 0\r\n", &[]);
        } else if request.line.contains("/loop") {
            send(stream, "302 Found", "Location: /loop\r\nContent-Length: 0\r\n", &[]);
        } else {
            serve(request, stream, "\"1\"", &content(), usize::MAX);
        }
    });
    fetch(&server.url(), &folder, &[]).unwrap();
    assert_eq!(server.count(), 2);
    let folder = Folder::new("loop");
    let said = refusal(fetch(&format!("http://{}/loop", server.address), &folder, &[]));
    assert!(said.contains("it redirects more than 10 times"), "{said}");
    assert!(folder.names().is_empty());
}

#[test]
fn a_cut_download_goes_on_where_it_was_cut() {
    let folder = Folder::new("cut");
    let sent = Arc::new(Mutex::new(0));
    let count = sent.clone();
    let server = Server::start(move |number, request, stream| {
        let limit = if number == 0 { 300_000 } else { usize::MAX };
        *count.lock().unwrap() += serve(request, stream, "\"1\"", &content(), limit);
    });
    let said = refusal(fetch(&server.url(), &folder, &[]));
    assert!(said.contains("300000 of 700000 bytes arrived"), "{said}");
    assert!(!folder.target().exists());
    fetch(&server.url(), &folder, &[]).unwrap();
    assert_eq!(*sent.lock().unwrap(), 700_000);
    assert_eq!(fs::read(folder.target()).unwrap(), content());
    assert_eq!(folder.names(), ["some.h5"]);
}

#[test]
fn a_server_that_knows_no_range_or_has_another_version_starts_anew() {
    for (tag, name) in [("\"2\"", "changed"), ("", "rangeless")] {
        let folder = Folder::new(name);
        let server = Server::start(move |number, request, stream| {
            if number == 0 {
                let old = vec![7; 700_000];
                serve(request, stream, "\"1\"", &old, 300_000);
            } else {
                serve(request, stream, tag, &content(), usize::MAX);
            }
        });
        fetch(&server.url(), &folder, &[("retries", "1")]).unwrap();
        assert_eq!(server.asked.lock().unwrap()[1].headers["range"], "bytes=300000-");
        assert_eq!(fs::read(folder.target()).unwrap(), content());
    }
}

#[test]
fn a_range_that_the_server_refuses_starts_anew() {
    let folder = Folder::new("unsatisfiable");
    let server = Server::start(|number, request, stream| match number {
        0 => {
            serve(request, stream, "\"1\"", &content(), 300_000);
        }
        1 => send(stream, "416 Range Not Satisfiable", "Content-Length: 0\r\n", &[]),
        _ => {
            assert!(!request.headers.contains_key("range"));
            serve(request, stream, "\"1\"", &content(), usize::MAX);
        }
    });
    fetch(&server.url(), &folder, &[("retries", "2")]).unwrap();
    assert_eq!(fs::read(folder.target()).unwrap(), content());
}

#[test]
fn a_server_that_stalls_is_given_up() {
    let folder = Folder::new("stalled");
    let server = Server::start(|number, request, stream| {
        if number == 0 {
            serve(request, stream, "\"1\"", &content(), 300_000);
            // Until the client hangs up.
            let _ = stream.read(&mut [0]);
        } else {
            serve(request, stream, "\"1\"", &content(), usize::MAX);
        }
    });
    let said = refusal(fetch(&server.url(), &folder, &[("stallSeconds", "1")]));
    assert!(said.contains("300000 of 700000 bytes arrived, then: "), "{said}");
    fetch(&server.url(), &folder, &[]).unwrap();
}

#[test]
fn a_slow_server_is_waited_for() {
    let folder = Folder::new("slow");
    let server = Server::start(|_, _, stream| {
        let body = content();
        send(stream, "200 OK", &format!("Content-Length: {}\r\n", body.len()), &[]);
        for part in body.chunks(200_000) {
            std::thread::sleep(Duration::from_millis(400));
            stream.write_all(part).unwrap();
        }
    });
    fetch(&server.url(), &folder, &[("stallSeconds", "1")]).unwrap();
}

#[test]
fn wrong_bytes_are_never_used() {
    let folder = Folder::new("wrong");
    let server = Server::start(|_, request, stream| {
        let mut body = content();
        body[5] ^= 1;
        serve(request, stream, "\"1\"", &body, usize::MAX);
    });
    let said = refusal(fetch(&server.url(), &folder, &[]));
    assert!(said.contains(&format!("Cannot fetch {}: its sha256 hash is not ", server.url())), "{said}");
    assert!(
        said.ends_with(&format!("Put the file at {} by hand, or ask a friend.", folder.target().display()))
    );
    assert!(folder.names().is_empty());
    fs::write(folder.target(), "something else").unwrap();
    let said = refusal(fetch(&server.url(), &folder, &[]));
    assert!(said.contains("is damaged or not the published one"), "{said}");
    assert_eq!(server.count(), 1);
}

#[test]
fn more_bytes_than_allowed_or_announced_are_not_taken() {
    let folder = Folder::new("large");
    let server = Server::start(|number, _, stream| {
        let length = if number == 0 { "Content-Length: 700000\r\n" } else { "" };
        send(stream, "200 OK", length, &content());
    });
    for _ in 0..2 {
        let said = refusal(fetch(&server.url(), &folder, &[("maxBytes", "500000")]));
        assert!(said.contains("at most 500000 are taken"), "{said}");
    }
    let long = Server::start(|_, _, stream| {
        send(stream, "200 OK", "Content-Length: 400000\r\n", &content());
    });
    let said = refusal(fetch(&long.url(), &folder, &[]));
    assert!(said.contains("hash is not"), "{said}");
    assert!(folder.names().is_empty());
}

#[test]
fn what_may_pass_is_tried_again_and_what_lasts_is_not() {
    let folder = Folder::new("retried");
    let server = Server::start(|number, request, stream| match number {
        0 => send(stream, "500 Internal Server Error", "Content-Length: 0\r\n", &[]),
        1 => send(stream, "429 Too Many Requests", "Content-Length: 0\r\n", &[]),
        _ => {
            serve(request, stream, "\"1\"", &content(), usize::MAX);
        }
    });
    fetch(&server.url(), &folder, &[("retries", "2")]).unwrap();
    assert_eq!(server.count(), 3);
    let folder = Folder::new("missing");
    let missing = Server::start(|_, _, stream| send(stream, "404 Not Found", "Content-Length: 0\r\n", &[]));
    let said = refusal(fetch(&missing.url(), &folder, &[("retries", "2")]));
    assert!(said.contains("answered 404 Not Found. Put the file at "), "{said}");
    assert_eq!(missing.count(), 1);
}

#[test]
fn two_at_once_fetch_once() {
    let folder = Folder::new("two");
    let server = Server::start(|_, request, stream| {
        serve(request, stream, "\"1\"", &content(), usize::MAX);
    });
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| fetch(&server.url(), &folder, &[])));
        both.into_iter().for_each(|one| one.join().unwrap().unwrap());
    });
    assert_eq!(server.count(), 1);
}

#[test]
fn a_proxy_is_used_unless_the_host_is_spared() {
    let server = Server::start(|_, request, stream| {
        serve(request, stream, "\"1\"", &content(), usize::MAX);
    });
    let proxy = Server::start(|_, request, stream| {
        let to = request.line.split(' ').nth(1).unwrap();
        if request.line.starts_with("CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut from_server, mut to_client) =
                (TcpStream::connect(to).unwrap(), stream.try_clone().unwrap());
            let (mut to_server, mut from_client) =
                (from_server.try_clone().unwrap(), stream.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            let _ = std::io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(std::net::Shutdown::Both);
        } else {
            serve(request, stream, "\"1\"", &content(), usize::MAX);
        }
    });
    let address = format!("http://{}", proxy.address);
    for (spared, uses) in [("", 1), ("localhost|127.*", 0)] {
        let folder = Folder::new(&format!("proxy{uses}"));
        let before = proxy.count();
        fetch(&server.url(), &folder, &[("httpProxy", &address), ("noProxy", spared)]).unwrap();
        assert_eq!(proxy.count() - before, uses);
    }
}

#[test]
fn the_caller_stops_it() {
    let folder = Folder::new("stopped");
    let server = Server::start(|_, request, stream| {
        serve(request, stream, "\"1\"", &content(), usize::MAX);
    });
    let mut calls = 0;
    let stopped = download::fetch(&options(&server.url(), &folder.target(), &[]), &mut || {
        calls += 1;
        if calls > 2 { Err(Error::new(ErrorKind::Cancelled, "enough")) } else { Ok(()) }
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!folder.target().exists());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let folder = Folder::new("options");
    for (key, value) in [("url", "ftp://x/y"), ("hash", "12"), ("hashAlgorithm", "crc"), ("retries", "-1")] {
        let refused = fetch("http://127.0.0.1:9/", &folder, &[(key, value)]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        assert!(refused.message().contains(&format!("The option {key} cannot be")), "{}", refused.message());
    }
}

/// Lines of the log at warning level.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

const UNPINNED: [(&str, &str); 2] = [("hash", ""), ("hashAlgorithm", "")];

#[test]
fn without_a_hash_the_one_that_the_server_announces_counts() {
    let crc32c = "crc32c=CMaS2Q==";
    let md5 = "md5=nenv8MWuUKeHWbrwLKwQ5w==";
    let both = format!("X-Goog-Hash: {crc32c}\r\nX-Goog-Hash: {md5}\r\n");
    let one = format!("x-goog-hash: {crc32c},{md5}\r\n");
    let short = format!("x-goog-hash: {crc32c}\r\n");
    for (name, headers) in [("both", both), ("one", one), ("short", short)] {
        for wrong in [false, true] {
            let (folder, headers) = (Folder::new(&format!("announced-{name}-{wrong}")), headers.clone());
            let server = Server::start(move |_, _, stream| {
                let mut body = content();
                body[5] ^= u8::from(wrong);
                let length = format!("Content-Length: {}\r\n{headers}", body.len());
                send(stream, "200 OK", &length, &body);
            });
            let fetched = fetch(&server.url(), &folder, &UNPINNED);
            if wrong {
                let said = refusal(fetched);
                let kind = if name == "short" { "crc32c" } else { "md5" };
                assert!(said.contains(&format!("its {kind} is ")), "{said}");
                assert!(said.contains(", which the server announces. Put the file at "), "{said}");
                assert!(folder.names().is_empty());
            } else {
                fetched.unwrap();
                assert_eq!(folder.names(), ["some.h5"]);
            }
        }
    }
}

#[test]
fn a_resumed_file_is_checked_as_a_whole_by_what_the_server_announces() {
    let folder = Folder::new("announced-resumed");
    let server = Server::start(|number, request, stream| {
        let mut body = content();
        if number == 0 {
            // The first part is another version's, whatever the server says.
            body[5] ^= 1;
            serve(request, stream, "\"1\"", &body, 300_000);
        } else {
            let start = request.start("\"1\"").unwrap_or(0);
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len());
            let headers = format!(
                "Content-Length: {}\r\nETag: \"1\"\r\nx-goog-hash: md5=nenv8MWuUKeHWbrwLKwQ5w==\r\n{range}",
                body.len() - start
            );
            let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
            send(stream, status, &headers, &body[start..]);
        }
    });
    fetch(&server.url(), &folder, &[&UNPINNED[..], &[("retries", "2")]].concat()).unwrap();
    assert_eq!(server.count(), 3);
    assert_eq!(fs::read(folder.target()).unwrap(), content());
}

#[test]
fn what_cannot_be_checked_is_said_and_what_has_no_end_is_not_used() {
    let _ = log::set_logger(&LINES);
    log::set_max_level(log::LevelFilter::Warn);
    let folder = Folder::new("unchecked");
    let server = Server::start(|_, _, stream| {
        send(stream, "200 OK", &format!("Content-Length: {}\r\n", content().len()), &content());
    });
    fetch(&server.url(), &folder, &UNPINNED).unwrap();
    let expected = format!("{}: no hash of it is known, so only its size was checked", server.url());
    assert!(LINES.0.lock().unwrap().contains(&expected));
    let folder = Folder::new("endless");
    let endless = Server::start(|_, _, stream| send(stream, "200 OK", "", &content()));
    let said = refusal(fetch(&endless.url(), &folder, &UNPINNED));
    assert!(said.contains("the server tells neither its size nor its hash"), "{said}");
    assert!(folder.names().is_empty());
    fetch(&endless.url(), &folder, &[]).unwrap();
    let folder = Folder::new("chunked");
    let chunked = Server::start(|number, _, stream| {
        let whole = content();
        let mut body = format!("{:x}\r\n", whole.len()).into_bytes();
        body.extend_from_slice(&whole);
        body.extend_from_slice(b"\r\n0\r\n\r\n");
        // The first time without its end.
        let sent = if number == 0 { body.len() - 5 } else { body.len() };
        send(stream, "200 OK", "Transfer-Encoding: chunked\r\n", &body[..sent]);
    });
    refusal(fetch(&chunked.url(), &folder, &UNPINNED));
    fetch(&chunked.url(), &folder, &UNPINNED).unwrap();
}
