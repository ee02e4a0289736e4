//! Encrypted connections through the reactor, the other side by hand.

#![expect(clippy::disallowed_methods, reason = "the other side has a thread of its own")]

use super::*;
use crate::proto::mse::dh::GENERATOR;
use crate::proto::mse::{Agreed, Method, Methods, Rc4, Shake, Step, request_name};

const OURS: InfoHash = InfoHash([1; 20]);

fn answering(bufs: usize, methods: Methods, answer: Answer) -> Bench {
    let mut b = bench(bufs, answer);
    b.reactor.answers = Some(methods);
    b
}

fn rng(n: usize) -> Rng {
    Rng::new([n as u8; 32])
}

/// Writes in parts of so many bytes.
fn write_in(stream: &mut TcpStream, bytes: &[u8], part: usize) {
    bytes.chunks(part).for_each(|part| stream.write_all(part).unwrap());
}

/// The other side's handshake; it reads no byte past its end.
fn shake(stream: &mut TcpStream, mut shake: Shake, part: usize) -> Box<Agreed> {
    stream.set_nodelay(true).unwrap();
    let mut byte = [0];
    let mut input = &[][..];
    loop {
        match shake.next(&mut input).unwrap() {
            None => {
                stream.read_exact(&mut byte).unwrap();
                input = &byte;
            }
            Some(Step::Power(power)) => write_in(stream, &shake.powered(&power.raise()), part),
            Some(Step::Find(name)) => shake.found((name == request_name(OURS)).then_some(OURS)).unwrap(),
            Some(Step::Done(agreed)) => {
                write_in(stream, &agreed.say, part);
                return agreed;
            }
        }
    }
}

fn apply(method: Method, cipher: &mut Rc4, bytes: &mut [u8]) {
    if method == Method::Rc4 {
        cipher.apply(bytes);
    }
}

/// One that dials us sends blocks and a handshake, and takes others; all in parts of so many bytes at the start.
fn crossing(methods: Methods, method: Method, part: usize) {
    let mut b = answering(64, methods, |_, _| {});
    let addr = b.addr;
    let sends: Vec<u8> = (0..40).flat_map(|n| piece(n, if n < 2 { 5 } else { BLOCK })).collect();
    let mut comes = handshake();
    comes.extend((0..60).flat_map(|n| piece(n, BLOCK - n)));
    let due = comes.len();
    let there = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut agreed = shake(&mut stream, Shake::dial(OURS, handshake(), methods, rng(part)), part);
        let mut bytes = [&sends[..], &[0, 0, 0, 1, 1]].concat();
        apply(agreed.method, &mut agreed.writes, &mut bytes);
        write_in(&mut stream, &bytes, part.max(7000));
        let mut got = vec![0; due];
        stream.read_exact(&mut got).unwrap();
        apply(agreed.method, &mut agreed.reads, &mut got);
        (agreed.method, got)
    });
    b.until("p0.0 Unchoke");
    let heard = b.heard();
    assert_eq!(
        heard[..2],
        [format!("Encrypted {{ peer: p0.0, method: {method:?} }}"), "p0.0 handshake".into()]
    );
    assert_eq!(heard.len(), 2 + 40 * 2 + 1);
    let blocks = (2..40u8).flat_map(|n| [n; BLOCK as usize]);
    assert!(
        b.reactor.session.payload.iter().copied().eq([[0; 5], [1; 5]].concat().into_iter().chain(blocks))
    );
    // More than the socket takes at once, so that a part of a block goes, and then the rest.
    b.reactor.session.actions.push_back(Action::Handshake {
        peer: peer(0),
        handshake: Box::new(Handshake::decode(handshake().first_chunk().unwrap()).unwrap()),
    });
    for n in 0..60 {
        let mut buf = b.reactor.pool.take().unwrap();
        buf.space().fill(n as u8);
        let block = Block { piece: n, begin: 0, len: BLOCK - n };
        b.reactor.session.actions.push_back(Action::SendBlock { peer: peer(0), block, buf });
    }
    b.reactor.carry_out();
    while b.reactor.session.sent.0 < 60 {
        b.reactor.turn().unwrap();
    }
    let (theirs, got) = there.join().unwrap();
    assert!((theirs, got) == (method, comes), "the stream differs");
    assert_eq!((b.reactor.pool.out(), b.reactor.powers_out), (0, 0));
}

#[test]
fn payload_passes_by_rc4_and_in_the_clear() {
    crossing(Methods::RC4, Method::Rc4, 1000);
    crossing(Methods::RC4, Method::Rc4, 1);
    crossing(Methods::ANY, Method::Plain, 1000);
    crossing(Methods::ANY, Method::Plain, 1);
}

#[test]
fn a_handshake_in_the_clear_is_told_from_its_first_bytes() {
    for part in [1, 19, 20, 21, 1000] {
        let mut b = answering(1, Methods::ANY, |_, _| {});
        let addr = b.addr;
        let there = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.set_nodelay(true).unwrap();
            write_in(&mut stream, &[handshake(), vec![0, 0, 0, 1, 1]].concat(), part);
            stream
        });
        b.until("p0.0 Unchoke");
        assert_eq!(b.heard(), ["p0.0 handshake", "p0.0 Unchoke"]);
        there.join().unwrap();
    }
}

/// A key that begins as a handshake in the clear does, as one in 65,536 begins with its first two bytes.
#[test]
fn a_key_that_begins_like_a_handshake_is_a_key() {
    let mut b = answering(1, Methods::ANY, |_, _| {});
    let mut there = TcpStream::connect(b.addr).unwrap();
    there.set_nodelay(true).unwrap();
    let mut key = GENERATOR;
    key[..19].copy_from_slice(&handshake()[..19]);
    write_in(&mut there, &key, 7);
    let sent = std::thread::spawn(move || {
        let mut theirs = [0; 96];
        there.read_exact(&mut theirs).unwrap();
        there
    });
    while b.reactor.session.heard.is_empty() && !sent.is_finished() {
        b.quiet_turn();
    }
    assert!(matches!(
        b.reactor.conns.get_mut(peer(0)).unwrap().crypt,
        super::super::crypt::Crypt::Shaking(_)
    ));
    sent.join().unwrap();
}

#[test]
fn garbage_closes_within_the_longest_padding() {
    let mut b = answering(1, Methods::ANY, |_, _| {});
    let mut there = TcpStream::connect(b.addr).unwrap();
    // All of it at once is more than may come before our key; and a little is waited for.
    there.write_all(&[b'x'; 96 + limits::MSE_PADDING_MAX + 1]).unwrap();
    b.until("p0.0 Protocol(\"a wrong encrypted handshake\")");
    let mut there = TcpStream::connect(b.addr).unwrap();
    there.set_nodelay(true).unwrap();
    let sent = std::thread::spawn(move || {
        there.write_all(&[b'x'; 96]).unwrap();
        there.read_exact(&mut [0; 96]).unwrap();
        // A byte at a time; the last ones meet a closed socket.
        (0..1 << 20).find(|_| there.write_all(b"x").is_err())
    });
    b.until("p1.0 Protocol(\"not a BitTorrent handshake\")");
    assert!(sent.join().unwrap().is_some());
}

#[test]
fn a_torrent_that_we_do_not_have_closes() {
    let mut b = answering(1, Methods::ANY, |_, _| {});
    let addr = b.addr;
    let there = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut shake = Shake::dial(InfoHash([2; 20]), handshake(), Methods::ANY, rng(3));
        let mut byte = [0];
        let mut input = &[][..];
        loop {
            match shake.next(&mut input).unwrap() {
                None => {
                    if !matches!(stream.read(&mut byte), Ok(1)) {
                        return;
                    }
                    input = &byte;
                }
                Some(Step::Power(power)) => stream.write_all(&shake.powered(&power.raise())).unwrap(),
                Some(other) => panic!("{other:?}"),
            }
        }
    });
    b.until("p0.0 UnknownTorrent");
    there.join().unwrap();
}

#[test]
fn who_comes_while_too_many_powers_are_out_is_refused() {
    let mut b = answering(1, Methods::ANY, |_, _| {});
    b.reactor.powers_out = limits::MSE_POWERS_OUT;
    let mut there = TcpStream::connect(b.addr).unwrap();
    there.write_all(&GENERATOR).unwrap();
    b.until("p0.0 Busy");
    assert_eq!(b.reactor.powers_out, limits::MSE_POWERS_OUT);
}

#[test]
fn a_power_for_one_who_has_gone_is_dropped() {
    let mut b = answering(1, Methods::ANY, |_, _| {});
    let mut there = TcpStream::connect(b.addr).unwrap();
    there.write_all(&GENERATOR).unwrap();
    drop(there);
    b.until("p0.0 Eof");
    while b.reactor.powers_out > 0 {
        b.quiet_turn();
    }
}

/// We dial: our handshake goes along with the encrypted one.
#[test]
fn a_call_says_its_handshake_encrypted() {
    for (methods, part) in [(Methods::RC4, 1), (Methods::ANY, 500)] {
        let mut b = bench(4, |session, event| {
            if let Event::Message { peer, message: Message::Choke } = event {
                session.actions.push_back(Action::Send { peer: *peer, message: Message::Interested });
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let there = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let mut agreed = shake(&mut stream, Shake::answer(methods, rng(part)), part);
            let mut initial = vec![0; usize::from(agreed.initial)];
            stream.read_exact(&mut initial).unwrap();
            agreed.reads.apply(&mut initial);
            let mut bytes = [handshake(), vec![0, 0, 0, 1, 0], piece(3, 100)].concat();
            apply(agreed.method, &mut agreed.writes, &mut bytes);
            write_in(&mut stream, &bytes, part);
            let mut last = [0; 5];
            stream.read_exact(&mut last).unwrap();
            apply(agreed.method, &mut agreed.reads, &mut last);
            (agreed.method, initial, last)
        });
        b.reactor.session.actions.push_back(Action::Connect { peer: peer(0), addr });
        b.reactor.carry_out();
        b.until("Connected { peer: p0.0 }");
        b.reactor.session.actions.push_back(Action::Encrypt { peer: peer(0), methods });
        b.reactor.session.actions.push_back(Action::Handshake {
            peer: peer(0),
            handshake: Box::new(Handshake::decode(handshake().first_chunk().unwrap()).unwrap()),
        });
        b.reactor.carry_out();
        b.until("p0.0 3 block");
        b.reactor.flush();
        let (method, initial, last) = there.join().unwrap();
        assert_eq!((initial, last), (handshake(), [0, 0, 0, 1, 2]));
        let due = if methods == Methods::ANY { Method::Plain } else { Method::Rc4 };
        assert_eq!(method, due);
        assert!(b.heard().contains(&format!("Encrypted {{ peer: p0.0, method: {due:?} }}")));
        assert_eq!(b.reactor.session.payload, [3; 100]);
    }
}

/// What waits for the disk was decrypted when it was read.
#[test]
fn an_encrypted_connection_that_waits_goes_on_where_it_stood() {
    let mut b = answering(1, Methods::RC4, |_, _| {});
    b.reactor.session.intakes = [Intake::Wait].into();
    let addr = b.addr;
    let there = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut agreed = shake(&mut stream, Shake::dial(OURS, handshake(), Methods::RC4, rng(9)), 1000);
        let mut bytes = [piece(0, 9000), piece(1, 100), vec![0, 0, 0, 1, 1]].concat();
        agreed.writes.apply(&mut bytes);
        stream.write_all(&bytes).unwrap();
        stream
    });
    b.until("p0.0 0 Wait");
    b.reactor.resumed.push(peer(0));
    b.until("p0.0 Unchoke");
    assert!(b.reactor.session.payload == [vec![0; 9000], vec![1; 100]].concat());
    there.join().unwrap();
}
