//! Messages that are held until what they announce is durable. Pure bookkeeping: it sends nothing.

use std::collections::{HashMap, HashSet};

use super::object::ObjectId;

/// The held messages of one reader.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_id: HashMap<String, Waiting>,
    /// Messages by what they wait for.
    by_object: HashMap<ObjectId, Vec<String>>,
    deletable: Vec<String>,
    releasable: Vec<String>,
}

#[derive(Debug)]
struct Waiting {
    /// Of the newest delivery.
    receipt: String,
    objects: HashSet<ObjectId>,
    /// It announces something that another task reads, too.
    of_others: bool,
}

impl Held {
    /// Holds a message until all of `objects` are done. One that is held already has been delivered again: only its newest receipt is good.
    pub(super) fn hold(&mut self, id: &str, receipt: String, objects: HashSet<ObjectId>, of_others: bool) {
        for object in &objects {
            let messages = self.by_object.entry(*object).or_default();
            if !messages.iter().any(|held| held == id) {
                messages.push(id.to_owned());
            }
        }
        self.by_id.insert(id.to_owned(), Waiting { receipt, objects, of_others });
    }

    /// A message that nothing is left to do for.
    pub(super) fn delete(&mut self, receipt: String) {
        self.deletable.push(receipt);
    }

    /// These are done: messages that waited for nothing else can be deleted, or, if others still read what they announce, shown again.
    pub(super) fn done(&mut self, objects: &[ObjectId]) {
        for object in objects {
            for id in self.by_object.remove(object).unwrap_or_default() {
                let Some(waiting) = self.by_id.get_mut(&id) else { continue };
                waiting.objects.remove(object);
                if waiting.objects.is_empty()
                    && let Some(waiting) = self.by_id.remove(&id)
                {
                    let list = if waiting.of_others { &mut self.releasable } else { &mut self.deletable };
                    list.push(waiting.receipt);
                }
            }
        }
    }

    /// Receipts to keep hidden.
    pub(super) fn receipts(&self) -> Vec<String> {
        self.by_id.values().map(|waiting| waiting.receipt.clone()).collect()
    }

    pub(super) fn take_deletable(&mut self) -> Vec<String> {
        std::mem::take(&mut self.deletable)
    }

    /// Receipts of messages to show again.
    pub(super) fn take_releasable(&mut self) -> Vec<String> {
        std::mem::take(&mut self.releasable)
    }

    /// How many messages are hidden by us.
    pub(super) fn len(&self) -> usize {
        self.by_id.len() + self.deletable.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>(names: [&str; N]) -> HashSet<ObjectId> {
        names.map(ObjectId::of).into()
    }

    #[test]
    fn a_message_is_deleted_when_all_it_announces_is_done() {
        let mut held = Held::default();
        held.hold("m", "r".to_owned(), ids(["a", "b"]), false);
        held.done(&[ObjectId::of("a")]);
        assert!(held.take_deletable().is_empty());
        held.done(&[ObjectId::of("b")]);
        assert_eq!(held.take_deletable(), ["r"]);
        assert!(held.receipts().is_empty());
    }

    #[test]
    fn only_the_newest_receipt_of_a_message_is_used_and_each_duplicate_has_its_own() {
        let mut held = Held::default();
        held.hold("m", "old".to_owned(), ids(["a"]), false);
        held.hold("m", "new".to_owned(), ids(["a"]), false);
        held.hold("duplicate", "other".to_owned(), ids(["a"]), false);
        held.done(&[ObjectId::of("a")]);
        let mut deleted = held.take_deletable();
        deleted.sort();
        assert_eq!(deleted, ["new", "other"]);
    }

    #[test]
    fn a_message_that_others_still_need_is_shown_again() {
        let mut held = Held::default();
        held.hold("m", "r".to_owned(), ids(["a"]), true);
        held.done(&[ObjectId::of("a")]);
        assert!(held.take_deletable().is_empty());
        assert_eq!(held.take_releasable(), ["r"]);
    }
}
