//! How far quotas are used.

use std::net::IpAddr;

use waypost_config::policy::Policy;
use waypost_relay::{QuotaSubject, network};
use waypost_types::{Mailbox, Timestamp};

use super::answer::QuotaLine;
use crate::quotas::Quotas;

/// Whose quotas are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// An organization.
    Organization(Box<str>),
    /// A user by primary address, and the organization that his mail counts for too.
    User(Box<str>, Mailbox),
    /// A client of an organization that limits clients.
    Client(Box<str>, IpAddr),
}

/// The subjects of a request.
///
/// # Errors
/// Why there is none.
pub(crate) fn subjects(policy: &Policy, of: Option<&str>) -> Result<Vec<Subject>, String> {
    let organizations = policy.organizations().iter();
    let Some(of) = of else {
        return Ok(organizations.map(|one| Subject::Organization(one.name.clone())).collect());
    };
    let same = |name: &str| name.to_lowercase() == of.to_lowercase();
    if let Some(found) = organizations.clone().find(|one| same(&one.name)) {
        return Ok(vec![Subject::Organization(found.name.clone())]);
    }
    if let Ok(client) = of.trim_matches(['[', ']']).parse::<IpAddr>() {
        let limits = |name: &str| policy.relay().limits(name, None);
        let limited = organizations.filter(|one| {
            limits(&one.name).is_some_and(|limits| limits.recipients_per_client_per_day.is_some())
        });
        let found: Vec<_> =
            limited.map(|one| Subject::Client(one.name.clone(), network(client))).collect();
        return match found.is_empty() {
            true => {
                Err("no organization limits clients; `recipients_per_client_per_day` would".into())
            }
            false => Ok(found),
        };
    }
    let Ok(address) = of.parse::<Mailbox>() else {
        let names: Vec<&str> = organizations.map(|one| &*one.name).collect();
        let names = names.join(", ");
        return Err(format!("there is no organization `{of}`; there are: {names}"));
    };
    match policy.active_user(&address) {
        Err(error) => Err(error.to_string()),
        Ok(None) => {
            Err(format!("{address} is no active user here; only those have limits of their own"))
        }
        Ok(Some(user)) => {
            let owner = policy.receiving(&user).map(|owner| owner.name.clone());
            let owner = owner.ok_or_else(|| format!("{user} is in no organization's domain"))?;
            Ok(vec![Subject::User(owner, user)])
        }
    }
}

/// The limits of a subject, the user's before the organization's, a login's and a client's last: the
/// order in which they answer.
pub(crate) async fn lines(
    policy: &Policy,
    quotas: &Quotas,
    now: Timestamp,
    subject: &Subject,
) -> Vec<QuotaLine> {
    let (organization, users) = match subject {
        Subject::Organization(name) => (name, vec![None]),
        Subject::User(name, user) => (name, vec![Some(user), None]),
        Subject::Client(name, _) => (name, vec![]),
    };
    let mut lines = Vec::new();
    for user in users {
        let Some(limits) = policy.relay().limits(organization, user) else { continue };
        let (counted, used) = quotas.usage(now, organization, user, &limits).await;
        lines.extend(used.into_iter().map(|quota| QuotaLine {
            organization: organization.clone(),
            user: user.cloned(),
            login: None,
            client: None,
            mode: limits.mode,
            counted,
            quota,
        }));
    }
    let Some(limits) = policy.relay().limits(organization, None) else { return lines };
    let (login, client) = match subject {
        Subject::Organization(_) => return lines,
        Subject::User(_, user) => (Some(user.clone()), None),
        Subject::Client(_, client) => (None, Some(*client)),
    };
    let caller = QuotaSubject {
        login: login.clone(),
        client,
        ..QuotaSubject::new((**organization).into(), None, limits)
    };
    let (counted, used) = quotas.usage_of_caller(now, &caller).await;
    lines.extend(used.into_iter().map(|quota| QuotaLine {
        organization: organization.clone(),
        user: None,
        login: login.clone(),
        client,
        mode: limits.mode,
        counted,
        quota,
    }));
    lines
}
