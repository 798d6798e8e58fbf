//! Where messages behind a gateway really came from (`waypost-inbound`).
//!
//! Reads messages from files (or one from standard input) and prints the source IP of each, why it is
//! that one, and every hop that was looked at:
//!
//! ```text
//! source_ip_of 192.0.2.2,192.0.2.55 192.0.2.2 message.eml …
//! ```
//!
//! First the gateways (addresses or ranges), then the address that the messages came from.

use std::error::Error;
use std::io::Read;
use std::net::IpAddr;
use std::process::ExitCode;

use waypost_inbound::{GatewaySettings, InboundGateway, OwnLine};
use waypost_types::HeaderBlock;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gateways, client, files @ ..] = arguments.as_slice() else {
        eprintln!("usage: source_ip_of GATEWAYS CLIENT [MESSAGE...]");
        return ExitCode::from(2);
    };
    match run(gateways, client, files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("source_ip_of: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(gateways: &str, client: &str, files: &[String]) -> Result<(), Box<dyn Error>> {
    let settings = GatewaySettings {
        addresses: gateways.split(',').map(str::to_owned).collect(),
        detect_external_ip: true,
        ..GatewaySettings::default()
    };
    let gateway = InboundGateway::new(&settings)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let client: IpAddr = client.parse()?;
    if files.is_empty() {
        let mut message = Vec::new();
        std::io::stdin().read_to_end(&mut message)?;
        show(&gateway, client, "-", &message);
    }
    for file in files {
        show(&gateway, client, file, &std::fs::read(file)?);
    }
    Ok(())
}

fn show(gateway: &InboundGateway, client: IpAddr, name: &str, message: &[u8]) {
    let header = HeaderBlock::of(message);
    let (source, hops) = gateway.source_with_hops(client, OwnLine::FindOut, &header);
    let address = |ip: Option<IpAddr>| ip.map_or("none".to_owned(), |ip| ip.to_string());
    let spf = if source.spf { "check SPF" } else { "no SPF" };
    println!("{name}: {} ({}, {spf})", address(source.ip), source.because.as_str());
    for hop in hops.listed {
        let verdict = hop.skipped.map_or("chosen", |why| why.as_str());
        println!("    {:<40} {verdict}", address(hop.ip));
    }
}
