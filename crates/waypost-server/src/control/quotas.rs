//! How far quotas are used.

use waypost_config::policy::Policy;
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

/// The limits of a subject, the user's before the organization's: the order in which they answer.
pub(crate) async fn lines(
    policy: &Policy,
    quotas: &Quotas,
    now: Timestamp,
    subject: &Subject,
) -> Vec<QuotaLine> {
    let (organization, users) = match subject {
        Subject::Organization(name) => (name, vec![None]),
        Subject::User(name, user) => (name, vec![Some(user), None]),
    };
    let mut lines = Vec::new();
    for user in users {
        let Some(limits) = policy.relay().limits(organization, user) else { continue };
        let used = quotas.usage(now, organization, user, &limits).await;
        lines.extend(used.into_iter().map(|quota| QuotaLine {
            organization: organization.clone(),
            user: user.cloned(),
            mode: limits.mode,
            quota,
        }));
    }
    lines
}
