use super::*;
use crate::base::buf::{BLOCK, Pool};
use crate::helper::Roots;
use crate::proto::tracker::url::Url;
use crate::sys::socket::Route;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Far more than anything here takes; only a failing test waits so long.
const LONG: Duration = Duration::from_secs(60);

/// A thread's other end, and the buffers.
struct Rig {
    web: Web,
    said: Receiver<(u8, WebSaid)>,
    pool: Pool,
    skip_rate: Option<u64>,
}

impl Rig {
    fn new() -> Rig {
        let (tx, said) = bounded(SAID_MAX);
        let client = Client::new(Route::default(), Roots::Usual);
        let web = Web::new(client, tx, Arc::new(Wake::new(Box::new(|| {}))));
        Rig { web, said, pool: Pool::new(WEB_BUFS).unwrap(), skip_rate: None }
    }

    fn get(&mut self, blocks: Vec<Block>, parts: Vec<WebPart>) {
        self.web
            .order(0, WebOrder::Get(Box::new(WebGet { blocks, parts, skip_rate: self.skip_rate })))
            .unwrap();
    }

    fn lend(&mut self, count: usize) {
        for _ in 0..count {
            let buf = self.pool.take().unwrap();
            self.web.order(0, WebOrder::Lend(buf)).unwrap();
        }
    }

    fn hear(&mut self) -> WebSaid {
        self.said.recv_timeout(LONG).unwrap().1
    }

    /// The bytes of the next block.
    #[track_caller]
    fn block(&mut self) -> Vec<u8> {
        match self.hear() {
            WebSaid::Block(block, buf) => {
                let bytes = buf.filled(block.len).to_vec();
                self.pool.put(buf);
                bytes
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn done(&mut self) {
        let said = self.hear();
        assert!(matches!(said, WebSaid::Done), "{said:?}");
    }

    #[track_caller]
    fn failed(&mut self) -> WebFailure {
        match self.hear() {
            WebSaid::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    /// Tells it to stop; every buffer must be home by then. What came before is dropped.
    #[track_caller]
    fn stop(&mut self) {
        self.web.order(0, WebOrder::Stop).unwrap();
        loop {
            match self.hear() {
                WebSaid::Back(buf) | WebSaid::Block(_, buf) => self.pool.put(buf),
                WebSaid::Stopped => break,
                WebSaid::Done | WebSaid::Failed(_) => {}
            }
        }
        assert_eq!(self.pool.out(), 0, "buffers are lost");
    }
}

fn block(piece: u32, len: u32) -> Block {
    Block { piece, begin: 0, len }
}

fn part(port: u16, file: usize, size: u64, from: u64, len: u64) -> WebPart {
    let url = Arc::new(Url::parse(&format!("http://127.0.0.1:{port}/{file}")).unwrap());
    WebPart::Range { url, addrs: Arc::from([[127, 0, 0, 1].into()]), file, size, from, len }
}

/// The next request on a connection: which file, from where to where; None at the end.
fn request(stream: &mut TcpStream) -> Option<(usize, usize, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let file = head["GET /".len()..].split(' ').next().unwrap().parse().unwrap();
    let (_, range) = head.split_once("Range: bytes=").unwrap();
    let (from, to) = range.lines().next().unwrap().split_once('-').unwrap();
    Some((file, from.parse().unwrap(), to.parse().unwrap()))
}

/// Byte `at` of a file.
fn byte(file: usize, at: usize) -> u8 {
    (file * 101 + at * 7 + at / 256) as u8
}

fn bytes(file: usize, from: usize, to: usize) -> Vec<u8> {
    (from..=to).map(|at| byte(file, at)).collect()
}

fn answer(stream: &mut TcpStream, size: usize, (file, from, to): (usize, usize, usize)) {
    let head = format!(
        "HTTP/1.1 206 OK\r\nContent-Range: bytes {from}-{to}/{size}\r\nContent-Length: {}\r\n\r\n",
        to + 1 - from
    );
    let _ = stream.write_all(&[head.into_bytes(), bytes(file, from, to)].concat());
}

/// A server that runs this for each connection.
fn serve(mut each: impl FnMut(usize, TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::Builder::new()
        .spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                each(number, stream);
            }
        })
        .unwrap();
    port
}

#[test]
fn blocks_are_made_of_ranges_of_several_files_and_zeros() {
    let port = serve(|_, mut stream| {
        while let Some(asked) = request(&mut stream) {
            answer(&mut stream, 50_000, asked);
        }
    });
    let mut rig = Rig::new();
    let (small, large) = (1000, 30_000);
    let parts = vec![
        part(port, 1, 50_000, 20, small),
        WebPart::Zeros(24),
        part(port, 2, 50_000, 0, large),
        WebPart::Zeros(2 * u64::from(BLOCK) - 1024 - large),
    ];
    rig.get(vec![block(0, BLOCK), block(1, BLOCK)], parts);
    rig.lend(2);
    let mut due = bytes(1, 20, 1019);
    due.extend([0; 24]);
    due.extend(bytes(2, 0, 29_999));
    due.resize(2 * BLOCK as usize, 0);
    let came = [rig.block(), rig.block()].concat();
    assert!(came == due);
    rig.done();
    rig.stop();
}

#[test]
fn a_kept_connection_has_requests_sent_ahead_and_may_be_closed_meanwhile() {
    // The first connection shows that it lasts, then waits for two more requests before it answers any; then it ends.
    let port = serve(|number, mut stream| {
        let first = request(&mut stream).unwrap();
        answer(&mut stream, 1 << 20, first);
        if number > 0 {
            while let Some(asked) = request(&mut stream) {
                answer(&mut stream, 1 << 20, asked);
            }
            return;
        }
        let ahead = [request(&mut stream).unwrap(), request(&mut stream).unwrap()];
        ahead.into_iter().for_each(|asked| answer(&mut stream, 1 << 20, asked));
    });
    let mut rig = Rig::new();
    let one = |file: usize| (vec![block(file as u32, 5000)], vec![part(port, file, 1 << 20, 7, 5000)]);
    let (blocks, parts): (Vec<_>, Vec<_>) = (0..3).map(one).unzip();
    rig.get(blocks.concat(), parts.into_iter().flatten().collect());
    rig.lend(3);
    for file in 0..3 {
        assert!(rig.block() == bytes(file, 7, 5006), "file {file}");
    }
    rig.done();
    // The server has closed it, or is about to; nobody counts that as a failure.
    let (blocks, parts) = one(9);
    rig.get(blocks, parts);
    rig.lend(1);
    assert!(rig.block() == bytes(9, 7, 5006));
    rig.done();
    rig.stop();
}

#[test]
fn a_silent_server_does_not_hold_up_a_stop_and_no_buffer_is_lost() {
    let mut kept = Vec::new();
    let port = serve(move |_, stream| kept.push(stream));
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.get(vec![block(0, BLOCK), block(1, 5)], vec![part(port, 0, 1 << 20, 0, 5 + u64::from(BLOCK))]);
        rig.lend(2);
        rig.stop();
    }
}

#[test]
fn after_a_failure_all_is_dropped_until_it_is_told_to_stop() {
    let port = serve(|_, mut stream| {
        while let Some(asked) = request(&mut stream) {
            // Files with odd numbers are not there.
            match asked.0 % 2 {
                0 => answer(&mut stream, 1 << 20, asked),
                _ => _ = stream.write_all(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"),
            }
        }
    });
    let mut rig = Rig::new();
    rig.get(vec![block(0, 9)], vec![part(port, 1, 1 << 20, 0, 9)]);
    let missing = WebFailure::Missing { file: 1, why: "HTTP status 404".into() };
    assert_eq!(rig.failed(), missing);
    // These were on their way when it failed.
    rig.get(vec![block(0, 9)], vec![part(port, 0, 1 << 20, 0, 9)]);
    rig.lend(2);
    for _ in 0..2 {
        let WebSaid::Back(buf) = rig.hear() else { panic!("a buffer is due") };
        rig.pool.put(buf);
    }
    rig.stop();
    rig.get(vec![block(0, 9)], vec![part(port, 0, 1 << 20, 0, 9)]);
    rig.lend(1);
    assert!(rig.block() == bytes(0, 0, 8));
    rig.done();
}

#[test]
fn every_wrong_answer_is_a_failure_of_its_kind() {
    let useless = |why: &str| WebFailure::Useless(why.to_string());
    let cases: [(&str, WebFailure); 13] = [
        ("206 x\r\nContent-Length: 5", useless("it answers with a part of the file and does not say which")),
        (
            "206 x\r\nContent-Range: bytes 11-15/99\r\nContent-Length: 5",
            useless("it answers with another part of the file than was asked for"),
        ),
        (
            "206 x\r\nContent-Range: bytes 10-18446744073709551615/*\r\nContent-Length: 5",
            useless("it answers with another part of the file than was asked for"),
        ),
        (
            "206 x\r\nContent-Range: bytes 10-14/98\r\nContent-Length: 5",
            WebFailure::Missing { file: 3, why: "the file there has 98 bytes, not 99".into() },
        ),
        (
            "206 x\r\nContent-Range: bytes 10-14/99\r\nContent-Length: 6",
            useless("the answer is not as long as the range that was asked for"),
        ),
        (
            "206 x\r\nContent-Range: bytes 10-14/99\r\nContent-Length: 5\r\nContent-Encoding: gzip",
            WebFailure::Network("the answer was cut short".into()),
        ),
        ("200 x\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip", WebFailure::NoRanges),
        (
            "206 x\r\nContent-Range: bytes 10-14/99\r\nContent-Length: 5",
            WebFailure::Network("the answer was cut short".into()),
        ),
        (
            "206 x\r\nContent-Range: bytes 10-14/99\r\nTransfer-Encoding: chunked",
            WebFailure::Network("the answer was cut short".into()),
        ),
        ("200 x\r\nContent-Length: 99", WebFailure::NoRanges),
        ("503 x\r\nRetry-After: 77", WebFailure::Busy { status: 503, after: Some(Duration::from_secs(77)) }),
        ("301 x\r\nContent-Length: 0", useless("it redirects and does not say where")),
        (
            "301 x\r\nLocation: http://b.example/x",
            WebFailure::Moved { file: 3, to: Url::parse("http://b.example/x").unwrap() },
        ),
    ];
    for (head, due) in cases {
        let said = format!("HTTP/1.1 {head}\r\n\r\n");
        let port = serve(move |_, mut stream| {
            let _ = request(&mut stream);
            let _ = stream.write_all(said.as_bytes());
        });
        let mut rig = Rig::new();
        rig.get(vec![block(0, 5)], vec![part(port, 3, 99, 10, 5)]);
        rig.lend(1);
        assert_eq!(rig.failed(), due, "{head}");
        rig.stop();
    }
}

#[test]
fn a_whole_file_may_come_without_ranges_and_endless_bodies_end() {
    // What a server sends past the range, or without telling a length, is not read.
    let port = serve(|number, mut stream| {
        let Some((file, from, to)) = request(&mut stream) else { return };
        let head = match number {
            0 => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".to_string(),
            _ => format!("HTTP/1.1 206 OK\r\nContent-Range: bytes {from}-{to}/99\r\n\r\n"),
        };
        let _ = stream.write_all(&[head.into_bytes(), bytes(file, from, to)].concat());
        if number > 0 {
            while stream.write_all(&[7; 4096]).is_ok() {}
        }
    });
    let mut rig = Rig::new();
    for _ in 0..2 {
        rig.get(vec![block(0, 99)], vec![part(port, 0, 99, 0, 99)]);
        rig.lend(1);
        assert!(rig.block() == bytes(0, 0, 98));
        rig.done();
        rig.stop();
    }
}

#[test]
fn chunks_end_where_they_say_and_the_connection_goes_on() {
    let port = serve(|_, mut stream| {
        while let Some((file, from, to)) = request(&mut stream) {
            let mut said = format!(
                "HTTP/1.1 206 x\r\nContent-Range: bytes {from}-{to}/*\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            .into_bytes();
            for part in bytes(file, from, to).chunks(777) {
                said.extend(format!("{:x}\r\n", part.len()).into_bytes());
                said.extend(part);
                said.extend(b"\r\n");
            }
            said.extend(b"0\r\n\r\n");
            // In odd pieces, so that ends fall anywhere.
            for part in said.chunks(1001) {
                let _ = stream.write_all(part);
            }
        }
    });
    let mut rig = Rig::new();
    for file in 0..3 {
        let len = u64::from(BLOCK) + 300;
        rig.get(vec![block(0, BLOCK), block(1, 300)], vec![part(port, file, 1 << 20, 5, len)]);
        rig.lend(2);
        let came = [rig.block(), rig.block()].concat();
        assert!(came == bytes(file, 5, 4 + len as usize));
        rig.done();
    }
    rig.stop();
}

/// A server of whole files, each with these header lines; counts the requests.
fn whole_files(head: &'static str, size: usize) -> (u16, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let port = serve(move |_, mut stream| {
        let counter = counter.clone();
        thread::Builder::new()
            .spawn(move || {
                while let Some((file, ..)) = request(&mut stream) {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let mut said = format!("HTTP/1.1 200 OK\r\nServer: x\r\n{head}").into_bytes();
                    said.extend(b"\r\n");
                    let whole = bytes(file, 0, size - 1);
                    if head.contains("chunked") {
                        for part in whole.chunks(777) {
                            said.extend(format!("{:x}\r\n", part.len()).into_bytes());
                            said.extend([part, b"\r\n"].concat());
                        }
                        said.extend(b"0\r\n\r\n");
                    } else {
                        said.extend(whole);
                    }
                    if stream.write_all(&said).is_err() || head.is_empty() {
                        break;
                    }
                }
            })
            .unwrap();
    });
    (port, count)
}

#[test]
fn a_file_without_ranges_is_read_once_in_order() {
    const SIZE: u64 = 300_000;
    // "x-gzip" is what some servers call a .tgz as it is.
    for head in [
        "Content-Length: 300000\r\n",
        "Transfer-Encoding: chunked\r\n",
        "",
        "Content-Length: 300000\r\nContent-Encoding: x-gzip\r\n",
    ] {
        let (port, count) = whole_files(head, SIZE as usize);
        let mut rig = Rig::new();
        rig.skip_rate = Some(0);
        for (from, len) in [(0, 100), (100, 16_384), (50_000, 5), (50_005, 16_384), (299_990, 10)] {
            rig.get(vec![block(0, len)], vec![part(port, 3, SIZE, from, len.into())]);
            rig.lend(1);
            assert!(
                rig.block() == bytes(3, from as usize, (from + u64::from(len)) as usize - 1),
                "{head} {from}"
            );
            rig.done();
        }
        assert_eq!(count.load(Ordering::Relaxed), 1, "{head}");
        // The next file, and a part that has passed, take an exchange each.
        for (file, from) in [(4, 7), (4, 5)] {
            rig.get(vec![block(0, 9)], vec![part(port, file, SIZE, from, 9)]);
            rig.lend(1);
            assert!(rig.block() == bytes(file, from as usize, from as usize + 8), "{head}");
            rig.done();
        }
        assert_eq!(count.load(Ordering::Relaxed), 3, "{head}");
        rig.stop();
    }
}

#[test]
fn several_files_without_ranges_come_in_one_order() {
    let (port, count) = whole_files("Content-Length: 9000\r\n", 9000);
    let mut rig = Rig::new();
    rig.skip_rate = Some(0);
    let parts =
        vec![part(port, 1, 9000, 4000, 5000), part(port, 2, 9000, 0, 9000), part(port, 3, 9000, 0, 100)];
    rig.get(vec![block(0, 14_100)], parts);
    rig.lend(1);
    assert!(rig.block() == [bytes(1, 4000, 8999), bytes(2, 0, 8999), bytes(3, 0, 99)].concat());
    rig.done();
    assert_eq!(count.load(Ordering::Relaxed), 3);
    rig.stop();
}

#[test]
fn whole_files_of_another_length_or_compressed_on_the_way_are_refused() {
    for (head, due) in [
        (
            "Content-Length: 98",
            WebFailure::Missing { file: 3, why: "the file there has 98 bytes, not 99".into() },
        ),
        (
            "Content-Encoding: br\r\nTransfer-Encoding: chunked",
            WebFailure::Useless("the answer is encoded as \"br\", which was not asked for".into()),
        ),
        ("Content-Length: 99", WebFailure::Network("the answer was cut short".into())),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0", WebFailure::Useless(exchange::SHORT.into())),
        ("\r\nabcde", WebFailure::Useless(exchange::SHORT.into())),
    ] {
        let said = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
        let port = serve(move |_, mut stream| {
            let _ = request(&mut stream);
            let _ = stream.write_all(said.as_bytes());
        });
        let mut rig = Rig::new();
        rig.skip_rate = Some(0);
        rig.get(vec![block(0, 5)], vec![part(port, 3, 99, 20, 5)]);
        rig.lend(1);
        assert_eq!(rig.failed(), due, "{head}");
        rig.stop();
    }
}

#[test]
fn what_is_skipped_keeps_to_its_rate_and_does_not_hold_up_a_stop() {
    let (port, _) = whole_files("Content-Length: 300000\r\n", 300_000);
    let mut rig = Rig::new();
    rig.skip_rate = Some(500_000);
    let start = clock();
    rig.get(vec![block(0, 9)], vec![part(port, 1, 300_000, 200_000, 9)]);
    rig.lend(1);
    assert!(rig.block() == bytes(1, 200_000, 200_008));
    rig.done();
    assert!(start.elapsed() > Duration::from_millis(350), "{:?}", start.elapsed());
    rig.skip_rate = Some(1);
    rig.get(vec![block(0, 9)], vec![part(port, 2, 300_000, 200_000, 9)]);
    rig.lend(1);
    rig.stop();
}

#[test]
fn web_seed_with_a_broken_address_is_fetched_from_the_other_one() {
    for answer_of_first in
        [None, Some("HTTP/1.1 522 x\r\nContent-Length: 0\r\n\r\n"), Some("nonsense\r\n\r\n")]
    {
        let good = TcpListener::bind("127.0.0.12:0").unwrap();
        let port = good.local_addr().unwrap().port();
        let bad = TcpListener::bind(("127.0.0.11", port)).unwrap();
        thread::Builder::new()
            .spawn(move || {
                for mut stream in bad.incoming().flatten() {
                    if let Some(answer) = answer_of_first {
                        request(&mut stream);
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            })
            .unwrap();
        thread::Builder::new()
            .spawn(move || {
                for mut stream in good.incoming().flatten() {
                    while let Some(range) = request(&mut stream) {
                        answer(&mut stream, 99, range);
                    }
                }
            })
            .unwrap();
        let addrs: Arc<[IpAddr]> = ["127.0.0.11", "127.0.0.12"].map(|ip| ip.parse().unwrap()).into();
        let part = || match part(port, 0, 99, 0, 99) {
            WebPart::Range { file, size, from, len, .. } => {
                let url = Arc::new(Url::parse(&format!("http://name:{port}/0")).unwrap().trust());
                WebPart::Range { url, addrs: addrs.clone(), file, size, from, len }
            }
            zeros => zeros,
        };
        let mut rig = Rig::new();
        rig.get(vec![block(0, 99)], vec![part()]);
        // It is worth another try, whatever the first address says.
        let failure = rig.failed();
        let again = matches!(failure, WebFailure::Network(_) | WebFailure::Busy { .. });
        assert!(again, "{answer_of_first:?}: {failure:?}");
        rig.stop();
        rig.get(vec![block(0, 99)], vec![part()]);
        rig.lend(1);
        assert!(rig.block() == bytes(0, 0, 98), "{answer_of_first:?}");
        rig.done();
        rig.stop();
    }
}
