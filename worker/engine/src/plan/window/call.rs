//! A window function as it is written: reads the call out of the syntax tree. Knows no schema.
//!
//! ```text
//! TUMBLE  (TABLE t, DESCRIPTOR(ts), size [, offset])         DATA, TIMECOL, SIZE, OFFSET
//! HOP     (TABLE t, DESCRIPTOR(ts), slide, size [, offset])  DATA, TIMECOL, SLIDE, SIZE, OFFSET
//! CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset])   DATA, TIMECOL, STEP, SIZE, OFFSET
//! SESSION (TABLE t [PARTITION BY k | (k, …)], DESCRIPTOR(ts), gap)   DATA, TIMECOL, GAP
//! ```

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Spanned, TableAlias, TableFactor,
};

use crate::plan::text::Place;

/// Window functions by the names of Flink.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(in crate::plan) enum WindowFunction {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl WindowFunction {
    pub(in crate::plan) fn as_str(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
        }
    }

    /// How it is called, for hints.
    pub(in crate::plan) fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "write TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])",
            Self::Hop => "write HOP(TABLE t, DESCRIPTOR(time), slide, size [, offset])",
            Self::Cumulate => "write CUMULATE(TABLE t, DESCRIPTOR(time), step, size [, offset])",
            Self::Session => "write SESSION(TABLE t PARTITION BY key, DESCRIPTOR(time), gap)",
        }
    }

    /// Names of the arguments in their order; the last of all but SESSION may be left out.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
            Self::Hop => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
            Self::Cumulate => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
            Self::Session => &["DATA", "TIMECOL", "GAP"],
        }
    }

    fn of(name: &ObjectName) -> Option<Self> {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return None };
        let all = [Self::Tumble, Self::Hop, Self::Cumulate, Self::Session];
        all.into_iter().find(|function| ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case(function.as_str()))
    }
}

/// Whether a relation calls a window function, rightly or wrongly.
pub(in crate::plan) fn is_window(factor: &TableFactor) -> bool {
    parts(factor).is_some()
}

/// A call as it is written.
#[derive(Clone, Debug)]
pub(in crate::plan) struct Call {
    pub(in crate::plan) function: WindowFunction,
    pub(in crate::plan) place: Option<Place>,
    /// The table that is read.
    pub(in crate::plan) table: ObjectName,
    /// Columns of `PARTITION BY`.
    pub(in crate::plan) partition_by: Vec<Ident>,
    /// The column that tells time.
    pub(in crate::plan) time: Ident,
    /// Step of CUMULATE, slide of HOP.
    pub(in crate::plan) step: Option<Expr>,
    /// Size, or gap of SESSION.
    pub(in crate::plan) size: Expr,
    pub(in crate::plan) offset: Option<Expr>,
    pub(in crate::plan) alias: Option<TableAlias>,
}

type Parts<'a> = (WindowFunction, &'a ObjectName, &'a [FunctionArg], Option<&'a TableAlias>);

fn parts(factor: &TableFactor) -> Option<Parts<'_>> {
    match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => Some((WindowFunction::of(name)?, name, &args.args, alias.as_ref())),
        TableFactor::TableFunction { expr: Expr::Function(Function { name, args: FunctionArguments::List(list), .. }), alias } => {
            Some((WindowFunction::of(name)?, name, &list.args, alias.as_ref()))
        }
        _ => None,
    }
}

impl Call {
    /// Where the parts of a window function stand: its name, `TABLE` and `DESCRIPTOR`, even if it is called wrongly; and how it is called.
    pub(in crate::plan) fn parts(factor: &TableFactor) -> Option<(Vec<Place>, &'static str)> {
        let (function, name, given, _) = parts(factor)?;
        let mut places: Vec<Place> = Place::new(name.span().start).into_iter().collect();
        for argument in given {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) | FunctionArg::Named { arg: FunctionArgExpr::Expr(value), .. } =
                argument
                && let Expr::Function(Function { name, .. }) = value
                && (arguments(value, "TABLE").is_some() || arguments(value, "DESCRIPTOR").is_some())
            {
                places.extend(Place::new(name.span().start));
            }
        }
        Some((places, function.usage()))
    }

    /// Reads a relation; `None` if it calls no window function, and what is wrong if it does so wrongly.
    pub(in crate::plan) fn read(factor: &TableFactor) -> Option<Result<Self, String>> {
        let (function, name, arguments, alias) = parts(factor)?;
        Some(read(function, name, arguments, alias))
    }
}

fn read(function: WindowFunction, name: &ObjectName, arguments: &[FunctionArg], alias: Option<&TableAlias>) -> Result<Call, String> {
    let parameters = function.parameters();
    let mut values: Vec<Option<&Expr>> = vec![None; parameters.len()];
    for (position, argument) in arguments.iter().enumerate() {
        let (position, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (position, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), operator: _ } => {
                let known = parameters.iter().position(|parameter| name.value.eq_ignore_ascii_case(parameter));
                (known.ok_or_else(|| format!("{} has no argument {}", function.as_str(), name.value))?, value)
            }
            other => return Err(format!("{} cannot take the argument {other}", function.as_str())),
        };
        let slot = values.get_mut(position).ok_or_else(|| format!("{} has too many arguments", function.as_str()))?;
        if slot.replace(value).is_some() {
            return Err(format!("{} is given {} twice", function.as_str(), parameters[position]));
        }
    }
    let argument = |parameter: &str| parameters.iter().position(|known| *known == parameter).and_then(|position| values[position]);
    let needed = |parameter: &str| argument(parameter).ok_or_else(|| format!("{} needs {parameter}", function.as_str()));
    let (table, partition_by) = table(needed("DATA")?)?;
    if function != WindowFunction::Session && !partition_by.is_empty() {
        return Err(format!("{} takes no PARTITION BY", function.as_str()));
    }
    let time = descriptor(needed("TIMECOL")?)?;
    let step = match function {
        WindowFunction::Hop => Some(needed("SLIDE")?.clone()),
        WindowFunction::Cumulate => Some(needed("STEP")?.clone()),
        WindowFunction::Tumble | WindowFunction::Session => None,
    };
    let size = needed(if function == WindowFunction::Session { "GAP" } else { "SIZE" })?.clone();
    Ok(Call {
        function,
        place: Place::new(name.span().start),
        table,
        partition_by,
        time,
        step,
        size,
        offset: argument("OFFSET").cloned(),
        alias: alias.cloned(),
    })
}

/// `TABLE t [PARTITION BY …]`, as [the dialect](crate::plan::dialect) hands it over: a call of `TABLE` with the table and the columns.
fn table(expr: &Expr) -> Result<(ObjectName, Vec<Ident>), String> {
    let wrong = || format!("the first argument is to be TABLE and the name of a table, not {expr}");
    let mut columns = arguments(expr, "TABLE").ok_or_else(wrong)?.into_iter();
    let table = match columns.next().ok_or_else(wrong)? {
        Expr::Identifier(ident) => ObjectName::from(vec![ident.clone()]),
        Expr::CompoundIdentifier(idents) => ObjectName::from(idents.clone()),
        _ => return Err(wrong()),
    };
    let partition_by = columns.map(|column| match column {
        Expr::Identifier(ident) => Ok(ident.clone()),
        other => Err(format!("PARTITION BY takes names of columns, not {other}")),
    });
    Ok((table, partition_by.collect::<Result<_, _>>()?))
}

fn descriptor(expr: &Expr) -> Result<Ident, String> {
    let columns = arguments(expr, "DESCRIPTOR");
    match columns.as_deref() {
        Some([Expr::Identifier(ident)]) => Ok(ident.clone()),
        _ => Err(format!("the time is to be given as DESCRIPTOR(column), not {expr}")),
    }
}

/// Arguments of a call of `name`.
fn arguments<'a>(expr: &'a Expr, name: &str) -> Option<Vec<&'a Expr>> {
    let Expr::Function(Function { name: called, args: FunctionArguments::List(list), .. }) = expr else { return None };
    let [ObjectNamePart::Identifier(ident)] = called.0.as_slice() else { return None };
    if !ident.value.eq_ignore_ascii_case(name) || ident.quote_style.is_some() {
        return None;
    }
    let values = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
        _ => None,
    });
    values.collect()
}
