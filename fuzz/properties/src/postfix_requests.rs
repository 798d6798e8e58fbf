//! What Postfix asks: policy requests, socketmap, tcp tables.

use waypost_postfix::{
    Action, MAX_REQUEST, NetstringReader, PolicyReader, PolicyRequest, RequestError,
    SocketmapReply, SocketmapRequest, TableReader, TableReply, TableRequest, from_internal,
    from_key, to_internal,
};

use crate::steer::{Steer, chunks};

/// The octets of a connection.
///
/// Whatever the pieces that they come in, the same requests are found, and the same mistake behind them.
/// What was read and is written again reads as the same, but for control characters in texts, which
/// cannot be written. An error names no more than a line. Answers stand on one line: nothing that a request
/// says can end it.
pub fn postfix_requests(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let seed = steer.byte();
    let rest = steer.rest();
    let whole = requests(&[rest]);
    assert_eq!(whole, requests(&chunks(rest, seed)), "cuts matter");
    for request in &whole.0 {
        again(request);
    }
    if let Some(error) = whole.1 {
        assert!(error.to_string().len() < 600 && !error.to_string().contains('\n'), "{error}");
    }
    let (mut reader, mut pieces) = (NetstringReader::new(1000), NetstringReader::new(1000));
    reader.feed(rest);
    chunks(rest, seed).into_iter().for_each(|piece| pieces.feed(piece));
    loop {
        let inside = reader.next_octets();
        assert_eq!(inside, pieces.next_octets(), "cuts matter");
        let Ok(Some(inside)) = inside else { break };
        assert!(inside.len() <= 1000);
        if let Ok(request) = SocketmapRequest::decode(&inside) {
            let mut reader = NetstringReader::new(100_000);
            reader.feed(&request.encode());
            let inside = reader.next_octets().unwrap().unwrap();
            assert_eq!(SocketmapRequest::decode(&inside).unwrap(), request);
            for address in [from_key(&request.key), from_internal(&request.key)] {
                let Ok(address) = address else { continue };
                assert_eq!(from_internal(&to_internal(&address)).unwrap(), address);
            }
        }
        let _ = SocketmapReply::decode(&inside);
    }
    let (mut reader, mut pieces) = (TableReader::default(), TableReader::default());
    reader.feed(rest);
    chunks(rest, seed).into_iter().for_each(|piece| pieces.feed(piece));
    loop {
        let request = reader.next_request();
        assert_eq!(request, pieces.next_request(), "cuts matter");
        let Ok(Some(TableRequest { key })) = request else { break };
        let mut reader = TableReader::default();
        reader.feed(&TableRequest { key: key.clone() }.encode());
        // Octets that were no UTF-8 have grown, and may no longer fit into a line.
        if let Ok(again) = reader.next_request() {
            assert_eq!(again, Some(TableRequest { key: key.clone() }));
        }
        let line = TableReply::Found(key).encode();
        assert_eq!(line.iter().filter(|octet| **octet == b'\n').count(), 1);
    }
    let _ = TableReply::decode(rest);
    if let Ok(Some((action, length))) = Action::decode(rest) {
        assert!(length <= rest.len());
        let told = action.to_string();
        assert_eq!(told.find('\n'), Some(told.len() - 2), "{told:?}");
    }
}

fn requests(pieces: &[&[u8]]) -> (Vec<PolicyRequest>, Option<RequestError>) {
    let (mut reader, mut found) = (PolicyReader::default(), Vec::new());
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next_request() {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                // As a connection does it: what follows is not read.
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn again(request: &PolicyRequest) {
    let octets = request.encode();
    assert!(octets.len() < MAX_REQUEST);
    let (read, error) = requests(&[&octets]);
    assert_eq!((read.len(), error), (1, None), "{}", octets.escape_ascii());
    let read = &read[0];
    assert_eq!((read.state, read.client), (request.state, request.client));
    assert_eq!((read.recipient_count, read.size), (request.recipient_count, request.size));
    if let (Ok(read), Ok(sender)) = (&read.sender, &request.sender) {
        assert_eq!(read, sender);
    }
    if let Some(Ok(recipient)) = &request.recipient {
        assert_eq!(read.recipient, Some(Ok(recipient.clone())));
    }
}
