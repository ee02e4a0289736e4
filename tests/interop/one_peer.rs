//! A tracker that answers every announce with the same peers: for clients that can be told a peer in no other way,
//! and on IPv6, which Debian's opentracker does not speak. Shared with `tests/bench`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Listens there until the process ends; returns the announce URL.
pub(crate) fn start(listen: SocketAddr, peers: &[SocketAddr]) -> io::Result<String> {
    let listener = TcpListener::bind(listen)?;
    let url = format!("http://{}/announce", listener.local_addr()?);
    let answer = answer(peers);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up early has had what it wanted.
            let _ = serve(stream, &answer);
        }
    });
    Ok(url)
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 2048];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            length => request.extend_from_slice(&chunk[..length]),
        }
    }
    stream.write_all(answer)
}

fn answer(peers: &[SocketAddr]) -> Vec<u8> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in peers {
        let list = match peer.ip() {
            IpAddr::V4(ip) => {
                v4.extend_from_slice(&ip.octets());
                &mut v4
            }
            IpAddr::V6(ip) => {
                v6.extend_from_slice(&ip.octets());
                &mut v6
            }
        };
        list.extend_from_slice(&peer.port().to_be_bytes());
    }
    let mut body = b"d8:intervali1800e".to_vec();
    for (key, list) in [("5:peers", v4), ("6:peers6", v6)] {
        body.extend_from_slice(format!("{key}{}:", list.len()).as_bytes());
        body.extend_from_slice(&list);
    }
    body.push(b'e');
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}
