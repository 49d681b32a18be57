//! Tests of single decisions, as tables; their interplay is explored by the model test.
//! They never touch a store.

use super::*;

fn listing(records: &[u64], committed: &[u64]) -> Listing {
    let set = |epochs: &[u64]| epochs.iter().map(|e| Epoch(*e)).collect();
    Listing { records: set(records), committed: set(committed) }
}

fn valid(generation: u64) -> Reading {
    Reading::Valid { generation: Generation(generation), commits: true }
}

fn opened(listing: Listing, readings: &[(u64, Reading)]) -> OpenStep {
    let readings = readings.iter().map(|(e, r)| (Epoch(*e), *r)).collect();
    open(&OpenFacts { listing: Some(listing), readings, later: Some(false) })
}

fn resume(from: Option<u64>, owed: bool, next: u64, generation: u64, regressed: Option<u64>) -> OpenStep {
    let (from, regressed) = (from.map(Epoch), regressed.map(Epoch));
    OpenStep::Ready(Resume { from, owed, next: Epoch(next), generation: Generation(generation), regressed })
}

#[test]
fn opening_reads_the_newest_record_and_nothing_else() {
    assert_eq!(open(&OpenFacts::default()), OpenStep::List);
    assert_eq!(opened(listing(&[], &[]), &[]), resume(None, false, 1, 1, None));
    assert_eq!(opened(listing(&[8, 9], &[8]), &[]), OpenStep::Read(Epoch(9)));
    assert_eq!(opened(listing(&[8, 9], &[8]), &[(9, valid(4))]), resume(Some(9), true, 10, 5, None));
    assert_eq!(opened(listing(&[8, 9], &[8, 9]), &[(9, valid(4))]), resume(Some(9), false, 10, 5, None));
    assert_eq!(opened(listing(&[8, 9], &[8]), &[(9, Reading::Missing)]), OpenStep::Relist(Epoch(9)));
    let claim = Reading::Valid { generation: Generation(4), commits: false };
    assert_eq!(opened(listing(&[9], &[]), &[(9, claim)]), resume(Some(9), false, 10, 5, None));
}

#[test]
fn what_was_read_counts_only_if_nothing_later_is_listed_afterwards() {
    let readings: BTreeMap<_, _> = [(Epoch(9), valid(4))].into();
    let step = |later| open(&OpenFacts { listing: Some(listing(&[8, 9], &[])), readings: readings.clone(), later });
    assert_eq!(step(None), OpenStep::LookLater(Epoch(9)));
    assert_eq!(step(Some(true)), OpenStep::Relist(Epoch(9)));
    assert_eq!(step(Some(false)), resume(Some(9), true, 10, 5, None));
}

#[test]
fn a_damaged_record_is_skipped_once_and_its_number_stays_taken() {
    let damaged = (9, Reading::Corrupt);
    assert_eq!(opened(listing(&[8, 9], &[8]), &[damaged]), OpenStep::Read(Epoch(8)));
    assert_eq!(opened(listing(&[8, 9], &[8]), &[damaged, (8, valid(4))]), resume(Some(8), false, 10, 6, Some(9)));
    assert_eq!(opened(listing(&[8, 9], &[]), &[damaged, (8, valid(4))]), resume(Some(8), true, 10, 6, Some(9)));
    assert_eq!(opened(listing(&[8, 9], &[]), &[damaged, (8, Reading::Missing)]), OpenStep::Relist(Epoch(8)));
}

#[test]
fn nothing_older_than_the_record_before_is_ever_used() {
    let damaged = (9, Reading::Corrupt);
    let refuse = |epochs: &[u64]| OpenStep::Refuse(epochs.iter().map(|e| Epoch(*e)).collect());
    assert_eq!(opened(listing(&[7, 8, 9], &[]), &[damaged, (8, Reading::Corrupt)]), refuse(&[9, 8]));
    assert_eq!(opened(listing(&[7, 9], &[]), &[damaged]), refuse(&[9]), "7 may be garbage");
    assert_eq!(opened(listing(&[1], &[]), &[(1, Reading::Corrupt)]), refuse(&[1]), "never silently empty");
}

#[test]
fn a_record_is_canonical_only_if_stored_and_nothing_is_later() {
    use CreateReply::{Conflict, Created};
    let step = |create, found, later| append(&AppendFacts { create, found, later });
    assert_eq!(step(None, None, None), AppendStep::Create);
    assert_eq!(step(Some(Created), None, None), AppendStep::LookLater);
    assert_eq!(step(Some(Created), None, Some(false)), AppendStep::Canonical);
    assert_eq!(step(Some(Created), None, Some(true)), AppendStep::Lost);
    assert_eq!(step(Some(Conflict), None, None), AppendStep::ReadBack);
    assert_eq!(step(Some(Conflict), Some(Found::Ours), None), AppendStep::LookLater);
    assert_eq!(step(Some(Conflict), Some(Found::Ours), Some(false)), AppendStep::Canonical);
    assert_eq!(step(Some(Conflict), Some(Found::Ours), Some(true)), AppendStep::Lost);
    assert_eq!(step(Some(Conflict), Some(Found::Missing), None), AppendStep::Again);
    for later in [None, Some(false), Some(true)] {
        assert_eq!(step(Some(Conflict), Some(Found::Other), later), AppendStep::Lost);
    }
}

#[test]
fn a_commit_is_marked_when_the_mark_is_there_whoever_wrote_it() {
    use CreateReply::{Conflict, Created};
    let step = |create, present| mark(&MarkFacts { create, present });
    assert_eq!(step(None, None), MarkStep::Create);
    assert_eq!(step(Some(Created), None), MarkStep::Marked);
    assert_eq!(step(Some(Conflict), None), MarkStep::LookUp);
    assert_eq!(step(Some(Conflict), Some(true)), MarkStep::Marked);
    assert_eq!(step(Some(Conflict), Some(false)), MarkStep::Again);
}

#[test]
fn garbage_is_what_is_older_than_the_kept_and_only_if_all_kept_are_readable() {
    let mut facts = CollectFacts::default();
    assert_eq!(collect(&facts, 2), CollectStep::List);
    facts.listing = Some(listing(&[3, 4, 5, 6], &[2, 3, 4, 5]));
    assert_eq!(collect(&facts, 2), CollectStep::Check(Epoch(6)));
    facts.readable.insert(Epoch(6), true);
    assert_eq!(collect(&facts, 2), CollectStep::Check(Epoch(5)));
    facts.readable.insert(Epoch(5), true);
    assert_eq!(collect(&facts, 2), CollectStep::LookLater(Epoch(6)));
    facts.later = Some(true);
    assert_eq!(collect(&facts, 2), CollectStep::Overtaken);
    facts.later = Some(false);

    let mut deleted = Vec::new();
    while let CollectStep::Delete(garbage) = collect(&facts, 2) {
        deleted.push(garbage);
        facts.deleted.insert(garbage);
    }
    let (record, mark) = (|e| Garbage::Record(Epoch(e)), |e| Garbage::Committed(Epoch(e)));
    assert_eq!(deleted, [record(3), record(4), mark(2), mark(3), mark(4)]);
    assert_eq!(collect(&facts, 2), CollectStep::Done { oldest: Some(Epoch(5)) });

    facts.readable.insert(Epoch(5), false);
    assert_eq!(collect(&facts, 2), CollectStep::Hold(Epoch(5)));
    let few = CollectFacts { listing: Some(listing(&[6], &[1])), ..CollectFacts::default() };
    assert_eq!(collect(&few, 2), CollectStep::Done { oldest: None });
}

#[test]
fn state_is_dead_only_if_old_unreferenced_and_recognised() {
    let oldest = Epoch(5);
    assert!(is_dead_state(Some(Epoch(4)), false, oldest));
    assert!(!is_dead_state(Some(Epoch(4)), true, oldest), "referenced by a kept epoch");
    assert!(!is_dead_state(Some(Epoch(5)), false, oldest), "may be under way");
    assert!(!is_dead_state(None, false, oldest), "not ours to judge");
}

#[test]
fn a_store_arbitrates_if_one_create_wins_and_its_content_stays() {
    use CreateReply::{Conflict, Created};
    let cases = [
        ([Created, Conflict], Some(0), true),
        ([Conflict, Created], Some(1), true),
        ([Conflict, Conflict], Some(0), true),
        ([Created, Created], Some(1), false),
        ([Created, Conflict], Some(1), false),
        ([Created, Conflict], None, false),
        ([Conflict, Conflict], None, false),
    ];
    for (replies, content, expected) in cases {
        assert_eq!(arbitrates(&ProbeFacts { replies, content }), expected, "{replies:?} {content:?}");
    }
}

#[test]
fn an_epoch_goes_back_only_if_all_its_anchors_have_aborted() {
    use Fate::{Aborted, Committed};
    for (fates, expected) in [
        (&[][..], Settlement::Forward),
        (&[Committed], Settlement::Forward),
        (&[Aborted], Settlement::Back),
        (&[Committed, Committed], Settlement::Forward),
        (&[Aborted, Aborted], Settlement::Back),
        (&[Committed, Aborted], Settlement::Torn),
    ] {
        assert_eq!(settle(fates), expected, "{fates:?}");
    }
}
