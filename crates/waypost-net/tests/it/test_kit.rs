//! The kit's own peer: each act does what its line says, and what is seen is noted.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use waypost_net::test_kit::{Act, Framing, Peer, Phase, Script};

struct Client(TcpStream);

impl Client {
    fn new(peer: &Peer) -> Self {
        let tcp = TcpStream::connect(peer.address()).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(tcp)
    }

    fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// Reads so many octets, or up to the end.
    fn hear(&mut self, count: usize) -> String {
        let mut heard = Vec::new();
        (&self.0).take(count as u64).read_to_end(&mut heard).unwrap();
        String::from_utf8(heard).unwrap()
    }

    fn hear_all(&mut self) -> String {
        let mut heard = Vec::new();
        match self.0.read_to_end(&mut heard) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        String::from_utf8_lossy(&heard).into_owned()
    }
}

const BANNER: &str = "220 peer.example ESMTP\r\n";
const TALK: &str = "HELO a\r\nMAIL FROM:<> SIZE=5 BODY=8BITMIME\r\nRCPT TO:<\"a> b\"@x> NOTIFY=NEVER\r\n\
                    RCPT TO:<b@x>\r\nDATA\r\n..\r\nbody\r\n.\r\nQUIT\r\n";

/// What the client hears when it says all of [`TALK`] at once.
#[test]
fn each_act_does_what_it_says() {
    let replies: [&str; 8] = [
        BANNER,
        "250 peer.example\r\n",
        "250 2.1.0 Ok\r\n",
        "250 2.1.5 Ok\r\n",
        "250 2.1.5 Ok\r\n",
        "354 Go on\r\n",
        "250 2.0.0 Taken\r\n",
        "221 2.0.0 Bye\r\n",
    ];
    let upto = |count: usize, rest: &str| replies[..count].concat() + rest;
    let table: Vec<(Script, String)> = vec![
        (Script::new(), upto(8, "")),
        (
            Script::new().at(Phase::Banner, Act::ReplyAndDrop("421 4.3.2 full".into())),
            "421 4.3.2 full\r\n".into(),
        ),
        (Script::new().at(Phase::Hello, Act::Cut(5)), upto(1, "250 p")),
        (
            Script::new().at(Phase::Mail, Act::Bytes(b"\xff".to_vec())).at(Phase::Rcpt, Act::Drop),
            String::new(),
        ),
        (
            Script::new().at(Phase::Quit, Act::Flood { lines: 3, octets: 2 }),
            upto(7, "221-xx\r\n221-xx\r\n221 xx\r\n"),
        ),
        (Script::new().at(Phase::Data, Act::Trickle(Duration::ZERO)), upto(8, "")),
        (
            Script::new().when(Phase::Rcpt, "<b@", Act::reply("550 5.1.1 No")),
            [&replies[..4], &["550 5.1.1 No\r\n"], &replies[5..]].concat().concat(),
        ),
        (
            Script::new().first(1, Phase::Rcpt, Act::reply("450 4.2.0 Later")),
            [&replies[..3], &["450 4.2.0 Later\r\n"], &replies[4..]].concat().concat(),
        ),
        (
            Script::new().ask(|phase, line| {
                (phase == Phase::End).then(|| Act::reply(format!("554 5.6.0 {line}")))
            }),
            upto(6, "554 5.6.0 .\r\n221 2.0.0 Bye\r\n"),
        ),
        (
            Script::new().at(Phase::Content, Act::ReplyAndDrop("452 4.3.1 Full".into())),
            upto(6, "452 4.3.1 Full\r\n"),
        ),
        (Script::new().at(Phase::End, Act::Drop), String::new()),
    ];
    for (script, want) in table {
        let peer = script.start().unwrap();
        let mut client = Client::new(&peer);
        client.say(TALK);
        // A reset may take what was said before it.
        let heard = client.hear_all();
        assert!(want.is_empty() || heard == want, "{heard:?} is not {want:?}");
    }
}

#[test]
fn transactions_are_values() {
    let peer = Script::new().start().unwrap();
    let mut client = Client::new(&peer);
    client.say(TALK);
    client.hear_all();
    let received = peer.received();
    let [one] = &received[..] else { panic!("{received:?}") };
    assert_eq!((one.session, one.over_tls, one.sender.as_str()), (0, false, ""));
    assert_eq!(one.parameters, ["SIZE=5", "BODY=8BITMIME"]);
    assert_eq!(one.recipients, ["\"a> b\"@x", "b@x"]);
    assert_eq!(one.recipient_parameters, [vec!["NOTIFY=NEVER"], vec![]]);
    assert_eq!(one.text(), ".\r\nbody\r\n");
    assert_eq!(one.framing, Some(Framing::Data));
    assert!(one.is_whole() && one.is_taken());
    let session = peer.wait_until(|all| all[0].is_over).unwrap().remove(0);
    assert_eq!(session.commands.len(), 6);
    assert_eq!(session.commands[5], "QUIT");
}

#[test]
fn chunks_are_counted_and_lmtp_answers_for_each() {
    let peer = Script::new()
        .offers("CHUNKING")
        .when(Phase::End, "<b@", Act::reply("452 4.2.2 Full"))
        .start()
        .unwrap();
    let mut client = Client::new(&peer);
    client.say(
        "LHLO a\r\nMAIL FROM:<s@x>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT 3\r\n..\rBDAT 1 LAST\r\n\n\
         RSET\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n",
    );
    let heard = client.hear_all();
    assert!(
        heard.contains("250-peer.example\r\n") && heard.contains("250 CHUNKING\r\n"),
        "{heard}"
    );
    let end = "250 2.0.0 Go on\r\n250 2.0.0 Taken\r\n452 4.2.2 Full\r\n250 2.0.0 Ok\r\n503 5.5.1 No valid \
               recipients\r\n221 2.0.0 Bye\r\n";
    assert!(heard.ends_with(end), "{heard}");
    let one = peer.received().remove(0);
    assert_eq!((one.text().as_str(), one.framing), ("..\r\n", Some(Framing::Chunks(2))));
    assert_eq!(one.verdicts, ["250 2.0.0 Taken", "452 4.2.2 Full"]);
}

#[test]
fn what_stalls_goes_on_when_told() {
    let peer = Script::new()
        .at(Phase::Banner, Act::Stall)
        .at(Phase::Mail, Act::CutAndStall(4))
        .start()
        .unwrap();
    let mut client = Client::new(&peer);
    peer.wait_until(|all| all.len() == 1).unwrap();
    peer.release();
    assert_eq!(client.hear(BANNER.len()), BANNER);
    client.say("MAIL FROM:<>\r\n");
    assert_eq!(client.hear(14), "250 2.1.0 Ok\r\n", "what was released stays so");
}

#[test]
fn an_end_of_the_peer_ends_all() {
    let peer = Script::new().at(Phase::Banner, Act::Stall).start().unwrap();
    let (mut client, address) = (Client::new(&peer), peer.address());
    peer.wait_until(|all| all.len() == 1).unwrap();
    drop(peer);
    assert_eq!(client.hear_all(), "");
    assert!(TcpStream::connect(address).is_err());
}
