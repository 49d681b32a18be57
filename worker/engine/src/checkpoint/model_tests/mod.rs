//! The model test of the epoch protocol: every interleaving of a few owners, over production's own decisions.
//! It never touches a real store; that the real code does what the decisions say is for `fault_tests`.
//!
//! **What happens.** Two or three owners open, claim, write, commit, mark, acknowledge and collect garbage, each at its own pace:
//! any of them may stop for ever (a crash), sleep while the others go on and then resume (a zombie), or start while
//! others still run (a rival). Each request that changes the store may be *late*: its sender gets no answer and tries again,
//! and the request arrives at any later time, or never. That covers a lost reply (late, arriving at once), a request that was
//! lost, a duplicate (late, arriving after the retry) and reordering.
//!
//! **What must hold**, checked on every step:
//! * at most one record per epoch is ever canonical: permits are given for it, and recovery reads it, alone;
//! * a commit is of the canonical record, so no two different records are committed for one epoch;
//! * the canonical records form one chain: each continues exactly where the one before ended, generations grow;
//! * an epoch follows, and a source is acknowledged, only after everything before is durable and committed;
//! * garbage collection deletes only what was committed and is not the newest;
//! * from every state that can be reached, a new owner without faults makes progress.
//!
//! **Does it see anything?** Each mutant below breaks one rule; the explorer must find the damage.

mod explorer;
mod world;

use explorer::{Limits, explore};
use world::Rules;

use super::decide::{
    self, AppendFacts, AppendStep, CollectFacts, CollectStep, CreateReply, Debt, Fate, Found, Garbage, Gate, OpenFacts, OpenStep, Resume,
    Settlement,
};
use super::{Epoch, Generation};

const PRODUCTION: Rules = Rules {
    open: decide::open,
    may_append: decide::may_append,
    append: decide::append,
    settle: decide::settle,
    mark: decide::mark,
    collect: decide::collect,
};

/// Small, and large enough for every mutant to be found.
const SMALL: Limits = Limits { owners: 2, epochs: 4, late: 1, sweeps: 1, retained: 1, anchored: false };
/// The same with a sink that is an anchor. Going back needs the epoch before the newest.
const ANCHORED: Limits = Limits { retained: 2, anchored: true, ..SMALL };

fn assert_holds(limits: Limits) {
    let states = explore(&PRODUCTION, limits).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{states} states, all fine, with {limits:?}");
    assert!(states > 50_000, "the explorer hardly moved: {states}");
}

#[test]
fn no_interleaving_of_two_owners_breaks_the_protocol() {
    assert_holds(Limits { epochs: 5, ..SMALL });
}

#[test]
fn no_interleaving_of_three_owners_breaks_the_protocol() {
    assert_holds(Limits { owners: 3, late: 0, ..SMALL });
}

#[test]
fn no_interleaving_breaks_the_protocol_with_an_anchor() {
    assert_holds(Limits { epochs: 5, ..ANCHORED });
    assert_holds(Limits { owners: 3, late: 0, ..ANCHORED });
}

/// Minutes, and gigabytes: `MILLRACE_MODEL=deep cargo test -p millrace-engine deeper -- --nocapture`.
#[test]
fn no_interleaving_in_a_deeper_search_breaks_the_protocol() {
    if std::env::var("MILLRACE_MODEL").as_deref() != Ok("deep") {
        return assert_holds(Limits { owners: 3, sweeps: 0, late: 0, ..SMALL });
    }
    assert_holds(Limits { epochs: 5, late: 2, ..SMALL });
    assert_holds(Limits { owners: 3, epochs: 3, late: 2, ..SMALL });
    assert_holds(Limits { owners: 3, epochs: 5, late: 0, retained: 2, ..SMALL });
    assert_holds(Limits { owners: 3, ..SMALL });
}

fn assert_found(rules: &Rules, expected: &str) {
    assert_found_within(rules, SMALL, expected);
}

fn assert_found_within(rules: &Rules, limits: Limits, expected: &str) {
    let violation = explore(rules, limits).expect_err("the explorer found nothing wrong with a broken rule").to_string();
    assert!(violation.contains(expected), "found something else than {expected:?}:\n{violation}");
}

#[test]
fn trusting_a_create_without_looking_for_later_epochs_is_found() {
    fn append(facts: &AppendFacts) -> AppendStep {
        match decide::append(facts) {
            AppendStep::LookLater => AppendStep::Canonical,
            step => step,
        }
    }
    assert_found(&Rules { append, ..PRODUCTION }, "is not canonical");
}

#[test]
fn trusting_a_read_without_looking_for_later_epochs_is_found() {
    fn open(facts: &OpenFacts) -> OpenStep {
        decide::open(&OpenFacts { later: Some(false), ..facts.clone() })
    }
    assert_found(&Rules { open, ..PRODUCTION }, "what recovery reads is not canonical");
}

#[test]
fn taking_any_conflict_for_our_own_lost_reply_is_found() {
    fn append(facts: &AppendFacts) -> AppendStep {
        decide::append(&AppendFacts { found: facts.found.map(|_| Found::Ours), ..*facts })
    }
    assert_found(&Rules { append, ..PRODUCTION }, "is not canonical");
}

#[test]
fn taking_a_lost_reply_for_a_rival_costs_progress_only() {
    // Not a mutant that does damage: giving up is always safe. It shows that safety does not rest on the comparison.
    fn append(facts: &AppendFacts) -> AppendStep {
        decide::append(&AppendFacts { found: facts.found.map(|_| Found::Other), ..*facts })
    }
    explore(&Rules { append, ..PRODUCTION }, SMALL).unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn writing_on_before_the_commit_is_marked_is_found() {
    fn may_append(_: Debt) -> Gate {
        Gate::Append
    }
    assert_found(&Rules { may_append, ..PRODUCTION }, "follows an uncommitted epoch");
}

#[test]
fn forgetting_to_roll_a_commit_forward_is_found() {
    fn open(facts: &OpenFacts) -> OpenStep {
        match decide::open(facts) {
            OpenStep::Ready(resume) => OpenStep::Ready(Resume { owed: false, ..resume }),
            step => step,
        }
    }
    assert_found(&Rules { open, ..PRODUCTION }, "follows an uncommitted epoch");
}

#[test]
fn keeping_the_generation_of_the_previous_owner_is_found() {
    fn open(facts: &OpenFacts) -> OpenStep {
        match decide::open(facts) {
            OpenStep::Ready(resume) => {
                OpenStep::Ready(Resume { generation: Generation(resume.generation.0.saturating_sub(1).max(1)), ..resume })
            }
            step => step,
        }
    }
    assert_found(&Rules { open, ..PRODUCTION }, "generation");
}

#[test]
fn resuming_from_the_oldest_record_is_found() {
    fn open(facts: &OpenFacts) -> OpenStep {
        let mut facts = facts.clone();
        if let Some(listing) = &mut facts.listing {
            listing.records = listing.records.first().copied().into_iter().collect();
        }
        decide::open(&facts)
    }
    assert_found(&Rules { open, ..PRODUCTION }, "makes no progress");
}

#[test]
fn collecting_the_newest_record_is_found() {
    fn collect(facts: &CollectFacts, _: usize) -> CollectStep {
        let Some(listing) = &facts.listing else { return CollectStep::List };
        let newest: Option<Epoch> = listing.records.last().copied();
        let garbage = newest.map(Garbage::Record).filter(|garbage| !facts.deleted.contains(garbage));
        garbage.map_or(CollectStep::Done { oldest: None }, CollectStep::Delete)
    }
    assert_found(&Rules { collect, ..PRODUCTION }, "the newest record is deleted");
}

#[test]
fn creating_without_a_condition_is_found() {
    // As with a store that ignores the condition: every create is reported as successful.
    fn append(facts: &AppendFacts) -> AppendStep {
        decide::append(&AppendFacts { create: facts.create.map(|_| CreateReply::Created), ..*facts })
    }
    assert_found(&Rules { append, ..PRODUCTION }, "is not canonical");
}

#[test]
fn taking_an_aborted_transaction_for_a_committed_one_is_found() {
    fn settle(_: &[Fate]) -> Settlement {
        Settlement::Forward
    }
    assert_found_within(&Rules { settle, ..PRODUCTION }, ANCHORED, "is not committed");
}

#[test]
fn taking_a_committed_transaction_for_an_aborted_one_is_found() {
    fn settle(_: &[Fate]) -> Settlement {
        Settlement::Back
    }
    assert_found_within(&Rules { settle, ..PRODUCTION }, ANCHORED, "positions do not continue");
}

#[test]
fn retaining_too_little_to_go_back_is_found() {
    assert_found_within(&PRODUCTION, Limits { retained: 1, ..ANCHORED }, "makes no progress");
}
