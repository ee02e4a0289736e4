//! A web server in the hands of a test: it serves ranges of what it was given, and each request as the test says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Percent-encoded, as it came.
    pub(crate) path: String,
    /// The first and the last byte.
    pub(crate) range: (usize, usize),
    /// Which connection it came over, counted from 0, and which request it is of all, likewise.
    pub(crate) connection: usize,
    pub(crate) number: usize,
    pub(crate) head: String,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// As it has to be.
    Serve,
    /// The same, with these header lines more.
    ServeWith(&'static str),
    /// The whole file, whatever range was asked for.
    Whole,
    /// The same, broken off after so many bytes.
    BreakWhole(usize),
    /// The right bytes in chunks of that many.
    Chunks(usize),
    /// These bytes as they are, then the connection ends.
    Say(String),
    /// The right head, then so many bytes, then a reset.
    Break(usize),
    /// The right head, then a byte each 20 ms, for ever.
    Drip,
    /// Every byte is wrong.
    Lie,
    /// The connection is closed at once.
    Close,
}

/// A server of some files, for any number of connections. Its threads end with the test.
pub(crate) struct WebServer {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Files = BTreeMap<String, Vec<u8>>;

impl WebServer {
    /// Serves files by their percent-encoded paths.
    pub(crate) fn new(
        files: &[(&str, &[u8])],
        way: impl Fn(&Asked) -> Way + Send + Sync + 'static,
    ) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let files: Files = files.iter().map(|(path, data)| (path.to_string(), data.to_vec())).collect();
        let (files, way, asked) = (Arc::new(files), Arc::new(way), Arc::new(Mutex::new(Vec::new())));
        let seen: Arc<Mutex<Vec<Asked>>> = asked.clone();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (files, way, seen) = (files.clone(), way.clone(), seen.clone());
                // A connection that ends is the other side's affair.
                thread::spawn(move || drop(serve(&stream, connection, &files, &*way, &seen)));
            }
        });
        WebServer { addr, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    connection: usize,
    files: &Files,
    way: &dyn Fn(&Asked) -> Way,
    seen: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_string();
        let range = head.lines().find_map(|line| line.strip_prefix("Range: bytes="));
        // A tracker is asked for no range.
        let (from, to) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", "0"));
        let range = (from.parse().unwrap(), to.parse().unwrap());
        let asked = {
            let mut all = seen.lock().unwrap();
            let number = all.len();
            all.push(Asked { path, range, connection, number, head });
            all.last().unwrap().clone()
        };
        let plain_path = asked.path.split('?').next().unwrap_or_default();
        let Some(whole) = files.get(&asked.path).or_else(|| files.get(plain_path)) else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n")?;
            continue;
        };
        let (from, to) = range;
        let mut data = whole.get(from..=to).unwrap_or_default().to_vec();
        let said = format!("HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{to}/{}\r\n", whole.len());
        let plain = format!("{said}Content-Length: {}\r\n\r\n", data.len());
        match way(&asked) {
            Way::Serve => stream.write_all(&[plain.as_bytes(), &data].concat())?,
            Way::ServeWith(lines) => {
                let plain = format!("{said}{lines}Content-Length: {}\r\n\r\n", data.len());
                stream.write_all(&[plain.as_bytes(), &data].concat())?;
            }
            Way::Whole => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", whole.len());
                stream.write_all(&[head.as_bytes(), whole].concat())?;
            }
            Way::BreakWhole(len) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", whole.len());
                stream.write_all(&[head.as_bytes(), &whole[..len.min(whole.len())]].concat())?;
                return stream.shutdown(Shutdown::Both);
            }
            Way::Lie => {
                data.iter_mut().for_each(|byte| *byte = !*byte);
                stream.write_all(&[plain.as_bytes(), &data].concat())?;
            }
            Way::Chunks(len) => {
                stream.write_all(format!("{said}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
                for chunk in data.chunks(len) {
                    stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                    stream.write_all(&[chunk, b"\r\n"].concat())?;
                }
                stream.write_all(b"0\r\n\r\n")?;
            }
            Way::Say(text) => {
                stream.write_all(text.as_bytes())?;
                return stream.shutdown(Shutdown::Write);
            }
            Way::Break(len) => {
                stream.write_all(&[plain.as_bytes(), &data[..len.min(data.len())]].concat())?;
                return stream.shutdown(Shutdown::Both);
            }
            Way::Drip => {
                stream.write_all(plain.as_bytes())?;
                for byte in data {
                    stream.write_all(&[byte])?;
                    thread::sleep(Duration::from_millis(20));
                }
            }
            Way::Close => return stream.shutdown(Shutdown::Both),
        }
    }
}
