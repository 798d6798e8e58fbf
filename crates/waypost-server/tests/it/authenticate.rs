//! A policy that asks for SPF and DMARC needs somebody who finds them out (E2).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use waypost_auth::{Authentication, Question};
use waypost_net::authentication::{AuthenticationFuture, Authenticator};
use waypost_net::dns::StaticResolver;
use waypost_server::{Options, Server, ServerError};
use waypost_smtp::client::SharedBytes;

/// Knows nothing.
struct Silent;

impl Authenticator for Silent {
    fn authenticate(&self, _: SharedBytes, questions: Vec<Question>) -> AuthenticationFuture<'_> {
        let answers: Vec<Authentication> = questions.iter().map(Question::unanswered).collect();
        Box::pin(async move { answers })
    }
}

fn options(folder: &Path, mode: &str) -> Options {
    let text = format!(
        "[server]\nhostname = \"mx.s.example\"\nspool = \"spool\"\n[[listener]]\nname = \"mx\"\n\
         role = \"mx\"\nbind = \"127.0.0.1:0\"\n[[organization]]\nname = \"Solarmora\"\n\
         domains = [\"s.example\"]\nauthenticate = \"{mode}\"\n"
    );
    let path = folder.join("waypost.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = waypost_server::load(&path).unwrap();
    Options {
        policy: loaded.policy.unwrap(),
        base: loaded.base,
        resolver: Some(Arc::new(StaticResolver::default())),
        authenticator: None,
    }
}

#[tokio::test]
async fn e2_without_an_authenticator_the_policy_is_refused_at_start_and_reload() {
    let folder = tempfile::tempdir().unwrap();
    let error = Server::start(options(folder.path(), "report")).await.err().unwrap();
    assert!(matches!(&error, ServerError::Authenticator(name) if &**name == "Solarmora"));
    for part in ["Solarmora", "E2", "authenticate = \"off\""] {
        assert!(error.to_string().contains(part), "{error}");
    }

    let server = Server::start(options(folder.path(), "off")).await.unwrap();
    let other = options(folder.path(), "enforce").policy;
    let error = server.reload(other, "a test", Vec::new()).await.err().unwrap();
    assert!(matches!(error, ServerError::Authenticator(_)), "{error}");
    server.stop(Duration::from_secs(5)).await;

    let mut with = options(folder.path(), "enforce");
    with.authenticator = Some(Arc::new(Silent));
    Server::start(with).await.unwrap().stop(Duration::from_secs(5)).await;
}
