//! Names of folders and indexes: what is rendered, what is refused, and that nothing escapes.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampSecondArray,
};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;

use super::{Escape, Template};

fn batch() -> RecordBatch {
    let micros = |seconds: i64| seconds * 1_000_000;
    let times = vec![Some(micros(1_709_251_199)), Some(micros(1_709_251_200)), None, Some(micros(1_709_251_199))];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("time", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("tenant", Arc::new(StringViewArray::from(vec![Some("a"), Some("B c"), None, Some("a")]))),
        ("n", Arc::new(Int64Array::from(vec![1, 2, 1, 1]))),
        ("day", Arc::new(Date32Array::from(vec![0, 0, 1, 0]))),
        ("at", Arc::new(TimestampSecondArray::from(vec![0, 60, 61, 3600]))),
        ("ok", Arc::new(BooleanArray::from(vec![true, false, true, true]))),
        ("price", Arc::new(Decimal128Array::from(vec![150; 4]).with_precision_and_scale(5, 2).unwrap())),
        ("ratio", Arc::new(Float64Array::from(vec![0.5; 4]))),
        ("kind", Arc::new("x x y x".split(' ').collect::<DictionaryArray<Int32Type>>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn path(template: &str) -> Template {
    Template::parse(template, Escape::PathSegment).unwrap()
}

fn partitions(template: &Template, batch: &RecordBatch) -> Vec<(String, Vec<u32>)> {
    template.check(&batch.schema(), Some("time")).unwrap();
    template.partition(batch, Some("time")).into_iter().map(|(name, rows)| (name, rows.values().to_vec())).collect()
}

fn expected(names: &[(&str, &[u32])]) -> Vec<(String, Vec<u32>)> {
    names.iter().map(|(name, rows)| ((*name).to_owned(), rows.to_vec())).collect()
}

#[test]
fn rows_go_where_their_values_say() {
    type Names = &'static [(&'static str, &'static [u32])];
    let cases: &[(&str, Names)] = &[
        ("", &[("", &[0, 1, 2, 3])]),
        ("edge/", &[("edge/", &[0, 1, 2, 3])]),
        ("dt={yyyy-MM-dd}/", &[("dt=2024-02-29/", &[0, 3]), ("dt=2024-03-01/", &[1]), ("dt=__null__/", &[2])]),
        ("{yyyy/MM/dd'T'HHmmss}", &[("2024/02/29T235959", &[0, 3]), ("2024/03/01T000000", &[1]), ("__null__", &[2])]),
        ("t={tenant}/", &[("t=a/", &[0, 3]), ("t=B%20c/", &[1]), ("t=__null__/", &[2])]),
        ("{n}-{ok}/x", &[("1-true/x", &[0, 2, 3]), ("2-false/x", &[1])]),
        ("{day}/{day:yyyyMMdd}/", &[("1970-01-01/19700101/", &[0, 1, 3]), ("1970-01-02/19700102/", &[2])]),
        ("{at:HH:mm}/", &[("00:00/", &[0]), ("00:01/", &[1, 2]), ("01:00/", &[3])]),
        ("{kind}/{price}/{ratio}/", &[("x/1.50/0.5/", &[0, 1, 3]), ("y/1.50/0.5/", &[2])]),
    ];
    for (template, names) in cases {
        assert_eq!(partitions(&path(template), &batch()), expected(names), "{template}");
    }
    let at = partitions(&path("{at}"), &batch().slice(0, 1));
    assert_eq!(at, expected(&[("1970-01-01T00%3A00%3A00Z", &[0])]));
}

#[test]
fn index_names_are_in_lower_case_and_merged_if_equal() {
    let template = Template::parse("edge-{tenant}-{yyyy.MM}", Escape::IndexName).unwrap();
    let names = partitions(&template, &batch());
    assert_eq!(names, expected(&[("edge-a-2024.02", &[0, 3]), ("edge-b_c-2024.03", &[1]), ("edge-__null__-__null__", &[2])]));
    let texts = StringArray::from(vec!["A", "b", "a", "é É", "a/b*?\"<>|,#:\\\u{0}"]);
    let batch = RecordBatch::try_from_iter([("tenant", Arc::new(texts) as ArrayRef)]).unwrap();
    let template = Template::parse("x-{tenant}", Escape::IndexName).unwrap();
    let names: Vec<_> = template.partition(&batch, None).into_iter().map(|(name, rows)| (name, rows.values().to_vec())).collect();
    assert_eq!(names, expected(&[("x-a", &[0, 2]), ("x-b", &[1]), ("x-é_é", &[3]), ("x-a_b___________", &[4])]));
}

#[test]
fn a_template_without_placeholders_is_constant() {
    assert_eq!(path("edge/").constant(), Some("edge/"));
    assert_eq!(path("").constant(), Some(""));
    assert_eq!(path("{n}").constant(), None);
    assert!(path("a/{n}").partition(&batch().slice(0, 0), None).is_empty());
}

#[test]
fn templates_that_cannot_work_say_why() {
    let paths = [
        ("{", "without a }"),
        ("}", "without a {"),
        ("a{}b", "empty"),
        ("{a{b}}", "nested"),
        ("{n:YYYY}", "pattern"),
        ("{n:abc}", "pattern"),
        ("{at:-}", "pattern"),
        ("/a", "start with /"),
        ("a/../b", ". or .."),
        ("a//b", ". or .."),
        ("a\nb", "'\\n'"),
        ("{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}{k}", "too many"),
    ];
    for (template, hint) in paths {
        let error = Template::parse(template, Escape::PathSegment).unwrap_err();
        assert!(error.message.contains(hint), "{template}: {}", error.message);
    }
    for (template, hint) in
        [("Edge", "'E'"), ("a b", "' '"), ("-a", "start with"), ("{tenant}", "start with"), ("a{yyyy'T'MM}", "'T'"), ("", "start with")]
    {
        let error = Template::parse(template, Escape::IndexName).unwrap_err();
        assert!(error.message.contains(hint), "{template}: {}", error.message);
    }
}

#[test]
fn columns_are_checked_before_anything_runs() {
    let schema = batch().schema();
    for (template, event_time, hint) in [
        ("{nobody}", Some("time"), "names no column"),
        ("{yyyy}", None, "needs the event time"),
        ("{yyyy}", Some("n"), "Timestamp or Date is needed"),
        ("{tenant:yyyy}", None, "Timestamp or Date is needed"),
    ] {
        let error = path(template).check(&schema, event_time).unwrap_err();
        assert!(error.message.contains(hint), "{template}: {}", error.message);
    }
    let list = arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
    let nested = RecordBatch::try_from_iter([("l", Arc::new(list) as ArrayRef)]).unwrap();
    assert!(path("{l}").check(&nested.schema(), None).unwrap_err().message.contains("cast it to VARCHAR"));
}

fn one(value: &str, template: &Template) -> String {
    let batch = RecordBatch::try_from_iter([("v", Arc::new(StringArray::from(vec![value])) as ArrayRef)]).unwrap();
    let names = template.partition(&batch, None);
    assert_eq!((names.len(), names[0].1.len()), (1, 1));
    names[0].0.clone()
}

#[test]
fn values_that_look_like_something_else_do_not_become_it() {
    let template = path("v={v}/");
    for (value, expected) in [
        ("../../etc", "v=..%2F..%2Fetc/"),
        ("..", "v=%2E%2E/"),
        (".", "v=%2E/"),
        ("%00", "v=%2500/"),
        ("\u{0}", "v=%00/"),
        ("a\nb", "v=a%0Ab/"),
        ("{n}", "v=%7Bn%7D/"),
        ("__null__", "v=%5F_null__/"),
        ("", "v=__empty__/"),
        ("__empty__", "v=%5F_empty__/"),
        ("a=b", "v=a%3Db/"),
        ("\\", "v=%5C/"),
    ] {
        assert_eq!(one(value, &template), expected);
    }
}

#[test]
fn long_values_are_cut_and_stay_different() {
    let template = path("v={v}/");
    let long = |end: &str| one(&format!("{}{end}", "é".repeat(1000)), &template);
    assert_ne!(long("a"), long("b"));
    assert_eq!(long("a"), long("a"));
    assert!(long("a").len() <= 255);
    let index = Template::parse("x-{v}-{v}", Escape::IndexName).unwrap();
    assert!(one(&"é".repeat(1000), &index).len() <= 255);
}

proptest! {
    #[test]
    fn no_value_escapes_its_folder(values in prop::collection::vec("(?s).{0,80}|[./%~\\\\ ]{0,6}|_{0,3}null__", 1..8)) {
        let batch = RecordBatch::try_from_iter([("v", Arc::new(StringArray::from(values.clone())) as ArrayRef)]).unwrap();
        let names = path("a/{v}/.{v}/b-").partition(&batch, None);
        let mut seen = HashSet::new();
        for (name, rows) in &names {
            let segments: Vec<&str> = name.split('/').collect();
            prop_assert_eq!(segments.len(), 4, "{}", name);
            prop_assert!(name.starts_with("a/") && name.ends_with("/b-"));
            prop_assert!(segments.iter().all(|s| !s.is_empty() && *s != "." && *s != ".." && s.len() <= 255), "{}", name);
            prop_assert!(name.bytes().all(|b| b.is_ascii_graphic()), "{}", name);
            seen.extend(rows.values().iter().copied());
            // Rows of one folder have one value.
            let first = &values[rows.value(0) as usize];
            prop_assert!(rows.values().iter().all(|row| &values[*row as usize] == first));
        }
        prop_assert_eq!(seen.len(), values.len());
        let index = Template::parse("x-{v}", Escape::IndexName).unwrap();
        for (name, _) in index.partition(&batch, None) {
            prop_assert!(name.len() <= 255 && name.chars().all(super::is_index_char), "{}", name);
        }
    }

    #[test]
    fn no_template_panics(template in "[a-z{}:/.yMdHms' -]{0,30}") {
        for escape in [Escape::PathSegment, Escape::IndexName] {
            if let Ok(template) = Template::parse(&template, escape) {
                let _rows = template.partition(&batch(), Some("time"));
            }
        }
    }
}
