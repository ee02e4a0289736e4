use super::*;
use crate::base::rng::Rng;
use crate::base::testing::rounds;
use crate::limits::BENCODE_DEPTH;

const A: NodeId = NodeId(*b"abcdefghij0123456789");
const M: NodeId = NodeId(*b"mnopqrstuvwxyz123456");
const D: NodeId = NodeId(*b"0123456789abcdefghij");
const TORRENT: InfoHash = InfoHash(*b"mnopqrstuvwxyz123456");

fn message(body: Body<'_>) -> Message<'_> {
    Message { tid: b"aa", version: None, ip: None, body }
}

fn query(method: Method<'_>) -> Message<'_> {
    message(Body::Query(Query { id: A, read_only: false, method }))
}

fn response<'a>(id: NodeId, change: impl FnOnce(&mut Response<'a>)) -> Message<'a> {
    let mut response = Response::new(id);
    change(&mut response);
    message(Body::Response(response))
}

/// Both directions, byte by byte.
fn is(message: &Message<'_>, bytes: &[u8]) {
    assert_eq!(message.encode().escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!(decode(bytes).as_ref(), Ok(message), "{}", bytes.escape_ascii());
}

#[test]
fn the_examples_of_bep_5() {
    let values = Values::encoded(b"l6:axje.u6:idhtnme");
    let any = Want::default();
    is(&query(Method::Ping), b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe");
    is(&response(M, |_| ()), b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re");
    is(
        &query(Method::FindNode { target: M, want: any }),
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
    );
    is(
        &response(D, |r| r.nodes = Some(b"def456...")),
        b"d1:rd2:id20:0123456789abcdefghij5:nodes9:def456...e1:t2:aa1:y1:re",
    );
    is(
        &query(Method::GetPeers { info_hash: TORRENT, want: any }),
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
    );
    is(
        &response(A, |r| {
            r.token = Some(b"aoeusnth");
            r.values = Some(values);
        }),
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
    );
    is(
        &response(A, |r| {
            r.token = Some(b"aoeusnth");
            r.nodes = Some(b"def456...");
        }),
        b"d1:rd2:id20:abcdefghij01234567895:nodes9:def456...5:token8:aoeusnthe1:t2:aa1:y1:re",
    );
    is(
        &message(Body::Error { code: GENERIC, text: b"A Generic Error Ocurred" }),
        b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
    );
    let peers: Vec<SocketAddr> = values.iter().collect();
    assert_eq!(peers, ["97.120.106.101:11893".parse().unwrap(), "105.100.104.116:28269".parse().unwrap()]);
}

#[test]
fn the_announce_of_bep_5() {
    let bytes = "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e\
        5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
    let (port, token) = (6881, &b"aoeusnth"[..]);
    let announce =
        |implied_port| query(Method::AnnouncePeer { info_hash: TORRENT, port, implied_port, token });
    is(&announce(true), bytes.as_bytes());
    is(&announce(false), bytes.replace("12:implied_porti1e", "").as_bytes());
    is(&response(M, |_| ()), b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re");
    assert!(decode(bytes.replace("4:porti6881e", "").as_bytes()).is_ok(), "the port is void");
}

#[test]
fn want_and_read_only_and_ip_and_version_and_samples() {
    let want = Want { v4: true, v6: true };
    let find = Method::FindNode { target: M, want };
    let query = Query { id: A, read_only: true, method: find };
    let message = Message { tid: b"x", version: Some(b"pT01"), ip: None, body: Body::Query(query) };
    is(
        &message,
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee1:q9:find_node\
        2:roi1e1:t1:x1:v4:pT011:y1:qe",
    );
    let sample = Some(Sample { interval: 60, num: 1, samples: &[b'h'; 20] });
    let body = Body::Response(Response { nodes: Some(b""), sample, ..Response::new(A) });
    let message = Message { tid: b"x", version: None, ip: Some("1.2.3.4:258".parse().unwrap()), body };
    is(
        &message,
        b"d2:ip6:\x01\x02\x03\x04\x01\x021:rd2:id20:abcdefghij01234567898:intervali60e5:nodes0:3:numi1e\
        7:samples20:hhhhhhhhhhhhhhhhhhhhe1:t1:x1:y1:re",
    );
}

#[test]
fn extra_keys_are_passed_over_and_unknown_methods_named() {
    let message =
        decode(b"d1:ad2:id20:abcdefghij01234567893:xyzli1eee1:q4:vote1:t2:aa3:xyzde1:y1:qe").unwrap();
    assert_eq!(message, query(Method::Unknown(b"vote")));
}

#[test]
fn a_query_with_wrong_arguments_hears_of_it() {
    let with = |a: &str, q: &str| format!("d1:a{a}1:q{q}1:t2:aa1:y1:qe");
    let id = "2:id20:abcdefghij0123456789";
    let hash = "9:info_hash20:mnopqrstuvwxyz123456";
    for (a, q) in [
        ("de", "4:ping"),
        ("i1e", "4:ping"),
        ("le", "4:ping"),
        ("d2:id19:abcdefghij012345678e", "4:ping"),
        ("d2:idi7ee", "4:ping"),
        (&format!("d{id}{id}e"), "4:ping"),
        (&format!("d{id}e"), "i4e"),
        (&format!("d{id}e"), "le"),
        (&format!("d{id}e"), "9:find_node"),
        (&format!("d{id}6:targeti1ee"), "9:find_node"),
        (&format!("d{id}6:target0:e"), "17:sample_infohashes"),
        (&format!("d{id}9:info_hashlee"), "9:get_peers"),
        (&format!("d{id}{hash}4:porti80ee"), "13:announce_peer"),
        (&format!("d{id}{hash}5:token1:xe"), "13:announce_peer"),
        (&format!("d{id}{hash}4:porti0e5:token1:xe"), "13:announce_peer"),
        (&format!("d{id}{hash}4:porti-1e5:token1:xe"), "13:announce_peer"),
        (&format!("d{id}{hash}4:porti65536e5:token1:xe"), "13:announce_peer"),
        (&format!("d{id}{hash}4:port2:805:token1:xe"), "13:announce_peer"),
        (&format!("d{id}{hash}4:porti80e5:tokeni1ee"), "13:announce_peer"),
    ] {
        let bytes = with(a, q);
        let error = decode(bytes.as_bytes()).expect_err(&bytes);
        assert_eq!(error.tid, Some(&b"aa"[..]), "{bytes}");
    }
}

#[test]
fn anything_else_is_dropped() {
    let deep = [&b"d1:a"[..], &b"l".repeat(10_000), &b"e".repeat(10_000), b"1:t2:aa1:y1:qe"].concat();
    let long = [&b"d1:t2:aa1:v1600:"[..], &[b'x'; 1600], b"1:y1:qe"].concat();
    let nested = [b"l".repeat(BENCODE_DEPTH + 1), b"e".repeat(BENCODE_DEPTH + 1)].concat();
    for bytes in [
        &b""[..],
        b"d",
        b"le",
        b"i1e",
        b"d1:t2:aa1:y1:xe",
        b"d1:t2:aae",
        b"d1:y1:qe",
        b"d1:ti1e1:y1:qe",
        b"d1:t0:1:y1:qe",
        b"d1:t33:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1:y1:qe",
        b"d1:t2:aa1:t2:ab1:y1:qe",
        b"d1:t2:aa1:y1:re",
        b"d1:rde1:t2:aa1:y1:re",
        b"d1:rd2:id20:mnopqrstuvwxyz1234565:nodesi1ee1:t2:aa1:y1:re",
        b"d1:ei1e1:t2:aa1:y1:ee",
        b"d1:ele1:t2:aa1:y1:ee",
        &deep,
        &long,
        &nested,
    ] {
        let error = decode(bytes).expect_err("what is wrong is seen");
        assert_eq!(error.tid, None, "{}", bytes.escape_ascii());
    }
    assert_eq!(decode(&long).unwrap_err().what, "it is too long");
}

#[test]
fn values_of_wrong_types_are_as_if_they_were_not_there() {
    let bytes = b"d1:rd2:id20:mnopqrstuvwxyz1234565:tokenli1ee6:valuesi1ee1:t2:aa1:vi1e1:y1:re";
    assert_eq!(decode(bytes), Ok(response(M, |_| ())));
    let values = Values::encoded(b"l5:12345i1ele6:axje.u18:ABCDEFGHIJKLMNOPQRe");
    assert_eq!(values.iter().count(), 2);
}

#[test]
fn nodes_are_packed_with_their_id() {
    let v4 = Contact { id: A, addr: "1.2.3.4:6881".parse().unwrap() };
    let v6 = Contact { id: M, addr: "[2001::9]:80".parse().unwrap() };
    let (mut four, mut six) = (Vec::new(), Vec::new());
    put_node(v4, &mut four, &mut six);
    put_node(v6, &mut four, &mut six);
    assert_eq!(four, b"abcdefghij0123456789\x01\x02\x03\x04\x1a\xe1");
    assert_eq!((four.len(), six.len()), (LEN_V4, LEN_V6));
    four.extend_from_slice(&[7; 25]);
    assert_eq!(nodes_v4(&four).collect::<Vec<_>>(), [v4]);
    assert_eq!(nodes_v6(&six).collect::<Vec<_>>(), [v6]);
    // Nobody is at port 0.
    assert_eq!(nodes_v4(b"abcdefghij0123456789\x01\x02\x03\x04\0\0").count(), 0);
}

fn random_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.index(most + 1)];
    rng.fill(&mut bytes);
    bytes
}

#[test]
fn what_is_encoded_is_decoded_to_the_same() {
    let mut rng = Rng::new([4; 32]);
    for _ in 0..rounds(3000) {
        let mut place = || {
            let mut id = [0; 20];
            rng.fill(&mut id);
            NodeId(id)
        };
        let (id, target) = (place(), place());
        let info_hash = InfoHash(place().0);
        let tid = [vec![1], random_bytes(&mut rng, KRPC_TID_MAX - 1)].concat();
        let (token, nodes) = (random_bytes(&mut rng, KRPC_TOKEN_MAX), random_bytes(&mut rng, 300));
        let mut list = b"l".to_vec();
        for n in 0..rng.below(20) {
            let addr = if n % 3 == 0 { "[2001::1]:7" } else { "9.8.7.6:5" };
            put_value(addr.parse().unwrap(), &mut list);
        }
        list.push(b'e');
        let want = Want { v4: rng.below(2) == 0, v6: rng.below(2) == 0 };
        let port = 1 + rng.below(65_535) as u16;
        let query = |method| Body::Query(Query { id, read_only: want.v4, method });
        let body = match rng.below(7) {
            0 => query(Method::Ping),
            1 => query(Method::FindNode { target, want }),
            2 => query(Method::GetPeers { info_hash, want }),
            3 => query(Method::AnnouncePeer { info_hash, port, implied_port: want.v6, token: &token }),
            4 => query(Method::Sample { target, want }),
            5 => Body::Error { code: 201, text: &token },
            _ => Body::Response(Response {
                nodes: want.v4.then_some(&nodes[..]),
                nodes6: want.v6.then_some(&nodes[..]),
                token: Some(&token),
                values: Some(Values::encoded(&list)),
                ..Response::new(id)
            }),
        };
        let message = Message { tid: &tid, version: Some(b"pT"), ip: None, body };
        let bytes = message.encode();
        assert_eq!(decode(&bytes).as_ref(), Ok(&message));
        fuzz_krpc(&bytes);
        let cut = rng.index(bytes.len());
        assert!(decode(&bytes[..cut]).is_err());
    }
}

#[test]
fn any_bytes_never_panic() {
    let mut rng = Rng::new([5; 32]);
    for _ in 0..rounds(20_000) {
        let len = rng.index(60);
        let data: Vec<u8> = (0..len).map(|_| b"dlie012345679:aqrty-"[rng.index(20)]).collect();
        fuzz_krpc(&data);
    }
}
