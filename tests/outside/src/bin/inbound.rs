// From README.md, by scripts/outside --update.
use waypost_inbound::{GatewaySettings, HeaderBlock, InboundGateway, OwnLine};

fn main() {
    let gateway = InboundGateway::new(&GatewaySettings {
        addresses: vec!["192.0.2.2".into(), "192.0.2.55".into()],
        detect_external_ip: true,
        ..GatewaySettings::default()
    }).expect("two public addresses");
    let header = HeaderBlock::of(b"Received: from [192.0.2.55] by a via HTTP; x\r\n\
                                   Received: from [192.0.2.110] by b via HTTP; x\r\n\r\n");
    let source = gateway.source([192, 0, 2, 2].into(), OwnLine::Absent, &header);
    assert_eq!(source.ip, Some([192, 0, 2, 110].into()));
    assert_eq!(source.because.as_str(), "first-external");
}
