//! The policy in force, and when nobody uses it any more.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use waypost_config::policy::Policy;

/// A policy as sessions and deliverers hold it, whole, for as long as they need it (A12).
pub(crate) struct InForce {
    policy: Arc<Policy>,
    /// For whoever replaces it.
    unused: Mutex<Option<oneshot::Receiver<()>>>,
    /// Gone with the last use, behind the policy itself.
    _used: oneshot::Sender<()>,
}

impl Deref for InForce {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

impl InForce {
    fn new(policy: Arc<Policy>) -> Arc<Self> {
        let (used, unused) = oneshot::channel();
        Arc::new(Self { policy, unused: Mutex::new(Some(unused)), _used: used })
    }
}

/// Where the policy in force stands.
pub(crate) struct Current(ArcSwap<InForce>);

impl Current {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        Self(ArcSwap::new(InForce::new(policy)))
    }

    pub(crate) fn load(&self) -> Arc<InForce> {
        self.0.load_full()
    }

    /// Puts another one in force, whole and at once.
    pub(crate) fn replace(&self, policy: Arc<Policy>) -> Replaced {
        let old = self.0.swap(InForce::new(policy));
        let unused = old.unused.lock().unwrap_or_else(PoisonError::into_inner).take();
        Replaced { policy: Arc::clone(&old.policy), unused }
    }
}

/// A policy that was in force.
pub(crate) struct Replaced {
    policy: Arc<Policy>,
    unused: Option<oneshot::Receiver<()>>,
}

impl Deref for Replaced {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

impl Replaced {
    /// Frees it where nobody waits, once nobody uses it: it is large, and the last session under it is
    /// not to do that.
    pub(crate) fn drop_aside(self) {
        tokio::spawn(async move {
            if let Some(unused) = self.unused {
                // Never sent: it ends when the sender goes.
                let _ = unused.await;
            }
            drop_aside(self.policy);
        });
    }
}

/// Frees something large where nobody waits.
pub(crate) fn drop_aside<T: Send + 'static>(large: T) {
    drop(tokio::task::spawn_blocking(move || drop(large)));
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::time::Duration;

    use super::*;

    fn policy() -> Arc<Policy> {
        let text = "[[listener]]\nname = \"mx\"\nrole = \"mx\"\nbind = \"127.0.0.1:0\"\n\n\
                    [server]\nhostname = \"mx.example.com\"\nspool = \"spool\"\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waypost.toml");
        std::fs::write(&path, text).unwrap();
        let loaded = crate::load(&path).unwrap();
        loaded.policy.clone().unwrap_or_else(|| panic!("{}", loaded.report.render(false)))
    }

    #[tokio::test]
    async fn a_replaced_policy_is_freed_after_its_last_use_a12() {
        let first = policy();
        let freed: Weak<Policy> = Arc::downgrade(&first);
        let current = Current::new(first);
        let session = current.load();
        current.replace(policy()).drop_aside();
        assert!(!Arc::ptr_eq(&session, &current.load()));
        tokio::task::yield_now().await;
        assert_eq!(session.server.hostname.as_str(), "mx.example.com", "still whole");
        assert!(freed.upgrade().is_some());
        drop(session);
        let gone = async {
            while freed.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    }
}
