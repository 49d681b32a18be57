//! Functions that DataFusion lacks, or defines otherwise than Flink, whose SQL people bring along. One function (or one family) a file; none of them knows a clock, a stream or a state.
//!
//! | function | gives |
//! |---|---|
//! | [`count_char(text, character)`](count_char) | how often the character occurs |
//! | [`date_format(timestamp, pattern)`](date_format) | text by a pattern of Java: `yyyy-MM-dd HH:mm:ss.SSS` (DataFusion's `to_char` takes `%Y-%m-%d`) |
//! | [`year`, `quarter`, `month`, `week`, `dayofyear`, `dayofmonth`, `dayofweek`, `hour`, `minute`, `second`](date_parts) | a part of a timestamp or date, as BIGINT |
//! | [`mod(a, b)`](modulo) | `a % b` |
//! | [`regexp_extract(text, pattern [, group])`](regexp_extract) | what a group of the first match matched |
//! | [`split_index(text, delimiter, index)`](split_index) | a part between delimiters, from 0 |

mod arguments;
mod count_char;
mod date_format;
mod date_parts;
mod modulo;
mod regexp_extract;
mod split_index;

use std::sync::Arc;

use datafusion_expr::ScalarUDF;

/// All of them. A name that DataFusion has as well means the function from here.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        ScalarUDF::new_from_impl(count_char::CountChar::new()),
        ScalarUDF::new_from_impl(date_format::DateFormat::new()),
        ScalarUDF::new_from_impl(modulo::Modulo::new()),
        ScalarUDF::new_from_impl(regexp_extract::RegexpExtract::new()),
        ScalarUDF::new_from_impl(split_index::SplitIndex::new()),
    ];
    all.extend(date_parts::all().map(ScalarUDF::new_from_impl));
    all.into_iter().map(Arc::new).collect()
}
