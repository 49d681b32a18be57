//! Evaluates expressions over a batch and finds the rows that cannot be evaluated. Never decides what becomes of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;

use super::ExecuteError;

/// An expression bound to the columns of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    /// What is evaluated; columns by position.
    pub(crate) physical: Arc<dyn PhysicalExpr>,
    /// As SQL, for people.
    pub(crate) sql: String,
    /// With types and positions, for comparing plans.
    pub(crate) identity: String,
}

/// An expression failed on a batch.
#[derive(Debug)]
pub(super) struct Failure<'a> {
    expression: &'a Expression,
    error: DataFusionError,
}

impl Expression {
    /// The values for all rows.
    pub(super) fn evaluate<'a>(&'a self, records: &RecordBatch) -> Result<ArrayRef, Failure<'a>> {
        self.physical
            .evaluate(records)
            .and_then(|value| value.into_array_of_size(records.num_rows()))
            .map_err(|error| Failure { expression: self, error })
    }
}

impl Failure<'_> {
    /// Whether some value is to blame, rather than the expression or the engine.
    fn is_about_data(&self) -> bool {
        !matches!(
            self.error.find_root(),
            DataFusionError::Internal(_)
                | DataFusionError::NotImplemented(_)
                | DataFusionError::Configuration(_)
                | DataFusionError::ResourcesExhausted(_)
                | DataFusionError::SchemaError(..)
        )
    }

    fn describe(&self) -> String {
        let happened = match self.error.find_root() {
            DataFusionError::ArrowError(error, _) => error.to_string(),
            error => error.strip_backtrace(),
        };
        format!("`{}`: {happened}", self.expression.sql)
    }

    fn into_error(self) -> ExecuteError {
        ExecuteError::Expression { expression: self.expression.sql.clone(), source: Box::new(self.error) }
    }
}

/// Values of some rows, or the reason why a row has none.
#[derive(Debug)]
pub(super) enum Piece<T> {
    /// Values of the next rows, as many as they are.
    Values(T),
    /// The next row cannot be evaluated.
    Bad(String),
}

/// Evaluates all rows, at once if that works. If it does not, halves the batch until the rows to blame stand alone; pieces come in the order of the rows.
///
/// One bad row among `n` costs about `2 log n` more evaluations. A row is bad if and only if it cannot be evaluated alone.
pub(super) fn evaluate<'a, T>(
    records: &RecordBatch,
    mut values: impl FnMut(&RecordBatch) -> Result<T, Failure<'a>>,
) -> Result<Vec<Piece<T>>, ExecuteError> {
    let mut pieces = Vec::with_capacity(1);
    let mut open = vec![(0, records.num_rows())];
    while let Some((start, rows)) = open.pop() {
        let attempt = if rows == records.num_rows() { values(records) } else { values(&records.slice(start, rows)) };
        match attempt {
            Ok(values) => pieces.push(Piece::Values(values)),
            Err(failure) if !failure.is_about_data() => return Err(failure.into_error()),
            Err(failure) if rows <= 1 => pieces.push(Piece::Bad(failure.describe())),
            Err(_) => {
                let half = rows / 2;
                open.push((start + half, rows - half));
                open.push((start, half));
            }
        }
    }
    Ok(pieces)
}

/// The pieces of one column, in one array.
pub(super) fn concat(pieces: &[ArrayRef]) -> Result<ArrayRef, ExecuteError> {
    match pieces {
        [one] => Ok(Arc::clone(one)),
        many => {
            let many: Vec<&dyn Array> = many.iter().map(AsRef::as_ref).collect();
            Ok(arrow::compute::concat(&many)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use datafusion_physical_expr::expressions::Column;

    use super::*;

    fn records(rows: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    fn expression() -> Expression {
        Expression { physical: Arc::new(Column::new("n", 0)), sql: "n".to_owned(), identity: "n".to_owned() }
    }

    type Pieces = Vec<Piece<Vec<i64>>>;

    /// Evaluates to the rows' numbers, or fails if one of `bad` is among them; counts how often it was asked.
    fn run(rows: i64, bad: &[i64], error: fn() -> DataFusionError) -> (Result<Pieces, ExecuteError>, usize) {
        let expression = expression();
        let mut asked = 0;
        let pieces = evaluate(&records(rows), |records| {
            asked += 1;
            let values = records.column(0).as_primitive::<Int64Type>().values().to_vec();
            if values.iter().any(|value| bad.contains(value)) {
                Err(Failure { expression: &expression, error: error() })
            } else {
                Ok(values)
            }
        });
        (pieces, asked)
    }

    fn data() -> DataFusionError {
        DataFusionError::Execution("bad value".to_owned())
    }

    #[test]
    fn one_evaluation_if_all_is_well() {
        let (pieces, asked) = run(8192, &[], data);
        assert!(matches!(&pieces.unwrap()[..], [Piece::Values(values)] if values.len() == 8192));
        assert_eq!(asked, 1);
    }

    #[test]
    fn bad_rows_are_found_by_halving() {
        let (pieces, asked) = run(1024, &[77], data);
        let rows: Vec<i64> =
            pieces.unwrap().into_iter().flat_map(|piece| if let Piece::Values(values) = piece { values } else { vec![-1] }).collect();
        let expected: Vec<i64> = (0..1024).map(|row| if row == 77 { -1 } else { row }).collect();
        assert_eq!(rows, expected);
        assert_eq!(asked, 1 + 2 * 10);
    }

    #[test]
    fn every_row_may_be_bad() {
        let (pieces, _) = run(3, &[0, 1, 2], data);
        assert!(pieces.unwrap().iter().all(|piece| matches!(piece, Piece::Bad(why) if why.contains("`n`") && why.contains("bad value"))));
    }

    #[test]
    fn errors_of_the_engine_are_no_bad_rows() {
        let (pieces, asked) = run(1024, &[77], || DataFusionError::Internal("a defect".to_owned()).context("while evaluating"));
        assert!(matches!(pieces, Err(ExecuteError::Expression { .. })));
        assert_eq!(asked, 1);
    }
}
