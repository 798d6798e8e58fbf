//! A name server on loopback that speaks real DNS over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{MX, PTR, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// A record: owner without its last dot, type, value. The type `SERVFAIL` makes each question about the
/// owner fail, `SILENT` leaves it unanswered.
pub(crate) type Entry = (String, &'static str, String);

/// A running name server; dropped, it ends.
pub(crate) struct Dns {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
}

impl Dns {
    /// Serves a zone on a free port.
    pub(crate) fn start(zone: Vec<Entry>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (heard, ends) = (Arc::clone(&asked), Arc::clone(&stopped));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                if let Some(query) = question.queries.first() {
                    heard.lock().unwrap().push(format!("{} {}", query.name(), query.query_type()));
                }
                if let Some(answer) = answer(&question, &zone) {
                    socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
                }
            }
        });
        Self { address, asked, stopped }
    }

    /// The questions so far: name with its last dot, type.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _ = socket.send_to(b"", self.address);
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn answer(question: &Message, zone: &[Entry]) -> Option<Message> {
    let query = question.queries.first()?;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let asked = query.name().to_lowercase();
    let here: Vec<&Entry> =
        zone.iter().filter(|(owner, ..)| name(&format!("{owner}.")) == asked).collect();
    if here.iter().any(|(_, kind, _)| *kind == "SILENT") {
        return None;
    }
    if here.iter().any(|(_, kind, _)| *kind == "SERVFAIL") {
        answer.metadata.response_code = ResponseCode::ServFail;
        return Some(answer);
    }
    let wanted = query.query_type().to_string();
    for (_, kind, value) in &here {
        if *kind == wanted {
            answer.add_answer(Record::from_rdata(asked.clone(), 300, data(kind, value)));
        }
    }
    if answer.answers.is_empty() {
        if here.is_empty() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 60, 60, 60, 60);
        answer.add_authority(Record::from_rdata(name("example."), 60, RData::SOA(soa)));
    }
    Some(answer)
}

fn data(kind: &str, value: &str) -> RData {
    match kind {
        "MX" => RData::MX(MX::new(10, name(value))),
        "A" => RData::A(value.parse().unwrap()),
        "AAAA" => RData::AAAA(value.parse().unwrap()),
        "PTR" => RData::PTR(PTR(name(value))),
        _ => {
            let pieces = value.as_bytes().chunks(200);
            RData::TXT(TXT::new(
                pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect(),
            ))
        }
    }
}
