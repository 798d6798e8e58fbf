// From README.md, by scripts/outside --update.
use std::{path::Path, time::Duration};
use waypost_server::{Options, Server, load};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let loaded = load(Path::new("waypost.toml"))?;
    let policy = loaded.policy.ok_or_else(|| loaded.report.render(true))?;
    let options = Options { policy, base: loaded.base, resolver: None, authenticator: None };
    let server = Server::start(options).await?;
    for (name, address) in server.addresses() {
        println!("{name} listens on {address}");
    }
    tokio::signal::ctrl_c().await?;
    server.stop(Duration::from_secs(30)).await;
    Ok(())
}
