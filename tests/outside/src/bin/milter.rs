// From README.md, by scripts/outside --update.
use waypost_milter::client::{Client, Limits};
use waypost_milter::server::Server;
use waypost_milter::{Actions, Command, FilterAction, FilterQuestion, Response, Steps};
use waypost_types::{Domain, Mailbox, Reply, ReversePath};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (own, to): (Domain, Mailbox) = ("mx.solarmora.com".parse()?, "marie@solarmora.com".parse()?);
    let text = b"Subject: x\r\n\r\ncheap pills\r\n";
    let question = FilterQuestion::new(&own, "192.0.2.1".parse()?, &ReversePath::Null, [&to], text);

    let (mut to_filter, mut to_server) = (Vec::new(), Vec::new());
    let mut filter = Server::new(Actions::default(), Steps::NO_HEADER); // it wants no header
    let mut client = Client::new(Limits::default());
    let mut dialogue = client.ask(&question);
    let verdict = loop {
        dialogue.write(&mut to_filter);
        filter.handle_bytes(&std::mem::take(&mut to_filter));
        while let Some(command) = filter.next(&mut to_server)? {
            let is_spam = matches!(command, Command::Body(text) if text.starts_with(b"cheap"));
            let spam = Response::Reply(Reply::new(554, (5, 7, 1), "Spam"));
            filter.answer(if is_spam { &spam } else { &Response::Continue }, &mut to_server)?;
        }
        dialogue.handle_bytes(&std::mem::take(&mut to_server))?;
        if let Some(verdict) = dialogue.take_verdict() {
            break verdict;
        }
    };
    assert!(matches!(verdict.action, FilterAction::Reject(reply) if reply.code() == 554));
    assert_eq!(&*verdict.reason, "the filter answered `replycode` to body: 554 5.7.1 Spam");
    Ok(())
}
