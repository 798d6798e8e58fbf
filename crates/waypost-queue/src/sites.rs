//! Values that many messages share: their sites, and why the last attempt there failed.

use std::collections::HashMap;
use std::sync::Arc;

use waypost_types::Failure;

use crate::Site;

/// Sites that somebody has, each with its last failure.
pub(crate) type Sites = HashMap<Arc<Site>, Option<Arc<Failure>>>;

/// The one value for equal sites; those that nobody has any more are dropped now and then.
pub(crate) fn shared(sites: &mut Sites, site: &Arc<Site>) -> Arc<Site> {
    if let Some((shared, _)) = sites.get_key_value(site) {
        return Arc::clone(shared);
    }
    if sites.len() == sites.capacity() {
        sites.retain(|site, _| Arc::strong_count(site) > 1);
        // At least half of it is free then, so the next sweep is as far off as this one was dear.
        sites.reserve(sites.len() + 16);
    }
    sites.insert(Arc::clone(site), None);
    Arc::clone(site)
}

/// The one value for equal failures that follow one another at a site.
pub(crate) fn shared_failure(sites: &mut Sites, site: &Site, failure: &Failure) -> Arc<Failure> {
    let Some(last) = sites.get_mut(site) else { return Arc::new(failure.clone()) };
    match last {
        Some(last) if **last == *failure => Arc::clone(last),
        _ => Arc::clone(last.insert(Arc::new(failure.clone()))),
    }
}
