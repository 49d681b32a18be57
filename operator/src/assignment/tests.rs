//! The decision case by case. What happens over time is tested with the registry.

use millrace_crds::report::Assignment;

use super::*;

fn task(split: &str) -> TaskRef {
    TaskRef { input: "in".into(), split: split.into() }
}

/// A worker that holds splits: `3` runs, `3!` drains, `3.` is finished, `3?` was told of, `3^` has a high generation.
fn worker(splits: &[&str]) -> Worker {
    let hold = |text: &&str| {
        let (split, mark) = match text.char_indices().next_back() {
            Some((at, mark @ ('!' | '.' | '?' | '^'))) => (&text[..at], mark),
            _ => (*text, ' '),
        };
        let phase = match mark {
            '!' => Some(TaskPhase::Draining),
            '.' => Some(TaskPhase::Finished),
            '?' => None,
            _ => Some(TaskPhase::Running),
        };
        (task(split), Held { phase, generation: if mark == '^' { 9 } else { 1 }, draining: mark == '!' })
    };
    Worker { eligible: true, inputs: ["in".to_owned()].into(), whole: false, holds: splits.iter().map(hold).collect() }
}

/// The same of a plan that keeps state.
fn stateful(splits: &[&str]) -> Worker {
    let worker = worker(splits);
    let holds = worker.holds.into_iter().map(|(task, held)| if task.split == "all" { (TaskRef::whole(), held) } else { (task, held) });
    Worker { whole: true, holds: holds.collect(), ..worker }
}

fn view(distribution: Distribution, splits: Option<&[&str]>, workers: &[(&str, Worker)]) -> View {
    let splits = splits.map(|splits| splits.iter().map(|&split| split.to_owned()).collect());
    View {
        settled: true,
        inputs: [("in".to_owned(), Input { distribution, splits })].into(),
        workers: workers.iter().map(|(name, worker)| ((*name).to_owned(), worker.clone())).collect(),
        ..View::default()
    }
}

/// `a: 0 1! | b:` as text: `!` is draining, `*` enumerates.
fn told(view: &View) -> String {
    let one = |(name, assignment): (String, Assignment)| {
        let splits = assignment.tasks.iter().map(|task| {
            let mark = if assignment.draining.contains(task) { "!" } else { "" };
            format!(" {}{mark}", task.split)
        });
        format!("{name}{}:{}", if assignment.enumerate { "*" } else { "" }, splits.collect::<String>())
    };
    decide(view).into_iter().map(one).collect::<Vec<_>>().join(" | ")
}

const P: Distribution = Distribution::Partitioned;
const C: Distribution = Distribution::Competing;
const W: Distribution = Distribution::Whole;

#[test]
fn plans_that_keep_state() {
    let cases: &[(&str, View, &str)] = &[
        ("one worker has it, whatever splits there are", view(W, None, &[("a", stateful(&[])), ("b", stateful(&[]))]), "a*: all | b:"),
        ("it stays where it is", view(W, None, &[("a", stateful(&[])), ("b", stateful(&["all"]))]), "a*: | b: all"),
        ("also where it was only told", view(W, None, &[("a", stateful(&[])), ("b", stateful(&["all?"]))]), "a*: | b: all"),
        ("also when it has ended", view(W, None, &[("a", stateful(&[])), ("b", stateful(&["all."]))]), "a*: | b: all"),
        (
            "two run it: the higher generation keeps it",
            view(W, None, &[("a", stateful(&["all"])), ("b", stateful(&["all^"]))]),
            "a*: | b: all",
        ),
        ("what drained is let go before it runs again", view(W, None, &[("a", stateful(&["all!"])), ("b", stateful(&[]))]), "a*: | b:"),
        ("a worker whose plan keeps no state does not get it", view(W, None, &[("a", worker(&[])), ("b", stateful(&[]))]), "a*: | b: all"),
        ("and lets its splits go", view(W, Some(&["0"]), &[("a", worker(&["0"])), ("b", stateful(&[]))]), "a*: | b: all"),
        ("the other way round, too", view(P, Some(&["0"]), &[("a", stateful(&["all"])), ("b", worker(&[]))]), "a*: | b: 0"),
    ];
    for (name, view, expected) in cases {
        assert_eq!(told(view), *expected, "{name}");
    }
    let mut going = stateful(&["all"]);
    going.eligible = false;
    let moving = view(W, None, &[("a", going), ("b", stateful(&[]))]);
    assert_eq!(told(&moving), "a: all | b*:", "it moves once it has been let go");
    let mut unknown = view(W, None, &[("a", stateful(&[]))]);
    unknown.settled = false;
    assert_eq!(told(&unknown), "a*:", "somebody may be running it");
    let mut draining = view(W, None, &[("a", stateful(&["all"])), ("b", stateful(&[]))]);
    draining.drain = true;
    assert_eq!(told(&draining), "a*: all! | b:");
    assert!(!finished(&draining));
    draining.workers.insert("a".into(), stateful(&["all."]));
    assert!(finished(&draining));
    draining.workers.insert("a".into(), stateful(&[]));
    assert!(!finished(&draining), "nobody has finished it");
    assert_eq!(told(&draining), "a*: all! | b:", "it is started to be finished");
}

#[test]
fn partitions() {
    let four: Option<&[&str]> = Some(&["0", "1", "2", "3"]);
    let cases: &[(&str, View, &str)] = &[
        ("nobody has enumerated: somebody is told to", view(P, None, &[("a", worker(&[])), ("b", worker(&[]))]), "a*: | b:"),
        ("spread evenly", view(P, four, &[("a", worker(&[])), ("b", worker(&[]))]), "a*: 0 2 | b: 1 3"),
        ("one worker has all", view(P, four, &[("a", worker(&[]))]), "a*: 0 1 2 3"),
        ("what is balanced stays", view(P, four, &[("a", worker(&["2", "3"])), ("b", worker(&["0", "1"]))]), "a*: 2 3 | b: 0 1"),
        (
            "a newcomer gets nothing before it is let go",
            view(P, four, &[("a", worker(&["0", "1", "2", "3"])), ("b", worker(&[]))]),
            "a*: 0 1 | b:",
        ),
        ("then it does", view(P, four, &[("a", worker(&["0", "1"])), ("b", worker(&[]))]), "a*: 0 1 | b: 2 3"),
        (
            "what was told is not given to another",
            view(P, four, &[("a", worker(&["0?", "1?", "2?", "3?"])), ("b", worker(&[]))]),
            "a*: 0 1 | b:",
        ),
        (
            "least moves: five over two",
            view(P, Some(&["0", "1", "2", "3", "4"]), &[("a", worker(&["0", "1"])), ("b", worker(&["2", "3", "4"]))]),
            "a*: 0 1 | b: 2 3 4",
        ),
        ("more workers than splits", view(P, Some(&["0"]), &[("a", worker(&[])), ("b", worker(&["0"]))]), "a*: | b: 0"),
        (
            "two run it: the higher generation keeps it",
            view(P, Some(&["0"]), &[("a", worker(&["0"])), ("b", worker(&["0^"]))]),
            "a*: | b: 0",
        ),
        ("one that was told since keeps it", view(P, Some(&["0"]), &[("a", worker(&["0^"])), ("b", worker(&["0?"]))]), "a*: | b: 0"),
        ("what has ended is not moved", view(P, four, &[("a", worker(&["0.", "1.", "2.", "3."])), ("b", worker(&[]))]), "a*: 0 1 2 3 | b:"),
        ("a split that is gone is let go", view(P, Some(&["0"]), &[("a", worker(&["0", "9"]))]), "a*: 0"),
        ("what drained is let go before it runs again", view(P, Some(&["0"]), &[("a", worker(&["0!"]))]), "a*:"),
    ];
    for (name, view, expected) in cases {
        assert_eq!(told(view), *expected, "{name}");
    }
}

#[test]
fn queues() {
    let none: Option<&[&str]> = Some(&[]);
    let cases: &[(&str, View, &str)] = &[
        (
            "each its own, the lowest free",
            view(C, None, &[("a", worker(&[])), ("b", worker(&["0"])), ("c", worker(&[]))]),
            "a*: 1 | b: 0 | c: 2",
        ),
        ("a number is kept", view(C, none, &[("a", worker(&["5"]))]), "a*: 5"),
        ("what is left over is finished", view(C, Some(&["0", "1", "2"]), &[("a", worker(&["0"]))]), "a*: 0 1! 2!"),
        (
            "left overs are spread",
            view(C, Some(&["0", "1", "2", "3"]), &[("a", worker(&["0"])), ("b", worker(&["1"]))]),
            "a*: 0 2! | b: 1 3!",
        ),
        (
            "a newcomer takes a left over as its own",
            view(C, Some(&["0", "1"]), &[("a", worker(&["0"])), ("b", worker(&[]))]),
            "a*: 0 | b: 1",
        ),
        ("what drains stays until it is finished", view(C, Some(&["0", "1"]), &[("a", worker(&["0", "1!"]))]), "a*: 0 1!"),
        ("finished, but still listed: it stays", view(C, Some(&["1"]), &[("a", worker(&["0", "1."]))]), "a*: 0 1!"),
        ("finished and no longer listed: it goes", view(C, none, &[("a", worker(&["0", "1."]))]), "a*: 0"),
        ("two of one worker: the lowest is its own", view(C, none, &[("a", worker(&["4", "2"]))]), "a*: 2 4!"),
        ("numbers, not letters", view(C, none, &[("a", worker(&["10", "9"]))]), "a*: 10! 9"),
    ];
    for (name, view, expected) in cases {
        assert_eq!(told(view), *expected, "{name}");
    }
}

#[test]
fn ignorance_takes_nothing_away_and_gives_nothing_out() {
    for (distribution, expected) in [(P, "a*: 0 1 2 | b:"), (C, "a*: 0 1! 2! | b:")] {
        let mut view = view(distribution, Some(&["0", "1", "2", "3"]), &[("a", worker(&["0", "1", "2"])), ("b", worker(&[]))]);
        view.settled = false;
        assert_eq!(told(&view), expected, "{distribution:?}");
    }
}

#[test]
fn who_goes_is_told_nothing_new() {
    for distribution in [P, C] {
        let mut going = worker(&["0"]);
        going.eligible = false;
        let view = view(distribution, Some(&["0", "1"]), &[("a", going), ("b", worker(&["1"]))]);
        assert_eq!(told(&view), "a: 0 | b*: 1", "{distribution:?}");
    }
}

#[test]
fn the_enumerator_stays_the_same_as_long_as_it_can() {
    let mut view = view(P, Some(&[]), &[("a", worker(&[])), ("b", worker(&[]))]);
    view.enumerator = Some("b".into());
    assert_eq!(told(&view), "a: | b*:");
    view.workers.get_mut("b").unwrap().eligible = false;
    assert_eq!(told(&view), "a*: | b:");
}

#[test]
fn draining_drains_everything_and_starts_nothing_of_its_own() {
    let mut queue = view(C, Some(&["0", "1"]), &[("a", worker(&["0"])), ("b", worker(&[]))]);
    queue.drain = true;
    assert_eq!(told(&queue), "a*: 0! | b: 1!");
    let mut partitions = view(P, Some(&["0", "1"]), &[("a", worker(&["0"])), ("b", worker(&[]))]);
    partitions.drain = true;
    assert_eq!(told(&partitions), "a*: 0! | b: 1!");
}

#[test]
fn what_the_dead_have_left_is_finished() {
    let mut view = view(C, Some(&[]), &[("a", worker(&["0"]))]);
    view.orphans = [task("7")].into();
    assert_eq!(told(&view), "a*: 0 7!");
}

#[test]
fn an_input_that_a_plan_has_not_is_not_given_to_it() {
    let mut old = worker(&[]);
    old.inputs.clear();
    let view = view(P, Some(&["0", "1"]), &[("a", old), ("b", worker(&[]))]);
    assert_eq!(told(&view), "a*: | b: 0 1");
}

#[test]
fn several_inputs_are_balanced_together() {
    let mut view = view(P, Some(&["0"]), &[("a", worker(&[])), ("b", worker(&[]))]);
    view.inputs.insert("other".into(), Input { distribution: P, splits: Some(["0".to_owned()].into()) });
    for worker in view.workers.values_mut() {
        worker.inputs.insert("other".into());
    }
    let counts: Vec<_> = decide(&view).into_values().map(|assignment| assignment.tasks.len()).collect();
    assert_eq!(counts, [1, 1]);
}
