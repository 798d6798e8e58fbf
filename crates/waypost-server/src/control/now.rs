//! What holds of a message at the moment of asking.

use waypost_config::policy::{Drawing, Explanation};
use waypost_queue::Status;
use waypost_route::{Draw, Health};
use waypost_types::RouteName;

use super::answer::{Now, QuotaLine, WayNow};
use super::desk::Desk;
use super::quotas::{self, Subject};

impl Desk {
    /// Where the message's deliveries would go now, and the headroom of who relays it.
    pub(super) async fn now(&self, status: &Status, decision: Option<&serde_json::Value>) -> Now {
        let policy = self.core.policy();
        let at = self.core.clock.now();
        let told = decision.and_then(|decision| Explanation::stored(&decision.to_string()));
        let quota = match &told {
            Some(told) => self.headroom(told).await,
            None => Vec::new(),
        };
        let draw = |route: &RouteName| Draw::new(self.core.draw_key, status.entry.id, route);
        let way = |(place, owed): (usize, &waypost_queue::Owed)| {
            let delivery = &owed.delivery;
            let told = told.as_ref().and_then(|told| told.deliveries.get(place));
            let told = told.filter(|told| told.recipient == delivery.recipient.to_string());
            let tls_by = told.and_then(|told| told.tls_by.as_deref());
            let hosts =
                |health: &Health| policy.hosts_of(delivery, &Drawing::DrawnNow(&draw, health, at));
            WayNow {
                hosts: match &self.deliverer {
                    Some(deliverer) => hosts(&deliverer.health()),
                    None => hosts(&Health::default()),
                },
                tls_policy: policy.tls_of(delivery, tls_by),
            }
        };
        let ways = status.entry.deliveries.iter().enumerate().map(way).collect();
        Now { at, version: policy.version().into(), ways, quota }
    }

    async fn headroom(&self, told: &Explanation) -> Vec<QuotaLine> {
        let Some(admission) = &told.admission else { return Vec::new() };
        let organization = admission.organization.clone();
        let user = admission.user.as_ref().and_then(|user| user.parse().ok());
        let subject = match user {
            Some(user) => Subject::User(organization, user),
            None => Subject::Organization(organization),
        };
        let now = self.core.clock.now();
        quotas::lines(&self.core.policy(), &self.core.quotas, now, &subject).await
    }
}
