//! Watermarks case by case, as text: `0:5` is watermark 5 into input 0, `0:idle` that it is idle.

use super::*;

const IDLE: Duration = Duration::from_secs(30);

fn text(messages: Vec<(usize, Message)>) -> String {
    let one = |(input, message): (usize, Message)| match message {
        Message::Watermark(i64::MAX) => format!("{input}:max"),
        Message::Watermark(time) => format!("{input}:{time}"),
        Message::Idle => format!("{input}:idle"),
        Message::End => format!("{input}:end"),
        other => format!("{input}:{other:?}"),
    };
    messages.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

fn inputs(clocks: &[Clock]) -> Vec<(String, Clock)> {
    clocks.iter().enumerate().map(|(index, clock)| (format!("in{index}"), *clock)).collect()
}

/// One input with a delay of 10 and two splits, unless a test says otherwise.
fn two_splits() -> Watermarks {
    let mut watermarks = Watermarks::new(inputs(&[Clock::Event(10)]), IDLE, None);
    watermarks.opened(0, 0, "a");
    watermarks.opened(1, 0, "b");
    watermarks
}

fn now(watermarks: &mut Watermarks) -> String {
    text(watermarks.advance(Duration::from_secs(1), 0))
}

#[test]
fn the_split_that_is_furthest_behind_decides() {
    let mut w = two_splits();
    w.seen(0, Some(100));
    assert_eq!(now(&mut w), "", "a split that has not spoken holds back");
    w.seen(1, Some(50));
    assert_eq!(now(&mut w), "0:40");
    w.seen(1, Some(45));
    assert_eq!(now(&mut w), "", "times that go back change nothing");
    w.seen(1, Some(200));
    assert_eq!(now(&mut w), "0:90");
    w.seen(0, None);
    assert_eq!(now(&mut w), "");
    assert_eq!(w.watermark(), Some(90));
}

#[test]
fn idle_and_ended_splits_hold_nothing_back() {
    let mut w = two_splits();
    w.seen(0, Some(100));
    w.idle(1);
    assert_eq!(now(&mut w), "0:90");
    w.seen(1, Some(20));
    assert_eq!(now(&mut w), "", "what wakes late cannot turn time back");
    w.seen(0, Some(300));
    assert_eq!(now(&mut w), "", "but holds it");
    w.ended(1);
    assert_eq!(now(&mut w), "0:290");
    w.idle(0);
    assert_eq!((now(&mut w), now(&mut w)), ("0:idle".to_owned(), String::new()));
    w.seen(0, Some(310));
    assert_eq!(now(&mut w), "0:290 0:300", "it wakes before it moves on");
    w.ended(0);
    assert_eq!(text(w.finish()), "0:300 0:max 0:end");
}

#[test]
fn an_input_that_has_ended_is_complete_and_holds_nothing_back() {
    let mut w = Watermarks::new(inputs(&[Clock::Event(10), Clock::Event(10)]), IDLE, None);
    w.opened(0, 0, "a");
    w.opened(1, 1, "b");
    w.seen(0, Some(30));
    w.seen(1, Some(40));
    assert_eq!(now(&mut w), "0:20 1:30");
    w.idle(0);
    assert_eq!(now(&mut w), "0:idle");
    w.ended(0);
    assert_eq!((now(&mut w), now(&mut w)), ("0:20 0:max".to_owned(), String::new()), "what it holds comes before the other overtakes it");
    w.seen(1, Some(90));
    assert_eq!(now(&mut w), "1:80");
    assert_eq!(w.watermark(), Some(80), "it does not count");
    assert_eq!(w.times().inputs["in0"].watermark, 20, "another run of the task may find more of it");
    assert_eq!(text(w.finish()), "1:80 0:max 1:max 0:end 1:end");
}

#[test]
fn a_split_that_appears_holds_back_until_it_speaks() {
    let mut w = two_splits();
    w.seen(0, Some(100));
    w.seen(1, Some(100));
    assert_eq!(now(&mut w), "0:90");
    w.opened(2, 0, "c");
    w.seen(0, Some(500));
    w.seen(1, Some(500));
    assert_eq!(now(&mut w), "");
    w.seen(2, Some(120));
    assert_eq!(now(&mut w), "0:110");
}

#[test]
fn an_input_without_splits_is_idle_after_a_while() {
    let mut w = Watermarks::new(inputs(&[Clock::Event(0), Clock::Event(0)]), IDLE, None);
    w.opened(0, 0, "a");
    w.seen(0, Some(7));
    assert_eq!(text(w.advance(Duration::from_millis(29_999), 0)), "0:7");
    assert_eq!(w.watermark(), None);
    assert_eq!(text(w.advance(IDLE, 0)), "1:idle");
    assert_eq!(w.watermark(), Some(7));
    w.opened(1, 1, "b");
    assert_eq!(text(w.advance(IDLE, 0)), "");
    w.seen(0, Some(9));
    w.seen(1, Some(8));
    assert_eq!(text(w.advance(IDLE, 0)), "0:9 1:8");
    assert_eq!(w.watermark(), Some(8));
}

#[test]
fn an_input_without_event_time_follows_the_clock_on_the_wall() {
    let mut w = Watermarks::new(inputs(&[Clock::Processing]), IDLE, None);
    assert_eq!(text(w.advance(IDLE, 5)), "0:5");
    assert_eq!(text(w.advance(IDLE, 4)), "", "also when it jumps back");
    assert_eq!(text(w.advance(IDLE, 6)), "0:6");
}

/// What an operator that reads all inputs has been told by a stream of messages: as `Alignment` combines them.
fn aligned(inputs: usize, messages: &[(usize, Message)]) -> Option<i64> {
    let mut told = vec![(None, false); inputs];
    let mut reached = None;
    for (input, message) in messages {
        match message {
            Message::Watermark(time) => told[*input] = (told[*input].0.max(Some(*time)), false),
            Message::Idle => told[*input].1 = true,
            _ => {}
        }
        let lowest = told.iter().filter(|(_, idle)| !idle).map(|(time, _)| *time).min();
        reached = reached.max(lowest.flatten());
    }
    reached
}

#[test]
fn after_a_restore_the_operators_know_what_they_knew() {
    // Input 1 was overtaken while it was idle, and speaks again: time has come further than the lowest watermark says.
    let mut w = Watermarks::new(inputs(&[Clock::Event(0), Clock::Event(0)]), IDLE, None);
    let mut all = Vec::new();
    let mut step = |w: &mut Watermarks, split: usize, latest: Option<i64>| {
        match latest {
            Some(latest) => w.seen(split, Some(latest)),
            None => w.idle(split),
        }
        all.extend(w.advance(IDLE, 0));
        let mut again = Watermarks::new(inputs(&[Clock::Event(0), Clock::Event(0)]), IDLE, Some(&w.times()));
        again.opened(0, 0, "a");
        again.opened(1, 1, "b");
        assert_eq!(aligned(2, &again.again()), aligned(2, &all), "{:?} gives {}", w.times(), text(again.again()));
        let says_nothing = |(_, message): &(usize, Message)| matches!(message, Message::Watermark(i64::MIN));
        assert!(!again.again().iter().any(says_nothing), "no time has been reached while an input has told none");
        assert_eq!(again.watermark(), w.watermark());
        assert_eq!(again.times(), w.times());
        assert_eq!(text(again.advance(IDLE, 0)), "", "nothing is new");
    };
    w.opened(0, 0, "a");
    w.opened(1, 1, "b");
    step(&mut w, 0, Some(10));
    step(&mut w, 1, Some(5));
    step(&mut w, 1, None);
    step(&mut w, 0, Some(100));
    step(&mut w, 1, Some(50));
    step(&mut w, 0, Some(120));
    step(&mut w, 0, None);
    step(&mut w, 1, Some(110));
    step(&mut w, 1, None);
    assert_eq!(w.watermark(), Some(110));
}

#[test]
fn splits_that_say_their_time_are_believed() {
    let mut w = Watermarks::new(inputs(&[Clock::Told, Clock::Told]), IDLE, None);
    w.opened(0, 0, "a");
    w.opened(1, 1, "b");
    assert_eq!(text(w.advance(IDLE * 2, 99)), "", "whoever writes may be restarting, however long that takes");
    w.told(0, Time::Watermark(40));
    assert_eq!(now(&mut w), "0:40");
    w.seen(0, None);
    w.told(0, Time::Watermark(30));
    assert_eq!(now(&mut w), "", "what was told is not taken back");
    w.told(1, Time::Idle);
    assert_eq!(now(&mut w), "1:idle");
    w.told(1, Time::Watermark(50));
    assert_eq!(now(&mut w), "1:50");
    w.told(0, Time::End);
    assert_eq!(now(&mut w), "0:max");
}

#[test]
fn what_is_known_elsewhere_is_told_only_at_the_end() {
    let mut w = Watermarks::new(inputs(&[Clock::Elsewhere]), IDLE, None);
    w.opened(0, 0, "a");
    w.seen(0, None);
    w.idle(0);
    assert_eq!(text(w.advance(IDLE * 2, 99)), "");
    w.ended(0);
    assert_eq!((now(&mut w), text(w.finish())), (String::new(), "0:max 0:end".to_owned()));
}
