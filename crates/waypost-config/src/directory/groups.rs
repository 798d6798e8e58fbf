//! Groups in groups: everyone who is in each, and the cycles.

use super::Entry;

/// Expands nested groups: for each group everyone in it, the nested groups themselves too, sorted and
/// each once. Groups on a cycle, or above one, are not expanded; `on_cycle` is told each cycle once.
///
/// Walks level by level instead of calling itself, so depth costs no stack.
pub(super) fn expand(
    direct: Vec<Vec<Entry>>,
    mut on_cycle: impl FnMut(&[usize]),
) -> Vec<Vec<Entry>> {
    let mut waits_for: Vec<usize> = vec![0; direct.len()];
    let mut parents: Vec<Vec<usize>> = vec![Vec::new(); direct.len()];
    for (group, members) in direct.iter().enumerate() {
        for child in subgroups(members) {
            if let (Some(above), Some(count)) = (parents.get_mut(child), waits_for.get_mut(group)) {
                above.push(group);
                *count += 1;
            }
        }
    }
    let mut expanded = direct;
    let mut ready: Vec<usize> =
        waits_for.iter().enumerate().filter(|(_, count)| **count == 0).map(|(at, _)| at).collect();
    while let Some(group) = ready.pop() {
        let mut all = expanded.get(group).cloned().unwrap_or_default();
        let nested: Vec<_> = subgroups(&all).filter_map(|child| expanded.get(child)).collect();
        let below: Vec<Entry> = nested.into_iter().flatten().copied().collect();
        all.extend(below);
        all.sort_unstable();
        all.dedup();
        if let Some(slot) = expanded.get_mut(group) {
            *slot = all;
        }
        for above in parents.get(group).into_iter().flatten() {
            if let Some(count) = waits_for.get_mut(*above) {
                *count -= 1;
                if *count == 0 {
                    ready.push(*above);
                }
            }
        }
    }
    report_cycles(&expanded, &waits_for, &mut on_cycle);
    for (members, _) in expanded.iter_mut().zip(&waits_for).filter(|(_, count)| **count > 0) {
        members.sort_unstable();
        members.dedup();
    }
    expanded
}

/// Every group that still waits has a member that still waits: following it leads round a cycle.
fn report_cycles(members: &[Vec<Entry>], waits_for: &[usize], on_cycle: &mut impl FnMut(&[usize])) {
    let waits = |group: usize| waits_for.get(group).is_some_and(|count| *count > 0);
    let mut seen = vec![false; members.len()];
    for start in (0..members.len()).filter(|group| waits(*group)) {
        let mut path: Vec<usize> = Vec::new();
        let mut here = start;
        while let Some(unseen) = seen.get_mut(here).filter(|seen| !**seen) {
            *unseen = true;
            path.push(here);
            let list = members.get(here).map(Vec::as_slice).unwrap_or_default();
            match subgroups(list).find(|child| waits(*child)) {
                Some(next) => here = next,
                None => break,
            }
        }
        if let Some(from) = path.iter().position(|group| *group == here)
            && let Some(cycle) = path.get(from..)
            && subgroups(members.get(*cycle.last().unwrap_or(&here)).map_or(&[], Vec::as_slice))
                .any(|child| child == here)
        {
            on_cycle(cycle);
        }
    }
}

fn subgroups(members: &[Entry]) -> impl Iterator<Item = usize> {
    members.iter().filter_map(|entry| match entry {
        Entry::Group(index) => usize::try_from(*index).ok(),
        _ => None,
    })
}
