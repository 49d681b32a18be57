//! The shapes of queries. One text is both the stream's and the batch's; what stands in braces is what the two write differently.
//!
//! | in braces | stream | batch |
//! |---|---|---|
//! | `tumble a`, `hop a`, … | a window function over the table | the table of its rows and windows |
//! | `ties` | nothing: equal rows are in the order in which they came | the number of the row, as the last thing to order by |
//! | `arrival` | nothing: of rows of one time the last that came is first | the number of the row, backwards |
//! | `some` | nothing: an aggregate of no rows is no row | a condition that there are rows |
//! | `first`, `last` | nothing: NULL is the lowest value | where NULLs are in that order |
//!
//! Steps are divided by `;;` and called `s0`, `s1` …; the last is what comes out.

/// A shape of a query.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

/// A window function with its lengths, in microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Window {
    /// TUMBLE, HOP, or CUMULATE if it grows.
    Slices { slide: i64, size: i64, offset: i64, grows: bool },
    /// SESSION, of each `k` if it is keyed.
    Sessions { gap: i64, keyed: bool },
}

const SECOND: i64 = 1_000_000;

/// Word in braces, the window, and how Flink calls it.
const WINDOWS: [(&str, Window, &str); 7] = [
    ("tumble", slices(10, 10, 0, false), "TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '10' SECOND)"),
    ("tumble_offset", slices(6, 6, 2, false), "TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '6' SECOND, INTERVAL '2' SECOND)"),
    ("hop", slices(4, 12, 0, false), "HOP(TABLE {}, DESCRIPTOR(ts), INTERVAL '4' SECOND, INTERVAL '12' SECOND)"),
    ("cumulate", slices(3, 12, 0, true), "CUMULATE(TABLE {}, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '12' SECOND)"),
    (
        "cumulate_offset",
        slices(2, 8, 1, true),
        "CUMULATE(TABLE {}, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '8' SECOND, INTERVAL '1' SECOND)",
    ),
    ("session", Window::Sessions { gap: 2 * SECOND, keyed: false }, "SESSION(TABLE {}, DESCRIPTOR(ts), INTERVAL '2' SECOND)"),
    (
        "sessions",
        Window::Sessions { gap: 3 * SECOND, keyed: true },
        "SESSION(TABLE {} PARTITION BY k, DESCRIPTOR(ts), INTERVAL '3' SECOND)",
    ),
];

const fn slices(slide: i64, size: i64, offset: i64, grows: bool) -> Window {
    Window::Slices { slide: slide * SECOND, size: size * SECOND, offset: offset * SECOND, grows }
}

impl Window {
    /// The table of the batch.
    pub(crate) fn table(self, of: &str) -> String {
        let word = WINDOWS.iter().find(|(_, window, _)| *window == self).map_or("", |(word, ..)| word);
        format!("{of}_{word}")
    }
}

impl Shape {
    /// Names and texts of the steps, written by `write`.
    pub(crate) fn steps(&self, write: fn(&str) -> String) -> Vec<(String, String)> {
        self.text.split(";;").enumerate().map(|(index, text)| (format!("s{index}"), write(text.trim()))).collect()
    }

    /// A step as the stream has it.
    pub(crate) fn streamed(text: &str) -> String {
        let mut text =
            text.replace("{ties}", "").replace("{arrival}", "").replace("{some}", "").replace("{first}", "").replace("{last}", "");
        for (word, _, call) in WINDOWS {
            for table in ["a", "b", "s0", "s1"] {
                text = text.replace(&format!("{{{word} {table}}}"), &format!("TABLE({})", call.replace("{}", table)));
            }
        }
        text
    }

    /// A step as the batch has it.
    pub(crate) fn batch(text: &str) -> String {
        let mut text = text
            .replace("{ties}", ", id")
            .replace("{arrival}", ", id DESC")
            .replace("{some}", " HAVING count(*) > 0")
            .replace("{first}", "NULLS FIRST")
            .replace("{last}", "NULLS LAST");
        for (word, window, _) in WINDOWS {
            for table in ["a", "b", "s0", "s1"] {
                text = text.replace(&format!("{{{word} {table}}}"), &window.table(table));
            }
        }
        text
    }

    /// The windows that a step of the batch reads, and of which tables.
    pub(crate) fn windows(text: &str) -> Vec<(Window, String)> {
        let tables = ["a", "b", "s0", "s1"].into_iter();
        let all = tables.flat_map(|table| WINDOWS.map(|(_, window, _)| (window, table.to_owned())));
        let words: Vec<&str> = text.split(|character: char| !character.is_alphanumeric() && character != '_').collect();
        all.filter(|(window, table)| words.contains(&window.table(table).as_str())).collect()
    }
}

macro_rules! shapes {
    ($($name:ident: $text:literal,)*) => { &[$(Shape { name: stringify!($name), text: $text },)*] };
}

pub(crate) const SHAPES: &[Shape] = shapes! {
    // Windows.
    tumble: "SELECT window_start, window_end, k, count(*) AS c, count(n) AS cn, sum(n) AS s, avg(n) AS m, min(n) AS lo, max(f) AS hi
             FROM {tumble a} GROUP BY window_start, window_end, k",
    tumble_all: "SELECT window_start, window_end, count(*) AS c, sum(f) AS s, bool_and(ok) AS every, bool_or(ok) AS some FROM {tumble a}
                 GROUP BY window_start, window_end",
    tumble_two_keys: "SELECT window_end, g, k, sum(n) AS s FROM {tumble a} GROUP BY window_end, g, k",
    tumble_distinct: "SELECT window_start, window_end, g, count(DISTINCT k) AS ks, sum(DISTINCT n) AS s, count(*) AS c FROM {tumble a}
                      GROUP BY window_start, window_end, g",
    tumble_filter: "SELECT window_start, window_end, k, count(*) FILTER (WHERE n > 1) AS c, sum(f) FILTER (WHERE ok) AS s, max(n) FILTER (WHERE NOT ok) AS hi
                    FROM {tumble a} GROUP BY window_start, window_end, k",
    tumble_having: "SELECT window_start, window_end, k, sum(n) AS s FROM {tumble a} GROUP BY window_start, window_end, k HAVING count(*) > 1 AND sum(n) > 0",
    tumble_where: "SELECT window_start, window_end, count(*) AS c FROM {tumble a} WHERE n > 0 AND k <> 'b' GROUP BY window_start, window_end",
    tumble_expressions: "SELECT window_start, window_end, abs(n) % 3 AS r, upper(k) AS u, sum(n * 2 + 1) AS s FROM {tumble a}
                         GROUP BY window_start, window_end, abs(n) % 3, upper(k)",
    tumble_time: "SELECT window_start, window_end, window_time, count(*) AS c FROM {tumble_offset a} GROUP BY window_start, window_end, window_time",
    tumble_offset: "SELECT window_start, window_end, k, min(f) AS lo, avg(f) AS m FROM {tumble_offset a} GROUP BY window_start, window_end, k",
    tumble_rows: "SELECT id, k, window_start, window_end FROM {tumble a}",
    hop_rows: "SELECT id, n, window_end FROM {hop a} WHERE ok",
    cumulate_rows: "SELECT id, window_start, window_end FROM {cumulate a}",
    hop: "SELECT window_start, window_end, k, count(*) AS c, sum(n) AS s, min(f) AS lo FROM {hop a} GROUP BY window_start, window_end, k",
    hop_all: "SELECT window_start, window_end, avg(n) AS m, max(n) AS hi FROM {hop a} GROUP BY window_start, window_end",
    hop_distinct_filter: "SELECT window_start, window_end, g, count(DISTINCT n) FILTER (WHERE ok) AS c, count(DISTINCT k) AS ks FROM {hop a}
                          GROUP BY window_start, window_end, g",
    hop_having: "SELECT window_end, k, count(*) AS c FROM {hop a} GROUP BY window_end, k HAVING count(*) >= 2",
    cumulate: "SELECT window_start, window_end, k, count(*) AS c, sum(n) AS s, max(f) AS hi FROM {cumulate a} GROUP BY window_start, window_end, k",
    cumulate_distinct: "SELECT window_start, window_end, count(DISTINCT k) AS ks, count(DISTINCT g) AS gs FROM {cumulate_offset a}
                        GROUP BY window_start, window_end",
    session: "SELECT window_start, window_end, count(*) AS c, sum(n) AS s FROM {session a} GROUP BY window_start, window_end",
    session_keyed: "SELECT window_start, window_end, k, count(*) AS c, sum(n) AS s, max(f) AS hi FROM {sessions a} GROUP BY window_start, window_end, k",
    session_distinct: "SELECT window_start, window_end, k, count(DISTINCT n) AS c, sum(f) FILTER (WHERE ok) AS s FROM {sessions a}
                       GROUP BY window_start, window_end, k",
    window_of_windows: "SELECT window_start, window_end, max(c) AS hi, count(*) AS ks FROM (
                          SELECT window_start, window_end, k, count(*) AS c FROM {tumble a} GROUP BY window_start, window_end, k
                        ) GROUP BY window_start, window_end",
    window_cascade: "SELECT window_time AS ts, k, sum(n) AS s FROM {tumble_offset a} GROUP BY window_start, window_end, window_time, k ;;
                     SELECT window_start, window_end, sum(s) AS s, count(*) AS c FROM {hop s0} GROUP BY window_start, window_end",
    window_distinct: "SELECT DISTINCT window_start, window_end, k FROM {tumble a}",
    window_of_union: "SELECT ts, k, n FROM a UNION ALL SELECT ts, k, n + 100 FROM b ;;
                      SELECT window_start, window_end, k, count(*) AS c, sum(n) AS s FROM {tumble s0} GROUP BY window_start, window_end, k",
    union_of_windows: "SELECT window_end, k, count(*) AS c FROM {tumble a} GROUP BY window_end, k
                       UNION ALL SELECT window_end, k, count(*) AS c FROM {tumble b} GROUP BY window_end, k",
    // GROUP BY without a window.
    group: "SELECT k, count(*) AS c, count(n) AS cn, sum(n) AS s, avg(f) AS m, min(n) AS lo, max(f) AS hi FROM a GROUP BY k",
    group_two: "SELECT k, g, sum(f) AS s, bool_or(ok) AS some FROM a GROUP BY k, g",
    group_distinct: "SELECT g, count(DISTINCT k) AS ks, sum(DISTINCT n) AS s FROM a GROUP BY g",
    group_filter: "SELECT k, count(*) FILTER (WHERE ok) AS c, sum(n) FILTER (WHERE f > 0) AS s, max(n) FILTER (WHERE g = 1) AS hi FROM a GROUP BY k",
    group_distinct_filter: "SELECT k, count(DISTINCT g) FILTER (WHERE ok) AS c FROM a GROUP BY k",
    group_having: "SELECT k, sum(n) AS s FROM a GROUP BY k HAVING sum(n) > 2 AND count(*) < 6",
    group_expression: "SELECT CASE WHEN k IS NULL THEN 'none' ELSE k END AS key, CASE WHEN sum(n) > 3 THEN 'high' WHEN sum(n) IS NULL THEN 'none' ELSE 'low' END AS level FROM a
                       GROUP BY CASE WHEN k IS NULL THEN 'none' ELSE k END",
    group_all: "SELECT count(*) AS c, sum(n) AS s, min(f) AS lo FROM a",
    group_of_group: "SELECT c, count(*) AS groups, sum(s) AS s FROM (SELECT k, count(*) AS c, sum(n) AS s FROM a GROUP BY k) GROUP BY c",
    group_of_group_extremes: "SELECT g, max(s) AS hi, min(s) AS lo, count(s) AS c FROM (SELECT g, k, sum(n) AS s FROM a GROUP BY g, k) GROUP BY g",
    group_of_group_distinct: "SELECT count(DISTINCT c) AS cs, sum(DISTINCT s) AS s FROM (SELECT k, count(*) AS c, sum(n) AS s FROM a GROUP BY k)",
    group_of_having: "SELECT count(*) AS ks, sum(s) AS s FROM (SELECT k, sum(n) AS s FROM a GROUP BY k HAVING sum(n) > 1){some}",
    distinct: "SELECT DISTINCT k, g FROM a",
    union: "SELECT k, g FROM a UNION SELECT k, g FROM b",
    group_of_distinct: "SELECT k, count(*) AS c FROM (SELECT DISTINCT k, g FROM a) GROUP BY k",
    group_of_union_all: "SELECT k, count(*) AS c, sum(n) AS s FROM (SELECT k, n FROM a UNION ALL SELECT k, n FROM b) GROUP BY k",
    // Joins that state keeps for a time.
    join: "SELECT a.id, b.id AS other, a.k, b.n FROM a JOIN b ON a.k = b.k",
    join_condition: "SELECT a.id, b.id AS other FROM a JOIN b ON a.k = b.k AND a.n < b.n AND b.ok",
    join_two_keys: "SELECT a.id, b.id AS other FROM a JOIN b ON a.k = b.k AND a.g = b.g",
    join_expression: "SELECT a.id, b.id AS other FROM a JOIN b ON a.n + 1 = b.n * 2",
    join_null_safe: "SELECT a.id, b.id AS other, a.g FROM a JOIN b ON a.g IS NOT DISTINCT FROM b.g WHERE a.ok",
    join_left: "SELECT a.id, a.k, b.id AS other, b.n FROM a LEFT JOIN b ON a.k = b.k AND a.g = b.g",
    join_left_condition: "SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.k = b.k AND a.n < b.n",
    join_left_where: "SELECT a.id, a.k FROM a LEFT JOIN b ON a.n = b.n WHERE b.id IS NULL",
    join_right: "SELECT a.id, b.id AS other, b.k FROM a RIGHT JOIN b ON a.n = b.n",
    join_full: "SELECT a.id, b.id AS other, a.k, b.k AS l FROM a FULL JOIN b ON a.k = b.k AND a.n = b.n",
    join_self: "SELECT x.id, y.id AS other FROM a x JOIN a y ON x.k = y.k AND x.n > y.n",
    join_of_groups: "SELECT x.k, x.s, y.c FROM (SELECT k, sum(n) AS s FROM a GROUP BY k) x JOIN (SELECT k, count(*) AS c FROM b GROUP BY k) y ON x.k = y.k",
    join_full_of_groups: "SELECT x.k, x.s, y.k AS l, y.c FROM (SELECT k, sum(n) AS s FROM a GROUP BY k) x
                          FULL JOIN (SELECT k, count(*) AS c FROM b GROUP BY k) y ON x.k = y.k AND x.s > y.c",
    join_left_of_groups: "SELECT a.id, y.g, y.c FROM a LEFT JOIN (SELECT g, count(*) AS c FROM b GROUP BY g) y ON a.g = y.g",
    group_of_join: "SELECT a.k, count(*) AS c, sum(a.n * b.n) AS s FROM a JOIN b ON a.g = b.g GROUP BY a.k",
    group_of_left_join: "SELECT a.k, count(b.id) AS met, count(*) AS c, max(b.n) AS hi FROM a LEFT JOIN b ON a.k = b.k AND a.g = b.g GROUP BY a.k",
    join_three: "SELECT x.id, y.id AS other, z.id AS third FROM a x JOIN b y ON x.k = y.k LEFT JOIN a z ON y.n = z.n AND z.ok WHERE x.g = 1",
    // Joins that time ends.
    interval: "SELECT a.id, b.id AS other FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '2' SECOND AND a.ts + INTERVAL '3' SECOND",
    interval_left: "SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '4' SECOND",
    interval_right: "SELECT a.id, b.id AS other FROM a RIGHT JOIN b ON a.k = b.k AND a.ts >= b.ts - INTERVAL '3' SECOND AND a.ts < b.ts",
    interval_full: "SELECT a.id, b.id AS other FROM a FULL JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '1' SECOND AND a.ts + INTERVAL '2' SECOND AND a.n <> b.n",
    interval_then_window: "SELECT a.ts, a.k, b.n FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '2' SECOND AND a.ts + INTERVAL '2' SECOND ;;
                           SELECT window_start, window_end, k, count(*) AS c, sum(n) AS s FROM {tumble s0} GROUP BY window_start, window_end, k",
    window_join: "SELECT x.k, x.c, y.s, x.window_end FROM (SELECT window_start, window_end, k, count(*) AS c FROM {tumble a} GROUP BY window_start, window_end, k) x
                  JOIN (SELECT window_start, window_end, k, sum(n) AS s FROM {tumble b} GROUP BY window_start, window_end, k) y
                  ON x.k = y.k AND x.window_start = y.window_start AND x.window_end = y.window_end",
    window_join_full: "SELECT x.k, x.c, y.k AS l, y.s, x.window_end, y.window_end AS other_end FROM
                       (SELECT window_start, window_end, k, count(*) AS c FROM {tumble a} GROUP BY window_start, window_end, k) x
                       FULL JOIN (SELECT window_start, window_end, k, sum(n) AS s FROM {tumble b} GROUP BY window_start, window_end, k) y
                       ON x.k = y.k AND x.window_start = y.window_start AND x.window_end = y.window_end",
    window_join_rows: "SELECT x.id, y.id AS other, x.window_end FROM {tumble a} x LEFT JOIN {tumble b} y
                       ON x.k = y.k AND x.window_start = y.window_start AND x.window_end = y.window_end AND x.n < y.n",
    // Deduplication and top-N.
    first_of_key: "SELECT id, k, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts{ties}) AS r FROM a) WHERE r = 1",
    last_of_key: "SELECT id, k, n FROM (SELECT id, k, n, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC{arrival}) AS r FROM a) WHERE r = 1",
    group_of_last: "SELECT g, count(*) AS c, sum(n) AS s FROM (SELECT g, n, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC{arrival}) AS r FROM a) WHERE r = 1 GROUP BY g",
    top: "SELECT id, k, n, r FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY n DESC {last}{ties}) AS r FROM a) WHERE r <= 3",
    top_without_number: "SELECT id, k, f FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY f {first}{ties}) AS r FROM a) WHERE r <= 2",
    top_all: "SELECT id, n FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC {last}, f {first}{ties}) AS r FROM a) WHERE r <= 5",
    top_range: "SELECT id, g, r FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY g ORDER BY k DESC NULLS FIRST, n ASC NULLS LAST{ties}) AS r FROM a) WHERE r BETWEEN 2 AND 3",
    top_of_groups: "SELECT g, k, s, r FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY g ORDER BY s DESC {last}, k DESC {last}) AS r FROM
                    (SELECT g, k, sum(n) AS s FROM a GROUP BY g, k)) WHERE r <= 2",
    top_of_groups_without_number: "SELECT k, s FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY s DESC {last}, k {first}) AS r FROM
                                   (SELECT k, sum(n) AS s FROM a GROUP BY k)) WHERE r <= 2",
    top_of_window: "SELECT window_end, k, c, r FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY c DESC {last}, k {first}) AS r FROM
                    (SELECT window_start, window_end, k, count(*) AS c FROM {hop a} GROUP BY window_start, window_end, k)) WHERE r <= 2",
    top_of_join: "SELECT k, id, other FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id, other DESC) AS r FROM
                  (SELECT a.k, a.id, b.id AS other FROM a JOIN b ON a.k = b.k AND a.g = b.g)) WHERE r <= 2",
    // OVER.
    over_range: "SELECT id, k, sum(n) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW) AS s,
                 count(1) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW) AS c FROM a",
    over_range_all: "SELECT id, ts, avg(f) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '3' SECOND PRECEDING AND CURRENT ROW) AS m FROM a",
    over_rows: "SELECT id, k, max(n) OVER (PARTITION BY k ORDER BY ts{ties} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS hi FROM a",
    over_rows_unbounded: "SELECT id, k, sum(n) OVER (PARTITION BY k ORDER BY ts{ties} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS s FROM a",
    over_range_unbounded: "SELECT id, g, min(f) OVER (PARTITION BY g ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS lo FROM a",
    window_of_over: "SELECT ts, k, sum(n) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW) AS s FROM a ;;
                     SELECT window_start, window_end, max(s) AS hi FROM {tumble s0} GROUP BY window_start, window_end",
    // Row by row.
    rows: "SELECT id, upper(k) AS u, n * 2 AS d, CASE WHEN f > 0 THEN 'up' WHEN f < 0 THEN 'down' END AS way FROM a WHERE ok IS NOT FALSE AND n IS DISTINCT FROM 3",
    union_all: "SELECT id, k FROM a WHERE ok UNION ALL SELECT id, k FROM b UNION ALL SELECT id, k FROM a WHERE n > 2",
};
